//! The head of a request (RFC 9112 3), held to the strict reading wherever the standard leaves a choice.

use super::body::{self, Framing};
use super::field_lines;
use super::fields::{Fields, Name, Position, list};
use super::start_line::RequestLine;
use crate::model::url::is_authority;
use std::ops::Range;
use std::str;

pub use super::head_end::HeadEnd;

/// Bounds on a head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest head in bytes, request line and the empty line included.
    pub bytes: usize,
    /// Most header fields; at most [`MAX_FIELDS`] count.
    pub fields: usize,
}

/// The most header fields a head may have whatever the configuration says.
pub const MAX_FIELDS: usize = 256;

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not HTTP, or ambiguous; the text says what.
    #[error("{0}")]
    Malformed(&'static str),
    /// More bytes than [`Limits::bytes`].
    #[error("the head is longer than allowed")]
    TooLong,
    /// More fields than [`Limits::fields`].
    #[error("the head has more fields than allowed")]
    TooManyFields,
    /// CONNECT and TRACE are not for this server.
    #[error("the method is not allowed")]
    Method,
    /// An `Expect` other than `100-continue`.
    #[error("the expectation is unknown")]
    Expectation,
}

use HeadError::Malformed;

/// The host and path a request is for.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method, case-sensitive.
    pub method: &'a str,
    /// Path and query as sent; begins with `/`.
    pub target: &'a str,
    /// `host[:port]` as sent; empty only for HTTP/1.0 without a Host field.
    pub authority: &'a str,
    /// Whether the client speaks HTTP/1.1 (else 1.0).
    pub http11: bool,
    /// Whether the client wants to use the connection again.
    pub keep_alive: bool,
    /// How the body is framed.
    pub framing: Framing,
    /// The protocol asked for, when `Connection: upgrade` names it (RFC 9110 7.8).
    pub upgrade: Option<&'a str>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The header fields.
    pub fields: Fields<'a>,
}

impl<'a> Head<'a> {
    /// Parses one complete head. `positions` is scratch space that lives as long as the head.
    ///
    /// # Errors
    /// [`HeadError`]: everything that two servers might read differently is refused.
    pub fn parse(head: &'a [u8], positions: &'a mut Vec<Position>, limits: Limits) -> Result<Self, HeadError> {
        let RequestLine { method, target, is_encoded, http11, end } = RequestLine::parse(head)?;
        let kinds = field_lines::parse(head, end, positions, limits.fields.min(MAX_FIELDS))?;
        let fields = Fields::new(head, positions, kinds);
        if matches!(method, "CONNECT" | "TRACE") {
            return Err(HeadError::Method);
        }
        let (target, host) = texts(head, target, fields)?;
        let host = checked_host(host, http11)?;
        if !is_encoded {
            return Err(Malformed("the target holds a character that must be encoded"));
        }
        let (target, authority) = split_target(target, host)?;
        let options = ConnectionOptions::of(fields)?;
        if fields.single(Name::Authorization).is_err() {
            return Err(Malformed("more than one Authorization field"));
        }
        let framing = request_framing(fields, http11)?;
        let upgrade = upgrade(fields, options, http11)?;
        if upgrade.is_some() && framing != Framing::Empty {
            return Err(Malformed("a request to upgrade must not have a body"));
        }
        let keep_alive = !options.close && (http11 || options.keep_alive);
        let expects_continue = expectation(fields, http11)? && framing != Framing::Empty;
        Ok(Self { method, target, authority, http11, keep_alive, framing, upgrade, expects_continue, fields })
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &'a str {
        &self.target[..self.path_end()]
    }

    /// The query without its question mark; empty when there is none.
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.target.get(self.path_end() + 1..).unwrap_or("")
    }

    fn path_end(&self) -> usize {
        memchr::memchr(b'?', self.target.as_bytes()).unwrap_or(self.target.len())
    }

    /// Whether repeating the request does no harm (RFC 9110 9.2.2) and nothing of a body would be lost.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.framing == Framing::Empty
            && matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "PROPFIND" | "REPORT")
    }

    /// Whether the client takes trailers behind an answer (RFC 9110 10.1.4). Without chunks there is no place for them.
    #[must_use]
    pub fn takes_trailers(&self) -> bool {
        self.http11 && self.fields.all(Name::Te).flat_map(list).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    }

    /// Whether the method only reads (RFC 9110 9.2.1).
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS")
    }
}

/// The target and the Host field as text.
///
/// Nearly always Host comes first, and then both are cut out of one text: what it costs to prove bytes to be text is mostly
/// what it costs to begin.
fn texts<'a>(
    head: &'a [u8],
    target: Range<usize>,
    fields: Fields<'a>,
) -> Result<(&'a str, Option<&'a str>), HeadError> {
    let Ok(host) = fields.single_range(Name::Host) else {
        return Err(Malformed("more than one Host field"));
    };
    let end = host.as_ref().map_or(target.end, |host| host.end);
    if let Ok(text) = str::from_utf8(&head[target.start..end]) {
        let cut = |range: Range<usize>| &text[range.start - target.start..range.end - target.start];
        return Ok((cut(target.clone()), host.map(cut)));
    }
    let not_host = |_| Malformed("the Host field is not a host");
    let host = host.map(|host| str::from_utf8(&head[host]).map_err(not_host)).transpose()?;
    let target = str::from_utf8(&head[target]).map_err(|_| Malformed("the request line is malformed"))?;
    Ok((target, host))
}

/// The one Host field (RFC 9112 3.2).
fn checked_host(host: Option<&str>, http11: bool) -> Result<&str, HeadError> {
    match host {
        Some(host) if is_authority(host) => Ok(host),
        Some(_) => Err(Malformed("the Host field is not a host")),
        None if http11 => Err(Malformed("no Host field")),
        None => Ok(""),
    }
}

/// Path and authority of a request target in origin or absolute form (RFC 9112 3.2).
fn split_target<'a>(target: &'a str, host: &'a str) -> Result<(&'a str, &'a str), HeadError> {
    if target.starts_with('/') {
        return Ok((target, host));
    }
    let rest = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => rest,
        _ => return Err(Malformed("the target is neither a path nor an absolute URL")),
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    if !authority.eq_ignore_ascii_case(host) {
        return Err(Malformed("the target names another host than the Host field"));
    }
    Ok((path, host))
}

/// What the Connection fields ask for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

/// More connection options than anybody needs. Each field of the head is compared with each of them.
const MAX_CONNECTION_OPTIONS: usize = 32;

impl ConnectionOptions {
    #[inline]
    pub(super) fn of(fields: Fields<'_>) -> Result<Self, HeadError> {
        if fields.has(Name::Connection) { Self::of_present(fields) } else { Ok(Self::default()) }
    }

    fn of_present(fields: Fields<'_>) -> Result<Self, HeadError> {
        let mut options = Self::default();
        for (count, option) in fields.all(Name::Connection).flat_map(list).enumerate() {
            if count == MAX_CONNECTION_OPTIONS {
                return Err(Malformed("too many connection options"));
            }
            options.close |= option.eq_ignore_ascii_case(b"close");
            options.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            options.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(options)
    }
}

/// How the body of a request is framed (RFC 9112 6.3). Both framings at once are refused, as is any coding but `chunked`.
fn request_framing(fields: Fields<'_>, http11: bool) -> Result<Framing, HeadError> {
    if !fields.has(Name::ContentLength) && !fields.has(Name::TransferEncoding) {
        return Ok(Framing::Empty);
    }
    let length = body::content_length(fields).map_err(Malformed)?;
    match fields.single(Name::TransferEncoding) {
        Err(_) => Err(Malformed("more than one Transfer-Encoding field")),
        Ok(None) => Ok(match length {
            None | Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
        }),
        Ok(Some(_)) if length.is_some() => Err(Malformed("both Content-Length and Transfer-Encoding")),
        Ok(Some(_)) if !http11 => Err(Malformed("Transfer-Encoding in HTTP/1.0")),
        Ok(Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        Ok(Some(_)) => Err(Malformed("a Transfer-Encoding other than chunked")),
    }
}

/// The protocol a client asks to change to; one protocol, in HTTP/1.1, and named in `Connection`.
fn upgrade(fields: Fields<'_>, options: ConnectionOptions, http11: bool) -> Result<Option<&str>, HeadError> {
    if !options.upgrade || !http11 {
        return Ok(None);
    }
    match fields.single(Name::Upgrade) {
        Err(_) => Err(Malformed("more than one Upgrade field")),
        Ok(None) => Ok(None),
        Ok(Some(value)) => str::from_utf8(value).map(Some).map_err(|_| Malformed("the Upgrade field is not a token")),
    }
}

fn expectation(fields: Fields<'_>, http11: bool) -> Result<bool, HeadError> {
    match fields.first(Name::Expect) {
        // A 1.0 client cannot be sent an interim answer (RFC 9110 10.1.1).
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(http11),
        Some(_) => Err(HeadError::Expectation),
    }
}

#[cfg(test)]
mod tests;
