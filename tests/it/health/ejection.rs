//! A node that fails is taken out of use for a while, and comes back when it works again. What users get wrong, and clients
//! that leave, are no failures of a node.

use super::{HOST, Site, accept, directory, plain, status};
use crate::harness::installation::{self, Installation, KEY, LOCAL};
use crate::harness::raw::{Absent, Upstream, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

const EJECTIONS: &str = "embedgate_node_ejections_total{reason=\"consecutive_failures\"}";
/// Long enough that nothing comes back within a test.
const LONG: (&str, &str) = ("upstreams.health.ejection_time", "10m");

impl Site {
    /// Asks until a metric has moved; every request is to be answered with 200.
    async fn expect_good_until(&self, metric: &str, value: f64) -> Result<()> {
        let reached = until(PATIENCE, async || {
            self.expect_good(1).await?;
            Ok((self.gateway.metric(metric).await? >= value - 0.5).then_some(()))
        });
        reached.await?.with_context(|| format!("{metric} does not reach {value}"))
    }
}

#[tokio::test]
async fn a_node_that_refuses_costs_no_request_is_taken_out_and_comes_back() -> Result<()> {
    let (absent, good) = (Absent::new()?, Upstream::start()?);
    let short = ("upstreams.health.ejection_time", "100ms");
    let site = Site::open(&[absent.address()?, good.address()], &[short]).await?;
    let _good = good.answering(|_| ok("good"));
    site.expect_good_until(EJECTIONS, 1.0).await?;
    site.gateway.expect_metric("embedgate_nodes_ejected", 1.0).await?;
    // It is tried again and again, which nobody notices.
    site.expect_good_until("embedgate_node_ejections_total{reason=\"failed_trial\"}", 1.0).await?;
    let back = absent.arrive()?.answering(|_| ok("back"));
    let asked = until(PATIENCE, async || {
        site.expect_good(1).await?;
        Ok((!back.seen().is_empty()).then_some(()))
    });
    asked.await?.context("it is never asked again")?;
    site.gateway.expect_metric("embedgate_nodes_ejected", 0.0).await
}

#[tokio::test]
async fn while_it_is_out_nothing_is_sent_there() -> Result<()> {
    for code in [502, 503, 504] {
        let (bad, good) = (Upstream::start()?, Upstream::start()?);
        let site = Site::open(&[bad.address(), good.address()], &[LONG]).await?;
        let (bad, _good) = (bad.answering(move |_| status(code)), good.answering(|_| ok("good")));
        let mut told = 0;
        while site.gateway.metric(EJECTIONS).await? < 0.5 {
            told += usize::from(site.get("/").await?.status() == code);
        }
        ensure!(told == 5, "{told} answers {code} took it out");
        site.expect_good(20).await?;
        ensure!(bad.seen().len() == 5);
    }
    Ok(())
}

#[tokio::test]
async fn a_node_that_falls_silent_or_breaks_off_is_taken_out() -> Result<()> {
    for is_silent in [true, false] {
        let (bad, good) = (Upstream::start()?, Upstream::start()?);
        let settings = [LONG, ("upstreams.first_byte_timeout", "100ms")];
        let site = Site::open(&[bad.address(), good.address()], &settings).await?;
        let _good = good.answering(|_| ok("good"));
        // What is no answer ends the connection too.
        let _bad = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok(mut wire) = bad.accept().await {
                let _ = wire.request().await;
                kept.extend(is_silent.then_some(wire));
            }
        });
        site.expect_good_until(EJECTIONS, 1.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_share_of_failures_takes_it_out_too() -> Result<()> {
    let (bad, good) = (Upstream::start()?, Upstream::start()?);
    let settings = [LONG, ("upstreams.health.consecutive_failures", "0"), ("upstreams.health.failure_requests", "4")];
    let site = Site::open(&[bad.address(), good.address()], &settings).await?;
    let _bad = bad.answering(|request| if request.target() == "/odd" { status(503) } else { ok("even") });
    let _good = good.answering(|_| ok("good"));
    while site.gateway.metric("embedgate_node_ejections_total{reason=\"failure_share\"}").await? < 0.5 {
        for target in ["/odd", "/even"] {
            site.get(target).await?;
        }
    }
    site.expect_good(1).await
}

#[tokio::test]
async fn answers_that_are_no_failures_keep_it_in_use() -> Result<()> {
    for code in [400, 401, 403, 404, 429, 500, 501, 505] {
        let (one, two) = (Upstream::start()?, Upstream::start()?);
        let site = Site::open(&[one.address(), two.address()], &[LONG]).await?;
        let (one, two) = (one.answering(move |_| status(code)), two.answering(move |_| status(code)));
        for _ in 0..24 {
            ensure!(site.get("/").await?.status() == code);
        }
        let (one, two) = (one.seen().len(), two.seen().len());
        ensure!(one > 0 && two > 0 && one + two == 24, "{one} and {two}");
        site.gateway.expect_metric(EJECTIONS, 0.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_apps_500_counts_where_it_is_told_to_and_a_warehouses_never_does() -> Result<()> {
    for (host, line, is_app) in [(HOST, "GET /", true), ("localhost", "POST /api/2.0/sql/statements", false)] {
        let (one, two) = (Upstream::start()?, Upstream::start()?);
        let (bad, good) = (plain(one.address()), plain(two.address()));
        let warehouse = "[[org.warehouse]]\nid = \"wh1\"\n";
        let cluster =
            format!("[[org.warehouse.cluster]]\nid = \"c\"\nstate = \"running\"\nnodes = [{bad:?}, {good:?}]\n");
        let directory = directory(&[bad, good], "").replacen(warehouse, &format!("{warehouse}{cluster}"), 1);
        let site = Site::of(&directory, &[LONG, ("upstreams.health.count_500", "true")]).await?;
        let (bad, _good) = (one.answering(|_| status(500)), two.answering(|_| ok("good")));
        let body = r#"{"warehouse_id":"wh1","statement":"selct 1"}"#;
        let framing = if is_app { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = site.head_at(host, line, &framing) + if is_app { "" } else { body };
        for _ in 0..30 {
            let answer = site.answer(&request).await?;
            ensure!(matches!(answer.status(), 200 | 500), "{answer:?}");
        }
        site.gateway.expect_metric(EJECTIONS, if is_app { 1.0 } else { 0.0 }).await.context(line)?;
        ensure!((bad.seen().len() == 5) == is_app, "{} of 30 requests", bad.seen().len());
    }
    Ok(())
}

#[tokio::test]
async fn clients_that_leave_say_nothing_of_a_node() -> Result<()> {
    let (one, two) = (Upstream::start()?, Upstream::start()?);
    let site = Site::open(&[one.address(), two.address()], &[LONG]).await?;
    for _ in 0..16 {
        let client = site.ask(site.head("GET /", "")).await?;
        let (mut app, ..) = accept(&one, &two).await?;
        app.request().await?;
        drop(client);
        app.expect_end().await?;
    }
    site.gateway.expect_metric(EJECTIONS, 0.0).await
}

#[tokio::test]
async fn the_only_node_and_all_of_them_stay_in_use() -> Result<()> {
    for count in [1, 2, 3] {
        let nodes = (0..count).map(|_| Upstream::start()).collect::<Result<Vec<_>>>()?;
        let addresses: Vec<_> = nodes.iter().map(Upstream::address).collect();
        let site = Site::open(&addresses, &[LONG]).await?;
        let _nodes: Vec<_> = nodes.into_iter().map(|node| node.answering(|_| status(503))).collect();
        for _ in 0..20 * count {
            let answer = site.get("/").await?;
            ensure!(answer.status() == 503 && answer.text() == "short", "not the app's own answer: {answer:?}");
        }
        if count == 1 {
            site.gateway.expect_metric(EJECTIONS, 0.0).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_log_says_whose_it_is_why_and_for_how_long() -> Result<()> {
    let (absent, good) = (Absent::new()?, Upstream::start()?);
    let [bad_node, good_node] = [absent.address()?, good.address()].map(plain);
    let _good = good.answering(|_| ok("good"));
    let cluster =
        format!("[[org.app.cluster]]\nid = \"blue\"\nstate = \"running\"\nnodes = [{bad_node:?}, {good_node:?}]\n");
    let config = format!("{LOCAL}[upstreams.health]\nejection_time = \"10m\"\nmax_ejection_time = \"10m\"\n");
    let installation = Installation::new(&config, &(installation::org("acme", &good_node) + &cluster))?;
    let mut serving = installation.serve().await?;
    let session = installation::session(KEY, "acme", None, 0)?;
    let metric = "embedgate_node_ejections_total{reason=\"consecutive_failures\"}";
    while serving.metric(metric).await? < 0.5 {
        ensure!(serving.get("/app-proxy/studio/", &session).await?.status == 200);
    }
    let line = serving.wait_for_log("\"message\":\"node is out of use\"").await?;
    let line: Value = serde_json::from_str(&line)?;
    let said = ["level", "org", "upstream", "cluster", "node", "reason"].map(|key| line[key].clone());
    ensure!(
        said == ["WARN", "acme", "studio", "blue", &bad_node, "consecutive_failures"].map(|one| json!(one)),
        "{line}"
    );
    // Up to a fifth less than it is configured to be.
    ensure!(line["seconds"].as_f64().is_some_and(|seconds| (480.0..=600.0).contains(&seconds)), "{line}");
    ensure!(line["last"].as_str().is_some_and(|last| last.contains("refused")), "{line}");
    serving.stop().await?;
    Ok(())
}
