//! Who waits before a limit, whose turn is next, and who need not wait any more.

use super::super::websocket::{AGREE, ASK, tunnel};
use super::super::{HOST, Site};
use super::{refusal, send};
use crate::harness::gateway::{Builder, org};
use crate::harness::h2;
use crate::harness::raw::{Upstream, Wire, ok};
use anyhow::{Context as _, Result, ensure};
use embedgate::model::access::{Bar, Subject};
use http::Method;

/// The app takes one request at a time.
const ONE: &str = "max_concurrent = 1\n";

/// The target of the next request on a connection of the upstream's.
async fn next(app: &mut Wire) -> Result<String> {
    Ok(app.request().await?.target().to_owned())
}

#[tokio::test]
async fn users_take_turns_and_each_gets_their_own_answer() -> Result<()> {
    let site = Site::of_app(ONE, &[]).await?;
    let (mut first, mut app) = site.join().await?;
    let mut waiting = Vec::new();
    for (user, target) in [("ann", "/a2"), ("ann", "/a3"), ("ann", "/a4"), ("bob", "/b1"), ("carl", "/c1")] {
        waiting.push((target, site.send_as(user, &format!("GET {target}"), "").await?));
        site.queued(waiting.len() as f64).await?;
    }
    app.send(ok("/a1")).await?;
    ensure!(first.answer().await?.text() == "/a1");
    for expected in ["/a2", "/b1", "/c1", "/a3", "/a4"] {
        let target = next(&mut app).await?;
        ensure!(target == expected, "{target} and not {expected}");
        site.upstream.expect_untouched().context("more than one at once")?;
        app.send(ok(&target)).await?;
        let client = waiting.iter_mut().find(|(known, _)| *known == target).context("nobody's")?;
        ensure!(client.1.answer().await?.text() == target);
    }
    site.queued(0.0).await?;
    let line = site.gateway.log_line(|line| line.contains("\"path\":\"/b1\"")).await?;
    ensure!(line.contains("\"queued_ms\":"), "{line}");
    site.gateway.expect_metric("embedgate_queued_seconds_count", 5.0).await
}

#[tokio::test]
async fn organisations_take_turns_before_the_limit_of_the_instance() -> Result<()> {
    let upstream = Upstream::start()?;
    let directory = org("noisy", &[("editor", upstream.address())]) + &org("quiet", &[("editor", upstream.address())]);
    let gateway = Builder::new(directory).set("limits.max_requests", "1").start().await?;
    let ask = async |org: &str, user: &str, target: &str| send(&gateway, org, user, &format!("GET {target}"), "").await;
    let mut first = ask("noisy", "ann", "/first").await?;
    let mut app = upstream.accept().await?;
    next(&mut app).await?;
    // Many users make a noisy organisation no larger.
    let mut waiting = Vec::new();
    for (org, user, target) in
        [("noisy", "a", "/1"), ("noisy", "b", "/2"), ("noisy", "c", "/3"), ("quiet", "q", "/4"), ("quiet", "q", "/5")]
    {
        waiting.push(ask(org, user, target).await?);
        gateway.expect_metric("embedgate_queued_requests", waiting.len() as f64).await?;
    }
    app.send(ok("first")).await?;
    first.answer().await?;
    drop(app);
    for expected in ["/1", "/4", "/2", "/5", "/3"] {
        let mut app = upstream.accept().await?;
        ensure!(next(&mut app).await? == expected, "not {expected}");
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
    }
    for client in &mut waiting {
        ensure!(client.answer().await?.status() == 200);
    }
    Ok(())
}

#[tokio::test]
async fn who_leaves_gives_the_place_up() -> Result<()> {
    let site = Site::of_app(ONE, &[]).await?;
    let (mut first, mut app) = site.join().await?;
    let gone = site.send_as("ann", "GET /gone", "").await?;
    site.queued(1.0).await?;
    let mut stays = site.send_as("ann", "GET /stays", "").await?;
    site.queued(2.0).await?;
    gone.reset()?;
    site.queued(1.0).await?;
    let line = site.gateway.log_line(|line| line.contains("\"path\":\"/gone\"")).await?;
    ensure!(line.contains("\"status\":499") && line.contains("\"cut_by\":\"client\""), "{line}");
    app.send(ok("first")).await?;
    first.answer().await?;
    ensure!(next(&mut app).await? == "/stays");
    app.send(ok("stays")).await?;
    ensure!(stays.answer().await?.text() == "stays");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_reset_gives_the_place_up() -> Result<()> {
    let site = Site::of_app(ONE, &[]).await?;
    let (mut first, mut app) = site.join().await?;
    let (mut client, driver) = h2::connect(site.gateway.address).await?;
    let ask =
        || h2::request(Method::GET, HOST, "/h2").header("authorization", format!("Bearer {}", site.token)).body(());
    let (_one, _two) = (client.begin(ask()?, true).await?, client.begin(ask()?, true).await?);
    site.queued(2.0).await?;
    driver.cut();
    site.queued(0.0).await?;
    app.send(ok("first")).await?;
    first.answer().await?;
    // Nobody has kept a permit.
    let mut last = site.send_as("ann", "GET /last", "").await?;
    ensure!(next(&mut app).await? == "/last");
    app.send(ok("last")).await?;
    ensure!(last.answer().await?.text() == "last");
    Ok(())
}

#[tokio::test]
async fn who_loses_access_waits_no_longer() -> Result<()> {
    let site = Site::of_app(ONE, &[]).await?;
    let _joined = site.join().await?;
    let mut bob = site.send_as("bob", "GET /", "").await?;
    site.queued(1.0).await?;
    site.gateway.put_up(Bar::Revoked(Subject::User("bob".into())))?;
    let answer = bob.answer().await?;
    ensure!(answer.status() == 401, "{answer:?}");
    site.queued(0.0).await
}

#[tokio::test]
async fn a_full_queue_and_too_long_a_wait_are_told_apart() -> Result<()> {
    let site = Site::of_app(ONE, &[("queue.length", "1")]).await?;
    let _joined = site.join().await?;
    let _waits = site.send_as("ann", "GET /", "").await?;
    site.queued(1.0).await?;
    for user in ["ann", "bob"] {
        let refused = site.send_as(user, "GET /", "").await?.answer().await?;
        ensure!(refusal(&refused, 503, "queue_full")? > 0);
    }
    for key in ["queue.per_org", "queue.total"] {
        let none = Site::of_app(ONE, &[(key, "0")]).await?;
        let _joined = none.join().await?;
        refusal(&none.send_as("ann", "GET /", "").await?.answer().await?, 503, "queue_full")?;
        none.gateway.log_line(|line| line.contains(&format!("{key} is reached"))).await?;
    }

    let short = [("queue.max_time_api", "\"50ms\""), ("queue.max_time_page", "\"51ms\"")];
    let short = Site::of_app(ONE, &short).await?;
    let _joined = short.join().await?;
    ensure!(refusal(&short.send_as("ann", "GET /", "").await?.answer().await?, 503, "queue_timeout")? > 0);
    let page = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let page = short.send_as("ann", "GET /", page).await?.answer().await?;
    ensure!(page.status() == 503 && page.text().contains("Busy") && page.has("Retry-After"), "{page:?}");
    short.queued(0.0).await
}

#[tokio::test]
async fn websockets_wait_like_others_and_keep_their_permit() -> Result<()> {
    let site = Site::of_app(ONE, &[]).await?;
    let (client, app) = tunnel(&site).await?;
    let mut second = site.send_as("bob", "GET /ws", ASK).await?;
    site.queued(1.0).await?;
    site.upstream.expect_untouched()?;
    client.reset()?;
    drop(app);
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send(AGREE).await?;
    ensure!(second.head().await?.status() == 101);
    Ok(())
}

#[tokio::test]
async fn a_limit_that_is_lifted_lets_everybody_in() -> Result<()> {
    let site = Site::of_app(ONE, &[]).await?;
    let _joined = site.join().await?;
    let _one = site.send_as("ann", "GET /one", "").await?;
    site.queued(1.0).await?;
    site.gateway.publish(&org("acme", &[("editor", site.upstream.address())]))?;
    let _two = site.send_as("bob", "GET /two", "").await?;
    let mut targets = Vec::new();
    for _ in 0..2 {
        targets.push(next(&mut site.upstream.accept().await?).await?);
    }
    targets.sort_unstable();
    ensure!(targets == ["/one", "/two"], "{targets:?}");
    site.queued(0.0).await
}
