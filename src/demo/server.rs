//! What both stub servers share: listening, serving HTTP/1.1, reading bounded bodies and building answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// How long a client may take to send its request's head, and again its body where we read it whole.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rest after a failed `accept`: it fails when file descriptors run out, and at once again if asked at once.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The body of every answer. Its error is hyper's because the echo passes a request's body on.
pub(super) type Body = UnsyncBoxBody<Bytes, hyper::Error>;
/// Every answer.
pub(super) type Reply = Response<Body>;

/// Tells a task when the demo has ended. Each task holds one until it is done, which is how [`super::Demo::stop`] knows.
#[derive(Clone)]
pub(super) struct Alive(watch::Receiver<bool>);

impl Alive {
    /// The switch, and what the tasks hold of it.
    pub(super) fn new() -> (watch::Sender<bool>, Self) {
        let (switch, alive) = watch::channel(false);
        (switch, Self(alive))
    }

    /// Waits until the demo is stopped or dropped.
    pub(super) async fn ended(&mut self) {
        // An error says that the switch is gone, which is the same thing.
        let _ = self.0.wait_for(|ended| *ended).await;
    }
}

/// One of the stub servers.
pub(super) trait Site: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// Binds a free loopback port and serves `site` there until `alive` says otherwise.
pub(super) async fn listen<S: Site>(site: S, mut alive: Alive) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let site = Arc::new(site);
    tokio::spawn(async move {
        // Dropping the set ends the connections with the listener.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = alive.ended() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(serve(stream, Arc::clone(&site)))),
                    Err(_) => tokio::time::sleep(ACCEPT_REST).await,
                }
            }
        }
        connections.shutdown().await;
    });
    Ok(address)
}

/// Serves one connection. Its errors concern nobody: the client is gone or does not speak HTTP.
async fn serve<S: Site>(stream: TcpStream, site: Arc<S>) {
    // Small frames travel at once; a failure only costs a delay.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

/// Reads a whole body of at most `limit` bytes; the error is the status to answer.
pub(super) async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, StatusCode> {
    match tokio::time::timeout(PATIENCE, Limited::new(body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// The credentials of the `Authorization` header if there is exactly one and it uses `scheme`.
pub(super) fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (named, rest) = value.split_once(' ')?;
    named.eq_ignore_ascii_case(scheme).then(|| rest.trim_start())
}

/// A complete body.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of the given content type. Nothing of the demo is worth a cache, and nothing is to be sniffed.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// A JSON answer.
pub(super) fn json_reply(status: StatusCode, value: &Value) -> Reply {
    reply(status, "application/json", full(value.to_string()))
}

/// A refusal in the shape of Databricks' REST API.
pub(super) fn api_error(status: StatusCode, code: &str, message: &str) -> Reply {
    json_reply(status, &json!({ "error_code": code, "message": message }))
}

/// The answer to a missing, unknown or expired bearer, on the workspace and on the app alike.
pub(super) fn unauthenticated() -> Reply {
    let status = StatusCode::UNAUTHORIZED;
    let mut reply = api_error(status, "UNAUTHENTICATED", "A valid bearer token is required; it is missing or expired.");
    reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_want_one_header_of_the_scheme() {
        let mut headers = HeaderMap::new();
        assert_eq!(credentials(&headers, "Bearer"), None);
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  abc"));
        assert_eq!(credentials(&headers, "Bearer"), Some("abc"));
        assert_eq!(credentials(&headers, "Basic"), None);
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer def"));
        assert_eq!(credentials(&headers, "Bearer"), None);
    }
}
