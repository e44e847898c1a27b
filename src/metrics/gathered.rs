//! What the workers count by themselves, added up among the other metrics when somebody asks.

use super::histogram::Histogram;
use super::registry::Registry;
use super::worker::Sum;
use super::{METADATA, RouteKind, counter_with};
use metrics::{Counter, Gauge, Key, Label, Recorder as _};
use std::sync::Arc;

/// Where the sums go.
pub(super) struct Gathered {
    requests_active: Gauge,
    bytes_received: Counter,
    bytes_sent: Counter,
    /// By [`RouteKind`]: of whole requests, of upstreams, of the gateway itself.
    times: [[Arc<Histogram>; 3]; RouteKind::ALL.len()],
}

impl Gathered {
    /// Registers them.
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &'static str| registry.register_counter(&Key::from_static_name(name), &METADATA);
        let histogram = |name: &'static str, kind: RouteKind| {
            registry.histogram(&Key::from_parts(name, vec![Label::from_static_parts("route", kind.label())]))
        };
        let names = [
            "embedgate_request_duration_seconds",
            "embedgate_upstream_duration_seconds",
            "embedgate_overhead_duration_seconds",
        ];
        Self {
            requests_active: registry.register_gauge(&Key::from_static_name("embedgate_requests_active"), &METADATA),
            bytes_received: counter("embedgate_received_bytes_total"),
            bytes_sent: counter("embedgate_sent_bytes_total"),
            times: RouteKind::ALL.map(|kind| names.map(|name| histogram(name, kind))),
        }
    }

    /// Puts other sums in place of those before.
    pub(super) fn replace(&self, registry: &Registry, sum: &Sum<'_>) {
        self.requests_active.set(sum.active() as f64);
        self.bytes_received.absolute(sum.received());
        self.bytes_sent.absolute(sum.sent());
        for (kind, times) in RouteKind::ALL.into_iter().zip(&self.times) {
            for (times, recorded) in times.iter().zip(sum.times(kind)) {
                times.replace(&recorded);
            }
            for (code, count) in sum.codes(kind) {
                let labels =
                    vec![Label::from_static_parts("route", kind.label()), Label::new("code", code.to_string())];
                counter_with(registry, "embedgate_requests_total", labels).absolute(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::{Finished, Metrics, RouteKind};

    #[test]
    fn what_workers_count_is_added_up() {
        let metrics = Metrics::default();
        let (one, other) = (metrics.worker(), metrics.worker());
        let request = Finished {
            kind: RouteKind::App,
            status: 200,
            received: 1,
            sent: 20,
            duration: 3_000_000,
            upstream: Some(2_000_000),
            overhead: None,
        };
        for worker in [&one, &one, &other] {
            worker.begin();
            worker.finish(&request);
        }
        // No status that could be told apart.
        one.begin();
        one.finish(&Finished { status: 99, ..request });
        other.begin();
        drop(other);
        for _ in 0..2 {
            let text = metrics.render();
            for line in [
                "embedgate_requests_active 1",
                "embedgate_received_bytes_total 4",
                "embedgate_sent_bytes_total 80",
                "embedgate_requests_total{route=\"app\",code=\"200\"} 3",
                "embedgate_request_duration_seconds_count{route=\"app\"} 4",
                "embedgate_request_duration_seconds_sum{route=\"app\"} 0.012",
                "embedgate_upstream_duration_seconds_bucket{route=\"app\",le=\"0.0025\"} 4",
                "embedgate_overhead_duration_seconds_count{route=\"app\"} 0",
                "embedgate_request_duration_seconds_count{route=\"sql\"} 0",
            ] {
                assert!(text.lines().any(|one| one == line), "{line}: {text}");
            }
            assert!(!text.contains("code=\"99\""), "{text}");
        }
    }
}
