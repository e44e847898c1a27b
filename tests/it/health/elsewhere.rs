//! A request that one node fails goes to another where that is safe: always before it was sent, once if it only asks, and
//! never if it may have done something.

use super::{Site, accept, directory, plain};
use crate::harness::raw::{Absent, End, Upstream, chunked, ok};
use anyhow::{Context as _, Result, ensure};

/// Nodes stay in use however often they fail.
const NO_EJECTION: [(&str, &str); 2] =
    [("upstreams.health.consecutive_failures", "0"), ("upstreams.health.failure_share", "0")];
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn what_was_not_sent_goes_to_another_node_whatever_it_is() -> Result<()> {
    let (absent, good) = (Absent::new()?, Upstream::start()?);
    let site = Site::open(&[absent.address()?, good.address()], &NO_EJECTION).await?;
    let good = good.answering(|request| ok(&format!("{} {}", request.start, request.text())));
    for number in 0..12 {
        for (method, framing, body) in [
            ("GET", "", Vec::new()),
            ("DELETE", "", Vec::new()),
            ("POST", "Content-Length: 5\r\n", b"hello".to_vec()),
            ("PATCH", "Transfer-Encoding: chunked\r\n", chunked(b"hello", 3)),
        ] {
            let request = [site.head(&format!("{method} /{number}"), framing).into_bytes(), body.clone()].concat();
            let answer = site.answer(request).await?;
            let expected = if body.is_empty() { "" } else { "hello" };
            ensure!(answer.text() == format!("{method} /{number} HTTP/1.1 {expected}"), "{answer:?}");
        }
    }
    ensure!(good.seen().len() == 48, "something was sent twice");
    // That the first choice was the good one 48 times does not happen.
    ensure!(site.gateway.metric("embedgate_node_retries_total").await? > 0.5);
    site.gateway.expect_metric("embedgate_node_ejections_total{reason=\"consecutive_failures\"}", 0.0).await
}

#[tokio::test]
async fn a_websocket_goes_to_another_node_and_stands_there() -> Result<()> {
    let (absent, good) = (Absent::new()?, Upstream::start()?);
    let nodes = [plain(absent.address()?), plain(good.address())];
    let settings = [&NO_EJECTION[..], &[("upstreams.drain_grace", "0s"), ("upstreams.drain_spread", "0s")]].concat();
    let site = Site::of(&directory(&nodes, ""), &settings).await?;
    let mut tunnels = Vec::new();
    while site.gateway.metric("embedgate_node_retries_total").await? < 0.5 {
        let mut client = site.ask(site.head("GET /ws", UPGRADE)).await?;
        let mut app = good.accept().await?;
        app.request().await?;
        app.send(AGREE).await?;
        ensure!(client.head().await?.status() == 101);
        tunnels.push((client, app));
    }
    let (mut client, mut app) = tunnels.pop().context("the last one was sent to both")?;
    // The node that it is not on goes, and then the one that it is on.
    site.gateway.publish(&directory(&nodes[1..], ""))?;
    for _ in 0..2 {
        site.gateway.admin("/metrics").await?;
        client.send("still there").await?;
        ensure!(app.exactly(11).await? == b"still there");
    }
    site.gateway.publish(&directory(&nodes[..1], ""))?;
    ensure!(client.exactly(2).await?[0] == 0x88, "the client is told that the node leaves");
    Ok(())
}

#[tokio::test]
async fn what_only_asks_is_asked_again_when_a_node_breaks_off() -> Result<()> {
    for how in [End::Closed, End::Reset] {
        for line in ["GET /a", "HEAD /b", "DELETE /c"] {
            let (one, two) = (Upstream::start()?, Upstream::start()?);
            let site = Site::open(&[one.address(), two.address()], &[]).await?;
            let mut client = site.ask(site.head(line, "")).await?;
            let (mut first, _, other) = accept(&one, &two).await?;
            first.request().await?;
            first.end(how)?;
            let mut second = other.accept().await.context(line)?;
            ensure!(second.request().await?.start.starts_with(line));
            second.send("HTTP/1.1 204 No Content\r\n\r\n").await?;
            ensure!(client.answer().await?.status() == 204);
            site.gateway.expect_metric("embedgate_node_retries_total", 1.0).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn it_is_asked_again_once_and_no_more() -> Result<()> {
    let nodes = [Upstream::start()?, Upstream::start()?, Upstream::start()?];
    let site = Site::open(&nodes.each_ref().map(Upstream::address), &[]).await?;
    let mut client = site.ask(site.head("GET /", "")).await?;
    let [a, b, c] = &nodes;
    for _ in 0..2 {
        let mut wire =
            tokio::select! { wire = a.accept() => wire?, wire = b.accept() => wire?, wire = c.accept() => wire? };
        wire.request().await?;
    }
    let answer = client.answer().await?;
    ensure!(answer.status() == 502, "{answer:?}");
    nodes.iter().try_for_each(Upstream::expect_untouched)
}

#[tokio::test]
async fn what_may_have_done_something_is_not_sent_again() -> Result<()> {
    for (line, framing, body) in
        [("POST /", "", ""), ("POST /", "Content-Length: 5\r\n", "hello"), ("PUT /", "Content-Length: 5\r\n", "hello")]
    {
        for how in [End::Closed, End::Reset] {
            let (one, two) = (Upstream::start()?, Upstream::start()?);
            let site = Site::open(&[one.address(), two.address()], &[]).await?;
            let mut client = site.ask(site.head(line, framing) + body).await?;
            let (mut first, same, other) = accept(&one, &two).await?;
            first.request().await?;
            first.end(how)?;
            ensure!(client.answer().await?.status() == 502, "{line}");
            same.expect_untouched()?;
            other.expect_untouched()?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_has_begun_stays_where_it_is() -> Result<()> {
    let (one, two) = (Upstream::start()?, Upstream::start()?);
    let site = Site::open(&[one.address(), two.address()], &[]).await?;
    let mut client = site.ask(site.head("GET /", "")).await?;
    let (mut first, _, other) = accept(&one, &two).await?;
    first.request().await?;
    first.send("HTTP/1.1 2").await?;
    drop(first);
    ensure!(client.answer().await?.status() == 502);
    other.expect_untouched()
}

#[tokio::test]
async fn where_a_node_falls_silent_a_get_is_asked_of_another() -> Result<()> {
    for line in ["GET /slow", "HEAD /slow"] {
        let (one, two) = (Upstream::start()?, Upstream::start()?);
        let site = Site::open(&[one.address(), two.address()], &[("upstreams.first_byte_timeout", "300ms")]).await?;
        let mut client = site.ask(site.head(line, "")).await?;
        let (mut silent, _, other) = accept(&one, &two).await?;
        silent.request().await?;
        let mut second = other.accept().await.context(line)?;
        second.request().await?;
        second.send("HTTP/1.1 204 No Content\r\n\r\n").await?;
        ensure!(client.answer().await?.status() == 204);
        silent.expect_end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn where_a_node_falls_silent_nothing_else_is_sent_again() -> Result<()> {
    for (line, framing, body) in [("POST /slow", "Content-Length: 5\r\n", "hello"), ("DELETE /slow", "", "")] {
        let (one, two) = (Upstream::start()?, Upstream::start()?);
        let site = Site::open(&[one.address(), two.address()], &[("upstreams.first_byte_timeout", "300ms")]).await?;
        let mut client = site.ask(site.head(line, framing) + body).await?;
        let (mut silent, _, other) = accept(&one, &two).await?;
        silent.request().await?;
        ensure!(client.answer().await?.status() == 504, "{line}");
        other.expect_untouched()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_silent_get_is_not_asked_of_a_third_node_nor_of_one_that_is_out_of_use() -> Result<()> {
    let nodes = [Upstream::start()?, Upstream::start()?, Upstream::start()?];
    let limit = ("upstreams.first_byte_timeout", "300ms");
    let site = Site::open(&nodes.each_ref().map(Upstream::address), &[limit]).await?;
    ensure!(site.get("/").await?.status() == 504);
    // Where all are asked, the third has its connection before the client has its answer.
    let touched = nodes.iter().filter(|node| node.expect_untouched().is_err()).count();
    ensure!(touched == 2, "{touched} nodes were asked");

    let (absent, slow) = (Absent::new()?, Upstream::start()?);
    let site =
        Site::open(&[absent.address()?, slow.address()], &[("upstreams.health.ejection_time", "10m"), limit]).await?;
    let _slow = slow.answering(|request| if request.target() == "/slow" { Vec::new() } else { ok("good") });
    while site.gateway.metric("embedgate_node_ejections_total{reason=\"consecutive_failures\"}").await? < 0.5 {
        site.expect_good(1).await?;
    }
    let retries = site.gateway.metric("embedgate_node_retries_total").await?;
    ensure!(site.get("/slow").await?.status() == 504);
    site.gateway.expect_metric("embedgate_node_retries_total", retries).await
}

#[tokio::test]
async fn a_node_that_never_finishes_its_handshake_costs_the_time_of_one_try() -> Result<()> {
    let (mute, good) = (Upstream::start()?, Upstream::start()?);
    let nodes = [format!("https://{}", mute.address()), plain(good.address())];
    // Whoever waits for the whole of it fails the test.
    let settings = [("upstreams.connect_timeout", "10m"), ("upstreams.try_timeout", "100ms")];
    let site = Site::of(&directory(&nodes, ""), &[&NO_EJECTION[..], &settings].concat()).await?;
    let _good = good.answering(|_| ok("good"));
    while site.gateway.metric("embedgate_node_retries_total").await? < 0.5 {
        ensure!(site.get("/").await?.text() == "good");
    }
    Ok(())
}

#[tokio::test]
async fn it_goes_no_further_than_limit_and_budget_allow() -> Result<()> {
    let absent = [Absent::new()?, Absent::new()?, Absent::new()?];
    let nodes = [absent[0].address()?, absent[1].address()?, absent[2].address()?];
    for (key, value, retries) in
        [("max_tries", "1", 0.0), ("max_tries", "2", 1.0), ("max_tries", "8", 2.0), ("retry_budget", "0", 0.0)]
    {
        let key = format!("upstreams.{key}");
        let site = Site::open(&nodes, &[(&key, value)]).await?;
        let answer = site.answer(site.head("POST /", "Content-Length: 0\r\n")).await?;
        ensure!(answer.status() == 502, "{answer:?}");
        ensure!(answer.field("Proxy-Status") == Some("embedgate; error=connection_refused"), "{answer:?}");
        site.gateway.expect_metric("embedgate_node_retries_total", retries).await.context(key)?;
        let failed = "embedgate_upstream_connections_total{result=\"failed\"}";
        site.gateway.expect_metric(failed, retries + 1.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_client_is_told_of_the_node_that_got_the_request() -> Result<()> {
    let (absent, breaking) = (Absent::new()?, Upstream::start()?);
    let site = Site::open(&[absent.address()?, breaking.address()], &NO_EJECTION).await?;
    for _ in 0..12 {
        let mut client = site.ask(site.head("GET /", "")).await?;
        breaking.accept().await?.request().await?;
        let answer = client.answer().await?;
        let status = answer.field("Proxy-Status").unwrap_or_default().to_owned();
        ensure!(answer.status() == 502 && status.contains("connection_terminated"), "{answer:?}");
    }
    Ok(())
}
