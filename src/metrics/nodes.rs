//! What is counted of nodes: which are out of use, what goes elsewhere because of that, and what has no room.

use super::registry::Registry;
use super::{METADATA, counter_with};
use crate::live::node::Reason;
use metrics::{Counter, Gauge, Key, Label, Recorder as _};

/// A limit of `upstreams.circuit`; a label of few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitLimit {
    /// Requests of an upstream.
    Requests,
    /// Those of its requests that are tried on another node.
    Retries,
    /// Requests on a node.
    NodeRequests,
    /// Connections to a node.
    NodeConnections,
    /// Connections to a node that do not stand yet.
    NodeConnecting,
}

impl CircuitLimit {
    const ALL: [Self; 5] =
        [Self::Requests, Self::Retries, Self::NodeRequests, Self::NodeConnections, Self::NodeConnecting];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Retries => "retries",
            Self::NodeRequests => "node_requests",
            Self::NodeConnections => "node_connections",
            Self::NodeConnecting => "node_connecting",
        }
    }

    /// Why a request is refused, for the log.
    #[must_use]
    pub fn cause(self) -> &'static str {
        match self {
            Self::Requests => "the upstream has as many requests as upstreams.circuit.max_requests allows",
            Self::Retries => "as many requests are tried again as upstreams.circuit.max_retries allows",
            Self::NodeRequests => "the nodes have as many requests as upstreams.circuit.max_requests_per_node allows",
            Self::NodeConnections => {
                "there are as many connections to the nodes as upstreams.circuit.max_connections_per_node allows"
            }
            Self::NodeConnecting => {
                "as many connections to the nodes are being made as upstreams.circuit.max_connecting_per_node allows"
            }
        }
    }
}

/// The handles of what nodes do.
pub struct NodeMetrics {
    /// Requests sent to another node.
    pub retries: Counter,
    /// Nodes that are out of use for failed requests.
    pub ejected: Gauge,
    /// Nodes that are out of use for failed probes.
    pub dead: Gauge,
    /// 1 while this instance probes, 0 while another does it for the fleet.
    pub probing: Gauge,
    /// Probes that found a node well.
    pub probes: Counter,
    /// Probes that did not.
    pub probes_failed: Counter,
    circuits: [Counter; 5],
    ejections: [Counter; 3],
}

impl NodeMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name: &'static str| registry.register_gauge(&Key::from_static_name(name), &METADATA);
        let labelled = |name, label, value| counter_with(registry, name, vec![Label::from_static_parts(label, value)]);
        let ejections = |why: Reason| labelled("embedgate_node_ejections_total", "reason", why.label());
        let circuits = |limit: CircuitLimit| labelled("embedgate_circuit_open_total", "limit", limit.label());
        Self {
            retries: counter_with(registry, "embedgate_node_retries_total", Vec::new()),
            ejected: gauge("embedgate_nodes_ejected"),
            dead: gauge("embedgate_nodes_dead"),
            probing: gauge("embedgate_prober"),
            probes: labelled("embedgate_probes_total", "result", "good"),
            probes_failed: labelled("embedgate_probes_total", "result", "bad"),
            circuits: CircuitLimit::ALL.map(circuits),
            ejections: Reason::ALL.map(ejections),
        }
    }

    /// Counts a request that a limit of a circuit kept from a node.
    pub fn count_circuit(&self, limit: CircuitLimit) {
        self.circuits[limit as usize].increment(1);
    }

    /// Counts a node that was taken out of use.
    pub fn count_ejection(&self, reason: Reason) {
        self.ejections[reason as usize].increment(1);
    }
}

pub(super) fn describe(registry: &Registry) {
    for (name, help) in [
        ("embedgate_nodes_ejected", "Nodes out of use for failed requests, until one is answered again."),
        ("embedgate_nodes_dead", "Nodes out of use for failed probes."),
        ("embedgate_prober", "Whether this instance probes nodes: 0 while another does it for the fleet."),
    ] {
        registry.describe_gauge(name.into(), None, help.into());
    }
    for (name, help) in [
        ("embedgate_node_retries_total", "Requests sent to another node because one failed."),
        ("embedgate_node_ejections_total", "Nodes taken out of use for failed requests, by reason."),
        ("embedgate_circuit_open_total", "Requests that a limit of upstreams.circuit kept from a node, by limit."),
        ("embedgate_probes_total", "Probes of nodes by result."),
    ] {
        registry.describe_counter(name.into(), None, help.into());
    }
}
