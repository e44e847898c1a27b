//! What the integration tests stand on: processes that end with their test, data apps, the gateway and a browser.
//!
//! Nothing here sleeps for a fixed time in the hope that something has happened: everything is polled until it holds,
//! and a deadline that passes is an error which says what was seen instead.

pub(crate) mod apps;
pub(crate) mod ask;
pub(crate) mod browser;
pub(crate) mod clickhouse;
pub(crate) mod control;
pub(crate) mod curl;
pub(crate) mod embedgate;
pub(crate) mod front;
pub(crate) mod gateway;
pub(crate) mod h2;
pub(crate) mod h2_upstream;
pub(crate) mod http;
pub(crate) mod installation;
pub(crate) mod issuer;
pub(crate) mod origin;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod signer;
pub(crate) mod tls;

use anyhow::Result;
use std::time::Duration;
use tokio::time::Instant;

/// How long anything may take before a test gives up on it. Generous: it bounds a failure, it never measures speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Probes until there is an answer, and returns it; `None` when the deadline passed first.
///
/// # Errors
/// The first error of `probe`, at once.
pub(crate) async fn until<T>(within: Duration, mut probe: impl AsyncFnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = probe().await? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}
