//! One process takes over the listening sockets of another (`server.handover`).

use super::{Crowd, installation, request};
use crate::harness::PATIENCE;
use crate::harness::ask::{ask, get};
use crate::harness::installation::{Installation, Serving};
use crate::harness::issuer::App;
use crate::harness::process::Process;
use crate::harness::raw::{Upstream, Wire, ok};
use crate::http::websocket::{AGREE, ASK, close_code};
use anyhow::{Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

const HANDOVER: (&str, &str) = ("server.handover", "handover.sock");
const SERVED: &str = r#"embedgate_requests_total{route="app",code="200"}"#;

/// Waits until the program has ended as if it had been asked to.
async fn ended(mut gateway: Serving) -> Result<String> {
    let status = gateway.process.wait(PATIENCE).await?;
    ensure!(status.code() == Some(0), "{status}:\n{}", gateway.process.output());
    Ok(gateway.process.output())
}

/// An error unless many who come are all served, whichever socket they come to.
async fn expect_service(gateway: &Serving) -> Result<()> {
    for _ in 0..30 {
        let mut client = Wire::connect(gateway.data).await?;
        client.send(request("")?).await?;
        let answer = client.answer().await?;
        ensure!(answer.status() == 200 && answer.text() == "welcome", "{answer:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_another_process_takes_over() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = installation(&app.url(), &[HANDOVER])?;
    let mut gateway = installation.serve().await?;
    let (data, admin) = (gateway.data, gateway.admin);
    let crowd = Crowd::at(data)?;
    for _ in 0..4 {
        gateway.wait_for_metric(SERVED, 50.0).await?;
        let next = installation.serve().await?;
        ensure!((next.data, next.admin) == (data, admin));
        ended(std::mem::replace(&mut gateway, next)).await?;
    }
    gateway.wait_for_metric(SERVED, 50.0).await?;
    let visits = crowd.back().await?;
    ensure!(visits.refused == 0 && visits.served >= 250, "{visits:?}");
    gateway.stop().await.map(drop)
}

#[tokio::test]
async fn what_runs_on_the_old_one_ends_there() -> Result<()> {
    let app = Upstream::start()?;
    let settings = [HANDOVER, ("server.drain_timeout", "60s"), ("server.drain_spread", "0s")];
    let installation = installation(&format!("http://{}", app.address()), &settings)?;
    let old = installation.serve().await?;
    let (mut waiting, mut websocket) = (Wire::connect(old.data).await?, Wire::connect(old.data).await?);
    waiting.send(request("")?).await?;
    let mut asked = app.accept().await?;
    asked.request().await?;
    websocket.send(request(ASK)?).await?;
    let mut agreed = app.accept().await?;
    agreed.request().await?;
    agreed.send(AGREE).await?;
    ensure!(websocket.head().await?.status() == 101);

    let new = installation.serve().await?;
    ensure!(close_code(&mut websocket, false).await? == 1012);
    drop((websocket, agreed));
    asked.send(ok("at last")).await?;
    let answer = waiting.answer().await?;
    ensure!(answer.text() == "at last" && answer.field("Connection") == Some("close"), "{answer:?}");
    waiting.expect_end().await?;
    let log = ended(old).await?;
    ensure!(log.contains("another process serves on the listening sockets") && !log.contains("ERROR"), "{log}");
    let ready = ask(new.admin, get("/readyz", "")).await?;
    ensure!((ready.status, ready.body.as_str()) == (200, "ready\n"));
    new.stop().await.map(drop)
}

#[tokio::test]
async fn connections_of_the_old_one_end_with_an_answer() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = installation(&app.url(), &[HANDOVER, ("server.drain_delay", "10m")])?;
    let mut old = installation.serve().await?;
    let mut client = Wire::connect(old.data).await?;
    client.send(request("")?).await?;
    ensure!(!client.answer().await?.has("Connection"));
    let mut new = installation.serve().await?;
    old.wait_for_log("draining").await?;
    client.expect_silence()?;
    client.send(request("")?).await?;
    let answer = client.answer().await?;
    ensure!(answer.text() == "welcome" && answer.field("Connection") == Some("close"), "{answer:?}");
    client.expect_end().await?;
    // Now it is told for the second time to leave.
    old.stop().await?;
    new.process.signal("TERM")?;
    new.wait_for_log("draining").await?;
    new.stop().await.map(drop)
}

#[tokio::test]
async fn every_socket_is_read_whatever_the_number_of_workers() -> Result<()> {
    let app = App::start("welcome").await?;
    let mut installation = installation(&app.url(), &[HANDOVER])?;
    let mut gateway = installation.serve().await?;
    for workers in ["1", "5", "2"] {
        installation.set("EMBEDGATE__SERVER__WORKERS", workers);
        let mut next = installation.serve().await?;
        // As many as the sockets that the first one has opened.
        if workers != "2" {
            next.wait_for_log("workers share sockets, or have several").await?;
        }
        ended(std::mem::replace(&mut gateway, next)).await?;
        expect_service(&gateway).await?;
    }
    gateway.stop().await.map(drop)
}

/// A process that takes the sockets and is never ready, because its database is not there.
fn without_database(installation: &Installation) -> Result<Process> {
    let text = fs::read_to_string(installation.path("embedgate.toml"))?;
    let database = "[directory]\nsource = \"postgres\"\n[directory.postgres]\nurl = \"postgres://x@127.0.0.1:1/x\"\n";
    installation.write("waiting.toml", &format!("{text}{database}"))?;
    Process::spawn("embedgate", installation.command(&["serve", "--config", "waiting.toml"]))
}

#[tokio::test]
async fn who_fails_to_take_over_changes_nothing() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = installation(&app.url(), &[HANDOVER])?;
    let mut old = installation.serve().await?;

    let config = fs::read_to_string(installation.path("embedgate.toml"))?;
    installation.write("bad.toml", &config.replace("drain_timeout", "drain_timeoud"))?;
    let failed = installation.run(&["serve", "--config", "bad.toml"]).await?;
    ensure!(failed.code == Some(2), "{failed:?}");
    installation.write("elsewhere.toml", &config.replacen("127.0.0.1:0", "127.0.0.1:1", 1))?;
    let failed = installation.run(&["serve", "--config", "elsewhere.toml"]).await?;
    ensure!(failed.code == Some(2) && failed.stderr.contains(&format!("listens on {}", old.data)), "{failed:?}");
    old.wait_for_log("nobody takes over; this gateway serves on").await?;
    expect_service(&old).await?;

    let mut waiting = without_database(&installation)?;
    old.wait_for_log("another process has the listening sockets too").await?;
    expect_service(&old).await?;
    waiting.end_by("KILL", PATIENCE).await?;
    expect_service(&old).await?;

    let new = installation.serve().await?;
    ended(old).await?;
    expect_service(&new).await?;
    new.stop().await.map(drop)
}

#[tokio::test]
async fn one_that_still_waits_takes_over_when_the_running_one_ends() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = installation(&app.url(), &[HANDOVER])?;
    let mut old = installation.serve().await?;
    let waiting = without_database(&installation)?;
    old.wait_for_log("another process has the listening sockets too").await?;
    let data = old.data;
    old.stop().await?;
    let mut waiting = Serving::of(waiting).await?;
    ensure!(waiting.data == data);
    waiting.wait_for_log("the running gateway has ended before this one has a directory").await?;
    waiting.stop().await.map(drop)
}

#[tokio::test]
async fn who_speaks_otherwise_gives_and_gets_nothing() -> Result<()> {
    let installation = installation("http://127.0.0.1:1", &[HANDOVER])?;
    let path = installation.path("handover.sock");
    let stranger = UnixListener::bind(&path)?;
    let mut refused = Process::spawn("embedgate", installation.command(&["serve", "--config", "embedgate.toml"]))?;
    let mut asking = timeout(PATIENCE, stranger.accept()).await??.0;
    asking.write_all(b"good evening").await?;
    ensure!(refused.wait(PATIENCE).await?.code() == Some(1), "{}", refused.output());
    ensure!(refused.output().contains("hands nothing over"), "{}", refused.output());
    drop((stranger, asking));

    // A stale socket now.
    let mut gateway = installation.serve().await?;
    let mut asking = UnixStream::connect(&path).await?;
    asking.write_all(&[b'x'; 100]).await?;
    let mut got = Vec::new();
    // Closed with bytes unread, it may be reset as well.
    let _ = timeout(PATIENCE, asking.read_to_end(&mut got)).await?;
    ensure!(got.is_empty(), "{got:?}");
    gateway.wait_for_log("a process of another version asks for the sockets").await?;
    gateway.stop().await.map(drop)
}

#[tokio::test]
async fn the_path_is_for_the_owner_and_outlives_nobody() -> Result<()> {
    let installation = installation("http://127.0.0.1:1", &[HANDOVER])?;
    let path = installation.path("handover.sock");
    let gateway = installation.serve().await?;
    ensure!(fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600);
    gateway.stop().await?;
    ensure!(!path.exists(), "the socket is still there");

    let mut killed = installation.serve().await?;
    killed.process.end_by("KILL", PATIENCE).await?;
    ensure!(path.exists());
    installation.serve().await?.stop().await?;
    ensure!(!path.exists(), "the socket is still there");

    installation.write("handover.sock", "a file of somebody's")?;
    let refused = installation.run(&["serve", "--config", "embedgate.toml"]).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("exists and is no socket"), "{refused:?}");
    ensure!(fs::read_to_string(&path)? == "a file of somebody's");
    Ok(())
}
