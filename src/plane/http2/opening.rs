//! The socket of an HTTP/2 connection, with the bytes that were read before its protocol was known.

use crate::net::io::Io;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What of the client's preface looks like a head of HTTP/1.1 (RFC 9113 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// A connection that turned out to speak HTTP/2.
pub(crate) struct Opening {
    /// What was read already.
    before: Vec<u8>,
    io: Io,
    heard: Rc<Heard>,
}

/// When the peer was last heard of.
pub(crate) struct Heard(Cell<Instant>);

impl Heard {
    pub(in crate::plane) fn last(&self) -> Instant {
        self.0.get()
    }
}

impl Opening {
    pub(crate) fn new(before: Vec<u8>, io: Io) -> Self {
        Self { before, io, heard: Rc::new(Heard(Cell::new(Instant::now()))) }
    }

    /// Tells when the peer was last heard of.
    pub(in crate::plane) fn heard(&self) -> Rc<Heard> {
        Rc::clone(&self.heard)
    }
}

impl AsyncRead for Opening {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
            if polled.is_ready() {
                self.heard.0.set(Instant::now());
            }
            return polled;
        }
        let part = self.before.len().min(buffer.remaining());
        buffer.put_slice(&self.before[..part]);
        self.before.drain(..part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opening {
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
