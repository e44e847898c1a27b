//! The directory in memory: immutable, indexed, replaced by one swap.
//!
//! Organisations are spread over shards, so that replacing one of them copies a shard and not the map.

mod joining;

use super::Map;
use super::access::{Access, Bar, Holder, NoAccess};
use super::api::{Call, Permission, Rule};
use super::autostart::{AutoStart, StartRow};
use super::balance::{USUAL_WEIGHT, hash};
use super::engine::{Engine, EngineRow};
use super::frontends::{Census, Frontends};
use super::ids::{ClusterId, OrgId, PrincipalId, UpstreamId, WorkspaceId};
use super::principal::PrincipalRow;
use super::quota::{Load, Quota};
use super::sharded::Sharded;
use super::tables::{ClusterRole, ClusterRow, ClusterState, OrgRow, Segment, Tables, UpstreamRow};
use super::upstream::{Budget, Cluster, Node, Principals, ServicePrincipal, Upstream, Workspace};
use super::url::BaseUrl;
use crate::clock::UnixSeconds;
use crate::live::autostart::StartCell;
use crate::live::held::HeldLive;
use crate::live::node::NodeLive;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// The kinds of upstreams, as the directory names them.
const APP: &str = "app";
const WAREHOUSE: &str = "warehouse";
const ENGINE: &str = "engine";

/// An organisation and all that belongs to it.
#[derive(Debug)]
pub struct Org {
    /// Unique in the directory.
    pub id: OrgId,
    /// For people.
    pub name: String,
    /// Release segment.
    pub segment: Segment,
    /// Rises with every change, where the source counts them; else 0.
    pub version: u64,
    /// Its own front ends, which count for everything of it; none for those of the configuration.
    pub frontends: Option<Arc<Frontends>>,
    /// What it may use, and what it has in use.
    pub budget: Arc<Budget>,
    /// In order; none for everybody.
    members: Option<Box<[Box<str>]>>,
    workspaces: Map<WorkspaceId, Arc<Workspace>>,
    apps: Map<UpstreamId, Arc<Upstream>>,
    warehouses: Map<UpstreamId, Arc<Upstream>>,
    engines: BTreeMap<UpstreamId, Arc<Engine>>,
    /// The workspace of requests that name none: the only one, else the first.
    home: Option<Arc<Workspace>>,
    /// What users may call besides the usual.
    rules: Box<[Rule]>,
    /// How much of its bodies is held in memory.
    pub held: Arc<HeldLive>,
}

impl Org {
    /// Whether it admits this user.
    #[must_use]
    pub fn admits(&self, user: &str) -> bool {
        let is_member = |members: &[Box<str>]| members.binary_search_by(|one| (**one).cmp(user)).is_ok();
        self.members.as_deref().is_none_or(is_member)
    }

    /// Whether it admits the users of a list alone.
    #[must_use]
    pub fn has_members(&self) -> bool {
        self.members.is_some()
    }

    /// The app with this id.
    #[must_use]
    pub fn app(&self, id: &str) -> Option<&Arc<Upstream>> {
        self.apps.get(id)
    }

    /// The warehouse with this id.
    #[must_use]
    pub fn warehouse(&self, id: &str) -> Option<&Arc<Upstream>> {
        self.warehouses.get(id)
    }

    /// The engine with this id.
    #[must_use]
    pub fn engine(&self, id: &str) -> Option<&Arc<Engine>> {
        self.engines.get(id)
    }

    /// All engines, by their ids.
    pub fn engines(&self) -> impl Iterator<Item = &Arc<Engine>> {
        self.engines.values()
    }

    /// The workspace of requests that name none.
    #[must_use]
    pub fn home(&self) -> Option<&Arc<Workspace>> {
        self.home.as_ref()
    }

    /// The workspace with this id.
    #[must_use]
    pub fn workspace(&self, id: &str) -> Option<&Arc<Workspace>> {
        self.workspaces.get(id)
    }

    /// All workspaces, in no order.
    pub fn workspaces(&self) -> impl ExactSizeIterator<Item = &Arc<Workspace>> {
        self.workspaces.values()
    }

    /// Whether a user may make a call of a workspace's API.
    #[must_use]
    pub fn permits(&self, call: &Call<'_>, user: &str, email: &str) -> Permission {
        if call.is_usual {
            return Permission::Granted;
        }
        let is_own = |id: &str| self.warehouses.contains_key(id);
        let said = self.rules.iter().map(|rule| rule.permits(call, user, email, is_own));
        said.max().unwrap_or(Permission::Denied)
    }

    /// The only app, when there is just one.
    #[must_use]
    pub fn only_app(&self) -> Option<&Arc<Upstream>> {
        if self.apps.len() == 1 { self.apps.values().next() } else { None }
    }

    /// All apps, in no order.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.apps.values()
    }

    fn principals(&self) -> impl Iterator<Item = &Arc<ServicePrincipal>> {
        self.workspaces.values().flat_map(|w| w.principals.all())
    }

    /// Everything that requests are sent to, with the word for its kind.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, &Arc<Upstream>)> {
        let apps = self.apps.values().map(|app| (APP, app));
        let warehouses = self.warehouses.values().map(|warehouse| (WAREHOUSE, warehouse));
        let engines = self.engines.values().map(|engine| (ENGINE, &engine.upstream));
        apps.chain(warehouses).chain(engines)
    }

    fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.by_kind().map(|(_, upstream)| upstream)
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        let of_upstreams = self.upstreams().flat_map(|u| &u.clusters).flat_map(|c| &c.nodes);
        of_upstreams.chain(self.workspaces.values().map(|w| &w.node))
    }
}

/// All organisations at one moment, and who is shut out of them.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    orgs: Sharded<OrgId, Arc<Org>>,
    access: Access,
    frontends: Census,
}

impl Snapshot {
    /// Indexes the rows. Counters and tokens of what stays the same are taken over from `previous`.
    #[must_use]
    pub fn build(tables: Tables, previous: Option<&Self>) -> Self {
        let org = |row: OrgRow| {
            let old = previous.and_then(|snapshot| snapshot.org(row.id.as_str()));
            (row.id.clone(), Arc::new(Builder::new(old.map(Arc::as_ref), row.id.clone()).build(row)))
        };
        let bars = tables.bars.into_iter().map(|(bar, since)| (bar, Some(since)));
        let orgs: Sharded<_, _> = tables.orgs.into_iter().map(org).collect();
        let frontends = Census::default().with(orgs.iter().map(|(_, org)| (None, own_frontends(org))));
        Self { orgs, access: Access::default().with(bars), frontends }
    }

    /// The same with these organisations put in place of those with their ids, or added, and without those of `gone`.
    /// Only their shards are copied.
    #[must_use]
    pub fn with_orgs(&self, rows: Vec<OrgRow>, gone: &[OrgId]) -> Self {
        let changed = rows.into_iter().map(|row| {
            let (id, old) = (row.id.clone(), self.org(row.id.as_str()).map(Arc::as_ref));
            (id.clone(), Some(Arc::new(Builder::new(old, id).build(row))))
        });
        let changed: Vec<_> = changed.chain(gone.iter().map(|id| (id.clone(), None))).collect();
        let frontends = self.frontends.with(changed.iter().map(|(id, new)| {
            (self.org(id.as_str()).and_then(|old| own_frontends(old)), new.as_deref().and_then(own_frontends))
        }));
        Self { orgs: self.orgs.with(changed), access: self.access.clone(), frontends }
    }

    /// The same with these bars put up, or taken away.
    #[must_use]
    pub fn with_bars(&self, changes: impl IntoIterator<Item = (Bar, Option<UnixSeconds>)>) -> Self {
        self.with_access(self.access.with(changes))
    }

    /// The same with all bars replaced.
    #[must_use]
    pub fn with_access(&self, access: Access) -> Self {
        Self { orgs: self.orgs.clone(), access, frontends: self.frontends.clone() }
    }

    /// The organisation with this id.
    #[must_use]
    pub fn org(&self, id: &str) -> Option<&Arc<Org>> {
        self.orgs.get(id)
    }

    /// All organisations, in no order.
    pub fn orgs(&self) -> impl Iterator<Item = &Arc<Org>> {
        self.orgs.iter().map(|(_, org)| org)
    }

    /// Whether an `Origin` is a front end's of some organisation that has its own.
    #[must_use]
    pub fn is_frontend(&self, origin: &str) -> bool {
        self.frontends.contains(origin)
    }

    /// Who is shut out.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The organisation of a session, if its holder may still come in.
    ///
    /// # Errors
    /// [`NoAccess`]; none with it when there is no such organisation.
    pub fn admit(&self, holder: Holder<'_>) -> Result<&Arc<Org>, Option<NoAccess>> {
        let org = self.org(holder.org).ok_or(None)?;
        self.access.check(holder).map_err(Some)?;
        if org.admits(holder.user) { Ok(org) } else { Err(Some(NoAccess::NotMember)) }
    }

    /// How many organisations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orgs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orgs.is_empty()
    }
}

fn own_frontends(org: &Org) -> Option<&Frontends> {
    org.frontends.as_deref()
}

/// Builds one organisation on the live parts of its predecessor.
struct Builder {
    org: OrgId,
    nodes: Map<BaseUrl, Arc<NodeLive>>,
    budget: Arc<Budget>,
    tokens: Map<PrincipalId, Arc<ServicePrincipal>>,
    /// By kind and id.
    upstreams: Map<(&'static str, UpstreamId), Arc<Upstream>>,
    waiting: Arc<AtomicU32>,
    held: Arc<HeldLive>,
}

impl Builder {
    fn new(old: Option<&Org>, org: OrgId) -> Self {
        let nodes = old.into_iter().flat_map(Org::nodes).map(|n| (n.url.clone(), Arc::clone(&n.live))).collect();
        let tokens = old.into_iter().flat_map(Org::principals).map(|p| (p.id.clone(), Arc::clone(p))).collect();
        let upstreams = old.into_iter().flat_map(Org::by_kind);
        let upstreams: Map<_, _> =
            upstreams.map(|(kind, upstream)| ((kind, upstream.id.clone()), Arc::clone(upstream))).collect();
        let waiting = upstreams.values().find_map(|upstream| Some(Arc::clone(&upstream.autostart.as_ref()?.waiting)));
        let held = old.map(|old| Arc::clone(&old.held)).unwrap_or_default();
        let usage = old.map(|old| Arc::clone(&old.budget.usage)).unwrap_or_default();
        let budget = Arc::new(Budget { quota: Quota::default(), usage });
        Self { org, nodes, budget, tokens, upstreams, waiting: waiting.unwrap_or_default(), held }
    }

    fn build(mut self, row: OrgRow) -> Org {
        self.budget = Arc::new(Budget { quota: row.quota, usage: Arc::clone(&self.budget.usage) });
        let mut workspaces = Map::default();
        let mut home = None;
        for w in row.workspaces {
            let principals = self.principals(&w.id, &w.url, &row.principals);
            let workspace = Arc::new(Workspace { node: self.node(w.url), id: w.id.clone(), principals });
            home.get_or_insert_with(|| Arc::clone(&workspace));
            workspaces.insert(w.id, workspace);
        }
        let apps = self.upstreams(APP, row.apps, &workspaces);
        let warehouses = self.upstreams(WAREHOUSE, row.warehouses, &workspaces);
        let engines = self.engines(row.engines, &row.principals, &workspaces);
        let members = row.members.map(|mut members| {
            members.sort_unstable();
            members.dedup();
            members.into_boxed_slice()
        });
        let rules = row.rules.into_iter().map(Rule::from).collect();
        let frontends = row.frontends.map(|own| Arc::new(Frontends::new(&own)));
        let (id, name, segment, version) = (row.id, row.name, row.segment, row.version);
        let held = self.held;
        let budget = self.budget;
        Org {
            id,
            name,
            segment,
            version,
            frontends,
            budget,
            members,
            workspaces,
            apps,
            warehouses,
            engines,
            home,
            rules,
            held,
        }
    }

    fn node(&mut self, url: BaseUrl) -> Arc<Node> {
        let live = self.nodes.entry(url.clone()).or_insert_with(NodeLive::new);
        Arc::new(Node::new(url, Arc::clone(live)))
    }

    fn principals(&mut self, id: &WorkspaceId, issuer: &BaseUrl, rows: &[PrincipalRow]) -> Principals {
        let mut principals = Principals::default();
        for row in rows.iter().filter(|row| row.workspace == *id) {
            let principal = Arc::new(self.principal(row, row.issuer.as_ref().unwrap_or(issuer)));
            if row.control {
                principals.control.push(principal);
                continue;
            }
            for email in &row.users {
                principals.by_email.insert(email.clone(), Arc::clone(&principal));
            }
            if row.users.is_empty() {
                principals.shared = Some(principal);
            }
        }
        principals
    }

    fn principal(&self, row: &PrincipalRow, issuer: &BaseUrl) -> ServicePrincipal {
        // Another secret or another issuer is another identity: its old token must not be used for it.
        let unchanged =
            |old: &&Arc<ServicePrincipal>| old.kind == row.kind && old.extras == row.extras && old.issuer == *issuer;
        let token = self.tokens.get(&row.id).filter(unchanged).map_or_else(Arc::default, |p| Arc::clone(&p.token));
        if let Some(fixed) = row.kind.fixed_token(&row.extras) {
            token.put(fixed);
        }
        ServicePrincipal {
            org: self.org.clone(),
            budget: Arc::clone(&self.budget),
            id: row.id.clone(),
            kind: row.kind.clone(),
            extras: row.extras.clone(),
            issuer: issuer.clone(),
            token,
        }
    }

    /// As with upstreams, those whose principal is unknown are left out: another one must not act in its place.
    fn engines(
        &mut self,
        rows: Vec<EngineRow>,
        principals: &[PrincipalRow],
        workspaces: &Map<WorkspaceId, Arc<Workspace>>,
    ) -> BTreeMap<UpstreamId, Arc<Engine>> {
        let mut engines = BTreeMap::new();
        for EngineRow { upstream, principal, manner } in rows {
            let own = principal.map(|id| own_principals(&id, principals, workspaces));
            if own.as_ref().is_some_and(Option::is_none) {
                continue;
            }
            if let Some(upstream) = self.upstream(ENGINE, upstream, workspaces) {
                engines.insert(upstream.id.clone(), Arc::new(Engine { upstream, own: own.flatten(), manner }));
            }
        }
        engines
    }

    fn upstreams(
        &mut self,
        kind: &'static str,
        rows: Vec<UpstreamRow>,
        workspaces: &Map<WorkspaceId, Arc<Workspace>>,
    ) -> Map<UpstreamId, Arc<Upstream>> {
        let upstreams = rows.into_iter().filter_map(|row| self.upstream(kind, row, workspaces));
        upstreams.map(|upstream| (upstream.id.clone(), upstream)).collect()
    }

    /// A row whose workspace is unknown is left out: sources check references, and a gap must not become a panic.
    fn upstream(
        &mut self,
        kind: &'static str,
        row: UpstreamRow,
        workspaces: &Map<WorkspaceId, Arc<Workspace>>,
    ) -> Option<Arc<Upstream>> {
        let workspace = workspaces.get(&row.workspace).cloned()?;
        let is_running = row.clusters.iter().any(ClusterRow::is_serving);
        // Starting it would not make it usable.
        let start = row.start.filter(|_| !is_running && row.fault.is_none());
        let autostart = start.and_then(|start| self.autostart((kind, &row.id), start, &workspace, workspaces));
        let old = self.upstreams.get(&(kind, row.id.clone())).cloned();
        let clusters = match &old {
            // What is under way on them goes on, and is counted.
            Some(old) if row.fault.is_some() => old.clusters.clone(),
            _ => self.clusters(old.as_deref(), row.clusters, row.url, row.load),
        };
        let tag = (hash(format!("{kind}/{}", row.id).as_bytes()) >> 32) as u32;
        let UpstreamRow { id, failed, policy, balance, fault, probe, .. } = row;
        let new = Upstream { id, workspace, failed, policy, balance, tag, fault, autostart, probe, clusters };
        if let Some(old) = &old {
            joining::start_slowly(old, &new);
        }
        Some(Arc::new(new))
    }

    /// How an upstream is started; none without the principal that would do it, which sources check as well.
    fn autostart(
        &self,
        (kind, id): (&'static str, &UpstreamId),
        row: StartRow,
        own: &Workspace,
        workspaces: &Map<WorkspaceId, Arc<Workspace>>,
    ) -> Option<AutoStart> {
        let principal = match &row.principal {
            Some(id) => workspaces.values().find_map(|workspace| workspace.principals.by_id(id)),
            None => own.principals.shared.as_ref(),
        };
        let principal = Arc::clone(principal?);
        let old = self.upstreams.get(&(kind, id.clone())).and_then(|old| old.autostart.as_ref());
        let unchanged = |old: &&AutoStart| old.by == row.by && Arc::ptr_eq(&old.principal.token, &principal.token);
        let cell = old.filter(unchanged).map_or_else(Arc::<StartCell>::default, |old| Arc::clone(&old.cell));
        let waiting = Arc::clone(&self.waiting);
        Some(AutoStart { by: row.by, principal, idle_stop: row.idle_stop, kind, cell, waiting })
    }

    fn clusters(
        &mut self,
        old: Option<&Upstream>,
        rows: Vec<ClusterRow>,
        url: BaseUrl,
        load: Load,
    ) -> Vec<Arc<Cluster>> {
        let rows = if rows.is_empty() { vec![only(url)] } else { rows };
        let before = old.and_then(|old| old.clusters.first());
        let limits = before.map_or_else(Arc::default, |before| Arc::clone(&before.upstream));
        let cluster = |row: ClusterRow| {
            let old = old.and_then(|old| old.clusters.iter().find(|old| old.id == row.id));
            let live = old.map_or_else(Arc::default, |old| Arc::clone(&old.live));
            let nodes = row.nodes.into_iter().map(|url| self.node(url)).collect();
            let ClusterRow { id, state, role, weight, .. } = row;
            let hash = hash(id.as_str().as_bytes());
            let upstream = Arc::clone(&limits);
            Arc::new(Cluster { id, state, role, weight, nodes, live, hash, load, upstream })
        };
        rows.into_iter().map(cluster).collect()
    }
}

/// The cluster of an upstream that lists none.
fn only(url: BaseUrl) -> ClusterRow {
    let id = ClusterId::parse("default").expect("a constant that is a valid id");
    let (state, role, weight) = (ClusterState::Running, ClusterRole::Primary, USUAL_WEIGHT);
    ClusterRow { id, state, role, weight, nodes: vec![url] }
}

/// A principal as the only one there is: for everybody, or for those it is reserved for and nobody else.
fn own_principals(
    id: &PrincipalId,
    rows: &[PrincipalRow],
    workspaces: &Map<WorkspaceId, Arc<Workspace>>,
) -> Option<Principals> {
    let row = rows.iter().find(|row| row.id == *id)?;
    let known = &workspaces.get(&row.workspace)?.principals;
    let Some(email) = row.users.first() else {
        let shared = known.shared.clone().filter(|known| known.id == *id)?;
        return Some(Principals { shared: Some(shared), ..Principals::default() });
    };
    let principal = known.by_email.get(email).filter(|known| known.id == *id)?;
    let by_email = row.users.iter().map(|email| (email.clone(), Arc::clone(principal))).collect();
    Some(Principals { by_email, ..Principals::default() })
}

#[cfg(test)]
mod tests;
