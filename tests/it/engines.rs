//! What the gateway promises of engines, which are backends of any make: they are reached by a path and by a host of their
//! own, as the principal and nobody else, and nothing beyond what the directory lets be called.

mod calls;
mod check;
mod clickhouse;
mod errors;
mod firebolt;

use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::raw::{Message, Upstream, ok};
use anyhow::{Context as _, Result};
use std::net::SocketAddr;

/// The host of the engine `sql`.
const HOST: &str = "sql--acme.apps.localhost";

/// A gateway before an engine `sql` of the organisation `acme`, another of `globex`, and a session of a user of `acme`.
struct Site {
    gateway: Gateway,
    engine: Upstream,
    token: String,
}

/// An engine for the directory, with more keys.
fn engine(id: &str, address: SocketAddr, path: &str, keys: &str) -> String {
    format!("[[org.engine]]\nid = '{id}'\nurl = 'http://{address}{path}'\n{keys}\n")
}

impl Site {
    async fn open() -> Result<Self> {
        Self::with("", "", &[]).await
    }

    /// With the engine at a path, with keys of its own, and some keys of the configuration set to TOML values.
    async fn with(path: &str, keys: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let upstream = Upstream::start()?;
        let at = upstream.address();
        let directory = org("acme", &[("editor", at)]) + &engine("sql", at, path, keys);
        let directory = directory + &org("globex", &[("editor", at)]) + &engine("theirs", at, "", "");
        let builder = settings.iter().fold(Builder::new(directory), |builder, (key, value)| builder.set(key, value));
        let gateway = builder.start().await?;
        let token = gateway.session("acme")?;
        Ok(Self { gateway, engine: upstream, token })
    }

    /// A request of the user's on the public host, without a body where `body` is empty.
    fn call(&self, line: &str, fields: &str, body: &str) -> String {
        self.call_at("localhost", line, fields, body)
    }

    fn call_at(&self, host: &str, line: &str, fields: &str, body: &str) -> String {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let session = format!("Authorization: Bearer {}\r\n", self.token);
        format!("{line} HTTP/1.1\r\nHost: {host}\r\n{session}{fields}{length}\r\n{body}")
    }

    /// Sends a request, lets the engine answer, and gives both as the other side saw them.
    async fn exchange(&self, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) -> Result<(Message, Message)> {
        let mut client = self.gateway.connect().await?;
        client.send(request).await?;
        let mut engine = self.engine.accept().await.context("the request does not arrive")?;
        let request = engine.request().await?;
        engine.send(answer).await?;
        Ok((request, client.answer().await?))
    }

    async fn passed(&self, request: impl AsRef<[u8]>) -> Result<(Message, Message)> {
        self.exchange(request, ok("{}")).await
    }

    /// Sends a request which the engine must not hear of.
    async fn refused(&self, request: impl AsRef<[u8]>) -> Result<Message> {
        let mut client = self.gateway.connect().await?;
        client.send(request).await?;
        let answer = client.answer().await?;
        self.engine.expect_untouched()?;
        Ok(answer)
    }
}
