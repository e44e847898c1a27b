//! Answers: what was written in HTTP/1.1, said in HTTP/2 (RFC 9113 8.3.2).

use super::hpack::Encoder;
use crate::wire::fields::{Fields, Name};
use crate::wire::response;

/// Writes the fields of an answer. `opened` says that it agrees to a WebSocket, which is said with 200 (RFC 8441 5.1).
pub fn head(encoder: &mut Encoder, out: &mut Vec<u8>, head: &response::Head<'_>, opened: bool) {
    encoder.status(out, if opened { 200 } else { head.status });
    for field in head.fields.iter() {
        let is_ours = is_of_connections(field.kind, field.name)
            || (opened && field.name.eq_ignore_ascii_case(b"sec-websocket-accept"));
        if !is_ours {
            encoder.field(out, field.name, field.value);
        }
    }
}

/// Writes the trailers of a body.
pub fn trailers(encoder: &mut Encoder, out: &mut Vec<u8>, fields: Fields<'_>) {
    encoder.begin(out);
    for field in fields.iter().filter(|field| !is_of_connections(field.kind, field.name)) {
        encoder.field(out, field.name, field.value);
    }
}

/// Whether a field belongs to a connection of HTTP/1.1 (RFC 9113 8.2.2).
fn is_of_connections(kind: Name, name: &[u8]) -> bool {
    match kind {
        Name::Connection | Name::TransferEncoding | Name::Upgrade => true,
        Name::HopByHop => name.eq_ignore_ascii_case(b"keep-alive") || name.eq_ignore_ascii_case(b"proxy-connection"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http2::hpack::Decoder;
    use crate::wire::request::Limits;

    fn said(text: &str, opened: bool) -> Vec<String> {
        let (mut positions, limits) = (Vec::new(), Limits { bytes: 4096, fields: 50 });
        let parsed = response::Head::parse(text.as_bytes(), &mut positions, limits, false).unwrap();
        let (mut block, mut fields) = (Vec::new(), Vec::new());
        head(&mut Encoder::default(), &mut block, &parsed, opened);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let take = |field: crate::wire::http2::field::Field<'_>| {
            fields.push(format!("{}={}", text(field.name), text(field.value)));
        };
        Decoder::default().decode(&block, &mut Vec::new(), take).unwrap();
        fields
    }

    #[test]
    fn answers_lose_what_belongs_to_connections() {
        let fields =
            "Connection: close\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-A: 2\r\nDate: now\r\n";
        let text = format!("HTTP/1.1 404 No\r\n{fields}Proxy-Authenticate: Basic\r\n\r\n");
        assert_eq!(said(&text, false), [":status=404", "x-a=1", "x-a=2", "date=now", "proxy-authenticate=Basic"]);
    }

    #[test]
    fn agreeing_to_a_websocket_is_said_with_200() {
        let text = "HTTP/1.1 101 Go on\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\
                    Sec-WebSocket-Protocol: chat\r\n\r\n";
        assert_eq!(said(text, true), [":status=200", "sec-websocket-protocol=chat"]);
    }
}
