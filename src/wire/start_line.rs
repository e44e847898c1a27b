//! The first line of a head: the request line (RFC 9112 3) or the status line (RFC 9112 4).

use super::request::HeadError::{self, Malformed};
use super::scan;
use std::ops::Range;
use std::str;

/// A request line.
pub(super) struct RequestLine<'a> {
    /// Any token, case-sensitive.
    pub(super) method: &'a str,
    /// Where the target is, whatever its form. It is not empty, and is UTF-8.
    pub(super) target: Range<usize>,
    /// Whether the target is of visible ASCII without `#`, as it has to be (RFC 3986 2).
    pub(super) is_encoded: bool,
    /// Whether the version is 1.1, else 1.0.
    pub(super) http11: bool,
    /// Where the line after it begins.
    pub(super) end: usize,
}

/// A status line.
pub(super) struct StatusLine<'a> {
    /// Whether the version is 1.1, else 1.0.
    pub(super) http11: bool,
    /// Three digits.
    pub(super) status: u16,
    /// The reason phrase; empty when it is not ASCII.
    pub(super) reason: &'a str,
    /// Where the line after it begins.
    pub(super) end: usize,
}

const BAD_REQUEST_LINE: HeadError = Malformed("the request line is malformed");
const BAD_STATUS_LINE: HeadError = Malformed("the head is not HTTP");

impl<'a> RequestLine<'a> {
    /// Reads the request line at the beginning of `head`. Exactly one space stands between its parts (RFC 9112 3).
    pub(super) fn parse(head: &'a [u8]) -> Result<Self, HeadError> {
        let mut begin = 0;
        // Empty lines before the request line are skipped (RFC 9112 2.2).
        while head[begin..].starts_with(b"\r\n") {
            begin += 2;
        }
        let space = scan::token_end(head, begin);
        if space == begin || head.get(space) != Some(&b' ') {
            return Err(BAD_REQUEST_LINE);
        }
        let (target, is_encoded) = target(head, space + 1)?;
        let version = target.end + 1;
        let http11 = version_of_request(&head[version..])?;
        Ok(Self { method: method(&head[begin..space])?, target, is_encoded, http11, end: version + VERSION + 2 })
    }
}

/// A method as text; for the usual ones that is known already.
fn method(token: &[u8]) -> Result<&str, HeadError> {
    match token {
        b"GET" => Ok("GET"),
        b"POST" => Ok("POST"),
        b"HEAD" => Ok("HEAD"),
        b"OPTIONS" => Ok("OPTIONS"),
        other => str::from_utf8(other).map_err(|_| BAD_REQUEST_LINE),
    }
}

/// The target that begins at `from` and ends before a space, and whether it is of the characters that may stand in one.
/// Another one is refused only once the rest of the head is known to be good, so that the first fault is the one that is told.
fn target(head: &[u8], from: usize) -> Result<(Range<usize>, bool), HeadError> {
    let mut end = scan::target_end(head, from);
    let is_encoded = head.get(end) == Some(&b' ');
    while head.get(end).is_some_and(|byte| scan::is_text(*byte) && !matches!(byte, b' ' | b'\t')) {
        end += 1;
    }
    let is_text = is_encoded || str::from_utf8(&head[from..end]).is_ok();
    if end == from || head.get(end) != Some(&b' ') || !is_text {
        return Err(BAD_REQUEST_LINE);
    }
    Ok((from..end, is_encoded))
}

/// The length of `HTTP/1.1`.
const VERSION: usize = 8;

/// Whether a request line that ends with `rest` is of HTTP/1.1. The name is case-sensitive (RFC 9112 2.3).
fn version_of_request(rest: &[u8]) -> Result<bool, HeadError> {
    let http11 = rest.starts_with(b"HTTP/1.1");
    if !http11 && !rest.starts_with(b"HTTP/1.0") {
        return Err(Malformed("the version is not HTTP/1.0 or HTTP/1.1"));
    }
    if rest[VERSION..].starts_with(b"\r\n") { Ok(http11) } else { Err(BAD_REQUEST_LINE) }
}

impl<'a> StatusLine<'a> {
    /// Reads the status line with which `head` begins. The space before an empty reason phrase may be missing: RFC 9112 4
    /// demands it, and many apps leave it out.
    pub(super) fn parse(head: &'a [u8]) -> Result<Self, HeadError> {
        let http11 = head.starts_with(b"HTTP/1.1 ");
        if !http11 && !head.starts_with(b"HTTP/1.0 ") {
            let has_name = head.starts_with(b"HTTP/");
            return Err(if has_name { BAD_STATUS_LINE } else { Malformed("the head does not begin with the version") });
        }
        let status = status(&head[VERSION + 1..])?;
        let after = VERSION + 4;
        let begin = if head.get(after) == Some(&b' ') { after + 1 } else { after };
        let end = if begin > after { scan::text_end(head, begin) } else { after };
        if !head[end..].starts_with(b"\r\n") {
            return Err(BAD_STATUS_LINE);
        }
        Ok(Self { http11, status, reason: reason(&head[begin..end]), end: end + 2 })
    }
}

/// Three digits (RFC 9112 4).
fn status(digits: &[u8]) -> Result<u16, HeadError> {
    match digits.first_chunk::<3>() {
        Some(digits) if digits.iter().all(u8::is_ascii_digit) => {
            Ok(digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
        }
        _ => Err(BAD_STATUS_LINE),
    }
}

/// A reason phrase as text, for the most usual one known already. Nobody has to read it (RFC 9112 4), so one that is not
/// ASCII is left out.
fn reason(phrase: &[u8]) -> &str {
    match phrase {
        b"OK" => "OK",
        other if other.is_ascii() => str::from_utf8(other).unwrap_or(""),
        _ => "",
    }
}
