//! `embedgate upstream drain`.

use super::{DRAINING, Shown, Which, connect, done};
use crate::cli::{Wrong, db, print};
use crate::config::{Config, Env, duration};
use crate::directory::postgres::Error;
use crate::directory::postgres::fleet::{self, ClusterName, Instance, Scope, Tally};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

#[derive(Debug, Args)]
#[command(
    after_help = "With --wait, exit code 0 says that every living instance knows that the cluster drains and that \
                        nothing is under way on it: it may be destroyed. Exit code 1 says that it is not so yet."
)]
pub(in crate::cli) struct Drain {
    #[command(flatten)]
    which: Which,
    /// The cluster
    #[arg(long, value_name = "ID")]
    cluster: String,
    /// Also when it is the last one that runs
    #[arg(long)]
    force: bool,
    /// Wait until nothing is under way on it any more
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse, requires = "wait")]
    timeout: Duration,
}

/// How often the database is asked.
const POLL: Duration = Duration::from_millis(250);

impl Drain {
    pub(super) async fn run(&self, env: &Env) -> Result<()> {
        let config = self.which.config.load(env)?;
        let client = connect(&config, env).await?;
        let name = self.which.cluster(&client, &self.cluster).await?;
        let outcome = fleet::set_state(&client, &name, DRAINING, self.force).await.map_err(db::wrong)?;
        let version = done(&outcome, &name, DRAINING)?;
        if !self.wait {
            return Ok(());
        }
        let mut watch = Watch { config: &config, env, client: Some(client), name, version, last: None };
        match timeout(self.timeout, watch.until_empty()).await {
            Ok(ended) => ended,
            Err(_) => {
                bail!("{} is not empty after {}: {}", Shown(&watch.name), duration::format(self.timeout), watch.state())
            }
        }
    }
}

/// Waits for a cluster to be empty, also when the database is away in between.
struct Watch<'a> {
    config: &'a Config,
    env: &'a Env,
    client: Option<Client>,
    name: ClusterName,
    /// Since when it drains.
    version: u64,
    last: Option<(Tally, Vec<Instance>)>,
}

impl Watch<'_> {
    async fn until_empty(&mut self) -> Result<()> {
        let mut said = String::new();
        let mut complained: Option<Instant> = None;
        loop {
            match self.look().await {
                Ok(true) => return print(format_args!("{} is empty: {}", Shown(&self.name), self.state())),
                Ok(false) => complained = None,
                Err(error) if error.is::<Wrong>() || error.is::<Changed>() => return Err(error),
                Err(error) => {
                    self.client = None;
                    if complained.is_none() {
                        print(format_args!("the database cannot be asked, trying again: {error:#}"))?;
                        complained = Some(Instant::now());
                    }
                }
            }
            let state = self.state();
            if complained.is_none() && state != said {
                print(&state)?;
                said = state;
            }
            sleep(POLL).await;
        }
    }

    /// Whether it is empty.
    async fn look(&mut self) -> Result<bool> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(connect(self.config, self.env).await?),
        };
        match fleet::state(client, &self.name).await? {
            Some(state) if state == DRAINING => {}
            Some(state) => return Err(Changed(format!("{} was set to {state} meanwhile", Shown(&self.name))).into()),
            None => return Err(Changed(format!("{} was taken out of the directory", Shown(&self.name))).into()),
        }
        let scope = Scope { org: Some(&self.name.org), upstream: Some((&self.name.kind, &self.name.upstream)) };
        let roll = fleet::roll(client, scope).await.map_err(|error: Error| db::wrong(error)).context("the fleet")?;
        let tally = roll.tally(&self.name, self.version);
        let is_empty = tally.is_empty();
        self.last = Some((tally, roll.instances));
        Ok(is_empty)
    }

    /// What is known, for people.
    fn state(&self) -> String {
        let Some((tally, instances)) = &self.last else { return "nothing is known of the fleet".to_owned() };
        let plural = if instances.len() == 1 { "instance" } else { "instances" };
        let mut text = format!("{} under way on {} {plural}", tally.total(), instances.len());
        for (share, instance) in tally.shares.iter().zip(instances) {
            let late = if share.is_current { "" } else { ", not known to it yet" };
            if share.count > 0 || !share.is_current {
                // Writing to a string never fails.
                let _ = write!(text, "; {} at {}: {}{late}", instance.id, instance.address, share.count);
            }
        }
        text
    }
}

/// Somebody else has changed what is waited for.
#[derive(Debug, thiserror::Error)]
#[error("{0}; nothing is waited for any more")]
struct Changed(String);
