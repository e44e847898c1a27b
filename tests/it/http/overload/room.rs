//! What the process may use: memory and file descriptors.

use super::super::Site;
use super::refusal;
use crate::harness::installation::{self, Installation, KEY, LOCAL};
use crate::harness::raw::{Upstream, Wire, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};

#[tokio::test]
async fn short_of_memory_nothing_new_begins() -> Result<()> {
    // Less than the program itself needs.
    let site = Site::with(&[("limits.memory", "1000000")]).await?;
    let full = async || {
        let more = site.gateway.metric("embedgate_memory_bytes").await?;
        Ok((more > site.gateway.metric("embedgate_memory_limit_bytes").await?).then_some(()))
    };
    until(PATIENCE, full).await?.context("memory is not measured")?;
    let refused = site.refused(site.get("/")).await?;
    ensure!(refusal(&refused, 503, "overloaded")? > 0);
    let line = site.gateway.log_line(|line| line.contains("\"reject\":\"overloaded\"")).await?;
    ensure!(line.contains("memory is near limits.memory"), "{line}");
    site.gateway.expect_metric("embedgate_shed_total{scarce=\"memory\"}", 1.0).await?;
    // Who looks after it still gets answers.
    ensure!(site.gateway.admin("/readyz").await?.status() == 200);
    Ok(())
}

#[tokio::test]
async fn what_runs_goes_on_when_memory_runs_short() -> Result<()> {
    const ROOM: u64 = 24 * 1024 * 1024;
    let upstream = Upstream::start()?;
    let directory = installation::org("acme", &format!("http://{}", upstream.address()));
    let idle = Installation::new(LOCAL, &directory)?.serve().await?;
    idle.wait_for_metric("embedgate_memory_bytes", 1.0).await?;
    let needed = idle.count("embedgate_memory_bytes").await?;
    idle.stop().await?;

    let installation = Installation::new(&format!("{LOCAL}[limits]\nmemory = {}\n", needed + ROOM), &directory)?;
    let serving = installation.serve().await?;
    let session = installation::session(KEY, "acme", None, 0)?;
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {session}\r\n");
    let mut stream = Wire::connect(serving.data).await?;
    stream.send(head("GET /app-proxy/studio/") + "\r\n").await?;
    let mut app = upstream.accept().await?;
    app.request().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await?;
    ensure!(stream.head().await?.status() == 200);

    // Statements are held until they are whole, and these never are.
    let mut unfinished = Vec::new();
    for _ in 0..3 {
        let mut client = Wire::connect(serving.data).await?;
        let length = 16 * 1024 * 1024;
        client.send(head("POST /api/2.0/sql/statements") + &format!("Content-Length: {length}\r\n\r\n")).await?;
        client.send(vec![b' '; length - 1]).await?;
        unfinished.push(client);
    }
    let request = head("GET /app-proxy/studio/new") + "\r\n";
    serving.wait_for_metric("embedgate_memory_bytes", (needed + ROOM) as f64).await?;
    let refused = async || {
        let mut client = Wire::connect(serving.data).await?;
        client.send(&request).await?;
        // Before it is measured, it arrives.
        let answer = tokio::select! {
            answer = client.answer() => answer?,
            app = upstream.accept() => { app?.send(ok("early")).await?; return Ok(None) }
        };
        Ok((answer.status() == 503).then_some(answer))
    };
    let refused = until(PATIENCE, refused).await?.context("nothing is refused")?;
    ensure!(refusal(&refused, 503, "overloaded")? > 0);
    app.send("world").await?;
    ensure!(stream.exactly(10).await? == b"helloworld");
    drop(unfinished);
    serving.stop().await?;
    Ok(())
}

#[tokio::test]
async fn out_of_files_operators_are_answered_and_what_runs_goes_on() -> Result<()> {
    let upstream = Upstream::start()?;
    let app = format!("http://{}", upstream.address());
    // More connections than there are files for.
    let config = format!("{LOCAL}\n[limits]\nmax_connections = 100000\n");
    let installation = Installation::new(&config, &installation::org("acme", &app))?;
    let serving = installation.serve_with_files(256).await?;
    let session = installation::session(KEY, "acme", None, 0)?;
    let head = format!("GET /app-proxy/studio/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {session}\r\n\r\n");
    let mut first = Wire::connect(serving.data).await?;
    first.send(&head).await?;
    let mut runs = upstream.accept().await?;
    runs.request().await?;

    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(Wire::connect(serving.data).await?);
    }
    serving.wait_for_metric("embedgate_connections_active", 100.0).await?;
    ensure!(serving.metric("embedgate_open_files_limit").await? < 256.0);
    runs.send(ok("to the end")).await?;
    ensure!(first.answer().await?.text() == "to the end");
    drop((crowd, first, runs));

    let _app = upstream.answering(|_| ok("again"));
    let again = async || {
        let mut wire = Wire::connect(serving.data).await?;
        // While files are short, connections are closed without a word.
        let asked = async {
            wire.send(&head).await?;
            wire.answer().await
        };
        Ok(asked.await.ok().filter(|answer| answer.status() == 200))
    };
    let answer = until(PATIENCE, again).await?.context("it never recovers")?;
    ensure!(answer.text() == "again", "{answer:?}");
    serving.stop().await?;
    Ok(())
}
