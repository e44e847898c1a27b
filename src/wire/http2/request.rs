//! Requests: their fields, held to RFC 9113 8.2 and 8.3, become a head of HTTP/1.1 that [`crate::wire::request`] then parses
//! like any other.

use super::field::{Field, Kind, Text, write_line};
use crate::wire::request::HeadError::{self, Malformed};
use crate::wire::scan;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::ops::Range;

/// A request as HTTP/1.1 has it.
#[derive(Debug)]
pub struct Asked {
    /// What the DATA of the stream is.
    pub content: Content,
    /// Whether the method is HEAD, whose answer has no body.
    pub to_head: bool,
}

/// What the DATA of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// There is none.
    None,
    /// A body of so many bytes, which the head tells.
    Length(u64),
    /// A body of a length that nobody knows yet: in chunks.
    Chunks,
    /// The bytes of another protocol (RFC 8441 5).
    Tunnel,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// RFC 9113 calls it malformed: its stream is reset with `PROTOCOL_ERROR` (8.1.1).
    Malformed,
    /// It is answered as such a head of HTTP/1.1 is.
    Head(HeadError),
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

/// What a server takes.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Largest list of fields, in bytes, with 32 more for each; also the longest head of HTTP/1.1.
    pub bytes: usize,
    /// Whether it offers WebSockets (RFC 8441 3).
    pub connects: bool,
}

/// Writes the head of a request while its fields are read.
#[derive(Debug)]
pub struct Writer {
    terms: Terms,
    /// The head so far. It begins with the first field that is no pseudo-header field.
    head: Vec<u8>,
    /// The values of pseudo-header fields, and behind them the cookies.
    aside: Vec<u8>,
    pseudo: [Option<Range<usize>>; PSEUDO],
    /// Where in `aside` the cookies begin, once the head has begun.
    cookies: Option<usize>,
    has_host: bool,
    is_websocket: bool,
    length: Option<u64>,
    /// What the fields count together, in bytes.
    size: usize,
    refusal: Option<Refusal>,
}

const PADDED: HeadError = Malformed("a field value begins or ends with white space");

/// How many pseudo-header fields there are for requests; the first kinds of [`Kind`].
const PSEUDO: usize = Kind::Protocol as usize + 1;

impl Writer {
    /// Begins a head in `head`, with `aside` as room for what comes too early or in parts.
    #[must_use]
    pub fn new(terms: Terms, head: Vec<u8>, aside: Vec<u8>) -> Self {
        let pseudo = [const { None }; PSEUDO];
        let (cookies, length, refusal) = (None, None, None);
        Self { terms, head, aside, pseudo, cookies, has_host: false, is_websocket: false, length, size: 0, refusal }
    }

    /// What the fields count together, in bytes, with 32 more for each (RFC 9113 6.5.2).
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes the next field.
    pub fn take(&mut self, field: Field<'_>) {
        self.size += field.size();
        if self.refusal.is_some() {
            return;
        }
        let taken = if self.size > self.terms.bytes {
            Err(HeadError::TooLong.into())
        } else if (field.kind as usize) < PSEUDO {
            self.set_aside(field)
        } else {
            self.write(field)
        };
        self.refusal = taken.err();
    }

    /// Keeps a pseudo-header field. They stand before all others, each once (RFC 9113 8.3).
    fn set_aside(&mut self, field: Field<'_>) -> Result<(), Refusal> {
        let place = &mut self.pseudo[field.kind as usize];
        if self.cookies.is_some() || place.is_some() || field.text == Text::Malformed {
            return Err(Refusal::Malformed);
        }
        if field.text == Text::Padded {
            return Err(PADDED.into());
        }
        let begin = self.aside.len();
        self.aside.extend_from_slice(field.value);
        *place = Some(begin..self.aside.len());
        Ok(())
    }

    fn write(&mut self, field: Field<'_>) -> Result<(), Refusal> {
        if self.cookies.is_none() {
            self.begin()?;
        }
        if field.text == Text::Malformed {
            return Err(Refusal::Malformed);
        }
        match field.kind {
            Kind::Malformed | Kind::OfConnections => return Err(Refusal::Malformed),
            Kind::Te if field.value != b"trailers" => return Err(Refusal::Malformed),
            _ if field.text == Text::Padded => return Err(PADDED.into()),
            Kind::Host => return self.host(field.value),
            Kind::Cookie => {
                self.cookie(field.value);
                return Ok(());
            }
            Kind::ContentLength => self.length = Some(length(field.value).ok_or(Refusal::Malformed)?),
            // Each connection to an app has a key of its own.
            Kind::WebSocketKey if self.is_websocket => return Ok(()),
            _ => {}
        }
        field.write(&mut self.head);
        Ok(())
    }

    /// Writes the request line, and the host if `:authority` tells it.
    fn begin(&mut self) -> Result<(), Refusal> {
        self.cookies = Some(self.aside.len());
        let value = |kind: Kind| self.pseudo[kind as usize].clone().map(|range| &self.aside[range]);
        let method = value(Kind::Method).filter(|method| is_token(method)).ok_or(Refusal::Malformed)?;
        self.is_websocket = is_websocket(method, value(Kind::Protocol), self.terms)?;
        let path = value(Kind::Path).filter(|path| !path.is_empty());
        let (Some(path), Some(true)) = (path, value(Kind::Scheme).map(is_scheme)) else {
            return Err(Refusal::Malformed);
        };
        if !is_path(path) {
            return Err(Malformed(":path is not a path, or holds a character that must be encoded").into());
        }
        let method = if self.is_websocket { b"GET" } else { method };
        for part in [method, b" ", path, b" HTTP/1.1\r\n"] {
            self.head.extend_from_slice(part);
        }
        if let Some(authority) = value(Kind::Authority) {
            write_line(&mut self.head, b"Host", authority);
        }
        Ok(())
    }

    /// Takes the Host field: it is what `:authority` is, or stands in its place; never two that differ (RFC 9113 8.3.1).
    fn host(&mut self, host: &[u8]) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.has_host, true) {
            return Err(Malformed("more than one Host field").into());
        }
        match self.pseudo[Kind::Authority as usize].clone() {
            Some(range) if self.aside[range.clone()].eq_ignore_ascii_case(host) => {}
            Some(_) => return Err(Malformed(":authority and Host differ").into()),
            None => write_line(&mut self.head, b"Host", host),
        }
        Ok(())
    }

    /// Cookies come one by one and go on together (RFC 9113 8.2.3).
    fn cookie(&mut self, crumb: &[u8]) {
        if self.cookies.is_some_and(|begin| begin < self.aside.len()) {
            self.aside.extend_from_slice(b"; ");
        }
        self.aside.extend_from_slice(crumb);
    }

    /// Ends the head. `ended` says that no DATA follows; `key` gives random bytes for the handshake of a WebSocket.
    ///
    /// # Errors
    /// [`Refusal`]: what RFC 9113 calls malformed, and what an HTTP/1.1 server might read differently.
    pub fn finish(&mut self, ended: bool, key: impl FnOnce() -> [u8; 16]) -> Result<Asked, Refusal> {
        if self.cookies.is_none() && self.refusal.is_none() {
            self.refusal = self.begin().err();
        }
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if !self.has_host && self.pseudo[Kind::Authority as usize].is_none() {
            return Err(Malformed("neither :authority nor Host").into());
        }
        let cookies = self.cookies.map_or(&[][..], |begin| &self.aside[begin..]);
        if !cookies.is_empty() {
            write_line(&mut self.head, b"Cookie", cookies);
        }
        let content = self.content(ended)?;
        self.head.extend_from_slice(framing(content));
        if content == Content::Tunnel {
            write_line(&mut self.head, b"Sec-WebSocket-Key", STANDARD.encode(key()).as_bytes());
        }
        self.head.extend_from_slice(b"\r\n");
        if self.head.len() > self.terms.bytes {
            return Err(HeadError::TooLong.into());
        }
        Ok(Asked { content, to_head: self.head.starts_with(b"HEAD ") })
    }

    fn content(&self, ended: bool) -> Result<Content, Refusal> {
        match self.length {
            _ if self.is_websocket => Ok(Content::Tunnel),
            // A body that was told and does not come (RFC 9113 8.1.1).
            Some(1..) if ended => Err(Refusal::Malformed),
            _ if ended => Ok(Content::None),
            Some(length) => Ok(Content::Length(length)),
            None => Ok(Content::Chunks),
        }
    }

    /// The head, and the room that was lent.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>) {
        (self.head, self.aside)
    }
}

/// The fields of the connection. A stream carries one request, so its "connection" ends after it.
fn framing(content: Content) -> &'static [u8] {
    match content {
        Content::Tunnel => b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n",
        Content::Chunks => b"Connection: close\r\nTransfer-Encoding: chunked\r\n",
        Content::None | Content::Length(_) => b"Connection: close\r\n",
    }
}

/// Whether a WebSocket is asked for (RFC 8441 4). CONNECT for anything else is refused like in HTTP/1.1.
fn is_websocket(method: &[u8], protocol: Option<&[u8]>, terms: Terms) -> Result<bool, Refusal> {
    match (method, protocol) {
        (b"CONNECT", Some(_)) if !terms.connects => Err(Refusal::Malformed),
        (b"CONNECT", Some(protocol)) if protocol.eq_ignore_ascii_case(b"websocket") => Ok(true),
        (b"CONNECT", _) => Err(HeadError::Method.into()),
        (_, Some(_)) => Err(Refusal::Malformed),
        (_, None) => Ok(false),
    }
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && scan::token_end(text, 0) == text.len()
}

/// RFC 3986 3.1.
fn is_scheme(text: &[u8]) -> bool {
    let may_follow = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    matches!(text, b"https" | b"http")
        || text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(may_follow)
}

/// Whether a target is a path and nothing else (RFC 9113 8.3.1), in characters that need no reading.
fn is_path(target: &[u8]) -> bool {
    target.starts_with(b"/") && scan::target_end(target, 0) == target.len()
}

/// The value of `content-length`; none when it is not one.
fn length(value: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let next = |number: u64, byte: &u8| number.checked_mul(10)?.checked_add(digit(byte)?);
    if value.is_empty() { None } else { value.iter().try_fold(0, next) }
}

/// Writes what ends a body in chunks (RFC 9112 7.1) while the fields behind it are read.
#[derive(Debug)]
pub struct Trailers {
    end: Vec<u8>,
    most: usize,
    is_malformed: bool,
}

impl Trailers {
    /// Trailers of so many bytes at most.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { end: b"0\r\n".to_vec(), most, is_malformed: false }
    }

    /// Takes the next field. What of them goes on is not judged here.
    pub fn take(&mut self, field: Field<'_>) {
        let is_known = !matches!(field.kind, Kind::Malformed | Kind::OfConnections) && field.kind as usize >= PSEUDO;
        self.is_malformed |= !is_known || field.text != Text::Plain || self.end.len() + field.size() > self.most;
        if !self.is_malformed {
            field.write(&mut self.end);
        }
    }

    /// The end of the body; none when there are too many of them, or one that cannot be a trailer.
    #[must_use]
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.end.extend_from_slice(b"\r\n");
        (!self.is_malformed).then_some(self.end)
    }
}

#[cfg(test)]
mod tests;
