//! Bytes on their way into a socket: written at once where it takes them, kept only where it does not.

use super::buffers::{Buffers, KEEP};
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

/// Parts of one send, the kept bytes not counted.
const MAX_PARTS: usize = 3;

impl Outbox {
    /// Takes one of these buffers, if it has none yet.
    pub(super) fn borrow_from(&mut self, buffers: &Buffers) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        }
    }

    /// Its buffer, if nothing is in it that has not been taken.
    pub(super) fn give_up(&mut self) -> Vec<u8> {
        if self.is_empty() {
            self.sent = 0;
            std::mem::take(&mut self.bytes)
        } else {
            Vec::new()
        }
    }

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
        if !self.is_empty() && self.bytes.len() + parts.iter().map(|part| part.len()).sum::<usize>() <= KEEP {
            return self.send_together(cx, io, parts);
        }
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

    /// The same for little: to copy that costs less than to have the kernel collect it.
    fn send_together<T>(&mut self, cx: &mut Context<'_>, io: &mut T, parts: [&[u8]; MAX_PARTS]) -> io::Result<()>
    where
        T: AsyncWrite + Unpin,
    {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        if let Poll::Ready(taken) = Pin::new(io).poll_write(cx, &self.bytes[self.sent..]) {
            self.sent += taken?;
        }
        if self.is_empty() {
            self.clear();
        }
        Ok(())
    }

    fn write_once<T>(&self, cx: &mut Context<'_>, io: &mut T, parts: [&[u8]; MAX_PARTS]) -> io::Result<usize>
    where
        T: AsyncWrite + Unpin,
    {
        let written = if let (true, [one, b"", b""] | [b"", one, b""]) = (self.is_empty(), parts) {
            Pin::new(io).poll_write(cx, one)
        } else {
            let slices = [&self.bytes[self.sent..], parts[0], parts[1], parts[2]].map(IoSlice::new);
            Pin::new(io).poll_write_vectored(cx, &slices)
        };
        match written {
            Poll::Ready(taken) => taken,
            Poll::Pending => Ok(0),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.sent = 0;
        // A larger buffer is given back to the allocator once it is empty: connections are many.
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes so many bytes at once at most, and none at all every third time.
    struct Narrow {
        taken: Vec<u8>,
        at_once: usize,
        calls: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Poll::Pending;
            }
            let n = bytes.len().min(self.at_once);
            self.taken.extend_from_slice(&bytes[..n]);
            Poll::Ready(Ok(n))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn everything_goes_out_once_and_in_order() {
        let mut cx = Context::from_waker(Waker::noop());
        for (at_once, sizes) in [
            (1, [3, 2, 1]),
            (7, [0, 5, 0]),
            (7, [20, 0, 0]),
            (1000, [2000, 1, 2]),
            (5000, [10, 4086, 1]),
            (100_000, [10, 60_000, 2]),
        ] {
            let mut narrow = Narrow { taken: Vec::new(), at_once, calls: 0 };
            let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
            for round in 0..20_u8 {
                let parts = sizes.map(|size| vec![round; size]);
                if round % 2 == 0 {
                    outbox.buffer().extend_from_slice(b"head");
                    expected.extend_from_slice(b"head");
                }
                outbox.send(&mut cx, &mut narrow, [&parts[0], &parts[1], &parts[2]]).unwrap();
                expected.extend(parts.concat());
            }
            while outbox.poll_flush(&mut cx, &mut narrow).is_pending() {}
            assert!(outbox.is_empty() && narrow.taken == expected, "{at_once} at once, {sizes:?}");
        }
    }
}
