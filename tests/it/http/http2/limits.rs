//! The bounds on a connection of HTTP/2 that are configured, and what is said of clients that go beyond what is allowed.

use super::Site;
use crate::harness::gateway::outlast;
use crate::harness::h2::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, RST_STREAM, SETTINGS, frame};
use crate::harness::installation::{Installation, LOCAL, org};
use crate::harness::raw::{Wire, ok};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// `PROTOCOL_ERROR`, `FLOW_CONTROL_ERROR` and `ENHANCE_YOUR_CALM` (RFC 9113 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const CALM: u32 = 11;

fn refusals(reason: &str) -> String {
    format!("embedgate_http2_refusals_total{{reason=\"{reason}\"}}")
}

/// Sends parts of a body until the client's windows must be used up: `bytes` of them.
async fn send_body(client: &mut Frames, stream: u32, bytes: usize) -> Result<()> {
    let body = vec![b'x'; bytes];
    for part in body.chunks(16_384) {
        client.send(DATA, 0, stream, part).await?;
    }
    Ok(())
}

#[tokio::test]
async fn windows_are_as_configured_and_held_to() -> Result<()> {
    let windows = [("limits.http2_stream_window", "100000"), ("limits.http2_connection_window", "150000")];
    let site = Site::with(&windows).await?;
    for (streams, bytes) in [(1, 100_000), (2, 75_000)] {
        let mut client = Frames::connect(site.gateway.address).await?;
        let settings = client.next_of(SETTINGS).await?.payload;
        let window = settings.chunks(6).find(|setting| setting[..2] == [0, 4]).context("no window is told")?;
        ensure!(window[2..] == 100_000u32.to_be_bytes(), "{settings:?}");
        // Nobody reads the bodies.
        let head = site.block("POST", &[("content-length", "1000000")]);
        for stream in (1..).step_by(2).take(streams) {
            client.send(HEADERS, END_HEADERS, stream, &head).await?;
            send_body(&mut client, stream, bytes).await?;
        }
        // All of that is allowed. More than that is taken until the sockets towards the app are full as well.
        for _ in 0..1000 {
            if send_body(&mut client, 1, 100_000).await.is_err() {
                break;
            }
        }
        ensure!(matches!(client.outcome(99).await?, Outcome::GoAway(FLOW_CONTROL_ERROR) | Outcome::End));
    }
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn after_so_many_requests_the_client_is_asked_for_a_new_connection() -> Result<()> {
    let site = Site::with(&[("limits.http2_max_requests", "2")]).await?;
    let (mut client, driver, first, mut app) = site.join_http2().await?;
    let second = client.begin(site.ask_for("/second")?, true).await?;
    let mut other = site.upstream.accept().await?;
    other.request().await?;
    for (app, asked) in [(&mut app, first), (&mut other, second)] {
        app.send(ok("served")).await?;
        ensure!(asked.answer().await?.text().await? == "served");
    }
    ensure!(driver.ended().await?.is_none(), "not a proper goodbye");
    ensure!(client.ask(site.ask_for("/third")?).await.is_err());
    Ok(())
}

#[tokio::test]
async fn an_old_connection_is_left_and_what_runs_on_it_ends() -> Result<()> {
    let age = Duration::from_millis(500);
    let site = Site::with(&[("limits.http2_max_age", "500ms")]).await?;
    let (mut client, driver, asked, mut app) = site.join_http2().await?;
    outlast(age).await;
    ensure!(client.ask(site.ask_for("/late")?).await.is_err());
    app.send(ok("served")).await?;
    ensure!(asked.answer().await?.text().await? == "served");
    ensure!(driver.ended().await?.is_none(), "not a proper goodbye");
    Ok(())
}

#[tokio::test]
async fn resets_are_counted_up_to_the_limit() -> Result<()> {
    let site = Site::with(&[("limits.http2_resets", "5")]).await?;
    let mut client = Frames::connect(site.gateway.address).await?;
    let head = site.block("GET", &[]);
    for stream in (1..).step_by(2).take(5) {
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, &head).await?;
        let mut app = site.upstream.accept().await?;
        app.request().await?;
        client.send(RST_STREAM, 0, stream, &8u32.to_be_bytes()).await?;
        app.expect_end().await?;
    }
    ensure!(client.outcome(99).await? == Outcome::GoAway(CALM));
    site.gateway.expect_metric(&refusals("enhance_your_calm"), 1.0).await
}

#[tokio::test]
async fn connections_that_the_library_ends_are_counted_by_reason() -> Result<()> {
    let site = Site::open().await?;
    // DATA belongs to a stream.
    let mut client = Frames::connect(site.gateway.address).await?;
    client.send(DATA, 0, 0, b"x").await?;
    ensure!(client.outcome(1).await? == Outcome::GoAway(PROTOCOL_ERROR));
    site.gateway.expect_metric(&refusals("protocol_error"), 1.0).await?;
    // A frame beyond what every client may send.
    let mut client = Frames::connect(site.gateway.address).await?;
    client.send(DATA, 0, 1, &vec![0; 16_385]).await?;
    client.ended().await?;
    site.gateway.expect_metric(&refusals("frame_size_error"), 1.0).await?;
    // A preface that breaks off into something else.
    let mut wire = Wire::connect(site.gateway.address).await?;
    wire.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n and more of it").await?;
    wire.rest().await?;
    site.gateway.expect_metric(&refusals("protocol_error"), 2.0).await?;
    // Who goes away by themselves have done nothing wrong.
    let (_client, driver) = site.http2().await?;
    driver.cut();
    site.gateway.expect_metric("embedgate_connections_active", 0.0).await?;
    ensure!(site.gateway.metric(&refusals("other")).await? < 0.5);
    site.gateway.expect_metric(&refusals("protocol_error"), 2.0).await
}

#[tokio::test]
async fn the_log_names_the_peer_and_the_reason_and_is_not_flooded() -> Result<()> {
    let installation = Installation::new(LOCAL, &org("acme", "http://127.0.0.1:1"))?;
    let mut gateway = installation.serve().await?;
    for _ in 0..50 {
        let mut client = Frames::connect(gateway.data).await?;
        client.bytes(&frame(DATA, 0, 0, b"secret-in-a-frame")).await?;
        client.ended().await?;
    }
    gateway.wait_for_metric(&refusals("protocol_error"), 50.0).await?;
    let line = gateway.wait_for_log("a connection of HTTP/2 is refused").await?;
    ensure!(line.contains("\"peer\":\"127.0.0.1\"") && line.contains("\"reason\":\"protocol_error\""), "{line}");
    ensure!(line.contains("\"level\":\"INFO\""), "{line}");
    let said = gateway.stop().await?;
    let lines = said.lines().filter(|line| line.contains("a connection of HTTP/2 is refused")).count();
    // Two workers, each with a few lines; more only on a machine that took long for the fifty.
    ensure!((1..50).contains(&lines) && !said.contains("secret-in-a-frame"), "{lines}: {said}");
    Ok(())
}
