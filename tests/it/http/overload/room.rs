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
        wire.send(&head).await?;
        let answer = wire.answer().await?;
        Ok((answer.status() == 200).then_some(answer))
    };
    let answer = until(PATIENCE, again).await?.context("it never recovers")?;
    ensure!(answer.text() == "again", "{answer:?}");
    serving.stop().await?;
    Ok(())
}
