//! Lanes: tasks that serve the requests of streams, one after the other. What a request needs while it is under way is
//! large, and so it is made once for a lane and not for each stream.

use super::pipe::{Found, Near, Pipe};
use crate::net::Peer;
use crate::plane::client::{Client, ClientIo};
use crate::plane::listener::{refuse_full, refuse_head};
use crate::plane::request::{Next, serve as serve_request};
use crate::plane::streams::Registration;
use crate::plane::timer::Timer;
use crate::plane::tunnel::Tunnel;
use crate::plane::worker::Worker;
use crate::wire::request::{Head, HeadError};
use futures_util::FutureExt as _;
use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// Lanes that wait for a request at most, for each worker.
const SPARE: usize = 64;

/// The lanes of a worker that wait for a request. The one that was given back last is taken first.
#[derive(Default)]
pub(in crate::plane) struct Lanes(RefCell<Vec<Rc<Pipe>>>);

impl Lanes {
    /// A lane that waits for a request; a new one when there is none.
    pub(super) fn take(&self, worker: &Rc<Worker>) -> Rc<Pipe> {
        let spare = self.0.borrow_mut().pop();
        spare.unwrap_or_else(|| {
            let pipe = Rc::default();
            tokio::task::spawn_local(guarded(Rc::clone(worker), Rc::clone(&pipe)));
            pipe
        })
    }

    /// Takes a lane back; one too many ends.
    pub(super) fn give(&self, pipe: Rc<Pipe>) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARE {
            spare.push(pipe);
        } else {
            pipe.retire();
        }
    }
}

/// A request to serve.
pub(super) struct Job {
    pub(super) head: Result<Vec<u8>, HeadError>,
    pub(super) peer: Peer,
    pub(super) registration: Registration,
    /// Whether the instance has no room for it.
    pub(super) full: bool,
}

/// Runs a lane. A panic ends it, and the stream that it serves, alone.
async fn guarded(worker: Rc<Worker>, pipe: Rc<Pipe>) {
    let plane = Arc::clone(&worker.plane);
    if AssertUnwindSafe(run(worker, pipe)).catch_unwind().await.is_err() {
        plane.metrics.panics.increment(1);
    }
}

async fn run(worker: Rc<Worker>, pipe: Rc<Pipe>) {
    let (mut timer, mut until) = (Timer::new(worker.plane.settings.header_timeout), None);
    while let Some((job, near)) = poll_fn(|cx| poll_job(cx, &pipe, &worker, &mut timer, &mut until)).await {
        timer = serve(&worker, job, near, timer).await;
    }
}

/// The next request; none when the lane ends.
fn poll_job(
    cx: &mut Context<'_>,
    pipe: &Rc<Pipe>,
    worker: &Worker,
    timer: &mut Timer,
    until: &mut Option<Instant>,
) -> Poll<Option<(Job, Near)>> {
    match pipe.look(cx) {
        Found::Request(job, near) => {
            *until = None;
            Poll::Ready(Some((job, near)))
        }
        Found::Over => Poll::Ready(None),
        Found::Nothing => Poll::Pending,
        Found::Lingering => {
            // Who does not take the end of an answer is told that the stream is over.
            let until = *until.get_or_insert_with(|| Instant::now() + worker.plane.settings.idle_timeout);
            ready!(timer.poll(cx, until));
            pipe.break_off();
            Poll::Pending
        }
    }
}

/// Takes a request the way that all go. Gives the timer back, for the next one.
async fn serve(worker: &Rc<Worker>, job: Job, near: Near, timer: Timer) -> Timer {
    let limits = worker.plane.settings.head_limits;
    let mut client = Client::of_stream(near, job.peer, job.registration, timer);
    let mut positions = worker.buffers.take_positions();
    let head = match &job.head {
        Ok(head) => Head::parse(head, &mut positions, limits),
        Err(error) => Err(*error),
    };
    let next = match head {
        _ if job.full => refuse_full(worker, &mut client).await,
        Ok(head) => serve_request(worker, &mut client, &head).await,
        Err(error) => refuse_head(worker, &mut client, error).await,
    };
    worker.buffers.give_positions(positions);
    worker.buffers.give(job.head.unwrap_or_default());
    worker.buffers.give(client.outbox.give_up());
    match next {
        Next::Another | Next::Close => {
            if let ClientIo::Stream(near) = &client.io {
                near.shut();
            }
        }
        Next::Abort => {}
        Next::Tunnel(upgraded) => {
            Box::new(Tunnel::new(client, *upgraded, &worker.plane.settings)).run(Rc::clone(worker)).await;
            return Timer::new(worker.plane.settings.header_timeout);
        }
    }
    client.timer
}
