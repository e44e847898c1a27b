//! What the gateway writes: sessions that end, and tokens that are used once. By functions of the schema that do just
//! that, so that its role may write nothing else.

use super::connect::{self, Limits};
use super::{Error, url};
use crate::clock::UnixSeconds;
use crate::config::{Env, Postgres};
use crate::model::access::Subject;
use deadpool_postgres::{Object, Pool};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::GenericClient;
use tokio_postgres::types::{ToSql, Type};

/// Connections for writing: people sign out one by one.
const CONNECTIONS: usize = 2;

/// Something that is started, as the fleet calls it.
#[derive(Debug, Clone, Copy)]
pub struct StartName<'a> {
    /// The id of the organisation.
    pub org: &'a str,
    /// `app`, `warehouse` or `engine`.
    pub kind: &'a str,
    /// The id of the upstream.
    pub upstream: &'a str,
}

/// Writes to the primary.
pub struct Writer {
    settings: Postgres,
    env: Env,
    /// Made when it is first needed, and again after a failure.
    pool: Mutex<Option<(Pool, String)>>,
}

impl Writer {
    /// A writer to the database of `settings`. Nothing is connected yet.
    #[must_use]
    pub fn new(settings: Postgres, env: Env) -> Self {
        Self { settings, env, pool: Mutex::default() }
    }

    /// Ends the sessions of a subject that have begun until now.
    ///
    /// # Errors
    /// [`Error`]; then it may or may not have been written.
    pub async fn revoke(&self, subject: &Subject, keep: Duration) -> Result<(), Error> {
        self.within_limit(async { revoke(&**self.client().await?, subject, keep).await }).await
    }

    /// Notes that a token is used; false when it was before.
    ///
    /// # Errors
    /// [`Error`]; then it may or may not have been noted.
    pub async fn use_token(&self, id: &str, until: UnixSeconds) -> Result<bool, Error> {
        let until = until as f64;
        let used = async {
            let sql = "select embedgate.use_token($1, to_timestamp($2))";
            let client = self.client().await?;
            let row = client.query_typed_one(sql, &[(&id, Type::TEXT), (&until, Type::FLOAT8)]).await?;
            Ok(row.try_get(0)?)
        };
        self.within_limit(used).await
    }

    /// Whether the caller is the one of the fleet to start something, for as long as `lease`.
    ///
    /// # Errors
    /// [`Error`]; then nobody knows.
    pub async fn claim_start(&self, name: StartName<'_>, lease: Duration) -> Result<bool, Error> {
        let sql = "select embedgate.claim_start($1, $2, $3, make_interval(secs => $4))";
        self.within_limit(self.ask(sql, name, &[lease.as_secs_f64()])).await
    }

    /// Lets others start or stop something before the caller's lease ends.
    ///
    /// # Errors
    /// [`Error`]; then they wait for its end.
    pub async fn release_start(&self, name: StartName<'_>) -> Result<(), Error> {
        let sql = "select embedgate.release_start($1, $2, $3) is null";
        self.within_limit(self.ask(sql, name, &[])).await.map(drop)
    }

    /// Whether nobody of the fleet has used something for `idle`, and the caller is the one to stop it.
    ///
    /// # Errors
    /// [`Error`]; then nobody knows.
    pub async fn claim_stop(&self, name: StartName<'_>, idle: Duration, lease: Duration) -> Result<bool, Error> {
        let sql = "select embedgate.claim_stop($1, $2, $3, make_interval(secs => $4), make_interval(secs => $5))";
        self.within_limit(self.ask(sql, name, &[idle.as_secs_f64(), lease.as_secs_f64()])).await
    }

    /// Notes that something was used so many seconds ago.
    ///
    /// # Errors
    /// [`Error`]; then it may or may not have been noted.
    pub async fn note_use(&self, name: StartName<'_>, ago: u64) -> Result<(), Error> {
        let sql = "select embedgate.note_use($1, $2, $3, make_interval(secs => $4)) is null";
        self.within_limit(self.ask(sql, name, &[ago as f64])).await.map(drop)
    }

    /// Asks a function about something that is started, with some lengths of time in seconds.
    async fn ask(&self, sql: &str, name: StartName<'_>, seconds: &[f64]) -> Result<bool, Error> {
        let StartName { org, kind, upstream } = name;
        let mut values: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&org, Type::TEXT), (&kind, Type::TEXT), (&upstream, Type::TEXT)];
        values.extend(seconds.iter().map(|seconds| (seconds as &(dyn ToSql + Sync), Type::FLOAT8)));
        Ok(self.client().await?.query_typed_one(sql, &values).await?.try_get(0)?)
    }

    pub(super) async fn client(&self) -> Result<Object, Error> {
        let (pool, at) = self.pool()?;
        connect::acquire(&pool, &at).await
    }

    pub(super) async fn within_limit<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.settings.acquire_timeout + self.settings.connect_timeout;
        let late = |_| Error::Late(format!("Postgres: nothing written within {limit:?}"));
        let result = timeout(limit, work).await.map_err(late).flatten();
        if result.is_err() {
            // What is wrong may be the connections: a server that was demoted, a password that changed.
            *self.slot() = None;
        }
        result
    }

    fn pool(&self) -> Result<(Pool, String), Error> {
        let mut slot = self.slot();
        if let Some(made) = slot.as_ref() {
            return Ok(made.clone());
        }
        let settings = &self.settings;
        let target = url::rows(settings, &self.env)?.writing();
        let (connect, acquire) = (settings.connect_timeout, settings.acquire_timeout);
        let made = (connect::pool(&target, Limits { size: CONNECTIONS, connect, acquire })?, target.at());
        Ok(slot.insert(made).clone())
    }

    fn slot(&self) -> MutexGuard<'_, Option<(Pool, String)>> {
        // Replaced whole, so a panic elsewhere leaves nothing half done.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the sessions of a subject that have begun until now, and remembers so for as long as one of them could last.
///
/// # Errors
/// [`Error::Sql`].
pub async fn revoke(client: &impl GenericClient, subject: &Subject, keep: Duration) -> Result<(), Error> {
    let (kind, id) = super::bars::subject_columns(subject);
    let keep = keep.as_secs_f64();
    let sql = "select embedgate.revoke($1, $2, make_interval(secs => $3))";
    client.query_typed(sql, &[(&kind, Type::TEXT), (&id, Type::TEXT), (&keep, Type::FLOAT8)]).await?;
    Ok(())
}
