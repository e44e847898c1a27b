//! Statements: the warehouse in the body is the organisation's own, and the body arrives as it was sent.

use super::Site;
use crate::harness::gateway::{Builder, org_with};
use crate::harness::raw::{End, Upstream, chunked, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const EXECUTE: &str = "POST /api/2.0/sql/statements";

#[tokio::test]
async fn a_statement_arrives_byte_by_byte() -> Result<()> {
    let site = Site::open().await?;
    for body in [
        r#"{"warehouse_id":"wh1","statement":"select 1"}"#,
        " {\t\"statement\" : \"select '\\u007b\\\"warehouse_id\\\":\\\"theirs\\\"}' -- Ü🦀\" ,\r\n\"warehouse_id\":\"wh1\" }\n",
        r#"{"statement":"","parameters":[{"name":"warehouse_id","warehouse_id":"theirs","value":1.50}],"warehouse_id":"wh1"}"#,
    ] {
        for path in [EXECUTE, "POST /api/2.0/sql/statements/", "POST /api/2.0/sql/statements?o=7"] {
            let (request, answer) =
                site.passed(site.call_with(path, "Content-Type: application/json\r\n", body)).await?;
            ensure!(request.body == body.as_bytes() && request.complete, "{request:?}");
            ensure!(request.field("Content-Length") == Some(&*body.len().to_string()), "{request:?}");
            ensure!(
                request.field("Authorization") == Some("Bearer acme-bearer") && answer.status() == 200,
                "{request:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_in_chunks_arrives_with_its_length() -> Result<()> {
    let site = Site::open().await?;
    let body = format!(r#"{{"statement":"{}","warehouse_id":"wh1"}}"#, "x".repeat(300_000));
    let head = site.call_with(EXECUTE, "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "");
    let mut client = site.gateway.connect().await?;
    client.send(head).await?;
    ensure!(client.answer().await?.status() == 100);
    client.send(chunked(body.as_bytes(), 4096)).await?;
    // The next request comes along and is not lost.
    client.send(site.call("GET /api/2.0/sql/statements/01ef", "")).await?;
    let mut workspace = site.workspace.accept().await?;
    let request = workspace.request().await?;
    ensure!(request.body == body.as_bytes() && !request.has("Transfer-Encoding"), "{request:?}");
    ensure!(!request.has("Expect"), "the go-ahead was given: {request:?}");
    workspace.send(ok("first")).await?;
    ensure!(client.answer().await?.text() == "first");
    ensure!(workspace.request().await?.target() == "/api/2.0/sql/statements/01ef");
    workspace.send(ok("second")).await?;
    ensure!(client.answer().await?.text() == "second");
    Ok(())
}

#[tokio::test]
async fn a_statement_for_a_warehouse_of_others_is_404() -> Result<()> {
    let site = Site::open().await?;
    let foreign = site.refused(site.call(EXECUTE, r#"{"statement":"select 1","warehouse_id":"theirs"}"#)).await?;
    ensure!(
        foreign.status() == 404 && super::json(&foreign)?["error_code"] == "RESOURCE_DOES_NOT_EXIST",
        "{foreign:?}"
    );
    Ok(())
}

#[tokio::test]
async fn bodies_with_two_readings_are_400_and_say_why() -> Result<()> {
    let site = Site::open().await?;
    for (body, says) in [
        (r#"{"warehouse_id":"wh1","warehouse_id":"theirs"}"#, "more than once"),
        (r#"{"warehouse_id":"wh1","warehouse\u005fid":"theirs"}"#, "could be read as warehouse_id"),
        (r#"{"warehouse_id":"wh1","warehouseId":"theirs"}"#, "could be read as warehouse_id"),
        (r#"{"warehouse_id":7}"#, "not the id of a warehouse"),
        (r#"{"warehouse_id":["wh1"]}"#, "not the id of a warehouse"),
        (r#"{"statement":"select 1"}"#, "no warehouse_id"),
        (r#"{"a":{"warehouse_id":"wh1"}}"#, "no warehouse_id"),
        (r#"{"warehouse_id":"wh1""#, "not a JSON object"),
        (r#"{"warehouse_id":"wh1"}{"warehouse_id":"theirs"}"#, "not a JSON object"),
        (r#"[{"warehouse_id":"wh1"}]"#, "not a JSON object"),
        ("warehouse_id=wh1", "not a JSON object"),
        ("", "not a JSON object"),
    ] {
        let answer = site.refused(site.call(EXECUTE, body)).await?;
        let message = super::json(&answer)?["message"].to_string();
        ensure!(answer.status() == 400 && message.contains(says), "{body}: {answer:?}");
    }
    let good = r#"{"warehouse_id":"wh1"}"#;
    for (line, fields) in [
        (EXECUTE, "Content-Encoding: gzip\r\n"),
        (EXECUTE, "Content-Type: application/x-www-form-urlencoded\r\n"),
        (EXECUTE, "Content-Type: application/json; charset=utf-16\r\n"),
        (EXECUTE, "Content-Type: application/json\r\nContent-Type: application/json\r\n"),
        ("POST /api/2.0/sql/statements?warehouse_id=theirs", ""),
    ] {
        let answer = site.refused(site.call_with(line, fields, good)).await?;
        ensure!(answer.status() == 400, "{line} {fields}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_is_sent_again_when_its_token_was_not_taken() -> Result<()> {
    let workspace = Upstream::start()?;
    let address = workspace.address();
    let (minted, bodies) = (AtomicUsize::new(0), Arc::<Mutex<Vec<Vec<u8>>>>::default());
    let seen = Arc::clone(&bodies);
    let _workspace = workspace.answering(move |request| {
        if request.target() == "/oidc/v1/token" {
            let number = minted.fetch_add(1, Ordering::Relaxed);
            return ok(&format!(r#"{{"access_token":"tok-{number}","token_type":"Bearer","expires_in":3600}}"#));
        }
        seen.lock().unwrap().push(request.body.clone());
        if request.field("Authorization") == Some("Bearer tok-1") {
            return ok("ran");
        }
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let principal = "kind = \"databricks\"\nclient_id = \"c\"\nclient_secret = \"s\"";
    let gateway = Builder::new(org_with("acme", &[("editor", address)], principal)).start().await?;
    let token = gateway.session("acme")?;
    let body = format!(r#"{{"statement":"{}","warehouse_id":"wh1"}}"#, "x".repeat(100_000));
    let mut client = gateway.connect().await?;
    let head = format!("{EXECUTE} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n");
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 200 && answer.text() == "ran", "{answer:?}");
    ensure!(*bodies.lock().unwrap() == vec![body.as_bytes(); 2], "the same twice");
    Ok(())
}

#[tokio::test]
async fn sessions_for_statements_name_their_warehouse_too() -> Result<()> {
    let site = Site::open().await?;
    let open = "POST /api/2.0/sql/sessions";
    ensure!(site.passed(site.call(open, r#"{"warehouse_id":"wh1"}"#)).await?.1.status() == 200);
    ensure!(site.refused(site.call(open, r#"{"warehouse_id":"theirs"}"#)).await?.status() == 404);
    Ok(())
}

#[tokio::test]
async fn who_may_not_run_statements_need_not_send_them() -> Result<()> {
    let site = Site::open().await?;
    let head = "POST /api/2.0/sql/statements HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    ensure!(site.refused(head).await?.status() == 401);
    Ok(())
}

#[tokio::test]
async fn what_is_held_has_a_limit_for_each_and_for_all() -> Result<()> {
    let site = Site::with(&[("limits.statement_bytes", "2000000"), ("limits.held_bytes", "2500000")]).await?;
    let body = |length: usize| format!(r#"{{"warehouse_id":"wh1","statement":"{}"}}"#, "x".repeat(length));
    // One that says its length is refused before it comes.
    let head = site.call_with(EXECUTE, "Content-Length: 2000001\r\n", "");
    ensure!(site.refused(head).await?.status() == 413);
    let mut client = site.gateway.connect().await?;
    client.send(site.call_with(EXECUTE, "Transfer-Encoding: chunked\r\n", "")).await?;
    client.send_until_answered(&chunked(body(3_000_000).as_bytes(), 65_536), 3_000_000).await?;
    ensure!(client.answer().await?.status() == 413);
    let first = site.call(EXECUTE, &body(1_800_000));
    let mut holding = site.gateway.connect().await?;
    holding.send(&first.as_bytes()[..first.len() - 1]).await?;
    let is_held = async || Ok((site.gateway.metric("embedgate_held_bytes").await? > 1_700_000.0).then_some(()));
    until(PATIENCE, is_held).await?.context("nothing is held")?;
    let full = site.refused(site.call(EXECUTE, &body(1_800_000))).await?;
    ensure!(full.status() == 503 && full.field("Retry-After") == Some("5"), "{full:?}");
    drop(holding);
    site.gateway.expect_metric("embedgate_held_bytes", 0.0).await?;
    // What was held is free again.
    for _ in 0..3 {
        let (request, _) = site.passed(site.call(EXECUTE, &body(700_000))).await?;
        ensure!(request.body.len() > 700_000);
    }
    Ok(())
}

#[tokio::test]
async fn an_organisation_that_fills_its_share_leaves_room_for_others() -> Result<()> {
    let settings = [("limits.statement_bytes", "1000000"), ("limits.held_bytes", "4000000"), ("server.workers", "2")];
    let site = Site::with(&[&settings[..], &[("limits.held_bytes_per_org", "1500000")]].concat()).await?;
    let body = |warehouse| format!(r#"{{"warehouse_id":"{warehouse}","statement":"{}"}}"#, "x".repeat(990_000));
    let first = site.call(EXECUTE, &body("wh1"));
    let mut holding = site.gateway.connect().await?;
    holding.send(&first.as_bytes()[..first.len() - 1]).await?;
    let is_held = async || Ok((site.gateway.metric("embedgate_held_bytes").await? > 900_000.0).then_some(()));
    until(PATIENCE, is_held).await?.context("nothing is held")?;
    // A change of the directory forgets nothing of it.
    site.gateway.publish(&site.directory)?;
    let full = site.refused(site.call(EXECUTE, &body("wh1"))).await?;
    ensure!(full.status() == 503 && full.field("Retry-After") == Some("5"), "{full:?}");
    site.gateway.expect_metric(r#"embedgate_held_refused_total{share="organisation"}"#, 1.0).await?;
    let line = site.gateway.log_line(|line| line.contains("held_bytes_per_org")).await?;
    ensure!(line.contains(r#""org":"acme""#), "{line}");
    let theirs = site.call(EXECUTE, &body("theirs")).replace(&site.token, &site.gateway.session("globex")?);
    ensure!(site.passed(theirs).await?.1.status() == 200);
    drop(holding);
    site.gateway.expect_metric("embedgate_held_bytes", 0.0).await?;
    ensure!(site.passed(first).await?.1.status() == 200);
    site.gateway.expect_metric(r#"embedgate_held_refused_total{share="all"}"#, 0.0).await
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_nobody() -> Result<()> {
    let site = Site::with(&[("limits.body_idle_timeout", "\"200ms\"")]).await?;
    let part = site.call_with(EXECUTE, "Content-Length: 100\r\n", "") + r#"{"warehouse_id":"wh1""#;
    let mut client = site.gateway.connect().await?;
    client.send(&part).await?;
    client.finish().await?;
    ensure!(client.answer().await?.status() == 400);
    let mut slow = site.gateway.connect().await?;
    slow.send(&part).await?;
    ensure!(slow.answer().await?.status() == 408);
    let mut gone = site.gateway.connect().await?;
    gone.send(&part).await?;
    gone.end(End::Reset)?;
    site.workspace.expect_untouched()
}

#[tokio::test]
async fn many_small_pieces_make_one_statement() -> Result<()> {
    let site = Site::open().await?;
    let body = r#"{"statement":"select 1","warehouse_id":"wh1"}"#;
    let mut client = site.gateway.connect().await?;
    client.send(site.call_with(EXECUTE, &format!("Content-Length: {}\r\n", body.len()), "")).await?;
    for piece in body.as_bytes().chunks(1) {
        client.send(piece).await?;
        tokio::task::yield_now().await;
    }
    let mut workspace = site.workspace.accept().await?;
    ensure!(workspace.request().await?.body == body.as_bytes());
    workspace.send(ok("{}")).await?;
    ensure!(client.answer().await?.status() == 200);
    Ok(())
}
