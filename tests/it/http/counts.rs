//! What is under way on a cluster, counted exactly: from when a request is decided until its last byte, however it ends.

use super::Site;
use super::websocket::tunnel;
use crate::harness::raw::{End, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

impl Site {
    /// What is under way on the app's one cluster.
    async fn in_flight(&self) -> Result<u64> {
        let answer = self.gateway.admin("/upstreams/acme/app/editor").await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        answer["clusters"][0]["in_flight_here"].as_u64().with_context(|| format!("no count in {answer:#}"))
    }

    async fn until_in_flight(&self, expected: u64) -> Result<()> {
        let mut last = 0;
        let reached = until(PATIENCE, async || {
            last = self.in_flight().await?;
            Ok((last == expected).then_some(()))
        });
        let reached = reached.await?;
        reached.with_context(|| format!("{last} and not {expected} under way"))
    }
}

#[tokio::test]
async fn requests_count_until_their_answers_are_over() -> Result<()> {
    let site = Site::open().await?;
    ensure!(site.in_flight().await? == 0);
    let (mut client, mut app) = site.join().await?;
    ensure!(site.in_flight().await? == 1, "while the app thinks");
    app.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    client.head().await?;
    app.send("9\r\ndata: 1\n\n\r\n").await?;
    client.exactly(9).await?;
    ensure!(site.in_flight().await? == 1, "while events flow");
    let (mut second, mut second_app) = site.join().await?;
    ensure!(site.in_flight().await? == 2);
    second_app.send(ok("done")).await?;
    ensure!(second.answer().await?.text() == "done");
    site.until_in_flight(1).await?;
    app.send("0\r\n\r\n").await?;
    site.until_in_flight(0).await
}

#[tokio::test]
async fn uploads_count_from_their_heads() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Content-Length: 10\r\n") + "hello").await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    ensure!(site.in_flight().await? == 1);
    client.send("world").await?;
    app.exactly(10).await?;
    app.send(ok("stored")).await?;
    ensure!(client.answer().await?.text() == "stored");
    site.until_in_flight(0).await
}

#[tokio::test]
async fn who_breaks_off_is_not_counted_any_more() -> Result<()> {
    let site = Site::open().await?;
    for end in [End::Closed, End::Reset] {
        let (client, _app) = site.join().await?;
        ensure!(site.in_flight().await? == 1);
        client.end(end)?;
        site.until_in_flight(0).await.with_context(|| format!("the client: {end:?}"))?;
        let (mut client, mut app) = site.join().await?;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await?;
        client.head().await?;
        ensure!(site.in_flight().await? == 1);
        app.end(end)?;
        client.expect_end().await.ok();
        site.until_in_flight(0).await.with_context(|| format!("the app: {end:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn websockets_count_until_both_have_gone() -> Result<()> {
    let site = Site::open().await?;
    for end in [End::Closed, End::Reset] {
        let (client, mut app) = tunnel(&site).await?;
        ensure!(site.in_flight().await? == 1);
        client.end(end)?;
        app.expect_end().await?;
        site.until_in_flight(0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn streams_of_http_2_count_one_by_one() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, driver) = site.http2().await?;
    let mut open = Vec::new();
    for count in 1..=3 {
        let asked = client.begin(site.ask_for("/")?, true).await?;
        let mut app = site.upstream.accept().await?;
        app.request().await?;
        open.push((asked, app));
        ensure!(site.in_flight().await? == count);
    }
    let (asked, mut app) = open.pop().context("three are open")?;
    app.send(ok("done")).await?;
    ensure!(asked.answer().await?.text().await? == "done");
    site.until_in_flight(2).await?;
    let (mut asked, _app) = open.pop().context("two are open")?;
    asked.upload.send_reset(h2::Reason::CANCEL);
    site.until_in_flight(1).await?;
    // The whole connection goes.
    drop((open, client, driver));
    site.until_in_flight(0).await
}

#[tokio::test]
async fn refusals_do_not_count() -> Result<()> {
    let site = Site::open().await?;
    for request in [site.get("/").replace("Bearer ", "Bearer x"), site.head("POST /", "Content-Length: 1x\r\n")] {
        site.refused(request).await?;
    }
    ensure!(site.in_flight().await? == 0);
    Ok(())
}
