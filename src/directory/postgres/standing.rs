//! What a server is: the primary or a standby, of which history, and how far along.

use super::Error;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Row};

/// A history of writes. Another one begins with every promotion, every new cluster and every start of the server, which
/// may have crashed and lost its last writes (`synchronous_commit = off`): what was read of one says nothing about the
/// other, for versions may have gone back and been given out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The cluster, a standby's being its primary's.
    pub system: i64,
    /// Rises with every promotion.
    pub timeline: u32,
    /// When the server was started, in microseconds since 1970.
    pub started: i64,
}

impl History {
    /// Whether `other` is what this became by a promotion.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.system == other.system && self.timeline < other.timeline
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The cluster; none where the server does not tell.
    pub system: Option<i64>,
    /// Whether it only replays what another server writes.
    pub is_standby: bool,
    /// What it writes; none for a standby, and where the server does not tell.
    pub history: Option<History>,
    /// How far a standby has replayed, in bytes since the beginning of its history.
    pub replayed: u64,
}

// The case keeps the functions of the one kind from being called on the other, which refuses them.
const STANDING: &str = "select pg_is_in_recovery(), system_identifier,
    case when not pg_is_in_recovery() then substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end,
    (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8,
    case when pg_is_in_recovery() then (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::int8 end
    from pg_control_system()";

/// Asks a server what it is. One that speaks Postgres' protocol and has other functions is taken for a primary.
///
/// # Errors
/// [`Error::Sql`] when the connection is lost.
pub async fn ask(client: &impl GenericClient) -> Result<Standing, Error> {
    match client.query_typed_one(STANDING, &[]).await {
        Ok(row) => Ok(standing(&row)?),
        // What is wrong with more than these functions shows in the next statement.
        Err(error) if error.as_db_error().is_some() => {
            Ok(Standing { system: None, is_standby: false, history: None, replayed: 0 })
        }
        Err(error) => Err(error.into()),
    }
}

fn standing(row: &Row) -> Result<Standing, tokio_postgres::Error> {
    let timeline: Option<&str> = row.try_get(2)?;
    let timeline = timeline.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let (system, replayed): (i64, Option<i64>) = (row.try_get(1)?, row.try_get(4)?);
    let started = row.try_get(3)?;
    Ok(Standing {
        system: Some(system),
        is_standby: row.try_get(0)?,
        history: timeline.map(|timeline| History { system, timeline, started }),
        replayed: replayed.unwrap_or(0).unsigned_abs(),
    })
}

/// How far the primary has written, or is about to: with `synchronous_commit = off`, what is committed and told of may
/// not have left its buffers yet.
const POSITION: &str = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8";

/// Where the next write of a primary goes. A standby that has replayed up to there has everything that is committed now.
///
/// # Errors
/// [`Error::Sql`], also from a standby.
pub async fn position(client: &impl GenericClient) -> Result<u64, Error> {
    let at: i64 = client.query_typed_one(POSITION, &[]).await?.try_get(0)?;
    Ok(end_of_record(at.unsigned_abs()))
}

/// The next write begins after the head of a page where the last one filled the page before: a standby that has replayed
/// everything stands at the border, and would never get past it while nothing is written.
fn end_of_record(position: u64) -> u64 {
    // The sizes of a page and of its two kinds of head (xlog_internal.h). No record is short enough to end there.
    const PAGE: u64 = 8192;
    let beyond = position % PAGE;
    if matches!(beyond, 24 | 40) { position - beyond } else { position }
}

/// A moment of the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// What the primary writes.
    pub history: History,
    /// How far it was.
    pub position: u64,
    /// When it was asked.
    pub asked: Instant,
}

/// The pauses between two looks at a standby that is waited for: doubled from the first to the last.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// Waits until everything of the moment is there, or the deadline has passed: gives the bytes that are lacking then. One
/// that has not even replayed up to `worth_it` is not waited for.
///
/// # Errors
/// [`Error::Foreign`] when the server follows another history; [`Error::Late`] and [`Error::Sql`].
pub async fn catch_up(
    client: &impl GenericClient,
    moment: &Moment,
    worth_it: u64,
    deadline: Instant,
    limit: Duration,
) -> Result<u64, Error> {
    let mut pause = FIRST_LOOK;
    loop {
        let late = |_| Error::Late(format!("no answer within {limit:?}"));
        let standing = timeout(limit, ask(client)).await.map_err(late)??;
        // One that was promoted is as good as the primary when it is the primary.
        if standing.history.as_ref() == Some(&moment.history) {
            return Ok(0);
        }
        if !standing.is_standby || standing.system != Some(moment.history.system) {
            return Err(Error::Foreign);
        }
        let lacking = moment.position.saturating_sub(standing.replayed);
        if lacking == 0 || standing.replayed < worth_it || Instant::now() >= deadline {
            return Ok(lacking);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// What shows that versions can be compared: the history, and the files of the tables, which TRUNCATE replaces without
/// raising any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    history: History,
    files: String,
}

const FILES: &str = "select coalesce(string_agg(relname || ' ' || relfilenode, ',' order by relname), '')
    from pg_class where relnamespace = to_regnamespace($1) and relkind = 'r'";

/// The mark of what a transaction reads; none where the history is not known.
///
/// # Errors
/// [`Error::Sql`].
pub async fn mark(client: &impl GenericClient, history: Option<&History>) -> Result<Option<Mark>, Error> {
    let Some(history) = history.cloned() else { return Ok(None) };
    let row = client.query_typed_one(FILES, &[(&"embedgate", Type::TEXT)]).await?;
    Ok(Some(Mark { history, files: row.try_get(0)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_page_is_no_position_to_wait_for() {
        for (position, end) in [(0, 0), (8192, 8192), (8192 + 24, 8192), (16384 + 40, 16384), (8192 + 48, 8192 + 48)] {
            assert_eq!(end_of_record(position), end);
        }
    }

    #[test]
    fn a_promotion_makes_a_later_history_of_the_same_system() {
        let history = |system, timeline| History { system, timeline, started: 0 };
        assert!(history(1, 1).is_before(&history(1, 2)));
        assert!(!history(1, 2).is_before(&history(1, 2)) && !history(1, 1).is_before(&history(2, 5)));
    }
}
