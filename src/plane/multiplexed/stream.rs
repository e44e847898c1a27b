//! One stream of a connection to an upstream, read and written as HTTP/1.1: heads are taken apart and put together, bodies
//! lose and get their framing, and each side moves only as fast as the other one takes it.

use super::Place;
use super::head::{self, Body};
use crate::wire::body::{CHUNK_HEAD, Decoder, Framing, Piece, write_chunk_head};
use bytes::{Buf as _, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream, from before its request to after its answer. Dropped before that, it is reset.
pub(in crate::plane) struct Stream {
    sender: SendRequest<Bytes>,
    scheme: &'static str,
    sending: Sending,
    receiving: Receiving,
    to_head: bool,
    /// What goes to the reader next: heads and the framing of chunks.
    framing: Vec<u8>,
    /// And after it, a part of the answer's body.
    data: Bytes,
    _place: Place,
}

enum Sending {
    /// The request's head so far.
    Head(Vec<u8>),
    Body(SendStream<Bytes>, Decoder),
    Done,
    Broken(Trouble),
}

enum Receiving {
    /// The request has not been sent.
    Nothing,
    Head(ResponseFuture),
    Body(RecvStream, Body),
    Done,
}

/// Why a stream ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::plane) enum Trouble {
    /// The upstream has done nothing with the request, and promises so (RFC 9113 8.7).
    #[error("upstream did not take the request")]
    Untouched,
    /// The request cannot be said in HTTP/2.
    #[error("the request cannot be said in HTTP/2")]
    Unsayable,
    /// The upstream wants the request in HTTP/1.1.
    #[error("upstream wants HTTP/1.1")]
    WantsHttp1,
    /// The answer is not what HTTP/2 allows.
    #[error("the answer is not HTTP/2")]
    Malformed,
    /// The stream or its connection was reset.
    #[error("upstream reset")]
    Reset,
}

impl Trouble {
    /// The trouble that an error of a stream stands for.
    pub(in crate::plane) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<h2::Error> for Trouble {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            // After GOAWAY only those streams fail by it that the upstream has not looked at (RFC 9113 6.8).
            _ if error.is_go_away() && error.is_remote() => Self::Untouched,
            Some(Reason::REFUSED_STREAM) if error.is_remote() => Self::Untouched,
            Some(Reason::HTTP_1_1_REQUIRED) if error.is_remote() => Self::WantsHttp1,
            Some(_) if !error.is_remote() && !error.is_io() => Self::Malformed,
            _ => Self::Reset,
        }
    }
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        Self::other(trouble)
    }
}

impl Stream {
    pub(super) fn new(sender: SendRequest<Bytes>, scheme: &'static str, place: Place) -> Self {
        Self {
            sender,
            scheme,
            sending: Sending::Head(Vec::new()),
            receiving: Receiving::Nothing,
            to_head: false,
            framing: Vec::new(),
            data: Bytes::new(),
            _place: place,
        }
    }

    /// Takes bytes of the request; how many.
    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Trouble>> {
        match &mut self.sending {
            Sending::Head(head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                // The end may lie across two writes.
                let from = before.saturating_sub(3);
                if let Some(at) = memchr::memmem::find(&head[from..], b"\r\n\r\n") {
                    let length = from + at + 4;
                    head.truncate(length);
                    let head = std::mem::take(head);
                    self.begin(&head)?;
                    return Poll::Ready(Ok(length - before));
                }
                Poll::Ready(Ok(bytes.len()))
            }
            Sending::Body(out, decoder) => {
                let room = ready!(poll_room(cx, out, bytes.len()))?;
                let (used, done) = send(out, decoder, &bytes[..room])?;
                if done {
                    self.sending = Sending::Done;
                }
                Poll::Ready(Ok(used))
            }
            Sending::Done => Poll::Ready(Err(Trouble::Malformed)),
            Sending::Broken(trouble) => Poll::Ready(Err(*trouble)),
        }
    }

    /// Sends the request's head.
    fn begin(&mut self, head: &[u8]) -> Result<(), Trouble> {
        let asked = head::request(head, self.scheme).ok_or(Trouble::Unsayable)?;
        self.to_head = asked.request.method() == Method::HEAD;
        let decoder = Decoder::new(asked.framing);
        let done = asked.framing == Framing::Empty || decoder.is_done();
        // What fails here has not been sent.
        let (answer, out) = self.sender.send_request(asked.request, done).map_err(|_| Trouble::Untouched)?;
        self.receiving = Receiving::Head(answer);
        self.sending = if done { Sending::Done } else { Sending::Body(out, decoder) };
        Ok(())
    }

    /// Fetches what comes next of the answer; ready with false at its end.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Trouble>> {
        match &mut self.receiving {
            Receiving::Nothing => match self.sending {
                Sending::Broken(trouble) => Poll::Ready(Err(trouble)),
                // The one task that reads writes as well, and writes first.
                _ => Poll::Pending,
            },
            Receiving::Head(answer) => {
                if let Poll::Ready(Some(interim)) = answer.poll_informational(cx) {
                    head::answer(&interim?, false, false, &mut self.framing).ok_or(Trouble::Malformed)?;
                    return Poll::Ready(Ok(true));
                }
                let (head, body) = ready!(Pin::new(answer).poll(cx))?.into_parts();
                let head = http::Response::from_parts(head, ());
                let ended = body.is_end_stream();
                let framed = head::answer(&head, ended, self.to_head, &mut self.framing).ok_or(Trouble::Malformed)?;
                self.receiving = if framed == Body::None { Receiving::Done } else { Receiving::Body(body, framed) };
                Poll::Ready(Ok(true))
            }
            Receiving::Body(body, framed) => {
                if let Some(data) = ready!(body.poll_data(cx)) {
                    self.data = data?;
                    if *framed == Body::Chunks && !self.data.is_empty() {
                        let mut head = [0; CHUNK_HEAD];
                        let length = write_chunk_head(self.data.len(), &mut head);
                        self.framing.extend_from_slice(&head[..length]);
                    }
                    return Poll::Ready(Ok(true));
                }
                let trailers = ready!(body.poll_trailers(cx))?.unwrap_or_default();
                if *framed == Body::Chunks {
                    self.framing = head::last_chunk(&trailers).ok_or(Trouble::Malformed)?;
                }
                self.receiving = Receiving::Done;
                Poll::Ready(Ok(true))
            }
            Receiving::Done => Poll::Ready(Ok(false)),
        }
    }

    /// Gives out a part of the answer's body, and the upstream its window back for it.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let part = self.data.len().min(buffer.remaining());
        buffer.put_slice(&self.data[..part]);
        self.data.advance(part);
        if let Receiving::Body(body, framed) = &mut self.receiving {
            // An error says that the stream is over, which the next part tells.
            let _ = body.flow_control().release_capacity(part);
            if self.data.is_empty() && *framed == Body::Chunks {
                self.framing.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// How many bytes the upstream takes now.
fn poll_room(cx: &mut Context<'_>, out: &mut SendStream<Bytes>, wanted: usize) -> Poll<Result<usize, Trouble>> {
    out.reserve_capacity(wanted);
    while out.capacity() == 0 {
        match ready!(out.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error.into())),
            None => return Poll::Ready(Err(Trouble::Reset)),
        }
    }
    Poll::Ready(Ok(out.capacity().min(wanted)))
}

/// Sends what of `bytes` is body, for which there is room; how many bytes that took, and whether the body is complete.
fn send(out: &mut SendStream<Bytes>, decoder: &mut Decoder, bytes: &[u8]) -> Result<(usize, bool), Trouble> {
    let mut used = 0;
    loop {
        match decoder.next(&bytes[used..]).map_err(|_| Trouble::Malformed)? {
            Piece::More => return Ok((bytes.len(), false)),
            Piece::Data(range) => {
                let data = Bytes::copy_from_slice(&bytes[used..][range.clone()]);
                used += range.end;
                let done = decoder.is_done();
                out.send_data(data, done)?;
                if done {
                    return Ok((used, true));
                }
            }
            Piece::End(length) => {
                end(out, decoder)?;
                return Ok((used + length, true));
            }
        }
    }
}

/// Ends a body in chunks, with its trailers if it has some.
fn end(out: &mut SendStream<Bytes>, decoder: &Decoder) -> Result<(), Trouble> {
    let mut trailers = HeaderMap::new();
    for field in decoder.trailers().iter() {
        let name = HeaderName::from_bytes(field.name).map_err(|_| Trouble::Unsayable)?;
        trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| Trouble::Unsayable)?);
    }
    let none = trailers.is_empty();
    let ended = if none { out.send_data(Bytes::new(), true) } else { out.send_trailers(trailers) };
    Ok(ended?)
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.framing.is_empty() && self.data.is_empty() {
            if !ready!(self.poll_fetch(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        let part = self.framing.len().min(buffer.remaining());
        buffer.put_slice(&self.framing[..part]);
        self.framing.drain(..part);
        if self.framing.is_empty() && !self.data.is_empty() {
            self.give(buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        for slice in slices {
            let mut left: &[u8] = slice;
            while !left.is_empty() {
                match self.poll_take(cx, left) {
                    Poll::Ready(Ok(used)) => {
                        taken += used;
                        left = &left[used..];
                    }
                    Poll::Pending if taken == 0 => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Ok(taken)),
                    Poll::Ready(Err(trouble)) => {
                        self.sending = Sending::Broken(trouble);
                        return Poll::Ready(Err(trouble.into()));
                    }
                }
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A request ends where its framing says so.
        Poll::Ready(Ok(()))
    }
}
