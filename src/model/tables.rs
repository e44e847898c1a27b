//! The directory as rows: what a source delivers, before it is indexed into a snapshot.
//!
//! The names are those of the directory file and of the database columns.

use super::access::Bar;
use super::api::RuleRow;
use super::autostart::StartRow;
use super::balance::Balance;
use super::engine::EngineRow;
use super::ids::{ClusterId, OrgId, UpstreamId, WorkspaceId};
use super::policy::Policy;
use super::principal::PrincipalRow;
use super::probe::Probe;
use super::quota::{Load, Quota};
use super::url::BaseUrl;
use crate::clock::UnixSeconds;

/// All organisations that a source knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// One row per organisation; ids are unique.
    pub orgs: Vec<OrgRow>,
    /// Ended sessions and banned users, each with the moment it is from.
    pub bars: Vec<(Bar, UnixSeconds)>,
}

/// How early an organisation gets new things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Segment {
    /// The operator's own organisations.
    Internal,
    /// Organisations that asked for early access.
    Preview,
    /// Everybody else.
    #[default]
    Stable,
}

/// An organisation and all that belongs to it. References between the rows have been checked by the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgRow {
    /// Unique in the directory.
    pub id: OrgId,
    /// For people.
    pub name: String,
    /// Release segment.
    pub segment: Segment,
    /// Rises with every change, where the source counts them; else 0.
    pub version: u64,
    /// The users whom it admits; none for everybody the front end sends.
    pub members: Option<Vec<Box<str>>>,
    /// The origins of its front ends; none for those of the configuration.
    pub frontends: Option<Vec<BaseUrl>>,
    /// What it and its users may have under way.
    pub quota: Quota,
    /// Unique ids within the organisation.
    pub workspaces: Vec<WorkspaceRow>,
    /// Unique ids within the organisation.
    pub principals: Vec<PrincipalRow>,
    /// Unique ids within the organisation.
    pub apps: Vec<UpstreamRow>,
    /// Unique ids within the organisation.
    pub warehouses: Vec<UpstreamRow>,
    /// Unique ids within the organisation.
    pub engines: Vec<EngineRow>,
    /// Unique ids within the organisation.
    pub rules: Vec<RuleRow>,
}

/// An account with a URL, Databricks-like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRow {
    /// Unique within the organisation.
    pub id: WorkspaceId,
    /// Where its API and its token endpoint are.
    pub url: BaseUrl,
}

/// An app, a warehouse or an engine: something requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamRow {
    /// Unique among its kind within the organisation.
    pub id: UpstreamId,
    /// The workspace whose principals are used for it.
    pub workspace: WorkspaceId,
    /// Where it is when it has no clusters. A warehouse's is its workspace's.
    pub url: BaseUrl,
    /// Whether it is known not to work: then no session is started for it.
    pub failed: bool,
    /// How its requests are treated.
    pub policy: Policy,
    /// How its requests are spread.
    pub balance: Balance,
    /// Why a part of it cannot be used, and so it serves nobody: requests must not go to the rest as if that were all.
    pub fault: Option<Box<str>>,
    /// How it is started when it does not run; none when the gateway has no hand in that.
    pub start: Option<StartRow>,
    /// How its nodes are probed; none when they are not.
    pub probe: Option<Probe>,
    /// How much may be under way on it.
    pub load: Load,
    /// Empty means one running cluster with one node at `url`.
    pub clusters: Vec<ClusterRow>,
}

impl UpstreamRow {
    /// One without anything of its own.
    #[must_use]
    pub fn new(id: UpstreamId, workspace: WorkspaceId, url: BaseUrl) -> Self {
        let (policy, balance, load) = (Policy::default(), Balance::default(), Load::default());
        Self {
            id,
            workspace,
            url,
            failed: false,
            policy,
            balance,
            fault: None,
            start: None,
            probe: None,
            load,
            clusters: Vec::new(),
        }
    }
}

/// A set of nodes that never changes: another shape is another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRow {
    /// Unique within the upstream.
    pub id: ClusterId,
    /// Whether it may get requests.
    pub state: ClusterState,
    /// Whether its answers count.
    pub role: ClusterRole,
    /// Its part of the requests, against that of the others; zero for no new ones.
    pub weight: u32,
    /// At least one.
    pub nodes: Vec<BaseUrl>,
}

impl ClusterRow {
    /// Whether it gets requests.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.state == ClusterState::Running && self.role == ClusterRole::Primary
    }
}

/// The state of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// Not there; may be started.
    Stopped,
    /// On its way; not yet to be used.
    Starting,
    /// Takes requests.
    Running,
    /// Finishes what it has, takes nothing new.
    Draining,
}

impl ClusterState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stopped, Self::Starting, Self::Running, Self::Draining];

    /// As directories write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
        }
    }

    /// What a directory means by a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// The role of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClusterRole {
    /// Its answers go to clients.
    #[default]
    Primary,
    /// It gets copies; its answers are only compared.
    Shadow,
}
