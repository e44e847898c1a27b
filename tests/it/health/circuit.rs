//! Circuit breakers: nobody has more to do than was configured, and who is over the limit is told so at once.

use super::{Site, accept};
use crate::harness::raw::{Absent, Upstream, Wire, ok};
use anyhow::{Context as _, Result, ensure};

const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Answers a request that waits, and ends the connection, so that none is left to be used again.
async fn answer(mut app: Wire, mut client: Wire) -> Result<()> {
    app.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 204, "{answer:?}");
    Ok(())
}

async fn expect_open(site: &Site, limit: &str) -> Result<()> {
    let answer = site.get("/over").await?;
    ensure!(answer.status() == 503 && answer.has("Retry-After"), "{answer:?}");
    ensure!(answer.field("Proxy-Status") == Some("embedgate; error=connection_limit_reached"), "{answer:?}");
    site.gateway.expect_metric(&format!("embedgate_circuit_open_total{{limit=\"{limit}\"}}"), 1.0).await?;
    site.gateway.expect_metric("embedgate_rejects_total{reason=\"circuit_open\"}", 1.0).await
}

#[tokio::test]
async fn a_node_has_so_many_requests_and_the_next_one_goes_to_another() -> Result<()> {
    let (one, two) = (Upstream::start()?, Upstream::start()?);
    let limit = ("upstreams.circuit.max_requests_per_node", "1");
    let site = Site::open(&[one.address(), two.address()], &[limit]).await?;
    // A WebSocket counts as long as it is open.
    let mut socket = site.ask(site.head("GET /ws", UPGRADE)).await?;
    let (mut socket_app, _, other) = accept(&one, &two).await?;
    socket_app.request().await?;
    socket_app.send(AGREE).await?;
    ensure!(socket.head().await?.status() == 101);
    let client = site.ask(site.head("GET /", "")).await?;
    let mut app = other.accept().await.context("it goes to the node that has nothing to do")?;
    app.request().await?;
    expect_open(&site, "node_requests").await?;
    one.expect_untouched()?;
    two.expect_untouched()?;
    answer(app, client).await?;
    let client = site.ask(site.head("GET /", "")).await?;
    let mut app = other.accept().await?;
    app.request().await?;
    answer(app, client).await
}

#[tokio::test]
async fn an_upstream_has_so_many_requests_on_all_of_its_nodes() -> Result<()> {
    let (one, two) = (Upstream::start()?, Upstream::start()?);
    let site = Site::open(&[one.address(), two.address()], &[("upstreams.circuit.max_requests", "1")]).await?;
    let client = site.ask(site.head("GET /", "")).await?;
    let (mut app, ..) = accept(&one, &two).await?;
    app.request().await?;
    expect_open(&site, "requests").await?;
    answer(app, client).await?;
    // A request that one node fails takes no second place.
    let mut client = site.ask(site.head("GET /", "")).await?;
    let (mut first, _, other) = accept(&one, &two).await?;
    first.request().await?;
    drop(first);
    let mut second = other.accept().await?;
    second.request().await?;
    second.send(ok("second")).await?;
    ensure!(client.answer().await?.text() == "second");
    Ok(())
}

#[tokio::test]
async fn a_node_has_so_many_connections_which_are_used_again() -> Result<()> {
    let node = Upstream::start()?;
    let site = Site::open(&[node.address()], &[("upstreams.circuit.max_connections_per_node", "1")]).await?;
    let mut client = site.ask(site.head("GET /", "")).await?;
    let mut app = node.accept().await?;
    app.request().await?;
    expect_open(&site, "node_connections").await?;
    for target in ["/2", "/3"] {
        app.send(ok("kept")).await?;
        ensure!(client.answer().await?.text() == "kept");
        client = site.ask(site.head(&format!("GET {target}"), "")).await?;
        ensure!(app.request().await?.target() == target);
    }
    // It ends while a request is on it, and makes room for the next one.
    drop(app);
    let mut app = node.accept().await.context("the place of the connection is not free")?;
    app.request().await?;
    app.send(ok("fresh")).await?;
    ensure!(client.answer().await?.text() == "fresh");
    Ok(())
}

#[tokio::test]
async fn so_many_connections_are_made_at_once() -> Result<()> {
    let node = Upstream::start()?;
    let directory = super::directory(&[format!("https://{}", node.address())], "");
    let site = Site::of(&directory, &[("upstreams.circuit.max_connecting_per_node", "1")]).await?;
    // Its handshake never ends.
    let _client = site.ask(site.head("GET /", "")).await?;
    let _app = node.accept().await?;
    expect_open(&site, "node_connecting").await?;
    node.expect_untouched()
}

#[tokio::test]
async fn so_many_of_its_requests_are_tried_on_another_node_at_once() -> Result<()> {
    let (absent, slow) = (Absent::new()?, Upstream::start()?);
    let never = ("upstreams.health.consecutive_failures", "0");
    let settings = [("upstreams.circuit.max_retries", "1"), never, ("upstreams.health.failure_share", "0")];
    let site = Site::open(&[absent.address()?, slow.address()], &settings).await?;
    // The first one may find the node that works at once; for the next, the other has less to do.
    let mut waiting = Vec::new();
    until_retried(&site, &slow, &mut waiting, 1.0).await?;
    let refused = site.get("/over").await?;
    ensure!(refused.field("Proxy-Status") == Some("embedgate; error=connection_refused"), "{refused:?}");
    site.gateway.expect_metric("embedgate_circuit_open_total{limit=\"retries\"}", 1.0).await?;
    slow.expect_untouched()?;
    // The last one is the one that was tried again.
    let (app, client) = waiting.pop().context("nothing was tried again")?;
    answer(app, client).await?;
    site.gateway.expect_metric("embedgate_requests_active", waiting.len() as f64).await?;
    until_retried(&site, &slow, &mut waiting, 2.0).await.context("the place is not free again")
}

/// Sends requests that wait at the node until so many were tried again.
async fn until_retried(site: &Site, slow: &Upstream, waiting: &mut Vec<(Wire, Wire)>, retries: f64) -> Result<()> {
    while site.gateway.metric("embedgate_node_retries_total").await? < retries - 0.5 {
        let client = site.ask(site.head("GET /", "")).await?;
        let mut app = slow.accept().await?;
        app.request().await?;
        waiting.push((app, client));
    }
    Ok(())
}
