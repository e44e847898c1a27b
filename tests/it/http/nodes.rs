//! Nodes that are taken out while they are used: WebSockets are asked to leave, everything else ends by itself.

use super::Site;
use super::websocket::{AGREE, ASK, close, close_code, frame_head, tunnel};
use crate::harness::gateway::{Builder, org, outlast};
use crate::harness::raw::{End, Upstream, Wire, ok};
use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

const REASON: &str = "this instance of the app leaves";

/// The directory with clusters of the app, each with its state and its node.
fn directory(clusters: &[(&str, SocketAddr)]) -> String {
    let Some((_, first)) = clusters.first() else { return org("acme", &[]) };
    let mut text = org("acme", &[("editor", *first)]);
    for (number, (state, node)) in clusters.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ =
            write!(text, "[[org.app.cluster]]\nid = \"c{number}\"\nstate = \"{state}\"\nnodes = [\"http://{node}\"]\n");
    }
    // The workspace is no node of the app's, and stays where it is.
    text.replacen(
        &format!("url = \"http://{first}\"\n[[org.warehouse]]"),
        "url = \"http://127.0.0.1:1\"\n[[org.warehouse]]",
        1,
    )
}

/// A gateway before an app with one running node, and another node.
async fn site(grace: &str, spread: &str) -> Result<(Site, Upstream)> {
    let (blue, green) = (Upstream::start()?, Upstream::start()?);
    let builder = Builder::new(directory(&[("running", blue.address())]))
        .set("upstreams.drain_grace", grace)
        .set("upstreams.drain_spread", spread);
    let gateway = builder.start().await?;
    let token = gateway.session("acme")?;
    Ok((Site { gateway, upstream: blue, token }, green))
}

async fn expect_goodbye(client: &mut Wire, app: &mut Wire) -> Result<()> {
    ensure!(close(client, false).await? == (1001, REASON.to_owned()));
    ensure!(close(app, true).await? == (1001, REASON.to_owned()));
    client.send([frame_head(0x88, 2, true), vec![0x03, 0xe9]].concat()).await?;
    app.send([frame_head(0x88, 2, false), vec![0x03, 0xe9]].concat()).await?;
    client.expect_end().await?;
    app.expect_end().await.map(drop)
}

#[tokio::test]
async fn websockets_leave_a_node_that_is_taken_out_in_whatever_way() -> Result<()> {
    for state in ["draining", "stopped", "starting", "removed", "replaced"] {
        let (site, green) = site("0s", "100ms").await?;
        let (blue, green) = (site.upstream.address(), green.address());
        let (mut client, mut app) = tunnel(&site).await?;
        site.gateway.publish(&match state {
            "removed" => directory(&[("running", green)]),
            // Without clusters, the address is the node.
            "replaced" => org("acme", &[("editor", green)]),
            state => directory(&[("running", green), (state, blue)]),
        })?;
        expect_goodbye(&mut client, &mut app).await.with_context(|| state.to_owned())?;
        site.gateway.expect_metric("embedgate_cuts_total{by=\"cluster_drain\"}", 1.0).await?;
        site.gateway.log_line(|line| line.contains("\"cut_by\":\"gateway: cluster drain\"")).await?;
        site.gateway.expect_metric("embedgate_streams_revoked_total", 0.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn requests_and_downloads_end_by_themselves_and_new_ones_go_elsewhere() -> Result<()> {
    let (site, green) = site("0s", "0s").await?;
    let (mut socket, mut socket_app) = tunnel(&site).await?;
    let (mut waiting, mut waiting_app) = site.join().await?;
    let (mut loading, mut loading_app) = site.join().await?;
    loading_app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await?;
    loading.head().await?;
    let mut sending = site.gateway.connect().await?;
    sending.send(site.head("POST /", "Content-Length: 10\r\n") + "hello").await?;
    let mut sending_app = site.upstream.accept().await?;
    sending_app.head().await?;
    site.gateway.publish(&directory(&[("draining", site.upstream.address()), ("running", green.address())]))?;
    // When the WebSocket has been told, the others have had their chance.
    expect_goodbye(&mut socket, &mut socket_app).await?;
    loading_app.send("world").await?;
    ensure!(loading.exactly(10).await? == b"helloworld");
    sending.send("world").await?;
    ensure!(sending_app.exactly(10).await? == b"helloworld");
    sending_app.send(ok("stored")).await?;
    ensure!(sending.answer().await?.text() == "stored");
    waiting_app.send(ok("late")).await?;
    ensure!(waiting.answer().await?.text() == "late");
    // Their connections go on too, to where the cluster is now.
    for client in [&mut waiting, &mut loading, &mut sending] {
        client.send(site.get("/next")).await?;
        let mut app = green.accept().await?;
        app.request().await?;
        app.send(ok("green")).await?;
        ensure!(client.answer().await?.text() == "green");
        app.end(End::Closed)?;
    }
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn they_stay_for_the_grace() -> Result<()> {
    let (site, green) = site("10m", "10m").await?;
    let nodes = |state| directory(&[(state, site.upstream.address()), ("running", green.address())]);
    let (mut client, mut app) = tunnel(&site).await?;
    for state in ["draining", "stopped"] {
        site.gateway.publish(&nodes(state))?;
        // Both directions still pass, after whatever the change has brought about.
        for _ in 0..2 {
            site.gateway.admin("/metrics").await?;
            let frame = [frame_head(0x82, 5, true), b"hello".to_vec()].concat();
            client.send(&frame).await?;
            ensure!(app.exactly(frame.len()).await? == frame);
            app.send([&frame_head(0x82, 5, false)[..], b"hello"].concat()).await?;
            ensure!(client.exactly(7).await?[2..] == *b"hello");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_comes_back_within_the_grace_keeps_them() -> Result<()> {
    const GRACE: Duration = Duration::from_millis(500);
    let (site, green) = site("500ms", "0s").await?;
    let nodes = |state| directory(&[(state, site.upstream.address()), ("running", green.address())]);
    let (mut client, mut app) = tunnel(&site).await?;
    for state in ["draining", "running"] {
        site.gateway.publish(&nodes(state))?;
    }
    outlast(GRACE).await;
    client.send("still there").await?;
    ensure!(app.exactly(11).await? == b"still there");
    client.expect_silence()
}

#[tokio::test]
async fn the_word_waits_for_the_end_of_a_frame() -> Result<()> {
    let (site, green) = site("0s", "0s").await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let frame = [frame_head(0x82, 50_000, false), vec![b'x'; 50_000]].concat();
    let (before, after) = frame.split_at(20_000);
    app.send(before).await?;
    ensure!(client.exactly(before.len()).await? == before);
    site.gateway.publish(&directory(&[("running", green.address())]))?;
    ensure!(close_code(&mut app, true).await? == 1001);
    client.expect_silence()?;
    app.send(after).await?;
    ensure!(client.exactly(after.len()).await? == after, "the frame is broken");
    ensure!(close_code(&mut client, false).await? == 1001);
    Ok(())
}

#[tokio::test]
async fn an_upgrade_that_is_agreed_on_meanwhile_is_asked_to_leave_too() -> Result<()> {
    let (site, green) = site("0s", "0s").await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("GET /ws", ASK)).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    site.gateway.publish(&directory(&[("running", green.address())]))?;
    app.send(AGREE).await?;
    ensure!(client.head().await?.status() == 101);
    expect_goodbye(&mut client, &mut app).await
}

#[tokio::test]
async fn another_organisations_clusters_are_its_own_affair() -> Result<()> {
    let (site, green) = site("0s", "0s").await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let own = directory(&[("running", site.upstream.address())]);
    // Its node has the same address, and its cluster the same name.
    let other = directory(&[("draining", site.upstream.address()), ("running", green.address())]);
    let other = other.replace("\"acme\"", "\"other\"");
    site.gateway.publish(&(own.clone() + &other))?;
    let (mut second, mut second_app) = tunnel(&site).await?;
    site.gateway.publish(&own)?;
    for (client, app) in [(&mut client, &mut app), (&mut second, &mut second_app)] {
        client.send("still there").await?;
        ensure!(app.exactly(11).await? == b"still there");
    }
    Ok(())
}
