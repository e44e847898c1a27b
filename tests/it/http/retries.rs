//! Requests on a pooled connection that the upstream ends at the same moment.

use super::Site;
use crate::harness::raw::{End, Wire, ok};
use anyhow::{Context as _, Result, ensure};

/// A client whose first request was answered, and the upstream's end of the connection that is pooled since.
async fn pooled(site: &Site) -> Result<(Wire, Wire)> {
    let (mut client, mut app) = site.join().await?;
    app.send(ok("first")).await?;
    ensure!(client.answer().await?.text() == "first");
    Ok((client, app))
}

#[tokio::test]
async fn a_connection_is_used_again() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = pooled(&site).await?;
    for target in ["/2", "/3"] {
        client.send(site.get(target)).await?;
        ensure!(app.request().await?.target() == target);
        app.send(ok(target)).await?;
        ensure!(client.answer().await?.text() == target);
    }
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn a_connection_is_not_used_again_when_the_upstream_says_so() -> Result<()> {
    let site = Site::open().await?;
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (mut client, mut app) = site.join().await?;
        app.send(answer).await?;
        ensure!(client.answer().await?.status() == 200);
        app.expect_end().await.context("the gateway keeps the connection")?;
        client.send(site.get("/next")).await?;
        let mut fresh = site.upstream.accept().await?;
        fresh.request().await?;
        fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
        ensure!(client.answer().await?.status() == 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_stale_connection_costs_a_get_one_silent_retry() -> Result<()> {
    for how in [End::Closed, End::Reset] {
        let site = Site::open().await?;
        let (mut client, mut app) = pooled(&site).await?;
        client.send(site.get("/again")).await?;
        ensure!(app.request().await?.target() == "/again");
        app.end(how)?;
        let mut fresh = site.upstream.accept().await?;
        ensure!(fresh.request().await?.target() == "/again");
        fresh.send(ok("again")).await?;
        ensure!(client.answer().await?.text() == "again");
        ensure!(site.gateway.metric("embedgate_retries_total").await? > 0.5);
    }
    Ok(())
}

#[tokio::test]
async fn beyond_the_budget_nothing_is_sent_twice() -> Result<()> {
    for how in [End::Closed, End::Reset] {
        let site = Site::with(&[("upstreams.retry_budget", "0")]).await?;
        let (mut client, mut app) = pooled(&site).await?;
        client.send(site.get("/again")).await?;
        app.request().await?;
        app.end(how)?;
        ensure!(client.answer().await?.status() == 502);
        site.upstream.expect_untouched()?;
        site.gateway.expect_metric("embedgate_retries_over_budget_total", 1.0).await?;
        site.gateway.expect_metric("embedgate_retries_total", 0.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_burst_of_retries_is_within_the_budget_and_more_is_not() -> Result<()> {
    let site = Site::with(&[("upstreams.retry_budget", "0.001")]).await?;
    let (mut client, mut app) = pooled(&site).await?;
    for _ in 0..100 {
        client.send(site.get("/again")).await?;
        app.request().await?;
        drop(app);
        app = site.upstream.accept().await?;
        app.request().await?;
        app.send(ok("again")).await?;
        ensure!(client.answer().await?.text() == "again");
    }
    client.send(site.get("/again")).await?;
    app.request().await?;
    drop(app);
    ensure!(client.answer().await?.status() == 502);
    site.upstream.expect_untouched()?;
    site.gateway.expect_metric("embedgate_retries_total", 100.0).await
}

#[tokio::test]
async fn a_request_is_retried_once_and_not_for_ever() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = pooled(&site).await?;
    client.send(site.get("/again")).await?;
    app.request().await?;
    drop(app);
    let mut fresh = site.upstream.accept().await?;
    fresh.request().await?;
    drop(fresh);
    ensure!(client.answer().await?.status() == 502);
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn a_fresh_connection_is_no_reason_to_retry() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, app) = site.join().await?;
    drop(app);
    ensure!(client.answer().await?.status() == 502);
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn a_request_that_may_have_done_something_is_never_sent_twice() -> Result<()> {
    for (line, framing, body) in [
        ("POST /", "Content-Length: 5\r\n", "hello"),
        ("POST /", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("POST /", "", ""),
        ("PATCH /", "", ""),
        ("PUT /", "Content-Length: 5\r\n", "hello"),
        ("LOCK /", "", ""),
    ] {
        for how in [End::Closed, End::Reset] {
            let site = Site::open().await?;
            let (mut client, mut app) = pooled(&site).await?;
            client.send(site.head(line, framing) + body).await?;
            app.request().await?;
            app.end(how)?;
            let answer = client.answer().await?;
            ensure!(answer.status() == 502, "{line}: {}", answer.start);
            site.upstream.expect_untouched().with_context(|| format!("{line} {framing:?}"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_asked_for_again() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = pooled(&site).await?;
    client.send(site.get("/again")).await?;
    app.request().await?;
    app.send("HTTP/1.1 2").await?;
    drop(app);
    ensure!(client.answer().await?.status() == 502);
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_noticed_before_it_is_used() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, app) = pooled(&site).await?;
    drop(app);
    client.send(site.head("POST /", "Content-Length: 5\r\n") + "hello").await?;
    let mut fresh = site.upstream.accept().await?;
    ensure!(fresh.request().await?.text() == "hello");
    fresh.send(ok("done")).await?;
    ensure!(client.answer().await?.text() == "done");
    Ok(())
}
