//! The end of a pipe for the request's way.

use super::halves::End;
use super::{Pipe, release};
use crate::plane::streams::note;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The end for the request's way, which takes it for a connection with the client. It breaks off when it is dropped before
/// it was shut.
pub(crate) struct Near(pub(super) Rc<Pipe>);

impl Near {
    /// Says that nothing more comes for the client.
    pub(in crate::plane::http2) fn shut(&self) {
        let mut state = self.0.0.borrow_mut();
        state.down.end(End::Closed);
        state.tell();
    }
}

impl AsyncRead for Near {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.0.borrow_mut();
        if state.up.is_broken() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        let Some(taken) = state.up.read(buffer)? else {
            if state.up.is_closed() {
                return Poll::Ready(Ok(()));
            }
            note(&mut state.task, cx);
            return Poll::Pending;
        };
        let (mut is_due, Some((shared, _))) = (false, &state.stream) else { return Poll::Ready(Ok(())) };
        if taken > 0 {
            is_due = shared.count_taken(taken) | state.up.is_due(&shared.worker.plane.settings.http2_limits);
        }
        if let Some(buffer) = state.up.spare() {
            shared.worker.buffers.give(buffer);
        }
        if is_due {
            state.tell();
        }
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
        let state = &mut *self.0.0.borrow_mut();
        if !state.down.is_open() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if state.down.room() == 0 {
            note(&mut state.task, cx);
            state.down.waits = true;
            return Poll::Pending;
        }
        if let Some((shared, _)) = &state.stream {
            state.down.lend(|| shared.worker.buffers.take());
        }
        let written = state.down.write(slices);
        state.tell();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        let mut state = self.0.0.borrow_mut();
        state.held.near = false;
        // The lane's task ends with its panic.
        state.is_over |= thread::panicking();
        if state.held.far {
            let held = state.up.abandon();
            if let Some((shared, _)) = &state.stream {
                shared.count_taken(held);
            }
            state.down.end(End::Broken);
            state.tell();
            return;
        }
        let shared = state.stream.as_ref().map(|(shared, _)| Rc::clone(shared));
        drop(state);
        release(&self.0);
        if let Some(shared) = shared {
            // It may have waited for nothing but this.
            shared.wake();
        }
    }
}
