//! Upgraded connections: bytes both ways, untouched. A tunnel holds a buffer only while a peer does not take its bytes.

use super::account::{Account, Cut};
use super::client::Client;
use super::frames::{Follower, close_frame};
use super::outbox::Outbox;
use super::request::Upgraded;
use super::streams::Registration;
use super::timer::Timer;
use super::worker::Worker;
use crate::net::io::Io;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// How long the second side may go on after the first has ended, and how long a peer may take to answer our close.
const FAREWELL: Duration = Duration::from_secs(10);
/// Status code for "service restart" (IANA WebSocket close codes).
const SERVICE_RESTART: u16 = 1012;
/// Status code for "going away" (RFC 6455 7.4.1).
const GOING_AWAY: u16 = 1001;

/// A tunnel between a client and an upstream.
pub(super) struct Tunnel {
    client: Side,
    upstream: Side,
    /// Whether the protocol is WebSocket, in which we may say goodbye.
    websocket: bool,
    timer: Timer,
    /// How long both sides may be silent.
    idle: Duration,
    /// When patience ends; moved on by every byte as long as both sides are open.
    deadline: Instant,
    drain: Drain,
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
    pub(super) fn new(worker: &Rc<Worker>, client: Client, upgraded: Upgraded) -> Self {
        let Upgraded { upstream, first, websocket, account } = upgraded;
        // What came with a head goes to the other side first.
        let mut client_side = Side::new(client.io, &first);
        let mut upstream_side = Side::new(upstream, &client.unread);
        upstream_side.follower.feed(&first);
        client_side.follower.feed(&client.unread);
        let idle = worker.plane.settings.idle_timeout;
        Self {
            client: client_side,
            upstream: upstream_side,
            websocket,
            timer: Timer::new(idle),
            idle,
            deadline: Instant::now() + idle,
            drain: Drain::No,
            account,
            registration: worker.streams.register(),
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
        }
        if self.drain == Drain::Wanted {
            self.say_goodbye();
        }
        let mut scratch = worker.scratch.borrow_mut();
        let waiting = self.drain == Drain::Wanted;
        let before = (self.account.received, self.account.sent);
        let up = relay(cx, &mut self.client, &mut self.upstream, &mut scratch, waiting, &mut self.account.received);
        if let Poll::Ready(Err(_)) = up {
            return Poll::Ready(Some(Cut::Client));
        }
        let down = relay(cx, &mut self.upstream, &mut self.client, &mut scratch, waiting, &mut self.account.sent);
        drop(scratch);
        if let Poll::Ready(Err(_)) = down {
            return Poll::Ready(Some(Cut::UpstreamReset));
        }
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(None);
        }
        if waiting && (self.client.may_be_told() || self.upstream.may_be_told()) {
            cx.waker().wake_by_ref();
        }
        let half_open = up.is_ready() || down.is_ready();
        if half_open {
            self.deadline = self.deadline.min(Instant::now() + FAREWELL);
        } else if self.drain != Drain::Told && before != (self.account.received, self.account.sent) {
            self.deadline = Instant::now() + self.idle;
        }
        self.timer.poll(cx, self.deadline).map(|()| match self.drain {
            Drain::No if half_open => None,
            Drain::No => Some(Cut::UpstreamIdle(self.idle)),
            _ => Some(Cut::Drain),
        })
    }

    /// Puts close frames in where frames may go in; once both sides have one, waits a while for their answers.
    fn say_goodbye(&mut self) {
        let mask = Some(self.account.mask());
        tell(&mut self.upstream, &mut self.client, SERVICE_RESTART, None);
        tell(&mut self.client, &mut self.upstream, GOING_AWAY, mask);
        let settled = |side: &Side| side.told || side.ended || side.follower.is_over();
        if settled(&self.upstream) && settled(&self.client) {
            self.drain = Drain::Told;
            self.deadline = Instant::now() + FAREWELL;
        }
    }
}

/// Closes the stream that comes from `from` towards `to`, if it is between two frames now.
fn tell(from: &mut Side, to: &mut Side, code: u16, mask: Option<[u8; 4]>) {
    if from.may_be_told() {
        to.outbox.buffer().extend_from_slice(&close_frame(code, "the gateway restarts", mask));
        from.told = true;
        from.follower = Follower::default();
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
) -> Poll<io::Result<()>> {
    loop {
        ready!(to.outbox.poll_flush(cx, &mut to.io))?;
        if from.ended {
            if !to.shut {
                ready!(Pin::new(&mut to.io).poll_shutdown(cx))?;
                to.shut = true;
            }
            return Poll::Ready(Ok(()));
        }
        if to_boundary && from.may_be_told() {
            return Poll::Pending;
        }
        let n = ready!(from.io.poll_read_into(cx, scratch))?;
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
            to.outbox.send(cx, &mut to.io, [&bytes[..frame], b"", b""])?;
            if from.may_be_told() {
                // What came after the boundary would follow our close: it is dropped.
                return Poll::Pending;
            }
            bytes = &bytes[frame..];
        }
        from.follower.feed(bytes);
        to.outbox.send(cx, &mut to.io, [bytes, b"", b""])?;
    }
}
