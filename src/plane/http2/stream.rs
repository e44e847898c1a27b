//! One stream: its DATA moves into the pipe to the request's way and the answer out of it, each only as fast as the other
//! side takes it.

use super::body::Body;
use super::head::{self, Content};
use super::pipe::{Far, Taken};
use crate::wire::body::{CHUNK_HEAD, Decoder, Framing, LAST_CHUNK, write_chunk_head};
use crate::wire::request::{HeadEnd, Limits};
use crate::wire::response;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use std::task::{Context, Poll, ready};

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a complete answer.
    Answered,
    /// The answer broke off, and the client was told so.
    Broken,
    /// The client gave it up, or is gone; true when it had no answer yet.
    GivenUp { early: bool },
}

/// A stream on its way through.
pub(super) struct Stream {
    far: Far,
    body: RecvStream,
    /// Whether more DATA may come from the client.
    uploading: bool,
    content: Content,
    /// Bytes that were taken from the library and whose window the client has not got back.
    owed: usize,
    respond: SendResponse<Bytes>,
    answer: Answer,
    to_head: bool,
    limits: Limits,
}

enum Answer {
    /// The head of the answer so far.
    Head(Bytes, HeadEnd),
    Body(Body),
    /// A tunnel whose end the client knows, while its own bytes still come.
    Over,
}

impl Stream {
    /// A stream whose head was read: its DATA is `content`, and `to_head` says that the answer has no body.
    pub(super) fn new(
        far: Far,
        body: RecvStream,
        content: Content,
        respond: SendResponse<Bytes>,
        to_head: bool,
        limits: Limits,
    ) -> Self {
        let answer = Answer::Head(Bytes::new(), HeadEnd::of_answer());
        let uploading = content != Content::None;
        Self { far, body, uploading, content, owed: 0, respond, answer, to_head, limits }
    }

    /// Moves what can be moved; ready when the stream is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Poll::Ready(ended) = self.poll_given_up(cx) {
            return Poll::Ready(ended);
        }
        if self.poll_upload(cx).is_err() {
            return Poll::Ready(Ended::GivenUp { early: matches!(self.answer, Answer::Head(..)) });
        }
        let Ok(answered) = self.poll_answer(cx) else {
            // Never an end that looks like the proper one (RFC 9113 8.1).
            self.respond.send_reset(Reason::INTERNAL_ERROR);
            return Poll::Ready(Ended::Broken);
        };
        ready!(answered);
        if self.content == Content::Tunnel && self.uploading {
            self.answer = Answer::Over;
            return Poll::Pending;
        }
        Poll::Ready(Ended::Answered)
    }

    /// Ready when the client has reset the stream or the connection is gone.
    fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let (polled, early) = match &mut self.answer {
            Answer::Head(..) => (self.respond.poll_reset(cx), true),
            Answer::Body(body) => (body.out.poll_reset(cx), false),
            Answer::Over => return Poll::Pending,
        };
        polled.map(|_| Ended::GivenUp { early })
    }

    /// Moves DATA into the pipe; an error when the stream broke.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Unsayable> {
        while self.uploading || self.owed > 0 {
            self.give_back(self.far.held());
            match self.far.poll_room(cx, super::FRAME + CHUNK_HEAD + LAST_CHUNK.len()) {
                Poll::Pending => return Ok(()),
                // Nobody is interested any more: what still comes is the library's to throw away.
                Poll::Ready(false) => {
                    self.give_back(0);
                    self.uploading = false;
                }
                Poll::Ready(true) if !self.uploading => return Ok(()),
                Poll::Ready(true) => match self.body.poll_data(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(Err(_))) => return Err(Unsayable),
                    Poll::Ready(Some(Ok(data))) => {
                        self.owed += data.len();
                        self.put(&data);
                    }
                    Poll::Ready(None) => match self.body.poll_trailers(cx) {
                        Poll::Pending => return Ok(()),
                        Poll::Ready(Err(_)) => return Err(Unsayable),
                        Poll::Ready(Ok(trailers)) => self.end_upload(&trailers.unwrap_or_default())?,
                    },
                },
            }
        }
        Ok(())
    }

    /// Gives the client's window back for what has been taken out of the pipe, not for what lies in it, so that the
    /// connection's window bounds what is held for all of its streams together.
    fn give_back(&mut self, held: usize) {
        let taken = self.owed.saturating_sub(held);
        self.owed -= taken;
        // An error says that the stream is over, which is found out elsewhere.
        let _ = self.body.flow_control().release_capacity(taken);
    }

    fn put(&self, data: &[u8]) {
        if self.content == Content::Chunks && !data.is_empty() {
            let mut head = [0; CHUNK_HEAD];
            let length = write_chunk_head(data.len(), &mut head);
            self.far.put([&head[..length], data, b"\r\n"]);
        } else {
            self.far.put([data, b"", b""]);
        }
    }

    /// Ends what came from the client. Trailers follow chunks alone; the request's way judges which of them go on.
    fn end_upload(&mut self, trailers: &HeaderMap) -> Result<(), Unsayable> {
        self.uploading = false;
        match self.content {
            Content::Chunks => self.far.put([&head::last_chunk(trailers).ok_or(Unsayable)?, b"", b""]),
            Content::Tunnel => self.far.close(),
            Content::None | Content::Length => {}
        }
        Ok(())
    }

    /// Moves the answer to the client; ready when it is complete.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Unsayable> {
        loop {
            let done = match &mut self.answer {
                Answer::Head(..) => self.poll_head(cx)?,
                Answer::Body(body) => body.poll(cx, &self.far)?.map(|()| true),
                Answer::Over => Poll::Ready(true),
            };
            match done {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(true) => return Ok(Poll::Ready(())),
                Poll::Ready(false) => {}
            }
        }
    }

    /// Reads heads of the answer; ready with whether the answer is complete with its head.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Result<Poll<bool>, Unsayable> {
        let Answer::Head(head, end) = &mut self.answer else { return Ok(Poll::Ready(false)) };
        let Some(length) = end.find(head, self.limits.bytes).map_err(|_| Unsayable)? else {
            return match self.far.poll_take(cx) {
                Poll::Pending => Ok(Poll::Pending),
                // Nearly all come in one piece.
                Poll::Ready(Taken::Bytes(bytes)) => {
                    *head = if head.is_empty() { bytes } else { [&head[..], &bytes].concat().into() };
                    Ok(Poll::Ready(false))
                }
                Poll::Ready(Taken::Closed | Taken::Broken) => Err(Unsayable),
            };
        };
        let mut head = std::mem::take(head);
        let rest = head.split_off(length);
        self.say(&head, rest)
    }

    /// Sends a head on; whether the answer is complete with it.
    fn say(&mut self, head: &[u8], raw: Bytes) -> Result<Poll<bool>, Unsayable> {
        let mut positions = Vec::new();
        let parsed = response::Head::parse(head, &mut positions, self.limits, self.to_head).map_err(|_| Unsayable)?;
        let answer = head::answer(&parsed, self.content == Content::Tunnel).ok_or(Unsayable)?;
        if parsed.is_interim() {
            self.respond.send_informational(answer).map_err(|_| Unsayable)?;
            self.answer = Answer::Head(raw, HeadEnd::of_answer());
            return Ok(Poll::Ready(false));
        }
        let framing = if parsed.status == 101 { Framing::UntilClose } else { parsed.framing };
        if self.content == Content::Tunnel && parsed.status != 101 {
            // There is no tunnel, so nothing of what the client sends has a meaning.
            self.uploading = false;
        }
        let decoder = Decoder::new(framing);
        let done = decoder.is_done();
        let out = self.respond.send_response(answer, done).map_err(|_| Unsayable)?;
        self.answer = Answer::Body(Body::new(out, decoder, raw));
        Ok(Poll::Ready(done))
    }
}

/// An answer that cannot be passed on as what it is, or a stream that is gone.
#[derive(Debug)]
pub(super) struct Unsayable;
