//! Accepts connections, bounds them, runs them, and ends them when the instance leaves.

use super::Plane;
use super::client::{Client, ClientIo, LAST_CALL, NoHead};
use super::http2;
use super::introduction::client_of;
use super::leaving::{Following, Queue, Stage};
use super::request::{Next, refuse_unread, serve};
use super::streams::Registration;
use super::tunnel::Tunnel;
use super::worker::Worker;
use crate::directory::News;
use crate::model::reject::Class;
use crate::net::Peer;
use crate::net::io::{Io, tune};
use crate::net::listen::begin_no_more;
use crate::net::tls::HTTP2;
use crate::wire::request::{Head, HeadError};
use futures_util::FutureExt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout_at};
use tokio_rustls::TlsStream;

/// Connections over the limit that are told so at once; the others are closed without a word.
pub const POLITE_REFUSALS: usize = 64;
/// Threads for looking up names, which the system's resolver blocks.
const RESOLVER_THREADS: usize = 32;
/// How long before the end of a drain those are answered who still wait, a tenth of it at most: a client that hears nothing
/// sends a statement again, and it would run twice.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long handshakes under way may take when nobody may begin another one.
const HANDSHAKES: Duration = Duration::from_millis(100);
/// How long accepting pauses when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Tasks that go on before sockets are looked at again: two looks at each of those that mostly have something together,
/// the second of which sends (see [`others_first`](super::worker::others_first)).
const TURNS: u32 = 128;
/// How long lines of the log wait for more of them.
const TICK: Duration = Duration::from_millis(100);
/// How often idle upstream connections are looked at, and the clock is read.
const SWEEP: Duration = Duration::from_secs(1);

/// Runs one worker on its own thread until the instance has left. It gives how many connections were cut then.
///
/// # Errors
/// When no thread can be started.
pub fn spawn(
    plane: Arc<Plane>,
    listeners: Vec<std::net::TcpListener>,
    stages: Following,
    number: usize,
) -> io::Result<JoinHandle<io::Result<usize>>> {
    thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVER_THREADS)
            .event_interval(TURNS)
            .build_local(LocalOptions::default())?;
        // A task like others: what is waited for here is looked at whenever any task wakes.
        let running = runtime.spawn_local(run(plane, listeners, stages));
        let ran = runtime.block_on(running);
        // A lookup that hangs must not keep the process.
        runtime.shutdown_background();
        ran.map_err(io::Error::other)?
    })
}

async fn run(plane: Arc<Plane>, listeners: Vec<std::net::TcpListener>, mut stages: Following) -> io::Result<usize> {
    let worker = Worker::new(plane).map_err(io::Error::other)?;
    let listeners = listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?;
    let upkeep = tokio::task::spawn_local(upkeep(Rc::clone(&worker)));
    let review = tokio::task::spawn_local(review(Rc::clone(&worker)));
    let leaving = tokio::task::spawn_local(ask_away(Rc::clone(&worker), stages.clone()));
    let stage = loop {
        tokio::select! {
            accepted = poll_fn(|cx| poll_accept(&worker, &listeners, cx)) => take(&worker, accepted).await,
            stage = stages.reached(Stage::Relieved) => break stage,
        }
    };
    let begun = close(&worker, listeners, stage, &mut stages).await?;
    worker.streams.drain();
    tokio::select! {
        () = emptied(&worker) => {}
        () = time_out(&worker, begun + worker.plane.settings.drain_timeout) => {}
        _ = stages.reached(Stage::Over) => {}
    }
    upkeep.abort();
    review.abort();
    leaving.abort();
    worker.flush_log();
    Ok(worker.streams.len())
}

/// Accepts nothing more, and says when the drain has begun.
async fn close(
    worker: &Rc<Worker>,
    listeners: Vec<TcpListener>,
    stage: Stage,
    stages: &mut Following,
) -> io::Result<Instant> {
    let now = Instant::now();
    if stage == Stage::Draining(Queue::Ours) {
        take_the_last(worker, listeners).await?;
        return Ok(now);
    }
    drop(listeners);
    stages.reached(Stage::Draining(Queue::Ours)).await;
    Ok(Instant::now())
}

/// Asks clients to come elsewhere as soon as the instance leaves.
async fn ask_away(worker: Rc<Worker>, mut stages: Following) {
    stages.reached(Stage::Leaving).await;
    worker.streams.leave();
}

/// The next connection of any socket, which are asked beginning with another one each time: none can starve the others.
fn poll_accept(
    worker: &Worker,
    listeners: &[TcpListener],
    cx: &mut Context<'_>,
) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    let first = if listeners.len() > 1 { worker.random() as usize % listeners.len() } else { 0 };
    for listener in listeners[first..].iter().chain(&listeners[..first]) {
        if let accepted @ Poll::Ready(_) = listener.poll_accept(cx) {
            return accepted;
        }
    }
    Poll::Pending
}

/// Serves who has connected already, also who is just doing so: closing the listener on them would reset them.
async fn take_the_last(worker: &Rc<Worker>, listeners: Vec<TcpListener>) -> io::Result<()> {
    // The runtime may not know of them yet, so the kernel is asked.
    let listeners = listeners.into_iter().map(TcpListener::into_std).collect::<io::Result<Vec<_>>>()?;
    let overlooked = listeners.iter().filter(|listener| begin_no_more(listener)).count();
    let now = Instant::now();
    let (until, limit) = (now + if overlooked > 0 { HANDSHAKES } else { Duration::ZERO }, now + LAST_CALL);
    loop {
        match listeners.iter().find_map(accept_now) {
            Some(_) if Instant::now() >= limit => return Ok(()),
            Some(accepted) => take(worker, accepted).await,
            None if Instant::now() >= until => return Ok(()),
            None => sleep(HANDSHAKES / 10).await,
        }
    }
}

/// A connection that waits, if one does.
fn accept_now(listener: &std::net::TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    match listener.accept() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => Some(Err(error)),
        Ok((tcp, peer)) => {
            let tcp = tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp));
            Some(tcp.map(|tcp| (tcp, peer)))
        }
    }
}

/// Ready at the end of the time that a drain may take.
async fn time_out(worker: &Worker, deadline: Instant) {
    sleep_until(deadline - LAST_WORD.min(worker.plane.settings.drain_timeout / 10)).await;
    worker.streams.be_late();
    sleep_until(deadline).await;
}

/// Ready when no connection is left.
async fn emptied(worker: &Worker) {
    let mut ticks = interval(Duration::from_millis(10));
    while worker.streams.len() > 0 {
        ticks.tick().await;
    }
}

/// Does what is due now and then, and sleeps long while nothing is.
async fn upkeep(worker: Rc<Worker>) {
    let mut swept = Instant::now();
    loop {
        if timeout_at(swept + SWEEP, worker.first_line()).await.is_ok() {
            sleep(TICK).await;
            worker.flush_log();
        }
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            worker.wall.read();
            worker.pool.sweep();
        }
    }
}

/// Ends streams whose ground is taken away, as soon as the directory says so.
async fn review(worker: Rc<Worker>) {
    let directory = &worker.plane.directory;
    let mut news = directory.news();
    loop {
        let news = match news.recv().await {
            Ok(news) => news,
            Err(RecvError::Lagged(_)) => News::All,
            Err(RecvError::Closed) => return,
        };
        if let Some(snapshot) = directory.snapshot() {
            let ended = worker.streams.review(&news, &snapshot, || Instant::now() + patience(&worker));
            worker.plane.metrics.streams_revoked.increment(ended);
        }
    }
}

/// How long a WebSocket may stay on a node that is to go: never all of them the same, or their clients would come back at
/// once as well.
fn patience(worker: &Worker) -> Duration {
    let settings = &worker.plane.settings;
    settings.upstream_drain_grace + worker.part_of(settings.upstream_drain_spread)
}

async fn take(worker: &Rc<Worker>, accepted: io::Result<(TcpStream, SocketAddr)>) {
    match accepted {
        Ok((tcp, peer)) => {
            // Registered before it runs, so that a drain waits for it.
            let registration = worker.streams.register();
            tokio::task::spawn_local(guarded(Rc::clone(worker), tcp, peer.ip(), registration));
        }
        // Such errors concern one connection that is gone already.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
        Err(error) => {
            tracing::warn!(%error, "cannot accept connections for a moment");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// A connection in the count of this instance.
struct Counted(Arc<Plane>);

impl Counted {
    /// Counts a connection; says how many there were before.
    fn new(plane: &Arc<Plane>) -> (Self, usize) {
        let before = plane.connections.fetch_add(1, Ordering::Relaxed);
        plane.metrics.connections_active.increment(1.0);
        (Self(Arc::clone(plane)), before)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections_active.decrement(1.0);
    }
}

/// Runs a connection; a panic ends it alone.
async fn guarded(worker: Rc<Worker>, tcp: TcpStream, peer: IpAddr, registration: Registration) {
    let (counted, before) = Counted::new(&worker.plane);
    let metrics = Arc::clone(&worker.plane.metrics);
    let limit = worker.plane.settings.max_connections;
    let full = before >= limit || worker.plane.admission.is_short_of_files();
    if full {
        metrics.connections_refused.increment(1);
    } else {
        metrics.connections.increment(1);
    }
    // To refuse politely costs a moment and a descriptor, which only a few may have.
    if full && (worker.plane.tls.is_some() || before >= limit + POLITE_REFUSALS) {
        return;
    }
    let run = AssertUnwindSafe(connection(&worker, tcp, peer, registration, full)).catch_unwind();
    match run.await {
        Ok(None) => {}
        Ok(Some(other)) => {
            // A task of its own: what the requests before the change needed is given back.
            tokio::task::spawn_local(async move {
                let _counted = counted;
                if AssertUnwindSafe(other.run(worker)).catch_unwind().await.is_err() {
                    metrics.panics.increment(1);
                }
            });
        }
        Err(_) => metrics.panics.increment(1),
    }
}

/// What a connection becomes that does not go on with HTTP/1.1.
enum Other {
    Tunnel(Box<Tunnel>),
    /// With what was read already.
    Http2(Vec<u8>, Io, Peer, Registration),
}

impl Other {
    async fn run(self, worker: Rc<Worker>) {
        match self {
            Self::Tunnel(tunnel) => tunnel.run(worker).await,
            // Boxed, or each tunnel would keep room for it.
            Self::Http2(before, io, peer, registration) => {
                Box::pin(http2::run(worker, (before, io), peer, registration)).await;
            }
        }
    }
}

async fn connection(
    worker: &Rc<Worker>,
    mut tcp: TcpStream,
    peer: IpAddr,
    registration: Registration,
    full: bool,
) -> Option<Other> {
    tune(&tcp);
    let peer = client_of(worker, &mut tcp, peer).await?;
    let io = handshake(worker, tcp).await?;
    // A v4 client of a v6 socket is the v4 client.
    let peer = Peer::new(peer.to_canonical());
    if io.has_agreed_on(HTTP2) {
        return Some(Other::Http2(Vec::new(), io, peer, registration));
    }
    let mut client = Client::new(io, peer, registration, worker);
    if full {
        refuse_full(worker, &mut client).await;
        client.close(worker).await;
        return None;
    }
    requests(worker, client).await
}

async fn handshake(worker: &Worker, tcp: TcpStream) -> Option<Io> {
    let Some(tls) = &worker.plane.tls else { return Some(Io::Plain(tcp)) };
    let limit = worker.plane.settings.tls_handshake_timeout;
    let tls = tokio::time::timeout(limit, tls.accept(tcp)).await.ok()?.ok()?;
    Some(Io::Tls(Box::new(TlsStream::Server(tls))))
}

/// Serves the requests of a connection one after the other.
async fn requests(worker: &Rc<Worker>, mut client: Client) -> Option<Other> {
    let (mut head, mut first) = (Vec::new(), true);
    loop {
        let next = match client.read_head(worker, &mut head, first).await {
            Ok(()) if first && is_http2(worker, &client, &head) => return http2_after(client, head),
            Ok(()) => {
                let (mut positions, limits) = (worker.buffers.take_positions(), worker.plane.settings.head_limits);
                let next = match Head::parse(&head, &mut positions, limits) {
                    Ok(head) => serve(worker, &mut client, &head).await,
                    Err(error) => refuse_head(worker, &mut client, error).await,
                };
                worker.buffers.give_positions(positions);
                next
            }
            Err(NoHead::Bad(error)) => refuse_head(worker, &mut client, error).await,
            Err(NoHead::Slow) => {
                refuse_unread(worker, &mut client, Class::ClientTimeout, "the head did not come in time".into()).await
            }
            Err(NoHead::Quiet | NoHead::Broken) => return None,
        };
        first = false;
        match next {
            Next::Another => {}
            Next::Abort => return None,
            Next::Close => {
                client.close(worker).await;
                return None;
            }
            Next::Tunnel(upgraded) => {
                // What is idle most of the time holds no buffer.
                worker.buffers.give(client.outbox.give_up());
                return Some(Other::Tunnel(Box::new(Tunnel::new(client, *upgraded, &worker.plane.settings))));
            }
        }
    }
}

/// Whether a client begins HTTP/2 without having agreed on it, which it may where there is no TLS (RFC 9113 3.3).
fn is_http2(worker: &Worker, client: &Client, head: &[u8]) -> bool {
    head == http2::LIKE_A_HEAD && worker.plane.settings.http2 && matches!(client.io, ClientIo::Socket(Io::Plain(_)))
}

/// The connection of a client whose preface was read as a head.
fn http2_after(client: Client, mut before: Vec<u8>) -> Option<Other> {
    let ClientIo::Socket(io) = client.io else { return None };
    before.extend_from_slice(&client.unread);
    Some(Other::Http2(before, io, client.peer, client.registration))
}

/// Refuses a client for whom there is no room.
pub(super) async fn refuse_full(worker: &Rc<Worker>, client: &mut Client) -> Next {
    refuse_unread(worker, client, Class::Overloaded, "limits.max_connections or that on open files is reached".into())
        .await
}

pub(super) async fn refuse_head(worker: &Rc<Worker>, client: &mut Client, error: HeadError) -> Next {
    let class = match error {
        HeadError::Malformed(_) => Class::Malformed,
        HeadError::TooLong | HeadError::TooManyFields => Class::HeadTooLarge,
        HeadError::Method => Class::Method,
        HeadError::Expectation => Class::Expectation,
    };
    refuse_unread(worker, client, class, error.to_string()).await;
    // Where a head could not be read, nobody knows where the next one begins.
    Next::Close
}
