//! Frames on their way to the client. They are put together in a buffer that the connections of a worker share, and go out in
//! as few writes as possible; a connection keeps it only while its client does not take them.

use crate::net::io::Io;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite as _;

/// Bytes that are put together for one write, but for the last frame.
const FULL: usize = 64 * 1024;
/// Bytes of answers to PING, SETTINGS and the like that may wait. As long as more of them do, nothing is read.
const MAX_OWED: usize = 16 * 1024;
/// A larger buffer is given back to the allocator.
const KEEP: usize = 256 * 1024;

/// The output of one connection.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// How many bytes of answers to what the client may send as often as it likes are in it at most.
    owed: usize,
    /// Whether TLS has not been asked to send what it holds.
    holds: bool,
}

impl Output {
    /// Borrows the shared buffer, if it has none.
    pub(super) fn borrow_from(&mut self, shared: &Cell<Vec<u8>>) {
        if self.bytes.capacity() == 0 {
            self.bytes = shared.take();
        }
    }

    /// Gives the buffer back, if nothing is in it.
    pub(super) fn give_back(&mut self, shared: &Cell<Vec<u8>>) {
        if self.is_empty() && (1..=KEEP).contains(&self.bytes.capacity()) {
            self.bytes.clear();
            shared.set(std::mem::take(&mut self.bytes));
        }
    }

    /// Whether everything has been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Whether nothing more is to be put in but what must not wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() - self.sent >= FULL
    }

    /// Where frames are written to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Writes an answer to something that the client may send as often as it likes.
    pub(super) fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.owed += self.bytes.len() - before;
    }

    /// Whether so many answers wait that no more questions are to be read.
    pub(super) fn owes_too_much(&self) -> bool {
        self.owed > MAX_OWED
    }

    /// Sends what is there; ready when the socket has taken all of it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, io: &mut Io) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            self.holds = true;
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.bytes.clear();
        (self.sent, self.owed) = (0, 0);
        if self.holds {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.holds = false;
        }
        Poll::Ready(Ok(()))
    }
}
