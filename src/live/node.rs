//! The live side of a node: who is on it now.

use super::ramp::Ramp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Identity and counters of one node of one organisation.
#[derive(Debug)]
pub struct NodeLive {
    uid: u64,
    active: AtomicU32,
    /// Its slow start.
    pub ramp: Ramp,
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

impl NodeLive {
    /// A node that nobody uses yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let uid = NEXT_UID.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { uid, active: AtomicU32::new(0), ramp: Ramp::default() })
    }

    /// A number that no other node of this process has or had. Connections are pooled under it: as nodes belong to one
    /// organisation, no connection ever serves two.
    #[must_use]
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// Requests and tunnels that are on the node now.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Whether it may get requests, as far as is known.
    #[must_use]
    pub fn is_available(&self) -> bool {
        true
    }

    /// How long it takes to answer of late, in microseconds; 0 as long as that is not known.
    #[must_use]
    pub fn latency(&self) -> u32 {
        0
    }

    /// Counts a request onto the node until the lease is dropped.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> NodeLease {
        self.active.fetch_add(1, Ordering::Relaxed);
        NodeLease(Arc::clone(self))
    }
}

/// One request's place on a node; gives it back when dropped.
#[derive(Debug)]
pub struct NodeLease(Arc<NodeLive>);

impl Drop for NodeLease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let node = NodeLive::new();
        let (one, two) = (node.lease(), node.lease());
        assert_eq!(node.active(), 2);
        drop(one);
        assert_eq!(node.active(), 1);
        drop(two);
        assert_eq!(node.active(), 0);
        assert_ne!(node.uid(), NodeLive::new().uid());
    }
}
