//! Which metrics there are, each with its labels and its number. The lock is taken to register and to render, never to
//! count: what counts has a handle.

use super::histogram::Histogram;
use super::render;
use metrics::{Counter, Gauge, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The metrics of one instance.
#[derive(Default)]
pub(super) struct Registry {
    families: Mutex<Families>,
}

/// All metrics by kind; what has the same kind, name and labels is one.
#[derive(Default)]
pub(super) struct Families {
    /// What they mean, by name.
    pub(super) help: BTreeMap<KeyName, SharedString>,
    pub(super) counters: Family<AtomicU64>,
    /// Each an `f64` by its bits.
    pub(super) gauges: Family<AtomicU64>,
    pub(super) histograms: Family<Histogram>,
}

/// The metrics of one kind: by name, and below it by their labels as they are written.
pub(super) type Family<T> = BTreeMap<KeyName, BTreeMap<String, Arc<T>>>;

impl Registry {
    /// The histogram of these labels.
    pub(super) fn histogram(&self, key: &Key) -> Arc<Histogram> {
        one(&mut self.lock().histograms, key)
    }

    /// All metrics in the text format of Prometheus, sorted.
    pub(super) fn render(&self) -> String {
        render::text(&self.lock())
    }

    fn describe(&self, name: KeyName, help: SharedString) {
        self.lock().help.insert(name, help);
    }

    fn lock(&self) -> MutexGuard<'_, Families> {
        // Whoever panicked here left whole entries behind.
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The metric of this name and these labels, made if it is not there.
fn one<T: Default>(family: &mut Family<T>, key: &Key) -> Arc<T> {
    let series = family.entry(key.name_shared()).or_default();
    Arc::clone(series.entry(render::labels(key.labels())).or_default())
}

impl Recorder for Registry {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(name, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(name, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(one(&mut self.lock().counters, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(one(&mut self.lock().gauges, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::from_arc(self.histogram(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::METADATA;
    use metrics::Label;
    use std::time::Duration;

    #[test]
    fn the_same_name_and_labels_are_the_same_metric() {
        let registry = Registry::default();
        let key = |value| Key::from_parts("calls_total", vec![Label::from_static_parts("result", value)]);
        registry.register_counter(&key("ok"), &METADATA).increment(1);
        registry.register_counter(&key("ok"), &METADATA).increment(2);
        registry.register_counter(&key("bad"), &METADATA).increment(4);
        let text = registry.render();
        assert_eq!(text, "# TYPE calls_total counter\ncalls_total{result=\"bad\"} 4\ncalls_total{result=\"ok\"} 3\n\n");
    }

    #[test]
    fn kinds_have_their_types_and_help_stands_before_them() {
        let registry = Registry::default();
        registry.describe_gauge("depth".into(), None, "How deep.".into());
        registry.describe_counter("never_registered".into(), None, "Not there.".into());
        registry.register_gauge(&Key::from_static_name("depth"), &METADATA).set(2.5);
        registry.register_gauge(&Key::from_static_name("depth"), &METADATA).decrement(0.5);
        let histogram = registry.register_histogram(&Key::from_static_name("took_seconds"), &METADATA);
        histogram.record(0.25);
        registry.histogram(&Key::from_static_name("took_seconds")).record(Duration::from_secs(61));
        let text = registry.render();
        assert!(text.starts_with("# HELP depth How deep.\n# TYPE depth gauge\ndepth 2\n\n# TYPE took_sec"), "{text}");
        assert!(text.contains("took_seconds_bucket{le=\"0.1\"} 0\ntook_seconds_bucket{le=\"0.25\"} 1\n"), "{text}");
        assert!(text.ends_with("_bucket{le=\"+Inf\"} 2\ntook_seconds_sum 61.25\ntook_seconds_count 2\n\n"), "{text}");
        assert!(!text.contains("never_registered"), "{text}");
    }
}
