//! Which clusters and nodes start slowly: those that join others that serve already. Others would have to take what a cold
//! one does not; where there are none, or all are new, it gets its whole share.

use crate::model::tables::{ClusterRole, ClusterState};
use crate::model::upstream::{Cluster, Upstream};
use crate::model::url::BaseUrl;
use std::sync::Arc;

/// Compares an upstream with what it was, and has what joins it start slowly.
pub(super) fn start_slowly(old: &Upstream, new: &Upstream) {
    let served: Vec<_> = old.serving().map(|cluster| &cluster.id).collect();
    let has_served = |cluster: &Arc<Cluster>| served.contains(&&cluster.id);
    let joins_others = new.serving().any(has_served);
    let is_alone = new.serving().count() < 2;
    for cluster in new.serving() {
        let before = old.clusters.iter().find(|before| before.id == cluster.id);
        if is_alone {
            // Nobody is there to take the rest, so its start is over.
            cluster.live.ramp.warm();
        } else if joins_others && !has_served(cluster) && !before.is_some_and(|before| is_draining(before)) {
            cluster.live.ramp.cool();
        }
        if let Some(before) = before {
            nodes(before, cluster);
        }
    }
}

/// It served until a moment ago, so a switch back finds it warm.
fn is_draining(cluster: &Cluster) -> bool {
    cluster.state == ClusterState::Draining && cluster.role == ClusterRole::Primary
}

/// A new node of a cluster that keeps others. Where another upstream has it too, it starts slowly there as well: it is one
/// node.
fn nodes(before: &Cluster, cluster: &Cluster) {
    let is_known = |url: &BaseUrl| before.nodes.iter().any(|node| node.url == *url);
    if cluster.nodes.iter().any(|node| is_known(&node.url)) {
        cluster.nodes.iter().filter(|node| !is_known(&node.url)).for_each(|node| node.live.ramp.cool());
    }
}

#[cfg(test)]
mod tests;
