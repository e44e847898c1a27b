//! Prometheus' text format, version 0.0.4.

use super::histogram::{Histogram, seconds};
use super::registry::{Families, Family};
use metrics::{KeyName, Label, SharedString};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Room for the text of a gateway that has served a few kinds of requests.
const ROOM: usize = 64 * 1024;

/// Everything that is registered.
pub(super) fn text(families: &Families) -> String {
    let Families { help, counters, gauges, histograms } = families;
    let mut out = String::with_capacity(ROOM);
    let value = |number: &AtomicU64| number.load(Ordering::Relaxed);
    family(&mut out, help, "counter", counters, |out, name, labels, number| {
        sample(out, name, labels, value(number));
    });
    family(&mut out, help, "gauge", gauges, |out, name, labels, number| {
        sample(out, name, labels, f64::from_bits(value(number)));
    });
    family(&mut out, help, "histogram", histograms, histogram);
    out
}

/// Labels as they stand between braces; nothing where there are none.
pub(super) fn labels<'a>(labels: impl Iterator<Item = &'a Label>) -> String {
    let mut out = String::new();
    for label in labels {
        push_label(&mut out, label.key(), label.value());
    }
    out
}

fn push_label(out: &mut String, key: &str, value: &str) {
    out.push_str(if out.is_empty() { "" } else { "," });
    out.push_str(key);
    out.push_str("=\"");
    escape(out, value, true);
    out.push('"');
}

/// Writes text on one line. Quotes are escaped where text stands between them.
fn escape(out: &mut String, text: &str, between_quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if between_quotes => out.push_str("\\\""),
            _ => out.push(character),
        }
    }
}

/// The metrics of one kind, by name with its help and type.
fn family<T>(
    out: &mut String,
    help: &BTreeMap<KeyName, SharedString>,
    kind: &str,
    family: &Family<T>,
    write: impl Fn(&mut String, &str, &str, &T),
) {
    for (name, series) in family {
        let name = name.as_str();
        if let Some(help) = help.get(name) {
            push(out, format_args!("# HELP {name} "));
            escape(out, help, false);
            out.push('\n');
        }
        push(out, format_args!("# TYPE {name} {kind}\n"));
        for (labels, metric) in series {
            write(out, name, labels, metric);
        }
        out.push('\n');
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let (recorded, bucket) = (histogram.read(), format!("{name}_bucket"));
    let mut bounded = |bound: &str, count| {
        let mut with_bound = labels.to_owned();
        push_label(&mut with_bound, "le", bound);
        sample(out, &bucket, &with_bound, count);
    };
    for (bound, count) in recorded.cumulative() {
        bounded(&seconds(bound).to_string(), count);
    }
    bounded("+Inf", recorded.count());
    sample(out, &format!("{name}_sum"), labels, recorded.sum());
    sample(out, &format!("{name}_count"), labels, recorded.count());
}

fn sample(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    match labels {
        "" => push(out, format_args!("{name} {value}\n")),
        _ => push(out, format_args!("{name}{{{labels}}} {value}\n")),
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::Key;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn labels_are_escaped_and_keep_their_order() {
        let key = Key::from_parts("n", vec![Label::new("org", "a\"b\\c\nd"), Label::new("app", "ö")]);
        assert_eq!(labels(key.labels()), "org=\"a\\\"b\\\\c\\nd\",app=\"ö\"");
        assert_eq!(labels(Key::from_static_name("n").labels()), "");
    }

    #[test]
    fn help_keeps_its_quotes_and_stays_on_its_line() {
        let mut families = Families::default();
        families.help.insert("n".into(), "a \"b\" \\ c\nd".into());
        families.counters.entry("n".into()).or_default().entry(String::new()).or_default();
        assert_eq!(text(&families), "# HELP n a \"b\" \\\\ c\\nd\n# TYPE n counter\nn 0\n\n");
    }

    #[test]
    fn names_are_sorted_and_buckets_cumulative() {
        let mut families = Families::default();
        for name in ["b", "c", "a"] {
            families.gauges.entry(name.into()).or_default().entry(String::new()).or_default();
        }
        let took = Arc::<Histogram>::default();
        took.record(Duration::from_micros(60));
        took.record(Duration::from_micros(600));
        families.histograms.entry("took".into()).or_default().insert("route=\"app\"".into(), took);
        let text = text(&families);
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert_eq!(names, ["a gauge", "b gauge", "c gauge", "took histogram"]);
        let buckets = text.lines().filter(|line| line.starts_with("took_bucket"));
        let counts: Vec<_> = buckets.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).collect();
        assert_eq!(counts[..5], [0, 1, 1, 1, 2]);
        assert!(counts.is_sorted() && counts.len() == 19 && counts[18] == 2, "{counts:?}");
        assert!(text.contains("took_bucket{route=\"app\",le=\"0.00005\"} 0\n"), "{text}");
        assert!(text.contains("took_sum{route=\"app\"} 0.00066\ntook_count{route=\"app\"} 2\n"), "{text}");
    }
}
