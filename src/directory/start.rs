//! How an upstream is started, as it is written: the same keys in a directory file and in a row of the database.

use super::principal::row;
use crate::config::duration;
use crate::config::reader::Section;
use crate::model::autostart::{StartBy, StartRow};
use crate::model::ids::PrincipalId;
use crate::model::url::{AllowedHosts, Endpoint};
use serde_json::{Map, Value};

/// The keys of a start.
pub(super) const KEYS: &[&str] = &["by", "name", "url", "principal", "idle_stop"];

#[derive(Clone, Copy)]
enum By {
    App,
    Warehouse,
    Firebolt,
    Webhook,
}

/// Those who start things, each with the keys that not all have.
const BY: [(&str, (By, &[&str])); 4] = [
    ("databricks-app", (By::App, &["name"])),
    ("databricks-warehouse", (By::Warehouse, &[])),
    ("firebolt", (By::Firebolt, &["name", "url"])),
    ("webhook", (By::Webhook, &["url"])),
];

/// Reads it; `None` when a mistake leaves nothing to build.
pub(super) fn read(section: &Section<'_>, policy: &AllowedHosts) -> Option<StartRow> {
    let item = section.require("by", "write databricks-app, databricks-warehouse, firebolt or webhook")?;
    let (by, own) = item.one_of(&BY)?;
    let foreign = ["name", "url"].into_iter().filter(|key| !own.contains(key));
    for item in foreign.filter_map(|key| section.get(key)) {
        item.wrong("what starts this does not have this key; remove it");
    }
    let principal = section.get("principal").map(|item| item.parsed(PrincipalId::parse));
    let by = match by {
        By::App => name(section, is_app_name, "an app's name has lower-case letters, digits and hyphens only")
            .map(StartBy::DatabricksApp),
        By::Warehouse => Some(StartBy::DatabricksWarehouse),
        By::Firebolt => {
            let engine = name(section, is_engine_name, "an engine's name has letters, digits and underscores only");
            let system_engine = endpoint(section, policy);
            Some(StartBy::Firebolt { system_engine: system_engine?, engine: engine? })
        }
        By::Webhook => endpoint(section, policy).map(StartBy::Webhook),
    };
    let principal = match principal {
        Some(read) => Some(read?),
        None => None,
    };
    let idle_stop = section.get("idle_stop").and_then(|item| item.duration());
    Some(StartRow { by: by?, principal, idle_stop })
}

fn name(section: &Section<'_>, is_good: fn(&str) -> bool, rule: &str) -> Option<String> {
    let item = section.require("name", "write the name that it has where it is started")?;
    let text = item.text()?;
    if !is_good(text) {
        item.wrong(rule);
        return None;
    }
    Some(text.to_owned())
}

/// It becomes part of a path.
fn is_app_name(name: &str) -> bool {
    name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// It becomes part of SQL.
fn is_engine_name(name: &str) -> bool {
    name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn endpoint(section: &Section<'_>, policy: &AllowedHosts) -> Option<Endpoint> {
    let item = section.require("url", "write url = \"https://...\", where it is asked")?;
    let endpoint = item.parsed(Endpoint::parse)?;
    policy.permits(endpoint.base()).map_err(|error| item.wrong(error.to_string())).ok()?;
    Some(endpoint)
}

/// Reads what a row of the database has.
///
/// # Errors
/// All that is wrong, in one line.
pub(super) fn of_row(text: &str, policy: &AllowedHosts) -> Result<StartRow, String> {
    row::as_section(text, KEYS, |section| read(section, policy))
}

/// The other way round: what a row of the database holds.
pub(super) fn to_json(row: &StartRow) -> Value {
    let mut json = Map::new();
    let mut set = |key: &str, value: String| json.insert(key.to_owned(), value.into());
    let by = match &row.by {
        StartBy::DatabricksApp(name) => {
            set("name", name.clone());
            "databricks-app"
        }
        StartBy::DatabricksWarehouse => "databricks-warehouse",
        StartBy::Firebolt { system_engine, engine } => {
            set("name", engine.clone());
            set("url", system_engine.to_string());
            "firebolt"
        }
        StartBy::Webhook(endpoint) => {
            set("url", endpoint.to_string());
            "webhook"
        }
    };
    set("by", by.to_owned());
    if let Some(principal) = &row.principal {
        set("principal", principal.to_string());
    }
    if let Some(idle_stop) = row.idle_stop {
        set("idle_stop", duration::format(idle_stop));
    }
    Value::Object(json)
}
