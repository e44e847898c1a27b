//! What is known of a request when it is over: counted, measured and logged when the account is dropped, however the
//! request ended. Observability only: nothing here may steer a request.

use super::admission::{self, Permits};
use super::client::Client;
use super::cut::Cut;
use super::databricks::{Moments, Statement};
use super::worker::Worker;
use crate::config::LogFormat;
use crate::live::cluster::ClusterLease;
use crate::live::node::NodeLease;
use crate::live::place::Place;
use crate::live::quota::Charge;
use crate::metrics::{Finished, RouteKind};
use crate::model::reject::Reject;
use crate::model::upstream::Cluster;
use crate::net::write_ip;
use crate::session::Session;
use crate::wire::request::Head;
use std::io::Write;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Far enough to mean never, near enough for the timer wheel.
pub(super) const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The name of a request for logs, 32 hexadecimal digits.
pub(super) type RequestId = [u8; 32];

/// A request's places, given back when it is over.
#[derive(Default)]
pub(super) struct Lease {
    /// On the cluster that it goes to, from the decision on; none where there is no cluster.
    #[expect(dead_code, reason = "held for what dropping it does")]
    pub(super) cluster: Option<ClusterLease>,
    pub(super) node: Option<NodeLease>,
    /// Among the requests of its upstream, where these are limited.
    pub(super) request: Option<Place>,
    /// Among those of its upstream that are tried on another node.
    pub(super) retry: Option<Place>,
}

impl Lease {
    /// A place on the cluster of a decision, if there is one. To be taken before the snapshot of the decision is let go of:
    /// when nobody reads an older one any more, nothing that was decided by it is missing from the counts.
    pub(super) fn on(cluster: Option<&Arc<Cluster>>) -> Self {
        Self { cluster: cluster.map(|cluster| cluster.live.lease()), ..Self::default() }
    }
}

/// The account of one request.
pub(super) struct Account {
    worker: Rc<Worker>,
    /// The fields of the log line that are known from the head.
    line: Vec<u8>,
    started: Instant,
    pub(super) request_id: RequestId,
    pub(super) kind: RouteKind,
    pub(super) session: Option<Rc<Session>>,
    /// The app or warehouse.
    pub(super) upstream: Option<crate::model::ids::UpstreamId>,
    pub(super) status: u16,
    /// Body and tunnel bytes from the client.
    pub(super) received: u64,
    /// Body and tunnel bytes to the client.
    pub(super) sent: u64,
    /// When the head had been sent upstream.
    pub(super) forwarded: Option<Instant>,
    /// When the head of the answer had come.
    pub(super) answered: Option<Instant>,
    /// When the head of the answer had been handed to the client's socket.
    pub(super) replied: Option<Instant>,
    /// When nothing was left to do for it but to count it.
    ended: Option<Instant>,
    pub(super) lease: Option<Lease>,
    /// What it counts for in the quotas.
    pub(super) charge: Option<Charge>,
    /// Leave to be under way.
    pub(super) permits: Permits,
    /// The cluster of an upstream whose latency sets its limit.
    follows: Option<Arc<Cluster>>,
    /// The upstream's connection among those to its node, while the request has it for itself.
    pub(super) connection: Option<Place>,
    /// How long the request waited for its upstream to start.
    pub(super) held: Option<Duration>,
    /// The statement that it is about.
    pub(super) statement: Option<Box<Statement>>,
    /// When it began to wait for its turn, and how long it did.
    pub(super) queued_since: Option<Instant>,
    /// See `queued_since`.
    pub(super) queued: Option<Duration>,
    /// Whether nobody has said yet that it is over: with the worker, it is cut then.
    under_way: bool,
    reject: Option<Reject>,
    cut: Option<Cut>,
}

impl Account {
    /// Opens the account of a request. `path` is what of the target may be logged: never a query, never a token.
    pub(super) fn open(worker: &Rc<Worker>, head: &Head<'_>, path: &str, client: &Client) -> Self {
        let mut account = Self::open_unread(worker, client.peer);
        if let Some(format) = worker.plane.access_log {
            let mut fields = Fields { out: &mut account.line, format };
            fields.text("method", head.method.as_bytes());
            fields.text("host", head.authority.as_bytes());
            fields.text("path", path.as_bytes());
            fields.quoted("protocol", |out| out.extend_from_slice(protocol(head, client)));
        }
        account
    }

    /// Opens the account of something that could not be read as a request.
    pub(super) fn open_unread(worker: &Rc<Worker>, peer: IpAddr) -> Self {
        let request_id = hex(worker.random(), worker.random());
        worker.metrics.begin();
        let mut line = worker.take_line();
        if let Some(format) = worker.plane.access_log {
            let mut fields = Fields { out: &mut line, format };
            fields.quoted("peer", |out| write_ip(peer, out));
        }
        Self {
            worker: Rc::clone(worker),
            line,
            started: Instant::now(),
            request_id,
            kind: RouteKind::Unknown,
            session: None,
            upstream: None,
            status: 0,
            received: 0,
            sent: 0,
            forwarded: None,
            answered: None,
            replied: None,
            ended: None,
            lease: None,
            charge: None,
            permits: Permits::default(),
            follows: None,
            connection: None,
            held: None,
            statement: None,
            queued_since: None,
            queued: None,
            under_way: true,
            reject: None,
            cut: None,
        }
    }

    /// When the request came.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Notes that the gateway refused the request.
    pub(super) fn reject(&mut self, reject: Reject) {
        self.worker.plane.metrics.count_reject(reject.class);
        self.status = reject.class.status();
        self.reject = Some(reject);
    }

    /// Notes who cut the request off.
    pub(super) fn cut(&mut self, cut: Cut) {
        self.cut.get_or_insert(cut);
    }

    /// Notes that the request came to an end of its own, and says what comes `next`.
    pub(super) fn over<T>(&mut self, next: T) -> T {
        self.under_way = false;
        next
    }

    /// Notes that the time until an answer begins is to set the limit of this cluster's upstream.
    pub(super) fn follow(&mut self, cluster: &Arc<Cluster>) {
        self.follows = Some(Arc::clone(cluster));
    }

    /// Notes the status of an answer that goes to the client. One that went wrong says nothing of how busy the upstream is.
    pub(super) fn heard(&mut self, status: u16) {
        self.status = status;
        let (Some(cluster), 200..500) = (&self.follows, status) else { return };
        let (Some(session), Some(upstream)) = (&self.session, &self.upstream) else { return };
        if let (Some(forwarded), Some(answered)) = (self.forwarded, self.answered) {
            let latency = answered.saturating_duration_since(forwarded);
            admission::learn(&self.worker, cluster, session.org(), upstream.as_str(), latency);
        }
    }

    /// Notes that it is over now, and when that is.
    pub(super) fn end(&mut self) -> Instant {
        *self.ended.insert(Instant::now())
    }

    /// A mask for a WebSocket frame of ours.
    pub(super) fn mask(&self) -> [u8; 4] {
        (self.worker.random() as u32).to_ne_bytes()
    }

    /// When the session of the request ends.
    pub(super) fn session_end(&self) -> Instant {
        let clock = self.worker.plane.clock.now();
        let left = |session: &Rc<Session>| Duration::from_secs(session.expires.saturating_sub(clock));
        self.started + self.session.as_ref().map_or(NEVER, left)
    }

    fn measure(&self, duration: Duration) -> Option<Duration> {
        if let (Some(statement), Some(moments)) = (&self.statement, self.moments()) {
            statement.measure(&self.worker.plane.metrics.sql, moments, self.sent);
        }
        let since = |later: Instant, earlier| later.saturating_duration_since(earlier);
        let (mut upstream, mut overhead) = (None, None);
        if let (Some(forwarded), Some(answered)) = (self.forwarded, self.answered) {
            upstream = Some(since(answered, forwarded));
            overhead = self.replied.map(|replied| since(forwarded, self.started) + since(replied, answered));
        }
        let Self { kind, status, received, sent, .. } = *self;
        self.worker.metrics.finish(&Finished { kind, status, received, sent, duration, upstream, overhead });
        upstream
    }

    /// When the request was sent on and answered, if it was sent on.
    fn moments(&self) -> Option<Moments> {
        let since = |moment: Instant| moment.saturating_duration_since(self.started);
        Some(Moments { forwarded: since(self.forwarded?), answered: self.answered.map(since) })
    }

    fn log_statement(&self, statement: &Statement, fields: &mut Fields<'_>) {
        if let Some(warehouse) = self.upstream.as_ref().filter(|_| statement.names_warehouse()) {
            fields.text("warehouse", warehouse.as_str().as_bytes());
        }
        if let Some(id) = statement.id() {
            fields.text("statement_id", id.as_bytes());
        }
        let Some(moments) = self.moments() else { return };
        if let Some(state) = statement.state() {
            fields.text("statement_state", state.label().as_bytes());
        }
        if let Some(rows) = statement.rows() {
            fields.number("statement_rows", rows);
        }
        fields.millis("queue_ms", moments.forwarded);
        if let Some(answered) = moments.answered {
            fields.millis("first_byte_ms", answered);
        }
    }

    fn log(&mut self, total: Duration, upstream: Option<Duration>) {
        let Some(format) = self.worker.plane.access_log else { return };
        let mut batch = self.worker.batch();
        begin(&mut batch, format);
        batch.extend_from_slice(&self.line);
        let mut fields = Fields { out: &mut batch, format };
        fields.quoted("request_id", |out| out.extend_from_slice(&self.request_id));
        fields.quoted("route", |out| out.extend_from_slice(self.kind.label().as_bytes()));
        if let Some(session) = &self.session {
            fields.text("org", session.org().as_bytes());
            fields.text("user", session.user().as_bytes());
        }
        if let Some(upstream) = &self.upstream {
            fields.text("upstream", upstream.as_str().as_bytes());
        }
        fields.number("status", u64::from(self.status));
        fields.number("bytes_in", self.received);
        fields.number("bytes_out", self.sent);
        fields.millis("duration_ms", total);
        if let Some(upstream) = upstream {
            fields.millis("upstream_ms", upstream);
        }
        if let Some(held) = self.held {
            fields.millis("held_ms", held);
        }
        if let Some(statement) = &self.statement {
            self.log_statement(statement, &mut fields);
        }
        if let Some(queued) = self.queued {
            fields.millis("queued_ms", queued);
        }
        if let Some(cut) = self.cut {
            fields.quoted("cut_by", |out| cut.write(out));
        }
        if let Some(reject) = &self.reject {
            fields.text("reject", reject.class.label().as_bytes());
            fields.text("cause", reject.cause.as_bytes());
        }
        batch.extend_from_slice(match format {
            LogFormat::Json => b"}\n",
            LogFormat::Text => b"\n",
        });
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.under_way && self.worker.streams.is_draining() {
            self.cut(Cut::Drain);
        }
        if let Some(cut) = self.cut {
            self.worker.plane.metrics.count_cut(cut.by());
        }
        // A client that left before any answer: nginx's code for it, never sent.
        if self.status == 0 {
            self.status = 499;
        }
        let total = self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.started);
        let upstream = self.measure(total);
        self.log(total, upstream);
        self.worker.give_line(std::mem::take(&mut self.line));
    }
}

/// The client's protocol, as the log names it.
fn protocol(head: &Head<'_>, client: &Client) -> &'static [u8] {
    match (client.io.is_stream(), head.http11) {
        (true, _) => b"HTTP/2",
        (false, true) => b"HTTP/1.1",
        (false, false) => b"HTTP/1.0",
    }
}

fn begin(out: &mut Vec<u8>, format: LogFormat) {
    match format {
        LogFormat::Json => {
            out.extend_from_slice(b"{\"timestamp\":\"");
            crate::log::write_time(SystemTime::now(), out);
            out.extend_from_slice(b"\",\"level\":\"INFO\",\"message\":\"request\"");
        }
        LogFormat::Text => {
            crate::log::write_time(SystemTime::now(), out);
            out.extend_from_slice(b"  INFO request");
        }
    }
}

/// Writes fields of a log line after the first.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    format: LogFormat,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Json => {
                self.out.extend_from_slice(b",\"");
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
            LogFormat::Text => {
                self.out.push(b' ');
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'=');
            }
        }
    }

    /// A text between quotes; `write` must write nothing that needs escaping.
    fn quoted(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        self.out.push(b'"');
        write(self.out);
        self.out.push(b'"');
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        self.quoted(name, |out| {
            // Without a way out in the middle, so that many bytes are looked at together.
            let is_plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\';
            if text.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
                out.extend_from_slice(text);
                return;
            }
            for byte in text {
                match byte {
                    b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
                    0x20..=0x7e => out.push(*byte),
                    // Everything else, UTF-8 included, byte by byte: a log line stays ASCII whatever a client sends.
                    _ => {
                        let _ = write!(out, "\\u00{byte:02x}");
                    }
                }
            }
        });
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn millis(&mut self, name: &str, time: Duration) {
        self.name(name);
        crate::log::write_millis(time, self.out);
    }
}

/// Two random numbers as 32 hexadecimal digits.
fn hex(high: u64, low: u64) -> RequestId {
    let mut id = [0; 32];
    let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
    for (digits, byte) in id.chunks_exact_mut(2).zip(bytes) {
        digits.copy_from_slice(&[byte >> 4, byte & 0xf].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    id
}
