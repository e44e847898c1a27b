//! The open connections and tunnels of one worker, so that all of them can be told to end.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The registry of one worker.
#[derive(Default)]
pub(super) struct Streams {
    wakers: RefCell<Slab<Option<Waker>>>,
    draining: Cell<bool>,
}

impl Streams {
    /// Registers a connection until the registration is dropped.
    pub(super) fn register(self: &Rc<Self>) -> Registration {
        let key = self.wakers.borrow_mut().insert(None);
        Registration { streams: Rc::clone(self), key }
    }

    /// Tells every connection, now and in future, that the worker drains.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        for (_, waker) in self.wakers.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether the worker drains.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// How many connections are registered.
    pub(super) fn len(&self) -> usize {
        self.wakers.borrow().len()
    }
}

/// A connection's place in the registry.
pub(super) struct Registration {
    streams: Rc<Streams>,
    key: usize,
}

impl Registration {
    /// Ready once the worker drains.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.streams.is_draining() {
            return Poll::Ready(());
        }
        let mut wakers = self.streams.wakers.borrow_mut();
        let slot = &mut wakers[self.key];
        // A task keeps its waker, so this clones once a connection and not once a request.
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.streams.wakers.borrow_mut().remove(self.key);
    }
}
