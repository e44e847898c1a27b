//! A field as HTTP/2 has it: what its name means there, and whether its value may be said in HTTP/1.1.

use crate::wire::scan;

/// What a name means for a request (RFC 9113 8.2 and 8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:protocol` (RFC 8441 4).
    Protocol,
    /// Goes on as it is.
    Regular,
    /// The host once more.
    Host,
    /// A part of the cookies.
    Cookie,
    /// How long the body is.
    ContentLength,
    /// Which transfer codings the sender takes; `trailers` or nothing.
    Te,
    /// The key of a WebSocket, which each connection has its own of.
    WebSocketKey,
    /// Belongs to a connection of HTTP/1.1 and does not exist here.
    OfConnections,
    /// Not a name: an upper-case letter, another byte that no token has, or an unknown pseudo-header field.
    Malformed,
}

impl Kind {
    /// What a name means.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b"host" => Self::Host,
            b"cookie" => Self::Cookie,
            b"content-length" => Self::ContentLength,
            b"te" => Self::Te,
            b"sec-websocket-key" => Self::WebSocketKey,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                Self::OfConnections
            }
            _ if name.is_empty() || !name.iter().all(|byte| is_of_name(*byte)) => Self::Malformed,
            _ => Self::Regular,
        }
    }
}

/// Whether a byte may stand in a name: what a token has, in lower case (RFC 9113 8.2.1).
fn is_of_name(byte: u8) -> bool {
    scan::is_token(byte) && !byte.is_ascii_uppercase()
}

/// Whether a value may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// It may.
    Plain,
    /// White space is around it (RFC 9113 8.2.1).
    Padded,
    /// It would end its line, or holds NUL.
    Malformed,
}

impl Text {
    /// What a value is.
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
            Self::Malformed
        } else if value.trim_ascii().len() == value.len() {
            Self::Plain
        } else {
            Self::Padded
        }
    }
}

/// A field, read once: where it stands in the table of a connection, this is kept with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// What its name means.
    pub kind: Kind,
    /// Whether its value may go on.
    pub text: Text,
    /// The name.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// It as a line of HTTP/1.1, where there is one.
    line: Option<&'a [u8]>,
}

/// What stands between name and value, and behind them, in a line (RFC 9112 5).
pub(super) const COLON: &[u8] = b": ";
pub(super) const LINE_END: &[u8] = b"\r\n";

impl<'a> Field<'a> {
    /// A field of this name and value.
    #[must_use]
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        Self { kind: Kind::of(name), text: Text::of(value), name, value, line: None }
    }

    /// A field of which all is known.
    pub(super) fn of_parts(kind: Kind, name: &'a [u8], value: &'a [u8]) -> Self {
        Self { kind, text: Text::Plain, name, value, line: None }
    }

    /// The field in a line of HTTP/1.1, whose name has so many bytes.
    pub(super) fn of_line(line: &'a [u8], name: usize, kind: Kind, text: Text) -> Self {
        let value = &line[name + COLON.len()..line.len() - LINE_END.len()];
        Self { kind, text, name: &line[..name], value, line: Some(line) }
    }

    /// What the field counts in a table and in a list of fields, in bytes (RFC 7541 4.1, RFC 9113 6.5.2).
    #[must_use]
    pub fn size(&self) -> usize {
        self.name.len() + self.value.len() + 32
    }

    /// Writes the field as a line of HTTP/1.1.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        match self.line {
            Some(line) => out.extend_from_slice(line),
            None => write_line(out, self.name, self.value),
        }
    }
}

/// Writes a line of HTTP/1.1.
pub(super) fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + COLON.len() + LINE_END.len());
    for part in [name, COLON, value, LINE_END] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (name, kind) in [
            (":method", Kind::Method),
            (":status", Kind::Malformed),
            (":Method", Kind::Malformed),
            ("", Kind::Malformed),
            ("x a", Kind::Malformed),
            ("x:a", Kind::Malformed),
            ("Host", Kind::Malformed),
            ("h\u{f6}st", Kind::Malformed),
            ("host", Kind::Host),
            ("upgrade", Kind::OfConnections),
            ("x-a_b.c~", Kind::Regular),
        ] {
            assert_eq!(Kind::of(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn values_are_told_apart() {
        for (value, text) in [
            (&b""[..], Text::Plain),
            (b"a\tb \xff", Text::Plain),
            (b" a", Text::Padded),
            (b"a\t", Text::Padded),
            (b" \0", Text::Malformed),
            (b"a\rb", Text::Malformed),
            (b"\n", Text::Malformed),
        ] {
            assert_eq!(Text::of(value), text, "{value:?}");
        }
    }
}
