//! Reads of organisations of which a request asks for something that the snapshot does not have: it may have been made a
//! moment ago, and the notice lost. One read at a time for an organisation, few over all, and none again at once.

use super::sync::Asker;
use crate::model::ids::OrgId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

/// Organisations that are remembered to have been read; while there are no more places, nothing is read.
const MAX_REMEMBERED: usize = 4096;
/// Reads at once: changes that the source tells of wait behind them.
const MAX_READS: usize = 8;

/// What came of asking for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The organisation was read after this was asked for, or while it was.
    Read,
    /// It was not read in time.
    Late,
    /// It was read a moment ago, or too many are.
    Not,
}

/// How far reads may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a request waits for one.
    pub timeout: Duration,
    /// Least time between two of an organisation.
    pub interval: Duration,
}

/// Reads what is missing.
pub struct Misses {
    asker: Asker,
    limits: Limits,
    runtime: Handle,
    reads: Mutex<HashMap<OrgId, Read>>,
    turns: Arc<Semaphore>,
}

/// A read of an organisation that was begun.
struct Read {
    begun: Instant,
    done: watch::Receiver<bool>,
}

impl Read {
    fn is_under_way(&self) -> bool {
        !*self.done.borrow() && self.done.has_changed().is_ok()
    }
}

impl Misses {
    /// Reads whatever `asker` can have read; on `runtime`, so that a read goes on when its request does not.
    #[must_use]
    pub fn new(asker: Asker, limits: Limits, runtime: Handle) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_READS));
        Self { asker, limits, runtime, reads: Mutex::default(), turns }
    }

    /// Has an organisation read, and waits for that.
    pub async fn ask(&self, org: &OrgId) -> Asked {
        let Some(mut done) = self.begin(org) else { return Asked::Not };
        match timeout(self.limits.timeout, done.wait_for(|done| *done)).await {
            Ok(Ok(_)) => Asked::Read,
            Ok(Err(_)) | Err(_) => Asked::Late,
        }
    }

    /// The read that is under way, or a new one; none where there is not to be one.
    fn begin(&self, org: &OrgId) -> Option<watch::Receiver<bool>> {
        let mut reads = self.reads();
        let is_remembered = |read: &Read| read.is_under_way() || read.begun.elapsed() < self.limits.interval;
        if let Some(read) = reads.get(org).filter(|read| is_remembered(read)) {
            return read.is_under_way().then(|| read.done.clone());
        }
        if reads.len() >= MAX_REMEMBERED {
            reads.retain(|_, read| is_remembered(read));
        }
        if reads.len() >= MAX_REMEMBERED {
            return None;
        }
        let turn = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        let (tell, done) = watch::channel(false);
        reads.insert(org.clone(), Read { begun: Instant::now(), done: done.clone() });
        let (asker, org) = (self.asker.clone(), org.clone());
        self.runtime.spawn(async move {
            asker.org(org).await;
            // An error means that nobody waits any more.
            let _ = tell.send(true);
            drop(turn);
        });
        Some(done)
    }

    fn reads(&self) -> MutexGuard<'_, HashMap<OrgId, Read>> {
        // Whatever a panic leaves here is forgotten with time.
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::sync::{Wishes, asker};
    use futures_util::future::{join, join_all};

    fn misses(timeout: Duration, interval: Duration) -> (Arc<Misses>, Wishes) {
        let (asker, wishes) = asker();
        (Arc::new(Misses::new(asker, Limits { timeout, interval }, Handle::current())), wishes)
    }

    fn org(id: usize) -> OrgId {
        OrgId::parse(&format!("org{id}")).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn many_who_miss_the_same_have_it_read_once_and_not_again_at_once() {
        let (misses, mut wishes) = misses(LONG, LONG);
        let asked = join_all((0..100).map(|_| async { misses.ask(&org(1)).await }));
        let source = async {
            let read = wishes.orgs.recv().await.unwrap();
            assert_eq!(read.0, org(1));
            assert!(wishes.orgs.try_recv().is_err());
        };
        let (asked, ()) = join(asked, source).await;
        assert!(asked.iter().all(|asked| *asked == Asked::Read), "{asked:?}");
        assert_eq!(misses.ask(&org(1)).await, Asked::Not);
        let (other, ()) = join(misses.ask(&org(2)), async { drop(wishes.orgs.recv().await) }).await;
        assert_eq!(other, Asked::Read);
    }

    #[tokio::test]
    async fn it_is_read_again_after_a_while() {
        let (misses, mut wishes) = misses(LONG, Duration::ZERO);
        for _ in 0..2 {
            let (asked, ()) = join(misses.ask(&org(1)), async { drop(wishes.orgs.recv().await) }).await;
            assert_eq!(asked, Asked::Read);
        }
    }

    #[tokio::test]
    async fn a_read_that_takes_long_is_not_waited_for_and_few_are_under_way() {
        let (misses, _wishes) = misses(Duration::from_millis(1), LONG);
        let ids: Vec<_> = (0..=MAX_READS).map(org).collect();
        let mut outcomes = join_all(ids.iter().map(|id| misses.ask(id))).await;
        assert_eq!(outcomes.pop(), Some(Asked::Not));
        assert!(outcomes.iter().all(|outcome| *outcome == Asked::Late), "{outcomes:?}");
    }
}
