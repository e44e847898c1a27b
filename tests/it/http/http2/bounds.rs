//! What a connection of HTTP/2 may use up.

use super::{HOST, Site};
use crate::harness::gateway::outlast;
use crate::harness::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, PING, RST_STREAM, SETTINGS, block,
    frame, request,
};
use crate::harness::raw::{End, ok};
use anyhow::{Context as _, Result, ensure};
use h2::Reason;
use http::Method;
use std::time::Duration;

/// `ENHANCE_YOUR_CALM` (RFC 9113 7).
const CALM: u32 = 11;

pub(super) const HEALTH: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/.embedgate/healthz")];

impl Site {
    pub(super) fn block(&self, method: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let bearer = format!("Bearer {}", self.token);
        let proper = [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", "/")];
        block(&[&proper[..], &[("authorization", &bearer)], more].concat())
    }

    /// Serves a request of somebody else while something goes on.
    async fn serve_another(&self) -> Result<()> {
        let (mut client, _driver) = self.http2().await?;
        let answer = client.ask(request(Method::GET, "x", "/.embedgate/healthz").body(())?).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_end_their_connection_alone() -> Result<()> {
    let site = Site::open().await?;
    let (_client, _driver, asked, mut app) = site.join_http2().await?;
    let mut client = Frames::connect(site.gateway.address).await?;
    let head = site.block("GET", &[]);
    let mut burst = Vec::new();
    for stream in (1..2000).step_by(2) {
        burst.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        burst.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    // The connection may end before all of them are sent.
    let _ = client.bytes(&burst).await;
    site.serve_another().await?;
    ensure!(!matches!(client.outcome(1999).await, Ok(Outcome::Status(_))));
    site.gateway.expect_metric("embedgate_connections_active", 1.0).await?;
    site.gateway.expect_metric("embedgate_requests_active", 1.0).await?;
    app.send(ok("served")).await?;
    ensure!(asked.answer().await?.text().await? == "served");
    Ok(())
}

#[tokio::test]
async fn whoever_only_opens_streams_and_gives_them_up_is_sent_away() -> Result<()> {
    let site = Site::open().await?;
    let mut client = Frames::connect(site.gateway.address).await?;
    let head = site.block("GET", &[]);
    for stream in (1..).step_by(2).take(500) {
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, &head).await?;
        let mut app = site.upstream.accept().await?;
        app.request().await?;
        client.send(RST_STREAM, 0, stream, &8u32.to_be_bytes()).await?;
        app.expect_end().await?;
    }
    ensure!(client.outcome(9999).await? == Outcome::GoAway(CALM));
    site.serve_another().await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn no_more_streams_are_open_than_allowed() -> Result<()> {
    let site = Site::with(&[("limits.http2_streams", "2")]).await?;
    let mut client = Frames::connect(site.gateway.address).await?;
    let head = site.block("GET", &[]);
    for stream in [1, 3, 5] {
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, &head).await?;
    }
    // `REFUSED_STREAM`: it was not looked at, and may be asked again.
    ensure!(client.outcome(5).await? == Outcome::Reset(7));
    let (mut app, mut other) = (site.upstream.accept().await?, site.upstream.accept().await?);
    other.request().await?;
    app.request().await?;
    app.send(ok("served")).await?;
    site.gateway.expect_metric("embedgate_requests_active", 1.0).await?;
    client.send(HEADERS, END_HEADERS | END_STREAM, 7, &head).await?;
    app.request().await.context("there is no room again")?;
    Ok(())
}

#[tokio::test]
async fn streams_count_like_connections() -> Result<()> {
    let site = Site::with(&[("limits.max_connections", "3")]).await?;
    let (mut client, _driver, first, mut app) = site.join_http2().await?;
    let second = client.begin(site.ask_for("/")?, true).await?;
    let mut other = site.upstream.accept().await?;
    other.request().await?;
    let mut third = client.ask(site.ask_for("/")?).await?;
    ensure!(third.status == 503 && third.field("retry-after").is_some(), "{third:?}");
    ensure!(third.text().await?.contains("\"reason\":\"overloaded\""));
    let mut wire = site.gateway.connect().await?;
    ensure!(wire.answer().await?.status() == 503, "a connection more");
    drop(wire);
    site.gateway.expect_metric("embedgate_connections_active", 1.0).await?;
    app.send(ok("served")).await?;
    ensure!(first.answer().await?.text().await? == "served");
    site.gateway.expect_metric("embedgate_requests_active", 1.0).await?;
    let fourth = client.begin(site.ask_for("/")?, true).await?;
    app.request().await.context("there is no room again")?;
    app.send(ok("served")).await?;
    ensure!(fourth.answer().await?.status == 200);
    drop(second);
    Ok(())
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_431() -> Result<()> {
    let site = Site::with(&[("limits.header_bytes", "4096"), ("limits.header_count", "20")]).await?;
    let (large, many) = ("x".repeat(5000), [("x-a", "1"); 30]);
    for more in [&[("x-a", &*large)][..], &many] {
        let mut client = Frames::connect(site.gateway.address).await?;
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &site.block("GET", more)).await?;
        ensure!(client.outcome(1).await? == Outcome::Status(431));
        client.send(HEADERS, END_HEADERS | END_STREAM, 3, &block(&HEALTH)).await?;
        ensure!(client.outcome(3).await? == Outcome::Status(200), "the connection suffers");
    }
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn a_head_without_an_end_is_cut() -> Result<()> {
    let site = Site::open().await?;
    for part in [vec![], block(&[("x-a", "1")]), block(&[("x-a", &"y".repeat(8000))])] {
        let mut client = Frames::connect(site.gateway.address).await?;
        client.send(HEADERS, END_STREAM, 1, &site.block("GET", &[])).await?;
        for _ in 0..100_000 {
            if client.send(CONTINUATION, 0, 1, &part).await.is_err() {
                break;
            }
        }
        ensure!(!matches!(client.outcome(1).await, Ok(Outcome::Status(200))));
    }
    site.upstream.expect_untouched()?;
    site.gateway.expect_metric("embedgate_connections_active", 0.0).await
}

#[tokio::test]
async fn frames_without_meaning_end_their_connection() -> Result<()> {
    let site = Site::open().await?;
    let mut client = Frames::connect(site.gateway.address).await?;
    client.send(HEADERS, END_HEADERS, 1, &site.block("POST", &[])).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    for _ in 0..100_000 {
        if client.send(DATA, 0, 1, b"").await.is_err() {
            break;
        }
    }
    ensure!(matches!(client.outcome(1).await, Ok(Outcome::GoAway(CALM)) | Err(_)));
    app.rest().await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn pings_and_settings_that_nobody_reads_the_answers_of_are_not_hoarded() -> Result<()> {
    let site = Site::open().await?;
    for flood in [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0, &[])] {
        let mut client = Frames::connect(site.gateway.address).await?;
        let burst = flood.repeat(1000);
        let mut sent = 0;
        while sent < 256 << 20 {
            let taken = tokio::time::timeout(Duration::from_secs(2), client.bytes(&burst)).await;
            match taken {
                Ok(Ok(())) => sent += burst.len(),
                // It takes no more, or has ended the connection.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        ensure!(sent < 128 << 20, "{sent} bytes were taken");
        site.serve_another().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() -> Result<()> {
    let limit = Duration::from_millis(800);
    let site = Site::with(&[("limits.keep_alive_timeout", "800ms")]).await?;
    let (mut client, driver, asked, mut app) = site.join_http2().await?;
    outlast(limit).await;
    app.send(ok("served")).await?;
    ensure!(asked.answer().await?.text().await? == "served", "a request is no pause");
    ensure!(driver.ended().await?.is_none(), "not a proper goodbye");
    ensure!(client.ask(site.ask_for("/")?).await.is_err());
    site.gateway.expect_metric("embedgate_connections_active", 0.0).await
}

#[tokio::test]
async fn a_client_that_begins_and_does_not_ask_is_cut() -> Result<()> {
    let site = Site::with(&[("limits.header_timeout", "800ms")]).await?;
    let mut silent = site.gateway.connect().await?;
    silent.send("PRI * HTTP/2.0\r\n\r\n").await?;
    ensure!(silent.rest().await?.end == End::Closed);
    let (_client, driver) = site.http2().await?;
    ensure!(driver.ended().await?.is_none());
    let mut half = Frames::connect(site.gateway.address).await?;
    half.send(HEADERS, END_STREAM, 1, &site.block("GET", &[])).await?;
    half.ended().await?;
    site.gateway.expect_metric("embedgate_connections_active", 0.0).await
}

#[tokio::test]
async fn a_silent_client_is_pinged_as_long_as_it_answers() -> Result<()> {
    let site = Site::with(&[("upstreams.ping_interval", "200ms"), ("upstreams.idle_timeout", "2s")]).await?;
    let mut client = Frames::connect(site.gateway.address).await?;
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &site.block("GET", &[])).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    for _ in 0..3 {
        let ping = client.next_of(PING).await?;
        client.send(PING, ACK, 0, &ping.payload).await?;
    }
    // The app's events keep the stream alive, so what ends it is the client's silence.
    let events = async {
        while app.send("1\r\nx\r\n").await.is_ok() {
            outlast(Duration::from_millis(100)).await;
        }
    };
    let ((), ended) = tokio::join!(events, client.ended());
    ended?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn an_answer_that_stands_still_is_reset_and_its_connection_goes_on() -> Result<()> {
    let site = Site::with(&[("upstreams.idle_timeout", "1s")]).await?;
    let (mut client, _driver, asked, mut app) = site.join_http2().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await?;
    let mut answer = asked.answer().await?;
    ensure!(answer.reset().await? == Some(Reason::INTERNAL_ERROR));
    ensure!(client.ask(request(Method::GET, "x", "/.embedgate/healthz").body(())?).await?.status == 200);
    Ok(())
}
