//! A limit on what is under way at once, and a fair, bounded queue before it. As long as nobody waits, to come in and to leave
//! are one exchange of a number each; the lock is for those who wait and for those who leave while others do.

mod line;
#[cfg(test)]
mod tests;

use line::{Line, State};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// One who waits, in the upper half of the number whose lower half counts who is in.
const WAITING: u64 = 1 << 32;

/// A limit, who is in, and who waits.
#[derive(Debug, Default)]
pub struct Gate {
    /// Who waits and who is in, in one number: so nobody can leave unseen between the look of one who is about to wait and
    /// the waiting.
    counts: AtomicU64,
    /// The limit as it was last said.
    limit: AtomicU32,
    /// Empty until somebody has to wait.
    line: Mutex<Option<Box<Line>>>,
}

fn active(counts: u64) -> u32 {
    counts as u32
}

fn waiting(counts: u64) -> u32 {
    (counts >> 32) as u32
}

impl Gate {
    /// How many are in.
    #[must_use]
    pub fn active(&self) -> u32 {
        active(self.counts.load(Ordering::Relaxed))
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        waiting(self.counts.load(Ordering::Relaxed))
    }

    /// A permit, if nobody waits and fewer than `limit` are in. The limit, at least 1, holds for whoever waits, too.
    #[must_use]
    pub fn enter(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        self.set_limit(limit);
        let free = |counts| (waiting(counts) == 0 && active(counts) < limit).then_some(counts + 1);
        self.counts.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).ok().map(|_| Permit(Arc::clone(self)))
    }

    /// A place in the queue of at most `length`, for somebody told by a number. Who comes when it is full takes the last
    /// place of whoever has the most, unless they have as many.
    #[must_use]
    pub fn queue(self: &Arc<Self>, who: u64, length: u32) -> Option<Place> {
        let mut line = self.line();
        let own = line.get_or_insert_default();
        let limit = self.limit.load(Ordering::Relaxed);
        let mut pushed = None;
        let has_room = self.waiting() < length || {
            pushed = own.push_out(who);
            pushed.is_some()
        };
        if !has_room {
            return None;
        }
        let ticket = own.join(who);
        if pushed.is_none() {
            let before = self.counts.fetch_add(WAITING, Ordering::AcqRel);
            // Somebody left between the look and the lock.
            if waiting(before) == 0 && active(before) < limit {
                own.call();
                self.counts.fetch_sub(WAITING - 1, Ordering::AcqRel);
            }
        }
        drop(line);
        pushed.into_iter().flatten().for_each(Waker::wake);
        Some(Place { gate: Arc::clone(self), ticket: Some(ticket) })
    }

    /// Lets in who waits, as far as a higher limit allows.
    pub fn set_limit(&self, limit: u32) {
        if self.limit.load(Ordering::Relaxed) == limit {
            return;
        }
        let mut line = self.line();
        self.limit.store(limit, Ordering::Relaxed);
        let mut called = Vec::new();
        while let Some(own) = line.as_mut() {
            let counts = self.counts.load(Ordering::Acquire);
            if waiting(counts) == 0 || active(counts) >= limit {
                break;
            }
            called.push(own.call());
            self.counts.fetch_sub(WAITING - 1, Ordering::AcqRel);
        }
        drop(line);
        called.into_iter().flatten().for_each(Waker::wake);
    }

    /// Gives a permit to the next who waits, or back.
    fn leave(&self) {
        let nobody = |counts| (waiting(counts) == 0).then(|| counts - 1);
        if self.counts.fetch_update(Ordering::AcqRel, Ordering::Acquire, nobody).is_err() {
            let next = self.pass_on(&mut self.line());
            next.into_iter().for_each(Waker::wake);
        }
    }

    fn pass_on(&self, line: &mut Option<Box<Line>>) -> Option<Waker> {
        let counts = self.counts.load(Ordering::Acquire);
        // Who waits comes and goes under the lock alone.
        let has_room = active(counts) <= self.limit.load(Ordering::Relaxed);
        let Some(line) = line.as_mut().filter(|_| waiting(counts) > 0 && has_room) else {
            self.counts.fetch_sub(1, Ordering::AcqRel);
            return None;
        };
        self.counts.fetch_sub(WAITING, Ordering::AcqRel);
        line.call()
    }

    fn line(&self) -> MutexGuard<'_, Option<Box<Line>>> {
        // Nothing in there panics half way.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to be in; given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Permit {
    /// Whether it is one of this gate's.
    #[must_use]
    pub fn is_of(&self, gate: &Arc<Gate>) -> bool {
        Arc::ptr_eq(&self.0, gate)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A place in the queue; given up when dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    /// None once it has become something else.
    ticket: Option<u64>,
}

impl Place {
    /// Ready with a permit, or with none for who lost the place to somebody who had fewer.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Permit>> {
        let Some(ticket) = self.ticket else { return Poll::Ready(None) };
        let mut line = self.gate.line();
        let state = line.as_mut().map(|line| line.look(ticket, cx.waker()));
        drop(line);
        match state {
            Some(State::Waiting) => Poll::Pending,
            Some(State::Called) => {
                self.ticket = None;
                Poll::Ready(Some(Permit(Arc::clone(&self.gate))))
            }
            Some(State::PushedOut) | None => {
                self.ticket = None;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut line = self.gate.line();
        let next = match line.as_mut().and_then(|line| line.leave(ticket)) {
            Some(State::Waiting) => {
                self.gate.counts.fetch_sub(WAITING, Ordering::AcqRel);
                None
            }
            // It was called and never heard.
            Some(State::Called) => self.gate.pass_on(&mut line),
            Some(State::PushedOut) | None => None,
        };
        drop(line);
        next.into_iter().for_each(Waker::wake);
    }
}
