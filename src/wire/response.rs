//! The head of an answer (RFC 9112 4), as strict towards upstreams as towards clients.

use super::body::{self, Framing};
use super::field_lines;
use super::fields::{Fields, Name, Position};
use super::request::{ConnectionOptions, HeadError, Limits, MAX_FIELDS};
use super::start_line::StatusLine;

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
        let StatusLine { http11, status, reason, end } = StatusLine::parse(head)?;
        let kinds = field_lines::parse(head, end, positions, limits.fields.min(MAX_FIELDS))?;
        if status < 100 {
            return Err(Malformed("the status code is below 100"));
        }
        let fields = Fields::new(head, positions, kinds);
        let options = ConnectionOptions::of(fields)?;
        let framing = response_framing(fields, status, http11, to_head)?;
        let keep_alive = !options.close && (http11 || options.keep_alive) && framing != Framing::UntilClose;
        Ok(Self { status, reason, framing, keep_alive, fields })
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
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "HTTP/1.1 200 OK\n\r\n",
            "HTTP/1.1 200OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1\t200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
        ] {
            assert!(matches!(parse(bad, false), Err(Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn reasons_are_text_or_nothing() {
        for (line, reason) in [
            ("HTTP/1.1 200 OK", "OK"),
            ("HTTP/1.1 200", ""),
            ("HTTP/1.1 200 ", ""),
            ("HTTP/1.1 200  a\tb ", " a\tb "),
            ("HTTP/1.1 200 caf\u{e9}", ""),
        ] {
            let (text, mut positions) = (format!("{line}\r\n\r\n"), Vec::new());
            assert_eq!(Head::parse(text.as_bytes(), &mut positions, LIMITS, false).unwrap().reason, reason, "{line:?}");
        }
    }
}
