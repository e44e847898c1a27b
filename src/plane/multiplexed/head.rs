//! Heads between the way of a request, which writes and reads HTTP/1.1, and a stream of HTTP/2 to an upstream. What is sent
//! was written by [`crate::plane::headers`] a moment ago, so it is taken apart and not judged again; what comes is written
//! as a head that [`crate::wire`] then judges like any other.

use crate::wire::body::Framing;
use crate::wire::http2::field::{Field, Kind, Text};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

/// A request for HTTP/2.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request<()>,
    /// How its body is framed in what follows the head.
    pub(super) framing: Framing,
}

/// Takes a request's head apart; none when HTTP/2, or the library, has no way to say it.
pub(super) fn request(head: &[u8], scheme: &str) -> Option<Asked> {
    let head = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = memchr::memmem::find_iter(head, b"\r\n").chain([head.len()]);
    let mut from = lines.next()?;
    let (method, target) = start(&head[..from])?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.version_mut() = Version::HTTP_2;
    let (mut authority, mut framing) = (None, Framing::Empty);
    for to in lines {
        let line = &head[from + 2..to];
        from = to;
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (HeaderName::from_bytes(&line[..colon]).ok()?, line[colon + 1..].trim_ascii());
        if name == HOST {
            authority = Some(value);
        } else if name == http::header::TRANSFER_ENCODING {
            framing = Framing::Chunked;
        } else if Kind::of(name.as_str().as_bytes()) != Kind::OfConnections {
            if name == CONTENT_LENGTH {
                framing = Framing::Length(std::str::from_utf8(value).ok()?.parse().ok()?);
            }
            let mut value = HeaderValue::from_bytes(value).ok()?;
            // Kept out of the compression's tables (RFC 7541 7.1.3).
            value.set_sensitive(name == AUTHORIZATION || name == COOKIE);
            request.headers_mut().append(name, value);
        }
    }
    *request.uri_mut() = Uri::builder().scheme(scheme).authority(authority?).path_and_query(target).build().ok()?;
    Some(Asked { request, framing })
}

fn start(line: &[u8]) -> Option<(Method, &[u8])> {
    let line = line.strip_suffix(b" HTTP/1.1")?;
    let space = memchr::memchr(b' ', line)?;
    Some((Method::from_bytes(&line[..space]).ok()?, &line[space + 1..]))
}

/// How the body of an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none, or none that anybody reads.
    None,
    /// Of the length that the head tells; the library holds the upstream to it.
    Plain,
    /// In chunks, for its length is not known.
    Chunks,
}

/// Writes an answer's head; none when a field of it is none for HTTP/1.1. `ended` says that nothing follows it, `to_head`
/// that the request was one whose answers have no body.
pub(super) fn answer(answer: &Response<()>, ended: bool, to_head: bool, out: &mut Vec<u8>) -> Option<Body> {
    let status = answer.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" \r\n");
    fields(answer.headers(), out)?;
    let has_no_body =
        to_head || status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let body = if has_no_body {
        Body::None
    } else if answer.headers().contains_key(CONTENT_LENGTH) {
        Body::Plain
    } else if ended {
        out.extend_from_slice(b"Content-Length: 0\r\n");
        Body::None
    } else {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        Body::Chunks
    };
    out.extend_from_slice(b"\r\n");
    Some(body)
}

fn fields(fields: &HeaderMap, out: &mut Vec<u8>) -> Option<()> {
    for (name, value) in fields {
        let field = Field::new(name.as_str().as_bytes(), value.as_bytes());
        // Malformed (RFC 9113 8.2.2), and would be read as something about this connection; so would a value that does not
        // end where the line does, whatever the library has let through.
        if field.kind == Kind::OfConnections || field.text != Text::Plain {
            return None;
        }
        field.write(out);
    }
    Some(())
}

/// What ends a chunked body (RFC 9112 7.1), with these trailers; none when one of them is no field of HTTP/1.1.
pub(super) fn last_chunk(trailers: &HeaderMap) -> Option<Vec<u8>> {
    let mut end = b"0\r\n".to_vec();
    fields(trailers, &mut end)?;
    end.extend_from_slice(b"\r\n");
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_everything_but_what_concerns_a_connection() {
        let head = b"POST /a?b=%20|c HTTP/1.1\r\nHost: app.example.com:8443\r\nX-A: 1\r\nx-a: 2\r\nAuthorization: Bearer t\r\n\
            Content-Length: 5\r\nConnection: TE\r\nTE: trailers\r\nEmpty: \r\n\r\n";
        let asked = request(head, "https").unwrap();
        let (request_head, framing) = (asked.request, asked.framing);
        assert_eq!(request_head.method(), Method::POST);
        assert_eq!(request_head.uri(), "https://app.example.com:8443/a?b=%20|c");
        assert_eq!(framing, Framing::Length(5));
        let fields: Vec<_> =
            request_head.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let expected = [
            ("x-a", "1"),
            ("x-a", "2"),
            ("authorization", "Bearer t"),
            ("content-length", "5"),
            ("te", "trailers"),
            ("empty", ""),
        ];
        assert_eq!(fields, expected);
        assert!(request_head.headers()[AUTHORIZATION].is_sensitive());

        let chunked = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let asked = request(chunked, "http").unwrap();
        assert_eq!((asked.request.headers().len(), asked.framing), (0, Framing::Chunked));
        assert_eq!(request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http").unwrap().framing, Framing::Empty);
        for unsayable in ["GET /a`b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n"] {
            assert!(request(unsayable.as_bytes(), "http").is_none(), "{unsayable:?}");
        }
    }

    #[test]
    fn an_answer_is_framed_as_it_came() {
        let written = |answer: http::response::Builder, ended, to_head| {
            let mut out = Vec::new();
            let body = super::answer(&answer.body(()).unwrap(), ended, to_head, &mut out)?;
            Some((String::from_utf8(out).unwrap(), body))
        };
        let ok = || Response::builder().status(200);
        let cases = [
            (ok().header("content-length", 3), false, false, "content-length: 3\r\n", Body::Plain),
            (ok(), false, false, "Transfer-Encoding: chunked\r\n", Body::Chunks),
            (ok().header("grpc-status", 5), true, false, "grpc-status: 5\r\nContent-Length: 0\r\n", Body::None),
            (ok().header("content-length", 3), true, true, "content-length: 3\r\n", Body::None),
            (ok(), true, true, "", Body::None),
        ];
        for (answer, ended, to_head, fields, body) in cases {
            let expected = (format!("HTTP/1.1 200 \r\n{fields}\r\n"), body);
            assert_eq!(written(answer, ended, to_head), Some(expected));
        }
        let none = Response::builder().status(204).header("a", "b");
        assert_eq!(written(none, true, false), Some(("HTTP/1.1 204 \r\na: b\r\n\r\n".to_owned(), Body::None)));
        assert_eq!(written(ok().header("transfer-encoding", "chunked"), false, false), None);
    }
}
