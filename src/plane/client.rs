//! The client's side of a connection: reading heads, and ending it so that the last answer arrives.

mod socket;

pub(super) use socket::ClientIo;

use super::http2::pipe::Near;
use super::outbox::Outbox;
use super::streams::Registration;
use super::timer::Timer;
use super::worker::{HEAD_READ, Worker};
use crate::model::reject::{Class, Reject};
use crate::net::Peer;
use crate::net::io::{Io, ReadInto as _};
use crate::wire::body::{Decoder, Piece};
use crate::wire::request::{Head, HeadEnd, HeadError};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// A client's connection.
pub(super) struct Client {
    pub(super) io: ClientIo,
    pub(super) peer: Peer,
    /// Bytes that came after the head: body, or further requests.
    pub(super) unread: Vec<u8>,
    /// The answer on its way out.
    pub(super) outbox: Outbox,
    pub(super) timer: Timer,
    pub(super) registration: Registration,
    /// When the connection is too old to be kept after an answer, if it ever is.
    aged: Option<Instant>,
}

/// Why no head came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The client closed between requests, stayed idle, or the worker drains: nothing to answer.
    Quiet,
    /// The connection broke.
    Broken,
    /// A part of a head came, and the rest not in time.
    Slow,
    /// It is not a head.
    Bad(HeadError),
}

/// How long a fresh connection may take to ask when the worker drains.
pub(super) const LAST_CALL: Duration = Duration::from_secs(1);
/// How much of an unread body is thrown away so that the client can read its answer.
const MAX_DISCARD: usize = 256 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(2);

impl Client {
    /// The client of a connection of HTTP/1.1.
    pub(super) fn new(io: Io, peer: Peer, registration: Registration, worker: &Worker) -> Self {
        let settings = &worker.plane.settings;
        let (timer, limit) = (Timer::new(settings.header_timeout), settings.max_connection_age);
        let aged = (!limit.is_zero()).then(|| worker.age_from(Instant::now(), limit));
        let io = ClientIo::Socket(io);
        Self { io, peer, unread: Vec::new(), outbox: Outbox::default(), timer, registration, aged }
    }

    /// The client of one stream. The timer may have served others before.
    pub(super) fn of_stream(near: Near, peer: Peer, registration: Registration, timer: Timer) -> Self {
        let io = ClientIo::Stream(near);
        Self { io, peer, unread: Vec::new(), outbox: Outbox::default(), timer, registration, aged: None }
    }

    /// Whether another request may follow the answer that begins now.
    pub(super) fn may_stay(&self, worker: &Worker, now: Instant) -> bool {
        !worker.streams.is_leaving() && self.aged.is_none_or(|aged| now < aged)
    }

    /// Reads a head into `head`, which has no buffer before the first byte has come, and leaves what follows it in `unread`.
    /// `first` says that nothing was served yet on this connection, so the client is expected to speak at once.
    pub(super) async fn read_head(&mut self, worker: &Worker, head: &mut Vec<u8>, first: bool) -> Result<(), NoHead> {
        worker.buffers.give(self.outbox.give_up());
        worker.buffers.give(std::mem::replace(head, std::mem::take(&mut self.unread)));
        let (opened, settings) = (Instant::now(), &worker.plane.settings);
        let has_begun = !head.is_empty();
        let limit = if first || has_begun { settings.header_timeout } else { settings.keep_alive_timeout };
        let mut reading = Reading { end: HeadEnd::default(), deadline: opened + limit, has_begun, first, opened };
        poll_fn(|cx| self.poll_head(cx, worker, head, &mut reading)).await
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        head: &mut Vec<u8>,
        reading: &mut Reading,
    ) -> Poll<Result<(), NoHead>> {
        let limit = worker.plane.settings.head_limits.bytes;
        loop {
            if !head.is_empty() {
                match reading.end.find(head, limit) {
                    Ok(Some(length)) => {
                        self.unread.clear();
                        self.unread.extend_from_slice(&head[length..]);
                        head.truncate(length);
                        return Poll::Ready(Ok(()));
                    }
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(NoHead::Bad(error))),
                }
            }
            if self.poll_fill(cx, worker, head)?.is_pending() {
                if !head.is_empty() && !reading.has_begun {
                    // The first byte starts the clock for the whole head, however slowly the rest drips in. Most heads come
                    // whole, and need none.
                    reading.has_begun = true;
                    reading.deadline = Instant::now() + worker.plane.settings.header_timeout;
                }
                return self.poll_impatience(cx, head, reading);
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, worker: &Worker, head: &mut Vec<u8>) -> Result<Poll<()>, NoHead> {
        let mut scratch = worker.scratch.borrow_mut();
        match self.io.poll_read_into(cx, &mut scratch[..HEAD_READ]) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(0)) if head.is_empty() => Err(NoHead::Quiet),
            Poll::Ready(Ok(0) | Err(_)) => Err(NoHead::Broken),
            Poll::Ready(Ok(n)) => {
                if head.capacity() == 0 {
                    *head = worker.buffers.take();
                }
                head.extend_from_slice(&scratch[..n]);
                Ok(Poll::Ready(()))
            }
        }
    }

    /// A connection between requests ends when the worker drains or the keep-alive time is over.
    fn poll_impatience(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        reading: &mut Reading,
    ) -> Poll<Result<(), NoHead>> {
        if head.is_empty() && self.registration.poll_drain(cx).is_ready() {
            if !reading.first {
                return Poll::Ready(Err(NoHead::Quiet));
            }
            // Who has connected but not asked yet was promised nothing less than who did a moment earlier.
            reading.deadline = reading.deadline.min(reading.opened + LAST_CALL);
        }
        ready!(self.timer.poll(cx, reading.deadline));
        Poll::Ready(Err(if head.is_empty() { NoHead::Quiet } else { NoHead::Slow }))
    }

    /// Reads the body of a request that is for the gateway itself, whole.
    pub(super) async fn read_body(
        &mut self,
        worker: &Worker,
        head: &Head<'_>,
        limit: usize,
    ) -> Result<Vec<u8>, Reject> {
        let (deadline, mut body) = (Instant::now() + worker.plane.settings.header_timeout, Vec::new());
        let take = |piece: &[u8]| {
            body.extend_from_slice(piece);
            if body.len() > limit {
                return Err(Reject::new(Class::BodyTooLarge, "the body is larger than is read here"));
            }
            Ok(())
        };
        self.read_pieces(worker, head, || deadline, take).await?;
        Ok(body)
    }

    /// Reads the body of a request and gives it away piece by piece; `deadline` says until when the next one has to come.
    pub(super) async fn read_pieces(
        &mut self,
        worker: &Worker,
        head: &Head<'_>,
        deadline: impl Fn() -> Instant,
        mut take: impl FnMut(&[u8]) -> Result<(), Reject>,
    ) -> Result<(), Reject> {
        if head.expects_continue {
            self.outbox.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            let gone = |_| Reject::new(Class::ClientTimeout, "the client does not take the go-ahead");
            self.flush(worker.plane.settings.header_timeout).await.map_err(gone)?;
        }
        let mut decoder = Decoder::new(head.framing);
        while !decoder.is_done() {
            if self.unread.is_empty() {
                let deadline = deadline();
                poll_fn(|cx| self.poll_more(cx, worker, deadline)).await?;
            }
            let bytes = std::mem::take(&mut self.unread);
            let used = take_body(&mut decoder, &bytes, &mut take)?;
            self.unread.extend_from_slice(&bytes[used..]);
        }
        Ok(())
    }

    /// Reads something into `unread`, until the deadline.
    fn poll_more(&mut self, cx: &mut Context<'_>, worker: &Worker, deadline: Instant) -> Poll<Result<(), Reject>> {
        let mut scratch = worker.scratch.borrow_mut();
        match self.io.poll_read_into(cx, &mut scratch[..HEAD_READ]) {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.unread.extend_from_slice(&scratch[..n]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(_) => Poll::Ready(Err(Reject::new(Class::Malformed, "the body broke off"))),
            Poll::Pending => {
                ready!(self.timer.poll(cx, deadline));
                Poll::Ready(Err(Reject::new(Class::ClientTimeout, "the body did not come in time")))
            }
        }
    }

    /// Whether the client has gone away while its request is being served. Bytes of a next request are kept.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        while self.unread.is_empty() {
            match ready!(self.io.poll_read_into(cx, &mut scratch[..HEAD_READ])) {
                Ok(n) if n > 0 => self.unread.extend_from_slice(&scratch[..n]),
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Sends what is in the outbox; gives up after `limit`.
    pub(super) async fn flush(&mut self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        poll_fn(|cx| match self.outbox.poll_flush(cx, &mut self.io) {
            Poll::Pending => self.timer.poll(cx, deadline).map(|()| Err(io::ErrorKind::TimedOut.into())),
            done @ Poll::Ready(_) => done,
        })
        .await
    }

    /// Closes so that the client can still read its answer: our half first, then what it is still sending is thrown away
    /// for a moment. A plain close with unread bytes would reset the connection, and the answer with it.
    pub(super) async fn close(&mut self, worker: &Worker) {
        let deadline = Instant::now() + DISCARD_TIME;
        let mut left = MAX_DISCARD;
        let mut shut = false;
        poll_fn(|cx| {
            if !shut {
                shut = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
            }
            let mut scratch = worker.scratch.borrow_mut();
            loop {
                match self.io.poll_read_into(cx, &mut scratch) {
                    Poll::Ready(Ok(n)) if n > 0 && n < left => left -= n,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx, deadline),
                }
            }
        })
        .await;
    }
}

/// Gives what of `bytes` is body to `take`; says how many bytes that took.
fn take_body(
    decoder: &mut Decoder,
    bytes: &[u8],
    take: &mut impl FnMut(&[u8]) -> Result<(), Reject>,
) -> Result<usize, Reject> {
    let mut used = 0;
    loop {
        match decoder.next(&bytes[used..]).map_err(|error| Reject::new(Class::Malformed, error.0))? {
            Piece::More => return Ok(bytes.len()),
            Piece::End(n) => return Ok(used + n),
            Piece::Data(range) => {
                take(&bytes[used..][range.clone()])?;
                used += range.end;
            }
        }
    }
}

struct Reading {
    end: HeadEnd,
    deadline: Instant,
    /// Whether the deadline is that of a head under way.
    has_begun: bool,
    /// Whether nothing was served yet on the connection.
    first: bool,
    opened: Instant,
}
