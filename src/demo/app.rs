//! The sample data app: a dashboard that shows what the gateway says about the user, and one of each kind of traffic
//! that such apps have, namely JSON, an event stream, a WebSocket and an upload.

use super::{
    State,
    server::{Alive, Reply, Site, full, json_reply, reply, unauthenticated},
    time,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{io::AsyncWriteExt, time::MissedTickBehavior};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        handshake::server::create_response_with_body,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// The dashboard.
const PAGE: &str = include_str!("page.html");
/// What unknown paths get.
const NOT_FOUND: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Not found</title>\
    <style>:root{color-scheme:light dark}body{font:16px system-ui;margin:20vh auto;max-width:26rem;padding:0 1rem}\
    </style><h1>Not found</h1><p>The demo app has no such page.</p></html>";
/// The subprotocol that the echo speaks with clients who offer it.
const ECHO_PROTOCOL: &str = "echo.v1";
/// The largest message that the echo takes.
const MESSAGE_LIMIT: usize = 1024 * 1024;
/// How long a WebSocket client may take to answer our close.
const GOODBYE: Duration = Duration::from_secs(1);

/// The app's listener.
pub(super) struct App {
    state: Arc<State>,
    alive: Alive,
}

impl App {
    pub(super) fn new(state: Arc<State>, alive: Alive) -> Self {
        Self { state, alive }
    }

    /// What the gateway says about the request, and which principal it acts as.
    fn me(&self, org: usize, headers: &HeaderMap) -> Value {
        let said = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let given = &self.state.orgs[org].given;
        json!({
            "user": said("x-forwarded-user"),
            "email": said("x-forwarded-email"),
            "org": said("x-embedgate-org"),
            "request_id": said("x-request-id"),
            "host": said("host"),
            "principal": given.client_id,
            "principal_org": given.id,
            "org_name": given.name,
            "accent": given.accent,
            "session_cookie_seen": session_cookie_seen(headers),
        })
    }

    /// Answers the opening of the echo's WebSocket.
    fn open_echo(&self, mut request: Request<Incoming>) -> Reply {
        let mut reply = match create_response_with_body(&request, || full("")) {
            Ok(reply) => reply,
            Err(error) => {
                // 426 names the version to come back with, as RFC 6455 section 4.4 wants it.
                let mut reply = reply(StatusCode::UPGRADE_REQUIRED, "text/plain", full(error.to_string()));
                let headers = reply.headers_mut();
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                return reply;
            }
        };
        if offers_echo(request.headers()) {
            let protocol = HeaderValue::from_static(ECHO_PROTOCOL);
            reply.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        tokio::spawn(upgrade(hyper::upgrade::on(&mut request), self.alive.clone()));
        reply
    }
}

impl Site for App {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let Some(org) = self.state.caller(request.headers()) else { return unauthenticated() };
        // Hyper leaves out the body of an answer to HEAD.
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        match (request.uri().path(), get) {
            ("/", true) => reply(StatusCode::OK, "text/html; charset=utf-8", full(PAGE)),
            ("/api/me", true) => json_reply(StatusCode::OK, &self.me(org, request.headers())),
            ("/api/sales", true) => {
                let org = &self.state.orgs[org];
                json_reply(StatusCode::OK, &org.sales.series(&org.given.id))
            }
            ("/clock", true) => clock(),
            ("/ws", true) => self.open_echo(request),
            ("/api/echo", false) if request.method() == Method::POST => echo(request),
            _ => reply(StatusCode::NOT_FOUND, "text/html; charset=utf-8", full(NOT_FOUND)),
        }
    }
}

/// Whether anything that looks like the gateway's session came through: a cookie of its name, or one that holds a
/// sealed token, which begins with its version.
fn session_cookie_seen(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::COOKIE).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).any(|pair| {
        let pair = String::from_utf8_lossy(pair).trim().to_ascii_lowercase();
        let (name, value) = pair.split_once('=').unwrap_or((pair.as_str(), ""));
        let name = name.strip_prefix("__host-").or_else(|| name.strip_prefix("__secure-")).unwrap_or(name);
        name.starts_with("embedgate") || value.trim_start_matches([' ', '"']).starts_with("~1.")
    })
}

/// Sends the body back as it comes, under the content type it came with.
fn echo(request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let mut reply = reply(StatusCode::OK, "application/octet-stream", body.boxed_unsync());
    if let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) {
        reply.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    reply
}

/// An event stream with the time, at once and then each second.
fn clock() -> Reply {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    // Ticks missed while the client did not read are of no use to it later.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = stream::unfold((interval, 1_u64), |(mut interval, count)| async move {
        interval.tick().await;
        let data = json!({ "time": time::rfc3339(SystemTime::now()), "count": count });
        let event = Bytes::from(format!("id: {count}\ndata: {data}\n\n"));
        Some((Ok(Frame::data(event)), (interval, count + 1)))
    });
    reply(StatusCode::OK, "text/event-stream", StreamBody::new(events).boxed_unsync())
}

/// Whether the client offers the echo's subprotocol.
fn offers_echo(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|value| value.split(',')).any(|offer| offer.trim() == ECHO_PROTOCOL)
}

/// Waits for the connection to become a WebSocket, and serves it until one side has enough.
async fn upgrade(upgrade: OnUpgrade, mut alive: Alive) {
    let connection = tokio::select! {
        connection = upgrade => connection,
        () = alive.ended() => return,
    };
    let Ok(connection) = connection else { return };
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_LIMIT)).max_frame_size(Some(MESSAGE_LIMIT));
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
    let reason = tokio::select! {
        reason = echo_messages(&mut socket) => reason,
        () = alive.ended() => Some(CloseCode::Away),
    };
    if let Some(code) = reason {
        let _ = tokio::time::timeout(GOODBYE, say_goodbye(&mut socket, code)).await;
    }
}

/// Sends every message back. Ends when the connection has, or with the reason for which we close it.
async fn echo_messages(socket: &mut WebSocketStream<TokioIo<Upgraded>>) -> Option<CloseCode> {
    loop {
        // Pings and the client's close are answered within `next`.
        match socket.next().await? {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).await.ok()?,
            Ok(_) => {}
            Err(Error::Capacity(_)) => return Some(CloseCode::Size),
            Err(Error::Utf8(_)) => return Some(CloseCode::Invalid),
            Err(Error::Protocol(_)) => return Some(CloseCode::Protocol),
            Err(_) => return None,
        }
    }
}

/// Closes, and waits for the client to agree. What it still sends is read to the end, because a connection that is
/// closed with bytes unread is reset, and then the client may never see the reason.
async fn say_goodbye(socket: &mut WebSocketStream<TokioIo<Upgraded>>, code: CloseCode) {
    if socket.close(Some(CloseFrame { code, reason: "".into() })).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
        let connection = socket.get_mut();
        if connection.shutdown().await.is_ok() {
            let _ = tokio::io::copy(connection, &mut tokio::io::sink()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_cookies_are_noticed() {
        let seen = |cookies: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(header::COOKIE, HeaderValue::from_static(cookie));
            }
            session_cookie_seen(&headers)
        };
        assert!(!seen(&[]));
        assert!(!seen(&["theme=dark; token=~2.abc", "sid=1~1.x; flag"]));
        assert!(seen(&["theme=dark; __Host-embedgate_session=abc"]));
        assert!(seen(&["a=b", "Embedgate=x"]));
        assert!(seen(&["sid=~1.abc"]));
        assert!(seen(&["sid=\"~1.abc\""]));
    }

    #[test]
    fn the_page_works_under_a_path_prefix() {
        for absolute in ["href=\"/", "src=", "load(\"/", "EventSource(\"/", "URL(\"/", "http://", "https://", "@import"]
        {
            assert!(!PAGE.contains(absolute), "the page has {absolute}");
        }
        for id in
            ["org", "user", "email", "principal", "clock", "ws-state", "ws-input", "ws-send", "ws-log", "session-safe"]
        {
            assert!(PAGE.contains(&format!("id=\"{id}\"")), "the page has no #{id}");
        }
    }
}
