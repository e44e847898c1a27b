//! HTTP/2 for clients (RFC 9113). A connection's streams are taken apart here, and each one's request then goes the same way
//! as one of HTTP/1.1: through one parser, one guard and one account, over a pipe in memory instead of a socket.

mod body;
pub(super) mod head;
mod opening;
pub(super) mod pipe;
mod refusals;
mod stream;

pub(super) use opening::{Heard, Opening, PREFACE};
pub(super) use refusals::Complaints;

use super::Plane;
use super::account::NEVER;
use super::client::{Client, ClientIo, LAST_CALL};
use super::listener::{refuse_full, refuse_head};
use super::request::{Next, serve as serve_request};
use super::streams::Registration;
use super::timer::Timer;
use super::tunnel::Tunnel;
use super::worker::Worker;
use crate::config::Http2Limits;
use crate::net::Peer;
use crate::wire::request::{Head, HeadError};
use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use head::Content;
use http::Request;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use stream::{Ended, Stream};
use tokio::time::{Instant, sleep, timeout};

/// Largest frame that clients may send: what every client may without asking (RFC 9113 6.5.2).
const FRAME: usize = 16 * 1024;
/// What of an answer waits in the library for the client's window, for each stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Pause between two tries to send a ping that the library has no room for yet.
const PING_AGAIN: Duration = Duration::from_secs(1);
/// How long a client may take to close a connection on which nothing runs any more.
const FAREWELL: Duration = Duration::from_secs(10);

/// A connection under way.
struct Http2 {
    worker: Rc<Worker>,
    connection: Connection<Opening, Bytes>,
    pings: Option<PingPong>,
    peer: Peer,
    registration: Registration,
    live: Rc<Live>,
    timer: Timer,
    /// When it is too old for more requests.
    aged: Instant,
    /// Whether the instance leaves, so that it ages faster.
    asked_away: bool,
    requests: u32,
    /// When the client was told that no more streams are taken.
    leaving: Option<Instant>,
    /// Whether it is told to go away for what it does.
    calmed: bool,
    heard: Rc<Heard>,
    /// When a ping went out that nothing was heard after.
    pinged: Option<Instant>,
}

/// The requests of a connection that are on their way, also those whose streams are gone.
struct Live {
    count: Cell<usize>,
    /// When the last one ended.
    since: Cell<Instant>,
    /// Streams that the client gave up before their answers.
    given_up: Cell<u32>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
}

/// One of them. It counts like a connection of its own: it needs as many file descriptors.
struct Alive {
    live: Rc<Live>,
    plane: Arc<Plane>,
    /// Whether the instance had no room for it.
    full: bool,
}

impl Alive {
    fn new(live: &Rc<Live>, plane: &Arc<Plane>) -> Self {
        live.count.set(live.count.get() + 1);
        let before = plane.connections.fetch_add(1, Ordering::Relaxed);
        Self { live: Rc::clone(live), full: before >= plane.settings.max_connections, plane: Arc::clone(plane) }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.plane.connections.fetch_sub(1, Ordering::Relaxed);
        self.live.count.set(self.live.count.get() - 1);
        self.live.since.set(Instant::now());
        if let Some(waker) = self.live.waker.take() {
            waker.wake();
        }
    }
}

/// Serves a connection until it ends.
pub(super) async fn run(worker: Rc<Worker>, opening: Opening, peer: Peer, registration: Registration) {
    let heard = opening.heard();
    let limit = worker.plane.settings.header_timeout;
    let mut connection = tokio::select! {
        begun = settings_for_clients(&worker).handshake(opening) => match begun {
            Ok(connection) => connection,
            Err(error) => return refusals::note(&worker, peer.ip, &error),
        },
        () = sleep(limit) => return,
        () = last_call(&registration) => return,
    };
    let now = Instant::now();
    let mut http2 = Http2 {
        pings: connection.ping_pong(),
        timer: Timer::new(limit),
        connection,
        peer,
        registration,
        live: Rc::new(Live {
            count: Cell::new(0),
            since: Cell::new(now),
            given_up: Cell::new(0),
            waker: RefCell::default(),
        }),
        aged: worker.age_from(now, worker.plane.settings.http2_limits.max_age),
        asked_away: false,
        requests: 0,
        leaving: None,
        calmed: false,
        heard,
        pinged: None,
        worker: Rc::clone(&worker),
    };
    poll_fn(|cx| http2.poll(cx)).await;
}

/// Ready when who has not begun to speak has to, because the worker drains.
async fn last_call(registration: &Registration) {
    poll_fn(|cx| registration.poll_drain(cx)).await;
    sleep(LAST_CALL).await;
}

fn settings_for_clients(worker: &Worker) -> h2::server::Builder {
    let settings = &worker.plane.settings;
    let limits = settings.http2_limits;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(settings.head_limits.bytes as u32)
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(FRAME as u32)
        .max_send_buffer_size(SEND_BUFFER)
        // CVE-2023-44487 and CVE-2025-8671.
        .max_pending_accept_reset_streams(limits.early_resets)
        .max_local_error_reset_streams(Some(limits.faults));
    if settings.passes_upgrade("websocket") {
        builder.enable_connect_protocol();
    }
    builder
}

impl Http2 {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        pipe::note(&mut self.live.waker.borrow_mut(), cx);
        if self.leaving.is_none() && self.registration.poll_drain(cx).is_ready() {
            self.leave();
        }
        if self.worker.streams.is_leaving() && !self.asked_away {
            self.asked_away = true;
            // Clients that ask for nothing meanwhile are not sent away all at once.
            let delay = self.worker.part_of(self.worker.plane.settings.drain_delay);
            self.aged = self.aged.min(Instant::now() + delay);
        }
        while let Poll::Ready(accepted) = self.poll_accept(cx) {
            match accepted {
                Some((request, respond)) => self.open(request, respond),
                None => return Poll::Ready(()),
            }
        }
        self.poll_deadlines(cx)
    }

    /// The next stream; none when the connection is over. While as many requests run as may be open at once, some of them
    /// given up by the client, no more are taken up; the library holds what comes meanwhile to its own bounds.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Request<RecvStream>, SendResponse<Bytes>)>> {
        let accepted = if self.live.count.get() >= self.limits().streams as usize {
            self.connection.poll_closed(cx).map(|closed| closed.err().map(Err))
        } else {
            self.connection.poll_accept(cx)
        };
        // Errors were told to the client by the library.
        let noted = |error| refusals::note(&self.worker, self.peer.ip, &error);
        accepted.map(|accepted| accepted.and_then(|accepted| accepted.map_err(noted).ok()))
    }

    fn open(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.requests += 1;
        if self.requests == self.limits().max_requests || self.worker.streams.is_leaving() {
            self.leave();
        }
        self.worker.plane.metrics.http2_streams.increment(1);
        let registration = self.worker.streams.register();
        let alive = Alive::new(&self.live, &self.worker.plane);
        let serving = serve(Rc::clone(&self.worker), request, respond, self.peer, registration, alive);
        tokio::task::spawn_local(serving);
    }

    /// Lets no more streams begin, in two steps, so that those on their way are served (RFC 9113 6.8).
    fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now());
            self.connection.graceful_shutdown();
        }
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.calm(cx);
        loop {
            let (now, idle) = (Instant::now(), self.live.count.get() == 0);
            let end = self.end(now, idle);
            if now >= end {
                if self.leaving.is_some() {
                    return Poll::Ready(());
                }
                self.leave();
                // The library has to be polled for its word to go out.
                cx.waker().wake_by_ref();
                continue;
            }
            let next = if idle { end } else { end.min(self.poll_ping(cx, now)) };
            if now >= next {
                return Poll::Ready(());
            }
            if self.timer.poll(cx, next).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// When the client is asked to leave, or, once it was, when the connection is cut.
    fn end(&self, now: Instant, idle: bool) -> Instant {
        let since = self.live.since.get();
        match self.leaving {
            Some(told) if idle => told.max(since) + self.patience(),
            // What runs has limits of its own.
            Some(_) => now + NEVER,
            None if idle => self.aged.min(since + self.patience()),
            None => self.aged,
        }
    }

    /// How long nothing may run: a client is expected to ask at once, and then has the time of any other connection. Ends
    /// of answers that are still in the library wait as long as any answer does.
    fn patience(&self) -> Duration {
        let settings = &self.worker.plane.settings;
        match self.leaving {
            _ if self.connection.has_streams() => settings.idle_timeout,
            Some(_) => FAREWELL,
            None if self.requests == 0 => settings.header_timeout,
            None => settings.keep_alive_timeout,
        }
    }

    fn limits(&self) -> Http2Limits {
        self.worker.plane.settings.http2_limits
    }

    /// Sends a client away that does little but open streams and give them up.
    fn calm(&mut self, cx: &mut Context<'_>) {
        let given_up = self.live.given_up.get();
        if !self.calmed && given_up >= self.limits().resets && given_up >= self.requests / 2 {
            self.calmed = true;
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            refusals::note_reason(&self.worker, self.peer.ip, Reason::ENHANCE_YOUR_CALM);
            cx.waker().wake_by_ref();
        }
    }

    /// Pings a client with open streams that is silent, so that load balancers do not cut the connection and one that is
    /// gone is found out. Says when there is something to do again, or when its silence is the end: as late as for any
    /// stream that stands still, because who reads slowly sees the ping late.
    fn poll_ping(&mut self, cx: &mut Context<'_>, now: Instant) -> Instant {
        let (interval, limit) = (self.worker.plane.settings.ping_interval, self.worker.plane.settings.idle_timeout);
        let heard = self.heard.last();
        let Some(pings) = self.pings.as_mut().filter(|_| !interval.is_zero()) else { return now + NEVER };
        // Whatever is heard is an answer; this makes room for the next ping.
        let _ = pings.poll_pong(cx);
        if let Some(pinged) = self.pinged.filter(|pinged| heard < *pinged) {
            return pinged + limit;
        }
        self.pinged = None;
        if now < heard + interval {
            return heard + interval;
        }
        if pings.send_ping(Ping::opaque()).is_err() {
            return now + PING_AGAIN;
        }
        self.pinged = Some(now);
        cx.waker().wake_by_ref();
        now + limit
    }
}

/// Serves the request of one stream.
async fn serve(
    worker: Rc<Worker>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    peer: Peer,
    registration: Registration,
    alive: Alive,
) {
    let (parts, body) = request.into_parts();
    let key = u128::from(worker.random()) << 64 | u128::from(worker.random());
    let asked = head::request(&parts, body.is_end_stream(), key.to_be_bytes());
    let (near, far) = pipe::pipe();
    let (content, to_head) = asked.as_ref().map_or((Content::None, false), |asked| (asked.content, asked.to_head));
    let stream = Stream::new(far, body, content, respond, to_head, worker.plane.settings.answer_limits);
    let client = Client::new(ClientIo::Stream(near), peer, registration, &worker);
    let way = AssertUnwindSafe(go_the_way(&worker, client, asked.map(|asked| asked.head), alive.full)).catch_unwind();
    // Boxed, or there would be room for it twice: where it is made and where it is polled.
    let ended = join(Box::pin(way), stream, &worker).await;
    if ended == Some(Ended::GivenUp { early: true }) {
        alive.live.given_up.set(alive.live.given_up.get() + 1);
    }
}

/// Runs a request's way and its stream to their ends; says how the stream ended, if in time.
async fn join<T>(way: impl Future<Output = std::thread::Result<T>>, stream: Stream, worker: &Worker) -> Option<Ended> {
    let mut way = pin!(way);
    let (mut stream, mut ended) = (Some(stream), None);
    let went = poll_fn(|cx| {
        let went = way.as_mut().poll(cx);
        if let Some(Poll::Ready(how)) = stream.as_mut().map(|stream| stream.poll(cx)) {
            ended = Some(how);
            // The request hears of it by its end of the pipe, and ends as it does when a connection breaks.
            stream = None;
        }
        went
    });
    if went.await.is_err() {
        worker.plane.metrics.panics.increment(1);
    }
    match stream {
        None => ended,
        // The end of the answer waits for the client's window. Who does not take it is told that the stream is over.
        Some(mut stream) => timeout(worker.plane.settings.idle_timeout, poll_fn(|cx| stream.poll(cx))).await.ok(),
    }
}

/// Takes a request the way that all go.
async fn go_the_way(worker: &Rc<Worker>, mut client: Client, head: Result<Vec<u8>, HeadError>, full: bool) {
    let limits = worker.plane.settings.head_limits;
    let mut positions = worker.buffers.take_positions();
    let head = match &head {
        Ok(head) if head.len() > limits.bytes => Err(HeadError::TooLong),
        Ok(head) => Head::parse(head, &mut positions, limits),
        Err(error) => Err(*error),
    };
    let next = match head {
        _ if full => refuse_full(worker, &mut client).await,
        Ok(head) => serve_request(worker, &mut client, &head).await,
        Err(error) => refuse_head(worker, &mut client, error).await,
    };
    worker.buffers.give_positions(positions);
    worker.buffers.give(client.outbox.give_up());
    match next {
        Next::Another | Next::Close => client.close(worker).await,
        Next::Abort => {}
        Next::Tunnel(upgraded) => {
            Box::new(Tunnel::new(client, *upgraded, &worker.plane.settings)).run(Rc::clone(worker)).await;
        }
    }
}
