//! The live side of a node: who is on it now, whether it does its work, and how quickly.

mod health;
mod latency;

pub use health::{Condition, Ejection, HealthState, Reason, Rules};

use super::place::Places;
use super::ramp::Ramp;
use health::Health;
use latency::Latency;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Identity and counters of one node of one organisation.
#[derive(Debug)]
pub struct NodeLive {
    uid: u64,
    /// Requests on it now in the low half, all there ever were in the high half: one operation counts both.
    requests: AtomicU64,
    /// Its slow start.
    pub ramp: Ramp,
    health: Health,
    latency: Latency,
    /// Times are counted from here.
    born: Instant,
    /// Connections to it, idle ones too.
    pub connections: Places,
    /// Connections to it that do not stand yet.
    pub connecting: Places,
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

/// One more in the high half of `requests`.
const ONE_MORE: u64 = 1 << 32;

/// Why a node does not take a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It has as many as it may.
    Full,
    /// It was taken out and is tried with another request at the moment.
    OnTrial,
}

impl NodeLive {
    /// A node that nobody uses yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            uid: NEXT_UID.fetch_add(1, Ordering::Relaxed),
            requests: AtomicU64::new(0),
            ramp: Ramp::default(),
            health: Health::default(),
            latency: Latency::default(),
            born: Instant::now(),
            connections: Places::default(),
            connecting: Places::default(),
        })
    }

    /// A number that no other node of this process has or had. Connections are pooled under it: as nodes belong to one
    /// organisation, no connection ever serves two.
    #[must_use]
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// Requests and tunnels that are on the node now.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.requests.load(Ordering::Relaxed) as u32
    }

    /// Counts a request onto the node until the lease is dropped.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> NodeLease {
        self.requests.fetch_add(ONE_MORE | 1, Ordering::Relaxed);
        NodeLease { node: Arc::clone(self), trial: 0 }
    }

    /// The same, unless the node has `most` requests already (0 means any number), or is on trial after its time out.
    /// `forced` goes to it all the same then. Within its time out whoever comes has been sent there knowingly, for want of
    /// other nodes. What time it is `now` is asked only of a node that was taken out.
    ///
    /// # Errors
    /// [`Closed`]; nothing is counted then.
    pub fn enter(
        self: &Arc<Self>,
        now: impl FnOnce() -> Instant,
        most: u32,
        forced: bool,
    ) -> Result<NodeLease, Closed> {
        let before = self.requests.fetch_add(ONE_MORE | 1, Ordering::Relaxed);
        let mut lease = NodeLease { node: Arc::clone(self), trial: 0 };
        if most > 0 && before as u32 >= most {
            // Who was never on it must not make its failures look few.
            self.requests.fetch_sub(ONE_MORE, Ordering::Relaxed);
            return Err(Closed::Full);
        }
        if self.health.is_ejected() && !forced && self.health.needs_trial(self.millis(now())) {
            // The number of the request tells its trial from all others'.
            lease.trial = ((before >> 32) as u32).max(1);
            if !self.health.begin_trial(lease.trial) {
                lease.trial = 0;
                return Err(Closed::OnTrial);
            }
        }
        Ok(lease)
    }

    /// Whether nothing speaks against it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.health.is_good()
    }

    /// Whether requests may be sent to it: it was not taken out, or its time out is over and nobody tries it yet.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.health.is_good() || self.health.may_be_tried(self.millis(Instant::now()))
    }

    /// Notes that it answered a request, `took` after that had been sent. Whether that brings it back into use.
    pub fn succeeded(&self, now: Instant, took: Duration) -> bool {
        let millis = self.millis(now);
        self.latency.note(millis, took);
        self.health.succeeded(millis)
    }

    /// Notes that a request to it failed in a way that tells of the node; how long it is out, if that takes it out.
    /// `seed` is a number that nobody chose.
    pub fn failed(&self, now: Instant, seed: u64, rules: &Rules) -> Option<Ejection> {
        let total = (self.requests.load(Ordering::Relaxed) >> 32) as u32;
        self.health.failed(self.millis(now), total, seed, rules)
    }

    /// Notes what probes say of it, or that nobody probes it any more, which is as if it were well; whether that is
    /// new.
    pub fn probed(&self, is_well: bool) -> bool {
        self.health.probed(is_well, self.millis(Instant::now()))
    }

    /// How long answers take to begin, in microseconds: at once as long as the last one that took longer, and less and
    /// less as time goes by (peak EWMA). 0 when nothing is known.
    #[must_use]
    pub fn latency(&self) -> u32 {
        self.latency.at(self.millis(Instant::now()))
    }

    /// How it is, for people.
    #[must_use]
    pub fn health(&self) -> HealthState {
        self.health.state(self.born, Instant::now())
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_millis() as u64
    }
}

/// One request's place on a node; gives it back when dropped.
#[derive(Debug)]
pub struct NodeLease {
    node: Arc<NodeLive>,
    /// Which trial the request is; 0 for none.
    trial: u32,
}

impl Drop for NodeLease {
    fn drop(&mut self) {
        self.node.requests.fetch_sub(1, Ordering::Relaxed);
        if self.trial != 0 {
            self.node.health.end_trial(self.trial);
        }
    }
}

#[cfg(test)]
mod tests;
