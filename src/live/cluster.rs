//! The live side of a cluster: how much is under way on it, whichever of its nodes serves it, and whose turn is next.

use super::ramp::Ramp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counters of one cluster of one upstream. A node may be in several clusters, so they are not its nodes' sum.
#[derive(Debug, Default)]
pub struct ClusterLive {
    active: AtomicU32,
    turn: AtomicU32,
    /// Its slow start.
    pub ramp: Ramp,
}

impl ClusterLive {
    /// Requests, streams and tunnels that are on the cluster now.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// A number that rises with every call, on all workers together: on the line of the count that each request writes
    /// anyway.
    #[must_use]
    pub fn turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a request onto the cluster until the lease is dropped.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> ClusterLease {
        self.active.fetch_add(1, Ordering::Relaxed);
        ClusterLease(Arc::clone(self))
    }
}

/// One request's place on a cluster; gives it back when dropped.
#[derive(Debug)]
pub struct ClusterLease(Arc<ClusterLive>);

impl Drop for ClusterLease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
