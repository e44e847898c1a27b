//! What is measured of the fleet, and of what the directory in memory did not have.

use super::registry::Registry;
use super::{METADATA, counter_with};
use metrics::{Counter, Gauge, Key, Label, Recorder as _};

/// What came of a request for what the snapshot did not have; a label of few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// The directory had it.
    Found,
    /// The directory did not have it either.
    Absent,
    /// The directory did not answer in time.
    Late,
    /// The directory was not asked: it was a moment ago, or too much is asked at once.
    Unasked,
}

impl Miss {
    const ALL: [Self; 4] = [Self::Found, Self::Absent, Self::Late, Self::Unasked];

    fn label(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Late => "late",
            Self::Unasked => "unasked",
        }
    }
}

/// The handles of the fleet.
pub struct FleetMetrics {
    /// Instances that are not about to end.
    pub instances: Gauge,
    /// Times that the fleet heard of this instance.
    pub beats: Counter,
    /// Times that it did not.
    pub beats_failed: Counter,
    /// Seconds since it last did.
    pub silence: Gauge,
    /// Clusters of which the fleet is not told because they are too many.
    pub untold: Gauge,
    /// Clusters that are draining.
    pub draining: Gauge,
    /// Requests, streams and tunnels that are on them here.
    pub draining_requests: Gauge,
    misses: [Counter; Miss::ALL.len()],
}

impl FleetMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        describe(registry);
        let gauge = |name: &'static str| registry.register_gauge(&Key::from_static_name(name), &METADATA);
        let result = |name, value| counter_with(registry, name, vec![Label::from_static_parts("result", value)]);
        Self {
            instances: gauge("embedgate_fleet_instances"),
            beats: result("embedgate_fleet_beats_total", "ok"),
            beats_failed: result("embedgate_fleet_beats_total", "failed"),
            silence: gauge("embedgate_fleet_silence_seconds"),
            untold: gauge("embedgate_fleet_untold_clusters"),
            draining: gauge("embedgate_draining_clusters"),
            draining_requests: gauge("embedgate_draining_requests"),
            misses: Miss::ALL.map(|miss| result("embedgate_directory_misses_total", miss.label())),
        }
    }

    /// Counts a request for what the snapshot did not have.
    pub fn count_miss(&self, miss: Miss) {
        self.misses[miss as usize].increment(1);
    }
}

fn describe(registry: &Registry) {
    for (name, help) in [
        ("embedgate_fleet_instances", "Instances of the fleet that are not about to end, this one among them."),
        ("embedgate_fleet_silence_seconds", "Seconds since the fleet last heard of this instance."),
        ("embedgate_fleet_untold_clusters", "Clusters of which the fleet is not told because they are too many."),
        ("embedgate_draining_clusters", "Clusters that are draining."),
        ("embedgate_draining_requests", "Requests, streams and WebSockets of this instance on draining clusters."),
    ] {
        registry.describe_gauge(name.into(), None, help.into());
    }
    for (name, help) in [
        ("embedgate_fleet_beats_total", "Times that this instance told the fleet of itself, by result."),
        ("embedgate_directory_misses_total", "Requests for what the directory in memory lacked, by what came of it."),
    ] {
        registry.describe_counter(name.into(), None, help.into());
    }
}
