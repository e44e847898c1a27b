//! Upgraded connections: bytes both ways, untouched. A tunnel holds a buffer only while a peer does not take its bytes.

use super::Settings;
use super::account::{Account, NEVER};
use super::client::{Client, ClientIo};
use super::cut::Cut;
use super::frames::{Follower, Largest, Refusal, close_frame};
use super::outbox::Outbox;
use super::request::Upgraded;
use super::streams::Registration;
use super::timer::Timer;
use super::trip::Pace;
use super::worker::Worker;
use crate::net::io::{Io, ReadInto as _};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// How long the second side may go on after the first has ended, and how long a peer may take to answer our close.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a client is told when its WebSocket ends (RFC 6455 7.4 and IANA's registry).
#[derive(Clone, Copy)]
struct Farewell {
    /// For the client.
    code: u16,
    /// For the upstream.
    upstream: u16,
    reason: &'static str,
}

/// A ping without payload, as servers send it.
const PING: &[u8] = &[0x89, 0];

/// "Service restart": the client may come again at once.
const RESTART: Farewell = Farewell { code: 1012, upstream: GOING_AWAY, reason: "the gateway restarts" };
/// "Going away": an instance of the app is, and the client may come again to another.
const NODE_LEAVES: Farewell =
    Farewell { code: GOING_AWAY, upstream: GOING_AWAY, reason: "this instance of the app leaves" };
/// "Policy violation": the client needs another session first.
const POLICY_VIOLATION: u16 = 1008;
/// Status code for "going away" (RFC 6455 7.4.1).
const GOING_AWAY: u16 = 1001;

/// A tunnel between a client and an upstream.
pub(super) struct Tunnel {
    client: Side<ClientIo>,
    upstream: Side<Io>,
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
    /// When it is told that the gateway leaves, once the gateway does.
    leaves: Option<Instant>,
    farewell: Farewell,
    account: Account,
    registration: Registration,
}

/// One end: its socket, what is on its way into it, and the frames that come out of it.
struct Side<T> {
    io: T,
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

impl<T> Side<T> {
    fn new(io: T, largest: Largest) -> Self {
        let follower = Follower::new(largest);
        Self { io, outbox: Outbox::default(), follower, told: false, ended: false, shut: false }
    }

    /// Passes on what came with a head.
    fn pass_first<U>(&mut self, to: &mut Side<U>, first: &[u8]) {
        let passed = self.follower.follow(first, false);
        to.outbox.buffer().extend_from_slice(&first[..passed]);
    }

    /// Whether a close frame may end its stream now.
    fn may_be_told(&self) -> bool {
        !self.told && !self.ended && self.follower.may_insert()
    }

    /// Whether no close frame will end its stream any more.
    fn is_settled(&self) -> bool {
        self.told || self.ended || self.follower.is_over()
    }
}

impl Tunnel {
    /// A tunnel between a client that asked for it and the upstream that agreed.
    pub(super) fn new(client: Client, upgraded: Upgraded, settings: &Settings) -> Self {
        let Upgraded { upstream, first, websocket, pace, account } = upgraded;
        let now = Instant::now();
        let limits = Largest { frame: settings.websocket_max_frame, message: settings.websocket_max_message };
        let largest = if websocket { limits } else { Largest::default() };
        let mut client_side = Side::new(client.io, largest);
        let mut upstream_side = Side::new(upstream, largest);
        upstream_side.pass_first(&mut client_side, &first);
        client_side.pass_first(&mut upstream_side, &client.unread);
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
            leaves: None,
            farewell: RESTART,
            account,
            registration: client.registration,
        }
    }

    /// Relays until both sides have ended. Boxed, because a future keeps room for what it is given and for what it makes of it.
    pub(super) async fn run(mut self: Box<Self>, worker: Rc<Worker>) {
        let _open = worker.open_tunnel();
        let cut = poll_fn(|cx| self.poll(cx, &worker)).await;
        if let Some(cut) = cut {
            self.account.cut(cut);
        }
        self.account.over(());
    }

    fn poll(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<Option<Cut>> {
        if self.drain == Drain::No && self.registration.poll_drain(cx).is_ready() {
            self.make_way(worker);
        }
        if let Poll::Ready(why) = self.registration.poll_ended(cx) {
            self.part(Cut::Revoked(why), shut_out(why));
        }
        self.refuse_frames();
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
            self.part(Cut::SessionEnd, shut_out("the session has ended"));
            cx.waker().wake_by_ref();
        }
        let leave_at = self.leave_at();
        if leave_at.is_some_and(|at| now >= at) {
            self.part(Cut::ClusterDrain, NODE_LEAVES);
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
            next = [leave_at, self.leaves].into_iter().flatten().fold(next.min(self.session_end), Instant::min);
        }
        if let Some(due) = self.ping(cx, now, self.pace.ping_interval) {
            next = next.min(due);
        }
        if self.timer.poll(cx, next).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Ends the tunnel because the gateway leaves: not all of them in one moment, or their clients would come back in one.
    fn make_way(&mut self, worker: &Worker) {
        let now = Instant::now();
        if now >= *self.leaves.get_or_insert_with(|| now + worker.part_of(worker.plane.settings.drain_spread)) {
            self.drain = if self.websocket { Drain::Wanted } else { Drain::Told };
            self.farewell = RESTART;
        }
    }

    /// When the WebSocket is to leave the node it is on. Where nothing can be said, nothing is gained by a cut.
    fn leave_at(&self) -> Option<Instant> {
        self.registration.leave_at().filter(|_| self.websocket && self.drain == Drain::No)
    }

    /// Ends the tunnel. What is no WebSocket, where nothing can be said, is cut.
    fn part(&mut self, cut: Cut, farewell: Farewell) {
        if self.drain != Drain::No {
            return;
        }
        self.account.cut(cut);
        let now = Instant::now();
        (self.drain, self.deadline) = if self.websocket { (Drain::Wanted, now + FAREWELL) } else { (Drain::Told, now) };
        self.farewell = farewell;
    }

    /// Ends the tunnel because of a frame that does not go on.
    fn refuse_frames(&mut self) {
        let (client, upstream) = (self.client.follower.refusal(), self.upstream.follower.refusal());
        let Some(why) = client.or(upstream).filter(|_| self.drain == Drain::No) else { return };
        self.account.cut(if client.is_some() { Cut::ClientFrame(why) } else { Cut::UpstreamFrame(why) });
        (self.drain, self.deadline) = (Drain::Wanted, Instant::now() + FAREWELL);
        let code = |refused: Option<_>| refused.map_or(GOING_AWAY, Refusal::code);
        self.farewell = Farewell { code: code(client), upstream: code(upstream), reason: why.words() };
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
        let Farewell { code, upstream, reason } = self.farewell;
        let mask = Some(self.account.mask());
        tell(&mut self.upstream, &mut self.client, &close_frame(code, reason, None));
        tell(&mut self.client, &mut self.upstream, &close_frame(upstream, reason, mask));
        if self.upstream.is_settled() && self.client.is_settled() {
            self.drain = Drain::Told;
            self.deadline = Instant::now() + FAREWELL;
        }
    }
}

/// To a client that has no access any more.
fn shut_out(reason: &'static str) -> Farewell {
    Farewell { code: POLICY_VIOLATION, upstream: GOING_AWAY, reason }
}

/// Closes the stream that comes from `from` towards `to`, if it is between two frames now.
fn tell<A, B>(from: &mut Side<A>, to: &mut Side<B>, close: &[u8]) {
    if from.may_be_told() {
        to.outbox.buffer().extend_from_slice(close);
        from.told = true;
        from.follower = std::mem::take(&mut from.follower).told();
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
fn relay<A, B>(
    cx: &mut Context<'_>,
    from: &mut Side<A>,
    to: &mut Side<B>,
    scratch: &mut [u8],
    to_boundary: bool,
    count: &mut u64,
) -> Poll<Result<(), Broken>>
where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
{
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
        let bytes = &scratch[..n];
        if from.told {
            from.follower.feed(bytes);
            from.ended |= from.follower.is_over();
            continue;
        }
        if from.follower.refusal().is_some() {
            continue;
        }
        *count += n as u64;
        let (header, held) = from.follower.held();
        let passed = from.follower.follow(bytes, to_boundary);
        if passed > 0 {
            let parts = [&header[..held], &bytes[..passed], b""];
            to.outbox.send(cx, &mut to.io, parts).map_err(|_| Broken::Target)?;
        }
        if from.follower.refusal().is_some() {
            // Both sides are told before anything more is read.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if to_boundary && from.may_be_told() {
            // What came after the boundary would follow our close: it is dropped.
            return Poll::Pending;
        }
    }
}
