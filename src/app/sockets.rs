//! Where the listening sockets come from: opened here, given by a service manager, or handed over by the gateway that this
//! one follows; and handing them on to the next one.

use super::StartError;
use crate::config::Config;
use crate::directory::Directory;
use crate::net::handover::{self, Door, HandoverError, Predecessor};
use crate::net::listen::{self, Listening};
use crate::plane::leaving::Queue;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

/// How often a gateway that waits for its directory says so.
const REMINDER: Duration = Duration::from_secs(10);
/// Pause after somebody asked for the sockets in vain.
const PAUSE: Duration = Duration::from_millis(100);

/// Sockets that were there before the gateway.
#[derive(Debug, Default)]
pub enum Sockets {
    /// None: `server.listen` is opened, or handed over by the gateway at `server.handover`.
    #[default]
    None,
    /// Bound for this gateway alone.
    Bound(Vec<TcpListener>),
    /// Those of a service manager, which keeps them.
    Managed(Listening),
}

/// Why there are no sockets to serve on.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The running gateway hands nothing over.
    #[error("server.handover: {0}")]
    Handover(#[from] HandoverError),
    /// It listens elsewhere.
    #[error(
        "server.listen = \"{wanted}\", and the running gateway, which is to hand its sockets over (server.handover), \
         listens on {running}; keep the address, or stop that gateway first"
    )]
    Elsewhere {
        /// What is configured.
        wanted: SocketAddr,
        /// Where the other one is.
        running: SocketAddr,
    },
    /// Two ways at once.
    #[error("the service manager gives listening sockets (LISTEN_FDS), and server.handover is set; use one of the two")]
    Both,
}

/// The sockets that a gateway serves on.
pub(super) struct Taken {
    pub(super) listening: Listening,
    /// Whether somebody else keeps them all the time.
    pub(super) managed: bool,
    /// Who serves on them until this gateway is ready.
    pub(super) predecessor: Option<Predecessor>,
    /// Where the next gateway asks for them.
    door: Option<Door>,
}

impl Taken {
    /// Gets hold of the sockets.
    pub(super) async fn new(given: Sockets, config: &Config) -> Result<Self, StartError> {
        let path = config.server.handover.as_deref();
        let (listening, managed, mut predecessor) = match given {
            Sockets::Managed(_) if path.is_some() => return Err(SocketsError::Both.into()),
            Sockets::Managed(listening) => (listening, true, None),
            Sockets::Bound(data) => (Listening { data, admin: None }, false, None),
            Sockets::None => (Listening::default(), false, None),
        };
        let mut taken = Self { listening, managed, predecessor: None, door: None };
        if let Some(path) = path {
            if let Some((listening, running)) = handover::ask(path).await.map_err(SocketsError::from)? {
                (taken.listening, predecessor) = (fitting(listening, config)?, Some(running));
            }
            taken.door = Some(Door::prepare(path).map_err(SocketsError::from)?);
        }
        taken.predecessor = predecessor;
        if taken.listening.data.is_empty() {
            taken.listening.data = open(config)?;
        } else if managed || taken.predecessor.is_some() {
            taken.tell(config)?;
        }
        Ok(taken)
    }

    /// Says what sockets these are, where they may not be the expected ones.
    fn tell(&self, config: &Config) -> io::Result<()> {
        let (sockets, workers) = (self.listening.data.len(), workers(config));
        let from = if self.managed { "the service manager" } else { "the running gateway" };
        tracing::info!(from, sockets, workers, "listening sockets come from elsewhere");
        if sockets != workers {
            tracing::info!(sockets, workers, "workers share sockets, or have several, because the numbers differ");
        }
        for socket in &self.listening.data {
            let listen = socket.local_addr()?;
            if !is_at(listen, config.server.listen) {
                tracing::warn!(configured = %config.server.listen, %listen, "server.listen is not used");
            }
        }
        Ok(())
    }

    /// The sockets of each worker. Every socket is read by somebody, and every worker reads one.
    pub(super) fn allot(&self, config: &Config) -> io::Result<Vec<Vec<TcpListener>>> {
        let (sockets, workers) = (&self.listening.data, workers(config));
        let mut allotted: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
        for turn in 0..workers.max(sockets.len()) {
            allotted[turn % workers].push(sockets[turn % sockets.len()].try_clone()?);
        }
        Ok(allotted)
    }

    /// The socket for health and metrics.
    pub(super) fn admin(&mut self, config: &Config) -> Result<TcpListener, StartError> {
        let address = config.admin.listen;
        let failed = |cause| StartError::Listen { address, key: "admin.listen", cause };
        let socket = match self.listening.admin.take() {
            Some(socket) => socket,
            None => listen::bind(address, 1).map_err(failed)?.remove(0),
        };
        if self.door.is_some() {
            self.listening.admin = Some(socket.try_clone()?);
        }
        Ok(socket)
    }

    /// Waits until there is a directory, as long as another gateway serves: before that this one could answer nothing.
    pub(super) async fn until_useful(&mut self, directory: &Directory) {
        let Some(predecessor) = &mut self.predecessor else { return };
        let (mut news, mut reminder) = (directory.news(), interval(REMINDER));
        reminder.tick().await;
        while directory.snapshot().is_none() {
            tokio::select! {
                _ = news.recv() => {}
                () = predecessor.gone() => {
                    tracing::warn!("the running gateway has ended before this one has a directory");
                    return;
                }
                _ = reminder.tick() => {
                    let trouble = directory.trouble().unwrap_or_default();
                    tracing::warn!(trouble, "there is no directory yet; the running gateway serves on");
                }
            }
        }
    }

    /// Takes the place of the gateway before, now that this one serves, and waits for the next one.
    pub(super) async fn take_place(self, admin: JoinHandle<()>) -> Option<Heirs> {
        if let Some(predecessor) = self.predecessor {
            match predecessor.relieve().await {
                Ok(()) => tracing::info!("the gateway before this one leaves"),
                // This one has the sockets and serves.
                Err(error) => tracing::warn!(%error, "the gateway before this one does not say that it leaves"),
            }
        }
        let mut door = self.door?;
        if let Err(error) = door.open() {
            tracing::error!(%error, "no other gateway can take over from this one (server.handover)");
            return None;
        }
        let (relieved, waiting) = oneshot::channel();
        let lent = Arc::<AtomicBool>::default();
        let offering = offer(door, self.listening, admin, Arc::clone(&lent), relieved);
        Some(Heirs { offering: tokio::spawn(offering), waiting: Some(waiting), lent })
    }
}

/// What of the running gateway's sockets this one goes on with.
fn fitting(mut listening: Listening, config: &Config) -> Result<Listening, StartError> {
    for socket in &listening.data {
        let running = socket.local_addr()?;
        if !is_at(running, config.server.listen) {
            return Err(SocketsError::Elsewhere { wanted: config.server.listen, running }.into());
        }
    }
    let admin = listening.admin.as_ref().map(TcpListener::local_addr).transpose()?;
    // At another address there is none in the way.
    if admin.is_some_and(|running| !is_at(running, config.admin.listen)) {
        listening.admin = None;
    }
    Ok(listening)
}

/// Whether a socket is where it is wanted; port 0 is any.
fn is_at(socket: SocketAddr, wanted: SocketAddr) -> bool {
    socket.ip() == wanted.ip() && (wanted.port() == 0 || socket.port() == wanted.port())
}

fn workers(config: &Config) -> usize {
    match config.server.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// One socket for each worker.
fn open(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let address = config.server.listen;
    let failed = |cause| StartError::Listen { address, key: "server.listen", cause };
    listen::bind(address, workers(config)).map_err(failed)
}

/// Who may come to take over.
pub(super) struct Heirs {
    offering: JoinHandle<()>,
    /// None once nobody will come any more.
    waiting: Option<oneshot::Receiver<()>>,
    lent: Arc<AtomicBool>,
}

impl Heirs {
    /// Ready once another gateway serves on the same sockets.
    pub(super) async fn relieved(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            if waiting.await.is_ok() {
                return;
            }
            // Who offers the sockets has failed, which takes nothing else with it.
            self.waiting = None;
        }
        std::future::pending::<()>().await;
    }

    /// Offers the sockets no more, and lets go of them; says who serves those that wait in their queues.
    pub(super) async fn send_away(self) -> Queue {
        self.offering.abort();
        let _ = self.offering.await;
        if self.lent.load(Ordering::SeqCst) { Queue::Others } else { Queue::Ours }
    }
}

/// Gives the sockets to whoever comes, until somebody serves on them.
async fn offer(
    door: Door,
    sockets: Listening,
    admin: JoinHandle<()>,
    lent: Arc<AtomicBool>,
    relieved: oneshot::Sender<()>,
) {
    let successor = loop {
        match door.successor(&sockets, &lent).await {
            Ok(successor) => break successor,
            Err(error) => {
                tracing::warn!(%error, "nobody takes over; this gateway serves on");
                sleep(PAUSE).await;
            }
        }
    };
    tracing::info!(pid = successor.pid, "another process serves on the listening sockets; this one leaves");
    // From now on health is what the next one says.
    admin.abort();
    door.leave();
    successor.confirm().await;
    // An error means that this gateway is on its way out already.
    let _ = relieved.send(());
}
