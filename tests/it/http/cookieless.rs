//! Sessions in addresses, for browsers that keep no cookie: one app, a short while, and nobody else learns of it.

use super::start::{Desk, FRONT, reason};
use super::websocket::{AGREE, ASK, close};
use crate::harness::raw::{Message, Wire};
use anyhow::{Context as _, Result, ensure};
use embedgate::model::access::{Bar, Subject};
use serde_json::{Value, json};

const APP_HOST: &str = "editor--acme.apps.localhost";

async fn desk() -> Result<Desk> {
    Desk::with(&[("embedding.cookieless", "true")]).await
}

async fn order(desk: &Desk, host: &str, body: &Value) -> Result<Message> {
    let fields = format!("Origin: {FRONT}\r\nContent-Type: application/json\r\n");
    desk.post_as("/.embedgate/session", host, &fields, &body.to_string()).await
}

/// The address of a new session on this host, without the slash at its end.
async fn start(desk: &Desk, host: &str) -> Result<String> {
    let body = json!({ "jwt": desk.jwt(|_| {})?, "app": "editor", "org": "acme", "cookieless": true });
    let answer = order(desk, host, &body).await?;
    ensure!(answer.status() == 200 && !answer.has("Set-Cookie"), "{answer:?}");
    ensure!(answer.field("Cache-Control") == Some("no-store"), "{answer:?}");
    let said: Value = serde_json::from_str(&answer.text())?;
    ensure!(said["ok"] == true && said["expires"] == desk.gateway.clock.now() + 600, "{said}");
    let path = said["path"].as_str().and_then(|path| path.strip_suffix('/')).context("no path")?;
    ensure!(path.starts_with("/.embedgate/t/~1.test."), "{path}");
    Ok(path.to_owned())
}

/// The token in an address.
fn token(path: &str) -> &str {
    path.split('/').nth(3).unwrap_or_default()
}

async fn ask(desk: &Desk, host: &str, line: &str, fields: &str) -> Result<Wire> {
    let mut client = desk.gateway.connect().await?;
    client.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await?;
    Ok(client)
}

#[tokio::test]
async fn an_address_opens_the_app_and_nobody_learns_of_it() -> Result<()> {
    let desk = desk().await?;
    for host in ["localhost", APP_HOST] {
        let path = start(&desk, host).await?;
        let own = format!("http://{host}");
        let fields = format!(
            "Origin: {own}\r\nReferer: {own}{path}/page\r\nCookie: mine=1; embedgate=~1.test.x\r\nContent-Length: 0\r\n"
        );
        let mut client = ask(&desk, host, &format!("POST {path}/a/b?c=d"), &fields).await?;
        let mut app = desk.upstream.accept().await?;
        let request = app.request().await?;
        ensure!(request.start == "POST /a/b?c=d HTTP/1.1", "{request:?}");
        ensure!(request.field("X-Forwarded-User") == Some("user-1"), "{request:?}");
        ensure!(request.field("Authorization") == Some("Bearer acme-bearer"), "{request:?}");
        ensure!(request.field("Cookie") == Some("mine=1") && !request.has("Referer"), "{request:?}");
        ensure!(!format!("{request:?}").contains(token(&path)), "the app is given the session: {request:?}");
        let address = desk.upstream.address();
        app.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nLocation: http://{address}/next\r\n\
             Referrer-Policy: unsafe-url\r\nCache-Control: max-age=60\r\nContent-Length: 0\r\n\r\n"
        ))
        .await?;
        let answer = client.answer().await?;
        ensure!(answer.field("Location") == Some(&format!("{path}/next")), "{answer:?}");
        ensure!(answer.field("Referrer-Policy") == Some("same-origin"), "{answer:?}");
        ensure!(answer.all("Cache-Control") == ["max-age=60", "no-store"], "{answer:?}");
        let line = desk.gateway.log_line(|line| line.contains("/a/b") && line.contains(host)).await?;
        ensure!(line.contains("/.embedgate/t/.../") && line.contains("\"user\":\"user-1\""), "{line}");
        ensure!(!desk.gateway.log().contains(token(&path)), "the session is in the log");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_page_may_be_kept() -> Result<()> {
    let desk = desk().await?;
    let path = start(&desk, APP_HOST).await?;
    let mut client = ask(&desk, APP_HOST, &format!("GET {path}/x.js"), "").await?;
    let mut app = desk.upstream.accept().await?;
    app.request().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: 0\r\n\r\n").await?;
    let answer = client.answer().await?;
    ensure!(answer.field("Referrer-Policy") == Some("same-origin") && !answer.has("Cache-Control"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_address_is_good_for_one_app_on_one_host() -> Result<()> {
    let desk = desk().await?;
    let path = start(&desk, "localhost").await?;
    let link = path.strip_suffix("/app-proxy/editor").context("another path")?;
    for (host, target, status) in [
        ("localhost", "/app-proxy/broken/", 403),
        ("localhost", "/app-proxy/nothing/", 404),
        ("localhost", "/api/2.0/sql/statements", 404),
        ("localhost", "/.embedgate/session", 404),
        ("localhost", "/", 404),
        ("broken--acme.apps.localhost", "/", 403),
        ("editor--open.apps.localhost", "/", 404),
    ] {
        let answer = ask(&desk, host, &format!("GET {link}{target}"), "").await?.answer().await?;
        ensure!(answer.status() == status, "{host}{target}: {answer:?}");
    }
    let bare = ask(&desk, "localhost", &format!("GET {path}?a"), "").await?.answer().await?;
    ensure!(bare.status() == 308 && bare.field("Location") == Some(&format!("{path}/?a")), "{bare:?}");
    let as_cookie = format!("Cookie: embedgate-editor={}\r\n", token(&path));
    let answer = ask(&desk, "localhost", "GET /app-proxy/editor/", &as_cookie).await?.answer().await?;
    ensure!(answer.status() == 401, "it is no cookie: {answer:?}");
    let session = desk.gateway.token("acme", "user-1", "ann@acme.example", Some("editor"), 60)?;
    for wrong in [&*session, "~1.test.AAAA", "x", "", "%7E1.test.x"] {
        let request = format!("GET /.embedgate/t/{wrong}/app-proxy/editor/");
        let answer = ask(&desk, "localhost", &request, "").await?.answer().await?;
        ensure!(answer.status() == 401, "{wrong}: {answer:?}");
    }
    ensure!(!desk.gateway.log().contains("%7E1"), "{}", desk.gateway.log());
    desk.upstream.expect_untouched()
}

#[tokio::test]
async fn websockets_go_through_it_from_the_apps_own_page_alone() -> Result<()> {
    let desk = desk().await?;
    let path = start(&desk, "localhost").await?;
    let line = format!("GET {path}/ws");
    for origin in ["", "Origin: https://front.example\r\n", "Origin: https://evil.example\r\n", "Origin: null\r\n"] {
        let answer = ask(&desk, "localhost", &line, &format!("{ASK}{origin}")).await?.answer().await?;
        ensure!(answer.status() == 403, "{origin}: {answer:?}");
    }
    let mut client = ask(&desk, "localhost", &line, &format!("{ASK}Origin: http://localhost\r\n")).await?;
    let mut app = desk.upstream.accept().await?;
    let request = app.request().await?;
    ensure!(request.target() == "/ws" && !format!("{request:?}").contains(token(&path)), "{request:?}");
    app.send(AGREE).await?;
    ensure!(client.head().await?.status() == 101);
    app.send([0x81, 1, b'x']).await?;
    ensure!(client.exactly(3).await? == [0x81, 1, b'x']);
    desk.gateway.put_up(Bar::Revoked(Subject::User("user-1".into())))?;
    ensure!(close(&mut client, false).await? == (1008, "the sessions of the user were ended".to_owned()));
    let answer = ask(&desk, "localhost", &line, "").await?.answer().await?;
    ensure!(answer.status() == 401, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_address_ends_soon() -> Result<()> {
    let desk = desk().await?;
    let path = start(&desk, "localhost").await?;
    desk.gateway.clock.turn(601);
    let answer = ask(&desk, "localhost", &format!("GET {path}/"), "").await?.answer().await?;
    ensure!(answer.status() == 401, "{answer:?}");
    desk.gateway.log_line(|line| line.contains("expired")).await?;
    Ok(())
}

#[tokio::test]
async fn only_who_may_gets_one_and_only_for_an_app() -> Result<()> {
    let desk = desk().await?;
    let mut body = json!({ "jwt": desk.jwt(|_| {})?, "org": "acme", "cookieless": true });
    let all = order(&desk, "localhost", &body).await?;
    ensure!(all.status() == 400 && reason(&all) == "app", "{all:?}");
    body["app"] = json!("editor");
    let off = Desk::with(&[]).await?;
    body["jwt"] = json!(off.jwt(|_| {})?);
    let refused = order(&off, "localhost", &body).await?;
    ensure!(refused.status() == 403 && reason(&refused) == "cookieless", "{refused:?}");
    ensure!(!refused.has("Set-Cookie"), "{refused:?}");
    let path = start(&desk, "localhost").await?;
    let answer = ask(&off, "localhost", &format!("GET {path}/"), "").await?.answer().await?;
    ensure!(answer.status() == 404, "what is off is not there: {answer:?}");
    ensure!(!off.gateway.log().contains(token(&path)), "{}", off.gateway.log());
    Ok(())
}
