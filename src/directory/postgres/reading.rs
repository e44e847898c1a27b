//! One read of the directory, in a transaction that sees one moment: all of it, some organisations, or what differs from
//! what is known.

use super::Error;
use super::bars;
use super::rows::{self, Context, Read};
use super::standing::{self, History, Mark};
use crate::model::access::Bar;
use crate::model::ids::OrgId;
use crate::model::snapshot::Snapshot;
use futures_util::TryStreamExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel, Transaction};

/// Where more organisations than this differ, everything is read: that takes no longer then.
const MAX_DIFFERENT: usize = 2000;

/// What is to be read.
#[derive(Clone, Copy)]
pub enum Job<'a> {
    /// Everything.
    All,
    /// These organisations, each of at least the version beside it.
    Some(&'a [(OrgId, u64)]),
    /// What differs from what is known, and all bars.
    Changed(&'a Snapshot),
    /// These bars.
    Bars(&'a [Bar]),
}

/// What is to be read, and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What.
    pub job: Job<'a>,
    /// The organisations that could not be used, with their versions.
    pub unusable: &'a BTreeMap<OrgId, u64>,
    /// That of the last read of everything.
    pub mark: Option<&'a Mark>,
    /// What rows are judged by.
    pub context: Context<'a>,
    /// For one statement.
    pub limit: Duration,
}

/// What was read.
pub struct Found {
    /// The rows.
    pub read: Read,
    /// The organisations that were asked for, or known, and are not there.
    pub gone: Vec<OrgId>,
    /// Set when the rows are all there are: what shows later whether versions can be compared with theirs.
    pub whole: Option<Option<Mark>>,
}

/// Reads within a transaction of its own. `history` is that of the rows, where it is known.
///
/// # Errors
/// [`Error::Behind`] when an organisation is older than asked for; [`Error::Schema`] and [`Error::Sql`].
pub async fn read(client: &mut Client, request: Request<'_>, history: Option<&History>) -> Result<Found, Error> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await?;
    // Local, because behind a pooler the connection is another's afterwards.
    transaction.batch_execute(&format!("set local statement_timeout = {}", request.limit.as_millis())).await?;
    let found = match request.job {
        Job::All => all(&transaction, request, standing::mark(&transaction, history).await?).await?,
        Job::Some(asked) => some(&transaction, request, asked).await?,
        Job::Changed(snapshot) => {
            let mark = standing::mark(&transaction, history).await?;
            changed(&transaction, request, snapshot, mark).await?
        }
        Job::Bars(which) => {
            let read = Read { bars: bars::bars(&transaction, Some(which)).await?, ..Read::default() };
            Found { read, gone: Vec::new(), whole: None }
        }
    };
    transaction.commit().await?;
    Ok(found)
}

async fn all(client: &Transaction<'_>, request: Request<'_>, mark: Option<Mark>) -> Result<Found, Error> {
    Ok(Found { read: rows::read(client, None, request.context).await?, gone: Vec::new(), whole: Some(mark) })
}

async fn some(client: &Transaction<'_>, request: Request<'_>, asked: &[(OrgId, u64)]) -> Result<Found, Error> {
    let ids: Vec<_> = asked.iter().map(|(id, _)| id.as_str()).collect();
    let read = rows::read(client, Some(&ids), request.context).await?;
    let usable = read.orgs.iter().map(|row| (&row.id, row.version));
    let there: HashMap<_, _> = usable.chain(read.unusable.iter().map(|(id, version)| (id, *version))).collect();
    if asked.iter().any(|(id, least)| there.get(id).is_some_and(|version| version < least)) {
        return Err(Error::Behind);
    }
    let gone = asked.iter().map(|(id, _)| id).filter(|id| !there.contains_key(id)).cloned().collect();
    Ok(Found { read, gone, whole: None })
}

async fn changed(
    client: &Transaction<'_>,
    request: Request<'_>,
    snapshot: &Snapshot,
    mark: Option<Mark>,
) -> Result<Found, Error> {
    if mark.is_none() || mark.as_ref() != request.mark {
        return all(client, request, mark).await;
    }
    let (ids, gone) = differences(client, snapshot, request.unusable).await?;
    if ids.len() > MAX_DIFFERENT {
        return all(client, request, mark).await;
    }
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let read = if ids.is_empty() { Read::default() } else { rows::read(client, Some(&ids), request.context).await? };
    let read = Read { bars: bars::bars(client, None).await?, ..read };
    Ok(Found { read, gone, whole: None })
}

/// The organisations whose versions are not those that are known, and those that are gone.
async fn differences(
    client: &Transaction<'_>,
    snapshot: &Snapshot,
    unusable: &BTreeMap<OrgId, u64>,
) -> Result<(Vec<String>, Vec<OrgId>), Error> {
    let none: [(&(dyn ToSql + Sync), Type); 0] = [];
    let rows = client.query_typed_raw("select id::text, version from embedgate.organisation", none).await?;
    let (mut rows, mut different) = (pin!(rows), Vec::new());
    let mut seen: HashSet<&OrgId> = HashSet::with_capacity(snapshot.len());
    while let Some(row) = rows.try_next().await? {
        let (id, version): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
        let usable = snapshot.org(id).map(|org| (&org.id, org.version));
        let before = usable.or_else(|| unusable.get_key_value(id).map(|(id, version)| (id, *version)));
        if before.map(|(_, version)| version) != Some(version.unsigned_abs()) {
            different.push(id.to_owned());
        }
        seen.extend(before.map(|(id, _)| id));
    }
    let before = snapshot.orgs().map(|org| &org.id).chain(unusable.keys());
    Ok((different, before.filter(|id| !seen.contains(id)).cloned().collect()))
}
