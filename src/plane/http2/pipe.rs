//! A bounded pipe in memory between a stream and the request's way, both on one thread: the one end is read and written like
//! a socket, the other one follows the stream's flow control. Who writes faster than the other reads waits.
//!
//! A pipe is used again for the next request of its lane, and holds a buffer only while bytes are in it.

mod far;
mod halves;
mod near;

pub(super) use far::Far;
pub(crate) use near::Near;

use super::lane::Job;
use super::shared::{Alive, Shared};
use crate::plane::streams::note;
use halves::{Down, Up};
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};

/// A pipe, and whose it is at the moment.
#[derive(Default)]
pub(in crate::plane) struct Pipe(RefCell<State>);

#[derive(Default)]
pub(super) struct State {
    /// From the client.
    up: Up,
    /// To the client.
    pub(super) down: Down,
    /// The request that is to be served; none once it was taken.
    job: Option<Job>,
    /// The connection of the stream, and the place there. None between two requests.
    stream: Option<(Rc<Shared>, usize)>,
    /// Whether the connection has been told that there is something to look at.
    is_noted: bool,
    held: Held,
    /// Whether the end of the answer waits for the client's window while nobody is on the way any more.
    lingers: bool,
    /// Whether no request may come any more.
    is_over: bool,
    alive: Option<Alive>,
    /// The lane's task.
    task: Option<Waker>,
}

/// Which ends of a pipe somebody holds: the request's way, the stream.
#[derive(Default)]
struct Held {
    near: bool,
    far: bool,
}

impl State {
    /// Has the connection look at the stream.
    fn tell(&mut self) {
        if let Some((shared, place)) = self.stream.as_ref().filter(|_| !self.is_noted) {
            shared.note(*place);
            self.is_noted = true;
        }
    }

    fn wake(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// Whether somebody is on the request's way.
    pub(super) fn is_served(&self) -> bool {
        self.held.near
    }

    fn worker_of(&self) -> Option<&Shared> {
        self.stream.as_ref().map(|(shared, _)| &**shared)
    }
}

/// What a lane finds when it looks for a request.
pub(super) enum Found {
    Request(Job, Near),
    /// There will be none any more.
    Over,
    /// The end of an answer waits for its client.
    Lingering,
    Nothing,
}

impl Pipe {
    /// What there is to do for the lane's task.
    pub(super) fn look(self: &Rc<Self>, cx: &Context<'_>) -> Found {
        let mut state = self.0.borrow_mut();
        note(&mut state.task, cx);
        match state.job.take() {
            Some(job) if state.held.far => Found::Request(job, Near(Rc::clone(self))),
            Some(unseen) => {
                if let Some(shared) = state.worker_of() {
                    shared.unseen.set(shared.unseen.get() - 1);
                }
                drop((state, unseen));
                drop(Near(Rc::clone(self)));
                Found::Nothing
            }
            None if state.is_over => Found::Over,
            None if state.lingers => Found::Lingering,
            None => Found::Nothing,
        }
    }

    /// Breaks off, because the client does not take the end of an answer.
    pub(super) fn break_off(&self) {
        let mut state = self.0.borrow_mut();
        state.lingers = false;
        state.down.cut();
        state.tell();
    }

    /// Ends the lane.
    pub(super) fn retire(&self) {
        let mut state = self.0.borrow_mut();
        state.is_over = true;
        state.wake();
    }
}

/// Leaves a pipe that nobody uses any more to the next request.
fn release(pipe: &Rc<Pipe>) {
    let mut state = pipe.0.borrow_mut();
    let Some((shared, _)) = state.stream.take() else { return };
    let buffers = &shared.worker.buffers;
    let (up, down, alive) = (std::mem::take(&mut state.up), std::mem::take(&mut state.down), state.alive.take());
    (state.is_noted, state.lingers) = (false, false);
    let is_over = state.is_over;
    drop(state);
    // Nobody will read that.
    shared.count_taken(up.held());
    buffers.give(up.into_buffer());
    buffers.give(down.into_buffer());
    drop(alive);
    if !is_over {
        shared.worker.lanes.give(Rc::clone(pipe));
    }
}

/// Both ends of a pipe between nobody.
#[cfg(test)]
pub(super) fn pair(content: crate::wire::http2::request::Content) -> (Near, Far) {
    let pipe = Rc::<Pipe>::default();
    let mut state = pipe.0.borrow_mut();
    state.held = Held { near: true, far: true };
    state.up.begin(content);
    drop(state);
    (Near(Rc::clone(&pipe)), Far(pipe))
}

#[cfg(test)]
mod tests;
