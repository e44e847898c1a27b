//! What requests go out on: a connection of their own, or a stream of an HTTP/2 connection (RFC 9113) that many requests to
//! one node share. A stream is read and written as if it were a connection of HTTP/1.1, so that the way of a request is the
//! same for both.

mod head;
mod listening;
mod stream;

use super::timer::Timer;
use super::worker::Worker;
use crate::live::place::Place as NodePlace;
use crate::net::io::{Io, one_of_two};
use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use listening::{Heard, Listening};
use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use stream::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};

pub(super) use stream::Trouble;

/// The upstream's end of a request.
pub(super) enum UpstreamIo {
    /// A connection of HTTP/1.1.
    Socket(Io),
    /// A stream of HTTP/2. Boxed, because most upstreams are reached by the other one.
    Stream(Box<Stream>),
}

one_of_two!(UpstreamIo, Socket, Stream);

/// Requests on one connection at once, if the upstream takes as many: what most servers take.
const STREAMS: usize = 100;
/// What an upstream may send on one stream before the client has taken it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for a connection: so much that no client who does not read keeps the others from theirs.
const CONNECTION_WINDOW: u32 = STREAMS as u32 * STREAM_WINDOW;
/// What of a request's body waits in the library for the upstream's window, for each stream.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a connection with open streams may be silent before it is asked whether it still lives, and how long it may
/// take to answer anything.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a node.
pub(super) struct Multiplexed {
    sender: SendRequest<Bytes>,
    shared: Rc<Shared>,
}

/// What a connection's task and its streams know of each other.
struct Shared {
    streams: Cell<usize>,
    /// When the last stream ended.
    since: Cell<Instant>,
    /// Whether no more streams may begin.
    over: Cell<bool>,
    /// The connection's task, while no stream is open.
    waker: RefCell<Option<Waker>>,
}

/// A place among the streams of a connection, until it is dropped.
struct Place(Rc<Shared>);

impl Place {
    fn take(shared: &Rc<Shared>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
        Self(Rc::clone(shared))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.since.set(Instant::now());
    }
}

impl Multiplexed {
    /// Begins to speak HTTP/2 on a connection, within `limit`. It has a place among those to its node.
    ///
    /// # Errors
    /// When the connection breaks before the gateway has said the first word.
    pub(super) async fn open(worker: &Worker, io: Io, to_node: NodePlace, limit: Duration) -> io::Result<Self> {
        let opening = Listening::new(io);
        let heard = opening.heard();
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .max_header_list_size(worker.plane.settings.answer_limits.bytes as u32)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER);
        let begun = timeout(limit, builder.handshake(opening)).await;
        let (sender, mut connection) = begun.map_err(|_| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
        let shared = Rc::new(Shared {
            streams: Cell::new(0),
            since: Cell::new(Instant::now()),
            over: Cell::new(false),
            waker: RefCell::default(),
        });
        let pings = connection.ping_pong();
        let timer = Timer::new(PING_AFTER);
        let driver =
            Driver { connection, pings, pinged: None, heard, timer, shared: Rc::clone(&shared), _place: to_node };
        tokio::task::spawn_local(driver.run());
        Ok(Self { sender, shared })
    }

    /// A stream for one request; none when the connection takes no more of them.
    pub(super) fn stream(&self, scheme: &'static str) -> Option<UpstreamIo> {
        let room = STREAMS.min(self.sender.current_max_send_streams());
        if self.shared.over.get() || self.shared.streams.get() >= room {
            return None;
        }
        // An error says that the upstream is going away, or is gone.
        let sender = self.sender.clone().ready().now_or_never().and_then(Result::ok);
        if sender.is_none() {
            self.shared.over.set(true);
        }
        Some(UpstreamIo::Stream(Box::new(Stream::new(sender?, scheme, Place::take(&self.shared)))))
    }

    /// Whether the connection is of no more use, or nothing was asked on it for `limit`.
    pub(super) fn is_spent(&self, limit: Duration) -> bool {
        let idle = self.shared.streams.get() == 0 && self.shared.since.get().elapsed() >= limit;
        idle || self.shared.over.get()
    }
}

/// The task of a connection. It ends when the pool and all streams have let go of it.
struct Driver {
    connection: Connection<Listening, Bytes>,
    pings: Option<PingPong>,
    /// When a ping went out that nothing was heard after.
    pinged: Option<Instant>,
    heard: Rc<Heard>,
    timer: Timer,
    shared: Rc<Shared>,
    /// Given back when the connection ends.
    _place: NodePlace,
}

impl Driver {
    async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
        self.shared.over.set(true);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What went wrong is told to each stream.
        if Pin::new(&mut self.connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let now = Instant::now();
            let Some(due) = self.poll_ping(cx, now) else {
                // Nobody waits for anything: the next stream wakes this task.
                *self.shared.waker.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if now >= due {
                return Poll::Ready(());
            }
            if self.timer.poll(cx, due).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Pings an upstream that is silent while streams are open, so that one which has vanished is found out. Says when
    /// there is something to do again, or when its silence is the end.
    fn poll_ping(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Instant> {
        let pings = self.pings.as_mut().filter(|_| self.shared.streams.get() > 0)?;
        let heard = self.heard.last();
        // Whatever is heard is an answer; this makes room for the next ping.
        let _ = pings.poll_pong(cx);
        if let Some(pinged) = self.pinged.filter(|pinged| heard < *pinged) {
            return Some(pinged + PING_PATIENCE);
        }
        self.pinged = None;
        if now < heard + PING_AFTER {
            return Some(heard + PING_AFTER);
        }
        if pings.send_ping(Ping::opaque()).is_ok() {
            self.pinged = Some(now);
        }
        cx.waker().wake_by_ref();
        Some(now + PING_PATIENCE)
    }
}
