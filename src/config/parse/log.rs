//! Log lines.

use crate::config::reader::{Item, Section};
use crate::config::{Log, LogFormat};
use crate::model::ids::is_valid_id;

/// `log`.
pub(super) fn log(section: &Section<'_>) -> Log {
    Log {
        format: section
            .or("format", LogFormat::Json, |item| item.one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)])),
        level: section.or("level", "info".to_owned(), |item| item.parsed(log_level)),
        access: section.or("access", true, Item::boolean),
    }
}

/// One level for all, or levels for parts: `info`, `info,embedgate=debug`.
fn log_level(text: &str) -> Result<String, String> {
    let is_level = |level: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&level);
    let is_target = |target: &str| target.split("::").all(is_valid_id);
    let understood = text.split(',').all(|part| match part.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part),
    });
    if understood {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no level; write off, error, warn, info, debug or trace, or \"info,embedgate=debug\""))
}
