//! Answers: what was written in HTTP/1.1, said in HTTP/2 (RFC 9113 8.3.2).

use super::hpack::Encoder;
use crate::wire::body::Framing;
use crate::wire::fields::{Fields, Name};

/// The head of an answer, as far as it is not said with its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Status code, 100 to 999, as HTTP/1.1 has it.
    pub status: u16,
    /// How the body is framed in what follows the head.
    pub framing: Framing,
}

impl Head {
    /// Whether a final answer is still to come (RFC 9110 15.2); 101 is final for HTTP.
    #[must_use]
    pub fn is_interim(self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// What answers may be to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// A request whose answer may have a body.
    Any,
    /// HEAD.
    Head,
    /// A request for a WebSocket. To agree is said with 200 (RFC 8441 5.1).
    Connect,
}

/// Length of `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// Says the head of an answer, which the gateway has written a moment ago: it is taken apart and not judged again. None when
/// it is not one.
pub fn head(encoder: &mut Encoder, out: &mut Vec<u8>, head: &[u8], to: To) -> Option<Head> {
    let status = head.get(STATUS_END - 3..STATUS_END).filter(|status| status.iter().all(u8::is_ascii_digit))?;
    let status = status.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    let opened = to == To::Connect && status == 101;
    encoder.status(out, if opened { 200 } else { status });
    let (mut rest, mut framing) = (after_line(head)?, Framing::UntilClose);
    while !rest.starts_with(b"\r\n") {
        let after = after_line(rest)?;
        let line = rest[..rest.len() - after.len()].strip_suffix(b"\r\n")?;
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (&line[..colon], line[colon..].strip_prefix(b": ")?);
        let mut is_said = true;
        match name.len() {
            // The names that mean something here have these lengths, and most have others.
            7 | 10 | 14 | 16 | 17 | 20 => is_said = take(name, value, opened, &mut framing)?,
            _ => {}
        }
        if is_said {
            encoder.field(out, name, value);
        }
        rest = after;
    }
    if to == To::Head || status < 200 || status == 204 || status == 304 {
        framing = if status == 101 { Framing::UntilClose } else { Framing::Empty };
    }
    Some(Head { status, framing })
}

/// What stands behind the first line.
fn after_line(text: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b'\n', text).map(|end| &text[end + 1..])
}

/// Looks whether a field means something for the framing of the body; whether it is said as well.
fn take(name: &[u8], value: &[u8], opened: bool, framing: &mut Framing) -> Option<bool> {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    if is(b"content-length") {
        *framing = Framing::Length(std::str::from_utf8(value).ok()?.parse().ok()?);
        return Some(true);
    }
    if is(b"transfer-encoding") {
        *framing = Framing::Chunked;
        return Some(false);
    }
    let is_ours = OF_CONNECTIONS.iter().any(|other| is(other)) || (opened && is(b"sec-websocket-accept"));
    Some(!is_ours)
}

/// Further fields that belong to a connection of HTTP/1.1 (RFC 9113 8.2.2).
const OF_CONNECTIONS: [&[u8]; 4] = [b"connection", b"keep-alive", b"proxy-connection", b"upgrade"];

/// Writes the trailers of a body.
pub fn trailers(encoder: &mut Encoder, out: &mut Vec<u8>, fields: Fields<'_>) {
    encoder.begin(out);
    for field in fields.iter() {
        let is_ours = field.kind == Name::TransferEncoding
            || OF_CONNECTIONS.iter().any(|other| field.name.eq_ignore_ascii_case(other));
        if !is_ours {
            encoder.field(out, field.name, field.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http2::hpack::Decoder;

    fn said(text: &str, to: To) -> Option<(Vec<String>, Framing)> {
        let (mut block, mut fields) = (Vec::new(), Vec::new());
        let head = head(&mut Encoder::default(), &mut block, text.as_bytes(), to)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let take = |field: crate::wire::http2::field::Field<'_>| {
            fields.push(format!("{}={}", text(field.name), text(field.value)));
        };
        Decoder::default().decode(&block, &mut Vec::new(), take).unwrap();
        Some((fields, head.framing))
    }

    #[test]
    fn answers_lose_what_belongs_to_connections() {
        let fields =
            "Connection: close\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-A: 2\r\nDate: now\r\n";
        let text = format!("HTTP/1.1 404 No\r\n{fields}Proxy-Authenticate: Basic\r\nEmpty: \r\n\r\n");
        let expected = [":status=404", "x-a=1", "x-a=2", "date=now", "proxy-authenticate=Basic", "empty="];
        assert_eq!(said(&text, To::Any).unwrap(), (expected.map(str::to_owned).to_vec(), Framing::Chunked));
    }

    #[test]
    fn bodies_are_framed_as_the_head_says() {
        for (line, fields, to, framing) in [
            ("200 OK", "Content-Length: 5\r\n", To::Any, Framing::Length(5)),
            ("200 OK", "Content-Length: 5\r\n", To::Head, Framing::Empty),
            ("200 OK", "", To::Any, Framing::UntilClose),
            ("204 No Content", "", To::Any, Framing::Empty),
            ("304 Not Modified", "Content-Length: 5\r\n", To::Any, Framing::Empty),
            ("103 Early Hints", "", To::Any, Framing::Empty),
            ("403 Forbidden", "content-length: 0\r\n", To::Connect, Framing::Length(0)),
        ] {
            let text = format!("HTTP/1.1 {line}\r\n{fields}\r\n");
            assert_eq!(said(&text, to).unwrap().1, framing, "{text}");
        }
    }

    #[test]
    fn agreeing_to_a_websocket_is_said_with_200() {
        let text = "HTTP/1.1 101 Go on\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\
                    Sec-WebSocket-Protocol: chat\r\n\r\n";
        let (fields, framing) = said(text, To::Connect).unwrap();
        assert_eq!(fields, [":status=200", "sec-websocket-protocol=chat"]);
        assert_eq!(framing, Framing::UntilClose);
    }

    #[test]
    fn what_is_no_head_is_not_said() {
        for text in [
            "",
            "HTTP/1.1 2",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nA\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert_eq!(said(text, To::Any), None, "{text:?}");
        }
    }
}
