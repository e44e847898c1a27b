//! One prober for a fleet: a node is asked by one instance, and all do as it finds. Gateways over one Postgres.

use super::access::Fleet;
use super::{Gateway, organisation};
use crate::harness::raw::{Answering, Upstream, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DEAD: &str = "embedgate_nodes_dead";
const PROBER: &str = "embedgate_prober";

/// The fleet, whose app has two nodes: one that is well when the switch says so, and one that always is.
struct Site {
    fleet: Fleet,
    token: String,
    is_well: Arc<AtomicBool>,
    weak: Answering,
    good: Answering,
}

fn answering(node: Upstream, is_well: &Arc<AtomicBool>) -> Answering {
    let is_well = Arc::clone(is_well);
    node.answering(move |request| match request.target() {
        "/healthz" if !is_well.load(Ordering::Relaxed) => {
            b"HTTP/1.1 503 Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
        }
        _ => ok("answer"),
    })
}

/// How many requests came to a node that are probes, or that are none.
fn asked(node: &Answering, by_probes: bool) -> u64 {
    node.seen().iter().filter(|request| (request.target() == "/healthz") == by_probes).count() as u64
}

/// How many probes an instance says it has made.
async fn probes(gateway: &Gateway) -> Result<u64> {
    let good = gateway.metric("embedgate_probes_total{result=\"good\"}").await?;
    Ok(good + gateway.metric("embedgate_probes_total{result=\"bad\"}").await?)
}

impl Site {
    async fn start(expiry: &str) -> Result<Self> {
        let (weak, good) = (Upstream::start()?, Upstream::start()?);
        let app = format!(
            "health = {{ kind = 'http', path = '/healthz', interval = '100ms' }}\n[[org.app.cluster]]\nid = 'blue'\n\
             state = 'running'\nnodes = ['http://{}', 'http://{}']\n",
            weak.address(),
            good.address()
        );
        let directory = organisation("acme", "http://127.0.0.1:1");
        let directory = directory.replace("[[org.warehouse]]", &format!("{app}[[org.warehouse]]"));
        let (is_well, always) = (Arc::<AtomicBool>::default(), Arc::new(AtomicBool::new(true)));
        let (weak, good) = (answering(weak, &is_well), answering(good, &always));
        let settings =
            format!("[fleet]\ninterval = '200ms'\nexpiry = '{expiry}'\n[upstreams.health]\nprober = 'fleet'\n");
        let fleet = Fleet::start(&directory, &settings).await?;
        let token = fleet.setup.token("acme")?;
        Ok(Self { fleet, token, is_well, weak, good })
    }

    fn both(&self) -> [&Gateway; 2] {
        [&self.fleet.one, &self.fleet.two]
    }

    async fn until_dead(&self, expected: u64) -> Result<()> {
        for gateway in self.both() {
            gateway.until_metric(DEAD, |dead| dead == expected).await?;
        }
        Ok(())
    }

    /// Waits until one of the instances probes, and no other; gives it, and the other.
    async fn roles(&self) -> Result<(&Gateway, &Gateway)> {
        let [one, two] = self.both();
        let roles = until(PATIENCE, async || {
            Ok(match (one.metric(PROBER).await?, two.metric(PROBER).await?) {
                (1, 0) => Some((one, two)),
                (0, 1) => Some((two, one)),
                _ => None,
            })
        });
        roles.await?.with_context(|| format!("not one:\n{}\n{}", one.process.output(), two.process.output()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_asks_all_do_as_it_finds_and_another_takes_over() -> Result<()> {
    let site = Site::start("3s").await?;
    site.until_dead(1).await?;
    for gateway in site.both() {
        for _ in 0..5 {
            gateway.expect_app("editor", &site.token, "answer").await?;
        }
    }
    ensure!(asked(&site.weak, false) == 0 && asked(&site.good, false) == 10, "none goes to the dead node");
    let (prober, other) = site.roles().await?;
    let seen = asked(&site.weak, true) + asked(&site.good, true);
    let counted = probes(prober).await?;
    ensure!(probes(other).await? == 0 && seen > 2 && seen <= counted + 2, "{seen} probes came, {counted} are its");

    // Who comes later knows at once, and is told of changes too.
    let late = site.fleet.setup.ready().await?;
    late.until_metric(DEAD, |dead| dead == 1).await?;
    site.is_well.store(true, Ordering::Relaxed);
    late.until_metric(DEAD, |dead| dead == 0).await?;
    site.until_dead(0).await?;
    ensure!(probes(&late).await? == 0 && late.metric(PROBER).await? == 0);
    late.process.stop().await?;

    site.is_well.store(false, Ordering::Relaxed);
    site.until_dead(1).await?;
    prober.process.signal("KILL")?;
    other.until_metric(PROBER, |probes| probes == 1).await?;
    ensure!(other.metric(DEAD).await? == 1, "it begins with what it was told");
    site.is_well.store(true, Ordering::Relaxed);
    other.until_metric(DEAD, |dead| dead == 0).await?;
    let told = until(PATIENCE, async || {
        let dead = site.fleet.postgres.number("select count(*) from embedgate.dead_node").await?;
        Ok((dead == 0).then_some(()))
    });
    told.await?.context("it does not tell")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prober_that_leaves_is_followed_at_once() -> Result<()> {
    let site = Site::start("1h").await?;
    site.until_dead(1).await?;
    let (prober, other) = site.roles().await?;
    prober.process.signal("TERM")?;
    other.until_metric(PROBER, |probes| probes == 1).await?;
    site.is_well.store(true, Ordering::Relaxed);
    other.until_metric(DEAD, |dead| dead == 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_each_probes_for_itself() -> Result<()> {
    let mut site = Site::start("3s").await?;
    site.until_dead(1).await?;
    site.roles().await?;
    site.fleet.postgres.kill().await?;
    for gateway in site.both() {
        gateway.until_metric(PROBER, |probes| probes == 1).await?;
        let said = until(PATIENCE, async || {
            Ok(gateway.process.output().contains("does not agree on who probes").then_some(()))
        });
        said.await?.context("it does not say so")?;
    }
    site.is_well.store(true, Ordering::Relaxed);
    site.until_dead(0).await?;
    site.is_well.store(false, Ordering::Relaxed);
    site.until_dead(1).await?;
    site.fleet.postgres.go_on().await?;
    site.roles().await?;
    site.until_dead(1).await?;
    for gateway in site.both() {
        let log = gateway.process.output();
        ensure!(log.matches("does not agree on who probes").count() == 1, "{log}");
    }
    Ok(())
}
