//! Idle upstream connections of one worker, by node. A node belongs to one organisation, so no connection ever serves two;
//! the credential is set per request and never kept here.

use crate::net::io::Io;
use std::cell::RefCell;
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
    max_idle: usize,
    idle_timeout: Duration,
}

impl Pool {
    /// A pool that keeps at most `max_idle` connections to a node, each for at most `idle_timeout`.
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self { nodes: RefCell::default(), max_idle, idle_timeout }
    }

    /// The connection to a node that was used last and is still good: warm caches first, and the others may time out.
    pub(super) async fn take(&self, node: u64) -> Option<Io> {
        loop {
            let idle = self.nodes.borrow_mut().get_mut(&node)?.pop()?;
            if idle.since.elapsed() < self.idle_timeout
                && let Some(io) = still_quiet(idle.io).await
            {
                return Some(io);
            }
        }
    }

    /// Takes back a connection on which an exchange ended cleanly.
    pub(super) fn put(&self, node: u64, io: Io) {
        let mut nodes = self.nodes.borrow_mut();
        let idle = nodes.entry(node).or_default();
        if idle.len() < self.max_idle {
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
    }
}

/// The connection, unless the upstream has closed it or has said something unasked.
async fn still_quiet(mut io: Io) -> Option<Io> {
    let mut byte = [0u8; 1];
    let quiet = poll_fn(|cx| Poll::Ready(io.poll_read_into(cx, &mut byte).is_pending())).await;
    quiet.then_some(io)
}
