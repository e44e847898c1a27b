//! `embedgate upstream list` and `embedgate upstream show`.

use super::Which;
use crate::cli::{ConfigArg, Wrong, db, print, token};
use crate::config::{Config, DirectorySource, Env};
use crate::directory::file;
use crate::directory::postgres::fleet::{self, Roll, Scope};
use crate::directory::postgres::{migrate, rows};
use crate::directory::report::{ClusterReport, UpstreamReport};
use crate::model::snapshot::{Org, Snapshot};
use crate::model::tables::Tables;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Those of this organisation alone
    #[arg(long, value_name = "ID")]
    org: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    which: Which,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The directory as the configuration has it, and what the fleet has said; none where it cannot say anything.
async fn load(config: &Config, env: &Env, org: Option<&str>, scope: Scope<'_>) -> Result<(Snapshot, Option<Roll>)> {
    let keys = token::keys(config, env)?;
    let (policy, vault) = (&config.upstreams.allowed, keys.vault());
    match &config.directory {
        DirectorySource::File { path } => {
            let tables = file::load(path, policy, env, vault).map_err(Wrong::from)?;
            Ok((Snapshot::build(tables, None), None))
        }
        DirectorySource::Postgres(_) => {
            let client = db::connect(config, env).await?;
            migrate::check(migrate::version(&client).await.map_err(db::wrong)?)?;
            let ids = org.map(|id| [id]);
            let read = rows::read(&client, ids.as_ref().map(|ids| &ids[..]), rows::Context { policy, vault }).await;
            let tables = Tables { orgs: read.map_err(db::wrong)?.orgs, ..Tables::default() };
            // After the rows: what has been said since then is of their version or a later one.
            let roll = fleet::roll(&client, scope).await.map_err(db::wrong)?;
            Ok((Snapshot::build(tables, None), Some(roll)))
        }
        DirectorySource::Firefly(_) => {
            Err(Wrong("FireFly's tables know no clusters; each app has the one node at its url".to_owned()).into())
        }
    }
}

/// The upstreams of a snapshot, by organisation, kind and id.
fn reports<'a>(snapshot: &'a Snapshot, org: Option<&str>, roll: Option<&'a Roll>) -> Vec<UpstreamReport> {
    let orgs = snapshot.orgs().filter(|one| org.is_none_or(|id| one.id.as_str() == id));
    let of_org =
        |org: &'a Arc<Org>| org.by_kind().map(move |(kind, upstream)| UpstreamReport::new(org, kind, upstream, roll));
    let mut reports: Vec<_> = orgs.flat_map(of_org).collect();
    reports.sort_unstable_by(|a, b| (&a.org, a.kind, &a.id).cmp(&(&b.org, b.kind, &b.id)));
    reports
}

impl List {
    pub(super) async fn run(&self, env: &Env) -> Result<()> {
        let config = self.config.load(env)?;
        // What is under way is for one upstream: of all of them it would be the sum of everything.
        let none = Scope { org: Some(""), upstream: None };
        let (snapshot, _) = load(&config, env, self.org.as_deref(), none).await?;
        let org = self.org.as_deref();
        if let Some(id) = org.filter(|id| snapshot.org(id).is_none()) {
            return Err(Wrong(format!("there is no organisation {id:?} in the directory that can be used")).into());
        }
        let reports = reports(&snapshot, org, None);
        if self.json {
            let upstreams: Vec<_> = reports.iter().map(|report| report.json(false)).collect();
            return print(format_args!("{:#}", json!({ "upstreams": upstreams })));
        }
        reports.iter().try_for_each(|report| print(line(report)))
    }
}

fn line(report: &UpstreamReport) -> String {
    let UpstreamReport { org, kind, id, trouble, clusters } = report;
    let clusters: Vec<_> = clusters.iter().map(|cluster| format!("{} {}", cluster.id, state(cluster))).collect();
    let mut line = format!("{org}  {kind}  {id}  {}", clusters.join(", "));
    if let Some(trouble) = trouble {
        line = format!("{}  (nobody can use it: {trouble})", line.trim_end());
    }
    line
}

fn state(cluster: &ClusterReport) -> String {
    let role = if cluster.role == "primary" { String::new() } else { format!(" {}", cluster.role) };
    format!("{}{role}", cluster.state)
}

impl Show {
    pub(super) async fn run(&self, env: &Env) -> Result<()> {
        let Which { config, org, upstream, kind } = &self.which;
        let scope = Scope { org: Some(org), upstream: None };
        let (snapshot, roll) = load(&config.load(env)?, env, Some(org), scope).await?;
        let is_it =
            |report: &UpstreamReport| report.id == *upstream && kind.is_none_or(|kind| kind.word() == report.kind);
        let mut found: Vec<_> = reports(&snapshot, Some(org), roll.as_ref()).into_iter().filter(is_it).collect();
        let Some(report) = found.pop() else {
            return Err(Wrong(format!("there is no such upstream in the directory: {upstream:?} of {org:?}")).into());
        };
        if !found.is_empty() {
            return Err(Wrong(format!("{upstream:?} is the id of several: say which with --kind")).into());
        }
        if self.json {
            return print(format_args!("{:#}", report.json(false)));
        }
        print(format_args!("{} {} of {}", report.kind, report.id, report.org))?;
        if let Some(trouble) = &report.trouble {
            print(format_args!("nobody can use it: {trouble}"))?;
        }
        report.clusters.iter().try_for_each(|cluster| show(cluster, roll.as_ref()))
    }
}

fn show(cluster: &ClusterReport, roll: Option<&Roll>) -> Result<()> {
    let count = cluster.fleet.as_ref().map(|tally| format!(", {} under way", tally.total())).unwrap_or_default();
    let drained = if cluster.is_drained { ", drained" } else { "" };
    print(format_args!("cluster {}: {}{count}{drained}", cluster.id, state(cluster)))?;
    cluster.nodes.iter().try_for_each(|node| print(format_args!("  node {node}")))?;
    let shares = cluster.fleet.iter().flat_map(|tally| &tally.shares);
    for (share, instance) in shares.zip(roll.iter().flat_map(|roll| &roll.instances)) {
        let leaving = if instance.is_leaving { ", leaving" } else { "" };
        let (id, address, count) = (&share.instance, &instance.address, share.count);
        print(format_args!("  instance {id} at {address}{leaving}: {count} under way"))?;
    }
    Ok(())
}
