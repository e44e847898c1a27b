//! WebSocket frames that are larger than allowed: they end the WebSocket, and nothing of them arrives.

use super::Site;
use super::websocket::{AGREE, ASK, close, close_code, frame_head, tunnel};
use crate::harness::raw::Wire;
use anyhow::{Context as _, Result, ensure};

const LIMIT: usize = 1000;

async fn limited() -> Result<Site> {
    Site::with(&[("upstreams.websocket_max_frame", "1000")]).await
}

fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
    [frame_head(first, length, masked), vec![b'x'; length]].concat()
}

/// Answers the gateway's close frames, after which nothing more comes.
async fn part(mut client: Wire, mut app: Wire) -> Result<()> {
    client.send(frame(0x88, 2, true)).await?;
    app.send(frame(0x88, 2, false)).await?;
    client.expect_end().await.context("the client gets more")?;
    app.expect_end().await.context("the app gets more").map(drop)
}

#[tokio::test]
async fn frames_up_to_the_limit_pass_both_ways_however_they_arrive() -> Result<()> {
    let site = limited().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    for length in [0, 1, 125, 126, LIMIT] {
        for masked in [true, false] {
            let (from, to) = if masked { (&mut client, &mut app) } else { (&mut app, &mut client) };
            // A message of any length may be made of such frames.
            let frames = [frame(0x02, length, masked), frame(0x80, length, masked)].concat();
            let (slow, fast) = frames.split_at(frames.len().min(8));
            for byte in slow {
                from.send([*byte]).await?;
            }
            from.send(fast).await?;
            ensure!(to.exactly(frames.len()).await? == frames, "{length} {masked}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_frame_of_the_clients_over_the_limit_is_1009_and_does_not_arrive() -> Result<()> {
    for at_once in [true, false] {
        let site = limited().await?;
        let (mut client, mut app) = tunnel(&site).await?;
        let (good, large) = (frame(0x82, LIMIT, true), frame(0x82, LIMIT + 1, true));
        if at_once {
            client.send([&good[..], &large, &good].concat()).await?;
        } else {
            client.send(&good).await?;
            for byte in &large[..8] {
                client.send([*byte]).await?;
            }
        }
        ensure!(app.exactly(good.len()).await? == good, "the frame before it");
        ensure!(close(&mut client, false).await? == (1009, "frame too large".to_owned()));
        ensure!(close_code(&mut app, true).await? == 1001);
        if !at_once {
            client.send(&large[8..]).await?;
        }
        part(client, app).await?;
        site.gateway.expect_metric("embedgate_cuts_total{by=\"client_frame\"}", 1.0).await?;
        site.gateway.log_line(|line| line.contains("\"cut_by\":\"gateway: client's frame too large\"")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_frame_of_the_apps_over_the_limit_is_1009_and_does_not_arrive() -> Result<()> {
    let site = limited().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    // Only the header, which promises far more than anybody sends.
    app.send(frame_head(0x82, 1 << 40, false)).await?;
    ensure!(close(&mut app, true).await? == (1009, "frame too large".to_owned()));
    ensure!(close_code(&mut client, false).await? == 1001);
    client.send(frame(0x88, 2, true)).await?;
    drop(app);
    client.expect_end().await?;
    site.gateway.expect_metric("embedgate_cuts_total{by=\"upstream_frame\"}", 1.0).await?;
    site.gateway.expect_metric("embedgate_tunnels_active", 0.0).await
}

#[tokio::test]
async fn the_goodbye_for_a_large_frame_waits_for_the_end_of_the_other_sides_frame() -> Result<()> {
    let site = limited().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let under_way = frame(0x82, 500, false);
    app.send(&under_way[..100]).await?;
    ensure!(client.exactly(100).await? == under_way[..100]);
    client.send(frame_head(0x82, LIMIT + 1, true)).await?;
    ensure!(close_code(&mut app, true).await? == 1001);
    client.expect_silence().context("something within a frame")?;
    app.send(&under_way[100..]).await?;
    ensure!(client.exactly(under_way.len() - 100).await? == under_way[100..], "the frame is broken");
    ensure!(close_code(&mut client, false).await? == 1009);
    Ok(())
}

#[tokio::test]
async fn a_message_over_the_limit_is_1009_with_the_frame_that_makes_it_so() -> Result<()> {
    let site = Site::with(&[("upstreams.websocket_max_message", "1000")]).await?;
    for from_client in [true, false] {
        let (mut client, mut app) = tunnel(&site).await?;
        let (from, to) = if from_client { (&mut client, &mut app) } else { (&mut app, &mut client) };
        let frame = |first, length| frame(first, length, from_client);
        // Two messages of just that size, with a ping and a pong between their frames, and most of another.
        let message = [frame(0x01, 600), frame(0x89, 100), frame(0x00, 0), frame(0x8a, 100), frame(0x80, 400)].concat();
        let good = [&message[..], &message, &frame(0x02, 999), &frame(0x89, 125)].concat();
        from.send(&good).await?;
        ensure!(to.exactly(good.len()).await? == good, "from the client: {from_client}");
        from.send([frame(0x80, 2), message].concat()).await?;
        ensure!(close(from, !from_client).await? == (1009, "message too large".to_owned()));
        ensure!(close_code(to, from_client).await? == 1001);
        part(client, app).await?;
        let by = if from_client { "client_frame" } else { "upstream_frame" };
        site.gateway.expect_metric(&format!("embedgate_cuts_total{{by=\"{by}\"}}"), 1.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn large_frames_that_come_with_the_heads_do_not_arrive_either() -> Result<()> {
    let site = limited().await?;
    let mut client = site.gateway.connect().await?;
    let (good, large) = (frame(0x82, 5, true), frame(0x82, LIMIT + 1, true));
    client.send([site.head("GET /ws", ASK).as_bytes(), &good, &large].concat()).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send(AGREE).await?;
    ensure!(client.head().await?.status() == 101);
    ensure!(app.exactly(good.len()).await? == good);
    ensure!(close_code(&mut client, false).await? == 1009);
    ensure!(close_code(&mut app, true).await? == 1001);
    part(client, app).await
}

#[tokio::test]
async fn what_is_no_frame_does_not_pass_where_frames_are_limited() -> Result<()> {
    let site = limited().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    client.send([&[0x83, 0x85][..], &[b'x'; 5000]].concat()).await?;
    ensure!(close(&mut client, false).await? == (1002, "frame malformed".to_owned()));
    ensure!(close_code(&mut app, true).await? == 1001);
    Ok(())
}
