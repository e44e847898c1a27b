//! A fleet under load while everything happens to it that happens to fleets: clusters come, go and are switched, nodes die,
//! are slow and fall silent, gateways are replaced one by one. No request fails that another node could have served.
//!
//! `EMBEDGATE_CHAOS_RATE` (requests a second, 120 unless set) and `EMBEDGATE_CHAOS_PHASE` (seconds between two events, 1
//! unless set) make it a trial of hours; docs/clusters.md has the command and what came of it.

#![allow(clippy::print_stdout, reason = "the trial tells what it does to whoever watches, with --nocapture")]

mod frames;
mod load;
mod nodes;

use crate::harness::embedgate::Embedgate;
use crate::harness::http::get;
use crate::harness::postgres::Postgres;
use crate::harness::{PATIENCE, until};
use crate::postgres::Gateway;
use anyhow::{Context as _, Result, ensure};
use load::{Gate, Load};
use nodes::{Executed, Node};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const CONFIG: &str = "
server = { listen = '127.0.0.1:0', workers = 1, drain_delay = '1s', drain_timeout = '8s' }
admin.listen = '127.0.0.1:0'
session.keys = [{ id = 'k1', file = 'k1' }]
log = { format = 'text', access = false }
routing.base_domain = 'apps.localhost'
directory.source = 'postgres'
[upstreams]
allowed_domains = ['127.0.0.1']
allow_private_addresses = true
first_byte_timeout = '2s'
drain_grace = '0s'
drain_spread = '500ms'
";

/// A number from the environment.
fn setting(name: &str, usual: u32) -> Result<u32> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(usual),
    }
}

/// Everything that the trial is about.
struct Fleet {
    /// Ends when it is dropped.
    _postgres: Postgres,
    folder: TempDir,
    gateways: VecDeque<Gateway>,
    /// The nodes of blue, then those of green.
    nodes: Vec<Node>,
    executed: Executed,
    load: Arc<Load>,
    phase: Duration,
    began: Instant,
}

impl Fleet {
    async fn start(phase: Duration) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let executed = Executed::default();
        let nodes = (0..4).map(|_| Node::start(&executed)).collect::<Result<Vec<_>>>()?;
        let postgres = Postgres::start().await?;
        let key = Embedgate::run(&["key", "generate"], "")?;
        std::fs::write(folder.path().join("k1"), key.stdout)?;
        let database = format!("[directory.postgres]\nurl = '{}'\n", postgres.url("postgres"));
        std::fs::write(folder.path().join("embedgate.toml"), format!("{CONFIG}{database}"))?;
        let load = Load::new(String::new());
        let (gateways, began) = (VecDeque::new(), Instant::now());
        let mut fleet = Self { _postgres: postgres, folder, gateways, nodes, executed, load, phase, began };
        fleet.run(&["db", "migrate"])?;
        let file = fleet.path("directory.toml");
        std::fs::write(&file, fleet.directory())?;
        fleet.run(&["db", "import", &file])?;
        let token = fleet.run(&["token", "mint", "--org", "acme", "--user", "u1", "--email", "ann@example.com"])?;
        fleet.load = Load::new(token);
        for _ in 0..3 {
            fleet.add_gateway().await?;
        }
        Ok(fleet)
    }

    fn directory(&self) -> String {
        let mut text = "[[org]]\nid = 'acme'\n[[org.workspace]]\nid = 'main'\nurl = 'http://127.0.0.1:1'\n\
             [[org.principal]]\nid = 'spn'\nkind = 'bearer'\ntoken = 'hush'\n[[org.app]]\nid = 'editor'\n\
             health = { kind = 'http', path = '/health', interval = '200ms', timeout = '500ms' }\n"
            .to_owned();
        for (id, state, nodes) in [("blue", "running", &self.nodes[..2]), ("green", "stopped", &self.nodes[2..])] {
            let nodes: Vec<_> = nodes.iter().map(|node| format!("'http://{}'", node.address)).collect();
            // Writing to a string cannot fail.
            let _ =
                write!(text, "[[org.app.cluster]]\nid = '{id}'\nstate = '{state}'\nnodes = [{}]\n", nodes.join(", "));
        }
        text
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs a command that has to succeed, and gives what it printed.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let ended = Embedgate::run(&[arguments, &["--config", &self.path("embedgate.toml")]].concat(), "")?;
        ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
        Ok(ended.stdout)
    }

    /// Runs a command about the app while the load goes on.
    async fn upstream(&self, arguments: &[&str]) -> Result<()> {
        let (command, rest) = arguments.split_first().context("no command")?;
        let config = self.path("embedgate.toml");
        let arguments = [&["upstream", command, "--org", "acme", "--upstream", "editor"], rest].concat();
        let arguments: Vec<_> = arguments.into_iter().chain(["--config", &config]).map(str::to_owned).collect();
        let said = format!("{arguments:?}");
        let run = move || Embedgate::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), "");
        let ended = tokio::task::spawn_blocking(run).await??;
        ensure!(ended.code == Some(0), "{said}: {ended:?}");
        Ok(())
    }

    async fn add_gateway(&mut self) -> Result<()> {
        let process = Embedgate::start(&["serve", "--config", &self.path("embedgate.toml")])?;
        let gateway = Gateway::of(process).await?;
        gateway.until_ready().await?;
        self.load.balancer.add(Gate { data: gateway.data, admin: gateway.admin });
        self.gateways.push_back(gateway);
        Ok(())
    }

    /// Says what comes next, for those who watch.
    fn say(&self, what: &str) {
        println!("after {:?}: {what}", self.began.elapsed());
    }

    /// Lets the load go on for a while.
    async fn go_on(&self) {
        sleep(self.phase).await;
    }

    /// Both clusters serve, then one of them has to go: when its drain is over, nothing is on it, and nothing comes.
    async fn switch(&self, from: &str, to: &str) -> Result<()> {
        let old = if from == "blue" { &self.nodes[..2] } else { &self.nodes[2..] };
        self.upstream(&["state", "--cluster", to, "running"]).await?;
        self.go_on().await;
        self.upstream(&["drain", "--cluster", from, "--wait", "--timeout", "60s"]).await?;
        let (active, served): (Vec<_>, Vec<_>) = old.iter().map(|node| (node.active(), node.served())).unzip();
        ensure!(active == [0, 0], "{from} is drained, and its nodes have {active:?}");
        self.go_on().await;
        // The probes of whoever watches health are all that comes now.
        ensure!(old.iter().all(|node| node.active() <= 1), "{from} is drained, and something came to it");
        drop(served);
        Ok(())
    }

    /// What is on a node when it goes cannot be saved; everything else can.
    async fn harshly(&mut self, number: usize, what: Harm) -> Result<()> {
        self.load.harsh.store(true, Ordering::Relaxed);
        match what {
            Harm::Death => self.nodes[number].kill().await,
            Harm::Silence => self.nodes[number].silence(true),
        }
        // Longer than an answer is waited for.
        sleep(self.phase.max(Duration::from_secs(3))).await;
        match what {
            Harm::Death => self.nodes[number].revive()?,
            Harm::Silence => self.nodes[number].silence(false),
        }
        self.go_on().await;
        self.load.harsh.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Replaces the oldest gateway.
    async fn roll(&mut self) -> Result<()> {
        self.add_gateway().await?;
        let old = self.gateways.pop_front().context("there are three")?;
        let data = old.data;
        old.process.stop().await?;
        self.load.balancer.remove(data);
        Ok(())
    }

    /// At the end nothing is counted that is not there.
    async fn expect_rest(&self) -> Result<()> {
        for gateway in &self.gateways {
            for metric in ["embedgate_requests_active 0", "embedgate_tunnels_active 0"] {
                let mut last = String::new();
                let fits = until(PATIENCE, async || {
                    last = get(gateway.admin, "/metrics", None).await?.1;
                    Ok(last.lines().any(|line| line == metric).then_some(()))
                });
                fits.await?.with_context(|| format!("not {metric:?} in\n{last}"))?;
            }
        }
        let rest = until(PATIENCE, async || Ok(self.nodes.iter().all(|node| node.active() == 0).then_some(())));
        rest.await?.context("a node still serves something")?;
        let executed = self.executed.lock().map_err(|_| anyhow::anyhow!("a node panicked"))?;
        let twice: Vec<_> = executed.iter().filter(|(_, times)| **times > 1).collect();
        ensure!(twice.is_empty(), "POSTs that were executed more than once: {twice:?}");
        let (done, lost) = (self.load.tally.of("POSTs"), self.load.tally.of("POSTs lost with their node, and said so"));
        ensure!((done..=done + lost).contains(&(executed.len() as u64)), "{done} + {lost}, {}", executed.len());
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Harm {
    /// As by SIGKILL.
    Death,
    /// As behind a cut cable.
    Silence,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_loses_nothing_that_could_be_saved() -> Result<()> {
    let rate = setting("EMBEDGATE_CHAOS_RATE", 120)?;
    let phase = Duration::from_secs(setting("EMBEDGATE_CHAOS_PHASE", 1)?.into());
    let mut fleet = Fleet::start(phase).await?;
    let mut clients = fleet.load.start(rate).await;
    fleet.go_on().await;
    fleet.say("switch");
    fleet.switch("blue", "green").await?;
    fleet.switch("green", "blue").await?;
    fleet.upstream(&["state", "--cluster", "green", "running"]).await?;
    fleet.go_on().await;
    fleet.say("death");
    fleet.harshly(0, Harm::Death).await?;
    fleet.say("slowness");
    fleet.nodes[2].slow_down(Duration::from_millis(200));
    fleet.go_on().await;
    fleet.nodes[2].slow_down(Duration::ZERO);
    fleet.say("silence");
    fleet.harshly(3, Harm::Silence).await?;
    for _ in 0..3 {
        fleet.say("a new gateway");
        fleet.roll().await?;
        fleet.go_on().await;
    }
    fleet.say("end");
    fleet.load.end();
    let ended = until(PATIENCE, async || {
        while clients.try_join_next().is_some() {}
        // The one that is left asks gateways whether they are ready, for ever.
        Ok((clients.len() <= 1).then_some(()))
    });
    ended.await?.context("a client does not end")?;
    let tally = &fleet.load.tally;
    let failures = tally.failures();
    println!("{rate} requests a second, {phase:?} a phase:\n{tally}");
    ensure!(failures.is_empty(), "{}\n{tally}", failures.join("\n"));
    for what in ["GETs", "POSTs", "streams", "WebSockets"] {
        ensure!(tally.of(what) > 0, "no {what}:\n{tally}");
    }
    fleet.expect_rest().await
}
