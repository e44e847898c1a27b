//! Nodes of an app that serve, are slow, fall silent, and die.

use super::frames;
use crate::harness::raw::{Message, Wire, ok};
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Events of one stream, and the time between two of them.
pub(super) const EVENTS: usize = 8;
const BETWEEN_EVENTS: Duration = Duration::from_millis(120);

/// How often each request that changes something was executed, by its number, over all nodes.
pub(super) type Executed = Arc<Mutex<HashMap<u64, u32>>>;

/// A node at an address that it keeps when it dies and comes back.
pub(super) struct Node {
    pub(super) address: SocketAddr,
    executed: Executed,
    state: Arc<State>,
    /// The tasks of its life; aborted, they take all connections along.
    life: Option<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    /// Requests, streams and WebSockets that it serves now.
    active: AtomicU32,
    /// All that it has served.
    served: AtomicU64,
    /// Added to each answer, in milliseconds.
    delay: AtomicU64,
    silent: watch::Sender<bool>,
}

/// One thing that is being served.
struct Busy<'a>(&'a State);

impl<'a> Busy<'a> {
    fn new(state: &'a State) -> Self {
        state.active.fetch_add(1, Ordering::Relaxed);
        state.served.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    pub(super) fn start(executed: &Executed) -> Result<Self> {
        let state = Arc::new(State::default());
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut node = Self { address: any, executed: Arc::clone(executed), state, life: None };
        node.revive()?;
        Ok(node)
    }

    /// Starts it at its address.
    pub(super) fn revive(&mut self) -> Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        let listener = socket.listen(1024)?;
        self.address = listener.local_addr()?;
        let mut life = JoinSet::new();
        life.spawn(serve(listener, Arc::clone(&self.state), Arc::clone(&self.executed)));
        self.life = Some(life);
        Ok(())
    }

    /// Ends it as SIGKILL does: the kernel resets its connections, and the next ones are refused.
    pub(super) async fn kill(&mut self) {
        if let Some(mut life) = self.life.take() {
            life.shutdown().await;
        }
    }

    /// Lets it neither accept nor read nor answer, as behind a cut cable; or lets it go on.
    pub(super) fn silence(&self, silent: bool) {
        self.state.silent.send_replace(silent);
    }

    /// Makes it take longer for each answer.
    pub(super) fn slow_down(&self, by: Duration) {
        self.state.delay.store(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// Requests, streams and WebSockets that it serves now.
    pub(super) fn active(&self) -> u32 {
        self.state.active.load(Ordering::Relaxed)
    }

    /// All that it has served.
    pub(super) fn served(&self) -> u64 {
        self.state.served.load(Ordering::Relaxed)
    }
}

impl State {
    /// Waits while nothing gets through.
    async fn reached(&self) {
        let mut silent = self.silent.subscribe();
        // The sender lives as long as the state.
        let _ = silent.wait_for(|silent| !silent).await;
    }
}

async fn serve(listener: TcpListener, state: Arc<State>, executed: Executed) {
    let mut connections = JoinSet::new();
    loop {
        state.reached().await;
        let Ok((tcp, _)) = listener.accept().await else { continue };
        // Errors are clients that left.
        let (state, executed) = (Arc::clone(&state), Arc::clone(&executed));
        connections.spawn(async move {
            let _ = tcp.set_nodelay(true);
            // Whoever dies says no goodbye; until then it is the other side that ends connections.
            let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
            let _ = connection(Wire::over(tcp), &state, &executed).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut wire: Wire, state: &State, executed: &Executed) -> Result<()> {
    loop {
        let request = wire.request().await?;
        state.reached().await;
        let _busy = Busy::new(state);
        sleep(Duration::from_millis(state.delay.load(Ordering::Relaxed))).await;
        match request.target() {
            "/ws" => return socket(wire, state, &request).await,
            "/events" => events(&mut wire, state).await?,
            target => {
                if let Some(number) = target.strip_prefix("/post/").and_then(|number| number.parse().ok()) {
                    *executed.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default() += 1;
                }
                state.reached().await;
                wire.send(ok(target)).await?;
            }
        }
    }
}

async fn events(wire: &mut Wire, state: &State) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    wire.send(head).await?;
    for number in 0..EVENTS {
        state.reached().await;
        let event = format!("data: {number}\n\n");
        wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await?;
        sleep(BETWEEN_EVENTS).await;
    }
    wire.send("0\r\n\r\n").await
}

/// Echoes the frames of a WebSocket until one closes it.
async fn socket(mut wire: Wire, state: &State, request: &Message) -> Result<()> {
    let key = request.field("Sec-WebSocket-Key").context("no key")?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    wire.send(format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n")).await?;
    loop {
        let (first, payload) = frames::read(&mut wire).await?;
        state.reached().await;
        wire.send(frames::write(first, &payload, false)).await?;
        if first == frames::CLOSE {
            wire.finish().await?;
            return wire.rest().await.map(drop);
        }
    }
}
