//! Leaving: clients of HTTP/2 are told, and what runs may end.

use super::{HOST, Site};
use crate::harness::h2::request;
use crate::harness::raw::ok;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use http::Method;

#[tokio::test]
async fn running_requests_may_end_and_new_ones_go_elsewhere() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, driver, asked, mut app) = site.join_http2().await?;
    let second = client.begin(site.ask_for("/second")?, true).await?;
    let mut other = site.upstream.accept().await?;
    other.request().await?;
    let mut leaving = site.gateway.leave()?;
    let told = until(PATIENCE, async || {
        let health = request(Method::GET, HOST, "/.embedgate/healthz").body(())?;
        Ok(client.ask(health).await.is_err().then_some(()))
    });
    told.await?.context("the client is not told")?;
    ensure!(!leaving.is_over());
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nto th\r\n").await?;
    let mut answer = asked.answer().await?;
    ensure!(answer.exactly(5).await? == b"to th");
    app.send("5\r\ne end\r\n0\r\n\r\n").await?;
    ensure!(answer.text().await? == "e end");
    ensure!(!leaving.is_over());
    other.send(ok("served")).await?;
    ensure!(second.answer().await?.text().await? == "served");
    ensure!(driver.ended().await?.is_none(), "not a proper goodbye");
    leaving.ended().await
}

#[tokio::test]
async fn idle_connections_end_at_once() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, driver) = site.http2().await?;
    let answer = client.ask(request(Method::GET, HOST, "/.embedgate/healthz").body(())?).await?;
    ensure!(answer.status == 200);
    drop(answer);
    let (_fresh, silent) = site.http2().await?;
    site.gateway.expect_metric("embedgate_connections_active", 2.0).await?;
    let leaving = site.gateway.leave()?;
    ensure!(driver.ended().await?.is_none());
    ensure!(silent.ended().await?.is_none());
    leaving.ended().await
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_limit() -> Result<()> {
    let mut site = Site::with(&[("server.drain_timeout", "500ms")]).await?;
    let (_client, _driver, asked, mut app) = site.join_http2().await?;
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await?;
    let mut answer = asked.answer().await?;
    ensure!(answer.exactly(5).await? == b"hello");
    site.gateway.leave()?.ended().await?;
    answer.reset().await.context("a clean end")?;
    app.rest().await.map(drop)
}
