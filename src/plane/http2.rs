//! HTTP/2 for clients (RFC 9113). A connection's streams are taken apart here, and each one's request then goes the same way
//! as one of HTTP/1.1: through one parser, one guard and one account, over a pipe in memory instead of a socket.
//!
//! One task reads and writes a connection. What comes is taken frame by frame (`input`, `receive`, `requests`); each request
//! is served by a task that has served others before (`lane`), and what it writes into its pipe is said in HTTP/2
//! (`stream`). All that is ready at once goes out in one write (`output`).

mod input;
mod lane;
mod open;
mod output;
pub(super) mod pipe;
mod receive;
mod refusals;
mod requests;
mod shared;
mod stream;
mod times;

pub(super) use input::LIKE_A_HEAD;
pub(super) use lane::Lanes;
pub(super) use refusals::Complaints;

use super::client::LAST_CALL;
use super::streams::Registration;
use super::timer::Timer;
use super::worker::Worker;
use crate::config::Http2Limits;
use crate::net::Peer;
use crate::net::io::{Io, ReadInto as _};
use crate::wire::http2::frame::{self, kind};
use crate::wire::http2::hpack::{Decoder, Encoder};
use crate::wire::http2::reason::Reason;
use crate::wire::http2::request::Terms;
use crate::wire::http2::settings::{self, USUAL_WINDOW};
use crate::wire::http2::window::{self, Window};
use input::Input;
use open::Open;
use output::Output;
use shared::{Shared, is_due};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use stream::{Pen, Progress};
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

/// Largest frame that is sent, whatever the client takes: streams take turns frame by frame.
const FRAME: u32 = 32 * 1024;
/// The ping whose answer says that the client knows that the connection is to end.
const LEAVING: &[u8] = b"embedgat";
/// The ping that asks whether the client is still there.
const ALIVE: &[u8] = b"alive? \n";
/// A list of fields that is so many times as large as allowed is not read any more.
const FIELDS_BEYOND: usize = 4;
/// How often in one turn a connection reads before the others have theirs.
const READS: usize = 8;
/// How long what a client still sends is thrown away so that it can read why the connection ends, and how much of it.
const LINGER: Duration = Duration::from_secs(2);
const MAX_DISCARD: usize = 1 << 20;

/// A connection under way.
struct Connection {
    shared: Rc<Shared>,
    io: Io,
    peer: Peer,
    registration: Registration,
    input: Input,
    output: Output,
    open: Open,
    /// Streams that have something to send, in the order of their turns; and those that wait for the connection's window.
    turns: VecDeque<usize>,
    stalled: VecDeque<usize>,
    decoder: Decoder,
    encoder: Encoder,
    /// What the client takes.
    client: settings::Client,
    terms: Terms,
    /// What the client still takes, and what it may still send, on all streams together.
    send: Window,
    receive: Window,
    /// The highest stream that the client has opened.
    last: u32,
    /// Streams that were ended here first.
    cut: VecDeque<u32>,
    timer: Timer,
    begun: Instant,
    /// When it is too old for more requests.
    aged: Instant,
    /// Whether the instance leaves, so that it ages faster.
    asked_away: bool,
    requests: u32,
    /// Streams that the client gave up before their answers, streams that it made mistakes in, and frames without meaning
    /// since the last that had one.
    given_up: u32,
    faults: usize,
    noise: u32,
    /// When the client was told that no more streams are taken, and which is the last that is.
    leaving: Option<Instant>,
    told_last: Option<u32>,
    /// Once everything is said: until when the client's end of the connection is waited for, and what may still come.
    farewell: Option<(Instant, usize)>,
    /// When the client was last heard of, and when a ping went out that nothing was heard after.
    heard: Instant,
    pinged: Option<Instant>,
}

/// Why a connection is over.
enum Gone {
    /// The client has closed it, or it broke.
    Closed,
    /// The client does what is not allowed.
    Refused(Reason),
}

/// Serves a connection, of which a part was read already, until it ends.
pub(super) async fn run(worker: Rc<Worker>, connection: (Vec<u8>, Io), peer: Peer, registration: Registration) {
    let mut connection = Connection::new(&worker, connection, peer, registration);
    poll_fn(|cx| connection.poll(cx)).await;
}

impl Connection {
    fn new(worker: &Rc<Worker>, (before, io): (Vec<u8>, Io), peer: Peer, registration: Registration) -> Self {
        let (now, settings) = (Instant::now(), &worker.plane.settings);
        let limits = settings.http2_limits;
        let terms = Terms { bytes: settings.head_limits.bytes, connects: settings.passes_upgrade("websocket") };
        let mut connection = Self {
            shared: Shared::new(worker, now),
            io,
            peer,
            registration,
            input: Input::new(before),
            output: Output::default(),
            open: Open::default(),
            turns: VecDeque::new(),
            stalled: VecDeque::new(),
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            client: settings::Client::default(),
            terms,
            send: Window::new(USUAL_WINDOW),
            receive: Window::new(limits.connection_window),
            last: 0,
            cut: VecDeque::new(),
            timer: Timer::new(settings.header_timeout),
            begun: now,
            aged: worker.age_from(now, limits.max_age),
            asked_away: false,
            requests: 0,
            given_up: 0,
            faults: 0,
            noise: 0,
            leaving: None,
            told_last: None,
            farewell: None,
            heard: now,
            pinged: None,
        };
        connection.introduce(limits);
        connection
    }

    /// Says what the client may do (RFC 9113 3.4).
    fn introduce(&mut self, limits: Http2Limits) {
        let (streams, window, fields) = (limits.streams, limits.stream_window, self.terms.bytes as u32);
        let ours = settings::Server { streams, window, fields, connects: self.terms.connects };
        let out = self.output.buffer();
        frame::write(out, kind::SETTINGS, 0, 0, &ours.payload());
        if limits.connection_window > USUAL_WINDOW {
            frame::more_window(out, 0, limits.connection_window - USUAL_WINDOW);
        }
        if let Err(reason) = self.take_first() {
            self.refuse(reason);
        }
    }

    fn limits(&self) -> Http2Limits {
        self.shared.worker.plane.settings.http2_limits
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let worker = Rc::clone(&self.shared.worker);
        self.shared.follow(cx);
        self.look_at_drain(cx);
        self.output.borrow_from(&worker.output);
        let moved = self.poll_move(cx);
        let ended = match moved {
            Ok(()) => self.poll_deadlines(cx),
            Err(Gone::Closed) => Poll::Ready(()),
            Err(Gone::Refused(reason)) => {
                self.refuse(reason);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        };
        self.output.give_back(&worker.output);
        ended
    }

    /// Leaves when the worker drains, and sooner than usual once clients are asked away.
    fn look_at_drain(&mut self, cx: &mut Context<'_>) {
        let worker = &self.shared.worker;
        if self.leaving.is_none() && self.registration.poll_drain(cx).is_ready() {
            self.leave();
        } else if worker.streams.is_leaving() && !self.asked_away {
            self.asked_away = true;
            // Clients that ask for nothing meanwhile are not sent away all at once.
            let delay = worker.part_of(worker.plane.settings.drain_delay);
            self.aged = self.aged.min(Instant::now() + delay);
        }
    }

    /// Moves what can be moved in both directions.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        for _ in 0..READS {
            if self.farewell.is_some() {
                return self.poll_farewell(cx);
            }
            // Answers that the client does not take are to become no more.
            let may_read = !self.output.owes_too_much();
            let has_read = may_read && self.poll_input(cx)?.is_ready();
            self.say();
            let is_flushed = self.output.poll_flush(cx, &mut self.io).map_err(|_| Gone::Closed)?.is_ready();
            self.end_in_order();
            let has_more = has_read || !may_read || self.has_turns() || self.farewell.is_some();
            if !is_flushed || !has_more {
                if has_read {
                    cx.waker().wake_by_ref();
                }
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Writes the frames of all that is ready.
    fn say(&mut self) {
        let shared = Rc::clone(&self.shared);
        shared.look(|place| {
            self.give_back(place);
            self.queue(place);
        });
        let taken = shared.taken.get();
        if is_due(taken, self.limits().connection_window) {
            shared.taken.set(0);
            // Never more than was taken from it.
            let _ = self.receive.grow(taken as u32);
            frame::more_window(self.output.buffer(), 0, taken as u32);
        }
        while !self.output.is_full()
            && let Some(place) = self.next_turn()
        {
            self.turn(place);
        }
    }

    /// Whose turn it is. Those that waited for the connection's window come one by one, however little of it there is.
    fn next_turn(&mut self) -> Option<usize> {
        let stalled = &mut self.stalled;
        self.turns.pop_front().or_else(|| if self.send.room() > 0 { stalled.pop_front() } else { None })
    }

    fn has_turns(&self) -> bool {
        !self.turns.is_empty() || (self.send.room() > 0 && !self.stalled.is_empty())
    }

    /// Has a stream looked at when its turn comes.
    fn queue(&mut self, place: usize) {
        if let Some(stream) = self.open.at(place).filter(|stream| !stream.is_queued) {
            stream.is_queued = true;
            self.turns.push_back(place);
        }
    }

    fn queue_all(&mut self) {
        for (place, stream) in self.open.iter_mut().filter(|(_, stream)| !stream.is_queued) {
            stream.is_queued = true;
            self.turns.push_back(place);
        }
    }

    /// A stream's turn: it says what it has, at most one frame of a body.
    fn turn(&mut self, place: usize) {
        let Some(stream) = self.open.at(place) else { return };
        let worker = &self.shared.worker;
        stream.is_queued = false;
        let mut pen = Pen {
            out: self.output.buffer(),
            encoder: &mut self.encoder,
            send: &mut self.send,
            frame: self.client.frame.min(FRAME) as usize,
            most: worker.plane.settings.answer_limits.bytes,
        };
        match stream.advance(&mut pen) {
            Progress::Waits | Progress::StreamFull => {}
            Progress::More => self.queue(place),
            Progress::ConnectionFull => {
                stream.is_queued = true;
                self.stalled.push_back(place);
            }
            // The client need not send the rest (RFC 9113 8.1).
            Progress::Complete if stream.has_ended => drop(self.open.remove(place)),
            Progress::Complete => self.reset(place, Reason::NO_ERROR),
            // Never an end that looks like the proper one (RFC 9113 8.1).
            Progress::Broken => self.reset(place, Reason::INTERNAL_ERROR),
        }
    }

    fn reset(&mut self, place: usize, reason: Reason) {
        if let Some(number) = self.open.at(place).map(|stream| stream.number) {
            frame::reset(self.output.buffer(), number, reason);
            self.cut(number);
        }
    }

    /// Lets no more streams begin, in two steps, so that those on their way are served (RFC 9113 6.8).
    fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now());
            let out = self.output.buffer();
            frame::go_away(out, window::MAX, Reason::NO_ERROR);
            frame::write(out, kind::PING, 0, 0, LEAVING);
        }
    }

    /// The second step: what the client has sent until now is served, and no more.
    fn tell_last(&mut self) {
        if self.told_last.is_none() {
            self.told_last = Some(self.last);
            frame::go_away(self.output.buffer(), self.last, Reason::NO_ERROR);
        }
    }

    /// Begins to say farewell when all that the client may expect has been said.
    fn end_in_order(&mut self) {
        if self.told_last.is_some() && self.farewell.is_none() && self.shared.live() == 0 && self.output.is_empty() {
            self.farewell = Some((Instant::now() + LINGER, MAX_DISCARD));
        }
    }

    /// Ends the connection for what the client does.
    fn refuse(&mut self, reason: Reason) {
        refusals::note(&self.shared.worker, self.peer.ip, reason);
        self.open.clear();
        self.turns.clear();
        self.stalled.clear();
        frame::go_away(self.output.buffer(), self.last, reason);
        self.farewell = Some((Instant::now() + LINGER, MAX_DISCARD));
    }

    /// Ends the connection so that the client can read why: our half first, then what it is still sending is thrown away for
    /// a moment. A plain close with unread bytes would reset the connection, and the last frames with it.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        if self.output.poll_flush(cx, &mut self.io).map_err(|_| Gone::Closed)?.is_ready() {
            let _ = Pin::new(&mut self.io).poll_shutdown(cx).map_err(|_| Gone::Closed)?;
        }
        let mut scratch = self.shared.worker.scratch.borrow_mut();
        while let Some((_, left)) = &mut self.farewell {
            match self.io.poll_read_into(cx, &mut scratch) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(n)) if n > 0 && n < *left => *left -= n,
                Poll::Ready(_) => return Err(Gone::Closed),
            }
        }
        Ok(())
    }
}
