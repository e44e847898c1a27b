//! Ended sessions and banned users in the database.

use super::Error;
use crate::clock::UnixSeconds;
use crate::model::access::{Bar, Subject, session_id, session_text};
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;

/// Sessions that were ended: those that are asked for, or all.
pub(in crate::directory) const REVOCATIONS: &str =
    "select kind, id, floor(extract(epoch from not_before))::bigint from embedgate.revocation
    where forget_after > now()
      and ($1::text[] is null or (kind, id) in (select * from unnest($1::text[], $2::text[])))";
const BANS: &str = "select 'ban', id::text, 0::bigint from embedgate.end_user
    where banned and ($1::text[] is null or ('ban', id) in (select * from unnest($1::text[], $2::text[])))";

/// Reads these bars, or all; those that are not given any more are not up.
///
/// # Errors
/// [`Error::Sql`].
pub async fn bars(client: &impl GenericClient, which: Option<&[Bar]>) -> Result<Vec<(Bar, UnixSeconds)>, Error> {
    bars_of(client, &format!("{REVOCATIONS} union all {BANS}"), which).await
}

/// Reads bars by a statement that gives their kinds, ids and moments.
pub(in crate::directory) async fn bars_of(
    client: &impl GenericClient,
    sql: &str,
    which: Option<&[Bar]>,
) -> Result<Vec<(Bar, UnixSeconds)>, Error> {
    let (kinds, ids): (Vec<_>, Vec<_>) = which.unwrap_or_default().iter().map(bar_columns).unzip();
    let (kinds, ids) = (which.map(|_| kinds), which.map(|_| ids));
    let rows = client.query_typed(sql, &[(&kinds, Type::TEXT_ARRAY), (&ids, Type::TEXT_ARRAY)]).await?;
    let mut bars = Vec::with_capacity(rows.len());
    for row in rows {
        let since: i64 = row.try_get(2)?;
        // What is no bar was refused by the database.
        bars.extend(bar(row.try_get(0)?, row.try_get(1)?).map(|bar| (bar, since.unsigned_abs())));
    }
    Ok(bars)
}

/// Kind and id of a bar, as the database has them.
fn bar_columns(bar: &Bar) -> (&'static str, String) {
    match bar {
        Bar::Revoked(subject) => subject_columns(subject),
        Bar::Banned(id) => ("ban", id.to_string()),
    }
}

/// Kind and id of whom sessions belong to, as the database has them.
pub(super) fn subject_columns(subject: &Subject) -> (&'static str, String) {
    match subject {
        Subject::Org(id) => ("organisation", id.to_string()),
        Subject::User(id) => ("user", id.to_string()),
        Subject::Session(id) => ("session", session_text(id)),
    }
}

fn bar(kind: &str, id: &str) -> Option<Bar> {
    match kind {
        _ if id.is_empty() => None,
        "organisation" => Some(Bar::Revoked(Subject::Org(id.into()))),
        "user" => Some(Bar::Revoked(Subject::User(id.into()))),
        "session" => Some(Bar::Revoked(Subject::Session(session_id(id)?))),
        "ban" => Some(Bar::Banned(id.into())),
        _ => None,
    }
}

/// The bar that a notice such as `user:u-17` tells of.
pub(super) fn bar_of_notice(payload: &str) -> Option<Bar> {
    let (kind, id) = payload.split_once(':')?;
    bar(kind, id)
}
