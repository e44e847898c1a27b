//! A statement whose client goes away before the answer is cancelled, where the configuration wants so.

use super::Site;
use crate::harness::gateway::{Builder, org};
use crate::harness::h2;
use crate::harness::h2_upstream::Http2Upstream;
use crate::harness::raw::{End, Wire, ok};
use crate::harness::tls::Authority;
use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;

const ORDER: &str = r#"{"warehouse_id":"wh1","statement":"select slow()"}"#;

/// Clients that have gone, as far as the gateway knows.
const GONE: &str = r#"embedgate_cuts_total{by="client"}"#;

impl Site {
    /// Begins a statement and leaves; the workspace's side of it.
    async fn abandoned(&self, how: End) -> Result<Wire> {
        let mut client = self.gateway.connect().await?;
        client.send(self.call("POST /api/2.0/sql/statements?o=main", ORDER)).await?;
        let mut workspace = self.workspace.accept().await?;
        workspace.request().await?;
        let gone = self.gateway.metric(GONE).await?;
        client.end(how)?;
        self.gateway.expect_metric(GONE, gone + 1.0).await?;
        Ok(workspace)
    }

    async fn expect_outcome(&self, outcome: &str, count: f64) -> Result<()> {
        self.gateway.expect_metric(&format!(r#"embedgate_sql_abandoned_total{{outcome="{outcome}"}}"#), count).await
    }
}

#[tokio::test]
async fn a_statement_without_a_client_is_cancelled() -> Result<()> {
    let site = Site::with(&[("sql.cancel_abandoned", "true")]).await?;
    for (number, (how, state)) in [(End::Closed, "PENDING"), (End::Reset, "RUNNING")].into_iter().enumerate() {
        let mut workspace = site.abandoned(how).await?;
        workspace.send("HTTP/1.1 103 Early Hints\r\n\r\n").await?;
        workspace.send(ok(&format!(r#"{{"statement_id":"01ef-{number}","status":{{"state":"{state}"}}}}"#))).await?;
        let mut cancels = site.workspace.accept().await?;
        let request = cancels.request().await?;
        let path = format!("POST /api/2.0/sql/statements/01ef-{number}/cancel HTTP/1.1");
        ensure!(request.start == path && request.body.is_empty(), "{request:?}");
        ensure!(request.field("Authorization") == Some("Bearer acme-bearer"), "{request:?}");
        ensure!(request.field("x-databricks-org-id") == Some("main"), "{request:?}");
        ensure!(!format!("{request:?}").contains(&site.token), "a session left the gateway: {request:?}");
        cancels.send(ok("{}")).await?;
        site.expect_outcome("canceled", number as f64 + 1.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn so_is_one_of_a_stream_that_is_reset() -> Result<()> {
    let site = Site::with(&[("sql.cancel_abandoned", "true")]).await?;
    let (mut client, _driver) = h2::connect(site.gateway.address).await?;
    let head = Request::post("http://localhost/api/2.0/sql/statements");
    let head = head.header("Authorization", format!("Bearer {}", site.token)).body(())?;
    let mut asked = client.begin(head, false).await?;
    asked.upload.send_data(Bytes::from_static(ORDER.as_bytes()), true)?;
    let mut workspace = site.workspace.accept().await?;
    workspace.request().await?;
    asked.upload.send_reset(::h2::Reason::CANCEL);
    site.gateway.expect_metric(GONE, 1.0).await?;
    workspace.send(ok(r#"{"statement_id":"01ef","status":{"state":"RUNNING"}}"#)).await?;
    let mut cancels = site.workspace.accept().await?;
    ensure!(cancels.request().await?.target() == "/api/2.0/sql/statements/01ef/cancel");
    cancels.send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await?;
    site.expect_outcome("failed", 1.0).await
}

#[tokio::test]
async fn so_is_one_that_went_on_in_a_shared_connection() -> Result<()> {
    let authority = Authority::new()?;
    authority.issue("upstream", "IP:127.0.0.1", 2)?;
    let upstream = Http2Upstream::start(Some(authority.server("upstream", &["h2", "http/1.1"])?)).await?;
    let directory = org("acme", &[("editor", upstream.address()?)]).replace("http://", "https://");
    let builder = Builder::new(directory).set("upstreams.ca_file", &authority.toml("ca.crt"));
    let gateway = builder.set("sql.cancel_abandoned", "true").start().await?;
    let mut client = gateway.connect().await?;
    let head = "POST /api/2.0/sql/statements HTTP/1.1\r\nHost: localhost";
    let (session, length) = (gateway.session("acme")?, ORDER.len());
    client
        .send(format!("{head}\r\nAuthorization: Bearer {session}\r\nContent-Length: {length}\r\n\r\n{ORDER}"))
        .await?;
    let mut trunk = upstream.accept().await?;
    let mut statement = trunk.request().await?;
    ensure!(statement.upload.text().await? == ORDER);
    drop(client);
    gateway.expect_metric(GONE, 1.0).await?;
    statement.answer(200, &[], r#"{"statement_id":"01ef","status":{"state":"RUNNING"}}"#)?;
    let mut cancels = upstream.accept_http1().await?;
    ensure!(cancels.request().await?.target() == "/api/2.0/sql/statements/01ef/cancel");
    cancels.send(ok("{}")).await?;
    gateway.expect_metric(r#"embedgate_sql_abandoned_total{outcome="canceled"}"#, 1.0).await
}

#[tokio::test]
async fn a_statement_that_has_ended_or_is_not_known_is_left_alone() -> Result<()> {
    let site = Site::with(&[("sql.cancel_abandoned", "true")]).await?;
    let mut done = site.abandoned(End::Closed).await?;
    done.send(ok(r#"{"statement_id":"01ef","status":{"state":"SUCCEEDED"},"result":{}}"#)).await?;
    site.expect_outcome("ended", 1.0).await?;
    let refused = "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}";
    for (count, answer) in [(1.0, refused), (2.0, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), (3.0, "")] {
        let mut workspace = site.abandoned(End::Closed).await?;
        workspace.send(answer).await?;
        drop(workspace);
        site.expect_outcome("unknown", count).await?;
    }
    site.workspace.expect_untouched()
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up() -> Result<()> {
    let limit = ("upstreams.first_byte_timeout", "\"1s\"");
    let site = Site::with(&[("sql.cancel_abandoned", "true"), limit]).await?;
    let mut silent = site.abandoned(End::Closed).await?;
    site.expect_outcome("unknown", 1.0).await?;
    silent.expect_end().await?;
    site.workspace.expect_untouched()
}

#[tokio::test]
async fn without_the_switch_a_statement_goes_on() -> Result<()> {
    let site = Site::open().await?;
    // Nobody is left who could learn what became of it.
    site.abandoned(End::Closed).await?.expect_end().await?;
    site.workspace.expect_untouched()
}

#[tokio::test]
async fn until_its_answer_comes_it_counts_as_before() -> Result<()> {
    let cancels = ("sql.cancel_abandoned", "true");
    // Who leaves statement after statement has no more of them at once than anybody.
    let site = Site::with(&[cancels, ("upstreams.max_concurrent", "1")]).await?;
    let mut left = site.abandoned(End::Closed).await?;
    let mut waits = site.gateway.connect().await?;
    waits.send(site.call("POST /api/2.0/sql/statements", ORDER)).await?;
    site.gateway.expect_metric("embedgate_queued_requests", 1.0).await?;
    let ended = ok(r#"{"statement_id":"01ef","status":{"state":"SUCCEEDED"}}"#);
    left.send(&ended).await?;
    let mut next = site.workspace.accept().await?;
    next.request().await?;
    next.send(&ended).await?;
    ensure!(waits.answer().await?.status() == 200);

    for (key, value, status) in
        [("quotas.concurrent", "1", 429), ("upstreams.circuit.max_connections_per_node", "1", 503)]
    {
        let site = Site::with(&[cancels, (key, value)]).await?;
        let _left = site.abandoned(End::Closed).await?;
        let refused = site.refused(site.call("POST /api/2.0/sql/statements", ORDER)).await?;
        ensure!(refused.status() == status, "{key}: {refused:?}");
    }
    Ok(())
}
