//! Whose a statement is reaches the workspace's own history where the configuration wants so, and changes nothing else.

use super::{Site, json};
use crate::harness::gateway::{Builder, org};
use crate::harness::raw::{Upstream, ok};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json as value};

const EXECUTE: &str = "POST /api/2.0/sql/statements";

async fn site(how: &str) -> Result<Site> {
    Site::with(&[("sql.attribution", how)]).await
}

#[tokio::test]
async fn a_statement_has_tags_besides_the_clients_own() -> Result<()> {
    let site = site("\"tags\"").await?;
    for (own, theirs) in [("", None), (r#""query_tags":[{"key":"team","value":"eng"}],"#, Some("team"))] {
        let body = format!(r#"{{{own}"warehouse_id":"wh1","statement":"select '}}' -- Ü"}}"#);
        let (request, answer) = site.passed(site.call(EXECUTE, &body)).await?;
        ensure!(request.field("Content-Length") == Some(&*request.body.len().to_string()), "{request:?}");
        ensure!(request.complete && answer.status() == 200, "{request:?}");
        let mut seen: Value = serde_json::from_slice(&request.body)?;
        let tags = seen.as_object_mut().and_then(|seen| seen.remove("query_tags")).context("no tags")?;
        let named = |key: &str| tags.as_array()?.iter().find(|tag| tag["key"] == key)?["value"].as_str();
        ensure!(named("embedgate_user") == Some("ann@acme.example"), "{tags}");
        ensure!(named("embedgate_org") == Some("acme"), "{tags}");
        ensure!(named("embedgate_request") == request.field("X-Request-Id"), "{tags} {request:?}");
        ensure!(theirs.is_none_or(|key| named(key) == Some("eng")), "{tags}");
        ensure!(seen == value!({ "warehouse_id": "wh1", "statement": "select '}' -- Ü" }), "{seen}");
    }
    // What begins nothing is nobody's.
    let session = r#"{"warehouse_id":"wh1"}"#;
    ensure!(site.passed(site.call("POST /api/2.0/sql/sessions", session)).await?.0.body == session.as_bytes());
    site.gateway.expect_metric("embedgate_sql_unattributed_total", 0.0).await
}

#[tokio::test]
async fn nobody_takes_the_place_of_somebody_else() -> Result<()> {
    let site = site("\"tags\"").await?;
    for tags in [
        r#""query_tags":[{"key":"embedgate_user","value":"boss@acme.example"}]"#,
        r#""queryTags":[{"key":"embedgate_user","value":"boss@acme.example"}]"#,
        r#""query_tags":[],"query_tags":[]"#,
    ] {
        let answer = site.refused(site.call(EXECUTE, &format!(r#"{{"warehouse_id":"wh1",{tags}}}"#))).await?;
        ensure!(answer.status() == 400 && json(&answer)?["message"].as_str().is_some_and(|text| text.contains("tags")));
    }
    Ok(())
}

#[tokio::test]
async fn a_comment_cannot_be_left() -> Result<()> {
    let site = site("\"comment\"").await?;
    let token = site.gateway.token("acme", "eve", "*/drop\"--@acme.example", None, 3600)?;
    let call = site.call(EXECUTE, r#"{"statement":"select 1","warehouse_id":"wh1"}"#).replace(&site.token, &token);
    let (request, _) = site.passed(call).await?;
    let seen: Value = serde_json::from_slice(&request.body)?;
    let text = seen["statement"].as_str().context("no statement")?;
    ensure!(text.starts_with("/* embedgate user=%2A%2Fdrop%22--@acme.example org=acme request="), "{text}");
    ensure!(text.ends_with(" */ select 1") && text.matches("*/").count() == 1, "{text}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_changed_goes_on_as_it_came_and_is_counted() -> Result<()> {
    let limit = ("limits.statement_bytes", "5000");
    let site = Site::with(&[("sql.attribution", "\"comment\""), limit]).await?;
    let full = format!(r#"{{"warehouse_id":"wh1","statement":"{}"}}"#, "x".repeat(4900));
    for body in [full.as_str(), r#"{"warehouse_id":"wh1","statement":7}"#] {
        ensure!(site.passed(site.call(EXECUTE, body)).await?.0.body == body.as_bytes());
    }
    site.gateway.expect_metric("embedgate_sql_unattributed_total", 2.0).await
}

#[tokio::test]
async fn what_is_added_does_not_make_a_body_too_large() -> Result<()> {
    let body = r#"{"warehouse_id":"wh1","statement":"select 1"}"#;
    let site = Site::with(&[("sql.attribution", "\"tags\""), ("limits.body_bytes", "100")]).await?;
    let (request, answer) = site.passed(site.call(EXECUTE, body)).await?;
    ensure!(request.body == body.as_bytes() && answer.status() == 200, "{request:?} {answer:?}");
    site.gateway.expect_metric("embedgate_sql_unattributed_total", 1.0).await
}

#[tokio::test]
async fn trino_is_told_by_client_tags() -> Result<()> {
    let upstream = Upstream::start()?;
    let engine = format!("[[org.engine]]\nid = 'sql'\nurl = 'http://{}'\ndialect = 'trino'\n", upstream.address());
    let directory = org("acme", &[("editor", upstream.address())]) + &engine;
    for how in ["off", "tags"] {
        let gateway = Builder::new(directory.clone()).set("sql.attribution", &format!("{how:?}")).start().await?;
        let mut client = gateway.connect().await?;
        let session = gateway.session("acme")?;
        let own = "X-Trino-Client-Tags: a,embedgate_user=boss\r\nX_Trino_Client_Tags: EMBEDGATE_org=b, c\r\n";
        let head = "POST /engine/sql/v1/statement HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8";
        client.send(format!("{head}\r\nAuthorization: Bearer {session}\r\n{own}\r\nselect 1")).await?;
        let mut engine = upstream.accept().await?;
        let request = engine.request().await?;
        engine.send(ok("{}")).await?;
        ensure!(client.answer().await?.status() == 200 && request.text() == "select 1");
        let id = request.field("X-Request-Id").context("no id")?;
        let told = format!("a,c,embedgate_user=ann@acme.example,embedgate_org=acme,embedgate_request={id}");
        let expected = if how == "off" { "a,embedgate_user=boss" } else { told.as_str() };
        ensure!(request.all("X-Trino-Client-Tags") == [expected], "{request:?}");
    }
    Ok(())
}
