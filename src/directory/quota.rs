//! What may be under way, as it is written: the same keys in a directory file, in a row of the database and, for quotas, in the
//! configuration.

use super::principal::row;
use crate::config::reader::{Item, Section};
use crate::model::quota::{Load, MAX_LIMIT, Quota};
use serde_json::{Map, Value};

/// Reads how much may be under way on an upstream.
pub(super) fn load(upstream: &Section<'_>) -> Load {
    Load {
        max_concurrent: upstream.get("max_concurrent").and_then(|item| item.integer(0..=i128::from(MAX_LIMIT))),
        adaptive: upstream.get("adaptive").as_ref().and_then(Item::boolean),
    }
}

/// Reads a quota that is a section of an organisation.
pub(super) fn of_org(org: &Section<'_>) -> Quota {
    org.optional("quota", Quota::KEYS).map(|section| Quota::read(&section)).unwrap_or_default()
}

/// Reads what a row of the database has.
///
/// # Errors
/// All that is wrong, in one line.
pub(super) fn of_row(text: &str) -> Result<Quota, String> {
    row::as_section(text, Quota::KEYS, |section| Some(Quota::read(section)))
}

/// The other way round: what a row of the database holds; none where nothing is said.
pub(super) fn to_json(quota: &Quota) -> Option<Value> {
    let said =
        Quota::KEYS.iter().zip(quota.values()).filter_map(|(key, value)| Some(((*key).to_owned(), value?.into())));
    let said: Map<_, _> = said.collect();
    (!said.is_empty()).then_some(Value::Object(said))
}
