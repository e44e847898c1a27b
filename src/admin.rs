//! The second listener, for operators and probes: `/healthz`, `/readyz`, `/metrics`, and the admin API below `/upstreams`.
//! Never on the data listener.

mod door;
mod problem;
mod upstreams;

pub use door::{Door, TokenError};

use crate::directory::postgres::Writer;
use crate::plane::Plane;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections served at once; probes and a scraper need a few.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take for its head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const TEXT: &str = "text/plain; charset=utf-8";
/// The content type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the listener tells of.
#[derive(Clone)]
pub struct Admin {
    /// The plane whose state is told.
    pub plane: Arc<Plane>,
    /// Changes states in the database, and asks what the fleet has said there; none without one.
    pub teller: Option<Arc<Writer>>,
    /// Who may use the API.
    pub door: Arc<Door>,
}

impl Admin {
    /// Serves for ever.
    pub async fn serve(self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let Ok((tcp, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let service = service_fn(async |request| Ok::<_, Infallible>(admin.answer(request).await));
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                // An error here is a client that left or talks nonsense; there is nobody to tell.
                let _ = server.serve_connection(TokioIo::new(tcp), service).await;
                drop(permit);
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == "/upstreams" || path.starts_with("/upstreams/") {
            return upstreams::answer(self, request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into());
            answer.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => self.readyz(),
            "/metrics" => text(StatusCode::OK, PROMETHEUS, self.metrics()),
            _ => text(StatusCode::NOT_FOUND, TEXT, "there are /healthz, /readyz, /metrics and /upstreams\n".into()),
        }
    }

    /// Ready once there is a directory, and until the instance leaves. One that cannot be kept current is said, and goes
    /// on serving.
    fn readyz(&self) -> Response<Full<Bytes>> {
        let directory = &self.plane.directory;
        let why = directory.trouble().map(|trouble| format!(": {trouble}"));
        if self.plane.is_leaving() {
            text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".into())
        } else if directory.snapshot().is_none() {
            let why = why.unwrap_or_default();
            text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("the directory has not been loaded yet{why}\n"))
        } else {
            let why = why.map(|why| format!("; the directory is not followed{why}")).unwrap_or_default();
            text(StatusCode::OK, TEXT, format!("ready{why}\n"))
        }
    }

    fn metrics(&self) -> String {
        let metrics = &self.plane.metrics;
        if let Some(age) = self.plane.directory.age_seconds() {
            metrics.directory_age.set(age);
        }
        metrics.log_dropped.absolute(self.plane.log.dropped());
        metrics.render()
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}
