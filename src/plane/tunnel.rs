//! Upgraded connections: bytes both ways, untouched. A tunnel holds a buffer only while a peer does not take its bytes.

use super::account::{Account, Cut, NEVER};
use super::client::Client;
use super::forward::Pace;
use super::frames::{Follower, close_frame};
use super::outbox::Outbox;
use super::request::Upgraded;
use super::streams::Registration;
use super::timer::Timer;
use super::worker::Worker;
use crate::net::io::Io;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// How long the second side may go on after the first has ended, and how long a peer may take to answer our close.
const FAREWELL: Duration = Duration::from_secs(10);
/// What a client is told when its WebSocket ends (RFC 6455 7.4 and IANA's registry).
#[derive(Clone, Copy)]
struct Farewell {
    code: u16,
    reason: &'static str,
}

/// A ping without payload, as servers send it.
const PING: &[u8] = &[0x89, 0];

/// "Service restart": the client may come again at once.
const RESTART: Farewell = Farewell { code: 1012, reason: "the gateway restarts" };
/// "Policy violation": the client needs another session first.
const POLICY_VIOLATION: u16 = 1008;
/// Status code for "going away" (RFC 6455 7.4.1).
const GOING_AWAY: u16 = 1001;

/// A tunnel between a client and an upstream.
pub(super) struct Tunnel {
    client: Side,
    upstream: Side,
    /// Whether the protocol is WebSocket, in which we may say goodbye.
    websocket: bool,
    pace: Pace,
    timer: Timer,
    /// When the tunnel ends whatever happens.
    deadline: Instant,
    /// When the session it was opened with ends.
    session_end: Instant,
    /// When a peer that takes nothing has had its time, and how many bytes wait for it.
    stalled: Instant,
    waiting: usize,
    /// When bytes last moved, how many had then, and whether a ping has gone out since.
    active: Instant,
    moved: u64,
    pinged: bool,
    drain: Drain,
    farewell: Farewell,
    account: Account,
    registration: Registration,
}

/// One end: its socket, what is on its way into it, and the frames that come out of it.
struct Side {
    io: Io,
    outbox: Outbox,
    follower: Follower,
    /// Its stream was ended by a close frame of ours: what still comes is only its answer.
    told: bool,
    /// Nothing more is read from it.
    ended: bool,
    /// Its writing half has been shut.
    shut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    /// Close frames go in at the next boundaries.
    Wanted,
    /// Both have been told.
    Told,
}

impl Side {
    fn new(io: Io, first: &[u8]) -> Self {
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(first);
        Self { io, outbox, follower: Follower::default(), told: false, ended: false, shut: false }
    }

    /// Whether a close frame may end its stream now.
    fn may_be_told(&self) -> bool {
        !self.told && !self.ended && self.follower.may_insert()
    }
}

impl Tunnel {
    /// A tunnel between a client that asked for it and the upstream that agreed.
    pub(super) fn new(client: Client, upgraded: Upgraded) -> Self {
        let Upgraded { upstream, first, websocket, pace, account } = upgraded;
        let now = Instant::now();
        // What came with a head goes to the other side first.
        let mut client_side = Side::new(client.io, &first);
        let mut upstream_side = Side::new(upstream, &client.unread);
        upstream_side.follower.feed(&first);
        client_side.follower.feed(&client.unread);
        Self {
            client: client_side,
            upstream: upstream_side,
            websocket,
            pace,
            timer: Timer::new(NEVER),
            deadline: now + NEVER,
            session_end: account.session_end(),
            stalled: now + NEVER,
            waiting: 0,
            active: now,
            moved: 0,
            pinged: false,
            drain: Drain::No,
            farewell: RESTART,
            account,
            registration: client.registration,
        }
    }

    /// Relays until both sides have ended.
    pub(super) async fn run(mut self, worker: Rc<Worker>) {
        let _open = worker.open_tunnel();
        let cut = poll_fn(|cx| self.poll(cx, &worker)).await;
        if let Some(cut) = cut {
            self.account.cut(cut);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<Option<Cut>> {
        if self.drain == Drain::No && self.registration.poll_drain(cx).is_ready() {
            self.drain = if self.websocket { Drain::Wanted } else { Drain::Told };
            self.farewell = RESTART;
        }
        if let Poll::Ready(why) = self.registration.poll_ended(cx) {
            self.shut_out(Cut::Revoked(why), why);
        }
        if self.drain == Drain::Wanted {
            self.say_goodbye();
        }
        let mut scratch = worker.scratch.borrow_mut();
        let waiting = self.drain == Drain::Wanted;
        let up = relay(cx, &mut self.client, &mut self.upstream, &mut scratch, waiting, &mut self.account.received);
        if let Poll::Ready(Err(broken)) = up {
            return Poll::Ready(Some(broken.cut(Cut::Client, Cut::UpstreamReset)));
        }
        let down = relay(cx, &mut self.upstream, &mut self.client, &mut scratch, waiting, &mut self.account.sent);
        drop(scratch);
        if let Poll::Ready(Err(broken)) = down {
            return Poll::Ready(Some(broken.cut(Cut::UpstreamReset, Cut::Client)));
        }
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(None);
        }
        if waiting && (self.client.may_be_told() || self.upstream.may_be_told()) {
            cx.waker().wake_by_ref();
        }
        if (up.is_ready() || down.is_ready()) && self.deadline > Instant::now() + FAREWELL {
            self.deadline = Instant::now() + FAREWELL;
        }
        self.poll_deadlines(cx)
    }

    /// Ends what has had its time: the session, a peer that takes nothing, silence, or the farewell.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Option<Cut>> {
        let (now, limit) = (Instant::now(), self.pace.idle_timeout);
        self.note_progress(now, limit);
        if self.drain == Drain::No && now >= self.session_end {
            self.shut_out(Cut::SessionEnd, "the session has ended");
            cx.waker().wake_by_ref();
        }
        if now >= self.stalled {
            let slow = if self.client.outbox.is_empty() { Cut::UpstreamIdle(limit) } else { Cut::ClientIdle(limit) };
            return Poll::Ready(Some(slow));
        }
        if now >= self.active + limit {
            return Poll::Ready(Some(Cut::UpstreamIdle(limit)));
        }
        if now >= self.deadline {
            return Poll::Ready(if self.drain == Drain::No { None } else { Some(Cut::Drain) });
        }
        let mut next = self.deadline.min(self.stalled).min(self.active + limit);
        if self.drain == Drain::No {
            next = next.min(self.session_end);
        }
        if let Some(due) = self.ping(cx, now, self.pace.ping_interval) {
            next = next.min(due);
        }
        if self.timer.poll(cx, next).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Ends the tunnel because its client has no access any more. What is no WebSocket, where nothing can be said, is cut.
    fn shut_out(&mut self, cut: Cut, reason: &'static str) {
        if self.drain != Drain::No {
            return;
        }
        self.account.cut(cut);
        let now = Instant::now();
        (self.drain, self.deadline) = if self.websocket { (Drain::Wanted, now + FAREWELL) } else { (Drain::Told, now) };
        self.farewell = Farewell { code: POLICY_VIOLATION, reason };
    }

    fn note_progress(&mut self, now: Instant, limit: Duration) {
        let moved = self.account.received + self.account.sent;
        if moved != self.moved {
            self.moved = moved;
            self.active = now;
            self.pinged = false;
        }
        let waiting = self.client.outbox.len() + self.upstream.outbox.len();
        if waiting != self.waiting {
            self.waiting = waiting;
            self.stalled = now + if waiting == 0 { NEVER } else { limit };
        }
    }

    /// Pings the client of a WebSocket on which nothing moves (RFC 6455 5.5.2): load balancers cut silent connections, and
    /// a client that is gone does not answer. Its pong goes on to the app, which may get one unasked (5.5.3). Says when the
    /// next ping is due.
    fn ping(&mut self, cx: &mut Context<'_>, now: Instant, interval: Duration) -> Option<Instant> {
        if !self.websocket || interval.is_zero() || self.pinged || !self.upstream.may_be_told() {
            return None;
        }
        let due = self.active + interval;
        if self.drain == Drain::No && now >= due {
            self.pinged = true;
            self.client.outbox.buffer().extend_from_slice(PING);
            cx.waker().wake_by_ref();
            return None;
        }
        Some(due)
    }

    /// Puts close frames in where frames may go in; once both sides have one, waits a while for their answers.
    fn say_goodbye(&mut self) {
        let Farewell { code, reason } = self.farewell;
        let mask = Some(self.account.mask());
        tell(&mut self.upstream, &mut self.client, &close_frame(code, reason, None));
        tell(&mut self.client, &mut self.upstream, &close_frame(GOING_AWAY, reason, mask));
        let settled = |side: &Side| side.told || side.ended || side.follower.is_over();
        if settled(&self.upstream) && settled(&self.client) {
            self.drain = Drain::Told;
            self.deadline = Instant::now() + FAREWELL;
        }
    }
}

/// Closes the stream that comes from `from` towards `to`, if it is between two frames now.
fn tell(from: &mut Side, to: &mut Side, close: &[u8]) {
    if from.may_be_told() {
        to.outbox.buffer().extend_from_slice(close);
        from.told = true;
        from.follower = Follower::default();
    }
}

/// Which end of a direction broke.
enum Broken {
    Source,
    Target,
}

impl Broken {
    fn cut(self, source: Cut, target: Cut) -> Cut {
        match self {
            Self::Source => source,
            Self::Target => target,
        }
    }
}

/// Moves bytes one way as far as they go. Ready when the source has ended and the target has been told.
/// `to_boundary` stops after the frame that is under way.
fn relay(
    cx: &mut Context<'_>,
    from: &mut Side,
    to: &mut Side,
    scratch: &mut [u8],
    to_boundary: bool,
    count: &mut u64,
) -> Poll<Result<(), Broken>> {
    loop {
        ready!(to.outbox.poll_flush(cx, &mut to.io)).map_err(|_| Broken::Target)?;
        if from.ended {
            if !to.shut {
                ready!(Pin::new(&mut to.io).poll_shutdown(cx)).map_err(|_| Broken::Target)?;
                to.shut = true;
            }
            return Poll::Ready(Ok(()));
        }
        if to_boundary && from.may_be_told() {
            return Poll::Pending;
        }
        let n = ready!(from.io.poll_read_into(cx, scratch)).map_err(|_| Broken::Source)?;
        from.ended = n == 0;
        let mut bytes = &scratch[..n];
        if from.told {
            from.follower.feed(bytes);
            from.ended |= from.follower.is_over();
            continue;
        }
        *count += n as u64;
        if to_boundary {
            let frame = from.follower.feed_frame(bytes);
            to.outbox.send(cx, &mut to.io, [&bytes[..frame], b"", b""]).map_err(|_| Broken::Target)?;
            if from.may_be_told() {
                // What came after the boundary would follow our close: it is dropped.
                return Poll::Pending;
            }
            bytes = &bytes[frame..];
        }
        from.follower.feed(bytes);
        to.outbox.send(cx, &mut to.io, [bytes, b"", b""]).map_err(|_| Broken::Target)?;
    }
}
