//! What the gateway promises to Databricks' clients: statements by REST and by Thrift, warehouses, errors in their form; and
//! to operators: that nothing else of a workspace is reached, and nothing of anybody else's.

mod abandoned;
mod attribution;
mod calls;
mod clients;
mod errors;
mod figures;
mod lists;
mod places;
mod statements;

use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::raw::{Message, Upstream, ok};
use anyhow::{Context as _, Result};
use serde_json::Value;

/// A gateway before the workspace of the organisation `acme`, with the warehouse `wh1`, and a session of a user there.
struct Site {
    gateway: Gateway,
    workspace: Upstream,
    token: String,
    directory: String,
}

/// A rule that lets everybody start warehouses and look at the history, and one user more.
const RULES: &str = "
[[org.api]]
id = 'all'
allow = ['GET /api/2.0/sql/history/queries']
warehouses = ['start']
[[org.api]]
id = 'boss'
users = ['bob@acme.example']
allow = ['GET /api/2.1/unity-catalog/**']
warehouses = ['stop', 'edit']
";

impl Site {
    async fn open() -> Result<Self> {
        Self::with(&[]).await
    }

    /// With some keys of the configuration set to TOML values.
    async fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let workspace = Upstream::start()?;
        let theirs = org("globex", &[("editor", workspace.address())]).replace("wh1", "theirs");
        let directory = org("acme", &[("editor", workspace.address())]) + RULES + &theirs;
        let builder =
            settings.iter().fold(Builder::new(directory.clone()), |builder, (key, value)| builder.set(key, value));
        let gateway = builder.start().await?;
        let token = gateway.session("acme")?;
        Ok(Self { gateway, workspace, token, directory })
    }

    /// A request of the user's, without a body where `body` is empty.
    fn call(&self, line: &str, body: &str) -> String {
        self.call_with(line, "", body)
    }

    fn call_with(&self, line: &str, fields: &str, body: &str) -> String {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let session = format!("Authorization: Bearer {}\r\n", self.token);
        format!("{line} HTTP/1.1\r\nHost: localhost\r\n{session}{fields}{length}\r\n{body}")
    }

    /// Sends a request, lets the workspace answer, and gives both as the other side saw them.
    async fn passed(&self, request: impl AsRef<[u8]>) -> Result<(Message, Message)> {
        let mut client = self.gateway.connect().await?;
        client.send(request).await?;
        let mut workspace = self.workspace.accept().await.context("the request does not arrive")?;
        let request = workspace.request().await?;
        workspace.send(ok("{}")).await?;
        Ok((request, client.answer().await?))
    }

    /// Sends a request which the workspace must not hear of.
    async fn refused(&self, request: impl AsRef<[u8]>) -> Result<Message> {
        let mut client = self.gateway.connect().await?;
        client.send(request).await?;
        let answer = client.answer().await?;
        self.workspace.expect_untouched()?;
        Ok(answer)
    }
}

/// The JSON of an answer.
fn json(answer: &Message) -> Result<Value> {
    serde_json::from_slice(&answer.body).with_context(|| format!("{answer:?}"))
}
