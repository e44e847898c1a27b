//! `embedgate db`.

mod adopt;

use super::{ConfigArg, Wrong, print, token};
use crate::config::{Config, Env};
use crate::directory::file;
use crate::directory::postgres::import::{Counts, import};
use crate::directory::postgres::migrate::{self, Status};
use crate::directory::postgres::{Error, connect, url};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use tokio_postgres::Client;

/// Look after the directory in Postgres.
#[derive(Debug, Subcommand)]
pub(super) enum Db {
    /// Bring the schema up to what this program needs; all of it or nothing, and as often as you like
    Migrate(Migrate),
    /// Print the version of the schema and what is in it; exit code 1 unless it is what this program needs
    Status(StatusArgs),
    /// Write the organisations of a directory file into the database, in place of those with their ids
    Import(Import),
    /// Put triggers on `FireFly`'s tables that tell of changes, which are asked for once a second otherwise
    AdoptFirefly(adopt::AdoptFirefly),
}

#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Secrets are sealed with the first key of session.keys. Organisations that are not in the file stay."
)]
pub(super) struct Import {
    #[command(flatten)]
    config: ConfigArg,
    /// The directory file
    file: PathBuf,
}

impl Db {
    pub(super) fn run(&self, env: &Env) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::Migrate(migrate) => migrate.run(env).await,
                Self::Status(status) => status.run(env).await,
                Self::Import(import) => import.run(env).await,
                Self::AdoptFirefly(adopt) => adopt.run(env).await,
            }
        })
    }
}

/// A connection to the database of the configuration. Of its own, because schema and import are written in one
/// transaction, which any pooler passes.
pub(super) async fn connect(config: &Config, env: &Env) -> Result<Client> {
    let lacking = || Wrong("the configuration has no [directory.postgres] with a url".to_owned());
    let settings = config.postgres.as_ref().ok_or_else(lacking)?;
    let target = url::rows(settings, env).map_err(wrong)?;
    connect::client(&target, settings.connect_timeout).await.map_err(wrong)
}

/// What the configuration has wrong is wrong use; the rest is failure.
pub(super) fn wrong(error: Error) -> anyhow::Error {
    match error {
        Error::Url { .. } | Error::Tls(_) | Error::Pooled { .. } => Wrong(error.to_string()).into(),
        other => other.into(),
    }
}

impl Migrate {
    async fn run(&self, env: &Env) -> Result<()> {
        let config = self.config.load(env)?;
        let mut client = connect(&config, env).await?;
        let applied = migrate::migrate(&mut client).await.map_err(wrong)?;
        for step in &applied {
            print(format_args!("applied {} {}", step.version, step.name))?;
        }
        print(format_args!("the schema has version {}", migrate::LATEST))
    }
}

impl StatusArgs {
    async fn run(&self, env: &Env) -> Result<()> {
        let config = self.config.load(env)?;
        let client = connect(&config, env).await?;
        let status = migrate::status(&client).await.map_err(wrong)?;
        if self.json {
            print(format_args!("{:#}", report(&status)))?;
        } else {
            show(&status)?;
        }
        Ok(migrate::check(status.version)?)
    }
}

fn report(status: &Status) -> serde_json::Value {
    let sealed: serde_json::Map<_, _> = status.sealed.iter().map(|(key, n)| (key.clone(), (*n).into())).collect();
    serde_json::json!({
        "version": status.version,
        "needed": migrate::LATEST,
        "organisations": status.organisations,
        "secrets_by_key": sealed,
    })
}

fn show(status: &Status) -> Result<()> {
    let version = status.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    print(format_args!("schema         {version}, needed {}", migrate::LATEST))?;
    print(format_args!("organisations  {}", status.organisations))?;
    for (key, count) in &status.sealed {
        print(format_args!("secrets        {count} sealed with key {key}"))?;
    }
    Ok(())
}

impl Import {
    async fn run(&self, env: &Env) -> Result<()> {
        let config = self.config.load(env)?;
        let keys = token::keys(&config, env)?;
        let tables = file::load(&self.file, &config.upstreams.allowed, env, keys.vault()).map_err(Wrong::from)?;
        let mut client = connect(&config, env).await?;
        let counts = import(&mut client, &tables, keys.vault()).await.map_err(wrong);
        print(shown(counts.context("nothing was imported")?))
    }
}

fn shown(counts: Counts) -> String {
    let parts = [
        (counts.organisations, "organisation"),
        (counts.workspaces, "workspace"),
        (counts.principals, "principal"),
        (counts.apps, "app"),
        (counts.warehouses, "warehouse"),
        (counts.engines, "engine"),
        (counts.clusters, "cluster"),
        (counts.nodes, "node"),
        (counts.rules, "rule"),
        (counts.members, "membership"),
        (counts.bars, "revocation or ban"),
    ];
    let counted = |(count, name)| if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") };
    format!("imported {}", parts.map(counted).join(", "))
}
