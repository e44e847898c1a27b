//! A bounded pipe in memory between a stream and the request's way, both on one thread: the one end is read and written like
//! a socket, the other one follows the stream's flow control. Who writes faster than the other reads waits.
//!
//! A pipe is used again for the next request of its lane, and holds a buffer only while bytes are in it.

mod halves;

use super::lane::Job;
use super::shared::{Alive, Shared, note};
use crate::wire::http2::request::Content;
use halves::{Down, End, Up};
use std::cell::{RefCell, RefMut};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

/// The end for the request's way, which takes it for a connection with the client. It breaks off when it is dropped before
/// it was shut.
pub(crate) struct Near(Rc<Pipe>);

impl Near {
    /// Says that nothing more comes for the client.
    pub(super) fn shut(&self) {
        let mut state = self.0.0.borrow_mut();
        state.down.end(End::Closed);
        state.tell();
    }
}

impl AsyncRead for Near {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.0.borrow_mut();
        if state.up.is_broken() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        let Some(taken) = state.up.read(buffer)? else {
            if state.up.is_closed() {
                return Poll::Ready(Ok(()));
            }
            note(&mut state.task, cx);
            return Poll::Pending;
        };
        let (mut is_due, Some((shared, _))) = (false, &state.stream) else { return Poll::Ready(Ok(())) };
        if taken > 0 {
            is_due = shared.count_taken(taken) | state.up.is_due(&shared.worker.plane.settings.http2_limits);
        }
        if let Some(buffer) = state.up.spare() {
            shared.worker.buffers.give(buffer);
        }
        if is_due {
            state.tell();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Near {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.0.borrow_mut();
        if !state.down.is_open() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if state.down.room() == 0 {
            note(&mut state.task, cx);
            state.down.waits = true;
            return Poll::Pending;
        }
        if let Some((shared, _)) = &state.stream {
            state.down.lend(|| shared.worker.buffers.take());
        }
        let written = state.down.write(slices);
        state.tell();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        let mut state = self.0.0.borrow_mut();
        state.held.near = false;
        // The lane's task ends with its panic.
        state.is_over |= thread::panicking();
        if state.held.far {
            let held = state.up.abandon();
            if let Some((shared, _)) = &state.stream {
                shared.count_taken(held);
            }
            state.down.end(End::Broken);
            state.tell();
            return;
        }
        let shared = state.stream.as_ref().map(|(shared, _)| Rc::clone(shared));
        drop(state);
        release(&self.0);
        if let Some(shared) = shared {
            // It may have waited for nothing but this.
            shared.wake();
        }
    }
}

/// The end for the stream. The other one breaks when it is dropped.
pub(super) struct Far(Rc<Pipe>);

impl Far {
    /// Gives a request to a lane.
    pub(super) fn open(
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
        (state.held.near, state.held.far, state.alive) = (true, true, Some(alive));
        state.wake();
        drop(state);
        Self(pipe)
    }

    /// What is there for the client, and how it goes on. What has happened until now counts as looked at.
    pub(super) fn look(&self) -> RefMut<'_, State> {
        let mut state = self.0.0.borrow_mut();
        state.is_noted = false;
        state
    }

    /// Bytes of the stream's window that the client is to get back, if it is time.
    pub(super) fn give_back(&self) -> usize {
        let state = &mut *self.0.0.borrow_mut();
        match &state.stream {
            Some((shared, _)) if state.up.is_due(&shared.worker.plane.settings.http2_limits) => {
                std::mem::take(&mut state.up.taken)
            }
            _ => 0,
        }
    }

    /// Puts bytes from the client in; false when nobody reads them. How many they can be, the stream's window says.
    pub(super) fn put(&self, bytes: &[u8]) -> bool {
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
    pub(super) fn skip(&self, bytes: usize) {
        let state = &mut *self.0.0.borrow_mut();
        state.up.taken += bytes;
        if let Some((shared, _)) = &state.stream {
            shared.count_taken(bytes);
        }
    }

    /// Nothing more will come from the client but this, which is no body any more.
    pub(super) fn finish(&self, tail: Vec<u8>) {
        let mut state = self.0.0.borrow_mut();
        state.up.finish(tail);
        state.wake();
    }

    /// Nothing more will come from the client, as when a connection is half closed.
    pub(super) fn close(&self) {
        let mut state = self.0.0.borrow_mut();
        state.up.end(End::Closed);
        state.wake();
    }

    /// What was taken out of the pipe makes room for more, and its buffer is given back when it is empty.
    pub(super) fn make_room(state: &mut State) {
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
    pub(super) fn linger(state: &mut State) {
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

/// Both ends of a pipe between nobody.
#[cfg(test)]
pub(super) fn pair(content: Content) -> (Near, Far) {
    let pipe = Rc::<Pipe>::default();
    let mut state = pipe.0.borrow_mut();
    (state.held.near, state.held.far) = (true, true);
    state.up.begin(content);
    drop(state);
    (Near(Rc::clone(&pipe)), Far(pipe))
}

#[cfg(test)]
mod tests;
