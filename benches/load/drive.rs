//! Sends load and measures it: in a closed loop, where each connection waits for its answer before it asks again, or in an
//! open one, where requests are due whatever became of those before.

use crate::arrivals::Arrivals;
use crate::connection::Opener;
use crate::http1::Http1;
use crate::http2::Stream;
use crate::options::Load;
use crate::processes::Clock;
use crate::tally::Tally;
use crate::websocket::WebSocket;
use anyhow::Context;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Read;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::sleep;

/// How long after the end of an open loop answers are waited for.
const GRACE: Duration = Duration::from_secs(5);
/// Before a client that has failed tries again, so that a proxy that is gone is not asked all the time.
const PAUSE: Duration = Duration::from_millis(100);

/// A client that does the same again and again.
pub(crate) trait Exchange {
    /// Once there and back; says how many bytes came back.
    async fn exchange(&mut self) -> anyhow::Result<usize>;

    /// Makes it usable after a failure.
    async fn renew(&mut self) -> anyhow::Result<()>;
}

pub(crate) async fn drive(options: Box<Load>) -> anyhow::Result<()> {
    let protocol: &[u8] = if options.http2.is_some() { b"h2" } else { b"http/1.1" };
    let opener = Opener::new(options.target, &options.host, options.tls.as_deref(), protocol)?;
    let connections = options.connections;
    if let Some(streams) = options.http2 {
        let (request, mut clients) = (http2_request(&options)?, Vec::new());
        for _ in 0..connections {
            clients.extend(Stream::open(&opener, streams, &request).await?);
        }
        return run(clients, options).await;
    }
    let request: Rc<[u8]> = http1_request(&options).into();
    if let Some(size) = options.websocket {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(WebSocket::open(&opener, Rc::clone(&request), size).await?);
        }
        return run(clients, options).await;
    }
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Http1::open(opener.clone(), Rc::clone(&request)).await?);
    }
    run(clients, options).await
}

async fn run<E: Exchange + 'static>(clients: Vec<E>, options: Box<Load>) -> anyhow::Result<()> {
    if options.idle {
        return hold(clients).await;
    }
    let tally = Rc::new(Tally::default());
    let queue = Rc::new(Queue::default());
    for client in clients {
        match options.rate {
            None => spawn_local(ask_again(client, Rc::clone(&tally))),
            Some(_) => spawn_local(ask_when_due(client, Rc::clone(&queue), Rc::clone(&tally))),
        };
    }
    if let Some(rate) = options.rate {
        let arrivals = Arrivals::new(rate, options.seed)?;
        spawn_local(Rc::clone(&queue).fill(arrivals, Rc::clone(&tally)));
    }
    let report = measure(&options, &tally, &queue).await;
    println!("{report}");
    Ok(())
}

/// The requests counted are those answered between both readings of the clocks; in an open loop, those due between them.
async fn measure(options: &Load, tally: &Tally, queue: &Queue) -> serde_json::Value {
    sleep(Duration::from_secs_f64(options.warmup)).await;
    let (begin, before) = (Instant::now(), Clock::read(&options.pids, &options.beside));
    tally.measure(true);
    sleep(Duration::from_secs_f64(options.seconds)).await;
    let (seconds, after) = (begin.elapsed(), Clock::read(&options.pids, &options.beside));
    tally.measure(false);
    let end = Instant::now() + GRACE;
    while queue.counted.get() > 0 && Instant::now() < end {
        sleep(Duration::from_millis(1)).await;
    }
    tally.unanswered(queue.counted.get());
    tally.report(seconds.as_secs_f64(), &before.until(&after))
}

/// Each has been used once, so that whatever the proxy needs for one is there.
async fn hold<E: Exchange>(mut clients: Vec<E>) -> anyhow::Result<()> {
    for client in &mut clients {
        client.exchange().await?;
    }
    println!("open");
    // Nothing else is to be done meanwhile, so that this thread may as well wait.
    std::io::stdin().read_to_end(&mut Vec::new()).context("standard input")?;
    Ok(())
}

async fn ask_again<E: Exchange>(mut client: E, tally: Rc<Tally>) {
    loop {
        let sent = Instant::now();
        match client.exchange().await {
            Ok(bytes) => tally.answer(tally.is_measuring(), sent.elapsed(), bytes),
            Err(error) => recover(&mut client, &error, &tally).await,
        }
    }
}

async fn recover<E: Exchange>(client: &mut E, error: &anyhow::Error, tally: &Tally) {
    tally.error(error);
    sleep(PAUSE).await;
    while let Err(error) = client.renew().await {
        tally.error(&error);
        sleep(PAUSE).await;
    }
}

async fn ask_when_due<E: Exchange>(mut client: E, queue: Rc<Queue>, tally: Rc<Tally>) {
    loop {
        let due = queue.next().await;
        let result = client.exchange().await;
        if due.counts {
            queue.counted.set(queue.counted.get() - 1);
        }
        match result {
            Ok(bytes) => tally.answer(due.counts, due.at.elapsed(), bytes),
            Err(error) => recover(&mut client, &error, &tally).await,
        }
    }
}

/// Requests that are due and wait for a connection.
#[derive(Default)]
struct Queue {
    due: RefCell<VecDeque<Due>>,
    added: Notify,
    /// Those that count and have no answer yet.
    counted: Cell<usize>,
}

/// A request that is due.
struct Due {
    /// Its latency counts from here, however long it waits, so that a proxy that stalls cannot hide it.
    at: Instant,
    /// Whether it belongs to the measurement.
    counts: bool,
}

impl Queue {
    async fn fill(self: Rc<Self>, mut arrivals: Arrivals, tally: Rc<Tally>) {
        loop {
            match arrivals.next().await {
                Ok(at) => self.add(Due { at, counts: tally.is_measuring() }),
                Err(error) => return tally.error(&error),
            }
        }
    }

    fn add(&self, due: Due) {
        self.counted.set(self.counted.get() + usize::from(due.counts));
        self.due.borrow_mut().push_back(due);
        self.added.notify_one();
    }

    async fn next(&self) -> Due {
        loop {
            // Taken in a statement of its own: the queue must not be borrowed over an await.
            let due = self.due.borrow_mut().pop_front();
            match due {
                Some(due) => return due,
                None => self.added.notified().await,
            }
        }
    }
}

fn http1_request(options: &Load) -> Vec<u8> {
    let method = if options.body.is_some() { "POST" } else { "GET" };
    let mut request = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", options.path, options.host);
    if options.websocket.is_some() {
        request += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    }
    for field in &options.header {
        request += field;
        request += "\r\n";
    }
    if let Some(length) = options.body {
        request += "Content-Type: application/octet-stream\r\nContent-Length: ";
        request += &length.to_string();
        request += "\r\n";
    }
    let mut request = (request + "\r\n").into_bytes();
    request.resize(request.len() + options.body.unwrap_or(0), b'x');
    request
}

fn http2_request(options: &Load) -> anyhow::Result<http::Request<()>> {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let mut request = http::Request::get(format!("{scheme}://{}{}", options.host, options.path));
    for field in &options.header {
        let (name, value) = field.split_once(':').context("a field without a colon")?;
        request = request.header(name.trim(), value.trim());
    }
    Ok(request.body(())?)
}
