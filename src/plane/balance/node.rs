//! The choice of a node of a cluster, as the upstream's strategy has it.

use super::{Candidates, Draw, owner};
use crate::live::ramp::WHOLE;
use crate::model::balance::Strategy;
use crate::model::upstream::{Cluster, Node};
use std::sync::Arc;

/// What a node costs that has requests under way and has answered none yet, in place of its latency: it is one that takes
/// long, until it says otherwise (as in Finagle).
const UNPROVEN: u64 = 1 << 40;

impl<'a> Candidates<'a, '_> {
    /// One of the cluster's nodes that the request may go to.
    pub(super) fn node(&self, cluster: &'a Cluster, key: Option<u64>, draw: &mut Draw) -> Option<&'a Arc<Node>> {
        let weighed = || self.nodes(cluster).map(|node| (node, self.share(node)));
        if let Some(key) = key {
            return owner(key, weighed().map(|(node, share)| (node, node.hash, share)));
        }
        match self.upstream.balance.strategy {
            Strategy::RoundRobin => self.next_in_turn(cluster, draw),
            // With hashing there is a key.
            Strategy::LeastRequests | Strategy::Hash => self.better_of_two(cluster, draw, requests),
            Strategy::PeakEwma => self.better_of_two(cluster, draw, waiting_time),
        }
    }

    /// How many thousandths of its share a node gets.
    fn share(&self, node: &Node) -> u64 {
        node.live.ramp.share(self.moment.uptime, self.slow_start()).into()
    }

    /// The cheaper of two nodes picked by chance. Knowing the load of two is nearly as good as knowing it of all, and herds
    /// nobody onto the one that was idle a moment ago (Mitzenmacher 2001).
    fn better_of_two(
        &self,
        cluster: &'a Cluster,
        draw: &mut Draw,
        cost: fn(&Node, u64) -> u64,
    ) -> Option<&'a Arc<Node>> {
        let weighed = || self.nodes(cluster).map(|node| (node, self.share(node)));
        let first = draw.weighted(weighed())?;
        let others = weighed().filter(|(node, _)| !Arc::ptr_eq(node, first));
        let Some(second) = draw.weighted(others) else { return Some(first) };
        // What is under way on one that starts slowly weighs as if it were as much of what it is to bear. And it has little
        // to do, so that it would win nearly always: it may as often as its share allows.
        let load = |node: &Node| u64::from(node.live.active()) * u64::from(WHOLE) / self.share(node).max(1);
        let is_cheaper = cost(second, load(second)) < cost(first, load(first));
        let wins = is_cheaper && draw.below(self.share(first)) < self.share(second);
        Some(if wins { second } else { first })
    }

    /// One node after the other, of all workers together. Of those that start slowly, some turns go to the next one.
    fn next_in_turn(&self, cluster: &'a Cluster, draw: &mut Draw) -> Option<&'a Arc<Node>> {
        let count = self.nodes(cluster).count();
        let start = cluster.live.turn() as usize % count.max(1);
        let in_turn = || self.nodes(cluster).cycle().skip(start).take(count);
        in_turn().find(|node| draw.below(WHOLE.into()) < self.share(node)).or_else(|| in_turn().next())
    }
}

/// What is under way on a node is all that counts.
fn requests(_: &Node, load: u64) -> u64 {
    load
}

/// How long it would take until the request is done.
fn waiting_time(node: &Node, load: u64) -> u64 {
    time_for(node.live.latency(), load)
}

/// The same by a latency in microseconds, 0 where it is not known, and what is under way.
pub(super) fn time_for(latency: u32, load: u64) -> u64 {
    match (u64::from(latency), load) {
        // Nobody has asked it yet: whoever does first finds out.
        (0, 0) => 0,
        (0, load) => UNPROVEN.saturating_add(load),
        (latency, load) => latency.saturating_mul(load + 1),
    }
}
