//! What a connection's task and the requests on their way know of each other.

use crate::plane::Plane;
use crate::plane::streams::note;
use crate::plane::worker::Worker;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use tokio::time::Instant;

/// The part of a connection that its requests reach.
pub(super) struct Shared {
    pub(super) worker: Rc<Worker>,
    /// Requests on their way, also those whose streams are gone.
    live: Cell<usize>,
    /// When the last one ended.
    since: Cell<Instant>,
    /// Streams that ended before anybody looked at their requests, and whose requests nobody has thrown away yet.
    pub(super) unseen: Cell<usize>,
    /// Places of streams in which something has happened that the connection's task has not looked at.
    noted: RefCell<Vec<usize>>,
    /// Bytes that were taken from the client and whose window it has not got back.
    pub(super) taken: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Shared {
    pub(super) fn new(worker: &Rc<Worker>, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(worker),
            live: Cell::new(0),
            since: Cell::new(now),
            unseen: Cell::new(0),
            noted: RefCell::default(),
            taken: Cell::new(0),
            waker: RefCell::default(),
        })
    }

    pub(super) fn live(&self) -> usize {
        self.live.get()
    }

    pub(super) fn since(&self) -> Instant {
        self.since.get()
    }

    /// Says which task is to be woken.
    pub(super) fn follow(&self, cx: &Context<'_>) {
        note(&mut self.waker.borrow_mut(), cx);
    }

    /// Has the connection's task look at a stream.
    pub(super) fn note(&self, place: usize) {
        self.noted.borrow_mut().push(place);
        self.wake();
    }

    /// Has the connection's task look at everything.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Gives the places to look at to `look`.
    pub(super) fn look(&self, look: impl FnMut(usize)) {
        let mut noted = self.noted.take();
        noted.drain(..).for_each(look);
        // The room is used again; nothing can have been noted meanwhile.
        self.noted.replace(noted);
    }

    /// Counts bytes whose window the client is to get back; whether they are so many that it is time.
    pub(super) fn count_taken(&self, bytes: usize) -> bool {
        self.taken.set(self.taken.get() + bytes);
        is_due(self.taken.get(), self.worker.plane.settings.http2_limits.connection_window)
    }
}

/// Whether so many bytes of a window are to be given back: often enough that no client has to wait, seldom enough that not
/// each frame is answered by another one.
pub(super) fn is_due(taken: usize, window: u32) -> bool {
    taken >= window as usize / 2
}

/// A request on its way. It counts like a connection of its own: it needs as many file descriptors.
pub(super) struct Alive {
    shared: Rc<Shared>,
    plane: Arc<Plane>,
    /// Whether the instance had no room for it.
    pub(super) full: bool,
}

impl Alive {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        let plane = &shared.worker.plane;
        shared.live.set(shared.live.get() + 1);
        let before = plane.connections.fetch_add(1, Ordering::Relaxed);
        let full = before >= plane.settings.max_connections;
        Self { shared: Rc::clone(shared), plane: Arc::clone(plane), full }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.plane.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.live.set(self.shared.live.get() - 1);
        if self.shared.live.get() == 0 {
            self.shared.since.set(Instant::now());
        }
    }
}
