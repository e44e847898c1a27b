//! More than there is room for: quotas, queues and what the process may use.

mod queues;
mod quotas;
mod room;

use super::{HOST, Site};
use crate::harness::gateway::Gateway;
use crate::harness::raw::{Message, Wire};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};

impl Site {
    /// Sends a request of this user of acme's.
    async fn send_as(&self, user: &str, line: &str, fields: &str) -> Result<Wire> {
        send(&self.gateway, "acme", user, line, fields).await
    }

    /// Asks as this user until the answer has this status.
    async fn until_status(&self, user: &str, status: u16) -> Result<Message> {
        let ask = async || {
            let answer = self.send_as(user, "GET /", "").await?.answer().await?;
            Ok((answer.status() == status).then_some(answer))
        };
        until(PATIENCE, ask).await?.with_context(|| format!("never a {status}"))
    }

    /// Waits until so many requests wait.
    async fn queued(&self, count: f64) -> Result<()> {
        self.gateway.expect_metric("embedgate_queued_requests", count).await
    }
}

/// Sends a request of a user of an organisation to its app `editor`.
async fn send(gateway: &Gateway, org: &str, user: &str, line: &str, fields: &str) -> Result<Wire> {
    let token = gateway.token(org, user, &format!("{user}@{org}.example"), None, 3600)?;
    let mut client = gateway.connect().await?;
    let host = HOST.replace("acme", org);
    client.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{fields}\r\n")).await?;
    Ok(client)
}

/// Checks a refusal and gives the seconds after which another try makes sense.
fn refusal(answer: &Message, status: u16, reason: &str) -> Result<u32> {
    ensure!(answer.status() == status && answer.text().contains(&format!("\"reason\":\"{reason}\"")), "{answer:?}");
    Ok(answer.field("Retry-After").context("no Retry-After")?.parse()?)
}
