//! One stream: its request's body on its way in, and its answer, written in HTTP/1.1, said in HTTP/2.

use super::pipe::{Far, State};
use crate::wire::body::{Decoder, LAST_CHUNK, Piece};
use crate::wire::http2::answer::{self, To};
use crate::wire::http2::frame::{self, HEAD, Head, flag, kind};
use crate::wire::http2::hpack::Encoder;
use crate::wire::http2::reason::Reason;
use crate::wire::http2::request::Content;
use crate::wire::http2::window::Window;
use crate::wire::request::HeadEnd;

/// A stream that is open.
pub(super) struct Stream {
    pub(super) number: u32,
    pub(super) far: Far,
    pub(super) content: Content,
    pub(super) to_head: bool,
    /// What the client still takes, and what it still may send.
    pub(super) send: Window,
    pub(super) receive: Window,
    /// Whether the client has ended its side.
    pub(super) has_ended: bool,
    /// Whether it is in the queue of those that have something to send.
    pub(super) is_queued: bool,
    pub(super) answer: Answer,
}

/// An answer on its way.
pub(super) enum Answer {
    /// Its head has not come yet.
    Head(HeadEnd),
    Body {
        decoder: Decoder,
        /// Bytes of the body with which what lies in the pipe begins.
        ready: usize,
    },
    /// It is complete. In a tunnel the client's own bytes may still come.
    Over,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing more is there to send.
    Waits,
    /// There is more, and the others have their turn first.
    More,
    /// The client's window for the stream, or for the connection, is used up.
    StreamFull,
    ConnectionFull,
    /// The answer is complete.
    Complete,
    /// It breaks off, or cannot be passed on as what it is.
    Broken,
}

/// What an answer is written with.
pub(super) struct Pen<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) encoder: &'a mut Encoder,
    /// What the client still takes on all streams together.
    pub(super) send: &'a mut Window,
    /// Largest frame, in bytes.
    pub(super) frame: usize,
    /// Longest head of an answer, in bytes.
    pub(super) most: usize,
}

impl Stream {
    /// Whether the client has not got the head of an answer.
    pub(super) fn is_early(&self) -> bool {
        matches!(self.answer, Answer::Head(_))
    }

    /// Takes DATA of the client's, or the end of it.
    ///
    /// # Errors
    /// The reason to reset the stream for.
    pub(super) fn receive(&mut self, data: &[u8], ends: bool) -> Result<(), Reason> {
        if let Content::Length(left) = &mut self.content {
            *left = left.checked_sub(data.len() as u64).ok_or(Reason::PROTOCOL_ERROR)?;
            if ends && *left > 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
        }
        if self.content == Content::None || !self.far.put(data) {
            self.far.skip(data.len());
        }
        if ends {
            self.end(LAST_CHUNK.to_vec());
        }
        Ok(())
    }

    /// Ends what comes from the client; `tail` is how a body in chunks ends.
    pub(super) fn end(&mut self, tail: Vec<u8>) {
        self.has_ended = true;
        match self.content {
            Content::Chunks => self.far.finish(tail),
            Content::Tunnel => self.far.close(),
            Content::None | Content::Length(_) => {}
        }
    }

    /// Writes what there is of the answer: at most one frame of its body.
    pub(super) fn advance(&mut self, pen: &mut Pen<'_>) -> Progress {
        let state = &mut *self.far.look();
        let progress = loop {
            break match &mut self.answer {
                Answer::Head(end) => match end.find(state.down.bytes(), pen.most) {
                    Ok(Some(length)) => {
                        match say(self.number, &mut self.content, self.to_head, &state.down.bytes()[..length], pen) {
                            Some(next) => self.answer = next,
                            None => break Progress::Broken,
                        }
                        state.down.take(length);
                        continue;
                    }
                    Ok(None) if state.down.is_open() => Progress::Waits,
                    Ok(None) | Err(_) => Progress::Broken,
                },
                Answer::Body { decoder, ready } => {
                    Part { number: self.number, decoder, ready, send: &mut self.send }.write(state, pen)
                }
                Answer::Over => Progress::Complete,
            };
        };
        Far::make_room(state);
        match progress {
            // The client may go on in a tunnel as long as somebody listens.
            Progress::Complete if self.content == Content::Tunnel && !self.has_ended && state.is_served() => {
                self.answer = Answer::Over;
                Progress::Waits
            }
            Progress::Waits | Progress::StreamFull | Progress::ConnectionFull if state.down.is_broken() => {
                Progress::Broken
            }
            Progress::StreamFull | Progress::ConnectionFull => {
                Far::linger(state);
                progress
            }
            _ => progress,
        }
    }
}

/// Sends a head on; what comes after it, and none when it is not one.
fn say(number: u32, content: &mut Content, to_head: bool, head: &[u8], pen: &mut Pen<'_>) -> Option<Answer> {
    let to = match content {
        Content::Tunnel => To::Connect,
        _ if to_head => To::Head,
        _ => To::Any,
    };
    let (at, before) = (begin(pen.out), *pen.encoder);
    let Some(said) = answer::head(pen.encoder, pen.out, head, to) else {
        pen.out.truncate(at);
        *pen.encoder = before;
        return None;
    };
    let decoder = Decoder::new(said.framing);
    let done = decoder.is_done() && !said.is_interim();
    let flags = flag::END_HEADERS | if done { flag::END_STREAM } else { 0 };
    frame::close(pen.out, at, Head { length: 0, kind: kind::HEADERS, flags, stream: number }, pen.frame);
    if to == To::Connect && said.status >= 200 {
        // There is no tunnel, so nothing of what the client sends has a meaning.
        *content = Content::None;
    }
    Some(match (said.is_interim(), done) {
        (true, _) => Answer::Head(HeadEnd::of_answer()),
        (false, true) => Answer::Over,
        (false, false) => Answer::Body { decoder, ready: 0 },
    })
}

/// Leaves room for the head of a frame.
fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEAD]);
    at
}

/// The body of an answer, of which the next part goes out.
struct Part<'a> {
    number: u32,
    decoder: &'a mut Decoder,
    ready: &'a mut usize,
    send: &'a mut Window,
}

impl Part<'_> {
    /// Writes a frame of DATA, and the trailers where the body ends with some. Small chunks become one frame: clients take
    /// many small ones for an attack.
    fn write(&mut self, state: &mut State, pen: &mut Pen<'_>) -> Progress {
        let room = pen.frame.min(self.send.room()).min(pen.send.room());
        let (at, mut length) = (begin(pen.out), 0);
        let ended = loop {
            match self.decode(state) {
                Ok(true) => break true,
                Ok(false) if *self.ready == 0 || length == room => break false,
                Ok(false) => {}
                Err(Broken) => {
                    pen.out.truncate(at);
                    return Progress::Broken;
                }
            }
            let part = (*self.ready).min(room - length);
            pen.out.extend_from_slice(&state.down.bytes()[..part]);
            state.down.take(part);
            *self.ready -= part;
            length += part;
        };
        // What was taken had room.
        let (_, _) = (self.send.take(length), pen.send.take(length));
        self.close(at, length, ended, pen);
        match ended {
            true => Progress::Complete,
            false if *self.ready == 0 => Progress::Waits,
            false if pen.send.room() == 0 => Progress::ConnectionFull,
            false if self.send.room() == 0 => Progress::StreamFull,
            false => Progress::More,
        }
    }

    /// Takes the framing off what comes next, unless there is something to send; whether the body is over.
    fn decode(&mut self, state: &mut State) -> Result<bool, Broken> {
        while *self.ready == 0 {
            match self.decoder.next(state.down.bytes()).map_err(|_| Broken)? {
                Piece::Data(place) => {
                    state.down.take(place.start);
                    *self.ready = place.len();
                }
                Piece::End(_) => return Ok(true),
                Piece::More => {
                    state.down.take(state.down.bytes().len());
                    return match (state.down.is_closed(), self.decoder.may_end_here()) {
                        (false, _) => Ok(false),
                        (true, true) => Ok(true),
                        (true, false) => Err(Broken),
                    };
                }
            }
        }
        Ok(false)
    }

    /// Ends the frame at `at`, and the stream with it if the body is over.
    fn close(&self, at: usize, length: usize, ended: bool, pen: &mut Pen<'_>) {
        let trailers = self.decoder.trailers();
        let has_trailers = ended && trailers.iter().next().is_some();
        if length == 0 && (!ended || has_trailers) {
            pen.out.truncate(at);
        } else {
            let flags = if ended && !has_trailers { flag::END_STREAM } else { 0 };
            frame::close(pen.out, at, Head { length: 0, kind: kind::DATA, flags, stream: self.number }, pen.frame);
        }
        if has_trailers {
            let at = begin(pen.out);
            answer::trailers(pen.encoder, pen.out, trailers);
            let flags = flag::END_HEADERS | flag::END_STREAM;
            frame::close(pen.out, at, Head { length: 0, kind: kind::HEADERS, flags, stream: self.number }, pen.frame);
        }
    }
}

/// A body that breaks its framing, or off.
struct Broken;

#[cfg(test)]
mod tests;
