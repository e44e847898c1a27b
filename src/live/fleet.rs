//! What this instance knows of the fleet it belongs to: who it is itself, and how many there are. Written by the one task
//! that says to the others that it lives.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The fleet, as far as it is known here.
#[derive(Debug)]
pub struct Fleet {
    id: Box<str>,
    /// At least one: this instance.
    instances: AtomicU32,
    leaving: AtomicBool,
    ended: AtomicBool,
    /// When the others last heard of this instance; none without a database, and before the first time.
    heard: Mutex<Option<Instant>>,
    wake: Notify,
}

impl Fleet {
    /// An instance that is all there is, as far as it knows. The id tells it from every other one.
    #[must_use]
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self {
            id: id.into(),
            instances: AtomicU32::new(1),
            leaving: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            heard: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// The id of this instance.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many instances share the work, this one among them; 1 where there is no database to ask. The number before
    /// stays while the database is away.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.instances.load(Ordering::Relaxed)
    }

    /// Notes how many there are, which the database has just said.
    pub fn note(&self, instances: u32) {
        self.instances.store(instances.max(1), Ordering::Relaxed);
        *self.heard() = Some(Instant::now());
    }

    /// Seconds since the others last heard of this instance; none if they never have.
    #[must_use]
    pub fn silent_seconds(&self) -> Option<f64> {
        self.heard().map(|at| at.elapsed().as_secs_f64())
    }

    /// Notes that this instance is about to end.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether this instance is about to end.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Notes that nothing is under way here any more, and nothing will be.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether this instance has done its work.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Waits until there is something to tell the others at once.
    pub async fn news(&self) {
        self.wake.notified().await;
    }

    fn heard(&self) -> MutexGuard<'_, Option<Instant>> {
        // Replaced whole, so a panic elsewhere leaves nothing half done.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_is_always_one() {
        let fleet = Fleet::new("a");
        assert_eq!((fleet.instances(), fleet.silent_seconds()), (1, None));
        fleet.note(0);
        assert_eq!(fleet.instances(), 1);
        fleet.note(3);
        assert_eq!(fleet.instances(), 3);
        assert!(fleet.silent_seconds().is_some() && !fleet.is_leaving());
        fleet.leave();
        fleet.news().await;
        assert!(fleet.is_leaving());
    }
}
