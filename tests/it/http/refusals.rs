//! What the gateway itself says when it refuses.

use super::{HOST, Site};
use crate::harness::gateway::{Builder, org};
use crate::harness::raw::{Upstream, ok};
use anyhow::{Context as _, Result, ensure};

#[tokio::test]
async fn a_program_gets_a_problem_document() -> Result<()> {
    let site = Site::open().await?;
    let answer = site.refused(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n\r\n")).await?;
    ensure!(answer.status() == 401, "{answer:?}");
    ensure!(answer.field("Content-Type") == Some("application/problem+json"), "{answer:?}");
    ensure!(answer.field("Cache-Control") == Some("no-store") && answer.has("Date"), "{answer:?}");
    let status = answer.field("Proxy-Status").context("no Proxy-Status")?;
    ensure!(status == "embedgate; error=http_request_denied", "{status}");
    let problem: serde_json::Value = serde_json::from_slice(&answer.body)?;
    ensure!(
        problem["status"] == 401 && problem["type"] == "about:blank" && problem["reason"] == "session",
        "{problem}"
    );
    ensure!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    ensure!(problem["request_id"].as_str() == answer.field("X-Request-Id"), "{problem}");
    ensure!(problem.get("error_code").is_none(), "{problem}");
    let id = answer.field("X-Request-Id").context("no id")?;
    let line = site.gateway.log_line(|line| line.contains(id)).await?;
    ensure!(line.contains("\"cause\":\"no session with the request\""), "the log does not say why: {line}");
    Ok(())
}

#[tokio::test]
async fn a_person_gets_a_page() -> Result<()> {
    let site = Site::open().await?;
    for (fields, page) in [
        ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", true),
        ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", true),
        ("Accept: text/html,*/*;q=0.8\r\n", true),
        ("Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n", false),
        ("Accept: application/json\r\n", false),
    ] {
        let answer = site.refused(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).await?;
        let html = answer.field("Content-Type") == Some("text/html; charset=utf-8");
        ensure!(answer.status() == 401 && html == page, "{fields}: {answer:?}");
        let id = answer.field("X-Request-Id").context("no id")?;
        ensure!(answer.has("Proxy-Status") && answer.text().contains(id), "{answer:?}");
        ensure!(answer.has("Content-Security-Policy") == page, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_page_holds_nothing_of_the_request() -> Result<()> {
    let site = Site::open().await?;
    let head = "GET /<script>alert(1)</script>?<b> HTTP/1.1\r\nHost: other.example\r\nAccept: text/html\r\n\
                User-Agent: <script>\r\nX-Request-Id: <script>\r\n\r\n";
    let answer = site.refused(head).await?;
    ensure!(answer.status() == 404 && !answer.text().contains("<script>"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_refused_head_request_gets_no_body() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n{}", site.get("/next"))).await?;
    let answer = client.answer_to_head().await?;
    ensure!(answer.status() == 401 && answer.has("Content-Length"), "{answer:?}");
    let mut app = site.upstream.accept().await?;
    ensure!(app.request().await?.target() == "/next");
    app.send(ok("next")).await?;
    ensure!(client.answer().await?.text() == "next");
    Ok(())
}

#[tokio::test]
async fn a_method_that_is_never_allowed_says_which_are() -> Result<()> {
    let site = Site::open().await?;
    let answer = site.refused(site.head("TRACE /", "")).await?;
    ensure!(answer.status() == 405 && answer.field("Allow").is_some_and(|allow| allow.contains("GET")), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_502() -> Result<()> {
    let gone = Upstream::start()?.address();
    let gateway = Builder::new(org("acme", &[("editor", gone)])).start().await?;
    let token = gateway.session("acme")?;
    let mut client = gateway.connect().await?;
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 502, "{answer:?}");
    ensure!(answer.field("Proxy-Status") == Some("embedgate; error=connection_refused"), "{answer:?}");
    ensure!(!answer.text().contains(&gone.to_string()), "it tells the app's address: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_upstream_without_a_running_cluster_is_503_and_says_when_to_come_back() -> Result<()> {
    let upstream = Upstream::start()?;
    for state in ["stopped", "starting", "draining"] {
        let cluster = format!(
            "[[org.app.cluster]]\nid = \"blue\"\nstate = \"{state}\"\nnodes = [\"http://{}\"]\n",
            upstream.address()
        );
        let directory = org("acme", &[("editor", upstream.address())]) + &cluster;
        let gateway = Builder::new(directory).start().await?;
        let token = gateway.session("acme")?;
        let mut client = gateway.connect().await?;
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
        let answer = client.answer().await?;
        ensure!(answer.status() == 503, "{state}: {answer:?}");
        ensure!(answer.field("Retry-After").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
    }
    upstream.expect_untouched()
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_503() -> Result<()> {
    let site = Site::with(&[("limits.max_connections", "2")]).await?;
    let (mut client, mut app) = site.join().await?;
    let idle = site.gateway.connect().await?;
    site.gateway.expect_metric("embedgate_connections_active", 2.0).await?;

    let mut third = site.gateway.connect().await?;
    let answer = third.answer().await?;
    ensure!(answer.status() == 503 && answer.has("Retry-After"), "{answer:?}");
    ensure!(answer.field("Connection") == Some("close"), "{answer:?}");
    third.expect_end().await?;
    drop(third);

    // Those before it are served as ever, and the next one is once there is room.
    app.send(ok("served")).await?;
    ensure!(client.answer().await?.text() == "served");
    drop(idle);
    site.gateway.expect_metric("embedgate_connections_active", 1.0).await?;
    let mut fourth = site.gateway.connect().await?;
    fourth.send("GET /.embedgate/healthz HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    ensure!(fourth.answer().await?.status() == 200);
    Ok(())
}

#[tokio::test]
async fn a_refusal_in_a_frame_tells_the_front_end_that_a_session_is_needed() -> Result<()> {
    let origins = "[\"https://front.example\", \"https://other.example:8443\"]";
    let site = Site::with(&[("embedding.frontend_origins", origins)]).await?;
    let ask = |fields: &str| format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nSec-Fetch-Mode: navigate\r\n{fields}\r\n");
    let framed = site.refused(ask("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: iframe\r\n")).await?;
    let policy = framed.field("Content-Security-Policy").unwrap_or_default();
    let ancestors = "frame-ancestors 'self' https://front.example https://other.example:8443";
    ensure!(
        framed.status() == 401 && policy.contains("script-src 'sha256-") && policy.ends_with(ancestors),
        "{framed:?}"
    );
    let told = "data-frontends=\"[&quot;https://front.example&quot;,&quot;https://other.example:8443&quot;]\"";
    ensure!(framed.text().contains(told) && framed.text().contains("embedgate:session"), "{}", framed.text());
    // A page of its own has nobody to tell.
    let alone = site.refused(ask("Sec-Fetch-Site: none\r\nSec-Fetch-Dest: document\r\n")).await?;
    ensure!(alone.status() == 401 && !alone.text().contains("<script"), "{}", alone.text());
    let policy = alone.field("Content-Security-Policy").unwrap_or_default();
    ensure!(!policy.contains("script-src") && policy.ends_with(ancestors), "{alone:?}");
    // Another session would not help here.
    let nothing = ask("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: iframe\r\n").replace("editor--", "nothing--");
    let nothing = site.refused(nothing.replace("\r\n\r\n", &format!("\r\n{}\r\n", site.bearer()))).await?;
    ensure!(nothing.status() == 404 && !nothing.text().contains("<script"), "{}", nothing.text());
    Ok(())
}
