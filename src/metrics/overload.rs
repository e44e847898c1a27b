//! Metrics of quotas, queues and what the process is short of.

use super::histogram::Histogram;
use super::registry::Registry;
use super::{METADATA, Metrics, counter_with};
use crate::live::pressure::Scarce;
use crate::live::quota::Limit;
use metrics::{Counter, Gauge, Key, Label, Recorder, Unit};
use std::sync::Arc;

/// Handles of the metrics of overload.
pub struct OverloadMetrics {
    /// Requests refused because a quota was used up, by its limit.
    pub quota_refusals: [Counter; 4],
    /// Requests refused because the process was short of something, by what that is.
    pub shed: [Counter; 2],
    /// Requests that wait for their turn.
    pub queued: Gauge,
    /// How long they waited.
    pub queued_seconds: Arc<Histogram>,
    /// How long the one that waits longest has waited.
    pub queue_longest: Gauge,
    /// Memory of the process in bytes, and from where on nothing new is taken.
    pub memory: [Gauge; 2],
    /// Open files of the process, and from where on nothing new is taken.
    pub files: [Gauge; 2],
}

impl OverloadMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        describe(registry);
        let gauge = |name: &'static str| registry.register_gauge(&Key::from_static_name(name), &METADATA);
        let counter = |name, key, value| counter_with(registry, name, vec![Label::from_static_parts(key, value)]);
        Self {
            quota_refusals: Limit::ALL.map(|limit| counter("embedgate_quota_refusals_total", "limit", limit.label())),
            shed: Scarce::ALL.map(|scarce| counter("embedgate_shed_total", "scarce", scarce.label())),
            queued: gauge("embedgate_queued_requests"),
            queued_seconds: registry.histogram(&Key::from_static_name("embedgate_queued_seconds")),
            queue_longest: gauge("embedgate_queue_longest_seconds"),
            memory: ["embedgate_memory_bytes", "embedgate_memory_limit_bytes"].map(gauge),
            files: ["embedgate_open_files", "embedgate_open_files_limit"].map(gauge),
        }
    }
}

impl Metrics {
    /// The limit that an upstream's latency sets; there is one for each upstream for which that is switched on.
    pub fn adaptive_limit(&self, org: &str, upstream: &str) -> Gauge {
        let labels = vec![Label::new("org", org.to_owned()), Label::new("upstream", upstream.to_owned())];
        self.registry.register_gauge(&Key::from_parts("embedgate_adaptive_limit", labels), &METADATA)
    }
}

fn describe(registry: &Registry) {
    let gauges = [
        ("embedgate_queued_requests", "Requests that wait because a limit on what is under way is reached."),
        ("embedgate_queue_longest_seconds", "How long the request has waited that waits longest for its turn."),
        ("embedgate_memory_bytes", "Memory of the process."),
        ("embedgate_memory_limit_bytes", "Memory from which on nothing new is taken."),
        ("embedgate_open_files", "Open file descriptors of the process."),
        ("embedgate_open_files_limit", "Open file descriptors from which on nothing new is taken."),
        ("embedgate_adaptive_limit", "The limit on what is under way that an upstream's latency sets."),
    ];
    let counters = [
        ("embedgate_quota_refusals_total", "Requests refused because a quota was used up, by its limit."),
        ("embedgate_shed_total", "Requests refused because the process was short of memory or files."),
    ];
    for (name, help) in gauges {
        registry.describe_gauge(name.into(), None, help.into());
    }
    for (name, help) in counters {
        registry.describe_counter(name.into(), None, help.into());
    }
    let help = "How long requests waited because a limit on what is under way was reached.";
    registry.describe_histogram("embedgate_queued_seconds".into(), Some(Unit::Seconds), help.into());
}
