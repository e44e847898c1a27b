//! What the directory says of single apps: which host they see, whether they see the path that leads to them, and how long
//! they may be silent.

use super::websocket::tunnel;
use super::{HOST, Site};
use crate::harness::raw::{End, ok};
use anyhow::{Result, ensure};

#[tokio::test]
async fn an_app_may_see_the_host_that_browsers_ask_for() -> Result<()> {
    let site = Site::of_app("host = 'keep'", &[("embedding.frontend_origins", "['https://front.example']")]).await?;
    let address = site.upstream.address();
    for (host, target) in [(HOST, "/a"), ("Localhost:8080", "/app-proxy/editor/a")] {
        for origin in [format!("http://{host}"), "https://front.example".to_owned()] {
            let referer = format!("http://{host}{target}");
            let head = format!(
                "GET {target} HTTP/1.1\r\nHost: {host}\r\n{}Origin: {origin}\r\nReferer: {referer}\r\n\
                 X-Forwarded-Host: evil.example\r\n\r\n",
                site.bearer()
            );
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: https://{host}/b\r\nContent-Length: 0\r\n\r\n");
            let (request, answer) = site.exchange(head, answer).await?;
            ensure!(request.target() == "/a" && request.field("Host") == Some(host), "{request:?}");
            ensure!(request.field("X-Forwarded-Host") == Some(host), "{request:?}");
            ensure!(request.field("Origin") == Some(&origin), "{request:?}");
            ensure!(request.field("Referer") == Some(&referer), "{request:?}");
            let outside = target.replace("/a", "/b").replace("/bpp", "/app");
            ensure!(answer.field("Location") == Some(&outside), "{answer:?}");
        }
    }
    let old = format!("GET /app-proxy/editor/a HTTP/1.0\r\n{}\r\n", site.bearer());
    ensure!(site.refused(old).await?.status() == 404, "who names no host reaches none");
    let usual = Site::open().await?;
    let (request, _) = usual.exchange(usual.get("/"), ok("")).await?;
    ensure!(request.field("Host") != Some(HOST) && !request.has("X-Forwarded-Host"), "{request:?} {address}");
    Ok(())
}

#[tokio::test]
async fn an_app_that_is_told_its_base_path_sees_it() -> Result<()> {
    let site = Site::of_app("strip_prefix = false", &[]).await?;
    let address = site.upstream.address();
    for (host, target) in [("localhost", "/app-proxy/editor/a?b"), (HOST, "/a?b")] {
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{address}{target}\r\nSet-Cookie: a=b; Path=/\r\n\
             Content-Location: /x\r\nContent-Length: 0\r\n\r\n"
        );
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{}\r\n", site.bearer());
        let (request, answer) = site.exchange(head, answer).await?;
        ensure!(request.target() == target && request.field("Host") == Some(&address.to_string()), "{request:?}");
        ensure!(answer.field("Location") == Some(target), "{answer:?}");
        let confined = if host == HOST { "a=b; Path=/" } else { "a=b; Path=/app-proxy/editor/" };
        ensure!(answer.field("Set-Cookie") == Some(confined), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_app_may_have_its_websockets_pinged_when_it_likes() -> Result<()> {
    let site = Site::of_app("ping_interval = '100ms'", &[("upstreams.ping_interval", "0s")]).await?;
    let (mut client, _app) = tunnel(&site).await?;
    ensure!(client.exactly(2).await? == [0x89, 0], "the client is pinged");
    Ok(())
}

#[tokio::test]
async fn an_app_may_be_silent_for_as_long_as_it_likes() -> Result<()> {
    let site = Site::of_app("idle_timeout = '300ms'\nping_interval = '0s'", &[]).await?;
    let (mut client, _app) = tunnel(&site).await?;
    client.expect_end().await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await?;
    client.head().await?;
    ensure!(client.expect_end().await? == End::Reset, "what is cut off looks cut off");
    site.gateway.log_line(|line| line.contains("gateway: idle 300ms")).await?;
    Ok(())
}
