//! Keeps the snapshot current: wait for a change, load what changed, build, publish, again. A load that fails leaves what
//! is there.

mod asker;

pub use asker::{Asker, Wishes, asker};

use super::file;
use super::principal::SecretFiles;
use super::stamp::Stamp;
use super::{Directory, News, troubles};
use crate::clock::UnixSeconds;
use crate::config::{Env, Mistakes};
use crate::metrics::Metrics;
use crate::model::access::{Access, Bar};
use crate::model::ids::OrgId;
use crate::model::snapshot::Snapshot;
use crate::model::tables::{OrgRow, Tables};
use crate::model::url::AllowedHosts;
use crate::vault::Vault;
use asker::Asked;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// What may have changed. A hint: what did, if anything, shows the next load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Anything.
    All,
    /// Anything; what did shows in the versions.
    Versions,
    /// One organisation: changed, new or gone.
    Org {
        /// Which.
        id: OrgId,
        /// A read that gives a lower version came too early.
        version: u64,
    },
    /// Who is shut out.
    Bars(Vec<Bar>),
}

/// What a comparison of versions gave.
#[derive(Debug)]
pub enum Difference {
    /// Versions cannot be compared, or too many differ: these are all rows.
    All(Tables),
    /// What differs from what is known.
    Some {
        /// The organisations that are new or have another version, be it a lower one.
        changed: Vec<OrgRow>,
        /// Those that are not there any more.
        gone: Vec<OrgId>,
        /// Who is shut out: all of it.
        bars: Vec<(Bar, UnixSeconds)>,
    },
}

/// Where rows come from.
pub trait Source: Send + 'static {
    /// Why rows cannot be had.
    type Error: Display + Send;

    /// Whether another machine is asked, which may be away: then the gateway starts without it, is not ready until the
    /// first load, and tries again after a failure.
    const REMOTE: bool = false;

    /// Reads everything.
    fn load(&mut self) -> impl Future<Output = Result<Tables, Self::Error>> + Send;

    /// Reads some organisations; those that are not there are left out. Of each, no version lower than the one beside it
    /// is worth having.
    fn load_orgs(&mut self, ids: &[(OrgId, u64)]) -> impl Future<Output = Result<Vec<OrgRow>, Self::Error>> + Send {
        async move {
            let is_asked = |row: &OrgRow| ids.iter().any(|(id, _)| *id == row.id);
            Ok(self.load().await?.orgs.into_iter().filter(is_asked).collect())
        }
    }

    /// Reads what differs from `known`.
    fn load_changed(&mut self, _known: &Snapshot) -> impl Future<Output = Result<Difference, Self::Error>> + Send {
        async move { Ok(Difference::All(self.load().await?)) }
    }

    /// Reads which of these bars are up.
    fn load_bars(
        &mut self,
        which: &[Bar],
    ) -> impl Future<Output = Result<Vec<(Bar, UnixSeconds)>, Self::Error>> + Send {
        async move {
            let bars = self.load().await?.bars;
            Ok(bars.into_iter().filter(|(bar, _)| which.contains(bar)).collect())
        }
    }

    /// Waits until something may have changed. Nothing is lost when the wait is given up.
    fn changed(&mut self) -> impl Future<Output = Change> + Send;

    /// A change that can be had without waiting.
    fn waiting(&mut self) -> Option<Change> {
        None
    }

    /// Whether the source can be asked and has nothing newer than what was loaded last.
    fn is_current(&self) -> bool;

    /// How many of the rows that were read cannot be used. A source that refuses them has none.
    fn unusable_rows(&self) -> usize {
        0
    }

    /// Tells what is to be measured of the source alone.
    fn observe(&self, _metrics: &Metrics) {}

    /// What keeps the source from telling of changes.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// How often a file is looked at. Mounted secrets and config maps change by renaming, which no watch of a file sees.
const POLL: Duration = Duration::from_millis(500);

/// So many files with secrets are looked at each time: with one for each of thousands of organisations it is no small work.
const SECRETS_PER_LOOK: usize = 1000;

/// After so many looks everything is read again, for what the file only names.
const RESYNC_LOOKS: u32 = 120;

/// The source that reads a directory file.
pub struct FileSource {
    path: PathBuf,
    policy: AllowedHosts,
    env: Env,
    vault: Arc<Vault>,
    seen: Option<Stamp>,
    loaded: Option<Tables>,
    looks: u32,
    /// The files that hold secrets, as they were before they were read.
    secrets: Vec<(PathBuf, Option<Stamp>)>,
    /// Which of them is looked at next.
    turn: usize,
}

impl FileSource {
    /// A source that reads `path`.
    #[must_use]
    pub fn new(path: PathBuf, policy: AllowedHosts, env: Env, vault: Arc<Vault>) -> Self {
        Self { path, policy, env, vault, seen: None, loaded: None, looks: 0, secrets: Vec::new(), turn: 0 }
    }

    /// Whether one of the files that hold secrets is another than before. Some are looked at each time, in turn.
    fn has_another_secret(&mut self) -> bool {
        let count = self.secrets.len().min(SECRETS_PER_LOOK);
        let found = (0..count).any(|step| {
            let (path, seen) = &self.secrets[(self.turn + step) % self.secrets.len()];
            Stamp::of(path) != *seen
        });
        self.turn = self.turn.wrapping_add(count);
        found
    }

    /// Whether the same file gives other rows, for what no stamp tells.
    fn reads_otherwise(&self) -> bool {
        file::load(&self.path, &self.policy, &self.env, &self.vault)
            .is_ok_and(|tables| Some(&tables) != self.loaded.as_ref())
    }
}

impl Source for FileSource {
    type Error = Mistakes;

    async fn load(&mut self) -> Result<Tables, Mistakes> {
        // The stamp first: a change during the read shows as another change.
        self.seen = Stamp::of(&self.path);
        let secrets = SecretFiles::default();
        let tables = file::load_noting(&self.path, &self.policy, &self.env, &self.vault, &secrets);
        // Those of a file that was refused, too: a secret that is put where it was missing mends it.
        self.secrets = secrets.into_inner();
        let tables = tables?;
        self.loaded = Some(tables.clone());
        Ok(tables)
    }

    async fn changed(&mut self) -> Change {
        loop {
            sleep(POLL).await;
            self.looks = self.looks.wrapping_add(1);
            let resyncs = self.looks.is_multiple_of(RESYNC_LOOKS);
            if Stamp::of(&self.path) != self.seen || self.has_another_secret() || (resyncs && self.reads_otherwise()) {
                return Change::All;
            }
        }
    }

    fn is_current(&self) -> bool {
        self.seen.is_some() && Stamp::of(&self.path) == self.seen
    }
}

/// A source that has the same rows for ever.
pub struct FixedSource(pub Tables);

impl Source for FixedSource {
    type Error = std::convert::Infallible;

    async fn load(&mut self) -> Result<Tables, Self::Error> {
        Ok(self.0.clone())
    }

    async fn changed(&mut self) -> Change {
        std::future::pending().await
    }

    fn is_current(&self) -> bool {
        true
    }
}

/// Loads for the first time and publishes.
///
/// # Errors
/// What the source says.
pub async fn start<S: Source>(source: &mut S, directory: &Directory, metrics: &Metrics) -> Result<(), S::Error> {
    let tables = source.load().await?;
    publish_all(tables, directory, metrics);
    Ok(())
}

/// How often the age of the directory is told when nothing changes.
const CONFIRM: Duration = Duration::from_secs(5);
/// How often it is told what keeps the first load from being made.
const LOOK: Duration = Duration::from_millis(250);
/// A load takes no longer than this.
const LOAD_LIMIT: Duration = Duration::from_secs(120);
/// The pauses after failed loads of a remote source: doubled from the first to the last.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// So many organisations that have changed are read at once, at most.
const MAX_AT_ONCE: usize = 500;

/// Follows the source, and what is asked, for ever.
pub async fn follow<S: Source>(source: S, directory: Arc<Directory>, metrics: Arc<Metrics>, mut wishes: Wishes) {
    let mut follower = Follower { source, directory, metrics, failures: 0, retry: None, next: None };
    loop {
        match follower.next(&mut wishes).await {
            Next::Change(change) => follower.apply(change).await,
            Next::Asked(Asked(id, _done)) => {
                // What is read whole is published whole: the rest of it would not show as a change again.
                let change = if S::REMOTE { Change::Org { id, version: 0 } } else { Change::All };
                follower.apply(change).await;
            }
            Next::Tick => follower.tick(),
        }
    }
}

/// What comes next.
enum Next {
    Change(Change),
    Asked(Asked),
    /// It is time to look after the directory's age.
    Tick,
}

struct Follower<S> {
    source: S,
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    /// Failed loads since the last one of everything that succeeded.
    failures: u32,
    /// When everything is loaded again after a failure.
    retry: Option<Instant>,
    /// A change that was taken out of the source and comes next.
    next: Option<Change>,
}

/// Why a load came to nothing.
enum Failure<E> {
    Source(E),
    Late,
    /// What was read is older than what is known to be there.
    Stale,
}

impl<S: Source> Follower<S> {
    async fn next(&mut self, wishes: &mut Wishes) -> Next {
        if let Some(change) = self.next.take() {
            return Next::Change(change);
        }
        let pause = if self.directory.snapshot().is_some() { CONFIRM } else { LOOK };
        let retry = self.retry;
        let again = async {
            match retry {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = self.source.changed() => Next::Change(change),
            () = wishes.all.notified() => Next::Change(Change::All),
            Some(asked) = wishes.orgs.recv() => Next::Asked(asked),
            () = again => Next::Change(Change::All),
            () = sleep(pause) => Next::Tick,
        }
    }

    fn tick(&self) {
        self.source.observe(&self.metrics);
        self.directory.sweep();
        if self.failures == 0 {
            self.directory.set_trouble(self.source.trouble());
        }
        self.confirm();
    }

    /// Tells that the snapshot is current, if it is.
    fn confirm(&self) {
        let is_done = self.failures == 0 && self.next.is_none();
        if is_done && self.source.is_current() && self.directory.snapshot().is_some() {
            self.directory.confirm();
        }
    }

    async fn apply(&mut self, change: Change) {
        let result = match change {
            Change::All => self.load_all().await,
            Change::Versions => self.load_changed().await,
            Change::Org { id, version } => self.load_orgs(id, version).await,
            Change::Bars(bars) => self.load_bars(bars).await,
        };
        self.metrics.directory_unusable.set(self.source.unusable_rows() as f64);
        self.source.observe(&self.metrics);
        match result {
            Ok(()) => self.confirm(),
            Err(Failure::Source(error)) => self.failed(error.to_string()),
            Err(Failure::Late) => self.failed(format!("not loaded within {LOAD_LIMIT:?}")),
            Err(Failure::Stale) => self.failed("what was read is older than what is known".to_owned()),
        }
    }

    /// Loads everything, whatever the versions: after a failover they may have gone back.
    async fn load_all(&mut self) -> Result<(), Failure<S::Error>> {
        let tables = timeout(LOAD_LIMIT, self.source.load()).await.map_err(|_| Failure::Late)?;
        publish_all(tables.map_err(Failure::Source)?, &self.directory, &self.metrics);
        (self.failures, self.retry) = (0, None);
        self.directory.set_trouble(None);
        Ok(())
    }

    /// Loads what has another version than the snapshot. After a failure that is not enough: what was wrong then may
    /// have touched anything.
    async fn load_changed(&mut self) -> Result<(), Failure<S::Error>> {
        let Some(known) = self.directory.held().filter(|_| self.failures == 0) else { return self.load_all().await };
        let difference = timeout(LOAD_LIMIT, self.source.load_changed(&known)).await.map_err(|_| Failure::Late)?;
        // Let go before it is replaced, so that it can be freed at once.
        drop(known);
        match difference.map_err(Failure::Source)? {
            Difference::All(tables) => publish_all(tables, &self.directory, &self.metrics),
            Difference::Some { changed, gone, bars } => {
                self.compare_bars(bars);
                if !(changed.is_empty() && gone.is_empty()) {
                    publish_some(changed, &gone, &self.directory, &self.metrics);
                }
                self.directory.confirm();
            }
        }
        Ok(())
    }

    /// Loads this organisation with all others that have changed by now, and publishes them at once.
    async fn load_orgs(&mut self, id: OrgId, version: u64) -> Result<(), Failure<S::Error>> {
        let Some(known) = self.directory.held() else { return self.load_all().await };
        let mut asked = Vec::new();
        let mut change = Some(Change::Org { id, version });
        while let Some(Change::Org { id, version }) = change {
            let known = known.org(id.as_str()).map_or(0, |org| org.version);
            if version == 0 || version > known {
                asked.push((id, version.max(known)));
            }
            change = if asked.len() < MAX_AT_ONCE { self.source.waiting() } else { None };
        }
        self.next = change;
        drop(known);
        if asked.is_empty() {
            return Ok(());
        }
        let rows = timeout(LOAD_LIMIT, self.source.load_orgs(&asked)).await.map_err(|_| Failure::Late)?;
        let rows = rows.map_err(Failure::Source)?;
        let read: HashMap<_, _> = rows.iter().map(|row| (&row.id, row.version)).collect();
        if asked.iter().any(|(id, least)| read.get(id).is_some_and(|version| version < least)) {
            return Err(Failure::Stale);
        }
        let gone: Vec<_> = asked.iter().map(|(id, _)| id).filter(|id| !read.contains_key(id)).cloned().collect();
        publish_some(rows, &gone, &self.directory, &self.metrics);
        Ok(())
    }

    /// Puts these bars in place of those before, if they differ.
    fn compare_bars(&self, bars: Vec<(Bar, UnixSeconds)>) {
        let Some(now) = self.directory.snapshot() else { return };
        let access = Access::default().with(bars.into_iter().map(|(bar, since)| (bar, Some(since))));
        if *now.access() == access {
            return;
        }
        let next = now.with_access(access);
        drop(now);
        publish(next, News::All, &self.directory, &self.metrics);
    }

    async fn load_bars(&mut self, which: Vec<Bar>) -> Result<(), Failure<S::Error>> {
        let Some(now) = self.directory.snapshot() else { return self.load_all().await };
        let up = timeout(LOAD_LIMIT, self.source.load_bars(&which)).await.map_err(|_| Failure::Late)?;
        let up: HashMap<_, _> = up.map_err(Failure::Source)?.into_iter().collect();
        let next = now.with_bars(which.iter().map(|bar| (bar.clone(), up.get(bar).copied())));
        drop(now);
        tracing::debug!(changed = which.len(), up = up.len(), "revocations and bans loaded");
        publish(next, News::Bars(which.into()), &self.directory, &self.metrics);
        Ok(())
    }

    fn failed(&mut self, error: String) {
        self.failures = self.failures.saturating_add(1);
        self.metrics.directory_failures.increment(1);
        tracing::error!(%error, "the directory was refused; the one before goes on serving");
        if S::REMOTE {
            let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(10)).min(LAST_RETRY);
            self.retry = Some(Instant::now() + pause);
        }
        self.directory.set_trouble(Some(error));
    }
}

fn publish_all(tables: Tables, directory: &Directory, metrics: &Metrics) {
    let before = directory.snapshot();
    let snapshot = Snapshot::build(tables, before.as_deref());
    troubles::tell(&snapshot, before.as_deref(), None);
    drop(before);
    tracing::info!(organisations = snapshot.len(), "directory loaded");
    publish(snapshot, News::All, directory, metrics);
    directory.confirm();
}

fn publish_some(rows: Vec<OrgRow>, gone: &[OrgId], directory: &Directory, metrics: &Metrics) {
    let Some(now) = directory.snapshot() else { return };
    tracing::debug!(changed = rows.len(), gone = gone.len(), "organisations loaded");
    let ids: Arc<[OrgId]> = rows.iter().map(|row| &row.id).chain(gone).cloned().collect();
    let next = now.with_orgs(rows, gone);
    troubles::tell(&next, Some(&now), Some(&ids));
    // Let go before it is replaced, so that it can be freed at once.
    drop(now);
    publish(next, News::Orgs(ids), directory, metrics);
}

fn publish(snapshot: Snapshot, news: News, directory: &Directory, metrics: &Metrics) {
    metrics.directory_orgs.set(snapshot.len() as f64);
    metrics.directory_bars.set(snapshot.access().len() as f64);
    metrics.directory_loads.increment(1);
    directory.publish(snapshot, news);
}

#[cfg(test)]
mod tests;
