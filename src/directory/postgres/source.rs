//! The source that reads a Postgres database.

use super::connect::{self, Limits};
use super::listen::Listener;
use super::rows::{self, Context, Fault, Read};
use super::{Error, url};
use crate::clock::UnixSeconds;
use crate::config::{Env, Postgres};
use crate::directory::sync::{Change, Source};
use crate::model::access::Bar;
use crate::model::ids::OrgId;
use crate::model::tables::{OrgRow, Tables};
use crate::model::url::AllowedHosts;
use crate::vault::Vault;
use deadpool_postgres::Pool;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::IsolationLevel;

/// Reads organisations by a pool, and hears of changes by a listener.
pub struct PostgresSource {
    settings: Postgres,
    env: Env,
    policy: AllowedHosts,
    vault: Arc<Vault>,
    /// Made at the first load, and again after a failed one: a password file may have changed.
    pool: Option<(Pool, String)>,
    /// Made at the first wait, which is within a runtime.
    listener: Option<Listener>,
    resync: Option<Instant>,
    /// What was wrong at the last read, by organisation.
    faults: BTreeMap<String, Vec<Fault>>,
}

impl PostgresSource {
    /// A source that reads the database of `settings`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Url`] and [`Error::Tls`], which waiting does not mend.
    pub fn new(settings: Postgres, policy: AllowedHosts, env: Env, vault: Arc<Vault>) -> Result<Self, Error> {
        url::listen(&settings, &env)?;
        let mut source =
            Self { settings, env, policy, vault, pool: None, listener: None, resync: None, faults: BTreeMap::new() };
        source.pool()?;
        Ok(source)
    }

    fn pool(&mut self) -> Result<&(Pool, String), Error> {
        let settings = &self.settings;
        let made = if let Some(made) = self.pool.take() {
            made
        } else {
            let target = url::rows(settings, &self.env)?;
            let limits = Limits {
                size: settings.pool_size,
                connect: settings.connect_timeout,
                acquire: settings.acquire_timeout,
            };
            (connect::pool(&target, limits)?, target.at())
        };
        Ok(self.pool.insert(made))
    }

    /// Reads one organisation or all, as they are at one moment.
    async fn read(&mut self, org: Option<&OrgId>) -> Result<Read, Error> {
        let (pool, at) = self.pool()?;
        let mut client = connect::acquire(pool, at).await?;
        let limit = self.settings.statement_timeout.as_millis();
        let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = transaction.start().await?;
        // Local, because behind a pooler the connection is another's afterwards.
        transaction.batch_execute(&format!("set local statement_timeout = {limit}")).await?;
        let context = Context { policy: &self.policy, vault: &self.vault };
        let read = rows::read(&*transaction, org, context).await?;
        transaction.commit().await?;
        Ok(read)
    }

    async fn read_or_forget(&mut self, org: Option<&OrgId>) -> Result<Read, Error> {
        let result = self.read(org).await;
        if result.is_err() {
            self.pool = None;
        }
        result
    }

    /// Logs what is wrong with rows, each thing once.
    fn report(&mut self, org: &str, faults: Vec<Fault>) {
        let known = self.faults.remove(org).unwrap_or_default();
        for fault in faults.iter().filter(|fault| !known.contains(fault)) {
            tracing::error!(org, row = %fault.row, cause = %fault.cause, "a row of the directory cannot be used");
        }
        if !known.is_empty() && faults.is_empty() {
            tracing::info!(org, "the rows of the directory can be used again");
        }
        if !faults.is_empty() {
            self.faults.insert(org.to_owned(), faults);
        }
    }
}

impl Source for PostgresSource {
    type Error = Error;

    const REMOTE: bool = true;

    async fn load(&mut self) -> Result<Tables, Error> {
        let read = self.read_or_forget(None).await?;
        self.resync = Some(Instant::now() + self.settings.resync_interval);
        let mut by_org: BTreeMap<String, Vec<Fault>> =
            self.faults.keys().map(|org| (org.clone(), Vec::new())).collect();
        for fault in read.faults {
            by_org.entry(fault.org.clone()).or_default().push(fault);
        }
        for (org, faults) in by_org {
            self.report(&org, faults);
        }
        Ok(Tables { orgs: read.orgs, bars: read.bars })
    }

    async fn load_org(&mut self, id: &OrgId) -> Result<Option<OrgRow>, Error> {
        let read = self.read_or_forget(Some(id)).await?;
        self.report(id.as_str(), read.faults);
        Ok(read.orgs.into_iter().next())
    }

    async fn load_bars(&mut self, which: &[Bar]) -> Result<Vec<(Bar, UnixSeconds)>, Error> {
        let (pool, at) = self.pool()?;
        let result = async { rows::bars(&**connect::acquire(pool, at).await?, Some(which)).await }.await;
        if result.is_err() {
            self.pool = None;
        }
        result
    }

    async fn changed(&mut self) -> Change {
        let start = || Listener::start(self.settings.clone(), self.env.clone());
        let listener = self.listener.get_or_insert_with(start);
        let resync = async {
            match self.resync {
                Some(at) => sleep_until(at).await,
                // The listener asks for the first load.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = listener.changed() => change,
            () = resync => {
                // Not again at once, should this load fail: that is for whoever follows to repeat.
                self.resync = Some(Instant::now() + self.settings.resync_interval);
                Change::All
            }
        }
    }

    fn is_current(&self) -> bool {
        self.listener.as_ref().is_some_and(Listener::is_current)
    }

    fn unusable_rows(&self) -> usize {
        self.faults.values().map(Vec::len).sum()
    }

    fn trouble(&self) -> Option<String> {
        self.listener.as_ref().and_then(Listener::trouble)
    }
}
