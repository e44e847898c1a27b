//! The keys of TLS session tickets that instances share: read from files, again when they change.

use super::StartError;
use crate::config::{Env, KeySource};
use crate::net::tickets::Tickets;
use crate::session::keys::{self, KeyLoadCause};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Tickets, and where their keys are.
pub(super) struct TicketKeys {
    sources: Vec<KeySource>,
    env: Env,
    seen: Zeroizing<Vec<[u8; 32]>>,
    tickets: Arc<Tickets>,
    complained: bool,
}

impl TicketKeys {
    /// Reads the keys; none where there are none in the configuration.
    pub(super) fn load(sources: &[KeySource], env: &Env) -> Result<Option<Self>, StartError> {
        if sources.is_empty() {
            return Ok(None);
        }
        let seen = read(sources, env).map_err(StartError::TicketKey)?;
        let tickets = Tickets::new(&seen);
        Ok(Some(Self { sources: sources.to_vec(), env: env.clone(), seen, tickets, complained: false }))
    }

    /// What seals and opens tickets.
    pub(super) fn tickets(&self) -> Arc<Tickets> {
        Arc::clone(&self.tickets)
    }

    /// Takes over keys that have changed; all of them or none.
    pub(super) fn reload(&mut self) {
        match read(&self.sources, &self.env) {
            Ok(keys) => {
                self.complained = false;
                if keys != self.seen {
                    self.tickets.replace(&keys);
                    self.seen = keys;
                    tracing::info!("keys of TLS session tickets changed");
                }
            }
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::error!(key = "server.tls.ticket_keys", %error, "the keys are refused; the ones before stay in use");
            }
            Err(_) => {}
        }
    }
}

fn read(sources: &[KeySource], env: &Env) -> Result<Zeroizing<Vec<[u8; 32]>>, KeyLoadCause> {
    sources.iter().map(|source| keys::read(source, env)).collect::<Result<_, _>>().map(Zeroizing::new)
}
