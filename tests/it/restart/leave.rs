//! SIGTERM, and a second signal.

use super::{CLIENTS, Crowd, installation, request};
use crate::harness::PATIENCE;
use crate::harness::installation::Serving;
use crate::harness::issuer::App;
use crate::harness::raw::{Upstream, Wire};
use crate::http::websocket::{AGREE, ASK, close_code};
use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

const WEBSOCKETS: usize = 1000;
/// How many are opened at once.
const TOGETHER: usize = 50;

/// An app that agrees to WebSockets and says nothing until they end.
fn silent_app(upstream: Upstream) {
    tokio::spawn(async move {
        while let Ok(mut app) = upstream.accept().await {
            tokio::spawn(async move {
                app.request().await?;
                app.send(AGREE).await?;
                app.rest().await
            });
        }
    });
}

async fn websocket(gateway: &Serving, request: &str) -> Result<Wire> {
    let mut client = Wire::connect(gateway.data).await?;
    client.send(request).await?;
    ensure!(client.head().await?.status() == 101);
    Ok(client)
}

/// When the WebSocket was asked to leave.
async fn asked_to_leave(mut client: Wire) -> Result<Instant> {
    ensure!(close_code(&mut client, false).await? == 1012);
    Ok(Instant::now())
}

/// A line of the log, by its message.
async fn line(gateway: &mut Serving, message: &str) -> Result<Value> {
    let line = gateway.wait_for_log(&format!(r#""message":"{message}""#)).await?;
    Ok(serde_json::from_str(&line)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_websockets_leave_one_after_the_other() -> Result<()> {
    let spread = Duration::from_secs(2);
    let upstream = Upstream::start()?;
    let settings = [("server.drain_timeout", "60s"), ("server.drain_spread", "2s"), ("log.level", "info")];
    let installation = installation(&format!("http://{}", upstream.address()), &settings)?;
    silent_app(upstream);
    let mut gateway = installation.serve().await?;
    let (request, mut clients) = (request(ASK)?, Vec::new());
    while clients.len() < WEBSOCKETS {
        clients.extend(try_join_all((0..TOGETHER).map(|_| websocket(&gateway, &request))).await?);
    }
    gateway.wait_for_metric("embedgate_tunnels_active", WEBSOCKETS as f64).await?;
    gateway.process.signal("TERM")?;
    let told = try_join_all(clients.into_iter().map(asked_to_leave)).await?;
    let (first, last) = (told.iter().min().context("none")?, told.iter().max().context("none")?);
    // A slow machine makes this longer, never shorter.
    ensure!(*last - *first > spread / 2, "all within {:?}", *last - *first);

    ensure!(gateway.process.wait(PATIENCE).await?.code() == Some(0));
    ensure!(line(&mut gateway, "draining").await?["tunnels"] == WEBSOCKETS);
    let stopped = line(&mut gateway, "stopped").await?;
    ensure!(stopped["tunnels"] == WEBSOCKETS && stopped["cut_connections"] == 0, "{stopped}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_connected_is_served() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = installation(&app.url(), &[("server.workers", "3")])?;
    // A few times, because the moment between a handshake and its acceptance is short.
    for _ in 0..5 {
        let gateway = installation.serve().await?;
        let crowd = Crowd::at(gateway.data)?;
        gateway.wait_for_metric(r#"embedgate_requests_total{route="app",code="200"}"#, 50.0).await?;
        gateway.stop().await?;
        let visits = crowd.all().await?;
        ensure!(visits.refused == CLIENTS, "{visits:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_signal_cuts_what_is_under_way() -> Result<()> {
    let upstream = Upstream::start()?;
    let settings = [("server.drain_timeout", "10m")];
    let installation = installation(&format!("http://{}", upstream.address()), &settings)?;
    let mut gateway = installation.serve().await?;
    let mut client = Wire::connect(gateway.data).await?;
    client.send(request("")?).await?;
    upstream.accept().await?.request().await?;
    gateway.process.signal("TERM")?;
    line(&mut gateway, "nothing more is accepted; what runs may end").await?;
    gateway.process.check_running()?;
    gateway.process.signal("INT")?;
    ensure!(gateway.process.wait(PATIENCE).await?.code() == Some(0));
    ensure!(line(&mut gateway, "stopped").await?["cut_connections"] == 1);
    client.rest().await.map(drop)
}
