//! What may be called of an organisation's workspaces besides the usual, in the directory file.

use super::Ids;
use super::access::user;
use super::principals::email;
use crate::config::reader::{Item, Section};
use crate::model::api::{Action, Pattern, RuleRow};
use crate::model::ids::RuleId;

const RULE: &[&str] = &["id", "members", "users", "allow", "warehouses"];

/// Reads the rules of an organisation.
pub(super) fn rules(org: &Section<'_>) -> Vec<RuleRow> {
    let mut ids = Ids::new("rule", "the organisation");
    org.sections("api", RULE).iter().filter_map(|section| rule(section, &mut ids)).collect()
}

fn rule(section: &Section<'_>, ids: &mut Ids) -> Option<RuleRow> {
    let id = ids.take(section, RuleId::parse);
    for key in ["members", "users"] {
        // Left out it is everybody; nobody is not worth a rule.
        if let Some(item) = section.get(key).filter(Item::is_empty_array) {
            item.wrong(format!("names nobody; write whom the rule is for, or leave {key} out"));
        }
    }
    let members = section.list("members", user);
    let users = section.list("users", email);
    let allow = section.list("allow", |item| item.parsed(Pattern::parse));
    let warehouses = section.list("warehouses", |item| item.one_of(&Action::NAMES));
    if section.get("allow").is_none() && section.get("warehouses").is_none() {
        section.lacks("allows nothing; write allow = [\"GET /api/...\"] or warehouses = [\"start\", \"stop\"]");
    }
    Some(RuleRow { id: id?, members, users, allow, warehouses })
}
