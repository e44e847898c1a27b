//! A small HTTP client: one request on one connection, and the whole answer.

use super::PATIENCE;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header field, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The `reason` of the problem document that the gateway refuses requests with; empty for any other answer.
    pub(crate) fn reason(&self) -> String {
        if self.header("content-type") != Some("application/problem+json") {
            return String::new();
        }
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        problem["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and reason together: what tests compare.
    pub(crate) fn verdict(&self) -> (u16, String) {
        (self.status, self.reason())
    }
}

/// A GET for a path of the public host, with a session as bearer unless it is empty.
pub(crate) fn get(path: &str, session: &str) -> Request<Full<Bytes>> {
    request("GET", path, session, "")
}

/// A request for a path of the public host.
pub(crate) fn request(method: &str, path: &str, session: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    if !session.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {session}"));
    }
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("tests write valid requests")
}

/// Sends a request and reads the answer to its end.
///
/// # Errors
/// Also when that takes longer than [`PATIENCE`].
pub(crate) async fn ask(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer> {
    let what = format!("{} {} to {to}", request.method(), request.uri());
    let answered = timeout(PATIENCE, exchange(to, request)).await;
    answered.with_context(|| format!("{what}: no answer in {PATIENCE:?}"))?.with_context(|| what)
}

async fn exchange(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer> {
    let tcp = TcpStream::connect(to).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
    // It ends with the answer; what goes wrong shows there.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}
