//! The directory: who owns what. Sources deliver rows, [`sync`] builds a snapshot of them and publishes it here, and
//! requests read it.

mod balance;
mod checks;
pub mod file;
pub mod firefly;
pub mod misses;
pub mod once;
pub mod postgres;
mod principal;
mod probe;
mod quota;
pub mod report;
pub mod revoke;
mod stamp;
mod start;
pub mod sync;
mod troubles;

use crate::clock::UnixSeconds;
use crate::model::access::Bar;
use crate::model::ids::OrgId;
use crate::model::snapshot::Snapshot;
use arc_swap::{ArcSwapOption, Guard};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// The directory in memory.
#[derive(Debug)]
pub struct Directory {
    current: ArcSwapOption<Snapshot>,
    /// Bars that were put up here and are laid over whatever the source says; held while a snapshot is replaced.
    own: Mutex<OwnBars>,
    news: broadcast::Sender<News>,
    /// When the snapshot was last known to be what the source has.
    confirmed: Mutex<Option<Instant>>,
    /// Snapshots that were replaced while requests still read them.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    /// What the source lacks.
    trouble: Mutex<Option<String>>,
}

/// What is new in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Anything.
    All,
    /// These organisations.
    Orgs(Arc<[OrgId]>),
    /// Who is shut out.
    Bars(Arc<[Bar]>),
}

/// Since when each bar is up, and when it may be forgotten.
type OwnBars = HashMap<Bar, (UnixSeconds, UnixSeconds)>;

/// Most bars that are put up here at once.
pub const MAX_OWN_BARS: usize = 65_536;
/// News that a listener may lag behind before it has to look at everything.
const MAX_NEWS: usize = 256;

/// There are [`MAX_OWN_BARS`] already, none of which may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_OWN_BARS} sessions have been ended here already and are not over yet")]
pub struct TooManyBars;

impl Default for Directory {
    fn default() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            own: Mutex::default(),
            news: broadcast::channel(MAX_NEWS).0,
            confirmed: Mutex::default(),
            retired: Mutex::default(),
            trouble: Mutex::default(),
        }
    }
}

/// A snapshot in use.
pub struct Loaded(Guard<Option<Arc<Snapshot>>>);

impl std::ops::Deref for Loaded {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        self.0.as_ref().expect("`snapshot` gives nothing else out")
    }
}

impl Directory {
    /// The snapshot now; none before the first load.
    #[must_use]
    pub fn snapshot(&self) -> Option<Loaded> {
        let guard = self.current.load();
        guard.is_some().then(|| Loaded(guard))
    }

    /// The snapshot now, for work beside the requests that takes a while.
    #[must_use]
    pub fn held(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// Replaces the snapshot for all requests from now on, and tells what is new in it.
    pub fn publish(&self, snapshot: Snapshot, news: News) {
        let own = lock(&self.own);
        let bars = own.iter().map(|(bar, (since, _))| (bar.clone(), Some(*since)));
        let overlaid = if own.is_empty() { snapshot } else { snapshot.with_bars(bars) };
        self.replace(overlaid, news);
    }

    /// Shuts somebody out here and at once, until `forget_at`, whatever the source says.
    ///
    /// # Errors
    /// [`TooManyBars`]; nothing has changed then.
    pub fn put_up(&self, bar: Bar, now: UnixSeconds, forget_at: UnixSeconds) -> Result<(), TooManyBars> {
        let mut own = lock(&self.own);
        if own.len() >= MAX_OWN_BARS {
            own.retain(|_, (_, forget_at)| *forget_at > now);
        }
        if own.len() >= MAX_OWN_BARS {
            return Err(TooManyBars);
        }
        own.insert(bar.clone(), (now, forget_at));
        if let Some(snapshot) = self.snapshot() {
            let next = snapshot.with_bars([(bar.clone(), Some(now))]);
            drop(snapshot);
            self.replace(next, News::Bars([bar].into()));
        }
        Ok(())
    }

    /// What is new from now on. Whoever lags behind hears so, and has to look at everything.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    fn replace(&self, snapshot: Snapshot, news: News) {
        let mut retired = lock(&self.retired);
        retired.extend(self.current.swap(Some(Arc::new(snapshot))));
        drop(retired);
        // An error means that nobody listens.
        let _ = self.news.send(news);
        self.sweep();
    }

    /// Whether nobody reads a snapshot any more that was replaced before this was asked: then everything is counted that
    /// was decided by one, since requests let go of a snapshot after they have been counted.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.sweep();
        lock(&self.retired).is_empty()
    }

    /// Frees replaced snapshots that no request reads any more. Here, because freeing a large one takes a while, and a
    /// request that did it would keep all others of its worker waiting.
    pub fn sweep(&self) {
        // Nobody can get hold of a replaced snapshot anew: what is nobody else's stays so. Whoever had it has done by then
        // what he did before he let go, which a look at the count alone would not promise.
        lock(&self.retired).retain_mut(|snapshot| Arc::get_mut(snapshot).is_none());
    }

    /// Notes what keeps the source from being followed, or that nothing does.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }

    /// What keeps the source from being followed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Notes that the snapshot is what the source has.
    pub fn confirm(&self) {
        *lock(&self.confirmed) = Some(Instant::now());
    }

    /// Seconds since the snapshot was known to be what the source has; none before the first load.
    #[must_use]
    pub fn age_seconds(&self) -> Option<f64> {
        lock(&self.confirmed).map(|at| at.elapsed().as_secs_f64())
    }
}

/// What the locks guard is replaced whole, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::{Holder, Subject};
    use crate::model::snapshot::Snapshot;

    #[test]
    fn who_is_shut_out_here_stays_so_whatever_the_source_says() {
        let directory = Directory::default();
        let holder = Holder { session: &[1; 16], issued: 5, org: "acme", user: "u" };
        let shut_out = || directory.snapshot().is_some_and(|now| now.access().check(holder).is_err());
        directory.publish(Snapshot::default(), News::All);
        let mut news = directory.news();
        let bar = Bar::Revoked(Subject::Session([1; 16]));
        directory.put_up(bar.clone(), 10, 20).unwrap();
        assert_eq!(news.try_recv().unwrap(), News::Bars([bar].into()));
        assert!(shut_out());
        directory.publish(Snapshot::default(), News::All);
        assert!(shut_out());
    }

    #[test]
    fn bars_are_forgotten_when_there_are_too_many() {
        let directory = Directory::default();
        let bar = |n: usize| Bar::Banned(n.to_string().into());
        (0..MAX_OWN_BARS).for_each(|n| directory.put_up(bar(n), 10, if n == 0 { 20 } else { 30 }).unwrap());
        assert_eq!(directory.put_up(bar(MAX_OWN_BARS), 19, 99), Err(TooManyBars));
        assert_eq!(directory.put_up(bar(MAX_OWN_BARS), 20, 99), Ok(()));
        assert_eq!(lock(&directory.own).len(), MAX_OWN_BARS);
    }

    #[test]
    fn a_replaced_snapshot_is_freed_when_nobody_reads_it() {
        let directory = Directory::default();
        assert!(directory.snapshot().is_none() && directory.age_seconds().is_none());
        directory.publish(Snapshot::default(), News::All);
        let reading = directory.snapshot().unwrap();
        directory.publish(Snapshot::default(), News::All);
        assert_eq!((lock(&directory.retired).len(), reading.len()), (1, 0));
        assert!(!directory.is_settled());
        drop(reading);
        assert!(directory.is_settled());
        assert!(lock(&directory.retired).is_empty());
    }
}
