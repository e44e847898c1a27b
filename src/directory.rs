//! The directory: who owns what. Sources deliver rows, [`sync`] builds a snapshot of them and publishes it here, and
//! requests read it.

pub mod file;
pub mod sync;

use crate::model::snapshot::Snapshot;
use arc_swap::{ArcSwapOption, Guard};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// The directory in memory.
#[derive(Debug, Default)]
pub struct Directory {
    current: ArcSwapOption<Snapshot>,
    /// When the snapshot was last known to be what the source has.
    confirmed: Mutex<Option<Instant>>,
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

    /// Replaces the snapshot for all requests from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        // The old one is freed here and not by the last request that reads it, unless one still does.
        drop(self.current.swap(Some(Arc::new(snapshot))));
        self.confirm();
    }

    /// Notes that the snapshot is what the source has.
    pub fn confirm(&self) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Seconds since the snapshot was known to be what the source has; none before the first load.
    #[must_use]
    pub fn age_seconds(&self) -> Option<f64> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed().as_secs_f64())
    }
}
