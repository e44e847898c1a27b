//! The end of a pipe for the stream.

use super::halves::End;
use super::{Held, Pipe, State, release};
use crate::plane::http2::lane::Job;
use crate::plane::http2::shared::{Alive, Shared};
use crate::wire::http2::request::Content;
use std::cell::RefMut;
use std::rc::Rc;

/// The end for the stream. The other one breaks when it is dropped.
pub(in crate::plane::http2) struct Far(pub(super) Rc<Pipe>);

impl Far {
    /// Gives a request to a lane.
    pub(in crate::plane::http2) fn open(
        pipe: Rc<Pipe>,
        (shared, place): (&Rc<Shared>, usize),
        job: Job,
        content: Content,
        alive: Alive,
    ) -> Self {
        let mut state = pipe.0.borrow_mut();
        state.job = Some(job);
        state.stream = Some((Rc::clone(shared), place));
        state.up.begin(content);
        (state.held, state.alive) = (Held { near: true, far: true }, Some(alive));
        state.wake();
        drop(state);
        Self(pipe)
    }

    /// What is there for the client, and how it goes on. What has happened until now counts as looked at.
    pub(in crate::plane::http2) fn look(&self) -> RefMut<'_, State> {
        let mut state = self.0.0.borrow_mut();
        state.is_noted = false;
        state
    }

    /// Bytes of the stream's window that the client is to get back, if it is time.
    pub(in crate::plane::http2) fn give_back(&self) -> usize {
        let state = &mut *self.0.0.borrow_mut();
        match &state.stream {
            Some((shared, _)) if state.up.is_due(&shared.worker.plane.settings.http2_limits) => {
                std::mem::take(&mut state.up.taken)
            }
            _ => 0,
        }
    }

    /// Puts bytes from the client in; false when nobody reads them. How many they can be, the stream's window says.
    pub(in crate::plane::http2) fn put(&self, bytes: &[u8]) -> bool {
        let state = &mut *self.0.0.borrow_mut();
        if !state.up.is_open() {
            return false;
        }
        let shared = state.stream.as_ref().map(|(shared, _)| shared);
        state.up.put(bytes, || shared.map_or_else(Vec::new, |shared| shared.worker.buffers.take()));
        state.wake();
        true
    }

    /// Counts bytes of the windows that nobody has to take.
    pub(in crate::plane::http2) fn skip(&self, bytes: usize) {
        let state = &mut *self.0.0.borrow_mut();
        state.up.taken += bytes;
        if let Some((shared, _)) = &state.stream {
            shared.count_taken(bytes);
        }
    }

    /// Nothing more will come from the client but this, which is no body any more.
    pub(in crate::plane::http2) fn finish(&self, tail: Vec<u8>) {
        let mut state = self.0.0.borrow_mut();
        state.up.finish(tail);
        state.wake();
    }

    /// Nothing more will come from the client, as when a connection is half closed.
    pub(in crate::plane::http2) fn close(&self) {
        let mut state = self.0.0.borrow_mut();
        state.up.end(End::Closed);
        state.wake();
    }

    /// What was taken out of the pipe makes room for more, and its buffer is given back when it is empty.
    pub(in crate::plane::http2) fn make_room(state: &mut State) {
        if state.down.frees_writer() {
            state.wake();
        }
        if let Some(buffer) = state.down.spare()
            && let Some(shared) = state.worker_of()
        {
            shared.worker.buffers.give(buffer);
        }
    }

    /// Has the lane give up the end of the answer when the client does not take it in time.
    pub(in crate::plane::http2) fn linger(state: &mut State) {
        if !state.held.near && !state.lingers {
            state.lingers = true;
            state.wake();
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let mut state = self.0.0.borrow_mut();
        state.held.far = false;
        if let Some((shared, _)) = state.stream.as_ref().filter(|_| state.job.is_some()) {
            shared.unseen.set(shared.unseen.get() + 1);
        }
        if state.held.near {
            state.up.end(End::Broken);
            state.down.end(End::Broken);
            state.wake();
            return;
        }
        drop(state);
        release(&self.0);
    }
}
