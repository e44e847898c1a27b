//! Which node of an upstream a request goes to. Without I/O, as everything that decides.

use super::decide::Moment;
use crate::model::reject::{Class, Reject};
use crate::model::upstream::{Cluster, Node, Upstream};
use std::sync::Arc;

/// A node, and the cluster that it was chosen from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) node: &'a Arc<Node>,
}

/// The less busy of two nodes picked by chance, among those that serve, are available and were not tried in vain. With too
/// few of them available, or none, that does not count: one that is thought to be down is better than none. Knowing the load of two
/// is nearly as good as knowing it of all, and herds nobody onto the one that was idle a moment ago.
///
/// # Errors
/// [`Reject`] when no node is left.
pub(super) fn pick<'a>(upstream: &'a Upstream, moment: &Moment<'_>) -> Result<Choice<'a>, Reject> {
    let is_left = |choice: &Choice<'_>| !moment.tried.contains(&choice.node.live.uid());
    let is_available = |choice: &Choice<'_>| is_left(choice) && choice.node.live.is_available();
    // Most upstreams have but one.
    let any = choices(upstream).nth(1).is_none()
        || upstream.is_in_panic(moment.panic_threshold)
        || !choices(upstream).any(|choice| is_available(&choice));
    let choices = || choices(upstream).filter(|choice| if any { is_left(choice) } else { is_available(choice) });
    let count = choices().count() as u64;
    if count == 0 {
        return Err(Reject::new(Class::NoRunningCluster, "no cluster of the upstream is running"));
    }
    let first = moment.seed % count;
    // Another one: 1 to count - 1 places further on.
    let second = (first + 1 + (moment.seed >> 32) % (count - 1).max(1)) % count;
    let nth = |n: u64| choices().nth(n as usize);
    let better = match (nth(first), nth(second)) {
        (Some(a), Some(b)) if b.node.live.active() < a.node.live.active() => Some(b),
        (a, _) => a,
    };
    better.ok_or_else(|| Reject::new(Class::Internal, "a node vanished from an immutable snapshot"))
}

fn choices(upstream: &Upstream) -> impl Iterator<Item = Choice<'_>> {
    upstream.serving().flat_map(|cluster| cluster.nodes.iter().map(move |node| Choice { cluster, node }))
}
