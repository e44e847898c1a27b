//! The directory: who owns what. Sources deliver rows, [`sync`] builds a snapshot of them and publishes it here, and
//! requests read it.

mod checks;
pub mod file;
pub mod postgres;
pub mod sync;

use crate::model::snapshot::Snapshot;
use arc_swap::{ArcSwapOption, Guard};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// The directory in memory.
#[derive(Debug, Default)]
pub struct Directory {
    current: ArcSwapOption<Snapshot>,
    /// When the snapshot was last known to be what the source has.
    confirmed: Mutex<Option<Instant>>,
    /// Snapshots that were replaced while requests still read them.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    /// What the source lacks.
    trouble: Mutex<Option<String>>,
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

    /// Replaces the snapshot for all requests from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        let old = self.current.swap(Some(Arc::new(snapshot)));
        lock(&self.retired).extend(old);
        self.sweep();
    }

    /// Frees replaced snapshots that no request reads any more. Here, because freeing a large one takes a while, and a
    /// request that did it would keep all others of its worker waiting.
    pub fn sweep(&self) {
        // Nobody can get hold of a replaced snapshot anew: a count of one stays one.
        lock(&self.retired).retain(|snapshot| Arc::strong_count(snapshot) > 1);
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
    use crate::model::tables::Tables;

    #[test]
    fn a_replaced_snapshot_is_freed_when_nobody_reads_it() {
        let directory = Directory::default();
        assert!(directory.snapshot().is_none() && directory.age_seconds().is_none());
        directory.publish(Snapshot::build(Tables::default(), None));
        let reading = directory.snapshot().unwrap();
        directory.publish(Snapshot::build(Tables::default(), None));
        assert_eq!((lock(&directory.retired).len(), reading.len()), (1, 0));
        drop(reading);
        directory.sweep();
        assert!(lock(&directory.retired).is_empty());
    }
}
