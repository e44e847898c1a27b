//! Connections of HTTP/1.1 that are old: the next answer is their last.

use super::Site;
use super::websocket::{frame_head, tunnel};
use crate::harness::gateway::outlast;
use crate::harness::raw::ok;
use anyhow::{Result, ensure};
use std::time::Duration;

const AGE: Duration = Duration::from_millis(1);

#[tokio::test]
async fn an_old_connection_ends_with_an_answer() -> Result<()> {
    let site = Site::with(&[("limits.max_connection_age", "1ms")]).await?;
    let (mut client, mut app) = site.join().await?;
    outlast(AGE).await;
    // Nothing is cut: the request that runs is answered in full.
    app.send(ok("the last one")).await?;
    let answer = client.answer().await?;
    ensure!(answer.text() == "the last one" && answer.field("Connection") == Some("close"), "{answer:?}");
    client.expect_end().await.map(drop)
}

#[tokio::test]
async fn connections_may_have_any_age() -> Result<()> {
    let site = Site::with(&[("limits.max_connection_age", "0s")]).await?;
    let (mut client, mut app) = site.join().await?;
    outlast(AGE).await;
    for _ in 0..2 {
        app.send(ok("one of many")).await?;
        let answer = client.answer().await?;
        ensure!(answer.text() == "one of many" && !answer.has("Connection"), "{answer:?}");
        client.send(site.get("/")).await?;
        app.request().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_old_websocket_stays() -> Result<()> {
    let site = Site::with(&[("limits.max_connection_age", "1ms")]).await?;
    let (mut client, mut app) = tunnel(&site).await?;
    outlast(AGE).await;
    for text in ["still", "there"] {
        let frame = [&frame_head(0x81, text.len(), false)[..], text.as_bytes()].concat();
        app.send(&frame).await?;
        ensure!(client.exactly(frame.len()).await? == frame);
    }
    client.expect_silence()
}
