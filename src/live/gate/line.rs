//! Who waits: each in the line of their own kind, first come first served, and the lines take turns.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::task::Waker;

/// What became of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet.
    Waiting,
    /// Its turn has come.
    Called,
    /// Somebody who had fewer has it now.
    PushedOut,
}

#[derive(Debug)]
struct Waiter {
    who: u64,
    state: State,
    waker: Option<Waker>,
}

/// Empty lines that may be left in the turns before they are swept out.
const SWEEP_AT: usize = 64;

/// Everybody who waits at one gate.
#[derive(Debug, Default)]
pub(super) struct Line {
    next: u64,
    /// By ticket, which rises.
    waiters: BTreeMap<u64, Waiter>,
    /// The tickets of those who still wait. A line that becomes empty stays while it has a turn.
    lines: HashMap<u64, VecDeque<u64>>,
    /// Each line once.
    turns: VecDeque<u64>,
    /// Lines that are not empty by their lengths.
    lengths: BTreeSet<(usize, u64)>,
}

impl Line {
    /// A place at the end of somebody's line.
    pub(super) fn join(&mut self, who: u64) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.waiters.insert(ticket, Waiter { who, state: State::Waiting, waker: None });
        let line = self.lines.entry(who).or_insert_with(|| {
            self.turns.push_back(who);
            VecDeque::new()
        });
        self.lengths.remove(&(line.len(), who));
        line.push_back(ticket);
        self.lengths.insert((line.len(), who));
        ticket
    }

    /// Calls the first of the line whose turn it is.
    pub(super) fn call(&mut self) -> Option<Waker> {
        while let Some(who) = self.turns.pop_front() {
            let Some(line) = self.lines.get_mut(&who) else { continue };
            let length = line.len();
            let Some(ticket) = line.pop_front() else {
                self.lines.remove(&who);
                continue;
            };
            self.lengths.remove(&(length, who));
            if length > 1 {
                self.lengths.insert((length - 1, who));
                self.turns.push_back(who);
            } else {
                self.lines.remove(&who);
            }
            return self.settle(ticket, State::Called);
        }
        None
    }

    /// Takes the last place of the longest line, if that is longer than somebody's own would become. Gives who is to hear of
    /// it; a place that nobody has looked at yet has nobody.
    pub(super) fn push_out(&mut self, who: u64) -> Option<Vec<Waker>> {
        let own = self.lines.get(&who).map_or(0, VecDeque::len);
        let (length, longest) = *self.lengths.last().filter(|(length, _)| *length > own + 1)?;
        let ticket = self.lines.get_mut(&longest)?.pop_back()?;
        self.lengths.remove(&(length, longest));
        self.lengths.insert((length - 1, longest));
        Some(self.settle(ticket, State::PushedOut).into_iter().collect())
    }

    fn settle(&mut self, ticket: u64, state: State) -> Option<Waker> {
        let waiter = self.waiters.get_mut(&ticket)?;
        waiter.state = state;
        waiter.waker.take()
    }

    /// How it stands with a ticket. It is gone when it waits no more.
    pub(super) fn look(&mut self, ticket: u64, waker: &Waker) -> State {
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return State::PushedOut };
        let state = waiter.state;
        if state != State::Waiting {
            self.waiters.remove(&ticket);
        } else if !waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            waiter.waker = Some(waker.clone());
        }
        state
    }

    /// Gives a place up; says how it stood with it.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<State> {
        let Waiter { who, state, .. } = self.waiters.remove(&ticket)?;
        if state == State::Waiting
            && let Some(line) = self.lines.get_mut(&who)
            && let Ok(at) = line.binary_search(&ticket)
        {
            self.lengths.remove(&(line.len(), who));
            line.remove(at);
            if !line.is_empty() {
                self.lengths.insert((line.len(), who));
            }
            self.sweep();
        }
        Some(state)
    }

    /// Forgets empty lines when they are many: who comes and goes must not make the turns grow.
    fn sweep(&mut self) {
        if self.turns.len() > SWEEP_AT && self.turns.len() > 2 * self.lengths.len() {
            self.lines.retain(|_, line| !line.is_empty());
            self.turns.retain(|who| self.lines.contains_key(who));
        }
    }

    /// How many lines are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.turns.len(), self.waiters.len())
    }
}
