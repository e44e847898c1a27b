//! A front end: a page that starts a session and embeds an app as FireFly's `proxy-iframe.tsx` does, JWTs for its user, and
//! the keys that those are checked with.

use super::apps::free_port;
use super::issuer::{answer, serve_at};
use super::signer::Key;
use super::tls::{Authority, terminate};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const PAGE: &str = include_str!("front/page.html");

/// The user who is signed in at every front end.
pub(crate) const USER: &str = "user-1";

/// A running front end. Dropping it ends it.
pub(crate) struct Front {
    desk: Arc<Desk>,
    port: u16,
    server: JoinSet<()>,
}

struct Desk {
    key: Key,
    /// Scheme, host and port; also `iss` and `aud` of its tokens.
    origin: String,
}

impl Front {
    /// Starts one at a name of this machine. It answers at every other one too, but its tokens name this.
    pub(crate) async fn start(host: &str) -> Result<Self> {
        let port = free_port()?;
        Self::at(port, format!("http://{host}:{port}")).await
    }

    /// Starts one that browsers reach by https, with a certificate of this authority. Its keys are had without TLS.
    pub(crate) async fn start_with_tls(host: &str, authority: &Authority) -> Result<Self> {
        authority.issue("front", &format!("DNS:{host}"), 2)?;
        let (acceptor, port) = (TlsAcceptor::from(authority.server("front", &[])?), free_port()?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let mut front = Self::at(free_port()?, format!("https://{host}:{port}")).await?;
        front.server.spawn(terminate(listener, acceptor, (Ipv4Addr::LOCALHOST, front.port).into()));
        Ok(front)
    }

    /// Starts one at a port, by this origin.
    async fn at(port: u16, origin: String) -> Result<Self> {
        let desk = Arc::new(Desk { key: Key::generate("k1", "EdDSA")?, origin });
        let asked = Arc::clone(&desk);
        let (_, server) = serve_at(port, move |request| {
            let answer = asked.answer(&request);
            async move { answer }
        })
        .await?;
        Ok(Self { desk, port, server })
    }

    /// Its origin, as browsers write it.
    pub(crate) fn origin(&self) -> &str {
        &self.desk.origin
    }

    /// An address of this machine that is another site than any front end's, with the same pages.
    pub(crate) fn elsewhere(&self) -> String {
        format!("http://elsewhere.localhost:{}", self.port)
    }

    /// The sections of the gateway's configuration that let this front end in.
    pub(crate) fn config(&self) -> String {
        let (origin, port) = (self.origin(), self.port);
        format!(
            "[embedding]\nfrontend_origins = [\"{origin}\"]\n[session.jwt]\nissuer = \"{origin}\"\naudience = \"{origin}\"\n\
             jwks_url = \"http://127.0.0.1:{port}/api/auth/jwks\"\n"
        )
    }

    /// A token for the user, good for five minutes.
    pub(crate) fn token(&self) -> Result<String> {
        self.desk.token()
    }
}

impl Desk {
    fn answer(&self, request: &Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let json = |value: &Value| answer(200, &[("content-type", "application/json")], &value.to_string());
        Ok(match request.uri().path() {
            "/" => answer(200, &[("content-type", "text/html; charset=utf-8")], PAGE),
            "/api/auth/token" => json(&json!({ "token": self.token().map_err(io::Error::other)? })),
            "/api/auth/jwks" => json(&json!({ "keys": [self.key.jwk()] })),
            _ => answer(404, &[], "nothing here"),
        })
    }

    /// What better-auth's plugin makes: the whole user, with the front end as issuer and audience.
    fn token(&self) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?.as_secs();
        self.key.token(&json!({
            "id": USER, "sub": USER, "name": "Ann", "email": "ann@acme.example", "emailVerified": true,
            "iat": now, "exp": now + 300, "iss": self.origin, "aud": self.origin,
        }))
    }
}
