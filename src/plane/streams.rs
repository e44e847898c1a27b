//! The open connections and tunnels of one worker, so that they can be told to end: all of them when the worker drains,
//! single ones when what they stand on is taken away.

use super::standing::{Ground, Standing};
use crate::directory::News;
use crate::model::snapshot::Snapshot;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::time::Instant;

/// The registry of one worker.
#[derive(Default)]
pub(super) struct Streams {
    slots: RefCell<Slab<Slot>>,
    /// Whether clients are asked to come elsewhere next time.
    leaving: Cell<bool>,
    draining: Cell<bool>,
    /// Whether the drain is nearly over.
    late: Cell<bool>,
}

#[derive(Default)]
struct Slot {
    waker: Option<Waker>,
    /// While a request or a tunnel is under way.
    standing: Option<Standing>,
    /// Why it may not go on.
    ended: Option<&'static str>,
    /// When it is to leave its node, if it can be asked to.
    leave_at: Option<Instant>,
}

impl Slot {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Streams {
    /// Registers a connection until the registration is dropped.
    pub(super) fn register(self: &Rc<Self>) -> Registration {
        let key = self.slots.borrow_mut().insert(Slot::default());
        Registration { streams: Rc::clone(self), key }
    }

    /// Tells every connection, now and in future, that the client had better come elsewhere.
    pub(super) fn leave(&self) {
        self.leaving.set(true);
        self.wake_all();
    }

    /// Tells every connection, now and in future, that the worker drains.
    pub(super) fn drain(&self) {
        self.leaving.set(true);
        self.draining.set(true);
        self.wake_all();
    }

    /// Tells every request whose answer has not begun that it will not wait for it.
    pub(super) fn be_late(&self) {
        self.late.set(true);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.slots.borrow_mut().iter_mut().for_each(|(_, slot)| slot.wake());
    }

    /// Ends what does not stand any more; says how many that are. What is on a node that is to go may stay until
    /// `leave_at`, unless the node comes back before.
    pub(super) fn review(&self, news: &News, snapshot: &Snapshot, leave_at: impl Fn() -> Instant) -> u64 {
        let mut ended = 0;
        for (_, slot) in self.slots.borrow_mut().iter_mut().filter(|(_, slot)| slot.ended.is_none()) {
            let Some(standing) = slot.standing.as_ref().filter(|standing| standing.is_concerned(news)) else {
                continue;
            };
            match standing.check(snapshot) {
                Ok(Ground::Firm) => slot.leave_at = None,
                Ok(Ground::Leaving) if slot.leave_at.is_some() => {}
                Ok(Ground::Leaving) => {
                    slot.leave_at = Some(leave_at());
                    slot.wake();
                }
                Err(why) => {
                    slot.ended = Some(why);
                    slot.wake();
                    ended += 1;
                }
            }
        }
        ended
    }

    /// Whether clients had better come elsewhere next time.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Whether the worker drains.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// How many connections are registered.
    pub(super) fn len(&self) -> usize {
        self.slots.borrow().len()
    }
}

/// A connection's place in the registry.
pub(super) struct Registration {
    streams: Rc<Streams>,
    key: usize,
}

impl Registration {
    /// Ready once the worker drains. Who has polled hears of it when clients are to be asked away too.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.streams.is_draining() {
            return Poll::Ready(());
        }
        self.slot(|slot| note(&mut slot.waker, cx));
        Poll::Pending
    }

    /// Ready, with the reason, once what the connection stands on is gone.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<&'static str> {
        self.slot(|slot| {
            if let Some(why) = slot.ended {
                return Poll::Ready(why);
            }
            if slot.standing.is_some() {
                note(&mut slot.waker, cx);
            }
            Poll::Pending
        })
    }

    /// When the connection is to leave its node. Who has polled for the end hears of a change.
    pub(super) fn leave_at(&self) -> Option<Instant> {
        self.slot(|slot| slot.leave_at)
    }

    /// Whether there is time left for nothing but a word to the client. Who has asked whether it is ended hears of it.
    pub(super) fn is_late(&self) -> bool {
        self.streams.late.get()
    }

    /// Says what the connection stands on from now on.
    pub(super) fn stand_on(&self, standing: Standing) {
        self.slot(|slot| (slot.standing, slot.ended, slot.leave_at) = (Some(standing), None, None));
    }

    /// Says that it stands on nothing, as between requests.
    pub(super) fn stand_down(&self) {
        self.slot(|slot| (slot.standing, slot.ended, slot.leave_at) = (None, None, None));
    }

    fn slot<T>(&self, act: impl FnOnce(&mut Slot) -> T) -> T {
        act(&mut self.streams.slots.borrow_mut()[self.key])
    }
}

/// Keeps a task's waker. A task keeps its own, so this clones once a connection and not once a request.
pub(super) fn note(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.streams.slots.borrow_mut().remove(self.key);
    }
}
