//! Triggers on FireFly's tables, so that changes are told of instead of asked for. They are somebody else's tables: the
//! triggers are put there on demand only, and can be taken away again.

use super::key;
use super::tables::{Known, TABLES, Tables};
use crate::directory::postgres::Error;
use crate::directory::postgres::listen::CHANNEL;
use crate::directory::postgres::migrate;
use std::fmt;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

/// The function behind all triggers.
const FUNCTION: &str = include_str!("../../../migrations/firefly.sql");
/// Each with what it runs after, and the rows it is given.
const TRIGGERS: [(&str, &str, &str); 4] = [
    ("embedgate_inserted", "insert", "referencing new table as after"),
    ("embedgate_updated", "update", "referencing old table as before new table as after"),
    ("embedgate_deleted", "delete", "referencing old table as before"),
    ("embedgate_truncated", "truncate", ""),
];
/// A table that others hold for long is left alone rather than waited for: behind whoever waits, its readers queue up.
const PATIENCE: &str = "set local lock_timeout = '5s'";

/// What was done about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which thing.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of something that was to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done now.
    Done(&'static str),
    /// Nothing to do.
    AlreadySo(&'static str),
    /// There is no such table.
    Absent,
    /// The database refuses.
    Refused(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<34} ", self.what)?;
        match &self.outcome {
            Outcome::Done(text) | Outcome::AlreadySo(text) => f.write_str(text),
            Outcome::Absent => f.write_str("table absent"),
            Outcome::Refused(cause) => write!(f, "refused: {cause}"),
        }
    }
}

/// Makes our schema, the key kept in it, and the triggers on the tables that are there. As often as you like.
///
/// # Errors
/// When our schema cannot be made. What is refused for single tables stands in the steps.
pub async fn adopt(client: &mut Client) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let applied = migrate::migrate(client).await?;
    let did = |done: bool| if done { Outcome::Done("made") } else { Outcome::AlreadySo("already there") };
    steps.push(Step { what: "schema embedgate".to_owned(), outcome: did(!applied.is_empty()) });
    let outcome = key::make(client).await.map_or_else(refused, |(_, made)| did(made));
    steps.push(Step { what: "session key".to_owned(), outcome });
    let tables = Tables::look(client).await?;
    let function = run(client, FUNCTION).await;
    for table in &TABLES {
        let outcome = match (&function, tables.place(table.name)) {
            (_, None) => Outcome::Absent,
            _ if count(client, tables.oid(table.name).as_slice(), IN_FORCE).await? == TRIGGERS.len() => {
                Outcome::AlreadySo("triggers already there")
            }
            (Err(error), Some(_)) => Outcome::Refused(error.to_string()),
            (Ok(()), Some(place)) => install(client, table, place).await,
        };
        steps.push(Step { what: name(table, &tables), outcome });
    }
    tell(client).await?;
    Ok(steps)
}

/// Takes triggers and function away again. The schema stays, and so does the key, for sessions go on.
///
/// # Errors
/// [`Error::Sql`]. What is refused for single tables stands in the steps.
pub async fn remove(client: &mut Client) -> Result<Vec<Step>, Error> {
    let tables = Tables::look(client).await?;
    let mut steps = Vec::new();
    for table in &TABLES {
        let outcome = match tables.place(table.name) {
            None => Outcome::Absent,
            Some(_) if count(client, tables.oid(table.name).as_slice(), IN_ANY_STATE).await? == 0 => {
                Outcome::AlreadySo("no triggers there")
            }
            Some(place) => {
                let dropped = run(client, &dropping(place)).await;
                dropped.map_or_else(refused, |()| Outcome::Done("triggers removed"))
            }
        };
        steps.push(Step { what: name(table, &tables), outcome });
    }
    if !steps.iter().any(|step| matches!(step.outcome, Outcome::Refused(_))) {
        let dropped = run(client, "drop function if exists embedgate.firefly_changed()").await;
        let outcome = dropped.map_or_else(refused, |()| Outcome::Done("removed"));
        steps.push(Step { what: "function of the triggers".to_owned(), outcome });
    }
    tell(client).await?;
    Ok(steps)
}

/// Whether every table that is there has all triggers, and none of them is switched off.
///
/// # Errors
/// [`Error::Sql`].
pub async fn is_complete(client: &impl GenericClient, tables: &Tables) -> Result<bool, Error> {
    let theirs: Vec<_> = tables.theirs().collect();
    Ok(!theirs.is_empty() && count(client, &theirs, IN_FORCE).await? == theirs.len() * TRIGGERS.len())
}

/// States of triggers that fire for statements of others: always, and unless the session is one of replication.
const IN_FORCE: &str = "OA";
/// The same with those that are switched off, and those for replication alone.
const IN_ANY_STATE: &str = "OARD";

/// How many of our triggers these tables have, in these states.
async fn count(client: &impl GenericClient, tables: &[u32], states: &str) -> Result<usize, Error> {
    let sql = "select count(*) from pg_trigger g join pg_proc p on p.oid = g.tgfoid
          join pg_namespace n on n.oid = p.pronamespace
        where g.tgrelid = any($1) and not g.tgisinternal and strpos($2, g.tgenabled::text) > 0
          and n.nspname = 'embedgate' and p.proname = 'firefly_changed'";
    let row = client.query_typed_one(sql, &[(&tables, Type::OID_ARRAY), (&states, Type::TEXT)]).await?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs() as usize)
}

async fn install(client: &mut Client, table: &Known, place: &str) -> Outcome {
    let creating = |(name, event, rows): (&str, &str, &str)| {
        let call = format!("execute function embedgate.firefly_changed({})", table.concerns);
        format!("create trigger {name} after {event} on {place} {rows} for each statement {call};")
    };
    // Those that are there may be switched off, or of something older.
    let sql = dropping(place) + &TRIGGERS.map(creating).concat();
    run(client, &sql).await.map_or_else(refused, |()| Outcome::Done("triggers installed"))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_or_else")]
fn refused(error: Error) -> Outcome {
    Outcome::Refused(error.to_string())
}

fn dropping(place: &str) -> String {
    TRIGGERS.map(|(name, ..)| format!("drop trigger if exists {name} on {place};")).concat()
}

/// Runs statements, all of them or none.
async fn run(client: &mut Client, sql: &str) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(PATIENCE).await?;
    transaction.batch_execute(sql).await?;
    Ok(transaction.commit().await?)
}

/// Makes those who listen look again, also at whether there are triggers.
async fn tell(client: &Client) -> Result<(), Error> {
    client.query_typed("select pg_notify($1, '*')", &[(&CHANNEL, Type::TEXT)]).await?;
    Ok(())
}

fn name(table: &Known, tables: &Tables) -> String {
    tables.place(table.name).map_or_else(|| format!("public.\"{}\"", table.name), str::to_owned)
}
