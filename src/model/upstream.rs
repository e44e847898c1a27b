//! What requests are sent to and as whom, as the snapshot holds it.

use super::Map;
use super::autostart::AutoStart;
use super::balance::{Balance, hash, mix};
use super::ids::{ClusterId, OrgId, PrincipalId, UpstreamId, WorkspaceId};
use super::policy::Policy;
use super::principal::{Extras, PrincipalKind};
use super::probe::Probe;
use super::quota::{Load, Quota};
use super::tables::{ClusterRole, ClusterState};
use super::url::BaseUrl;
use crate::live::cluster::ClusterLive;
use crate::live::node::NodeLive;
use crate::live::quota::OrgUsage;
use crate::live::token::TokenCell;
use crate::live::upstream::UpstreamLive;
use std::borrow::Cow;
use std::sync::Arc;

/// One URL that requests are sent to, for one organisation.
#[derive(Debug)]
pub struct Node {
    /// Where it is.
    pub url: BaseUrl,
    /// Its counters; they outlive the snapshot.
    pub live: Arc<NodeLive>,
    /// What stands for its address where nodes are told apart by numbers.
    pub hash: u64,
}

impl Node {
    /// A node at this address.
    #[must_use]
    pub fn new(url: BaseUrl, live: Arc<NodeLive>) -> Self {
        let hash = hash(url.to_string().as_bytes());
        Self { url, live, hash }
    }
}

/// A set of nodes with one state.
#[derive(Debug)]
pub struct Cluster {
    /// Unique within the upstream.
    pub id: ClusterId,
    /// Whether it may get requests.
    pub state: ClusterState,
    /// Whether its answers count.
    pub role: ClusterRole,
    /// Its part of the requests, against that of the others; zero for no new ones.
    pub weight: u32,
    /// At least one.
    pub nodes: Vec<Arc<Node>>,
    /// Its counters; they outlive the snapshot.
    pub live: Arc<ClusterLive>,
    /// What stands for its id where clusters are told apart by numbers.
    pub hash: u64,
    /// How much may be under way on the upstream.
    pub load: Load,
    /// What limits the upstream, shared with its other clusters; outlives the snapshot.
    pub upstream: Arc<UpstreamLive>,
}

impl Cluster {
    /// What stands for one of its nodes in a session that stays there: the same on every instance.
    #[must_use]
    pub fn place(&self, node: &Node) -> u32 {
        (mix(self.hash ^ node.hash) >> 32) as u32
    }
}

/// What an organisation may use, and what it has in use.
#[derive(Debug, Default)]
pub struct Budget {
    /// Its own limits.
    pub quota: Quota,
    /// Counters; they outlive the snapshot.
    pub usage: Arc<OrgUsage>,
}

/// An identity used upstream.
#[derive(Debug)]
pub struct ServicePrincipal {
    /// The organisation it belongs to.
    pub org: OrgId,
    /// What the organisation may use.
    pub budget: Arc<Budget>,
    /// Unique within the organisation.
    pub id: PrincipalId,
    /// How it proves itself.
    pub kind: PrincipalKind,
    /// What goes with any kind.
    pub extras: Extras,
    /// The workspace that issues its tokens.
    pub issuer: BaseUrl,
    /// Its current token; outlives the snapshot as long as all of the above stays the same.
    pub token: Arc<TokenCell>,
}

/// The principals of one workspace: who is used for whom.
#[derive(Debug, Default)]
pub struct Principals {
    /// The one for every user that has none of their own.
    pub shared: Option<Arc<ServicePrincipal>>,
    /// Those reserved for users, by e-mail address in lower case.
    pub by_email: Map<String, Arc<ServicePrincipal>>,
    /// Those that start and stop things, and act for nobody.
    pub control: Vec<Arc<ServicePrincipal>>,
}

impl Principals {
    /// The principal that acts for the user with this e-mail address (lower case).
    #[must_use]
    pub fn of(&self, email: &str) -> Option<&Arc<ServicePrincipal>> {
        // Most organisations reserve none: then nothing is hashed.
        let own = if self.by_email.is_empty() { None } else { self.by_email.get(email) };
        own.or(self.shared.as_ref())
    }

    /// All of them; one that is reserved for several users as often.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ServicePrincipal>> {
        self.by_email.values().chain(&self.shared).chain(&self.control)
    }

    /// The one with this id.
    #[must_use]
    pub fn by_id(&self, id: &PrincipalId) -> Option<&Arc<ServicePrincipal>> {
        self.all().find(|principal| principal.id == *id)
    }
}

/// An account with a URL, and who acts in it.
#[derive(Debug)]
pub struct Workspace {
    /// Unique within the organisation.
    pub id: WorkspaceId,
    /// Its API.
    pub node: Arc<Node>,
    /// Who acts in it.
    pub principals: Principals,
}

/// An app, a warehouse or an engine.
#[derive(Debug)]
pub struct Upstream {
    /// Unique among its kind within the organisation.
    pub id: UpstreamId,
    /// Whose principals are used for it.
    pub workspace: Arc<Workspace>,
    /// Whether it is known not to work: then no session is started for it.
    pub failed: bool,
    /// How its requests are treated.
    pub policy: Policy,
    /// How its requests are spread.
    pub balance: Balance,
    /// What stands for it in sessions that stay on a node of it.
    pub tag: u32,
    /// Why a part of it cannot be used, and so it serves nobody.
    pub fault: Option<Box<str>>,
    /// How it is started when it does not run; none when the gateway has no hand in that, or the directory says that a
    /// cluster is running.
    pub autostart: Option<AutoStart>,
    /// How its nodes are probed; none when they are not.
    pub probe: Option<Probe>,
    /// At least one.
    pub clusters: Vec<Arc<Cluster>>,
}

impl Upstream {
    /// The clusters that requests go to: running ones whose answers count. Of what is started on demand the directory
    /// does not know that it runs.
    pub fn serving(&self) -> impl Iterator<Item = &Arc<Cluster>> + Clone {
        let started = self.autostart.is_some();
        let runs = move |state| state == ClusterState::Running || (started && state != ClusterState::Draining);
        let usable = if self.fault.is_some() { &[][..] } else { &self.clusters[..] };
        usable.iter().filter(move |cluster| runs(cluster.state) && cluster.role == ClusterRole::Primary)
    }

    /// Why nothing of it takes new requests, whatever the state of its nodes; none if something does.
    #[must_use]
    pub fn obstacle(&self) -> Option<Cow<'static, str>> {
        if let Some(fault) = &self.fault {
            return Some(format!("the directory has what cannot be used: {fault}").into());
        }
        if self.serving().any(|cluster| cluster.weight > 0 && !cluster.nodes.is_empty()) {
            return None;
        }
        Some(match self.serving().next() {
            Some(_) => "every running cluster of the upstream has the weight 0".into(),
            None => "no cluster of the upstream is running".into(),
        })
    }

    /// Whether of the nodes that take new requests fewer than so many in a thousand are available. Then all are used: the few that are
    /// left would break down under what is meant for all, or it is not the nodes that are at fault.
    #[must_use]
    pub fn is_in_panic(&self, threshold: u32) -> bool {
        let nodes = || self.serving().filter(|cluster| cluster.weight > 0).flat_map(|cluster| &cluster.nodes);
        let available = nodes().filter(|node| node.live.is_available()).count() as u64;
        available * 1000 < u64::from(threshold) * nodes().count() as u64
    }
}
