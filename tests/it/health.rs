//! What the gateway promises where an app has several nodes and some of them fail: requests go to those that work.

mod circuit;
mod ejection;
mod elsewhere;
mod probes;

use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::raw::{Message, Upstream, Wire, ok};
use anyhow::{Result, ensure};
use std::net::SocketAddr;

/// The host of acme's app.
const HOST: &str = "editor--acme.apps.localhost";

/// A gateway before the app `editor` of the organisation `acme`, which has several nodes, and a session of a user there.
struct Site {
    gateway: Gateway,
    token: String,
}

/// The directory with these nodes of the app, and some more of its keys.
fn directory(nodes: &[String], keys: &str) -> String {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let nodes: Vec<_> = nodes.iter().map(|node| format!("{node:?}")).collect();
    let cluster = format!("[[org.app.cluster]]\nid = \"blue\"\nstate = \"running\"\nnodes = [{}]\n", nodes.join(", "));
    format!("{}{keys}\n{cluster}", org("acme", &[("editor", nowhere)]))
}

fn plain(address: SocketAddr) -> String {
    format!("http://{address}")
}

impl Site {
    /// With these nodes, and some keys of the configuration set.
    async fn open(nodes: &[SocketAddr], settings: &[(&str, &str)]) -> Result<Self> {
        let nodes: Vec<_> = nodes.iter().copied().map(plain).collect();
        Self::of(&directory(&nodes, ""), settings).await
    }

    /// With this directory.
    async fn of(directory: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let builder = settings.iter().fold(Builder::new(directory), |builder, (key, value)| builder.set(key, value));
        let gateway = builder.start().await?;
        let token = gateway.session("acme")?;
        Ok(Self { gateway, token })
    }

    /// A request's head: `line` is method and target, `fields` are more field lines, each with CR LF.
    fn head(&self, line: &str, fields: &str) -> String {
        self.head_at(HOST, line, fields)
    }

    fn head_at(&self, host: &str, line: &str, fields: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n{fields}\r\n", self.token)
    }

    /// Sends a request on a connection of its own.
    async fn ask(&self, request: impl AsRef<[u8]>) -> Result<Wire> {
        let mut client = self.gateway.connect().await?;
        client.send(request).await?;
        Ok(client)
    }

    /// Its answer.
    async fn answer(&self, request: impl AsRef<[u8]>) -> Result<Message> {
        self.ask(request).await?.answer().await
    }

    /// The answer to a GET.
    async fn get(&self, target: &str) -> Result<Message> {
        self.answer(self.head(&format!("GET {target}"), "")).await
    }

    /// An error unless so many requests are answered with 200.
    async fn expect_good(&self, requests: usize) -> Result<()> {
        for number in 0..requests {
            let answer = self.get(&format!("/{number}")).await?;
            ensure!(answer.status() == 200, "{number}: {answer:?}");
        }
        Ok(())
    }
}

/// The connection that comes to one of two nodes, which of them it is, and the other one.
async fn accept<'a>(one: &'a Upstream, two: &'a Upstream) -> Result<(Wire, &'a Upstream, &'a Upstream)> {
    tokio::select! {
        wire = one.accept() => Ok((wire?, one, two)),
        wire = two.accept() => Ok((wire?, two, one)),
    }
}

/// An answer with this status and a short body.
fn status(code: u16) -> Vec<u8> {
    String::from_utf8_lossy(&ok("short")).replacen("200 OK", &format!("{code} Told"), 1).into_bytes()
}
