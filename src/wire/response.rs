//! The head of an answer (RFC 9112 4), as strict towards upstreams as towards clients.

use super::body::{self, Framing};
use super::fields::{Fields, Name, Position};
use super::request::{ConnectionOptions, HeadError, Limits, MAX_FIELDS};
use std::mem::MaybeUninit;

use HeadError::Malformed;

/// The head of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase as sent; may be empty.
    pub reason: &'a str,
    /// How the body is framed.
    pub framing: Framing,
    /// Whether the connection may carry another request after this answer.
    pub keep_alive: bool,
    /// The header fields.
    pub fields: Fields<'a>,
}

impl<'a> Head<'a> {
    /// Parses one complete head. `to_head` says that the request's method was HEAD, whose answer has no body.
    ///
    /// # Errors
    /// [`HeadError`]: an answer that could be read in two ways is refused.
    pub fn parse(
        head: &'a [u8],
        positions: &'a mut Vec<Position>,
        limits: Limits,
        to_head: bool,
    ) -> Result<Self, HeadError> {
        // The parser would skip empty lines, which nobody may send before an answer.
        if !head.starts_with(b"HTTP/") {
            return Err(Malformed("the head does not begin with the version"));
        }
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let room = limits.fields.min(MAX_FIELDS);
        match parser.parse_response_with_uninit_headers(&mut response, head, &mut slots[..room]) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Malformed("the head ends too early")),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
            Err(_) => return Err(Malformed("the head is not HTTP")),
        }
        positions.clear();
        positions.extend(response.headers.iter().map(|h| Position::of(head, h.name, h.value)));
        let (Some(status), Some(minor)) = (response.code, response.version) else {
            return Err(Malformed("the head is not HTTP"));
        };
        if status < 100 {
            return Err(Malformed("the status code is below 100"));
        }
        let fields = Fields::new(head, positions);
        let options = ConnectionOptions::of(fields)?;
        let framing = response_framing(fields, status, minor == 1, to_head)?;
        let keep_alive = !options.close && (minor == 1 || options.keep_alive) && framing != Framing::UntilClose;
        Ok(Self { status, reason: response.reason.unwrap_or(""), framing, keep_alive, fields })
    }

    /// Whether a final answer is still to come (RFC 9110 15.2); 101 is final for HTTP.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// How the body of an answer is framed (RFC 9112 6.3).
fn response_framing(fields: Fields<'_>, status: u16, http11: bool, to_head: bool) -> Result<Framing, HeadError> {
    let length = body::content_length(fields).map_err(Malformed)?;
    let Ok(coding) = fields.single(Name::TransferEncoding) else {
        return Err(Malformed("more than one Transfer-Encoding field"));
    };
    if coding.is_some() && length.is_some() {
        return Err(Malformed("both Content-Length and Transfer-Encoding"));
    }
    if coding.is_some_and(|coding| !http11 || !coding.eq_ignore_ascii_case(b"chunked")) {
        return Err(Malformed("a Transfer-Encoding other than chunked"));
    }
    Ok(match (coding, length) {
        _ if to_head || status < 200 || status == 204 || status == 304 => Framing::Empty,
        (Some(_), _) => Framing::Chunked,
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 4096, fields: 20 };

    fn parse(text: &str, to_head: bool) -> Result<(u16, Framing, bool), HeadError> {
        let mut positions = Vec::new();
        let head = Head::parse(text.as_bytes(), &mut positions, LIMITS, to_head)?;
        Ok((head.status, head.framing, head.keep_alive))
    }

    #[test]
    fn ordinary_answers() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false), Ok((200, Framing::Length(3), true)));
        assert_eq!(
            parse("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            Ok((200, Framing::Chunked, true))
        );
        assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\n", false), Ok((200, Framing::UntilClose, false)));
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n", false), Ok((204, Framing::Empty, true)));
        assert_eq!(parse("HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", false), Ok((304, Framing::Empty, true)));
        assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true), Ok((200, Framing::Empty, true)));
        assert_eq!(parse("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false), Ok((200, Framing::Length(3), false)));
    }

    #[test]
    fn ambiguous_answers_are_refused() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
            "HTTP/1.1 99 OK\r\n\r\n",
            "garbage\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(parse(bad, false).is_err(), "{bad:?}");
        }
    }
}
