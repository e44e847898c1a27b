//! The choice of a cluster: by weight, of which a new one has a part first.

use super::{Candidates, Draw, owner};
use crate::model::upstream::Cluster;
use std::sync::Arc;

impl<'a> Candidates<'a, '_> {
    /// One of the clusters that have a node for the request.
    pub(super) fn cluster(&self, key: Option<u64>, draw: &mut Draw) -> Option<&'a Arc<Cluster>> {
        let usable = self.clusters().filter(|cluster| self.nodes(cluster).next().is_some());
        let weighed = usable.map(|cluster| (cluster, self.weight(cluster)));
        match key {
            Some(key) => owner(key, weighed.map(|(cluster, weight)| (cluster, cluster.hash, weight))),
            None => draw.weighted(weighed),
        }
    }

    fn weight(&self, cluster: &Cluster) -> u64 {
        u64::from(cluster.weight) * u64::from(cluster.live.ramp.share(self.moment.uptime, self.slow_start()))
    }

    /// How long slow starts take.
    pub(super) fn slow_start(&self) -> std::time::Duration {
        self.upstream.balance.slow_start.unwrap_or(self.moment.slow_start)
    }
}
