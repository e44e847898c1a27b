//! A bounded pipe in memory between a stream of an HTTP/2 connection and the request's way, both on one thread: the one end
//! is read and written like a socket, the other one follows the stream's flow control. Who writes faster than the other
//! reads waits.

use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that wait in one direction at most: four frames of the size that everybody sends.
pub(super) const CAPACITY: usize = 64 * 1024;

/// Room for an answer as most are, its head and the beginning of its body, so that it is made once.
const USUAL: usize = 1024;

/// One direction.
#[derive(Default)]
struct Half {
    bytes: BytesMut,
    end: End,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// What is there is all.
    Closed,
    /// An end is gone; what is there means nothing any more.
    Broken,
}

impl Half {
    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.bytes.len())
    }

    fn end(&mut self, end: End) {
        if self.end == End::Open {
            self.end = end;
        }
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Keeps a task's waker; a task keeps its own, so this seldom clones.
pub(super) fn note(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[derive(Default)]
struct Pipe {
    /// From the client.
    up: Half,
    /// To the client.
    down: Half,
}

/// Both ends of a new pipe.
pub(super) fn pipe() -> (Near, Far) {
    let pipe = Rc::<RefCell<Pipe>>::default();
    (Near(Rc::clone(&pipe)), Far(pipe))
}

/// The end for the request's way, which takes it for a connection with the client. It breaks off when it is dropped before
/// it was shut.
pub(crate) struct Near(Rc<RefCell<Pipe>>);

impl AsyncRead for Near {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let up = &mut self.0.borrow_mut().up;
        if up.end == End::Broken {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if up.bytes.is_empty() {
            if up.end == End::Closed {
                return Poll::Ready(Ok(()));
            }
            note(&mut up.reader, cx);
            return Poll::Pending;
        }
        let part = up.bytes.split_to(up.bytes.len().min(buffer.remaining()));
        buffer.put_slice(&part);
        wake(&mut up.writer);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Near {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let down = &mut self.0.borrow_mut().down;
        if down.end != End::Open {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if down.room() == 0 {
            note(&mut down.writer, cx);
            return Poll::Pending;
        }
        let before = down.bytes.len();
        if before == 0 {
            down.bytes.reserve(slices.iter().map(|slice| slice.len()).sum::<usize>().clamp(USUAL, CAPACITY));
        }
        for slice in slices {
            let part = slice.len().min(down.room());
            down.bytes.extend_from_slice(&slice[..part]);
        }
        wake(&mut down.reader);
        Poll::Ready(Ok(down.bytes.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().down.end(End::Closed);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.down.end(End::Broken);
        pipe.up.end(End::Broken);
    }
}

/// What [`Far::poll_take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Bytes(Bytes),
    /// The other end has been shut.
    Closed,
    /// The other end is gone without having been shut.
    Broken,
}

/// The end for the stream. The other one breaks when it is dropped.
pub(super) struct Far(Rc<RefCell<Pipe>>);

impl Far {
    /// Bytes from the client that nobody has taken yet.
    pub(super) fn held(&self) -> usize {
        self.0.borrow().up.bytes.len()
    }

    /// Ready with true when so many bytes have room, with false when nobody reads any more.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<bool> {
        let up = &mut self.0.borrow_mut().up;
        if up.end != End::Open {
            return Poll::Ready(false);
        }
        // Noted even where there is room: what the other end takes makes the stream's window grow again.
        note(&mut up.writer, cx);
        if up.room() < wanted { Poll::Pending } else { Poll::Ready(true) }
    }

    /// Puts bytes from the client in; they must have room.
    pub(super) fn put(&self, parts: [&[u8]; 3]) {
        let up = &mut self.0.borrow_mut().up;
        for part in parts {
            up.bytes.extend_from_slice(part);
        }
        wake(&mut up.reader);
    }

    /// Nothing more will come from the client.
    pub(super) fn close(&self) {
        self.0.borrow_mut().up.end(End::Closed);
    }

    /// Whether the other end is gone without having been shut, so that what is there means nothing.
    pub(super) fn is_broken(&self) -> bool {
        self.0.borrow().down.end == End::Broken
    }

    /// Takes what is there for the client.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let down = &mut self.0.borrow_mut().down;
        if !down.bytes.is_empty() && down.end != End::Broken {
            let bytes = down.bytes.split().freeze();
            wake(&mut down.writer);
            return Poll::Ready(Taken::Bytes(bytes));
        }
        match down.end {
            End::Closed => Poll::Ready(Taken::Closed),
            End::Broken => Poll::Ready(Taken::Broken),
            End::Open => {
                note(&mut down.reader, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.up.end = End::Broken;
        pipe.up.end(End::Broken);
        pipe.down.end(End::Broken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::io::ReadInto as _;
    use std::task::Waker;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn a_writer_waits_for_room_in_both_directions() {
        let (mut near, far) = pipe();
        let mut cx = context();
        let much = vec![7; CAPACITY + 1];
        let written = Pin::new(&mut near).poll_write(&mut cx, &much);
        assert!(matches!(written, Poll::Ready(Ok(CAPACITY))));
        assert!(Pin::new(&mut near).poll_write(&mut cx, b"more").is_pending());
        assert_eq!(far.poll_take(&mut cx), Poll::Ready(Taken::Bytes(Bytes::copy_from_slice(&much[1..]))));
        assert!(matches!(Pin::new(&mut near).poll_write(&mut cx, b"more"), Poll::Ready(Ok(4))));

        assert_eq!(far.poll_room(&mut cx, CAPACITY), Poll::Ready(true));
        far.put([&much[1..], b"", b""]);
        assert!(far.poll_room(&mut cx, 1).is_pending());
        let mut part = [0; 10];
        assert!(matches!(near.poll_read_into(&mut cx, &mut part), Poll::Ready(Ok(10))));
        assert_eq!(far.poll_room(&mut cx, 10), Poll::Ready(true));
        assert_eq!(far.held(), CAPACITY - 10);
    }

    #[test]
    fn an_end_is_read_after_the_bytes_before_it() {
        let (mut near, far) = pipe();
        let (mut cx, mut part) = (context(), [0; 10]);
        far.put([b"a", b"b", b"c"]);
        far.close();
        assert!(matches!(near.poll_read_into(&mut cx, &mut part), Poll::Ready(Ok(3))));
        assert!(matches!(near.poll_read_into(&mut cx, &mut part), Poll::Ready(Ok(0))));
        assert!(matches!(Pin::new(&mut near).poll_write(&mut cx, b"answer"), Poll::Ready(Ok(6))));
        assert!(Pin::new(&mut near).poll_shutdown(&mut cx).is_ready());
        drop(near);
        assert_eq!(far.poll_take(&mut cx), Poll::Ready(Taken::Bytes("answer".into())));
        assert_eq!(far.poll_take(&mut cx), Poll::Ready(Taken::Closed));
        assert_eq!(far.poll_room(&mut cx, 1), Poll::Ready(false));
    }

    #[test]
    fn what_is_dropped_without_an_end_is_broken() {
        let (mut near, far) = pipe();
        let (mut cx, mut part) = (context(), [0; 10]);
        assert!(Pin::new(&mut near).poll_write(&mut cx, b"half").is_ready());
        drop(near);
        assert!(far.is_broken());
        assert_eq!(far.poll_take(&mut cx), Poll::Ready(Taken::Broken));

        let (mut near, far) = pipe();
        far.put([b"half", b"", b""]);
        drop(far);
        assert!(matches!(near.poll_read_into(&mut cx, &mut part), Poll::Ready(Err(_))));
        assert!(matches!(Pin::new(&mut near).poll_write(&mut cx, b"x"), Poll::Ready(Err(_))));
    }
}
