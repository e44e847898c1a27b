use super::*;
use crate::wire::request::{Head, Limits};

const LIMITS: Limits = Limits { bytes: 4096, fields: 50 };
const TERMS: Terms = Terms { bytes: LIMITS.bytes, connects: true };

const PROPER: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "x.example"), (":path", "/p?q=1")];

fn written(fields: &[(&str, &str)], ended: bool, terms: Terms) -> Result<(String, Asked), Refusal> {
    let mut writer = Writer::new(terms, Vec::new(), Vec::new());
    for (name, value) in fields {
        writer.take(Field::new(name.as_bytes(), value.as_bytes()));
    }
    let asked = writer.finish(ended, || [1; 16])?;
    let (head, _) = writer.into_parts();
    Head::parse(&head, &mut Vec::new(), LIMITS)?;
    Ok((String::from_utf8(head).unwrap(), asked))
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&PROPER[..], more].concat()
}

/// A proper request with one pseudo-header field changed.
fn changed<'a>(name: &str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    PROPER.iter().map(|(known, old)| (*known, if *known == name { value } else { *old })).collect()
}

#[test]
fn a_request_becomes_a_head_that_the_one_parser_takes() {
    let fields = [("cookie", "a=b"), ("x-a", "1"), ("cookie", "c=d; e=f"), ("te", "trailers"), ("x-a", "2")];
    let (head, asked) = written(&with(&fields), true, TERMS).unwrap();
    let expected = "GET /p?q=1 HTTP/1.1\r\nHost: x.example\r\nx-a: 1\r\nte: trailers\r\nx-a: 2\r\n\
                    Cookie: a=b; c=d; e=f\r\nConnection: close\r\n\r\n";
    assert_eq!((&*head, asked.content, asked.to_head), (expected, Content::None, false));
    let (head, asked) = written(&changed(":method", "HEAD"), true, TERMS).unwrap();
    assert_eq!(head, "HEAD /p?q=1 HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n");
    assert!(asked.to_head);
}

#[test]
fn bodies_are_framed_by_what_is_known_of_them() {
    let framed = |fields: &[(&str, &str)], ended| written(&with(fields), ended, TERMS);
    let (head, asked) = framed(&[("content-length", "5")], false).unwrap();
    assert!(head.contains("content-length: 5\r\n") && asked.content == Content::Length(5), "{head}");
    let (head, asked) = framed(&[], false).unwrap();
    assert!(head.contains("Transfer-Encoding: chunked\r\n") && asked.content == Content::Chunks, "{head}");
    let (head, asked) = framed(&[("content-length", "0")], true).unwrap();
    assert!(head.contains("content-length: 0\r\n") && asked.content == Content::None, "{head}");
    for (length, ended) in [("5", true), ("", false), ("+5", false), ("5 5", false), ("18446744073709551616", false)] {
        assert_eq!(framed(&[("content-length", length)], ended).unwrap_err(), Refusal::Malformed, "{length}");
    }
}

#[test]
fn a_websocket_becomes_an_upgrade() {
    let protocol =
        |protocol| [(":protocol", protocol), ("sec-websocket-version", "13"), ("sec-websocket-key", "theirs")];
    let fields = |name| [&changed(":method", "CONNECT")[..], &protocol(name)].concat();
    let (head, asked) = written(&fields("websocket"), false, TERMS).unwrap();
    assert!(head.starts_with("GET /p?q=1 HTTP/1.1\r\nHost: x.example\r\nsec-websocket-version: 13\r\n"), "{head}");
    assert!(head.contains("Connection: Upgrade, close\r\nUpgrade: websocket\r\n"), "{head}");
    assert!(head.contains("Sec-WebSocket-Key: AQEBAQEBAQEBAQEBAQEBAQ==\r\n") && !head.contains("theirs"), "{head}");
    assert_eq!(asked.content, Content::Tunnel);
    let refused = |fields: &[_], terms| written(fields, false, terms).unwrap_err();
    assert_eq!(refused(&fields("connect-udp"), TERMS), Refusal::Head(HeadError::Method));
    assert_eq!(refused(&changed(":method", "CONNECT"), TERMS), Refusal::Head(HeadError::Method));
    assert_eq!(refused(&with(&protocol("websocket")), TERMS), Refusal::Malformed);
    assert_eq!(refused(&fields("websocket"), Terms { connects: false, ..TERMS }), Refusal::Malformed);
}

#[test]
fn what_is_malformed_is_told_from_what_is_answered() {
    for fields in [
        with(&[(":path", "/")]),
        with(&[("x-a", "b"), (":protocol", "websocket")]),
        with(&[(":status", "200")]),
        with(&[("X-Upper", "1")]),
        with(&[("", "1")]),
        with(&[("x-a", "b\r\nx-b: c")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("keep-alive", "5")]),
        with(&[("proxy-connection", "close")]),
        with(&[("te", "gzip")]),
        changed(":method", ""),
        changed(":method", "G T"),
        changed(":scheme", "ht tp"),
        changed(":scheme", ""),
        changed(":path", ""),
        changed(":path", "/\r\n"),
        PROPER[1..].to_vec(),
        PROPER[..3].to_vec(),
    ] {
        assert_eq!(written(&fields, true, TERMS).unwrap_err(), Refusal::Malformed, "{fields:?}");
    }
    for fields in [
        with(&[("host", "y.example")]),
        with(&[("host", "x.example"), ("host", "x.example")]),
        with(&[("x-a", " padded")]),
        with(&[("content-length", "0"), ("content-length", "00"), ("authorization", "a"), ("authorization", "b")]),
        changed(":authority", "user@x.example"),
        changed(":authority", ""),
        changed(":authority", " x.example"),
        changed(":path", "*"),
        changed(":path", "relative"),
        changed(":path", "/a b"),
        changed(":path", "/a#b"),
        changed(":path", "/\u{e9}"),
        changed(":path", "http://other.example/"),
        [&PROPER[..2], &PROPER[3..]].concat(),
    ] {
        let refused = written(&fields, true, TERMS).unwrap_err();
        assert!(matches!(refused, Refusal::Head(Malformed(_))), "{fields:?}: {refused:?}");
    }
    assert!(written(&with(&[("host", "X.example")]), true, TERMS).is_ok());
    let host = [&PROPER[..2], &PROPER[3..], &[("x-a", "1"), ("host", "y.example")]].concat();
    assert!(written(&host, true, TERMS).unwrap().0.contains("\r\nHost: y.example\r\n"));
}

#[test]
fn heads_are_bounded() {
    let (long, many) = ("x".repeat(4096), vec![("a", ""); 130]);
    for fields in [&[("x-a", &*long)][..], &many] {
        assert_eq!(written(&with(fields), true, TERMS).unwrap_err(), Refusal::Head(HeadError::TooLong));
    }
    let few = vec![("a", ""); 51];
    assert_eq!(written(&with(&few), true, TERMS).unwrap_err(), Refusal::Head(HeadError::TooManyFields));
    // Cookies and the request line count as well.
    let crumbs = vec![("cookie", "a"); 90];
    assert!(written(&with(&crumbs), true, TERMS).is_ok());
}

#[test]
fn trailers_end_a_body() {
    let end = |fields: &[(&str, &str)]| {
        let mut trailers = Trailers::new(200);
        for (name, value) in fields {
            trailers.take(Field::new(name.as_bytes(), value.as_bytes()));
        }
        trailers.finish().map(|end| String::from_utf8(end).unwrap())
    };
    assert_eq!(end(&[]).unwrap(), "0\r\n\r\n");
    assert_eq!(end(&[("x-sum", "1"), ("x-b", "")]).unwrap(), "0\r\nx-sum: 1\r\nx-b: \r\n\r\n");
    let long = "x".repeat(200);
    for bad in [(":path", "/"), ("X-A", "1"), ("connection", "close"), ("x-a", " 1"), ("x-a", "\n"), ("x-a", &long)] {
        assert_eq!(end(&[("x-sum", "1"), bad]), None, "{bad:?}");
    }
}
