//! Whether something that can be started is up: read by every request for it, written by the one task that looks after it.

use crate::clock::UnixSeconds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::time::Instant;

/// Where it is on its way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has looked yet, or not for long.
    Unknown,
    /// It is not up, and on its way.
    Starting,
    /// It takes requests.
    Up,
    /// It will not come up by itself, and is left alone for a while.
    Failed,
}

/// How far it is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Where it is.
    pub phase: Phase,
    /// What is going on, in a few words for people.
    pub step: Arc<str>,
    /// Since when it is not up.
    pub since: Instant,
}

/// The live side of an upstream that can be started.
#[derive(Debug)]
pub struct StartCell {
    uid: u64,
    /// What most requests ask, without a lock.
    up: AtomicBool,
    progress: watch::Sender<Progress>,
    used: AtomicU64,
    waiting: Arc<AtomicU32>,
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

impl Default for StartCell {
    fn default() -> Self {
        let progress = Progress { phase: Phase::Unknown, step: "looking".into(), since: Instant::now() };
        Self {
            uid: NEXT_UID.fetch_add(1, Ordering::Relaxed),
            up: AtomicBool::new(false),
            progress: watch::Sender::new(progress),
            used: AtomicU64::new(0),
            waiting: Arc::default(),
        }
    }
}

impl StartCell {
    /// A number that no other cell of this process has or had.
    #[must_use]
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// Whether it takes requests. Marks it as in use.
    #[must_use]
    pub fn is_up(&self, now: UnixSeconds) -> bool {
        // Written once a second at most: a store per request would bounce the line between cores.
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
        self.up.load(Ordering::Relaxed)
    }

    /// When a request last asked for it; 0 for never.
    #[must_use]
    pub fn last_used(&self) -> UnixSeconds {
        self.used.load(Ordering::Relaxed)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Tells of every change from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Says how far it is.
    pub fn tell(&self, phase: Phase, step: &str) {
        self.up.store(phase == Phase::Up, Ordering::Relaxed);
        self.progress.send_modify(|progress| {
            if matches!(progress.phase, Phase::Up | Phase::Unknown) && phase != Phase::Up {
                progress.since = Instant::now();
            }
            progress.phase = phase;
            if *progress.step != *step {
                progress.step = step.into();
            }
        });
    }

    /// A place among the requests that wait for it, unless that many are taken.
    #[must_use]
    pub fn wait(&self, most: u32) -> Option<Waiting> {
        Waiting::take(&self.waiting, most)
    }
}

/// A place in a queue, given back when it is dropped.
#[derive(Debug)]
pub struct Waiting(Arc<AtomicU32>);

impl Waiting {
    /// Takes a place in the queue that `count` counts, unless `most` are taken.
    #[must_use]
    pub fn take(count: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let place = Self(Arc::clone(count));
        // Counted first, so that two can never take the last place; the place gives itself back.
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_is_what_is_seen() {
        let cell = StartCell::default();
        assert!(!cell.is_up(7));
        assert_eq!((cell.last_used(), cell.progress().phase), (7, Phase::Unknown));
        let mut watch = cell.watch();
        cell.tell(Phase::Starting, "compute is starting");
        assert!(watch.has_changed().unwrap());
        assert_eq!(&*watch.borrow_and_update().step, "compute is starting");
        let since = cell.progress().since;
        cell.tell(Phase::Starting, "app is starting");
        assert_eq!(cell.progress().since, since);
        cell.tell(Phase::Up, "running");
        assert!(cell.is_up(8));
        assert_eq!(cell.progress().since, since);
    }

    #[test]
    fn a_queue_has_so_many_places() {
        let cell = StartCell::default();
        let places: Vec<_> = (0..3).filter_map(|_| cell.wait(2)).collect();
        assert_eq!(places.len(), 2);
        drop(places);
        assert!(cell.wait(1).is_some());
        assert!(cell.wait(0).is_none());
    }
}
