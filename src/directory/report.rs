//! What there is of an upstream, for operators: its clusters as the directory has them, with what is under way on each.

use super::postgres::fleet::{ClusterName, Roll, Tally};
use crate::model::snapshot::Org;
use crate::model::tables::{ClusterRole, ClusterState};
use crate::model::upstream::{Cluster, Upstream};
use serde_json::{Value, json};

/// An upstream as it stands.
#[derive(Debug)]
pub struct UpstreamReport {
    /// The id of the organisation.
    pub org: String,
    /// `app`, `warehouse` or `engine`.
    pub kind: &'static str,
    /// Its own id.
    pub id: String,
    /// Why no request can go to it.
    pub trouble: Option<String>,
    /// Its clusters, in the order of the directory.
    pub clusters: Vec<ClusterReport>,
}

/// A cluster as it stands.
#[derive(Debug)]
pub struct ClusterReport {
    /// Its id.
    pub id: String,
    /// As the directory writes it.
    pub state: &'static str,
    /// As the directory writes it.
    pub role: &'static str,
    /// The URLs of its nodes.
    pub nodes: Vec<String>,
    /// What is under way on it from here.
    pub here: u32,
    /// What is under way on it from all instances; none where nobody has asked them.
    pub fleet: Option<Tally>,
    /// Whether it is draining and every living instance has said that nothing is under way on it, and nothing will be.
    pub is_drained: bool,
}

impl UpstreamReport {
    /// An upstream of an organisation, with what the instances have said of it.
    #[must_use]
    pub fn new(org: &Org, kind: &'static str, upstream: &Upstream, roll: Option<&Roll>) -> Self {
        let cluster = |cluster: &std::sync::Arc<Cluster>| {
            let name = ClusterName::new(org.id.as_str(), kind, upstream.id.as_str(), cluster.id.as_str());
            let fleet = roll.map(|roll| roll.tally(&name, org.version));
            let is_draining = cluster.state == ClusterState::Draining;
            ClusterReport {
                id: cluster.id.to_string(),
                state: cluster.state.word(),
                role: role(cluster.role),
                nodes: cluster.nodes.iter().map(|node| node.url.to_string()).collect(),
                here: cluster.live.active(),
                is_drained: is_draining && fleet.as_ref().is_some_and(Tally::is_empty),
                fleet,
            }
        };
        Self {
            org: org.id.to_string(),
            kind,
            id: upstream.id.to_string(),
            trouble: upstream.obstacle().map(std::borrow::Cow::into_owned),
            clusters: upstream.clusters.iter().map(cluster).collect(),
        }
    }

    /// The same as JSON. What is under way from here is told where `has_requests` says that requests are served here.
    #[must_use]
    pub fn json(&self, has_requests: bool) -> Value {
        let clusters: Vec<_> = self.clusters.iter().map(|cluster| cluster.json(has_requests)).collect();
        let Self { org, kind, id, trouble, .. } = self;
        json!({ "org": org, "kind": kind, "id": id, "reason": trouble, "clusters": clusters })
    }
}

impl ClusterReport {
    fn json(&self, has_requests: bool) -> Value {
        let Self { id, state, role, nodes, here, fleet, is_drained } = self;
        let mut value = json!({ "id": id, "state": state, "role": role, "nodes": nodes });
        if has_requests {
            value["in_flight_here"] = json!(here);
        }
        if let Some(tally) = fleet {
            let instance = |one: &super::postgres::fleet::Share| json!({ "instance": one.instance, "in_flight": one.count, "is_current": one.is_current });
            let instances: Vec<_> = tally.shares.iter().map(instance).collect();
            value["in_flight"] = json!(tally.total());
            value["instances"] = json!(instances);
            value["drained"] = json!(is_drained);
        }
        value
    }
}

fn role(role: ClusterRole) -> &'static str {
    match role {
        ClusterRole::Primary => "primary",
        ClusterRole::Shadow => "shadow",
    }
}
