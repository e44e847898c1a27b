//! `[queue]`: how requests wait that are over a limit.

use crate::config::Queue;
use crate::config::reader::Section;

/// Its keys.
pub(super) const KEYS: &[&str] = &["length", "per_org", "total", "max_time_sql", "max_time_api", "max_time_page"];

pub(super) fn queue(section: &Section<'_>) -> Queue {
    let count = |key, usual| section.or(key, usual, |item| item.integer(0..=1_000_000));
    Queue {
        length: count("length", 1000),
        per_org: count("per_org", 2000),
        total: count("total", 10_000),
        max_time_sql: section.seconds("max_time_sql", 60),
        max_time_api: section.seconds("max_time_api", 30),
        max_time_page: section.seconds("max_time_page", 10),
    }
}
