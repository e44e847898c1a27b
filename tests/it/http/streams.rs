//! Server-sent events and other answers that go on for long.

use super::Site;
use crate::harness::gateway::outlast;
use crate::harness::raw::{End, Wire};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";

/// The head of an event stream on its way from an app to a client, in chunks.
async fn stream(site: &Site) -> Result<(Wire, Wire)> {
    let (mut client, mut app) = site.join().await?;
    app.send(format!("{EVENTS}Transfer-Encoding: chunked\r\n\r\n")).await?;
    let head = client.head().await?;
    ensure!(head.field("Content-Type") == Some("text/event-stream"), "{head:?}");
    ensure!(head.field("Transfer-Encoding") == Some("chunked") && !head.has("Content-Length"), "{head:?}");
    Ok((client, app))
}

/// One event as a chunk.
fn event(number: u32) -> String {
    let data = format!("data: {number}\n\n");
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[tokio::test]
async fn every_event_arrives_before_the_next_is_sent() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = stream(&site).await?;
    for number in 0..20 {
        let event = event(number);
        app.send(&event).await?;
        ensure!(client.exactly(event.len()).await? == event.as_bytes(), "event {number}");
    }
    app.send("0\r\n\r\n").await?;
    ensure!(client.exactly(5).await? == b"0\r\n\r\n");
    Ok(())
}

#[tokio::test]
async fn an_event_of_an_answer_until_close_arrives_at_once_too() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    app.send(format!("{EVENTS}\r\n")).await?;
    client.head().await?;
    for number in 0..5 {
        app.send(format!("data: {number}\n\n")).await?;
        let event = event(number);
        ensure!(client.exactly(event.len()).await? == event.as_bytes(), "event {number}");
    }
    drop(app);
    ensure!(client.exactly(5).await? == b"0\r\n\r\n");
    Ok(())
}

#[tokio::test]
async fn a_stream_outlives_the_limits_on_heads_and_first_bytes() -> Result<()> {
    let limit = Duration::from_millis(800);
    let keys = [
        "limits.header_timeout",
        "limits.keep_alive_timeout",
        "limits.body_idle_timeout",
        "upstreams.first_byte_timeout",
    ];
    let site = Site::with(&keys.map(|key| (key, "800ms"))).await?;
    let (mut client, mut app) = stream(&site).await?;
    outlast(limit).await;
    let event = event(1);
    app.send(&event).await?;
    ensure!(client.exactly(event.len()).await? == event.as_bytes());
    Ok(())
}

#[tokio::test]
async fn events_keep_a_stream_alive_beyond_the_idle_limit() -> Result<()> {
    let site = Site::with(&[("upstreams.idle_timeout", "2s")]).await?;
    let (mut client, mut app) = stream(&site).await?;
    for number in 0..5 {
        outlast(Duration::from_millis(300)).await;
        let event = event(number);
        app.send(&event).await?;
        ensure!(client.exactly(event.len()).await? == event.as_bytes(), "event {number}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_stream_at_the_app() -> Result<()> {
    let site = Site::open().await?;
    for how in [End::Closed, End::Reset] {
        let (client, mut app) = stream(&site).await?;
        site.gateway.expect_metric("embedgate_requests_active", 1.0).await?;
        client.end(how)?;
        app.expect_end().await.context("the app is not told")?;
        site.gateway.expect_metric("embedgate_requests_active", 0.0).await?;
        site.gateway.expect_metric("embedgate_connections_active", 0.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_request_at_the_app() -> Result<()> {
    let site = Site::open().await?;
    for how in [End::Closed, End::Reset] {
        let (client, mut app) = site.join().await?;
        client.end(how)?;
        app.expect_end().await.context("the app is not told")?;
        site.gateway.expect_metric("embedgate_requests_active", 0.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_log_says_who_ended_a_stream() -> Result<()> {
    let site = Site::open().await?;
    let (client, mut app) = stream(&site).await?;
    drop(client);
    app.expect_end().await?;
    let line = site.gateway.log_line(|line| line.contains("\"cut_by\":\"client\"")).await?;
    ensure!(line.contains("\"org\":\"acme\"") && line.contains("\"upstream\":\"editor\""), "{line}");

    let (mut client, app) = stream(&site).await?;
    app.reset()?;
    client.rest().await?;
    site.gateway.log_line(|line| line.contains("\"cut_by\":\"upstream reset\"")).await?;
    Ok(())
}
