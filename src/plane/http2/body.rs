//! The body of an answer, from the pipe into its stream as fast as the client's window lets it.

use super::pipe::{Far, Taken};
use super::stream::Unsayable;
use crate::wire::body::{Decoder, Piece};
use bytes::{Buf as _, Bytes};
use h2::SendStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::task::{Context, Poll};

/// A body under way.
pub(super) struct Body {
    pub(super) out: SendStream<Bytes>,
    decoder: Decoder,
    /// What the request's way has written, with its framing.
    raw: Bytes,
    /// A part of the body that waits for the client's window.
    data: Bytes,
    /// Whether nothing comes after that part.
    ended: bool,
}

impl Body {
    /// A body whose beginning came with its head.
    pub(super) fn new(out: SendStream<Bytes>, decoder: Decoder, raw: Bytes) -> Self {
        Self { out, ended: decoder.is_done(), decoder, raw, data: Bytes::new() }
    }

    /// Moves what can be moved; ready when the body is complete.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, far: &Far) -> Poll<Result<(), Unsayable>> {
        loop {
            if far.is_broken() {
                return Poll::Ready(Err(Unsayable));
            }
            self.decode()?;
            while !self.data.is_empty() {
                if !self.has_room(cx)? {
                    return Poll::Pending;
                }
                self.send()?;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match far.poll_take(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Taken::Bytes(bytes)) => self.raw = bytes,
                Poll::Ready(Taken::Closed) if self.decoder.may_end_here() => return Poll::Ready(self.end()),
                Poll::Ready(Taken::Closed | Taken::Broken) => return Poll::Ready(Err(Unsayable)),
            }
        }
    }

    /// Takes the framing off what is there. Small chunks become one part: clients take many small frames for an attack.
    fn decode(&mut self) -> Result<(), Unsayable> {
        let mut joined = Vec::new();
        while !self.raw.is_empty() {
            match self.decoder.next(&self.raw).map_err(|_| Unsayable)? {
                Piece::More => self.raw.clear(),
                Piece::End(_) => {
                    self.raw.clear();
                    // The end of chunks that came alone: nothing is left to send it with.
                    if self.data.is_empty() && joined.is_empty() && !self.ended {
                        self.end()?;
                    }
                    self.ended = true;
                }
                Piece::Data(place) => {
                    let piece = self.raw.slice(place.clone());
                    self.raw.advance(place.end);
                    if self.data.is_empty() && joined.is_empty() {
                        self.data = piece;
                    } else {
                        joined.extend_from_slice(&std::mem::take(&mut self.data));
                        joined.extend_from_slice(&piece);
                    }
                }
            }
        }
        if !joined.is_empty() {
            self.data = joined.into();
        }
        self.ended |= self.decoder.is_done();
        Ok(())
    }

    /// Whether the client takes something now.
    fn has_room(&mut self, cx: &mut Context<'_>) -> Result<bool, Unsayable> {
        self.out.reserve_capacity(self.data.len());
        while self.out.capacity() == 0 {
            match self.out.poll_capacity(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None | Some(Err(_))) => return Err(Unsayable),
            }
        }
        Ok(true)
    }

    fn send(&mut self) -> Result<(), Unsayable> {
        let part = self.data.split_to(self.out.capacity().min(self.data.len()));
        let all = self.ended && self.data.is_empty();
        let has_trailers = self.decoder.trailers().iter().next().is_some();
        self.out.send_data(part, all && !has_trailers).map_err(|_| Unsayable)?;
        if all && has_trailers { self.end() } else { Ok(()) }
    }

    /// Ends the stream, with the trailers of the body if it has some (RFC 9113 8.1).
    fn end(&mut self) -> Result<(), Unsayable> {
        self.ended = true;
        let mut trailers = HeaderMap::new();
        for field in self.decoder.trailers().iter() {
            let name = HeaderName::from_bytes(field.name).map_err(|_| Unsayable)?;
            trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| Unsayable)?);
        }
        let none = trailers.is_empty();
        let ended = if none { self.out.send_data(Bytes::new(), true) } else { self.out.send_trailers(trailers) };
        ended.map_err(|_| Unsayable)
    }
}
