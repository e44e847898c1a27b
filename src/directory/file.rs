//! The directory as a TOML file: organisations with what belongs to them, checked as a whole.

mod access;
mod api;
mod engine;
mod principals;
#[cfg(test)]
mod tests;

use crate::config::mistake::{Place, Report};
use crate::config::reader::{Item, Section};
use crate::config::{Env, Mistakes, tree};
use crate::directory::balance;
use crate::directory::checks::forbidden;
use crate::directory::principal::{Context, SecretFiles};
use crate::directory::{probe, quota, start};
use crate::model::autostart::StartRow;
use crate::model::frontends::Frontends;
use crate::model::ids::{ClusterId, InvalidId, OrgId, UpstreamId, WorkspaceId};
use crate::model::policy::{HostSeen, Policy, Protocol};
use crate::model::probe::Probe;
use crate::model::tables::{ClusterRole, ClusterRow, ClusterState, OrgRow, Segment, Tables, UpstreamRow, WorkspaceRow};
use crate::model::url::{AllowedHosts, BaseUrl};
use crate::vault::Vault;
use principals::Principals;
use std::collections::BTreeMap;
use std::path::Path;

const ROOT: &[&str] = &["org", "banned", "revocation"];
const ORG: &[&str] = &[
    "id",
    "name",
    "segment",
    "members",
    "frontend_origins",
    "quota",
    "workspace",
    "principal",
    "app",
    "warehouse",
    "engine",
    "api",
];
const WORKSPACE: &[&str] = &["id", "url"];
const APP: &[&str] = &[
    "id",
    "workspace",
    "url",
    "status",
    "host",
    "strip_prefix",
    "base_tag",
    "protocol",
    "ping_interval",
    "idle_timeout",
    "balance",
    "hash_on",
    "affinity",
    "slow_start",
    "max_concurrent",
    "adaptive",
    "start",
    "health",
    "cluster",
];
const WAREHOUSE: &[&str] = &[
    "id",
    "workspace",
    "balance",
    "hash_on",
    "affinity",
    "slow_start",
    "max_concurrent",
    "adaptive",
    "start",
    "health",
    "cluster",
];
const CLUSTER: &[&str] = &["id", "state", "role", "weight", "nodes"];

/// Reads and checks a directory file, and the files and variables in which it says secrets are kept. A file without any
/// organisation is fine.
///
/// # Errors
/// Everything that is wrong, not only the first thing. No secret is ever part of it.
pub fn load(path: &Path, policy: &AllowedHosts, env: &Env, vault: &Vault) -> Result<Tables, Mistakes> {
    load_noting(path, policy, env, vault, &SecretFiles::default())
}

/// The same; notes the files in which secrets are, whether they can be read or not.
pub(super) fn load_noting(
    path: &Path,
    policy: &AllowedHosts,
    env: &Env,
    vault: &Vault,
    files: &SecretFiles,
) -> Result<Tables, Mistakes> {
    let text = std::fs::read_to_string(path).map_err(|error| Mistakes::unreadable(path, &error))?;
    parse_in(&text, path, Context { policy, env, vault, files })
}

/// Checks a text as if it stood in the file `path`, which need not exist.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path, policy: &AllowedHosts, env: &Env, vault: &Vault) -> Result<Tables, Mistakes> {
    parse_in(text, path, Context { policy, env, vault, files: &SecretFiles::default() })
}

fn parse_in(text: &str, path: &Path, context: Context<'_>) -> Result<Tables, Mistakes> {
    let mut report = Report::new(path);
    let tree = tree::parse_file(text, &mut report);
    let mut ids = Ids::new("organisation", "the directory");
    let root = Section::root(&tree, &report, ROOT);
    let orgs = root.sections("org", ORG);
    let orgs = orgs.iter().filter_map(|section| org(section, &mut ids, context)).collect();
    let bars = access::bars(&root);
    drop(root);
    report.finish().map(|()| Tables { orgs, bars })
}

/// Reads one organisation; `None` when a mistake leaves nothing to build. The same holds for all readers below.
fn org(section: &Section<'_>, ids: &mut Ids, context: Context<'_>) -> Option<OrgRow> {
    let id = ids.take(section, OrgId::parse);
    let name = section.get("name").and_then(|item| item.text().map(str::to_owned));
    let segments = [("internal", Segment::Internal), ("preview", Segment::Preview), ("stable", Segment::Stable)];
    let segment = section.or("segment", Segment::default(), |item| item.one_of(&segments));
    let members = access::members(section);
    let frontends = frontends(section);
    let quota = quota::of_org(section);
    let workspaces = Workspaces::read(section, context);
    let principals = principals::read(section, id.as_ref(), &workspaces, context);
    let apps = upstreams(section, "app", APP, &workspaces, &principals, context);
    let warehouses = upstreams(section, "warehouse", WAREHOUSE, &workspaces, &principals, context);
    let engines = engine::engines(section, &workspaces, &principals, context);
    let rules = api::rules(section);
    let id = id?;
    let name = name.unwrap_or_else(|| id.to_string());
    let (workspaces, principals) = (workspaces.rows, principals.rows);
    Some(OrgRow {
        name,
        id,
        segment,
        version: 0,
        members,
        frontends,
        quota,
        workspaces,
        principals,
        apps,
        warehouses,
        engines,
        rules,
    })
}

/// The organisation's own front ends; none for those of the configuration.
fn frontends(org: &Section<'_>) -> Option<Vec<BaseUrl>> {
    let item = org.get("frontend_origins")?;
    let origins: Vec<_> = item.items().iter().filter_map(|item| item.parsed(BaseUrl::parse)).collect();
    if origins.len() > Frontends::MAX {
        item.wrong(format!("has {} origins; keep {} at most", origins.len(), Frontends::MAX));
    }
    Some(origins)
}

/// The workspaces of an organisation. Those with mistakes in them are remembered by name, so that a reference to one is
/// not reported as well.
struct Workspaces {
    rows: Vec<WorkspaceRow>,
    /// All ids, as written.
    names: Vec<String>,
    /// How many there are, with and without a readable id.
    count: usize,
}

impl Workspaces {
    fn read(org: &Section<'_>, context: Context<'_>) -> Self {
        let mut ids = Ids::new("workspace", "the organisation");
        let sections = org.sections("workspace", WORKSPACE);
        let name = |section: &Section<'_>| section.get("id").and_then(|item| item.as_text().map(str::to_owned));
        let row = |section: &Section<'_>| {
            let id = ids.take(section, WorkspaceId::parse);
            let item = section.require("url", "write url = \"https://...\", the workspace's own address");
            let url = item.and_then(|item| url(&item, context));
            Some(WorkspaceRow { id: id?, url: url? })
        };
        Self {
            names: sections.iter().filter_map(name).collect(),
            count: sections.len(),
            rows: sections.iter().filter_map(row).collect(),
        }
    }

    /// The workspace that a row refers to; without a reference, the only one there is.
    fn of(&self, section: &Section<'_>) -> Option<&WorkspaceRow> {
        let Some(item) = section.get("workspace") else {
            match self.count {
                0 => section.lacks("needs a workspace, and the organisation has none; add [[org.workspace]]"),
                1 => {}
                _ => section.lacks(format!(
                    "the organisation has several workspaces; write workspace = \"...\", one of {}",
                    self.names.join(", ")
                )),
            }
            return self.rows.first().filter(|_| self.count == 1);
        };
        let name = item.text()?;
        let row = self.rows.iter().find(|row| row.id.as_str() == name);
        // A workspace without a readable id may be the one that is meant.
        if row.is_none() && self.names.len() == self.count && !self.names.iter().any(|known| known == name) {
            item.wrong_missing(format!("the organisation has no workspace {name:?}; add it, or write one of its own"));
        }
        row
    }
}

fn upstreams(
    org: &Section<'_>,
    key: &'static str,
    known: &'static [&'static str],
    workspaces: &Workspaces,
    principals: &Principals,
    context: Context<'_>,
) -> Vec<UpstreamRow> {
    let mut ids = Ids::new(key, "the organisation");
    let is_app = key == "app";
    let row = |section: &Section<'_>| {
        let id = ids.take(section, UpstreamId::parse);
        let workspace = workspaces.of(section);
        let clusters = clusters(section, context);
        let url = if is_app { app_url(section, &clusters, context) } else { workspace.map(|row| row.url.clone()) };
        let failed = is_app && section.or("status", false, |item| item.one_of(&[("active", false), ("failed", true)]));
        let policy = if is_app { policy(section) } else { Policy::default() };
        let (balance, start, probe) = (balance::read(section), start(section, principals, context), probe(section));
        let load = quota::load(section);
        let row = UpstreamRow::new(id?, workspace?.id.clone(), url?);
        Some(UpstreamRow { failed, policy, balance, start, probe, load, clusters, ..row })
    };
    org.sections(key, known).iter().filter_map(row).collect()
}

/// How it is started, if the gateway has a hand in that.
fn start(upstream: &Section<'_>, principals: &Principals, context: Context<'_>) -> Option<StartRow> {
    let section = upstream.get("start")?.section(start::KEYS)?;
    let row = start::read(&section, context.policy)?;
    if let Some(item) = section.get("principal") {
        principals.named(&item);
    }
    Some(row)
}

/// How its nodes are probed, if they are.
fn probe(upstream: &Section<'_>) -> Option<Probe> {
    probe::read(&upstream.get("health")?.section(probe::KEYS)?)
}

fn policy(app: &Section<'_>) -> Policy {
    let usual = Policy::default();
    Policy {
        host: app.or("host", usual.host, |item| item.one_of(&HostSeen::NAMES)),
        strip_prefix: app.or("strip_prefix", usual.strip_prefix, Item::boolean),
        base_tag: app.or("base_tag", usual.base_tag, Item::boolean),
        protocol: app.or("protocol", usual.protocol, |item| item.one_of(&Protocol::NAMES)),
        ping_interval: app.get("ping_interval").and_then(|item| item.duration_or_zero()),
        idle_timeout: app.get("idle_timeout").and_then(|item| item.duration()),
    }
}

/// The address of an app: its own, else that of its first node.
fn app_url(section: &Section<'_>, clusters: &[ClusterRow], context: Context<'_>) -> Option<BaseUrl> {
    if let Some(item) = section.get("url") {
        return url(&item, context);
    }
    if section.get("cluster").is_none_or(|item| item.is_empty_array()) {
        section.lacks("needs an address; write url = \"https://...\" or add [[org.app.cluster]] with nodes");
    }
    clusters.first().and_then(|cluster| cluster.nodes.first().cloned())
}

fn clusters(upstream: &Section<'_>, context: Context<'_>) -> Vec<ClusterRow> {
    let mut ids = Ids::new("cluster", "the app, warehouse or engine");
    let sections = upstream.sections("cluster", CLUSTER);
    sections.iter().filter_map(|section| cluster(section, &mut ids, context)).collect()
}

fn cluster(section: &Section<'_>, ids: &mut Ids, context: Context<'_>) -> Option<ClusterRow> {
    let states = [
        ("stopped", ClusterState::Stopped),
        ("starting", ClusterState::Starting),
        ("running", ClusterState::Running),
        ("draining", ClusterState::Draining),
    ];
    let roles = [("primary", ClusterRole::Primary), ("shadow", ClusterRole::Shadow)];
    let id = ids.take(section, ClusterId::parse);
    let state = section.require("state", "write stopped, starting, running or draining");
    let state = state.and_then(|item| item.one_of(&states));
    let role = section.or("role", ClusterRole::default(), |item| item.one_of(&roles));
    let weight = balance::weight(section);
    let advice = "write nodes = [\"https://...\"], one URL for each node";
    let nodes = section.require("nodes", advice)?;
    if nodes.is_empty_array() {
        nodes.wrong(format!("needs at least one node; {advice}"));
    }
    let nodes: Vec<_> = nodes.items().iter().filter_map(|item| url(item, context)).collect();
    Some(ClusterRow { id: id?, state: state?, role, weight, nodes }).filter(|cluster| !cluster.nodes.is_empty())
}

/// A URL whose host the policy allows. A forbidden one is reported and still given back, for further checks.
fn url(item: &Item<'_>, context: Context<'_>) -> Option<BaseUrl> {
    let url = item.parsed(BaseUrl::parse)?;
    permitted(item, &url, context);
    Some(url)
}

/// Reports a URL whose host the policy does not allow.
fn permitted(item: &Item<'_>, url: &BaseUrl, context: Context<'_>) {
    if let Some(error) = forbidden(context.policy, url) {
        item.wrong(error);
    }
}

/// The ids seen so far among things that must not share one.
struct Ids {
    what: &'static str,
    within: &'static str,
    seen: BTreeMap<String, Place>,
}

impl Ids {
    fn new(what: &'static str, within: &'static str) -> Self {
        Self { what, within, seen: BTreeMap::new() }
    }

    /// The id of a row, which must be there, well formed and new.
    fn take<T>(&mut self, section: &Section<'_>, parse: fn(&str) -> Result<T, InvalidId>) -> Option<T> {
        let item = section.require("id", "write id = \"...\"")?;
        let id = item.parsed(parse)?;
        let name = item.text()?.to_owned();
        if let Some(first) = self.seen.get(&name) {
            let line = if let Place::Line(line) = first { format!(" on line {line}") } else { String::new() };
            item.wrong(format!("another {} of {} has the id {name:?} already{line}", self.what, self.within));
            return None;
        }
        self.seen.insert(name, item.place().clone());
        Some(id)
    }
}
