//! One worker: a single-threaded runtime with its own listener, upstream pool, buffers and random numbers, so that a
//! request never crosses threads and nothing here needs a lock.

use super::Plane;
use super::budget::Budget;
use super::buffers::Buffers;
use super::databricks::Places;
use super::http2::{Complaints, Lanes};
use super::line;
use super::pool::Pool;
use super::streams::Streams;
use super::wall::Wall;
use crate::clock::UnixSeconds;
use crate::metrics::WorkerMetrics;
use crate::session::opened::Opened;
use std::cell::{Cell, RefCell, RefMut};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes read from a socket at once, shared by all connections of a worker: a connection that waits holds no buffer.
pub(super) const SCRATCH: usize = 256 * 1024;
/// Bytes read at once while a head is expected; most heads fit.
pub(super) const HEAD_READ: usize = 16 * 1024;
/// A batch of log lines is handed over when it is this long, or at the next tick.
const LOG_BATCH: usize = 32 * 1024;

/// What the connections of one thread share.
pub(super) struct Worker {
    pub(super) plane: Arc<Plane>,
    pub(super) pool: Pool,
    pub(super) retries: Budget,
    pub(super) streams: Rc<Streams>,
    pub(super) complaints: Complaints,
    /// Where statements were found.
    pub(super) places: Places,
    /// How many statements without clients are waited for.
    pub(super) abandoned: Arc<AtomicU32>,
    pub(super) buffers: Buffers,
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Where frames of HTTP/2 are put together, shared in the same way; gone while somebody keeps what a client does not take.
    pub(super) output: Cell<Vec<u8>>,
    /// Who serves the next streams of HTTP/2.
    pub(super) lanes: Lanes,
    /// The sessions of clients that are active.
    pub(super) opened: RefCell<Opened>,
    /// What of its requests is counted here alone.
    pub(super) metrics: WorkerMetrics,
    /// What time it is.
    pub(super) wall: Wall,
    random: Cell<u64>,
    log: RefCell<Vec<u8>>,
    /// Who waits for the first line of a batch.
    first_line: Cell<Option<Waker>>,
}

impl Worker {
    /// A worker of the plane.
    ///
    /// # Errors
    /// An error of the operating system's source of random numbers.
    pub(super) fn new(plane: Arc<Plane>) -> Result<Rc<Self>, getrandom::Error> {
        let limits = &plane.settings;
        let pool = Pool::new(limits.pool_max_idle, limits.pool_idle_timeout);
        Ok(Rc::new(Self {
            pool,
            retries: Budget::new(limits.retry_budget),
            metrics: plane.metrics.worker(),
            plane,
            streams: Rc::default(),
            complaints: Complaints::default(),
            places: Places::default(),
            abandoned: Arc::default(),
            buffers: Buffers::default(),
            opened: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            output: Cell::default(),
            lanes: Lanes::default(),
            wall: Wall::default(),
            random: Cell::new(getrandom::u64()?),
            log: RefCell::default(),
            first_line: Cell::default(),
        }))
    }

    /// A number nobody needs to be unable to guess: for balancing, masks and request ids (SplitMix64, Steele et al. 2014).
    pub(super) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Wall-clock time at a moment, by a clock that was read a second ago at most.
    pub(super) fn wall_clock(&self, at: Instant) -> UnixSeconds {
        self.plane.clock.at(self.wall.second(at))
    }

    /// A share of this time, by chance.
    pub(super) fn part_of(&self, time: Duration) -> Duration {
        time.mul_f64(f64::from((self.random() >> 32) as u32) / f64::from(u32::MAX))
    }

    /// When something that begins now is too old to be kept: up to a fifth before its time, by chance, or all that began
    /// together, after an instance had left, would end together as well.
    pub(super) fn age_from(&self, now: Instant, limit: Duration) -> Instant {
        now + limit - self.part_of(limit / 5)
    }

    /// The batch of log lines to write the next one into.
    pub(super) fn batch(&self) -> RefMut<'_, Vec<u8>> {
        if self.log.borrow().len() >= LOG_BATCH {
            self.flush_log();
        }
        if let Some(waker) = self.first_line.take() {
            waker.wake();
        }
        self.log.borrow_mut()
    }

    /// Waits until there is a line to hand over.
    pub(super) async fn first_line(&self) {
        poll_fn(|cx| {
            if !self.log.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.first_line.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Hands the batch over to the log. The next one has room for as much.
    pub(super) fn flush_log(&self) {
        let mut log = self.log.borrow_mut();
        if !log.is_empty() {
            let next = Vec::with_capacity(log.len() + 2 * line::ROOM);
            self.plane.log.send(std::mem::replace(&mut *log, next));
        }
    }

    /// Counts an open tunnel until the guard is dropped.
    pub(super) fn open_tunnel(&self) -> OpenTunnel {
        self.plane.metrics.tunnels_active.increment(1.0);
        self.plane.tunnels.fetch_add(1, Ordering::Relaxed);
        OpenTunnel(Arc::clone(&self.plane))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The lines of requests that were cut off last.
        self.flush_log();
    }
}

/// Lets the other tasks go first that can go on now. What several of them then send goes out in one burst, which wakes an
/// upstream, or a client with several connections, once, where each would have waked it for itself: to wake somebody costs
/// more than to look at a task again. A request that is under way alone has nobody to wait for.
pub(super) async fn others_first(worker: &Worker) {
    let mut is_back = worker.metrics.is_alone();
    poll_fn(|cx| {
        if is_back {
            return Poll::Ready(());
        }
        is_back = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// An open tunnel in the metrics.
pub(super) struct OpenTunnel(Arc<Plane>);

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.metrics.tunnels_active.decrement(1.0);
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}
