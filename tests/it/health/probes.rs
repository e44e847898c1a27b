//! Probes find a node that does not work before a request does.

use super::{Site, directory, plain, status};
use crate::harness::raw::{Absent, Answering, Upstream, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const HTTP: &str =
    "health = { kind = \"http\", path = \"/healthz?deep=1\", interval = \"100ms\", expect = \"200,401\" }";
const TCP: &str = "health = { kind = \"tcp\", interval = \"100ms\" }";
const DEAD: &str = "embedgate_nodes_dead";

/// A node that is well as long as the switch says so, and answers requests all the same.
fn switched(node: Upstream, is_well: &Arc<AtomicBool>) -> Answering {
    let is_well = Arc::clone(is_well);
    node.answering(move |request| match request.target() {
        "/healthz?deep=1" if is_well.load(Ordering::Relaxed) => status(401),
        "/healthz?deep=1" => status(503),
        _ => ok("answer"),
    })
}

/// Requests that are no probes.
fn asked(node: &Answering) -> usize {
    node.seen().iter().filter(|request| !request.target().starts_with("/healthz")).count()
}

#[tokio::test]
async fn a_node_that_says_it_is_not_well_gets_nothing_until_it_is() -> Result<()> {
    let (one, two) = (Upstream::start()?, Upstream::start()?);
    let directory = directory(&[plain(one.address()), plain(two.address())], HTTP);
    let (is_well, always) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let (one, _two) = (switched(one, &is_well), switched(two, &always));
    let site = Site::of(&directory, &[]).await?;
    site.gateway.expect_metric(DEAD, 1.0).await?;
    let before = asked(&one);
    site.expect_good(20).await?;
    ensure!(asked(&one) == before);
    is_well.store(true, Ordering::Relaxed);
    site.gateway.expect_metric(DEAD, 0.0).await?;
    let used = until(PATIENCE, async || {
        site.expect_good(1).await?;
        Ok((asked(&one) > before).then_some(()))
    });
    used.await?.context("it is not used again")?;
    ensure!(site.gateway.metric("embedgate_probes_total{result=\"bad\"}").await? > 2.5);
    ensure!(site.gateway.metric("embedgate_probes_total{result=\"good\"}").await? > 2.5);
    // A probe is nobody's: it shows no credential and names no user.
    for probe in one.seen().iter().filter(|request| request.target().starts_with("/healthz")) {
        let told: Vec<_> = probe.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        ensure!(told == ["host", "user-agent"] || told == ["user-agent", "host"], "{probe:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_node_that_takes_no_connection_is_found_without_a_request() -> Result<()> {
    let (absent, good) = (Absent::new()?, Upstream::start()?);
    let site = Site::of(&directory(&[plain(absent.address()?), plain(good.address())], TCP), &[]).await?;
    let _good = good.answering(|_| ok("good"));
    site.gateway.expect_metric(DEAD, 1.0).await?;
    site.expect_good(20).await?;
    site.gateway.expect_metric("embedgate_node_retries_total", 0.0).await?;
    let back = absent.arrive()?.answering(|_| ok("back"));
    site.gateway.expect_metric(DEAD, 0.0).await?;
    let used = until(PATIENCE, async || {
        site.expect_good(1).await?;
        Ok((!back.seen().is_empty()).then_some(()))
    });
    used.await?.context("it is not used again")
}

#[tokio::test]
async fn the_only_node_is_used_whatever_its_probes_say() -> Result<()> {
    let node = Upstream::start()?;
    let site = Site::of(&directory(&[plain(node.address())], HTTP), &[]).await?;
    let _node = switched(node, &Arc::default());
    site.gateway.expect_metric(DEAD, 1.0).await?;
    site.expect_good(5).await
}

#[tokio::test]
async fn probing_follows_the_directory() -> Result<()> {
    let (one, two) = (Upstream::start()?, Upstream::start()?);
    let nodes = [plain(one.address()), plain(two.address())];
    let (one, _two) = (switched(one, &Arc::default()), switched(two, &Arc::new(AtomicBool::new(true))));
    let site = Site::of(&directory(&nodes, ""), &[]).await?;
    site.expect_good(3).await?;
    site.gateway.expect_metric("embedgate_probes_total{result=\"good\"}", 0.0).await?;
    site.gateway.publish(&directory(&nodes, HTTP))?;
    site.gateway.expect_metric(DEAD, 1.0).await?;
    // A stopped cluster's nodes are left alone, and forgotten.
    let stopped = directory(&nodes[1..], HTTP)
        + &format!("[[org.app.cluster]]\nid = \"off\"\nstate = \"stopped\"\nnodes = [{:?}]\n", nodes[0]);
    site.gateway.publish(&stopped)?;
    site.gateway.expect_metric(DEAD, 0.0).await?;
    site.gateway.publish(&directory(&nodes, HTTP))?;
    site.gateway.expect_metric(DEAD, 1.0).await?;
    // Whom nobody probes is as good as any.
    site.gateway.publish(&directory(&nodes, ""))?;
    site.gateway.expect_metric(DEAD, 0.0).await?;
    let before = asked(&one);
    let used = until(PATIENCE, async || {
        site.expect_good(1).await?;
        Ok((asked(&one) > before).then_some(()))
    });
    used.await?.context("it is not used again")
}

#[tokio::test]
async fn many_nodes_are_probed_a_few_at_a_time() -> Result<()> {
    let nodes = (0..6).map(|_| Upstream::start()).collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = nodes.iter().map(|node| plain(node.address())).collect();
    let keys = "health = { kind = \"http\", path = \"/\", interval = \"100ms\", timeout = \"10m\" }";
    let site = Site::of(&directory(&names, keys), &[("upstreams.health.max_probes", "2")]).await?;
    // Two have come to a node and wait; nobody else follows until they are answered.
    let mut wires = Vec::new();
    for _ in 0..2 {
        wires.push(tokio::select! {
            wire = nodes[0].accept() => wire?, wire = nodes[1].accept() => wire?, wire = nodes[2].accept() => wire?,
            wire = nodes[3].accept() => wire?, wire = nodes[4].accept() => wire?, wire = nodes[5].accept() => wire?,
        });
    }
    crate::harness::gateway::outlast(std::time::Duration::from_millis(200)).await;
    nodes.iter().try_for_each(Upstream::expect_untouched)?;
    drop(wires);
    site.gateway.expect_metric("embedgate_probes_total{result=\"bad\"}", 2.0).await
}
