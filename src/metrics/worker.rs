//! What workers count of every request: each for itself, so that no two of them write to the same memory, and added up when
//! somebody asks.

use super::RouteKind;
use super::histogram::{Histogram, Recorded, add_alone};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Status codes 100 to 599 are told apart.
const CODES: std::ops::Range<u16> = 100..600;
const CODE_COUNT: usize = (CODES.end - CODES.start) as usize;

/// What one worker counts. It can be neither copied nor shared, so only one thread counts with it.
pub struct WorkerMetrics {
    counts: Arc<Counts>,
    /// Makes it useless to other threads.
    one_thread: PhantomData<Cell<()>>,
}

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// What it was for.
    pub kind: RouteKind,
    /// The status of its answer.
    pub status: u16,
    /// Body and tunnel bytes from the client.
    pub received: u64,
    /// Body and tunnel bytes to the client.
    pub sent: u64,
    /// Its whole life, from its head to the last byte of its answer, in nanoseconds as all times here.
    pub duration: u64,
    /// From its head sent upstream to the head of the answer, if there was one.
    pub upstream: Option<u64>,
    /// What the gateway itself added before the request and before the answer went on, if they did.
    pub overhead: Option<u64>,
}

impl WorkerMetrics {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self { counts, one_thread: PhantomData }
    }

    /// Counts a request that begins.
    pub fn begin(&self) {
        add_alone(&self.counts.active, 1);
    }

    /// Whether no more than one request is under way.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.counts.active.load(Ordering::Relaxed) <= 1
    }

    /// Counts a request that has begun and is over.
    pub fn finish(&self, request: &Finished) {
        add_alone(&self.counts.active, 1_u64.wrapping_neg());
        add_alone(&self.counts.received, request.received);
        add_alone(&self.counts.sent, request.sent);
        let route = self.counts.routes[request.kind as usize].get_or_init(Box::default);
        if let Some(count) = route.codes.get(usize::from(request.status.wrapping_sub(CODES.start))) {
            add_alone(count, 1);
        }
        let [duration, upstream, overhead] = &route.times;
        duration.record_alone(request.duration);
        if let Some(time) = request.upstream {
            upstream.record_alone(time);
        }
        if let Some(time) = request.overhead {
            overhead.record_alone(time);
        }
    }
}

/// The numbers of one worker. Apart from everything else by two lines of the cache, which processors fetch in pairs.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counts {
    active: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// By [`RouteKind`]; there from the first request of that kind.
    routes: [OnceLock<Box<RouteCounts>>; RouteKind::ALL.len()],
}

/// The numbers of one kind of route.
struct RouteCounts {
    /// By status code.
    codes: [AtomicU64; CODE_COUNT],
    /// Of whole requests, of upstreams, of the gateway itself.
    times: [Histogram; 3],
}

impl Default for RouteCounts {
    fn default() -> Self {
        Self { codes: [const { AtomicU64::new(0) }; CODE_COUNT], times: Default::default() }
    }
}

/// What all workers have counted.
pub(super) struct Sum<'a>(pub(super) &'a [Arc<Counts>]);

impl Sum<'_> {
    /// Requests being served.
    pub(super) fn active(&self) -> u64 {
        self.sum(|counts| &counts.active)
    }

    /// Body bytes from clients.
    pub(super) fn received(&self) -> u64 {
        self.sum(|counts| &counts.received)
    }

    /// Body bytes to clients.
    pub(super) fn sent(&self) -> u64 {
        self.sum(|counts| &counts.sent)
    }

    fn sum(&self, of: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.0.iter().fold(0, |sum, counts| sum.wrapping_add(of(counts).load(Ordering::Relaxed)))
    }

    /// The status codes that there were of a kind of route, and how often.
    pub(super) fn codes(&self, kind: RouteKind) -> impl Iterator<Item = (u16, u64)> {
        let of = move |at: usize| self.routes(kind).map(|route| route.codes[at].load(Ordering::Relaxed)).sum();
        CODES.enumerate().map(move |(at, code)| (code, of(at))).filter(|(_, count)| *count > 0)
    }

    /// How long requests of a kind took: as a whole, for upstreams, for the gateway itself.
    pub(super) fn times(&self, kind: RouteKind) -> [Recorded; 3] {
        self.routes(kind).fold(Default::default(), |mut sums: [Recorded; 3], route| {
            for (sum, times) in sums.iter_mut().zip(&route.times) {
                sum.add(&times.read());
            }
            sums
        })
    }

    fn routes(&self, kind: RouteKind) -> impl Iterator<Item = &RouteCounts> {
        self.0.iter().filter_map(move |counts| counts.routes[kind as usize].get().map(AsRef::as_ref))
    }
}
