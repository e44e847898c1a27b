//! Which cluster and node of an upstream a request goes to. Without I/O, as everything that decides.
//!
//! First a cluster by weight, then a node of it as the upstream's strategy has it. What joined a moment ago gets less than
//! its share. A request with a key always goes to the same node, as long as that is there.

mod cluster;
mod key;
mod node;
#[cfg(test)]
mod tests;

use super::decide::Moment;
use crate::model::balance::mix;
use crate::model::engine::Engine;
use crate::model::reject::{Class, Reject};
use crate::model::upstream::{Cluster, Node, Upstream};
use crate::session::Session;
use crate::session::places::Place;
use std::sync::Arc;

/// A node, and the cluster that it was chosen from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) node: &'a Arc<Node>,
}

/// Chooses among the nodes that serve, take new requests and were not tried in vain.
///
/// # Errors
/// [`Reject`] when no node is left.
pub(super) fn pick<'a>(
    upstream: &'a Upstream,
    engine: Option<&Engine>,
    session: &Session,
    moment: &Moment<'_>,
) -> Result<Choice<'a>, Reject> {
    if let Some(only) = only(upstream).filter(|_| moment.tried.is_empty()) {
        return Ok(only);
    }
    let candidates = Candidates::new(upstream, moment);
    let place = session.places.of(upstream.tag).filter(|_| upstream.balance.affinity);
    if let Some(kept) = place.and_then(|place| candidates.at(place)) {
        return Ok(kept);
    }
    let key = key::of(upstream, engine, session, moment.head);
    let mut draw = Draw(moment.seed);
    let chosen = candidates.cluster(key, &mut draw).and_then(|cluster| {
        let node = candidates.node(cluster, key, &mut draw)?;
        Some(Choice { cluster, node })
    });
    chosen.ok_or_else(|| refusal(upstream))
}

/// Whether a choice may find something. Told without making one, which takes turns.
///
/// # Errors
/// [`Reject`] when nothing of the upstream runs.
pub(super) fn may_serve(upstream: &Upstream) -> Result<(), Reject> {
    upstream.serving().next().map(drop).ok_or_else(|| refusal(upstream))
}

/// What a session with affinity is to remember of a choice; none if it does already.
pub(super) fn new_place(upstream: &Upstream, choice: &Choice<'_>, session: &Session) -> Option<Place> {
    if !upstream.balance.affinity {
        return None;
    }
    let node = choice.cluster.place(choice.node);
    (session.places.of(upstream.tag) != Some(node)).then_some(Place { upstream: upstream.tag, node })
}

/// The node of an upstream that has no other: most are such.
fn only(upstream: &Upstream) -> Option<Choice<'_>> {
    let [cluster] = &upstream.clusters[..] else { return None };
    let [node] = &cluster.nodes[..] else { return None };
    let serves = cluster.weight > 0 && upstream.serving().next().is_some();
    serves.then_some(Choice { cluster, node })
}

/// Why there is no choice.
fn refusal(upstream: &Upstream) -> Reject {
    let nothing_left = || "the request could be sent to no node of the upstream".into();
    Reject::new(Class::NoRunningCluster, upstream.obstacle().unwrap_or_else(nothing_left))
}

/// The nodes that a request may go to.
struct Candidates<'a, 'm> {
    upstream: &'a Upstream,
    moment: &'m Moment<'m>,
    /// Whether it does not matter if they are available.
    any: bool,
}

impl<'a, 'm> Candidates<'a, 'm> {
    fn new(upstream: &'a Upstream, moment: &'m Moment<'m>) -> Self {
        let all = Self { upstream, moment, any: true };
        let mut nodes = all.clusters().flat_map(|cluster| &cluster.nodes);
        // One that is thought to be down is better than none.
        let any = upstream.is_in_panic(moment.panic_threshold)
            || !nodes.any(|node| node.live.is_available() && all.has(node));
        Self { any, ..all }
    }

    fn has(&self, node: &Node) -> bool {
        (self.any || node.live.is_available()) && !self.moment.tried.contains(&node.live.uid())
    }

    /// The clusters that take new requests.
    fn clusters(&self) -> impl Iterator<Item = &'a Arc<Cluster>> + Clone + use<'a, 'm> {
        self.upstream.serving().filter(|cluster| cluster.weight > 0)
    }

    fn nodes(&self, cluster: &'a Cluster) -> impl Iterator<Item = &'a Arc<Node>> + Clone {
        cluster.nodes.iter().filter(|node| self.has(node))
    }

    /// Where a session is. It stays in a cluster of weight 0, so that such a one empties as sessions end.
    fn at(&self, place: u32) -> Option<Choice<'a>> {
        let choices = self.upstream.serving().flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster, node)));
        let mut choices = choices.map(|(cluster, node)| Choice { cluster, node });
        choices.find(|choice| choice.cluster.place(choice.node) == place && self.has(choice.node))
    }
}

/// Numbers that follow from a seed (SplitMix64, Steele et al. 2014): one decision needs several.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is more than zero (Lemire 2019, without the correction: 64 bits against bounds of at
    /// most 45 leave no bias that anybody could see).
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// One of some things, each with a chance that grows with its weight; none if none has any.
    fn weighted<T>(&mut self, things: impl Iterator<Item = (T, u64)> + Clone) -> Option<T> {
        let total: u64 = things.clone().map(|(_, weight)| weight).sum();
        let mut point = if total > 0 { self.below(total) } else { return None };
        let mut last = None;
        for (thing, weight) in things {
            if point < weight {
                return Some(thing);
            }
            point -= weight;
            last = Some(thing);
        }
        // Where a slow start has begun since they were summed up, the point may lie behind all of them.
        last
    }
}

/// The one that a key belongs to: each gets keys in proportion to its weight, and when one comes, goes, or gets another
/// weight, no key moves between the others (rendezvous hashing, Thaler and Ravishankar 1998; by weight, Schindelhauer and
/// Schomaker 2005).
fn owner<T>(key: u64, things: impl Iterator<Item = (T, u64, u64)>) -> Option<T> {
    let score = |hash: u64, weight: u64| {
        // Evenly spread between 0 and 1, and never either.
        let point = ((mix(key ^ hash) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        weight as f64 / -point.ln()
    };
    let scored = things.map(|(thing, hash, weight)| (thing, score(hash, weight)));
    scored.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(thing, _)| thing)
}
