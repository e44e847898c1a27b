//! A gateway that runs: what can be asked of it, and how it ends.

use super::sockets::Heirs;
use super::{fleet, lines};
use crate::directory::sync::Asker;
use crate::plane::Plane;
use crate::plane::leaving::{Queue, Stage, Stages};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// A running gateway.
pub struct Gateway {
    pub(super) plane: Arc<Plane>,
    /// Control work: directory, tokens, admin. Apart from the requests, so that it never delays one.
    pub(super) control: Runtime,
    pub(super) workers: Vec<JoinHandle<io::Result<usize>>>,
    pub(super) stages: Stages,
    pub(super) asker: Asker,
    pub(super) heart: fleet::Beating,
    pub(super) address: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Whether a service manager keeps the listening sockets.
    pub(super) managed: bool,
    /// Who may take over; none where nobody may.
    pub(super) heirs: Option<Heirs>,
}

impl Gateway {
    /// The address requests are served on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the admin listener.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The runtime of control work, for those who wait for signals.
    #[must_use]
    pub fn control(&self) -> &Runtime {
        &self.control
    }

    /// What all workers share.
    #[must_use]
    pub fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// How far the gateway is on its way out. At [`Stage::Over`], [`Gateway::leave`] ends at once.
    #[must_use]
    pub fn stages(&self) -> Stages {
        self.stages.clone()
    }

    /// Reads the directory and the keys again now.
    pub fn reload(&self) {
        self.asker.all();
        if let Err(errors) = self.plane.keys.reload() {
            tracing::error!(error = %lines(&errors), "session keys cannot be read; the ones before stay in use");
        }
    }

    /// Waits until another process has taken over, and runs `meanwhile` until then; whatever comes first ends this.
    pub fn until_relieved<T>(&mut self, meanwhile: impl Future<Output = T>) -> Option<T> {
        let Self { control, heirs, .. } = self;
        let relieved = async {
            match heirs {
                Some(heirs) => heirs.relieved().await,
                None => pending().await,
            }
        };
        control.block_on(async {
            tokio::select! {
                other = meanwhile => Some(other),
                () = relieved => None,
            }
        })
    }

    /// Leaves: says so on the health endpoints, keeps serving for `server.drain_delay` so that load balancers notice and
    /// clients move on, then accepts nothing more and lets what is under way end within `server.drain_timeout`.
    pub fn leave(mut self) {
        self.plane.leaving.store(true, Ordering::Relaxed);
        self.plane.fleet.leave();
        self.stages.advance(Stage::Leaving);
        self.serve_on();
        let queue = match self.heirs.take().map(|heirs| self.control.block_on(heirs.send_away())) {
            Some(queue) => queue,
            None if self.managed => Queue::Others,
            None => Queue::Ours,
        };
        self.end(queue);
    }

    /// Leaves to the process that has taken over: accepts nothing more, serves who is connected for `server.drain_delay`,
    /// and ends as [`Gateway::leave`] does. Whoever looks at health need not know, because the address is served all the time.
    pub fn leave_to_successor(self) {
        self.plane.fleet.leave();
        self.stages.advance(Stage::Relieved);
        self.serve_on();
        self.end(Queue::Others);
    }

    /// Serves who is there for `server.drain_delay`, unless it is over before.
    fn serve_on(&self) {
        let delay = self.plane.settings.drain_delay;
        tracing::info!(
            connections = self.plane.connections.load(Ordering::Relaxed),
            tunnels = self.plane.tunnels.load(Ordering::Relaxed),
            ?delay,
            "draining"
        );
        let mut following = self.stages.follow();
        // Both ways of ending are good.
        let _ = self.control.block_on(async { timeout(delay, following.reached(Stage::Over)).await });
    }

    fn end(self, queue: Queue) {
        let (begun, settings) = (Instant::now(), &self.plane.settings);
        let connections = self.plane.connections.load(Ordering::Relaxed);
        let tunnels = self.plane.tunnels.load(Ordering::Relaxed);
        let (limit, spread) = (settings.drain_timeout, settings.drain_spread);
        tracing::info!(connections, tunnels, ?limit, ?spread, "nothing more is accepted; what runs may end");
        self.stages.advance(Stage::Draining(queue));
        let mut cut = 0;
        for worker in self.workers {
            match worker.join() {
                Ok(Ok(left)) => cut += left,
                Ok(Err(error)) => tracing::error!(%error, "a worker failed"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        self.heart.end(&self.plane.fleet, &self.control);
        let seconds = begun.elapsed().as_secs_f64();
        tracing::info!(connections, tunnels, cut_connections = cut, seconds, "stopped");
        self.control.shutdown_background();
    }
}
