//! How requests are spread over an upstream, as it is written: the same keys in a directory file and in the database.

use super::principal::row;
use crate::config::reader::{Item, Section};
use crate::model::balance::{Balance, HashOn, MAX_WEIGHT, Strategy, USUAL_WEIGHT};

/// The keys of an upstream that are about it.
const KEYS: &[&str] = &["balance", "hash_on", "affinity", "slow_start"];

/// Reads them.
pub(super) fn read(section: &Section<'_>) -> Balance {
    let strategy = section.or("balance", Strategy::default(), |item| item.one_of(&Strategy::NAMES));
    let hash_on = section.get("hash_on");
    if let Some(item) = hash_on.as_ref().filter(|_| strategy != Strategy::Hash) {
        item.wrong("is for balance = \"hash\"; remove it, or write that as well");
    }
    Balance {
        strategy,
        hash_on: hash_on.and_then(|item| item.parsed(HashOn::parse)).unwrap_or_default(),
        affinity: section.or("affinity", false, Item::boolean),
        slow_start: section.get("slow_start").and_then(|item| item.duration_or_zero()),
    }
}

/// Reads what a row of the database has, by the same keys.
///
/// # Errors
/// All that is wrong, in one line.
pub(super) fn of_row(json: &str) -> Result<Balance, String> {
    row::as_section(json, KEYS, |section| Some(read(section)))
}

/// The weight of a cluster.
pub(super) fn weight(cluster: &Section<'_>) -> u32 {
    cluster.or("weight", USUAL_WEIGHT, |item| item.integer(0..=MAX_WEIGHT.into()))
}
