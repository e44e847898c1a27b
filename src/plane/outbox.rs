//! Bytes on their way into a socket: written at once where it takes them, kept only where it does not.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes that a socket has not taken yet.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

/// A larger buffer is given back to the allocator once it is empty: idle connections are many.
pub(super) const KEEP: usize = 4096;
/// Parts of one send, the kept bytes not counted.
const MAX_PARTS: usize = 3;

impl Outbox {
    /// Whether everything has been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// How many bytes have not been taken.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The buffer, for writing more into it; what it holds goes out with the next flush.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Writes what is kept; ready when the socket has taken all of it.
    pub(super) fn poll_flush<T>(&mut self, cx: &mut Context<'_>, io: &mut T) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        while !self.is_empty() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.clear();
        Pin::new(io).poll_flush(cx)
    }

    /// Writes what is kept and then the parts, in one call to the kernel where it takes them all. What it does not take
    /// is kept.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn send<T>(&mut self, cx: &mut Context<'_>, io: &mut T, parts: [&[u8]; MAX_PARTS]) -> io::Result<()>
    where
        T: AsyncWrite + Unpin,
    {
        let mut taken = self.write_once(cx, io, parts)?;
        let kept = (self.bytes.len() - self.sent).min(taken);
        self.sent += kept;
        taken -= kept;
        if self.is_empty() {
            self.clear();
        }
        for part in parts {
            let skip = part.len().min(taken);
            taken -= skip;
            self.bytes.extend_from_slice(&part[skip..]);
        }
        Ok(())
    }

    fn write_once<T>(&self, cx: &mut Context<'_>, io: &mut T, parts: [&[u8]; MAX_PARTS]) -> io::Result<usize>
    where
        T: AsyncWrite + Unpin,
    {
        let slices = [&self.bytes[self.sent..], parts[0], parts[1], parts[2]].map(IoSlice::new);
        match Pin::new(io).poll_write_vectored(cx, &slices) {
            Poll::Ready(taken) => taken,
            Poll::Pending => Ok(0),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.sent = 0;
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}
