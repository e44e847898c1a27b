use super::*;
use crate::wire::request::{Head, Limits};
use http::Request;

const LIMITS: Limits = Limits { bytes: 4096, fields: 50 };

fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
    let request = Request::builder().method(method).uri(uri);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

fn text(parts: &Parts, ended: bool) -> Result<(String, Content), HeadError> {
    let asked = request(parts, ended, [1; 16])?;
    Head::parse(&asked.head, &mut Vec::new(), LIMITS)?;
    Ok((String::from_utf8(asked.head).unwrap(), asked.content))
}

#[test]
fn a_request_becomes_a_head_that_the_one_parser_takes() {
    let fields = [("cookie", "a=b"), ("x-a", "1"), ("cookie", "c=d; e=f"), ("te", "trailers"), ("x-a", "2")];
    let (head, content) = text(&parts("GET", "https://e--acme.example/p?q=1", &fields), true).unwrap();
    let expected = "GET /p?q=1 HTTP/1.1\r\nHost: e--acme.example\r\nx-a: 1\r\nx-a: 2\r\nte: trailers\r\n\
                    Cookie: a=b; c=d; e=f\r\nConnection: close\r\n\r\n";
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.split("\r\n").map(str::to_owned).collect();
        lines[1..].sort();
        lines
    };
    assert_eq!(sorted(&head), sorted(expected));
    assert_eq!(content, Content::None);
}

#[test]
fn bodies_are_framed_by_what_is_known_of_them() {
    let framed = |fields: &[(&str, &str)], ended| text(&parts("POST", "https://x.example/", fields), ended).unwrap();
    let (head, content) = framed(&[("content-length", "5")], false);
    assert!(head.contains("content-length: 5\r\n") && content == Content::Length, "{head}");
    let (head, content) = framed(&[], false);
    assert!(head.contains("Transfer-Encoding: chunked\r\n") && content == Content::Chunks, "{head}");
    let (head, content) = framed(&[("content-length", "0")], true);
    assert!(head.contains("content-length: 0\r\n") && content == Content::None, "{head}");
}

#[test]
fn a_websocket_becomes_an_upgrade() {
    let fields = [("sec-websocket-version", "13"), ("sec-websocket-key", "theirs")];
    let mut parts = parts("CONNECT", "https://x.example/ws", &fields);
    parts.extensions.insert(Protocol::from_static("websocket"));
    let (head, content) = text(&parts, false).unwrap();
    assert!(head.starts_with("GET /ws HTTP/1.1\r\nHost: x.example\r\nsec-websocket-version: 13\r\n"), "{head}");
    assert!(head.contains("Connection: Upgrade, close\r\nUpgrade: websocket\r\n"), "{head}");
    assert!(head.contains("Sec-WebSocket-Key: AQEBAQEBAQEBAQEBAQEBAQ==\r\n") && !head.contains("theirs"), "{head}");
    assert_eq!(content, Content::Tunnel);
    parts.extensions.insert(Protocol::from_static("connect-udp"));
    assert_eq!(text(&parts, false).unwrap_err(), HeadError::Method);
}

/// A method, a URI and fields.
type Odd<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let uri = "https://x.example/";
    let odd: [Odd<'_>; 14] = [
        ("CONNECT", "x.example:443", &[]),
        ("OPTIONS", "*", &[("host", "x.example")]),
        ("GET", "/only", &[]),
        ("GET", uri, &[("host", "y.example")]),
        ("GET", uri, &[("host", "x.example"), ("host", "x.example")]),
        ("GET", "https://user@x.example/", &[]),
        ("GET", "https://x.example/é", &[]),
        ("GET", uri, &[("connection", "close")]),
        ("GET", uri, &[("transfer-encoding", "chunked")]),
        ("GET", uri, &[("upgrade", "websocket")]),
        ("GET", uri, &[("keep-alive", "5")]),
        ("GET", uri, &[("te", "gzip")]),
        ("GET", uri, &[("x-a", " padded")]),
        ("POST", uri, &[("content-length", "5"), ("content-length", "6")]),
    ];
    for (method, uri, fields) in odd {
        assert!(text(&parts(method, uri, fields), true).is_err(), "{method} {uri} {fields:?}");
    }
    assert!(text(&parts("GET", uri, &[("host", "X.example")]), true).is_ok());
    assert!(text(&parts("GET", "/only", &[("host", "x.example")]), true).is_ok());
}

#[test]
fn answers_lose_what_belongs_to_connections() {
    let fields =
        "Connection: close\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-A: 2\r\nDate: now\r\n";
    let text = format!("HTTP/1.1 404 No\r\n{fields}\r\n");
    let mut positions = Vec::new();
    let head = response::Head::parse(text.as_bytes(), &mut positions, LIMITS, false).unwrap();
    let answer = answer(&head, false).unwrap();
    assert_eq!(answer.status(), 404);
    let names: Vec<_> = answer.headers().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-a", "x-a", "date"]);
}

#[test]
fn agreeing_to_a_websocket_is_said_with_200() {
    let text = "HTTP/1.1 101 Go on\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\
                Sec-WebSocket-Protocol: chat\r\n\r\n";
    let mut positions = Vec::new();
    let head = response::Head::parse(text.as_bytes(), &mut positions, LIMITS, false).unwrap();
    let answer = answer(&head, true).unwrap();
    assert_eq!(answer.status(), 200);
    let names: Vec<_> = answer.headers().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["sec-websocket-protocol"]);
}
