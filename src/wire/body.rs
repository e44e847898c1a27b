//! Body framing (RFC 9112 6 and 7): where a body ends, and its bytes without the framing.

use super::fields::{Fields, Name};
use super::trailers::Trailers;
use std::ops::Range;

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112 7.1).
    Chunked,
    /// Everything until the connection closes; answers only.
    UntilClose,
}

/// The value of `Content-Length`: equal repetitions collapse, everything else but digits is refused.
pub(super) fn content_length(fields: Fields<'_>) -> Result<Option<u64>, &'static str> {
    let mut length = None;
    for value in fields.all(Name::ContentLength) {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err("Content-Length is not a number");
        }
        let mut number = 0u64;
        for digit in value {
            let next = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0')));
            number = next.ok_or("Content-Length is too large")?;
        }
        if length.is_some_and(|other| other != number) {
            return Err("two different Content-Length fields");
        }
        length = Some(number);
    }
    Ok(length)
}

/// A body that breaks its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub &'static str);

/// What [`Decoder::next`] found at the beginning of the bytes it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Body bytes at this place of the input; all of the input up to the end of the place is used up.
    Data(Range<usize>),
    /// The input is used up; give more.
    More,
    /// The body ended after so many bytes of the input; what follows belongs to the next message.
    End(usize),
}

/// Longest chunk extensions of one chunk, in bytes.
const MAX_IGNORED: usize = 16 * 1024;

/// Takes the framing off a body, piece by piece, without keeping any of it but the trailers.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    trailers: Trailers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Done,
    /// In the hexadecimal size: value so far and digits read.
    Size(u64, u8),
    /// After the size, in what is ignored up to the line's end: size, bytes ignored so far.
    Extension(u64, usize),
    /// After the carriage return of a size line.
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the beginning of a trailer line.
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
}

impl Decoder {
    /// A decoder for a body framed so.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(0, 0),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: Trailers::default() }
    }

    /// The trailers of a body that has ended (RFC 9112 7.1.2).
    #[must_use]
    pub fn trailers(&self) -> Fields<'_> {
        self.trailers.fields()
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection is a proper end of the body now.
    #[must_use]
    pub fn may_end_here(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// The next piece of `input`. Call again with what remains after the piece until it says [`Piece::More`] or
    /// [`Piece::End`].
    ///
    /// # Errors
    /// [`BodyError`] when the chunk framing or a trailer is broken; the connection cannot be used any more.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        match self.state {
            State::Done => return Ok(Piece::End(0)),
            State::UntilClose if input.is_empty() => return Ok(Piece::More),
            State::UntilClose => return Ok(Piece::Data(0..input.len())),
            State::Length(left) => return Ok(self.take(left, 0, input, State::Length)),
            _ => {}
        }
        for (at, byte) in input.iter().enumerate() {
            if let State::Data(left) = self.state {
                return Ok(self.take(left, at, input, State::Data));
            }
            let before = self.state;
            self.state = before.step(*byte)?;
            if self.state == State::Trailer || matches!(before, State::Trailer | State::TrailerLf) {
                self.trailers.push(*byte)?;
            }
            if self.state == State::Done {
                self.trailers.finish()?;
                return Ok(Piece::End(at + 1));
            }
        }
        Ok(Piece::More)
    }

    fn take(&mut self, left: u64, at: usize, input: &[u8], state: fn(u64) -> State) -> Piece {
        let here = left.min((input.len() - at) as u64);
        if here == 0 {
            return Piece::More;
        }
        self.state = match (left - here, self.state) {
            (0, State::Data(_)) => State::DataCr,
            (0, _) => State::Done,
            (rest, _) => state(rest),
        };
        Piece::Data(at..at + here as usize)
    }
}

impl State {
    /// The state after one byte of chunk framing.
    fn step(self, byte: u8) -> Result<Self, BodyError> {
        let bad = |what| Err(BodyError(what));
        Ok(match (self, byte) {
            (Self::Size(size, digits), b) if b.is_ascii_hexdigit() => {
                let digit = (b as char).to_digit(16).map_or(0, u64::from);
                match size.checked_mul(16).and_then(|s| s.checked_add(digit)) {
                    Some(size) if digits < 16 => Self::Size(size, digits + 1),
                    _ => return bad("a chunk size is too large"),
                }
            }
            (Self::Size(_, 0), _) => return bad("a chunk size is not hexadecimal"),
            (Self::Size(size, _) | Self::Extension(size, _), b'\r') => Self::SizeLf(size),
            (Self::Size(size, _), b';' | b' ' | b'\t') => Self::Extension(size, 0),
            (Self::Size(..), _) => return bad("a chunk size is not hexadecimal"),
            (Self::Extension(..), b'\n' | 0) => return bad("a chunk extension holds a control character"),
            (Self::Extension(_, MAX_IGNORED), _) => return bad("chunk extensions are too long"),
            (Self::Extension(size, ignored), _) => Self::Extension(size, ignored + 1),
            (Self::SizeLf(0) | Self::TrailerLf, b'\n') => Self::TrailerStart,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            (Self::TrailerStart, b'\r') => Self::LastLf,
            (Self::TrailerStart | Self::Trailer, b) if b != b'\r' && b != b'\n' && b != 0 => Self::Trailer,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::LastLf, b'\n') => Self::Done,
            _ => return bad("chunk framing is broken"),
        })
    }
}

/// Longest head of a chunk: sixteen hexadecimal digits, CR and LF.
pub const CHUNK_HEAD: usize = 18;

/// Writes the head of a chunk of `length` bytes, which must not be 0, and returns how many bytes it took.
pub fn write_chunk_head(length: usize, out: &mut [u8; CHUNK_HEAD]) -> usize {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1) as usize;
    for (i, slot) in out[..digits].iter_mut().enumerate() {
        let nibble = (length >> (4 * (digits - 1 - i))) & 0xf;
        *slot = b"0123456789abcdef"[nibble];
    }
    out[digits] = b'\r';
    out[digits + 1] = b'\n';
    digits + 2
}

/// What ends a chunked body without trailers. With some, they stand before its last line.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests;
