//! A row of the database, read as if it stood in a directory file, so that both mean the same.

use super::{Context, KEYS, Reader};
use crate::config::mistake::{Place, Report};
use crate::config::reader::Section;
use crate::config::tree::{Entry, Node, Table, Value};
use crate::model::ids::{OrgId, PrincipalId};
use crate::model::principal::{Extras, PrincipalKind};
use serde_json::Value as Json;
use std::path::Path;

/// Kind and extras of a row. `settings` is an object with the keys that are no secrets, `sealed` has the others.
///
/// # Errors
/// All that is wrong, in one line.
pub(in crate::directory) fn of_row(
    (org, id): (&OrgId, &PrincipalId),
    settings: &str,
    sealed: &[(&str, Option<&str>)],
    context: Context<'_>,
) -> Result<(PrincipalKind, Extras), String> {
    let mut table = table(settings)?;
    for (key, sealed) in sealed {
        if let Some(sealed) = sealed {
            let place = Table::from([("sealed".to_owned(), entry(text((*sealed).to_owned())))]);
            table.insert((*key).to_owned(), entry(at_nowhere(Value::Table(place))));
        }
    }
    // In the database all secrets are sealed; a text in place of one is as wrong as anywhere.
    read(table, KEYS, |section| Reader { section, whose: Some((org, id)), loopback: Some(false), context }.read())
}

/// Reads an object as if it stood in a file.
///
/// # Errors
/// All that is wrong, in one line.
pub(in crate::directory) fn as_section<T>(
    json: &str,
    keys: &'static [&'static str],
    reader: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, String> {
    read(table(json)?, keys, reader)
}

fn table(json: &str) -> Result<Table, String> {
    let Ok(Json::Object(object)) = serde_json::from_str(json) else {
        return Err("its settings are not an object".to_owned());
    };
    Ok(object.into_iter().filter_map(|(key, value)| Some((key, entry(node(value)?)))).collect())
}

fn read<T>(
    table: Table,
    keys: &'static [&'static str],
    reader: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, String> {
    let report = Report::new(Path::new(""));
    let tree = at_nowhere(Value::Table(table));
    let section = Section::root(&tree, &report, keys);
    let read = reader(&section);
    drop(section);
    let said = |mistakes: crate::config::Mistakes| {
        let said = mistakes.0.iter().map(|mistake| format!("its {} {}", mistake.key, mistake.message));
        said.collect::<Vec<_>>().join("; ")
    };
    report.finish().map_err(said)?;
    read.ok_or_else(|| "it cannot be used".to_owned())
}

fn at_nowhere(value: Value) -> Node {
    Node { value, place: Place::Nowhere }
}

fn entry(node: Node) -> Entry {
    Entry { key_place: Place::Nowhere, node }
}

fn text(text: String) -> Node {
    at_nowhere(Value::Text(text))
}

/// A value as a file would hold it; none for null, which a file leaves out.
fn node(value: Json) -> Option<Node> {
    Some(at_nowhere(match value {
        Json::Null => return None,
        Json::Bool(flag) => Value::Boolean(flag),
        Json::Number(number) => number.as_i64().map_or(Value::Float(f64::NAN), |whole| Value::Integer(whole.into())),
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::Array(items.into_iter().filter_map(node).collect()),
        Json::Object(entries) => {
            Value::Table(entries.into_iter().filter_map(|(key, value)| Some((key, entry(node(value)?)))).collect())
        }
    }))
}
