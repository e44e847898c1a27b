//! `[upstreams.health]` and `[upstreams.circuit]`, checked: when nodes are taken out of use, and how much each may have
//! to do.

use std::time::Duration;

/// When nodes are taken out of use, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// After so many failures one after the other; 0 for never.
    pub consecutive_failures: u32,
    /// When of a thousand requests so many fail; 0 for never.
    pub failure_share: u32,
    /// Requests that have to be there before their share counts.
    pub failure_requests: u32,
    /// The time over which they are counted.
    pub failure_window: Duration,
    /// Whether an app's 500 is a failure of its node.
    pub count_500: bool,
    /// For so long at first, and twice as long each time.
    pub ejection_time: Duration,
    /// But never longer.
    pub max_ejection_time: Duration,
    /// When of a thousand nodes of an upstream fewer are available, all are used.
    pub panic_threshold: u32,
    /// Probes that may be under way at once.
    pub max_probes: usize,
    /// Who probes.
    pub prober: Prober,
}

/// Who probes nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prober {
    /// Each instance, for itself.
    Instance,
    /// One instance, for all.
    Fleet,
}

/// How much upstreams and their nodes may have to do at once, on one instance; 0 for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circuit {
    /// Requests and tunnels on an upstream.
    pub max_requests: u32,
    /// Requests of an upstream that are tried again on another node.
    pub max_retries: u32,
    /// Requests and tunnels on a node.
    pub max_requests_per_node: u32,
    /// Connections to a node, idle ones too.
    pub max_connections_per_node: u32,
    /// Connections to a node that do not stand yet.
    pub max_connecting_per_node: u32,
}
