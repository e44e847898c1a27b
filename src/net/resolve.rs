//! Addresses of names. Answers are kept for a few seconds, and the last good one goes on serving while a resolver fails.
//! Only new connections come here, never a request on a pooled one.

use super::dial::DialError;
use crate::model::url::BaseUrl;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

/// How long an answer is used without asking again.
const FRESH: Duration = Duration::from_secs(10);
/// How long it is used while nobody answers.
const STALE: Duration = Duration::from_secs(600);
/// How long one question may take; less than a connection may, so that the last good answer can still be used.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names remembered at most. They come from the directory, so an operator has this in hand.
const MAX_NAMES: usize = 16_384;

/// Looks up names and remembers the answers.
#[derive(Default)]
pub(super) struct Resolver {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Resolver {
    /// The addresses of the host of `url`. Who dials checks each of them.
    ///
    /// # Errors
    /// [`DialError::Resolve`] when nobody knows, and nobody knew a while ago.
    pub(super) async fn addresses(&self, url: &BaseUrl) -> Result<Vec<SocketAddr>, DialError> {
        let port = |ips: &[IpAddr]| ips.iter().map(|ip| SocketAddr::new(*ip, url.port())).collect();
        if let Some(ip) = url.ip() {
            return Ok(port(&[ip]));
        }
        if url.is_loopback() {
            // Names below localhost never go to a resolver (RFC 6761 6.3).
            return Ok(port(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        }
        let known = self.known(url.host());
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < FRESH) {
            return Ok(port(&known.addresses));
        }
        match (ask(url.host()).await, known) {
            (Ok(addresses), _) => {
                self.remember(url.host(), &addresses);
                Ok(port(&addresses))
            }
            (Err(error), Some(known)) if known.at.elapsed() < STALE => {
                tracing::warn!(host = url.host(), %error, "the name cannot be resolved; its last addresses are used");
                Ok(port(&known.addresses))
            }
            (Err(cause), _) => Err(DialError::Resolve { host: url.host().to_owned(), cause }),
        }
    }

    fn known(&self, host: &str) -> Option<Known> {
        // Poisoning would mean a panic between two map operations; the map is whole either way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    fn remember(&self, host: &str, addresses: &[IpAddr]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_NAMES {
            known.retain(|_, known| known.at.elapsed() < FRESH);
        }
        if known.len() < MAX_NAMES {
            known.insert(host.to_owned(), Known { addresses: addresses.to_vec(), at: Instant::now() });
        }
    }
}

async fn ask(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = timeout(PATIENCE, lookup_host((host, 0))).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_good_answer_serves_while_nobody_answers() {
        let resolver = Resolver::default();
        // A name that no resolver knows (RFC 6761 6.4).
        let url = BaseUrl::parse("https://app.invalid").unwrap();
        assert!(matches!(resolver.addresses(&url).await, Err(DialError::Resolve { .. })));
        resolver.remember("app.invalid", &[Ipv4Addr::LOCALHOST.into()]);
        let mut known = resolver.known("app.invalid").unwrap();
        known.at -= FRESH;
        resolver.known.lock().unwrap().insert("app.invalid".into(), known.clone());
        assert_eq!(resolver.addresses(&url).await.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 443))]);
        known.at -= STALE;
        resolver.known.lock().unwrap().insert("app.invalid".into(), known);
        assert!(matches!(resolver.addresses(&url).await, Err(DialError::Resolve { .. })));
    }
}
