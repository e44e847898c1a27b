//! The directory in memory: immutable, indexed, replaced by one swap.
//!
//! Organisations are spread over shards, so that replacing one of them copies a shard and not the map.

use super::ids::{ClusterId, OrgId, PrincipalId, UpstreamId, WorkspaceId};
use super::tables::{
    ClusterRole, ClusterRow, ClusterState, OrgRow, PrincipalKind, PrincipalRow, Segment, Tables, UpstreamRow,
};
use super::upstream::{Cluster, Node, Principals, ServicePrincipal, Upstream, Workspace};
use super::url::BaseUrl;
use crate::live::node::NodeLive;
use crate::secret::Secret;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

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
    workspaces: HashMap<WorkspaceId, Arc<Workspace>>,
    apps: HashMap<UpstreamId, Arc<Upstream>>,
    warehouses: HashMap<UpstreamId, Arc<Upstream>>,
    /// The workspace of requests that name none: the only one, else the first.
    home: Option<Arc<Workspace>>,
}

impl Org {
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

    /// The workspace of requests that name none.
    #[must_use]
    pub fn home(&self) -> Option<&Arc<Workspace>> {
        self.home.as_ref()
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
        self.workspaces.values().flat_map(|w| w.principals.by_email.values().chain(&w.principals.shared))
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        let upstreams = self.apps.values().chain(self.warehouses.values());
        let of_upstreams = upstreams.flat_map(|u| &u.clusters).flat_map(|c| &c.nodes);
        of_upstreams.chain(self.workspaces.values().map(|w| &w.node))
    }
}

const SHARDS: usize = 1024;

type Shard = HashMap<OrgId, Arc<Org>, FixedState>;

/// All organisations at one moment.
#[derive(Debug)]
pub struct Snapshot {
    shards: Vec<Arc<Shard>>,
    orgs: usize,
}

impl Snapshot {
    /// Indexes the rows. Counters and tokens of what stays the same are taken over from `previous`.
    #[must_use]
    pub fn build(tables: Tables, previous: Option<&Self>) -> Self {
        let orgs = tables.orgs.len();
        let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::default()).collect();
        for row in tables.orgs {
            let old = previous.and_then(|snapshot| snapshot.org(row.id.as_str()));
            let org = Arc::new(Builder::new(old.map(Arc::as_ref), row.id.clone()).build(row));
            shards[shard_of(org.id.as_str())].insert(org.id.clone(), org);
        }
        Self { shards: shards.into_iter().map(Arc::new).collect(), orgs }
    }

    /// The same with these organisations put in place of those with their ids, or added, and without those of `gone`.
    /// Only their shards are copied.
    #[must_use]
    pub fn with_orgs(&self, rows: Vec<OrgRow>, gone: &[OrgId]) -> Self {
        let (mut shards, mut orgs) = (self.shards.clone(), self.orgs);
        // A shard is copied when it is changed for the first time, and is our own from then on.
        for row in rows {
            let old = self.org(row.id.as_str()).map(Arc::as_ref);
            let org = Arc::new(Builder::new(old, row.id.clone()).build(row));
            let shard = Arc::make_mut(&mut shards[shard_of(org.id.as_str())]);
            orgs += usize::from(shard.insert(org.id.clone(), org).is_none());
        }
        for id in gone {
            let shard = &mut shards[shard_of(id.as_str())];
            if shard.contains_key(id.as_str()) {
                Arc::make_mut(shard).remove(id.as_str());
                orgs -= 1;
            }
        }
        Self { shards, orgs }
    }

    /// All organisations, in no order.
    pub fn orgs(&self) -> impl Iterator<Item = &Arc<Org>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// The organisation with this id.
    #[must_use]
    pub fn org(&self, id: &str) -> Option<&Arc<Org>> {
        self.shards[shard_of(id)].get(id)
    }

    /// How many organisations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orgs
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orgs == 0
    }
}

fn shard_of(id: &str) -> usize {
    // The seed is fixed: a shard index must mean the same in every snapshot. Ids come from the operator, not from clients.
    FixedState::with_seed(0).hash_one(id) as usize % SHARDS
}

/// Builds one organisation on the live parts of its predecessor.
struct Builder {
    org: OrgId,
    nodes: HashMap<BaseUrl, Arc<NodeLive>>,
    tokens: HashMap<PrincipalId, Arc<ServicePrincipal>>,
}

impl Builder {
    fn new(old: Option<&Org>, org: OrgId) -> Self {
        let nodes = old.into_iter().flat_map(Org::nodes).map(|n| (n.url.clone(), Arc::clone(&n.live))).collect();
        let tokens = old.into_iter().flat_map(Org::principals).map(|p| (p.id.clone(), Arc::clone(p))).collect();
        Self { org, nodes, tokens }
    }

    fn build(mut self, row: OrgRow) -> Org {
        let mut workspaces = HashMap::new();
        let mut home = None;
        for w in row.workspaces {
            let principals = self.principals(&w.id, &w.url, &row.principals);
            let workspace = Arc::new(Workspace { node: self.node(w.url), id: w.id.clone(), principals });
            home.get_or_insert_with(|| Arc::clone(&workspace));
            workspaces.insert(w.id, workspace);
        }
        let apps = self.upstreams(row.apps, &workspaces);
        let warehouses = self.upstreams(row.warehouses, &workspaces);
        let (id, name, segment, version) = (row.id, row.name, row.segment, row.version);
        Org { id, name, segment, version, workspaces, apps, warehouses, home }
    }

    fn node(&mut self, url: BaseUrl) -> Arc<Node> {
        let live = self.nodes.entry(url.clone()).or_insert_with(NodeLive::new);
        Arc::new(Node { live: Arc::clone(live), url })
    }

    fn principals(&mut self, id: &WorkspaceId, issuer: &BaseUrl, rows: &[PrincipalRow]) -> Principals {
        let mut principals = Principals::default();
        for row in rows.iter().filter(|row| row.workspace == *id) {
            let principal = Arc::new(self.principal(row, issuer));
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
        let unchanged = |old: &&Arc<ServicePrincipal>| old.kind == row.kind && old.issuer == *issuer;
        let token = self.tokens.get(&row.id).filter(unchanged).map_or_else(Arc::default, |p| Arc::clone(&p.token));
        if let PrincipalKind::Bearer { token: bearer } = &row.kind {
            token.put(Secret::new(format!("Bearer {}", bearer.expose())), 0, u64::MAX);
        }
        ServicePrincipal {
            org: self.org.clone(),
            id: row.id.clone(),
            kind: row.kind.clone(),
            issuer: issuer.clone(),
            token,
        }
    }

    /// Rows whose workspace is unknown are left out: sources check references, and a gap must not become a panic.
    fn upstreams(
        &mut self,
        rows: Vec<UpstreamRow>,
        workspaces: &HashMap<WorkspaceId, Arc<Workspace>>,
    ) -> HashMap<UpstreamId, Arc<Upstream>> {
        let mut upstreams = HashMap::new();
        for row in rows {
            let Some(workspace) = workspaces.get(&row.workspace).cloned() else { continue };
            let clusters = self.clusters(row.clusters, row.url);
            upstreams.insert(row.id.clone(), Arc::new(Upstream { id: row.id, workspace, clusters }));
        }
        upstreams
    }

    fn clusters(&mut self, rows: Vec<ClusterRow>, url: BaseUrl) -> Vec<Cluster> {
        if rows.is_empty() {
            let nodes = vec![self.node(url)];
            let id = ClusterId::parse("default").expect("a constant that is a valid id");
            return vec![Cluster { id, state: ClusterState::Running, role: ClusterRole::Primary, nodes }];
        }
        let cluster = |row: ClusterRow| Cluster {
            nodes: row.nodes.into_iter().map(|url| self.node(url)).collect(),
            id: row.id,
            state: row.state,
            role: row.role,
        };
        rows.into_iter().map(cluster).collect()
    }
}

#[cfg(test)]
mod tests;
