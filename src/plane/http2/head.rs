//! Heads between HTTP/2 and HTTP/1.1. A request's fields are held to RFC 9113 8.2 and 8.3 and written as a head that
//! [`crate::wire`] then parses like any other; an answer's head is taken apart again.

use crate::wire::request::HeadError::{self, Malformed};
use crate::wire::response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

/// A request as the request's way reads it.
#[derive(Debug)]
pub(super) struct Asked {
    /// The head in HTTP/1.1.
    pub(super) head: Vec<u8>,
    /// How its DATA goes on.
    pub(super) content: Content,
    pub(super) to_head: bool,
}

/// What the DATA of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// There is none.
    None,
    /// A body of a length that the head tells; the library holds the client to it.
    Length,
    /// A body of a length that nobody knows yet: in chunks.
    Chunks,
    /// The bytes of another protocol (RFC 8441 5).
    Tunnel,
}

/// Fields that belong to a connection of HTTP/1.1 (RFC 9113 8.2.2), in requests and answers.
pub(in crate::plane) const OF_CONNECTIONS: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Writes a request's head. `ended` says that no DATA follows; `key` is for the handshake of a WebSocket.
///
/// # Errors
/// [`HeadError`]: what RFC 9113 calls malformed, and what an HTTP/1.1 server might read differently.
pub(super) fn request(parts: &Parts, ended: bool, key: [u8; 16]) -> Result<Asked, HeadError> {
    let websocket = is_websocket(parts)?;
    let mut head = Vec::with_capacity(1024);
    let method = if websocket { Method::GET.as_str() } else { parts.method.as_str() };
    start(&mut head, method, path(parts)?);
    line(&mut head, b"Host", authority(parts)?)?;
    fields(&mut head, &parts.headers, websocket)?;
    let content = match parts.headers.get(header::CONTENT_LENGTH) {
        _ if websocket => Content::Tunnel,
        _ if ended => Content::None,
        Some(_) => Content::Length,
        None => Content::Chunks,
    };
    // A stream carries one request, so its "connection" ends after it.
    let framing: &[u8] = match content {
        Content::Tunnel => b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n",
        Content::Chunks => b"Connection: close\r\nTransfer-Encoding: chunked\r\n",
        Content::None | Content::Length => b"Connection: close\r\n",
    };
    head.extend_from_slice(framing);
    if websocket {
        line(&mut head, b"Sec-WebSocket-Key", STANDARD.encode(key).as_bytes())?;
    }
    head.extend_from_slice(b"\r\n");
    Ok(Asked { head, content, to_head: parts.method == Method::HEAD })
}

/// Whether a WebSocket is asked for (RFC 8441 4). CONNECT for anything else is refused like in HTTP/1.1.
fn is_websocket(parts: &Parts) -> Result<bool, HeadError> {
    match parts.extensions.get::<Protocol>() {
        Some(protocol) if protocol.as_str().eq_ignore_ascii_case("websocket") => Ok(true),
        Some(_) => Err(HeadError::Method),
        None if parts.method == Method::CONNECT => Err(HeadError::Method),
        None => Ok(false),
    }
}

fn start(head: &mut Vec<u8>, method: &str, path: &str) {
    for part in [method, " ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
}

/// The `:path`: a path and nothing else (RFC 9113 8.3.1), in characters that need no reading.
fn path(parts: &Parts) -> Result<&str, HeadError> {
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        Ok(path)
    } else {
        Err(Malformed(":path is not a path, or holds a character that must be encoded"))
    }
}

/// The one name of the host: `:authority`, or else Host; never two that differ (RFC 9113 8.3.1).
fn authority(parts: &Parts) -> Result<&[u8], HeadError> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Malformed("more than one Host field"));
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Malformed(":authority and Host differ"))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(Malformed("neither :authority nor Host")),
    }
}

fn fields(head: &mut Vec<u8>, fields: &HeaderMap, websocket: bool) -> Result<(), HeadError> {
    for (name, value) in fields {
        if OF_CONNECTIONS.contains(name) {
            return Err(Malformed("a field of HTTP/1.1's connections"));
        }
        if name == header::TE && value != "trailers" {
            return Err(Malformed("TE other than trailers"));
        }
        // Host is written already, the cookies follow together, and the key of a WebSocket is ours.
        if name == header::HOST || name == header::COOKIE || (websocket && name == header::SEC_WEBSOCKET_KEY) {
            continue;
        }
        line(head, name.as_str().as_bytes(), value.as_bytes())?;
    }
    cookies(head, fields)
}

/// Cookies come one by one and go on together (RFC 9113 8.2.3).
fn cookies(head: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), HeadError> {
    let crumbs: Vec<_> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.is_empty() { Ok(()) } else { line(head, b"Cookie", &crumbs.join(&b"; "[..])) }
}

/// Writes a field. Its value must be one that ends where the line does, whatever the library has let through, and have no
/// white space around it (RFC 9113 8.2.1).
pub(in crate::plane) fn line(head: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
    if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
        return Err(Malformed("a field value holds a control character"));
    }
    if value.trim_ascii().len() != value.len() {
        return Err(Malformed("a field value begins or ends with white space"));
    }
    for part in [name, b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
    Ok(())
}

/// What ends a chunked body (RFC 9112 7.1), with these trailers; none when one of them is no field of HTTP/1.1.
pub(in crate::plane) fn last_chunk(trailers: &HeaderMap) -> Option<Vec<u8>> {
    let mut end = b"0\r\n".to_vec();
    for (name, value) in trailers {
        line(&mut end, name.as_str().as_bytes(), value.as_bytes()).ok()?;
    }
    end.extend_from_slice(b"\r\n");
    Some(end)
}

/// An answer's head for HTTP/2; none when it cannot be said there. `tunnel` says that 101 agrees to one.
pub(super) fn answer(head: &response::Head<'_>, tunnel: bool) -> Option<Response<()>> {
    let opened = tunnel && head.status == 101;
    let mut answer = Response::new(());
    // A tunnel is opened by 200 (RFC 8441 5.1).
    *answer.status_mut() = if opened { StatusCode::OK } else { StatusCode::from_u16(head.status).ok()? };
    for field in head.fields.iter() {
        let name = HeaderName::from_bytes(field.name).ok()?;
        if OF_CONNECTIONS.contains(&name) || (opened && name == header::SEC_WEBSOCKET_ACCEPT) {
            continue;
        }
        answer.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(answer)
}

#[cfg(test)]
mod tests;
