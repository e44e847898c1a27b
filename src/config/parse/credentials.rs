//! Tokens of service principals.

use super::{key_id, key_source, keys};
use crate::config::reader::Section;
use crate::config::{AssertionKey, Credentials, Env};
use std::collections::BTreeSet;

/// `credentials`.
pub(super) fn credentials(section: &Section<'_>, env: &Env) -> Credentials {
    let mut ids = BTreeSet::new();
    let assertion_keys = section.sections("assertion_keys", keys::ASSERTION_KEY);
    let assertion_key = |key: &Section<'_>| {
        let (source, id) = (key_source(key, env), key_id(key, &mut ids)?);
        Some(AssertionKey { id, source: source? })
    };
    Credentials {
        mint_timeout: section.seconds("mint_timeout", 15),
        refresh_idle: section.seconds("refresh_idle", 12 * 60 * 60),
        assertion_keys: assertion_keys.iter().filter_map(assertion_key).collect(),
    }
}
