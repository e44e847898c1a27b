//! Restarts of the real program: who has connected is served, who waits is not lost, and a new process that is no good harms
//! nobody.

mod activation;
mod handover;
mod leave;

use crate::harness::installation::{Installation, KEY, LOCAL, org, session};
use crate::harness::raw::Wire;
use anyhow::{Context as _, Result, ensure};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Clients at once.
const CLIENTS: usize = 4;
/// Connections that each of them makes at most, so that the machine does not run out of ports.
const VISITS: usize = 2500;

/// A folder for a gateway before one app, with these keys of the configuration set.
fn installation(app: &str, settings: &[(&str, &str)]) -> Result<Installation> {
    let mut installation = Installation::new(LOCAL, &org("acme", app))?;
    for (key, value) in settings {
        installation.set(&format!("EMBEDGATE__{}", key.to_uppercase().replace('.', "__")), value);
    }
    Ok(installation)
}

/// A request for the app, as a user of acme; `fields` are more field lines, each with CR LF.
fn request(fields: &str) -> Result<String> {
    let session = session(KEY, "acme", None, 0)?;
    Ok(format!("GET /app-proxy/studio/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {session}\r\n{fields}\r\n"))
}

/// Clients that come again and again, each time with a connection of its own and one request.
struct Crowd {
    clients: JoinSet<Result<Visits>>,
    enough: Arc<AtomicBool>,
}

/// What became of a client's visits, or of all.
#[derive(Debug, Default)]
struct Visits {
    served: usize,
    refused: usize,
}

impl Crowd {
    /// Sends them.
    fn at(address: SocketAddr) -> Result<Self> {
        let (enough, request) = (Arc::<AtomicBool>::default(), request("")?);
        let visits = |_| visits(address, request.clone(), Arc::clone(&enough));
        Ok(Self { clients: (0..CLIENTS).map(visits).collect(), enough })
    }

    /// Calls them back.
    async fn back(self) -> Result<Visits> {
        self.enough.store(true, Ordering::Relaxed);
        self.all().await
    }

    /// Waits until all of them were refused or have enough.
    async fn all(mut self) -> Result<Visits> {
        let mut all = Visits::default();
        while let Some(visits) = self.clients.join_next().await {
            let visits = visits??;
            all.served += visits.served;
            all.refused += visits.refused;
        }
        Ok(all)
    }
}

/// Who is connected and not served is an error; who is refused does not come again.
async fn visits(address: SocketAddr, request: String, enough: Arc<AtomicBool>) -> Result<Visits> {
    let mut visits = Visits::default();
    while !enough.load(Ordering::Relaxed) && visits.served < VISITS {
        let connected = timeout(crate::harness::PATIENCE, TcpStream::connect(address)).await;
        let mut wire = match connected.context("connecting takes too long")? {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                visits.refused = 1;
                break;
            }
            connected => Wire::over(connected?),
        };
        let served = async {
            wire.send(&request).await?;
            wire.answer().await
        };
        let answer = served.await.with_context(|| format!("connected, but not served after {visits:?}"))?;
        ensure!(answer.status() == 200 && answer.complete, "{answer:?}");
        visits.served += 1;
    }
    Ok(visits)
}
