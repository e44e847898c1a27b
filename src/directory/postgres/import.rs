//! Writes a directory file's rows into the database.

use super::bars::subject_columns;
use super::clusters::BalanceColumns;
use super::{Error, engines, limits, migrate};
use crate::config::duration;
use crate::directory::principal::{Parts, SEALED};
use crate::directory::{probe, start};
use crate::model::access::Bar;
use crate::model::api::Pattern;
use crate::model::policy::Policy;
use crate::model::tables::{ClusterRole, ClusterState, Segment, Tables, UpstreamRow};
use crate::vault::Vault;
use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, GenericClient};

/// How much was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Organisations.
    pub organisations: usize,
    /// Workspaces.
    pub workspaces: usize,
    /// Principals.
    pub principals: usize,
    /// Apps.
    pub apps: usize,
    /// Warehouses.
    pub warehouses: usize,
    /// Engines.
    pub engines: usize,
    /// Clusters.
    pub clusters: usize,
    /// Nodes.
    pub nodes: usize,
    /// Rules about calls.
    pub rules: usize,
    /// Memberships.
    pub members: usize,
    /// Revocations and bans.
    pub bars: usize,
}

/// The columns of a table, each as an array: one statement writes all rows.
pub(super) struct Columns {
    sql: &'static str,
    texts: Vec<Vec<Option<String>>>,
    positions: Vec<i32>,
}

impl Columns {
    pub(super) fn new(sql: &'static str, texts: usize) -> Self {
        Self { sql, texts: vec![Vec::new(); texts], positions: Vec::new() }
    }

    pub(super) fn push<'a>(&mut self, texts: impl IntoIterator<Item = Option<&'a str>>, position: usize) {
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.push(text.map(str::to_owned));
        }
        self.positions.push(i32::try_from(position).unwrap_or(i32::MAX));
    }

    pub(super) async fn write(&self, client: &impl GenericClient) -> Result<usize, Error> {
        let positions: &(dyn ToSql + Sync) = &self.positions;
        let texts = self.texts.iter().map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY));
        // The first parameter is the position, whether the table has one or not.
        let values: Vec<_> = std::iter::once((positions, Type::INT4_ARRAY)).chain(texts).collect();
        client.execute_typed(self.sql, &values).await?;
        Ok(self.positions.len())
    }
}

const ORGS: &str = "insert into embedgate.organisation (id, name, segment, members_only, frontend_origins)
    select id, name, segment, members_only::boolean, string_to_array(frontend_origins, E'\\n')
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    as r (position, id, name, segment, members_only, frontend_origins)
    order by position
    on conflict (id) do update
    set name = excluded.name, segment = excluded.segment, members_only = excluded.members_only,
        frontend_origins = excluded.frontend_origins";
const USERS: &str = "insert into embedgate.end_user (id)
    select distinct id from unnest($1::int4[], $2::text[], $3::text[]) as r (position, org, id)
    on conflict do nothing";
const MEMBERS: &str = "insert into embedgate.membership (org, end_user)
    select org, id from unnest($1::int4[], $2::text[], $3::text[]) as r (position, org, id)";
const BANS: &str = "insert into embedgate.end_user (id, banned)
    select id, true from unnest($1::int4[], $2::text[]) as r (position, id)
    on conflict (id) do update set banned = true";
const REVOCATIONS: &str = "insert into embedgate.revocation (kind, id, not_before, forget_after)
    select kind, id, to_timestamp(since::float8), greatest(now(), to_timestamp(since::float8)) + interval '31 days'
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[]) as r (position, kind, id, since)
    on conflict (kind, id) do update
    set not_before = excluded.not_before, forget_after = excluded.forget_after
    where embedgate.revocation.not_before < excluded.not_before";
const WORKSPACES: &str = "insert into embedgate.workspace (position, org, id, url)
    select * from unnest($1::int4[], $2::text[], $3::text[], $4::text[])";
const PRINCIPALS: &str = "insert into embedgate.principal
    (org, id, workspace, kind, client_id, settings, users, client_secret, token, password, value, private_key,
     secret_access_key, session_token, client_key, control)
    select org, id, workspace, kind, client_id, settings::jsonb, string_to_array(users, E'\\n'), client_secret, token,
      password, value, private_key, secret_access_key, session_token, client_key, control::boolean
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
      $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[])
    as r (position, org, id, workspace, kind, client_id, settings, users, client_secret, token, password, value,
      private_key, secret_access_key, session_token, client_key, control)";
const APPS: &str = "insert into embedgate.app
    (org, id, workspace, url, status, host, strip_prefix, base_tag, ping_interval, idle_timeout, protocol, start,
      balance, hash_on, affinity, slow_start, health)
    select org, id, workspace, url, status, host, strip_prefix::boolean, base_tag::boolean, ping_interval, idle_timeout,
      protocol, start::jsonb, balance, hash_on, affinity::boolean, slow_start, health::jsonb
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[])
    as r (position, org, id, workspace, url, status, host, strip_prefix, base_tag, ping_interval, idle_timeout, protocol,
      start, balance, hash_on, affinity, slow_start, health)";
const WAREHOUSES: &str = "insert into embedgate.warehouse
    (org, id, workspace, start, balance, hash_on, affinity, slow_start, health)
    select org, id, workspace, start::jsonb, balance, hash_on, affinity::boolean, slow_start, health::jsonb
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[])
    as r (position, org, id, workspace, start, balance, hash_on, affinity, slow_start, health)";
const RULES: &str = "insert into embedgate.api_rule (org, id, members, users, allow, warehouses)
    select org, id, string_to_array(members, E'\\n'), string_to_array(users, E'\\n'), string_to_array(allow, E'\\n'),
    string_to_array(warehouses, E'\\n')
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    as r (position, org, id, members, users, allow, warehouses)";
const CLUSTERS: &str = "insert into embedgate.cluster (position, org, kind, upstream, id, state, role, weight)
    select position, org, kind, upstream, id, state, role, weight::integer
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
    as r (position, org, kind, upstream, id, state, role, weight)";
const NODES: &str = "insert into embedgate.node (position, org, kind, upstream, cluster, url)
    select * from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])";

/// Writes the organisations of `tables` in one transaction, in place of those with their ids; others stay as they are.
/// Secrets are sealed with the first key.
///
/// # Errors
/// Nothing is written then.
pub async fn import(client: &mut Client, tables: &Tables, vault: &Vault) -> Result<Counts, Error> {
    let transaction = client.transaction().await?;
    migrate::check(migrate::version(&transaction).await?)?;
    let mut orgs = Columns::new(ORGS, 5);
    for (position, org) in tables.orgs.iter().enumerate() {
        let members_only = boolean(org.members.is_some());
        let frontends = org.frontends.as_ref().map(|own| own.iter().map(ToString::to_string).collect::<Vec<_>>());
        let frontends = frontends.map(|own| own.join("\n"));
        let own = [Some(org.id.as_str()), Some(&org.name), Some(segment(org.segment)), Some(members_only)];
        let [id, name, segment, members_only] = own;
        orgs.push([id, name, segment, members_only, frontends.as_deref()], position);
    }
    let mut counts = Counts { organisations: orgs.write(&transaction).await?, ..Counts::default() };
    // Everything of an organisation hangs on its workspaces.
    let clear: [(&(dyn ToSql + Sync), Type); 1] = [(&orgs.texts[0], Type::TEXT_ARRAY)];
    transaction.execute_typed("delete from embedgate.workspace where org = any ($1)", &clear).await?;
    transaction.execute_typed("delete from embedgate.membership where org = any ($1)", &clear).await?;
    transaction.execute_typed("delete from embedgate.api_rule where org = any ($1)", &clear).await?;
    counts.members = members(tables, &transaction).await?;
    counts.bars = bars(tables, &transaction).await?;
    counts.workspaces = workspaces(tables).write(&transaction).await?;
    counts.principals = principals(tables, vault)?.write(&transaction).await?;
    counts.rules = rules(tables).write(&transaction).await?;
    let mut parts =
        [Columns::new(APPS, 17), Columns::new(WAREHOUSES, 9), Columns::new(CLUSTERS, 7), Columns::new(NODES, 5)];
    let mut engines = engines::columns();
    for org in &tables.orgs {
        let id = org.id.as_str();
        for row in &org.apps {
            app(&mut parts[0], id, row);
            clusters(&mut parts, id, "app", row);
        }
        for row in &org.warehouses {
            let place = [id, row.id.as_str(), row.workspace.as_str()].map(Some);
            parts[1].push(place.into_iter().chain(shared(row).iter().map(Option::as_deref)), 0);
            clusters(&mut parts, id, "warehouse", row);
        }
        for row in &org.engines {
            engines::push(&mut engines, id, row);
            clusters(&mut parts, id, "engine", &row.upstream);
        }
    }
    let [apps, warehouses, clusters, nodes] = &parts;
    counts.apps = apps.write(&transaction).await?;
    counts.warehouses = warehouses.write(&transaction).await?;
    counts.engines = engines.write(&transaction).await?;
    counts.clusters = clusters.write(&transaction).await?;
    counts.nodes = nodes.write(&transaction).await?;
    for columns in limits::columns(&tables.orgs) {
        columns.write(&transaction).await?;
    }
    transaction.commit().await?;
    Ok(counts)
}

async fn members(tables: &Tables, client: &impl GenericClient) -> Result<usize, Error> {
    let mut columns = Columns::new(USERS, 2);
    for org in &tables.orgs {
        org.members.iter().flatten().for_each(|user| columns.push([Some(org.id.as_str()), Some(user)], 0));
    }
    columns.write(client).await?;
    columns.sql = MEMBERS;
    columns.write(client).await
}

async fn bars(tables: &Tables, client: &impl GenericClient) -> Result<usize, Error> {
    let (mut bans, mut revocations) = (Columns::new(BANS, 1), Columns::new(REVOCATIONS, 3));
    for (bar, since) in &tables.bars {
        match bar {
            Bar::Banned(user) => bans.push([Some(&**user)], 0),
            Bar::Revoked(subject) => {
                let (kind, id) = subject_columns(subject);
                revocations.push([Some(kind), Some(&id), Some(&since.to_string())], 0);
            }
        }
    }
    Ok(bans.write(client).await? + revocations.write(client).await?)
}

fn segment(segment: Segment) -> &'static str {
    match segment {
        Segment::Internal => "internal",
        Segment::Preview => "preview",
        Segment::Stable => "stable",
    }
}

fn workspaces(tables: &Tables) -> Columns {
    let mut columns = Columns::new(WORKSPACES, 3);
    for org in &tables.orgs {
        for (position, workspace) in org.workspaces.iter().enumerate() {
            let url = workspace.url.to_string();
            columns.push([Some(org.id.as_str()), Some(workspace.id.as_str()), Some(&url)], position);
        }
    }
    columns
}

fn rules(tables: &Tables) -> Columns {
    let mut columns = Columns::new(RULES, 6);
    for org in &tables.orgs {
        for rule in &org.rules {
            let (members, users) = (rule.members.join("\n"), rule.users.join("\n"));
            let allow = rule.allow.iter().map(Pattern::as_str).collect::<Vec<_>>().join("\n");
            let warehouses = rule.warehouses.iter().map(|action| action.name()).collect::<Vec<_>>().join("\n");
            let own = [org.id.as_str(), rule.id.as_str(), &members, &users, &allow, &warehouses];
            columns.push(own.map(Some), 0);
        }
    }
    columns
}

fn principals(tables: &Tables, vault: &Vault) -> Result<Columns, Error> {
    let mut columns = Columns::new(PRINCIPALS, 16);
    for org in &tables.orgs {
        for (position, row) in org.principals.iter().enumerate() {
            let parts = Parts::of(row);
            let sealed = seal(org.id.as_str(), row.id.as_str(), &parts, vault)?;
            let (settings, users) = (Value::Object(parts.settings).to_string(), row.users.join("\n"));
            let place = [org.id.as_str(), row.id.as_str(), row.workspace.as_str(), parts.kind].map(Some);
            let others = [parts.client_id, Some(&*settings), Some(&*users)];
            columns.push(
                place
                    .into_iter()
                    .chain(others)
                    .chain(sealed.iter().map(Option::as_deref))
                    .chain([Some(boolean(row.control))]),
                position,
            );
        }
    }
    Ok(columns)
}

/// The secrets of a principal sealed, in the order of their columns.
fn seal(org: &str, id: &str, parts: &Parts<'_>, vault: &Vault) -> Result<[Option<String>; SEALED.len()], Error> {
    let mut all = SEALED.map(|_| None);
    for (column, name) in all.iter_mut().zip(SEALED) {
        let Some((_, secret)) = parts.secrets.iter().find(|(of, _)| *of == name) else { continue };
        let failed = |cause| Error::Seal { row: format!("principal {id:?} of organisation {org:?}"), cause };
        *column = Some(vault.seal(org, id, secret).map_err(failed)?);
    }
    Ok(all)
}

/// An app of an organisation.
fn app(apps: &mut Columns, org: &str, row: &UpstreamRow) {
    let url = row.url.to_string();
    let place = [org, row.id.as_str(), row.workspace.as_str(), &url];
    let Policy { host, strip_prefix, base_tag, protocol, ping_interval, idle_timeout } = row.policy;
    let status = if row.failed { "failed" } else { "active" };
    let [ping, idle] = [ping_interval, idle_timeout].map(|time| time.map(duration::format));
    let [org, id, workspace, url] = place.map(Some);
    let [status, host, protocol] = [status, host.name(), protocol.name()].map(Some);
    let [strip, base] = [strip_prefix, base_tag].map(|flag| Some(boolean(flag)));
    let [ping, idle] = [&ping, &idle].map(Option::as_deref);
    let own = [org, id, workspace, url, status, host, strip, base, ping, idle, protocol];
    apps.push(own.into_iter().chain(shared(row).iter().map(Option::as_deref)), 0);
}

pub(super) fn start(row: &UpstreamRow) -> Option<String> {
    row.start.as_ref().map(|start| start::to_json(start).to_string())
}

/// How its nodes are probed, as it is written.
pub(super) fn probe(row: &UpstreamRow) -> Option<String> {
    row.probe.as_ref().map(|probe| probe::to_json(probe).to_string())
}

fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// What apps and warehouses have alike, in the order of its columns.
fn shared(row: &UpstreamRow) -> [Option<String>; 6] {
    let [strategy, hash_on, affinity, slow_start] =
        BalanceColumns::of(&row.balance).texts().map(|text| text.map(str::to_owned));
    [start(row), strategy, hash_on, affinity, slow_start, probe(row)]
}

/// The clusters and nodes of an app, warehouse or engine.
fn clusters([_, _, clusters, nodes]: &mut [Columns; 4], org: &str, kind: &str, row: &UpstreamRow) {
    let id = row.id.as_str();
    for (position, cluster) in row.clusters.iter().enumerate() {
        let state = match cluster.state {
            ClusterState::Stopped => "stopped",
            ClusterState::Starting => "starting",
            ClusterState::Running => "running",
            ClusterState::Draining => "draining",
        };
        let role = match cluster.role {
            ClusterRole::Primary => "primary",
            ClusterRole::Shadow => "shadow",
        };
        let (name, weight) = (cluster.id.as_str(), cluster.weight.to_string());
        clusters.push([org, kind, id, name, state, role, &weight].map(Some), position);
        for (position, node) in cluster.nodes.iter().enumerate() {
            nodes.push([Some(org), Some(kind), Some(id), Some(name), Some(&node.to_string())], position);
        }
    }
}
