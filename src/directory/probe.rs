//! How the nodes of an upstream are probed, as it is written: the same keys in a directory file and in a row of the
//! database.

use super::principal::row;
use crate::config::duration;
use crate::config::reader::{Item, Section};
use crate::model::probe::{Probe, ProbeKind, Statuses, path};
use serde_json::{Value, json};
use std::time::Duration;

/// The keys of a probe.
pub(super) const KEYS: &[&str] = &["kind", "path", "expect", "interval", "timeout", "healthy", "unhealthy"];

/// How often a node is probed at most: more would be load, not a question.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
/// Probes in a row that may be asked for.
const MOST_IN_A_ROW: i128 = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
}

/// Reads it; `None` when a mistake leaves nothing to build.
pub(super) fn read(section: &Section<'_>) -> Option<Probe> {
    let kind = kind(section);
    // The rest is read whatever is wrong with that, so that all mistakes are told at once.
    let usual = Probe::usual(ProbeKind::Tcp);
    let count = |item: &Item<'_>| item.integer(1..=MOST_IN_A_ROW);
    let interval = section.or("interval", usual.interval, interval);
    let timeout = section.or("timeout", usual.timeout, Item::duration);
    let healthy = section.or("healthy", usual.healthy, count);
    let unhealthy = section.or("unhealthy", usual.unhealthy, count);
    Some(Probe { kind: kind?, interval, timeout, healthy, unhealthy })
}

fn kind(section: &Section<'_>) -> Option<ProbeKind> {
    let kind = section.require("kind", "write http or tcp")?;
    match kind.one_of(&[("http", Kind::Http), ("tcp", Kind::Tcp)])? {
        Kind::Http => {
            let at = section.require("path", "write path = \"/healthz\", what is asked for");
            let at = at.and_then(|item| item.parsed(path));
            let expect = section.or("expect", Statuses::default(), |item| item.parsed(Statuses::parse));
            Some(ProbeKind::Http { path: at?, expect })
        }
        Kind::Tcp => {
            for item in ["path", "expect"].into_iter().filter_map(|key| section.get(key)) {
                item.wrong("is for kind = \"http\"; remove it");
            }
            Some(ProbeKind::Tcp)
        }
    }
}

fn interval(item: &Item<'_>) -> Option<Duration> {
    let interval = item.duration()?;
    if interval < LEAST_INTERVAL {
        item.wrong("must be at least 100ms; write a duration such as \"10s\"");
        return None;
    }
    Some(interval)
}

/// Reads what a row of the database has.
///
/// # Errors
/// All that is wrong, in one line.
pub(super) fn of_row(text: &str) -> Result<Probe, String> {
    row::as_section(text, KEYS, read)
}

/// The other way round: what a row of the database holds.
pub(super) fn to_json(probe: &Probe) -> Value {
    let mut json = json!({
        "interval": duration::format(probe.interval),
        "timeout": duration::format(probe.timeout),
        "healthy": probe.healthy,
        "unhealthy": probe.unhealthy,
    });
    match &probe.kind {
        ProbeKind::Http { path, expect } => {
            json["kind"] = "http".into();
            json["path"] = path.to_string().into();
            json["expect"] = expect.to_string().into();
        }
        ProbeKind::Tcp => json["kind"] = "tcp".into(),
    }
    json
}
