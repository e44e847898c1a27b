//! Ends sessions: here at once, and on the whole fleet by way of the database.

use super::postgres::{Error, Writer};
use super::{Directory, TooManyBars};
use crate::clock::UnixSeconds;
use crate::model::access::{Bar, Subject};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Why a session was not ended everywhere.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Not even here.
    #[error("{0}")]
    Full(#[from] TooManyBars),
    /// Here, but nobody else knows of it.
    #[error("the session is over on this instance alone: {0}")]
    HereOnly(Error),
    /// As before: too many others are being written.
    #[error("the session is over on this instance alone: too many are being ended at this moment")]
    Busy,
}

/// Writes under way at once; more wait for nothing.
const MAX_WRITES: usize = 256;
/// What clocks of instances may differ by, on top of a session's end.
const SPARE: u64 = 60;

/// Ends sessions.
pub struct Revoker {
    directory: Arc<Directory>,
    /// None where the directory is not in a database: then this instance is all there is.
    writer: Option<Arc<Writer>>,
    turns: Semaphore,
    /// Database connections live there, apart from the requests.
    runtime: Handle,
}

impl Revoker {
    /// A revoker whose writes run on `runtime`.
    #[must_use]
    pub fn new(directory: Arc<Directory>, writer: Option<Arc<Writer>>, runtime: Handle) -> Self {
        Self { directory, writer, turns: Semaphore::new(MAX_WRITES), runtime }
    }

    /// Ends one session, which would have lasted until `expires`.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn end(&self, session: [u8; 16], now: UnixSeconds, expires: UnixSeconds) -> Result<(), RevokeError> {
        let subject = Subject::Session(session);
        self.directory.put_up(Bar::Revoked(subject.clone()), now, expires + SPARE)?;
        let Some(writer) = self.writer.clone() else { return Ok(()) };
        let _turn = self.turns.try_acquire().map_err(|_| RevokeError::Busy)?;
        let keep = Duration::from_secs(expires.saturating_sub(now) + SPARE);
        let written = self.runtime.spawn(async move { writer.revoke(&subject, keep).await }).await;
        let lost = |error: tokio::task::JoinError| RevokeError::HereOnly(Error::Lost(error.to_string()));
        written.map_err(lost)?.map_err(RevokeError::HereOnly)
    }
}
