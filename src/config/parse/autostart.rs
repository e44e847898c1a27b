//! What is started when somebody asks for it.

use crate::config::AutoStart;
use crate::config::reader::Section;

/// Its keys.
pub(super) const KEYS: &[&str] = &[
    "hold_sql",
    "hold_api",
    "queue",
    "queue_per_org",
    "queue_total",
    "poll_interval",
    "check_interval",
    "start_timeout",
    "call_timeout",
];

/// `autostart`.
pub(super) fn autostart(section: &Section<'_>) -> AutoStart {
    let count = |key, usual| section.or(key, usual, |item| item.integer(1..=1_000_000));
    AutoStart {
        hold_sql: section.seconds("hold_sql", 60),
        hold_api: section.seconds("hold_api", 30),
        queue: count("queue", 1000),
        queue_per_org: count("queue_per_org", 2000),
        queue_total: count("queue_total", 10_000),
        poll_interval: section.seconds("poll_interval", 2),
        check_interval: section.seconds("check_interval", 30),
        start_timeout: section.seconds("start_timeout", 20 * 60),
        call_timeout: section.seconds("call_timeout", 15),
    }
}
