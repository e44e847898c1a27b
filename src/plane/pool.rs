//! Idle upstream connections of one worker, by node. A node belongs to one organisation, so no connection ever serves two;
//! the credential is set per request and never kept here.

use crate::net::io::{Io, ReadInto as _};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

struct Idle {
    io: Io,
    since: Instant,
}

/// The pool of one worker.
pub(super) struct Pool {
    nodes: RefCell<HashMap<u64, Vec<Idle>, foldhash::fast::RandomState>>,
    /// Connections of all nodes together.
    count: Cell<usize>,
    max_idle: usize,
    idle_timeout: Duration,
}

/// Idle connections of a worker to all nodes together: with thousands of nodes they would take the file descriptors that
/// clients need.
const MAX_IDLE: usize = 1024;

impl Pool {
    /// A pool that keeps at most `max_idle` connections to a node, each for at most `idle_timeout`.
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self { nodes: RefCell::default(), count: Cell::new(0), max_idle, idle_timeout }
    }

    /// The connection to a node that was used last and is still good: warm caches first, and the others may time out.
    pub(super) async fn take(&self, node: u64) -> Option<Io> {
        loop {
            let idle = self.nodes.borrow_mut().get_mut(&node)?.pop()?;
            self.count.set(self.count.get() - 1);
            if idle.since.elapsed() < self.idle_timeout
                && let Some(io) = still_quiet(idle.io).await
            {
                return Some(io);
            }
        }
    }

    /// Takes back a connection on which an exchange ended cleanly.
    pub(super) fn put(&self, node: u64, io: Io) {
        if self.count.get() >= MAX_IDLE {
            return;
        }
        let mut nodes = self.nodes.borrow_mut();
        let idle = nodes.entry(node).or_default();
        if idle.len() < self.max_idle {
            self.count.set(self.count.get() + 1);
            idle.push(Idle { io, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self) {
        let mut nodes = self.nodes.borrow_mut();
        for idle in nodes.values_mut() {
            idle.retain(|idle| idle.since.elapsed() < self.idle_timeout);
        }
        nodes.retain(|_, idle| !idle.is_empty());
        self.count.set(nodes.values().map(Vec::len).sum());
    }
}

/// The connection, unless the upstream has closed it or has said something unasked.
async fn still_quiet(mut io: Io) -> Option<Io> {
    let mut byte = [0u8; 1];
    let quiet = poll_fn(|cx| Poll::Ready(io.poll_read_into(cx, &mut byte).is_pending())).await;
    quiet.then_some(io)
}
