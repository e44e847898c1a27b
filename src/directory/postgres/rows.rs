//! From the rows of the database to those of the directory. A row that cannot be used harms its own organisation alone.

use super::organisations::{frontends, segment_of};
use super::{Error, bars, clusters, engines, limits, migrate, rules};
use crate::clock::UnixSeconds;
use crate::config::{Env, duration};
use crate::directory::principal::{self, SEALED, SecretFiles, of_row};
use crate::directory::{probe, quota, start};
use crate::model::access::Bar;
use crate::model::autostart::StartRow;
use crate::model::engine::EngineRow;
use crate::model::ids::{OrgId, PrincipalId, UpstreamId, WorkspaceId};
use crate::model::policy::{HostSeen, Policy, Protocol};
use crate::model::principal::{Extras, PrincipalKind, PrincipalRow};
use crate::model::probe::Probe;
use crate::model::quota::Quota;
use crate::model::tables::{OrgRow, UpstreamRow, WorkspaceRow};
use crate::model::url::{AllowedHosts, BaseUrl};
use crate::vault::Vault;
use futures_util::TryStreamExt;
use std::collections::HashMap;
use std::pin::pin;
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Row};

/// A row that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose.
    pub org: String,
    /// Which, such as `principal "acme-spn"`.
    pub row: String,
    /// What is wrong; never a secret.
    pub cause: String,
}

/// What is needed to judge rows.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The hosts that may stand in URLs.
    pub policy: &'a AllowedHosts,
    /// Opens secrets.
    pub vault: &'a Vault,
}

/// What a read gave.
#[derive(Debug, Default)]
pub struct Read {
    /// The organisations that can be used.
    pub orgs: Vec<OrgRow>,
    /// Ended sessions and banned users.
    pub bars: Vec<(Bar, UnixSeconds)>,
    /// Everything that cannot.
    pub faults: Vec<Fault>,
    /// The organisations that cannot be used at all, with their versions.
    pub unusable: Vec<(OrgId, u64)>,
}

// Texts are cast, because a domain's own type would have to be asked for.
const ORGS: &str = "select id::text, name, segment, version, members_only, frontend_origins
    from embedgate.organisation where $1 is null or id = any ($1)";
const MEMBERS: &str = "select m.org::text, m.end_user::text
    from embedgate.membership m join embedgate.organisation o on o.id = m.org
    where o.members_only and ($1 is null or m.org = any ($1))";
const WORKSPACES: &str = "select org::text, id::text, url::text from embedgate.workspace
    where $1 is null or org = any ($1) order by org, position, id";
const PRINCIPALS: &str = "select org::text, id::text, workspace::text, users,
    (settings || jsonb_strip_nulls(jsonb_build_object('kind', kind, 'client_id', client_id)))::text,
    client_secret::text, token::text, password::text, value::text, private_key::text, secret_access_key::text,
    session_token::text, client_key::text, control
    from embedgate.principal where $1 is null or org = any ($1) order by org, id";
const APPS: &str = concat!(
    "select org::text, id::text, workspace::text, url::text, status = 'failed',
    host, strip_prefix, base_tag, ping_interval::text, idle_timeout::text, protocol, start::text, ",
    clusters::columns!(),
    ", health::text from embedgate.app where $1 is null or org = any ($1) order by org, id"
);
const WAREHOUSES: &str = concat!(
    "select org::text, id::text, workspace::text, start::text, ",
    clusters::columns!(),
    ", health::text from embedgate.warehouse where $1 is null or org = any ($1) order by org, id"
);

/// Reads some organisations, or all; within one transaction whose snapshot is fixed.
///
/// # Errors
/// [`Error::Schema`] when the schema is older than this program; [`Error::Sql`].
pub async fn read(client: &impl GenericClient, orgs: Option<&[&str]>, context: Context<'_>) -> Result<Read, Error> {
    migrate::check(migrate::version(client).await?)?;
    let mut reader =
        Reader { context, drafts: Vec::new(), by_id: HashMap::new(), faults: Vec::new(), unusable: Vec::new() };
    each(client, ORGS, orgs, |row| reader.org(row)).await?;
    each(client, limits::QUOTAS, orgs, |row| reader.quota(row)).await?;
    each(client, MEMBERS, orgs, |row| reader.member(row)).await?;
    each(client, WORKSPACES, orgs, |row| reader.workspace(row)).await?;
    each(client, PRINCIPALS, orgs, |row| reader.principal(row)).await?;
    each(client, APPS, orgs, |row| reader.app(row)).await?;
    each(client, WAREHOUSES, orgs, |row| reader.warehouse(row)).await?;
    each(client, engines::ENGINES, orgs, |row| reader.engine(row)).await?;
    each(client, limits::LOADS, orgs, |row| reader.load(row)).await?;
    each(client, clusters::NODES, orgs, |row| reader.node(row)).await?;
    each(client, rules::RULES, orgs, |row| reader.rule(row)).await?;
    let mut read = reader.finish();
    if orgs.is_none() {
        read.bars = bars::bars(client, None).await?;
    }
    Ok(read)
}

/// Runs a query and gives its rows one by one, so that a large table is never held whole.
pub(in crate::directory) async fn each(
    client: &impl GenericClient,
    sql: &str,
    orgs: Option<&[&str]>,
    mut take: impl FnMut(&Row) -> Result<(), tokio_postgres::Error>,
) -> Result<(), Error> {
    let rows = client.query_typed_raw(sql, [(orgs, Type::TEXT_ARRAY)]).await?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await? {
        take(&row)?;
    }
    Ok(())
}

/// An organisation as far as it has been read.
struct Draft {
    row: OrgRow,
    /// A workspace cannot be used. Another one must not take its place, so neither can the organisation.
    broken: bool,
}

impl Draft {
    fn upstream(&mut self, kind: &str, id: &str) -> Option<&mut UpstreamRow> {
        let is_it = |upstream: &&mut UpstreamRow| upstream.id.as_str() == id;
        match kind {
            "app" => self.row.apps.iter_mut().find(is_it),
            "engine" => self.row.engines.iter_mut().map(|engine| &mut engine.upstream).find(is_it),
            _ => self.row.warehouses.iter_mut().find(is_it),
        }
    }
}

struct Reader<'a> {
    context: Context<'a>,
    drafts: Vec<Draft>,
    by_id: HashMap<String, usize>,
    faults: Vec<Fault>,
    unusable: Vec<(OrgId, u64)>,
}

type Taken = Result<(), tokio_postgres::Error>;

impl Reader<'_> {
    fn fault(&mut self, org: &str, row: String, cause: impl Into<String>) {
        self.faults.push(Fault { org: org.to_owned(), row, cause: cause.into() });
    }

    /// Where the organisation of a row stands; none when it could not be used.
    fn at(&self, org: &str) -> Option<usize> {
        self.by_id.get(org).copied()
    }

    fn org(&mut self, row: &Row) -> Taken {
        let (id, name, segment): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (version, members_only): (i64, bool) = (row.try_get(3)?, row.try_get(4)?);
        let parsed = OrgId::parse(id);
        let Ok(parsed) = parsed else {
            self.fault(id, "organisation".into(), "the id is not one");
            return Ok(());
        };
        let made = segment_of(segment).and_then(|segment| Ok((segment, frontends(row.try_get(5))?)));
        let (segment, frontends) = match made {
            Ok(made) => made,
            Err(cause) => {
                self.fault(id, "organisation".into(), cause);
                self.unusable.push((parsed, version.unsigned_abs()));
                return Ok(());
            }
        };
        self.by_id.insert(id.to_owned(), self.drafts.len());
        let row = OrgRow {
            id: parsed,
            name: name.to_owned(),
            segment,
            version: version.unsigned_abs(),
            members: members_only.then(Vec::new),
            frontends,
            quota: Quota::default(),
            workspaces: Vec::new(),
            principals: Vec::new(),
            apps: Vec::new(),
            warehouses: Vec::new(),
            engines: Vec::new(),
            rules: Vec::new(),
        };
        self.drafts.push(Draft { row, broken: false });
        Ok(())
    }

    /// One that cannot be used leaves the organisation with the usual one.
    fn quota(&mut self, row: &Row) -> Taken {
        let org: &str = row.try_get(0)?;
        let Some(at) = self.at(org) else { return Ok(()) };
        match quota::of_row(row.try_get(1)?) {
            Ok(quota) => self.drafts[at].row.quota = quota,
            Err(cause) => self.fault(org, "quota".to_owned(), cause),
        }
        Ok(())
    }

    fn load(&mut self, row: &Row) -> Taken {
        let (org, kind, id): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        if let Some(upstream) = self.drafts[at].upstream(kind, id) {
            upstream.load = limits::load(row)?;
        }
        Ok(())
    }

    fn member(&mut self, row: &Row) -> Taken {
        let (org, user): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        self.drafts[at].row.members.get_or_insert_default().push(user.into());
        Ok(())
    }

    fn workspace(&mut self, row: &Row) -> Taken {
        let (org, id, url): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        let made = self.url(url).and_then(|url| {
            let id = WorkspaceId::parse(id).map_err(|error| error.to_string())?;
            Ok(WorkspaceRow { id, url })
        });
        match made {
            Ok(workspace) => self.drafts[at].row.workspaces.push(workspace),
            Err(cause) => {
                self.drafts[at].broken = true;
                self.fault(org, format!("workspace {id:?}, and with it the organisation"), cause);
            }
        }
        Ok(())
    }

    fn url(&self, text: &str) -> Result<BaseUrl, String> {
        let url = BaseUrl::parse(text).map_err(|error| error.to_string())?;
        self.context.policy.permits(&url).map_err(|error| error.to_string())?;
        Ok(url)
    }

    fn principal(&mut self, row: &Row) -> Taken {
        let (org, id, workspace): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        let (Ok(own), Ok(workspace)) = (PrincipalId::parse(id), WorkspaceId::parse(workspace)) else {
            self.drafts[at].broken = true;
            self.fault(org, format!("principal {id:?}, and with it the organisation"), "an id is not one");
            return Ok(());
        };
        let mut sealed = SEALED.map(|name| (name, None));
        for (column, (_, text)) in (5..).zip(&mut sealed) {
            *text = row.try_get(column)?;
        }
        let Context { policy, vault } = self.context;
        let context = principal::Context { policy, env: &Env::new(), vault, files: &SecretFiles::default() };
        let read = of_row((&self.drafts[at].row.id, &own), row.try_get(4)?, &sealed, context);
        let (kind, extras) = read.unwrap_or_else(|cause| {
            self.fault(org, format!("principal {id:?}"), cause);
            (PrincipalKind::Unusable, Extras::default())
        });
        let principal = PrincipalRow {
            id: own,
            kind,
            extras,
            workspace,
            issuer: None,
            users: row.try_get(3)?,
            control: row.try_get(13)?,
        };
        self.drafts[at].row.principals.push(principal);
        Ok(())
    }

    fn app(&mut self, row: &Row) -> Taken {
        let (org, id, workspace): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        let (url, failed, policy) = (row.try_get(3)?, row.try_get(4)?, policy(row)?);
        let made = self.url(url).and_then(|url| upstream(id, workspace, url));
        let (start, balance) = (self.start(at, row.try_get(11)?), clusters::balance(row, 12)?);
        let probe = probe(row.try_get(13)?);
        let settled =
            |app| Ok(UpstreamRow { failed, policy: policy?, start: start?, balance: balance?, probe: probe?, ..app });
        match made.and_then(settled) {
            Ok(app) => self.drafts[at].row.apps.push(app),
            Err(cause) => {
                let useless = self.useless(at, id, workspace, &cause);
                self.drafts[at].row.apps.extend(useless);
                self.fault(org, format!("app {id:?}"), cause);
            }
        }
        Ok(())
    }

    /// An upstream that is there and that no request goes to; none where not even that can be said.
    fn useless(&self, at: usize, id: &str, workspace: &str, cause: &str) -> Option<UpstreamRow> {
        let url = self.drafts[at].row.workspaces.iter().find(|row| row.id.as_str() == workspace)?.url.clone();
        let row = upstream(id, workspace, url).ok()?;
        Some(UpstreamRow { fault: Some(cause.into()), ..row })
    }

    fn warehouse(&mut self, row: &Row) -> Taken {
        let (org, id, workspace): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        let workspaces = &self.drafts[at].row.workspaces;
        let url = workspaces.iter().find(|row| row.id.as_str() == workspace).map(|row| row.url.clone());
        // Without its workspace the organisation is broken, which has been said.
        let Some(url) = url else { return Ok(()) };
        let (start, balance) = (self.start(at, row.try_get(3)?), clusters::balance(row, 4)?);
        let probe = probe(row.try_get(5)?);
        let settled = |warehouse| Ok(UpstreamRow { start: start?, balance: balance?, probe: probe?, ..warehouse });
        match upstream(id, workspace, url).and_then(settled) {
            Ok(warehouse) => self.drafts[at].row.warehouses.push(warehouse),
            Err(cause) => {
                let useless = self.useless(at, id, workspace, &cause);
                self.drafts[at].row.warehouses.extend(useless);
                self.fault(org, format!("warehouse {id:?}"), cause);
            }
        }
        Ok(())
    }

    /// How an upstream of an organisation is started.
    fn start(&self, at: usize, text: Option<&str>) -> Result<Option<StartRow>, String> {
        let Some(text) = text else { return Ok(None) };
        let start = start::of_row(text, self.context.policy)?;
        let is_known = |id: &PrincipalId| self.drafts[at].row.principals.iter().any(|principal| principal.id == *id);
        match &start.principal {
            Some(id) if !is_known(id) => Err(format!("its start names principal \"{id}\", which there is not")),
            _ => Ok(Some(start)),
        }
    }

    fn engine(&mut self, row: &Row) -> Taken {
        let (org, id): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        let start = self.start(at, row.try_get(11)?);
        match engines::engine(row, self.context.policy, start)? {
            Ok(engine) => self.drafts[at].row.engines.push(engine),
            Err(cause) => {
                let useless = self.useless(at, id, row.try_get(2)?, &cause);
                self.drafts[at].row.engines.extend(useless.map(EngineRow::useless));
                self.fault(org, format!("engine {id:?}"), cause);
            }
        }
        Ok(())
    }

    /// A node with its cluster; the nodes of a cluster follow one another.
    fn node(&mut self, row: &Row) -> Taken {
        let (org, kind, name, cluster): (&str, &str, &str, &str) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        let url = row.try_get::<_, Option<&str>>(6)?.ok_or_else(|| "it has no node".to_owned());
        let made = url.and_then(|url| Ok((clusters::cluster(cluster, row)?, self.url(url)?)));
        let draft = &mut self.drafts[at];
        let Some(upstream) = draft.upstream(kind, name) else { return Ok(()) };
        match made {
            Ok((new, url)) => {
                if upstream.clusters.last().is_none_or(|last| last.id != new.id) {
                    upstream.clusters.push(new);
                }
                upstream.clusters.last_mut().into_iter().for_each(|last| last.nodes.push(url.clone()));
            }
            Err(cause) => {
                let fault = format!("cluster {cluster:?}: {cause}");
                upstream.fault.get_or_insert(fault.into_boxed_str());
                self.fault(org, format!("cluster {cluster:?}, and with it {kind} {name:?}"), cause);
            }
        }
        Ok(())
    }

    /// A rule that cannot be used allows nothing.
    fn rule(&mut self, row: &Row) -> Taken {
        let (org, id): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Some(at) = self.at(org) else { return Ok(()) };
        match rules::rule(id, row)? {
            Ok(rule) => self.drafts[at].row.rules.push(rule),
            Err(cause) => self.fault(org, format!("rule {id:?}"), cause),
        }
        Ok(())
    }

    fn finish(self) -> Read {
        let mut unusable = self.unusable;
        let whole = |draft: Draft| {
            let Draft { row, broken } = draft;
            if broken {
                unusable.push((row.id, row.version));
                return None;
            }
            Some(row)
        };
        let orgs = self.drafts.into_iter().filter_map(whole).collect();
        Read { orgs, bars: Vec::new(), faults: self.faults, unusable }
    }
}

fn upstream(id: &str, workspace: &str, url: BaseUrl) -> Result<UpstreamRow, String> {
    let id = UpstreamId::parse(id).map_err(|error| error.to_string())?;
    let workspace = WorkspaceId::parse(workspace).map_err(|error| error.to_string())?;
    Ok(UpstreamRow::new(id, workspace, url))
}

/// How the nodes of an upstream are probed.
pub(super) fn probe(text: Option<&str>) -> Result<Option<Probe>, String> {
    text.map(probe::of_row).transpose()
}

/// How the requests of an app are treated.
fn policy(row: &Row) -> Result<Result<Policy, String>, tokio_postgres::Error> {
    let (host, strip_prefix, base_tag): (&str, bool, bool) = (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    let time = |text: Option<&str>| text.map(duration::parse).transpose().map_err(|error| error.to_string());
    let (ping_interval, idle_timeout) = (time(row.try_get(8)?), time(row.try_get(9)?));
    let (seen, protocol) =
        (named("host", &HostSeen::NAMES, host), named("protocol", &Protocol::NAMES, row.try_get(10)?));
    let policy = || {
        let (host, protocol) = (seen?, protocol?);
        let (ping_interval, idle_timeout) = (ping_interval?, idle_timeout?);
        Ok(Policy { host, strip_prefix, base_tag, protocol, ping_interval, idle_timeout })
    };
    Ok(policy())
}

/// What a name in `column` stands for.
pub(super) fn named<T: Copy>(column: &str, names: &[(&str, T)], name: &str) -> Result<T, String> {
    let known = names.iter().find(|(known, _)| *known == name);
    known.map(|(_, value)| *value).ok_or_else(|| format!("the {column} {name:?} is not known"))
}
