//! SQL: what the gateway adds to statements and does for them.

use crate::config::reader::{Item, Section};
use crate::config::{Attribution, Sql};

/// Its keys.
pub(super) const KEYS: &[&str] = &["attribution", "cancel_abandoned", "plain_answers"];

/// `sql`.
pub(super) fn sql(section: &Section<'_>) -> Sql {
    let attributions = [("off", Attribution::Off), ("tags", Attribution::Tags), ("comment", Attribution::Comment)];
    Sql {
        attribution: section.or("attribution", Attribution::Off, |item| item.one_of(&attributions)),
        cancel_abandoned: section.or("cancel_abandoned", false, Item::boolean),
        plain_answers: section.or("plain_answers", false, Item::boolean),
    }
}
