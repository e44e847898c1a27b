//! A client for the few HTTP calls that the gateway makes for itself: to issuers of tokens and of keys, and for lists that
//! it tells again in part. One request on a connection of its own, everything about the answer bounded, redirects never
//! followed. Requests of clients never come this way.

use super::dial::{DialError, Dialer, Speech};
use crate::model::url::BaseUrl;
use bytes::Bytes;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::time::Duration;

/// What an answer may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For all of it: name lookup, connection, request and answer.
    pub time: Duration,
    /// Size of the answer's body, in bytes.
    pub answer: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection came about.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// What came back is not HTTP, or it broke off.
    #[error("{0}: {1}")]
    Broken(String, Box<dyn Error + Send + Sync>),
    /// The answer is longer than is read.
    #[error("{0} answered with more than {1} bytes")]
    TooLong(String, usize),
    /// It took too long.
    #[error("{0} did not answer within {1:?}")]
    Timeout(String, Duration),
}

/// Sends a request to the host of `to` and reads the whole answer, whatever its status. The request's URI is its path;
/// `Host` is added here, and `User-Agent` where there is none.
///
/// # Errors
/// [`CallError`]; its text holds nothing of the request.
pub async fn call(
    dialer: &Dialer,
    to: &BaseUrl,
    request: Request<Full<Bytes>>,
    limits: Limits,
) -> Result<Response<Bytes>, CallError> {
    match tokio::time::timeout(limits.time, exchange(dialer, to, request, limits.answer)).await {
        Ok(result) => result,
        Err(_) => Err(CallError::Timeout(to.to_string(), limits.time)),
    }
}

async fn exchange(
    dialer: &Dialer,
    to: &BaseUrl,
    mut request: Request<Full<Bytes>>,
    max: usize,
) -> Result<Response<Bytes>, CallError> {
    let broken = |error: hyper::Error| CallError::Broken(to.to_string(), Box::new(error));
    // An authority is a host name or an address, and a port.
    let host = HeaderValue::from_str(to.authority()).map_err(|e| CallError::Broken(to.to_string(), Box::new(e)))?;
    request.headers_mut().insert(HOST, host);
    let agent = HeaderValue::from_static(concat!("embedgate/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().entry(USER_AGENT).or_insert(agent);
    let io = dialer.dial(to, Speech::Http1).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    let answer = async move { read(to, sender.send_request(request).await.map_err(broken)?, max).await };
    // In one task, so that the connection never outlives the call. What ends the connection early shows in the answer.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        result = &mut answer => result,
        _ = connection => answer.await,
    }
}

async fn read(to: &BaseUrl, response: Response<Incoming>, max: usize) -> Result<Response<Bytes>, CallError> {
    let too_long = || CallError::TooLong(to.to_string(), max);
    let (head, body) = response.into_parts();
    if body.size_hint().lower() > max as u64 {
        return Err(too_long());
    }
    match Limited::new(body, max).collect().await {
        Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_long()),
        Err(error) => Err(CallError::Broken(to.to_string(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that takes one request, answers it with these bytes and then keeps the connection open.
    async fn answers(bytes: impl Into<Vec<u8>>) -> (BaseUrl, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BaseUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let bytes = bytes.into();
        let server = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                seen.push(tcp.read_u8().await.unwrap());
            }
            // Who refuses the answer closes before all of it is written.
            let _ = tcp.write_all(&bytes).await;
            // Until the other side is gone.
            let _ = tcp.read_u8().await;
            String::from_utf8(seen).unwrap()
        });
        (url, server)
    }

    async fn get(url: &BaseUrl, time: Duration) -> Result<Response<Bytes>, CallError> {
        let dialer = Dialer::new(tls::client_config(None).unwrap(), true, Duration::from_secs(60));
        let request = Request::get("/keys?x=1").body(Full::default()).unwrap();
        call(&dialer, url, request, Limits { time, answer: 1000 }).await
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_request_one_answer_and_no_redirect() {
        let (url, server) = answers("HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 2\r\n\r\nhi").await;
        let response = get(&url, LONG).await.unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (302, b"hi".as_ref()));
        let seen = server.await.unwrap();
        assert!(seen.starts_with("GET /keys?x=1 HTTP/1.1\r\n"), "{seen}");
        assert!(seen.contains(&format!("host: {}\r\n", url.authority())) && seen.contains("user-agent: embedgate/"));
    }

    #[tokio::test]
    async fn an_answer_may_end_with_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BaseUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut head = [0; 16];
            tcp.read_exact(&mut head).await.unwrap();
            tcp.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it").await.unwrap();
            tcp.shutdown().await.unwrap();
            let _ = tcp.read_to_end(&mut Vec::new()).await;
        });
        assert_eq!(get(&url, LONG).await.unwrap().body().as_ref(), b"all of it");
    }

    #[tokio::test]
    async fn long_answers_are_refused_before_they_are_read_and_while() {
        let (declared, server) = answers("HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n").await;
        assert!(matches!(get(&declared, LONG).await, Err(CallError::TooLong(_, 1000))));
        server.await.unwrap();
        let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
        let (chunked, server) =
            answers(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}")).await;
        assert!(matches!(get(&chunked, LONG).await, Err(CallError::TooLong(_, 1000))));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn silence_and_nonsense_end() {
        let limit = Duration::from_millis(50);
        for silent in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi"] {
            let (url, server) = answers(silent).await;
            assert!(matches!(get(&url, limit).await, Err(CallError::Timeout(_, took)) if took == limit));
            // The connection ended with the call.
            server.await.unwrap();
        }
        let (url, _server) = answers("SMTP\r\n\r\n").await;
        assert!(matches!(get(&url, LONG).await, Err(CallError::Broken(..))));
    }
}
