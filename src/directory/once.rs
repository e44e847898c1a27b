//! Things that may be used once: remembered until they end, in the database where there is one.

use super::postgres::{Error, Writer};
use crate::clock::{Clock, UnixSeconds};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Most ids that are remembered here.
const MAX_IDS: usize = 65_536;

/// Why it is not known whether something was used.
#[derive(Debug, thiserror::Error)]
pub enum UseError {
    /// As many as are remembered here, none of which has ended.
    #[error("{MAX_IDS} used ids are remembered already")]
    Full,
    /// The database does not say.
    #[error("{0}")]
    Unknown(#[from] Error),
}

/// Remembers what was used.
pub struct Once {
    clock: Clock,
    /// None where the directory is not in a database: then this instance is all there is.
    writer: Option<Arc<Writer>>,
    runtime: Handle,
    /// When each id that was used here may be forgotten, by its digest.
    here: Mutex<HashMap<[u8; 32], UnixSeconds>>,
}

impl Once {
    /// A memory in the database, else in this instance.
    #[must_use]
    pub fn new(clock: Clock, writer: Option<Arc<Writer>>, runtime: Handle) -> Self {
        Self { clock, writer, runtime, here: Mutex::default() }
    }

    /// Whether this is the first use of `id`, which ends at `until`.
    ///
    /// # Errors
    /// [`UseError`]; it may or may not count as used then.
    pub async fn take(&self, id: &str, until: UnixSeconds) -> Result<bool, UseError> {
        // A digest has one length and no characters to mind.
        let digest: [u8; 32] = Sha256::digest(id).into();
        let Some(writer) = self.writer.clone() else { return self.take_here(digest, until) };
        let (high, low) = digest.split_at(16);
        let half = |bytes: &[u8]| bytes.iter().fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
        let name = format!("{:032x}{:032x}", half(high), half(low));
        let asked = self.runtime.spawn(async move { writer.use_token(&name, until).await }).await;
        Ok(asked.map_err(|error| Error::Lost(error.to_string()))??)
    }

    fn take_here(&self, digest: [u8; 32], until: UnixSeconds) -> Result<bool, UseError> {
        // A panic elsewhere leaves the map whole.
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if here.len() >= MAX_IDS {
            let now = self.clock.now();
            here.retain(|_, until| *until > now);
        }
        if here.contains_key(&digest) {
            return Ok(false);
        }
        if here.len() >= MAX_IDS {
            return Err(UseError::Full);
        }
        here.insert(digest, until);
        Ok(true)
    }
}
