//! What may be called of an organisation's workspaces besides the usual, in the database.

use crate::model::api::{Action, Pattern, RuleRow};
use crate::model::ids::RuleId;
use tokio_postgres::Row;

/// Reads the rules of some organisations, or of all.
pub(super) const RULES: &str = "select org::text, id::text, members, users, allow, warehouses from embedgate.api_rule
    where $1 is null or org = any ($1) order by org, id";

/// Reads a row of [`RULES`].
pub(super) fn rule(id: &str, row: &Row) -> Result<Result<RuleRow, String>, tokio_postgres::Error> {
    let members = row.try_get::<_, Vec<&str>>(2)?.into_iter().map(Box::from).collect();
    let (users, allow, warehouses) =
        (row.try_get(3)?, row.try_get::<_, Vec<&str>>(4)?, row.try_get::<_, Vec<&str>>(5)?);
    let action = |word: &str| {
        let known = Action::NAMES.iter().find(|(name, _)| *name == word).map(|(_, action)| *action);
        known.ok_or_else(|| format!("{word:?} is nothing that may be done to warehouses"))
    };
    let made = || {
        let id = RuleId::parse(id).map_err(|error| error.to_string())?;
        let patterns = allow.into_iter().map(|text| Pattern::parse(text).map_err(|error| error.to_string()));
        let warehouses = warehouses.into_iter().map(action).collect::<Result<_, _>>()?;
        Ok(RuleRow { id, members, users, allow: patterns.collect::<Result<_, _>>()?, warehouses })
    };
    Ok(made())
}
