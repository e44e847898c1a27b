//! What FireFly's Go proxy does badly, by the numbers of the list that embedgate holds itself to, and that embedgate does
//! not do it. What a number says in full is spread over the suites; here stands its core. Those about what the database
//! holds and about outages at start (5, 7, 8, 11) are in `firefly.rs`, as they need its tables.

use super::websocket::{AGREE, ASK, close_code, frame_head, tunnel};
use super::{HOST, Site};
use crate::harness::gateway::{Builder, Gateway, org, org_with};
use crate::harness::issuer::{Issuer, Mood};
use crate::harness::raw::Upstream;
use anyhow::{Context as _, Result, ensure};

/// A database read for each request, a new transport for each: connections are kept, and nothing is asked meanwhile.
#[tokio::test]
async fn weakness_01_requests_share_connections() -> Result<()> {
    let site = Site::open().await?;
    let (request, Site { gateway, upstream, .. }) = (site.get("/"), site);
    let _app = upstream.answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
    for _ in 0..50 {
        let mut client = gateway.connect().await?;
        client.send(&request).await?;
        ensure!(client.answer().await?.status() == 200);
    }
    let opened = gateway.metric("embedgate_upstream_connections_total{result=\"opened\"}").await?;
    ensure!((opened - 1.0).abs() < 0.5, "{opened} connections for 50 requests");
    Ok(())
}

/// One cookie for all tools: opening a second one ended the first.
#[tokio::test]
async fn weakness_02_two_tools_on_one_host_have_a_cookie_each() -> Result<()> {
    let upstream = Upstream::start()?;
    let address = upstream.address();
    let gateway = Builder::new(org("acme", &[("one", address), ("two", address)])).start().await?;
    let mut jar = String::new();
    for app in ["one", "two"] {
        let token = gateway.token("acme", "ann", "ann@acme.example", Some(app), 3600)?;
        let link = format!("/.embedgate/session?token={token}");
        let answer = ask(&gateway, "localhost", &link, "").await?;
        let cookie = answer.field("Set-Cookie").context("no cookie")?;
        jar = format!("{jar}{}; ", cookie.split(';').next().unwrap_or_default());
    }
    let _app = upstream.answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
    for app in ["one", "two", "one"] {
        let answer = ask(&gateway, "localhost", &format!("/app-proxy/{app}/"), &format!("Cookie: {jar}\r\n")).await?;
        ensure!(answer.status() == 200, "{app}: {answer:?}");
    }
    Ok(())
}

async fn ask(gateway: &Gateway, host: &str, path: &str, fields: &str) -> Result<crate::harness::raw::Message> {
    let mut client = gateway.connect().await?;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await?;
    client.answer().await
}

/// The session's cookie went on to the app, and FireFly's own with it.
#[tokio::test]
async fn weakness_03_no_session_reaches_an_app() -> Result<()> {
    let site = Site::open().await?;
    let cookie = format!("Cookie: a=b; embedgate={}; proxy_sid={}; c=d\r\n", site.token, "0".repeat(64));
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{cookie}\r\n");
    let (seen, _) = site.exchange(request, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
    ensure!(seen.field("Cookie") == Some("a=b; c=d"), "{seen:?}");
    Ok(())
}

/// All tools shared one origin.
#[tokio::test]
async fn weakness_04_each_app_can_have_a_host_of_its_own() -> Result<()> {
    let (one, two) = (Upstream::start()?, Upstream::start()?);
    let gateway = Builder::new(org("acme", &[("one", one.address()), ("two", two.address())])).start().await?;
    let token = gateway.session("acme")?;
    let _apps = [("one", one), ("two", two)].map(|(name, app)| {
        app.answering(move |_| format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{name}").into_bytes())
    });
    for app in ["one", "two"] {
        let host = format!("{app}--acme.apps.localhost");
        let link = ask(&gateway, &host, &format!("/.embedgate/session?token={token}"), "").await?;
        let cookie = link.field("Set-Cookie").context("no cookie")?;
        ensure!(!cookie.to_ascii_lowercase().contains("domain="), "the cookie is for other hosts too: {cookie}");
        let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap_or_default());
        ensure!(ask(&gateway, &host, "/", &cookie).await?.text() == app);
    }
    // One app's page is another site to the other.
    let foreign = format!("Cookie: embedgate={token}\r\nOrigin: http://two--acme.apps.localhost\r\n");
    ensure!(ask(&gateway, "one--acme.apps.localhost", "/", &foreign).await?.status() == 403);
    Ok(())
}

/// WebSockets lost their fields and close codes, were agreed to before the app was asked, and had no drain.
#[tokio::test]
async fn weakness_06_a_websocket_is_between_client_and_app() -> Result<()> {
    let mut site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    let fields = "Cookie: own=1\r\nSec-WebSocket-Protocol: a, b\r\nUser-Agent: browser\r\n";
    client.send(site.head("GET /ws", &format!("{ASK}{fields}"))).await?;
    let mut app = site.upstream.accept().await?;
    let request = app.request().await?;
    for (name, value) in [("Cookie", "own=1"), ("Sec-WebSocket-Protocol", "a, b"), ("User-Agent", "browser")] {
        ensure!(request.field(name) == Some(value), "{name}: {request:?}");
    }
    client.expect_silence().context("agreed before the app did")?;
    app.send(AGREE.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: b\r\n\r\n")).await?;
    ensure!(client.head().await?.field("Sec-WebSocket-Protocol") == Some("b"));
    let close = [frame_head(0x88, 2, false), vec![0x10, 0xe1]].concat();
    app.send(&close).await?;
    ensure!(client.exactly(close.len()).await? == close, "the app's close code is lost");
    drop((client, app));
    let (mut client, mut app) = tunnel(&site).await?;
    let leaving = site.gateway.leave()?;
    ensure!(close_code(&mut client, false).await? == 1012 && close_code(&mut app, true).await? == 1001);
    drop((client, app));
    leaving.ended().await
}

/// A token was minted for each session and renewed within requests, and a 401 was the end.
#[tokio::test]
async fn weakness_09_tokens_are_shared_kept_and_renewed() -> Result<()> {
    let issuer = Issuer::start(Mood::Issues(3600)).await?;
    let app = crate::harness::issuer::App::start("welcome").await?;
    let principal = "kind = \"databricks\"\nclient_id = \"c\"\nclient_secret = \"s\"";
    let address = app.url().trim_start_matches("http://").parse()?;
    let directory = org_with("acme", &[("editor", address)], principal).replacen(&app.url(), &issuer.url(), 1);
    let gateway = Builder::new(directory).start().await?;
    for _ in 0..5 {
        let token = gateway.session("acme")?;
        let answer = ask(&gateway, HOST, "/", &format!("Authorization: Bearer {token}\r\n")).await?;
        ensure!(answer.status() == 200, "{answer:?}");
    }
    ensure!(issuer.calls().len() == 1, "{} calls for five sessions", issuer.calls().len());
    Ok(())
}

/// Paths were decoded and cleaned, the app's policy was lost, redirects and cookies led out of the app.
#[tokio::test]
async fn weakness_10_what_the_app_says_and_hears_stays_as_it_is() -> Result<()> {
    let site = Site::with(&[("embedding.frontend_origins", "[\"https://front.example\"]")]).await?;
    let address = site.upstream.address();
    let answer = format!(
        "HTTP/1.1 302 Found\r\nContent-Security-Policy: default-src 'self'; frame-ancestors 'none'\r\n\
         Location: http://{address}/next\r\nSet-Cookie: a=b; Path=/; Domain=x.example\r\nContent-Length: 0\r\n\r\n"
    );
    let target = "/app-proxy/editor/a%2Fb//c/../d?x=%2F";
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", site.bearer());
    let (seen, got) = site.exchange(request, answer).await?;
    ensure!(seen.target() == "/a%2Fb//c/../d?x=%2F", "{seen:?}");
    let policy = "default-src 'self'; frame-ancestors 'self' https://front.example";
    ensure!(got.field("Content-Security-Policy") == Some(policy) && !got.has("X-Frame-Options"), "{got:?}");
    ensure!(got.field("Location") == Some("/app-proxy/editor/next"), "{got:?}");
    ensure!(got.field("Set-Cookie") == Some("a=b; Path=/app-proxy/editor/"), "{got:?}");
    // An app that never answers does not hold its client for ever.
    let site = Site::with(&[("upstreams.first_byte_timeout", "200ms")]).await?;
    let (mut client, _app) = site.join().await?;
    ensure!(client.answer().await?.status() == 504);
    // Clients may speak HTTP/2: its preface with empty settings is answered with settings.
    let mut client = site.gateway.connect().await?;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    ensure!(client.exactly(9).await?[3] == 4, "no settings");
    Ok(())
}

/// Every origin was let in with credentials, and v1 went wherever its URL said.
#[tokio::test]
async fn weakness_12_no_wildcard_and_an_allow_list() -> Result<()> {
    let site = Site::open().await?;
    let (_, got) = site.exchange(site.get("/"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
    ensure!(!got.fields.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("access-control")), "{got:?}");
    let foreign = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: embedgate={}\r\nOrigin: https://evil.example\r\n\r\n",
        site.token
    );
    ensure!(site.refused(foreign).await?.status() == 403);
    let token = "oKGio6SlpqeoqaqrgnkMRGiuet4PFeu2Kg6vtRXCdCCjhXFYqTgRvka35yj3VRuxkjfPOn5Mf0Hx";
    let gateway = Builder::new("")
        .variable("ENCRYPTION_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
        .set("firefly.v1", "true")
        .set("firefly.encryption_key", "{ env = 'ENCRYPTION_KEY' }")
        .start()
        .await?;
    let answer = ask(&gateway, "localhost", &format!("/app-proxy/{token}/evil/example/www/"), "").await?;
    ensure!(answer.status() == 404, "{answer:?}");
    Ok(())
}
