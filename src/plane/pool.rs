//! Upstream connections of one worker that may take another request, by node, and by who has proved himself with a
//! certificate. A node belongs to one organisation, so no connection ever serves two; any other credential is set per
//! request and never kept here.

use super::multiplexed::{Multiplexed, UpstreamIo};
use crate::live::place::Place;
use crate::model::upstream::Node;
use crate::net::io::{Io, ReadInto as _};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Where a connection leads, and as whom.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) node: &'a Node,
    /// The number of the principal whose certificate was shown; 0 where it was nobody's but the gateway's.
    pub(super) identity: u64,
}

impl To<'_> {
    fn key(self) -> Key {
        (self.node.live.uid(), self.identity)
    }
}

type Key = (u64, u64);

struct Idle {
    io: Io,
    /// Among all connections to the node.
    place: Option<Place>,
    since: Instant,
}

/// The connections to one node.
#[derive(Default)]
struct Kept {
    /// Of HTTP/1.1, and without a request.
    idle: Vec<Idle>,
    /// Of HTTP/2.
    shared: Vec<Multiplexed>,
    /// When it last asked for HTTP/1.1 on a connection of HTTP/2.
    http1_since: Option<Instant>,
}

impl Kept {
    fn len(&self) -> usize {
        self.idle.len() + self.shared.len()
    }
}

/// The pool of one worker.
pub(super) struct Pool {
    nodes: RefCell<HashMap<Key, Kept, foldhash::fast::RandomState>>,
    /// Connections of all nodes together.
    count: Cell<usize>,
    max_idle: usize,
    idle_timeout: Duration,
}

/// Connections that a worker keeps to all nodes together: with thousands of nodes they would take the file descriptors
/// that clients need.
const MAX_KEPT: usize = 1024;
/// How long a node that asked for HTTP/1.1 is not offered HTTP/2.
const HTTP1_FOR: Duration = Duration::from_secs(600);

impl Pool {
    /// A pool that keeps at most `max_idle` connections to a node, each for at most `idle_timeout`.
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self { nodes: RefCell::default(), count: Cell::new(0), max_idle, idle_timeout }
    }

    /// A connection to a node, with its place among these: a stream of one that is shared, or the one that was used last
    /// and is still good at a time that has just been: warm caches first, and the others may time out.
    pub(super) async fn take(&self, to: To<'_>, now: Instant) -> Option<(UpstreamIo, Option<Place>)> {
        loop {
            let idle = {
                let mut nodes = self.nodes.borrow_mut();
                let kept = nodes.get_mut(&to.key())?;
                if let Some(stream) = kept.shared.iter().find_map(|shared| shared.stream(to.node.url.scheme().as_str()))
                {
                    return Some((stream, None));
                }
                kept.idle.pop()?
            };
            self.count.set(self.count.get() - 1);
            if now.saturating_duration_since(idle.since) < self.idle_timeout
                && let Some(io) = still_quiet(idle.io).await
            {
                return Some((UpstreamIo::Socket(io), idle.place));
            }
        }
    }

    /// Takes back a connection on which an exchange ended cleanly just now, with its place. A stream has nothing left to
    /// take.
    pub(super) fn put(&self, to: To<'_>, io: UpstreamIo, place: Option<Place>, since: Instant) {
        if let UpstreamIo::Socket(io) = io {
            let idle = Idle { io, place, since };
            self.keep(to, |kept| kept.idle.len() < self.max_idle, |kept| kept.idle.push(idle));
        }
    }

    /// Lets others use a connection of HTTP/2 too.
    pub(super) fn share(&self, to: To<'_>, connection: Multiplexed) {
        self.keep(to, |kept| kept.shared.len() < self.max_idle, |kept| kept.shared.push(connection));
    }

    fn keep(&self, to: To<'_>, has_room: impl FnOnce(&Kept) -> bool, keep: impl FnOnce(&mut Kept)) {
        if self.count.get() >= MAX_KEPT {
            return;
        }
        let mut nodes = self.nodes.borrow_mut();
        let kept = nodes.entry(to.key()).or_default();
        if has_room(kept) {
            self.count.set(self.count.get() + 1);
            keep(kept);
        }
    }

    /// Notes that a node wants HTTP/1.1.
    pub(super) fn wants_http1(&self, to: To<'_>) {
        let mut nodes = self.nodes.borrow_mut();
        if nodes.len() < MAX_KEPT {
            let kept = nodes.entry(to.key()).or_default();
            self.count.set(self.count.get() - kept.shared.len());
            // Their streams go on.
            kept.shared.clear();
            kept.http1_since = Some(Instant::now());
        }
    }

    /// Whether a node may be offered HTTP/2.
    pub(super) fn may_offer_http2(&self, to: To<'_>) -> bool {
        self.nodes.borrow().get(&to.key()).is_none_or(|kept| kept.http1_since.is_none())
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self) {
        let mut nodes = self.nodes.borrow_mut();
        for kept in nodes.values_mut() {
            kept.idle.retain(|idle| idle.since.elapsed() < self.idle_timeout);
            kept.shared.retain(|shared| !shared.is_spent(self.idle_timeout));
            kept.http1_since = kept.http1_since.filter(|since| since.elapsed() < HTTP1_FOR);
        }
        nodes.retain(|_, kept| kept.len() > 0 || kept.http1_since.is_some());
        self.count.set(nodes.values().map(Kept::len).sum());
    }
}

/// The connection, unless the upstream has closed it or has said something unasked.
async fn still_quiet(mut io: Io) -> Option<Io> {
    let mut byte = [0u8; 1];
    let quiet = poll_fn(|cx| Poll::Ready(io.poll_read_into(cx, &mut byte).is_pending())).await;
    quiet.then_some(io)
}
