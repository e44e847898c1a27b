//! Since when requests wait, so that it can be told how long the one has waited that waits longest. The lock is for those who
//! wait alone.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The beginnings of all waits, each with a number for those of one moment.
#[derive(Debug, Default)]
pub struct Waits(Mutex<BTreeSet<(Instant, u64)>>);

impl Waits {
    /// How long the request has waited that waits longest.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.since().first().map_or(Duration::ZERO, |(began, _)| began.elapsed())
    }

    /// Notes that somebody waits from now on, until the wait is dropped; `number` is one that nobody else has.
    pub(super) fn begin(&self, number: u64) -> Wait<'_> {
        let began = (Instant::now(), number);
        self.since().insert(began);
        Wait { waits: self, began }
    }

    fn since(&self) -> MutexGuard<'_, BTreeSet<(Instant, u64)>> {
        // A panic elsewhere leaves the set whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits.
pub(super) struct Wait<'a> {
    waits: &'a Waits,
    began: (Instant, u64),
}

impl Wait<'_> {
    /// Since when.
    pub(super) fn began(&self) -> Instant {
        self.began.0
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waits.since().remove(&self.began);
    }
}
