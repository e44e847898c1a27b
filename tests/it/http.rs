//! What the gateway promises on the wire, tried with real sockets, a client that sends any bytes and upstreams that do
//! exactly as told.

mod ages;
mod answers;
mod autostart;
mod base_tag;
mod bodies;
mod client_certificate;
mod clients;
mod clusters;
mod cookieless;
mod cors;
mod counts;
mod cuts;
mod drain;
mod frames;
mod framing;
mod frontends;
mod headers;
mod http2;
mod http2_upstream;
mod isolation;
mod matrix;
mod nodes;
mod overload;
mod policies;
mod proxy_protocol;
mod refusals;
mod renewal;
mod retries;
mod revocation;
mod routing;
mod sessions;
mod start;
mod streams;
mod tls;
mod trailers;
mod weaknesses;
pub(crate) mod websocket;

use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::raw::{Message, Upstream, Wire};
use anyhow::{Context as _, Result};

/// The host of acme's app.
const HOST: &str = "editor--acme.apps.localhost";

/// A gateway before one app, `editor` of the organisation `acme`, and a session of a user there.
struct Site {
    gateway: Gateway,
    upstream: Upstream,
    token: String,
}

impl Site {
    /// With the configuration as it is.
    async fn open() -> Result<Self> {
        Self::with(&[]).await
    }

    /// With some keys of the configuration set to TOML values.
    async fn with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::of_app("", settings).await
    }

    /// With these keys in the directory's section of the app too.
    async fn of_app(keys: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let upstream = Upstream::start()?;
        let builder = Builder::new(org("acme", &[("editor", upstream.address())]) + keys);
        let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let gateway = builder.start().await?;
        let token = gateway.session("acme")?;
        Ok(Self { gateway, upstream, token })
    }

    /// A request's head: `line` is method and target, `fields` are more field lines, each with CR LF.
    fn head(&self, line: &str, fields: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n{}{fields}\r\n", self.bearer())
    }

    /// The field that carries the session.
    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    /// A request without a body.
    fn get(&self, target: &str) -> String {
        self.head(&format!("GET {target}"), "")
    }

    /// A client and an upstream's end, joined by a GET that the upstream has received and not answered.
    async fn join(&self) -> Result<(Wire, Wire)> {
        let mut client = self.gateway.connect().await?;
        client.send(self.get("/")).await?;
        let mut app = self.upstream.accept().await?;
        app.request().await?;
        Ok((client, app))
    }

    /// Sends a request on a connection of its own, lets the upstream answer, and gives both as the other side saw them.
    async fn exchange(&self, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) -> Result<(Message, Message)> {
        let mut client = self.gateway.connect().await?;
        client.send(request).await?;
        let mut app = self.upstream.accept().await.context("the request does not arrive")?;
        let request = app.request().await?;
        app.send(answer).await?;
        drop(app);
        Ok((request, client.answer().await?))
    }

    /// Sends a request on a connection of its own, which the gateway is expected to answer without the upstream.
    async fn refused(&self, request: impl AsRef<[u8]>) -> Result<Message> {
        let mut client = self.gateway.connect().await?;
        client.send(request).await?;
        let answer = client.answer().await?;
        self.upstream.expect_untouched()?;
        Ok(answer)
    }
}
