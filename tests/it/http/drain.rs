//! Leaving: load balancers learn of it first, what runs may end, nothing new comes in.

use super::Site;
use crate::harness::raw::{End, Wire, chunked, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};

const HEALTH: &str = "GET /.embedgate/healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// The status that health has for load balancers, on a connection of its own.
async fn health(site: &Site) -> Result<u16> {
    let mut client = site.gateway.connect().await?;
    client.send(HEALTH).await?;
    Ok(client.answer().await?.status())
}

/// Waits until nobody listens any more.
async fn closed(site: &Site) -> Result<()> {
    let refused = until(PATIENCE, async || Ok(Wire::connect(site.gateway.address).await.is_err().then_some(())));
    refused.await?.context("the gateway still listens")
}

#[tokio::test]
async fn load_balancers_are_told_before_anything_ends() -> Result<()> {
    let mut site = Site::with(&[("server.drain_delay", "4s")]).await?;
    ensure!(health(&site).await? == 200);
    let (mut client, mut app) = site.join().await?;
    let mut leaving = site.gateway.leave()?;
    let told = until(PATIENCE, async || Ok((health(&site).await? == 503).then_some(()))).await?;
    told.context("health does not turn")?;
    ensure!(site.gateway.admin("/readyz").await?.status() == 503);
    ensure!(site.gateway.admin("/healthz").await?.status() == 200, "the process is alive");

    // Meanwhile requests are served on connections old and new, and each answer asks for another connection.
    app.send(ok("before")).await?;
    let answer = client.answer().await?;
    ensure!(answer.text() == "before" && answer.field("Connection") == Some("close"), "{answer:?}");
    client.expect_end().await?;
    let mut late = site.gateway.connect().await?;
    late.send(site.get("/late")).await?;
    ensure!(app.request().await?.target() == "/late");
    app.send(ok("late")).await?;
    let answer = late.answer().await?;
    ensure!(answer.text() == "late" && answer.field("Connection") == Some("close"), "{answer:?}");
    ensure!(!leaving.is_over());
    leaving.ended().await
}

#[tokio::test]
async fn clients_of_http2_are_asked_away_before_anything_ends() -> Result<()> {
    let mut site = Site::with(&[("server.drain_delay", "4s")]).await?;
    let (mut client, driver) = site.http2().await?;
    let mut answer = client.ask(site.ask_for("/.embedgate/healthz")?).await?;
    ensure!(answer.status == 200 && answer.text().await? == "ok\n");
    let mut leaving = site.gateway.leave()?;
    let told = until(PATIENCE, async || Ok((health(&site).await? == 503).then_some(()))).await?;
    told.context("health does not turn")?;
    let mut answer = client.ask(site.ask_for("/.embedgate/healthz")?).await?;
    ensure!(answer.status == 503, "{answer:?}");
    answer.text().await?;
    ensure!(driver.ended().await?.is_none(), "it ends with an error");
    ensure!(!leaving.is_over());
    leaving.ended().await
}

#[tokio::test]
async fn a_running_request_may_end() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    let leaving = site.gateway.leave()?;
    closed(&site).await?;
    app.send([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunked(b"to the end", 3)[..]].concat())
        .await?;
    let answer = client.answer().await?;
    ensure!(answer.complete && answer.text() == "to the end", "{answer:?}");
    ensure!(answer.field("Connection") == Some("close"), "the client is not told: {answer:?}");
    client.expect_end().await?;
    leaving.ended().await
}

#[tokio::test]
async fn a_running_upload_may_end() -> Result<()> {
    let mut site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Content-Length: 10\r\n") + "hello").await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    let leaving = site.gateway.leave()?;
    closed(&site).await?;
    client.send("world").await?;
    ensure!(app.exactly(10).await? == b"helloworld");
    app.send(ok("stored")).await?;
    ensure!(client.answer().await?.text() == "stored");
    client.expect_end().await?;
    leaving.ended().await
}

#[tokio::test]
async fn a_running_download_goes_on_and_its_connection_ends_after_it() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await?;
    client.head().await?;
    let leaving = site.gateway.leave()?;
    closed(&site).await?;
    app.send("world").await?;
    ensure!(client.exactly(10).await? == b"helloworld");
    client.expect_end().await?;
    leaving.ended().await
}

#[tokio::test]
async fn idle_connections_close_at_once() -> Result<()> {
    let mut site = Site::open().await?;
    let mut silent = site.gateway.connect().await?;
    let (mut used, mut app) = site.join().await?;
    app.send(ok("")).await?;
    used.answer().await?;
    let leaving = site.gateway.leave()?;
    used.expect_end().await?;
    silent.expect_end().await?;
    app.expect_end().await.context("the pooled connection stays")?;
    leaving.ended().await
}

#[tokio::test]
async fn a_connection_in_the_middle_of_a_head_is_served() -> Result<()> {
    let mut site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    let request = site.get("/");
    let (first, rest) = request.split_at(20);
    client.send(first).await?;
    // An answer on another connection of the only worker: by then it has read the first part.
    site.gateway.expect_metric("embedgate_connections_active", 1.0).await?;
    ensure!(health(&site).await? == 200);
    let leaving = site.gateway.leave()?;
    closed(&site).await?;
    client.send(rest).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send(ok("served")).await?;
    let answer = client.answer().await?;
    ensure!(answer.text() == "served" && answer.field("Connection") == Some("close"), "{answer:?}");
    leaving.ended().await
}

#[tokio::test]
async fn nothing_new_comes_in() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    // A request that waits behind the running one is not taken up any more.
    client.send(site.get("/waiting")).await?;
    let leaving = site.gateway.leave()?;
    closed(&site).await?;
    app.send(ok("running")).await?;
    ensure!(client.answer().await?.text() == "running");
    client.expect_end().await?;
    leaving.ended().await?;
    app.expect_end().await.context("the waiting request was sent")?;
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_limit() -> Result<()> {
    let mut site = Site::with(&[("server.drain_timeout", "500ms")]).await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await?;
    client.head().await?;
    site.gateway.leave()?.ended().await?;
    let rest = client.rest().await?;
    ensure!(!rest.bytes.ends_with(b"0\r\n\r\n"), "a clean end");
    app.rest().await.map(drop)
}

#[tokio::test]
async fn who_waits_for_an_answer_at_the_limit_is_told_so() -> Result<()> {
    let mut site = Site::with(&[("server.drain_timeout", "500ms")]).await?;
    let (mut client, mut app) = site.join().await?;
    let leaving = site.gateway.leave()?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 504 && answer.complete && !answer.has("Retry-After"), "{answer:?}");
    client.expect_end().await?;
    leaving.ended().await?;
    app.rest().await.map(drop)
}

#[tokio::test]
async fn what_is_cut_at_the_limit_looks_broken_to_a_client_that_counts_on_the_close() -> Result<()> {
    let mut site = Site::with(&[("server.drain_timeout", "500ms")]).await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.get("/").replace("HTTP/1.1", "HTTP/1.0")).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send("HTTP/1.1 200 OK\r\n\r\nhello").await?;
    client.head().await?;
    site.gateway.leave()?.ended().await?;
    ensure!(client.rest().await?.end == End::Reset, "a clean end");
    Ok(())
}

#[tokio::test]
async fn a_gateway_without_requests_leaves() -> Result<()> {
    let mut site = Site::open().await?;
    site.gateway.leave()?.ended().await?;
    closed(&site).await
}
