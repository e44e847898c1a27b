//! Whether a node does its work, told by the requests on it (passive health) and by probes (active health). All that
//! decides stands in one word, so that every change is one atomic step; the rest is bookkeeping for that step.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When a node is taken out of use, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// After so many failures one after the other; 0 for never.
    pub consecutive_failures: u32,
    /// When of a thousand requests so many fail; 0 for never.
    pub failure_share: u32,
    /// Requests that have to be there before their share counts.
    pub failure_requests: u32,
    /// The time over which they are counted, from a failure on.
    pub failure_window: Duration,
    /// For so long at first, and twice as long each time.
    pub ejection_time: Duration,
    /// But never longer.
    pub max_ejection_time: Duration,
}

/// What took a node out of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Failures one after the other.
    ConsecutiveFailures,
    /// Too large a share of failures.
    FailureShare,
    /// The request that it was tried with after its time out.
    FailedTrial,
}

impl Reason {
    /// All of them, for tables of metrics.
    pub const ALL: [Self; 3] = [Self::ConsecutiveFailures, Self::FailureShare, Self::FailedTrial];

    /// The word for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureShare => "failure_share",
            Self::FailedTrial => "failed_trial",
        }
    }
}

/// A node was taken out of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Why.
    pub reason: Reason,
    /// For how long at least: after it, the node is tried with one request at a time.
    pub time: Duration,
}

/// What may be said of a node in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// In use.
    Good,
    /// Out of use for failed requests.
    Ejected,
    /// Its time out is over: one request at a time decides.
    OnTrial,
    /// Out of use for failed probes.
    Dead,
}

impl Condition {
    /// The word for people and programs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Ejected => "ejected",
            Self::OnTrial => "on_trial",
            Self::Dead => "dead",
        }
    }
}

/// How a node is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthState {
    /// In a word.
    pub condition: Condition,
    /// Since when it is in use, or out of it.
    pub since: Instant,
    /// Failures since the last answer.
    pub failures: u32,
    /// When its time out ends or has ended, if it was taken out for failed requests.
    pub ejected_until: Option<Instant>,
}

/// Probes say that it does not work.
const DEAD: u64 = 1 << 63;
/// Requests on it failed.
const EJECTED: u64 = 1 << 62;
/// Failures since the last answer, as far as they are counted.
const FAILURES: u64 = MOST_FAILURES << FAILURES_AT;
const FAILURES_AT: u32 = 48;
const MOST_FAILURES: u64 = (1 << 14) - 1;
/// When the time out ends, in milliseconds.
const UNTIL: u64 = (1 << FAILURES_AT) - 1;

/// The health of a node. Moments are milliseconds of its own.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// [`DEAD`], [`EJECTED`], [`FAILURES`] and [`UNTIL`]: 0 as long as all is well.
    fate: AtomicU64,
    /// The trial that is under way.
    trial: AtomicU32,
    /// Ejections that count for how long the next one is.
    ejections: AtomicU32,
    /// When it came into use, or went out of it, last.
    since: AtomicU64,
    window: Window,
}

/// Failures over a while that begins with one; told apart from the next while by when it began.
#[derive(Debug, Default)]
struct Window {
    /// One more than the moment; 0 for none.
    began: AtomicU64,
    failures: AtomicU32,
    /// How many requests there had been before it.
    requests_before: AtomicU32,
}

impl Health {
    /// Whether nothing speaks against it.
    pub(super) fn is_good(&self) -> bool {
        self.fate.load(Ordering::Relaxed) & (DEAD | EJECTED) == 0
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.fate.load(Ordering::Relaxed) & EJECTED != 0
    }

    /// Whether its time out is over, and an answer has to tell what comes next.
    pub(super) fn needs_trial(&self, now: u64) -> bool {
        let fate = self.fate.load(Ordering::Relaxed);
        fate & EJECTED != 0 && fate & UNTIL <= now
    }

    /// Whether its time out is over, and no request tries it.
    pub(super) fn may_be_tried(&self, now: u64) -> bool {
        let fate = self.fate.load(Ordering::Relaxed);
        fate & DEAD == 0 && fate & UNTIL <= now && self.trial.load(Ordering::Relaxed) == 0
    }

    /// Whether this is the one trial there is now.
    pub(super) fn begin_trial(&self, trial: u32) -> bool {
        self.trial.compare_exchange(0, trial, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn end_trial(&self, trial: u32) {
        // When it is not there any more, the node came back meanwhile.
        let _ = self.trial.compare_exchange(trial, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes an answer; whether it ends an ejection. One that comes before the end of the time out was asked for before
    /// the ejection, and says nothing about the node now.
    pub(super) fn succeeded(&self, now: u64) -> bool {
        // For all who answer as they should this is all there is.
        if self.fate.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let good = |fate: u64| {
            let is_served = fate & EJECTED != 0 && fate & UNTIL <= now;
            let next = fate & !FAILURES & !if is_served { EJECTED | UNTIL } else { 0 };
            (next != fate).then_some(next)
        };
        let before = self.fate.fetch_update(Ordering::Relaxed, Ordering::Relaxed, good);
        let is_back = before.is_ok_and(|fate| fate & EJECTED != 0 && fate & UNTIL <= now);
        if is_back {
            self.come_back(now);
        }
        is_back
    }

    /// Notes a failure; `total` requests there were so far.
    pub(super) fn failed(&self, now: u64, total: u32, seed: u64, rules: &Rules) -> Option<Ejection> {
        let is_often = self.window.fails_too_often(now, total, rules);
        let mut ejection = None;
        let fate = |fate: u64| {
            let failures = (((fate & FAILURES) >> FAILURES_AT) + 1).min(MOST_FAILURES);
            let counted = fate & !FAILURES | failures << FAILURES_AT;
            let is_in_a_row = rules.consecutive_failures > 0 && failures >= u64::from(rules.consecutive_failures);
            let reason = match fate & EJECTED != 0 {
                true if fate & UNTIL > now => None,
                true => Some(Reason::FailedTrial),
                false if is_in_a_row => Some(Reason::ConsecutiveFailures),
                false => is_often.then_some(Reason::FailureShare),
            };
            ejection = reason.map(|reason| (reason, self.spell(now, reason, seed, rules)));
            let Some((_, (_, time))) = ejection else { return Some(counted) };
            let until = (now + time.as_millis() as u64).min(UNTIL);
            Some(counted & !UNTIL | EJECTED | until)
        };
        // It never says no.
        let _ = self.fate.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fate);
        let (reason, (count, time)) = ejection?;
        self.ejections.store(count, Ordering::Relaxed);
        if reason != Reason::FailedTrial {
            self.since.store(now, Ordering::Relaxed);
        }
        Some(Ejection { reason, time })
    }

    /// How many ejections count with the next one, and how long that is. After each stretch in use that was as long as
    /// the longest ejection, half of what was is forgotten.
    fn spell(&self, now: u64, reason: Reason, seed: u64, rules: &Rules) -> (u32, Duration) {
        let known = self.ejections.load(Ordering::Relaxed);
        let stretch = (rules.max_ejection_time.as_millis() as u64).max(1);
        let good = match reason {
            Reason::FailedTrial => 0,
            _ => now.saturating_sub(self.since.load(Ordering::Relaxed)) / stretch,
        };
        let count = known.checked_shr(u32::try_from(good).unwrap_or(u32::MAX)).unwrap_or(0);
        let time = rules.ejection_time.saturating_mul(1 << count.min(20)).min(rules.max_ejection_time);
        // Spread downwards by a fifth, so that nodes that went together do not come back together.
        (count.saturating_add(1), time.mul_f64(1.0 - (seed % 1000) as f64 / 5000.0))
    }

    /// Notes what probes say; whether that is new. With life come all chances.
    pub(super) fn probed(&self, is_well: bool, now: u64) -> bool {
        let fate = |fate: u64| {
            let next = if is_well { 0 } else { fate | DEAD };
            (is_well == (fate & DEAD != 0)).then_some(next)
        };
        let is_new = self.fate.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fate).is_ok();
        if is_new && is_well {
            self.come_back(now);
        } else if is_new {
            self.since.store(now, Ordering::Relaxed);
        }
        is_new
    }

    fn come_back(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
        self.window.began.store(0, Ordering::Relaxed);
        self.trial.store(0, Ordering::Relaxed);
    }

    pub(super) fn state(&self, born: Instant, now: Instant) -> HealthState {
        let fate = self.fate.load(Ordering::Relaxed);
        let at = |millis: u64| born + Duration::from_millis(millis);
        let until = (fate & EJECTED != 0).then(|| at(fate & UNTIL));
        let condition = match until {
            _ if fate & DEAD != 0 => Condition::Dead,
            None => Condition::Good,
            Some(until) if until > now => Condition::Ejected,
            Some(_) => Condition::OnTrial,
        };
        let failures = ((fate & FAILURES) >> FAILURES_AT) as u32;
        HealthState { condition, since: at(self.since.load(Ordering::Relaxed)), failures, ejected_until: until }
    }
}

impl Window {
    /// Counts a failure; whether too many of all requests fail.
    fn fails_too_often(&self, now: u64, total: u32, rules: &Rules) -> bool {
        if rules.failure_share == 0 {
            return false;
        }
        let began = self.began.load(Ordering::Relaxed);
        let is_over = began == 0 || now + 1 >= began + rules.failure_window.as_millis() as u64;
        // Whoever begins the next one counts from 0; what others count at that moment may be lost.
        if is_over && self.began.compare_exchange(began, now + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.failures.store(0, Ordering::Relaxed);
            self.requests_before.store(total.wrapping_sub(1), Ordering::Relaxed);
        }
        let failures = u64::from(self.failures.fetch_add(1, Ordering::Relaxed)) + 1;
        let requests = u64::from(total.wrapping_sub(self.requests_before.load(Ordering::Relaxed)));
        requests >= u64::from(rules.failure_requests) && failures * 1000 >= u64::from(rules.failure_share) * requests
    }
}
