//! The socket of an HTTP/2 connection, which remembers when the peer was last heard of.

use crate::net::io::Io;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A connection that is listened to.
pub(super) struct Listening {
    io: Io,
    heard: Rc<Heard>,
}

/// When the peer was last heard of.
pub(super) struct Heard(Cell<Instant>);

impl Heard {
    pub(super) fn last(&self) -> Instant {
        self.0.get()
    }
}

impl Listening {
    pub(super) fn new(io: Io) -> Self {
        Self { io, heard: Rc::new(Heard(Cell::new(Instant::now()))) }
    }

    /// Tells when the peer was last heard of.
    pub(super) fn heard(&self) -> Rc<Heard> {
        Rc::clone(&self.heard)
    }
}

impl AsyncRead for Listening {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            self.heard.0.set(Instant::now());
        }
        polled
    }
}

impl AsyncWrite for Listening {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
