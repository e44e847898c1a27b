//! An organisation with two workspaces: each call finds the right one.

use super::json;
use crate::harness::gateway::{Builder, Gateway};
use crate::harness::raw::{Answering, Message, Upstream, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;

/// Two workspaces, of which the first is that of calls that name none, and the gateway.
struct Pair {
    gateway: Gateway,
    first: Answering,
    second: Answering,
    addresses: [SocketAddr; 2],
}

/// Knows one statement, and lists the warehouses of both.
fn workspace(upstream: Upstream, statement: &'static str) -> Answering {
    upstream.answering(move |request: &Message| {
        let is_known = !request.target().contains("/statements/") || request.target().contains(statement);
        if request.target().starts_with("/api/2.0/sql/warehouses") {
            return ok(r#"{"warehouses":[{"id":"wh1"},{"id":"wh2"}]}"#);
        }
        if is_known { ok(&format!("from {statement}")) } else { NOT_FOUND.into() }
    })
}

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nunknown";

impl Pair {
    async fn open() -> Result<Self> {
        Self::with(&[]).await
    }

    /// With some keys of the configuration set to TOML values.
    async fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let (first, second) = (Upstream::start()?, Upstream::start()?);
        let addresses = [first.address(), second.address()];
        let [one, two] = addresses;
        let directory = format!(
            "[[org]]\nid = 'acme'\n[[org.workspace]]\nid = 'w1'\nurl = 'http://{one}'\n\
             [[org.workspace]]\nid = 'w2'\nurl = 'http://{two}'\n\
             [[org.principal]]\nid = 'p1'\nworkspace = 'w1'\nkind = 'bearer'\ntoken = 't1'\n\
             [[org.principal]]\nid = 'p2'\nworkspace = 'w2'\nkind = 'bearer'\ntoken = 't2'\n\
             [[org.warehouse]]\nid = 'wh1'\nworkspace = 'w1'\n[[org.warehouse]]\nid = 'wh2'\nworkspace = 'w2'\n"
        );
        let builder = settings.iter().fold(Builder::new(directory), |builder, (key, value)| builder.set(key, value));
        let gateway = builder.start().await?;
        Ok(Self { gateway, first: workspace(first, "one"), second: workspace(second, "two"), addresses })
    }

    async fn ask(&self, line: &str, fields: &str, body: &str) -> Result<Message> {
        let token = self.gateway.session("acme")?;
        let mut client = self.gateway.connect().await?;
        client
            .send(format!(
                "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await?;
        client.answer().await
    }

    /// How many requests each workspace has had.
    fn counts(&self) -> (usize, usize) {
        (self.first.seen().len(), self.second.seen().len())
    }
}

#[tokio::test]
async fn a_statement_goes_where_its_warehouse_is() -> Result<()> {
    let pair = Pair::open().await?;
    let body = r#"{"statement":"select 1","warehouse_id":"wh2"}"#;
    let answer = pair.ask("POST /api/2.0/sql/statements", "", body).await?;
    ensure!(answer.text() == "from two" && pair.counts() == (0, 1), "{answer:?}");
    ensure!(pair.second.seen()[0].field("Authorization") == Some("Bearer t2"));
    ensure!(pair.ask("POST /sql/1.0/warehouses/wh1", "", "").await?.text() == "from one");
    // Not where it is not.
    let elsewhere = pair.ask("POST /api/2.0/sql/statements", "x-databricks-org-id: w1\r\n", body).await?;
    ensure!(elsewhere.status() == 404 && pair.counts() == (1, 1), "{elsewhere:?}");
    Ok(())
}

#[tokio::test]
async fn a_statement_is_found_again_by_its_id_alone() -> Result<()> {
    let pair = Pair::open().await?;
    let poll = "GET /api/2.0/sql/statements/two";
    ensure!(pair.ask(poll, "", "").await?.text() == "from two");
    ensure!(pair.counts() == (1, 1), "the first is asked first");
    ensure!(pair.first.seen()[0].field("Authorization") == Some("Bearer t1"), "each with its own credential");
    ensure!(pair.ask(&format!("{poll}/result/chunks/1"), "", "").await?.text() == "from two");
    ensure!(pair.counts() == (1, 2), "then it is known where it is");
    let cancel = pair.ask("POST /api/2.0/sql/statements/two/cancel", "", "{}").await?;
    ensure!(cancel.text() == "from two" && pair.second.seen()[2].body == b"{}", "{cancel:?}");
    ensure!(pair.ask("GET /api/2.0/sql/statements/one", "", "").await?.text() == "from one");
    let nowhere = pair.ask("GET /api/2.0/sql/statements/three", "", "").await?;
    ensure!(nowhere.status() == 404 && nowhere.text() == "unknown", "{nowhere:?}");
    Ok(())
}

#[tokio::test]
async fn a_body_is_sent_again_to_the_next_workspace() -> Result<()> {
    let pair = Pair::open().await?;
    let cancel = pair.ask("POST /api/2.0/sql/statements/two/cancel", "", "{}").await?;
    ensure!(cancel.text() == "from two", "{cancel:?}");
    ensure!(pair.first.seen()[0].body == b"{}" && pair.second.seen()[0].body == b"{}");
    Ok(())
}

#[tokio::test]
async fn who_names_a_workspace_is_taken_at_his_word() -> Result<()> {
    let pair = Pair::open().await?;
    for (line, fields) in [
        ("GET /api/2.0/sql/statements/two?o=w1", ""),
        ("GET /api/2.0/sql/statements/two", "x-databricks-org-id: w1\r\n"),
    ] {
        ensure!(pair.ask(line, fields, "").await?.status() == 404, "{line}");
    }
    ensure!(pair.counts() == (2, 0));
    ensure!(pair.ask("GET /api/2.0/preview/scim/v2/Me?o=w2", "", "").await?.text() == "from two");
    ensure!(pair.ask("GET /api/2.0/preview/scim/v2/Me?o=w3", "", "").await?.status() == 404);
    ensure!(pair.counts() == (2, 1));
    Ok(())
}

#[tokio::test]
async fn a_list_is_of_one_workspace() -> Result<()> {
    let pair = Pair::open().await?;
    for (query, id) in [("", "wh1"), ("?o=w1", "wh1"), ("?o=w2", "wh2")] {
        let list = json(&pair.ask(&format!("GET /api/2.0/sql/warehouses{query}"), "", "").await?)?;
        ensure!(list["warehouses"] == serde_json::json!([{ "id": id }]), "{query}: {list}");
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_that_one_workspace_cannot_be_asked_for_is_not_said_to_be_unknown() -> Result<()> {
    let Pair { gateway, first, second, addresses } = Pair::open().await?;
    drop(first);
    let pair = Pair { gateway, first: Upstream::start()?.answering(|_| Vec::new()), second, addresses };
    // The listener of the first is gone.
    ensure!(tokio::net::TcpStream::connect(pair.addresses[0]).await.is_err());
    ensure!(pair.ask("GET /api/2.0/sql/statements/two", "", "").await?.text() == "from two");
    let unknown = pair.ask("GET /api/2.0/sql/statements/one", "", "").await?;
    ensure!(unknown.status() == 502, "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn who_is_over_a_quota_is_so_in_every_workspace() -> Result<()> {
    let pair = Pair::with(&[("quotas.requests_per_second", "1"), ("quotas.burst", "1")]).await?;
    let refused = until(PATIENCE, async || {
        let answer = pair.ask("GET /api/2.0/sql/statements/two", "", "").await?;
        Ok((answer.status() == 429).then_some(()))
    });
    refused.await?.context("never over the quota")?;
    let counted = pair.gateway.metric("embedgate_rejects_total{reason=\"quota\"}").await?;
    pair.gateway.expect_metric("embedgate_quota_refusals_total{limit=\"requests_per_second\"}", counted).await
}
