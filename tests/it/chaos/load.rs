//! Clients behind a load balancer: requests, streams and WebSockets at a steady rate, each of whose answers is checked.

use super::frames;
use super::nodes::EVENTS;
use crate::harness::http::get;
use crate::harness::raw::{Message, Wire};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How often the load balancer asks each gateway whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Failures that are kept word by word.
const KEPT: usize = 20;
/// Requests a second of one connection.
const PER_CLIENT: u32 = 20;
/// Messages of a WebSocket before its client leaves by itself.
const MESSAGES: u32 = 40;
const BETWEEN_MESSAGES: Duration = Duration::from_millis(100);

/// What happened, by name.
#[derive(Default)]
pub(super) struct Tally {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    failures: Mutex<Vec<String>>,
    times: Mutex<Vec<Duration>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    fn count(&self, what: &'static str) {
        *lock(&self.counts).entry(what).or_default() += 1;
    }

    fn fail(&self, what: &'static str, why: &str) {
        self.count(what);
        let mut failures = lock(&self.failures);
        if failures.len() < KEPT {
            failures.push(format!("{what}: {why}"));
        }
    }

    pub(super) fn of(&self, what: &str) -> u64 {
        lock(&self.counts).get(what).copied().unwrap_or(0)
    }

    /// The failures that nothing excuses.
    pub(super) fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lock(&self.counts).iter().try_for_each(|(what, count)| writeln!(f, "  {what}: {count}"))?;
        let mut times = lock(&self.times).clone();
        times.sort_unstable();
        let at = |thousandths| times.get(times.len() * thousandths / 1000).copied().unwrap_or_default();
        writeln!(f, "  requests answered within: p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999))
    }
}

/// One gateway, as a load balancer knows it.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) data: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// Sends connections to gateways that say that they are ready.
#[derive(Default)]
pub(super) struct Balancer {
    gates: Mutex<Vec<Gate>>,
    ready: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Balancer {
    pub(super) fn add(&self, gate: Gate) {
        lock(&self.gates).push(gate);
    }

    pub(super) fn remove(&self, data: SocketAddr) {
        lock(&self.gates).retain(|gate| gate.data != data);
    }

    /// Looks again and again, for ever.
    async fn watch(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    async fn look(&self) {
        let gates = lock(&self.gates).clone();
        let mut ready = Vec::new();
        for gate in gates {
            if get(gate.admin, "/readyz", None).await.is_ok_and(|(status, _)| status == 200) {
                ready.push(gate.data);
            }
        }
        *lock(&self.ready) = ready;
    }

    fn is_ready(&self, gate: SocketAddr) -> bool {
        lock(&self.ready).contains(&gate)
    }

    async fn connect(&self) -> Result<(Wire, SocketAddr)> {
        let gate = {
            let ready = lock(&self.ready);
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            ready.get(turn % ready.len().max(1)).copied().context("no gateway is ready")?
        };
        Ok((Wire::connect(gate).await.with_context(|| format!("connecting to {gate}"))?, gate))
    }
}

/// What all clients share.
pub(super) struct Load {
    pub(super) balancer: Balancer,
    pub(super) tally: Tally,
    /// While a node dies or is out of reach: what was on it cannot be saved.
    pub(super) harsh: AtomicBool,
    token: String,
    number: AtomicU64,
    over: AtomicBool,
}

impl Load {
    pub(super) fn new(token: String) -> Arc<Self> {
        let (balancer, tally) = Default::default();
        let (harsh, number, over) = Default::default();
        Arc::new(Self { balancer, tally, harsh, token, number, over })
    }

    /// Starts clients that make `rate` requests a second together, most of them plain ones.
    pub(super) async fn start(self: &Arc<Self>, rate: u32) -> JoinSet<()> {
        self.balancer.look().await;
        let mut clients = JoinSet::new();
        let balancer = Arc::clone(self);
        clients.spawn(async move { balancer.balancer.watch().await });
        for number in 0..(rate / PER_CLIENT).max(1) {
            let load = Arc::clone(self);
            clients.spawn(async move { load.requests(number).await });
        }
        for _ in 0..(rate / 50).max(2) {
            let load = Arc::clone(self);
            clients.spawn(async move { load.again_and_again(Self::stream, "streams").await });
            let load = Arc::clone(self);
            clients.spawn(async move { load.again_and_again(Self::socket, "WebSockets").await });
        }
        clients
    }

    /// Asks the clients to end once they have what they wait for.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn head(&self, start: &str, more: &str) -> String {
        format!(
            "{start} HTTP/1.1\r\nHost: editor--acme.apps.localhost\r\nAuthorization: Bearer {}\r\n{more}\r\n",
            self.token
        )
    }

    /// One client with one connection, which goes on as long as its gateway does.
    async fn requests(&self, client: u32) {
        let mut ticks = interval(Duration::from_secs(1) / PER_CLIENT);
        let mut kept = None;
        while !self.is_over() {
            ticks.tick().await;
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            let posts = (u64::from(client) + number).is_multiple_of(8);
            let outcome = if posts { self.post(&mut kept, number).await } else { self.get(&mut kept, number).await };
            match outcome {
                Ok(()) => lock(&self.tally.times).push(began.elapsed()),
                Err(error) => {
                    kept = None;
                    self.tally.fail(if posts { "POST failed" } else { "GET failed" }, &format!("{error:#}"));
                }
            }
        }
    }

    /// The connection to use, and whether it has been used before.
    async fn connection(&self, kept: &mut Option<(Wire, SocketAddr)>) -> Result<(Wire, SocketAddr, bool)> {
        match kept.take().filter(|(_, gate)| self.balancer.is_ready(*gate)) {
            Some((wire, gate)) => Ok((wire, gate, true)),
            None => self.balancer.connect().await.map(|(wire, gate)| (wire, gate, false)),
        }
    }

    async fn get(&self, kept: &mut Option<(Wire, SocketAddr)>, number: u64) -> Result<()> {
        let target = format!("/get/{number}");
        let (mut wire, mut gate, used) = self.connection(kept).await?;
        let request = self.head(&format!("GET {target}"), "");
        let mut answer = exchange(&mut wire, &request).await;
        if used && answer.is_err() {
            // A load balancer sends what can be repeated once more where an idle connection has just ended.
            self.tally.count("GETs sent again on a new connection");
            (wire, gate) = self.balancer.connect().await?;
            answer = exchange(&mut wire, &request).await;
        }
        let answer = answer?;
        ensure!(answer.status() == 200 && answer.complete && answer.text() == target, "{gate}: {answer:?}");
        self.tally.count("GETs");
        keep(kept, wire, gate, &answer);
        Ok(())
    }

    /// What changes something is sent once; a gateway may not repeat it either when a node dies with it.
    async fn post(&self, kept: &mut Option<(Wire, SocketAddr)>, number: u64) -> Result<()> {
        let target = format!("/post/{number}");
        let (mut wire, gate, _) = self.connection(kept).await?;
        let request = self.head(&format!("POST {target}"), "Content-Length: 5\r\n") + "hello";
        let was_harsh = self.harsh.load(Ordering::Relaxed);
        let answer = exchange(&mut wire, &request).await.with_context(|| format!("{gate}"))?;
        let is_harsh = was_harsh || self.harsh.load(Ordering::Relaxed);
        if matches!(answer.status(), 502 | 504) && answer.complete && is_harsh {
            self.tally.count("POSTs lost with their node, and said so");
        } else {
            ensure!(answer.status() == 200 && answer.complete && answer.text() == target, "{gate}: {answer:?}");
            self.tally.count("POSTs");
        }
        keep(kept, wire, gate, &answer);
        Ok(())
    }

    async fn again_and_again(&self, once: impl AsyncFn(&Self) -> Result<bool>, what: &'static str) {
        while !self.is_over() {
            let was_harsh = self.harsh.load(Ordering::Relaxed);
            match once(self).await {
                Ok(true) => self.tally.count(what),
                Ok(false) if was_harsh || self.harsh.load(Ordering::Relaxed) => {
                    self.tally.count("streams and WebSockets broken with their node");
                }
                Ok(false) => self.tally.fail("stream broken", what),
                Err(error) => {
                    self.tally.fail("stream refused", &format!("{what}: {error:#}"));
                    sleep(BETWEEN_MESSAGES).await;
                }
            }
        }
    }

    /// One stream of events; whether it came to its end.
    async fn stream(&self) -> Result<bool> {
        let (mut wire, gate) = self.balancer.connect().await?;
        wire.send(self.head("GET /events", "")).await?;
        let head = wire.head().await?;
        ensure!(head.status() == 200, "{gate}: {head:?}");
        let answer = wire.body(head, false).await;
        Ok(answer.is_ok_and(|answer| answer.complete && answer.text().matches("data: ").count() == EVENTS))
    }

    /// One WebSocket; whether it was ended in words.
    async fn socket(&self) -> Result<bool> {
        let (mut wire, gate) = self.balancer.connect().await?;
        let ask = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        wire.send(self.head("GET /ws", ask)).await?;
        let head = wire.head().await?;
        ensure!(head.status() == 101, "{gate}: {head:?}");
        Ok(self.talk(&mut wire).await.unwrap_or(false))
    }

    async fn talk(&self, wire: &mut Wire) -> Result<bool> {
        let mut ticks = interval(BETWEEN_MESSAGES);
        for number in 0..MESSAGES {
            ticks.tick().await;
            if self.is_over() {
                break;
            }
            let text = number.to_string();
            wire.send(frames::write(frames::TEXT, text.as_bytes(), true)).await?;
            loop {
                match frames::read(wire).await? {
                    (frames::TEXT, echo) if echo == text.as_bytes() => break,
                    (frames::PING, payload) => wire.send(frames::write(frames::PONG, &payload, true)).await?,
                    (frames::PONG, _) => {}
                    (frames::CLOSE, why) => return self.leave(wire, &why).await,
                    frame => bail!("{frame:?}"),
                }
            }
        }
        wire.send(frames::write(frames::CLOSE, &1000_u16.to_be_bytes(), true)).await?;
        while frames::read(wire).await?.0 != frames::CLOSE {}
        Ok(true)
    }

    /// Answers a close frame of the gateway's.
    async fn leave(&self, wire: &mut Wire, why: &[u8]) -> Result<bool> {
        let code = why.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        self.tally.count(match code {
            Some(1001) => "WebSockets asked to leave a cluster (1001)",
            Some(1012) => "WebSockets asked to leave a gateway (1012)",
            _ => bail!("closed with {code:?}"),
        });
        // The peer may be gone before it reads this.
        let _ = wire.send(frames::write(frames::CLOSE, &why[..2], true)).await;
        Ok(true)
    }
}

async fn exchange(wire: &mut Wire, request: &str) -> Result<Message> {
    wire.send(request).await?;
    wire.answer().await
}

fn keep(kept: &mut Option<(Wire, SocketAddr)>, wire: Wire, gate: SocketAddr, answer: &Message) {
    *kept = answer.field("Connection").is_none_or(|value| value != "close").then_some((wire, gate));
}
