//! `embedgate upstream`.

mod drain;
mod show;

use super::{ConfigArg, Wrong, db, print};
use crate::config::{Config, DirectorySource, Env};
use crate::directory::postgres::fleet::{self, ClusterName, Outcome};
use crate::directory::postgres::migrate;
use crate::model::ids::{ClusterId, OrgId, UpstreamId};
use crate::model::tables::ClusterState;
use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use std::fmt::{Display, Formatter};
use tokio_postgres::Client;

/// See what requests go to, and change the states of clusters.
#[derive(Debug, Subcommand)]
pub(super) enum UpstreamCommand {
    /// Print all upstreams with the states of their clusters, and what is wrong with those that nobody can use
    List(show::List),
    /// Print one upstream: clusters, nodes, and what is under way on the whole fleet
    Show(show::Show),
    /// Set the state of a cluster, on all instances; what is under way goes on
    State(SetState),
    /// Let a cluster run empty: it gets nothing new, and what it has goes on to its end
    Drain(drain::Drain),
    /// Make a cluster run and all others that run drain, at one moment
    Switch(Switch),
}

/// The kinds of upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    App,
    Warehouse,
    Engine,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Warehouse => "warehouse",
            Self::Engine => "engine",
        }
    }
}

/// Which upstream.
#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    config: ConfigArg,
    /// The organisation
    #[arg(long, value_name = "ID")]
    org: String,
    /// The app, warehouse or engine
    #[arg(long, value_name = "ID")]
    upstream: String,
    /// What it is, where two have the same id
    #[arg(long)]
    kind: Option<Kind>,
}

#[derive(Debug, Args)]
pub(super) struct SetState {
    #[command(flatten)]
    which: Which,
    /// The cluster
    #[arg(long, value_name = "ID")]
    cluster: String,
    /// The state that it is to have
    #[arg(value_parser = ["running", "draining", "stopped", "starting"])]
    state: String,
    /// Also when it is the last one that runs
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Switch {
    #[command(flatten)]
    which: Which,
    /// The cluster that is to run
    #[arg(long, value_name = "ID")]
    to: String,
}

impl UpstreamCommand {
    pub(super) fn run(&self, env: &Env) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::List(list) => list.run(env).await,
                Self::Show(show) => show.run(env).await,
                Self::State(state) => state.run(env).await,
                Self::Drain(drain) => drain.run(env).await,
                Self::Switch(switch) => switch.run(env).await,
            }
        })
    }
}

/// A cluster as messages call it.
struct Shown<'a>(&'a ClusterName);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let ClusterName { org, kind, upstream, cluster } = self.0;
        write!(f, "cluster {cluster} of {kind} {upstream} of {org}")
    }
}

/// A connection to the tables that hold the states.
async fn connect(config: &Config, env: &Env) -> Result<Client> {
    match &config.directory {
        DirectorySource::Postgres(_) => {}
        DirectorySource::File { path } => {
            let path = path.display();
            return Err(Wrong(format!("the directory is a file: edit {path}, running gateways read it again")).into());
        }
        DirectorySource::Firefly(_) => {
            return Err(Wrong("FireFly's tables know no clusters, so there is no state to change".to_owned()).into());
        }
    }
    let client = db::connect(config, env).await?;
    migrate::check(migrate::version(&client).await.map_err(db::wrong)?)?;
    Ok(client)
}

impl Which {
    /// A cluster of it, whose kind is looked up where none is said.
    async fn cluster(&self, client: &Client, cluster: &str) -> Result<ClusterName> {
        let wrong = |option: &str, error: &dyn Display| Wrong(format!("{option}: {error}"));
        OrgId::parse(&self.org).map_err(|error| wrong("--org", &error))?;
        UpstreamId::parse(&self.upstream).map_err(|error| wrong("--upstream", &error))?;
        ClusterId::parse(cluster).map_err(|error| wrong("the cluster", &error))?;
        let kind = match self.kind {
            Some(kind) => kind.word().to_owned(),
            None => self.only_kind(fleet::kinds(client, &self.org, &self.upstream).await.map_err(db::wrong)?)?,
        };
        Ok(ClusterName::new(&self.org, &kind, &self.upstream, cluster))
    }

    /// The one of some kinds; any where there is none, as it does not matter then.
    fn only_kind(&self, kinds: Vec<String>) -> Result<String, Wrong> {
        if kinds.len() > 1 {
            let (upstream, kinds) = (&self.upstream, kinds.join(", "));
            return Err(Wrong(format!("{upstream:?} is the id of several: say which with --kind ({kinds})")));
        }
        Ok(kinds.into_iter().next().unwrap_or_else(|| Kind::App.word().to_owned()))
    }
}

/// Says what came of a change; gives the version since when it holds.
fn done(outcome: &Outcome, name: &ClusterName, now: &str) -> Result<u64> {
    match outcome {
        Outcome::Done { version, changed } => {
            print(format_args!("{} {} {now}", Shown(name), if *changed { "is now" } else { "was already" }))?;
            Ok(*version)
        }
        Outcome::Last => bail!(
            "{} is the last one that runs: start another one, use `embedgate upstream switch`, or add --force",
            Shown(name)
        ),
        Outcome::Shadow => bail!("{} is a shadow, which serves nobody; switch to another one", Shown(name)),
        Outcome::Unknown("cluster") => Err(Wrong(format!(
            "there is no {} in the directory; an upstream whose directory names no clusters has no states to change",
            Shown(name)
        ))
        .into()),
        Outcome::Unknown(what) => Err(Wrong(format!("there is no such {what} as in: {}", Shown(name))).into()),
    }
}

impl SetState {
    async fn run(&self, env: &Env) -> Result<()> {
        let client = connect(&self.which.config.load(env)?, env).await?;
        let name = self.which.cluster(&client, &self.cluster).await?;
        let outcome = fleet::set_state(&client, &name, &self.state, self.force).await.map_err(db::wrong)?;
        done(&outcome, &name, &self.state).map(drop)
    }
}

impl Switch {
    async fn run(&self, env: &Env) -> Result<()> {
        let client = connect(&self.which.config.load(env)?, env).await?;
        let name = self.which.cluster(&client, &self.to).await?;
        let outcome = fleet::switch(&client, &name).await.map_err(db::wrong)?;
        done(&outcome, &name, "running, and the only one").map(drop)
    }
}

/// The word of the state that a drain leads to.
const DRAINING: &str = ClusterState::Draining.word();
