//! Whose connection it is, where load balancers say so in a PROXY header.

use super::worker::Worker;
use crate::net::proxy_protocol::{self, ProxyError, Source};
use std::net::IpAddr;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The address of the client whose connection it is: the peer's own without the PROXY protocol. None when the connection
/// is not taken.
pub(super) async fn client_of(worker: &Worker, tcp: &mut TcpStream, peer: IpAddr) -> Option<IpAddr> {
    if !worker.plane.settings.proxy_protocol {
        return Some(peer);
    }
    // Boxed, for all connections would have to keep room for it.
    match Box::pin(introduced(worker, tcp, peer)).await {
        Ok(client) => Some(client),
        Err(refusal) => {
            tracing::debug!(%peer, "a connection is refused: {refusal}");
            None
        }
    }
}

async fn introduced(worker: &Worker, tcp: &mut TcpStream, peer: IpAddr) -> Result<IpAddr, String> {
    let (settings, metrics) = (&worker.plane.settings, &worker.plane.metrics);
    if !settings.trusted_proxies.iter().any(|net| net.contains(peer)) {
        metrics.proxy_untrusted.increment(1);
        return Err("the peer is not in server.trusted_proxies".to_owned());
    }
    match timeout(settings.header_timeout, proxy_protocol::read(tcp)).await {
        Ok(Ok(Source::Client(client))) => Ok(client),
        Ok(Ok(Source::Peer)) => Ok(peer),
        Ok(Err(error)) => {
            if matches!(error, ProxyError::Malformed(_)) {
                metrics.proxy_malformed.increment(1);
            }
            Err(error.to_string())
        }
        Err(_) => {
            metrics.proxy_slow.increment(1);
            Err("the PROXY header did not come in time".to_owned())
        }
    }
}
