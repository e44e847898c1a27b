//! The source that reads a Postgres database.

use super::Error;
use super::faults::Faults;
use super::listen::Listener;
use super::reading::{Found, Job, Request};
use super::rows::{Context, Read};
use super::servers::Servers;
use super::standing::Mark;
use crate::clock::UnixSeconds;
use crate::config::{Env, Postgres};
use crate::directory::sync::{Change, Difference, Source};
use crate::metrics::Metrics;
use crate::model::access::Bar;
use crate::model::ids::OrgId;
use crate::model::snapshot::Snapshot;
use crate::model::tables::{OrgRow, Tables};
use crate::model::url::AllowedHosts;
use crate::vault::Vault;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// Reads organisations where they can be read, and hears of changes by a listener.
pub struct PostgresSource {
    settings: Postgres,
    env: Env,
    policy: AllowedHosts,
    vault: Arc<Vault>,
    servers: Servers,
    /// Made at the first wait, which is within a runtime.
    listener: Option<Listener>,
    resync: Option<Instant>,
    /// Whether everything was read once.
    has_read: bool,
    /// What was wrong at the last reads.
    faults: Faults,
    /// The organisations that could not be used at all, with their versions.
    unusable: BTreeMap<OrgId, u64>,
    /// That of the last read of everything.
    mark: Option<Mark>,
}

impl PostgresSource {
    /// A source that reads the database of `settings`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Url`] and [`Error::Tls`], which waiting does not mend.
    pub fn new(settings: Postgres, policy: AllowedHosts, env: Env, vault: Arc<Vault>) -> Result<Self, Error> {
        Ok(Self {
            servers: Servers::new(settings.clone(), env.clone())?,
            settings,
            env,
            policy,
            vault,
            listener: None,
            resync: None,
            has_read: false,
            faults: Faults::default(),
            unusable: BTreeMap::new(),
            mark: None,
        })
    }

    async fn read(&mut self, job: Job<'_>) -> Result<Found, Error> {
        let primary = self.listener.as_ref().and_then(Listener::primary);
        let request = Request {
            job,
            unusable: &self.unusable,
            mark: self.mark.as_ref(),
            context: Context { policy: &self.policy, vault: &self.vault },
            limit: self.settings.statement_timeout,
        };
        self.servers.read(primary.as_ref(), !self.has_read, request).await
    }

    fn put_off_resync(&mut self) {
        self.resync = Some(Instant::now() + self.settings.resync_interval);
    }

    /// Notes what the rows are that cannot be used.
    fn take(&mut self, found: &mut Found) {
        let unusable = std::mem::take(&mut found.read.unusable);
        let orgs: Vec<String> = if let Some(mark) = found.whole.take() {
            (self.has_read, self.mark, self.unusable) = (true, mark, BTreeMap::new());
            self.faults.orgs()
        } else {
            let ids: Vec<_> = found.read.orgs.iter().map(|row| &row.id).chain(&found.gone).collect();
            for id in &ids {
                self.unusable.remove(*id);
            }
            ids.iter().map(ToString::to_string).collect()
        };
        found.gone.extend(unusable.iter().map(|(id, _)| id.clone()));
        self.unusable.extend(unusable);
        self.faults.take(orgs, std::mem::take(&mut found.read.faults));
    }
}

impl Source for PostgresSource {
    type Error = Error;

    const REMOTE: bool = true;

    async fn load(&mut self) -> Result<Tables, Error> {
        let mut found = self.read(Job::All).await?;
        self.put_off_resync();
        self.take(&mut found);
        Ok(Tables { orgs: found.read.orgs, bars: found.read.bars })
    }

    async fn load_orgs(&mut self, ids: &[(OrgId, u64)]) -> Result<Vec<OrgRow>, Error> {
        let mut found = self.read(Job::Some(ids)).await?;
        self.take(&mut found);
        Ok(found.read.orgs)
    }

    async fn load_changed(&mut self, known: &Snapshot) -> Result<Difference, Error> {
        let mut found = self.read(Job::Changed(known)).await?;
        self.put_off_resync();
        let is_whole = found.whole.is_some();
        self.take(&mut found);
        let Found { read: Read { orgs, bars, .. }, gone, .. } = found;
        let some = |orgs, bars| Difference::Some { changed: orgs, gone, bars };
        Ok(if is_whole { Difference::All(Tables { orgs, bars }) } else { some(orgs, bars) })
    }

    async fn load_bars(&mut self, which: &[Bar]) -> Result<Vec<(Bar, UnixSeconds)>, Error> {
        Ok(self.read(Job::Bars(which)).await?.read.bars)
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
                self.put_off_resync();
                Change::Versions
            }
        }
    }

    fn waiting(&mut self) -> Option<Change> {
        self.listener.as_ref().and_then(Listener::waiting)
    }

    fn is_current(&self) -> bool {
        self.listener.as_ref().is_some_and(Listener::is_current)
    }

    fn unusable_rows(&self) -> usize {
        self.faults.len()
    }

    fn observe(&self, metrics: &Metrics) {
        self.servers.observe(metrics);
    }

    fn trouble(&self) -> Option<String> {
        self.listener.as_ref().and_then(Listener::trouble)
    }
}
