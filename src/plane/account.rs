//! What is known of a request when it is over: counted, measured and logged when the account is dropped, however the
//! request ended. Observability only: nothing here may steer a request.

use super::admission::{self, Permits};
use super::client::Client;
use super::cut::Cut;
use super::databricks::{Moments, Statement};
use super::line::{self, Fields, name, quoted};
use super::worker::Worker;
use crate::clock::UnixSeconds;
use crate::live::cluster::ClusterLease;
use crate::live::node::NodeLease;
use crate::live::place::Place;
use crate::live::quota::Charge;
use crate::metrics::{Finished, RouteKind};
use crate::model::reject::Reject;
use crate::model::upstream::Cluster;
use crate::net::Peer;
use crate::session::Session;
use crate::wire::request::Head;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
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
    /// The same on the wall.
    came: UnixSeconds,
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
    pub(super) ended: Option<Instant>,
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
        let mut account = Self::open_unread(worker, &client.peer);
        if let Some(format) = worker.plane.access_log {
            let mut fields = Fields { out: &mut account.line, format };
            // A method is a token, and ids, below, have no quotes either.
            fields.quoted(quoted!("method"), |out| out.extend_from_slice(head.method.as_bytes()));
            fields.text(quoted!("host"), head.authority.as_bytes());
            fields.text(quoted!("path"), path.as_bytes());
            fields.quoted(quoted!("protocol"), |out| out.extend_from_slice(protocol(head, client)));
        }
        account
    }

    /// Opens the account of something that could not be read as a request.
    pub(super) fn open_unread(worker: &Rc<Worker>, peer: &Peer) -> Self {
        let (request_id, started) = (hex(worker.random(), worker.random()), Instant::now());
        worker.metrics.begin();
        let mut line = worker.buffers.take();
        if let Some(format) = worker.plane.access_log {
            line.reserve(line::ROOM / 2);
            let mut fields = Fields { out: &mut line, format };
            fields.quoted(quoted!("peer"), |out| out.extend_from_slice(peer.text()));
        }
        Self {
            worker: Rc::clone(worker),
            line,
            started,
            came: worker.wall_clock(started),
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

    /// When that was, in wall-clock time.
    pub(super) fn came(&self) -> UnixSeconds {
        self.came
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

    /// Notes that it is over now, if it is not yet, and when that is.
    pub(super) fn end(&mut self) -> Instant {
        *self.ended.get_or_insert_with(Instant::now)
    }

    /// A mask for a WebSocket frame of ours.
    pub(super) fn mask(&self) -> [u8; 4] {
        (self.worker.random() as u32).to_ne_bytes()
    }

    /// When the session of the request ends.
    pub(super) fn session_end(&self) -> Instant {
        let Some(session) = &self.session else { return self.started + NEVER };
        self.started + Duration::from_secs(session.expires.saturating_sub(self.came))
    }

    /// Counts the request, which took so many nanoseconds; gives how many of them it waited for an answer.
    fn measure(&self, duration: u64) -> Option<u64> {
        if let (Some(statement), Some(moments)) = (&self.statement, self.moments()) {
            statement.measure(&self.worker.plane.metrics.sql, moments, self.sent);
        }
        let (mut upstream, mut overhead) = (None, None);
        if let (Some(forwarded), Some(answered)) = (self.forwarded, self.answered) {
            let (forwarded, answered) = (nanos(self.started, forwarded), nanos(self.started, answered));
            let waited = answered.saturating_sub(forwarded);
            upstream = Some(waited);
            // Short answers are over when they begin.
            let is_one = self.replied == self.ended;
            let replied = self.replied.map(|replied| if is_one { duration } else { nanos(self.started, replied) });
            overhead = replied.map(|replied| replied.saturating_sub(waited));
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
            fields.text(quoted!("warehouse"), warehouse.as_str().as_bytes());
        }
        if let Some(id) = statement.id() {
            fields.text(quoted!("statement_id"), id.as_bytes());
        }
        let Some(moments) = self.moments() else { return };
        if let Some(state) = statement.state() {
            fields.text(quoted!("statement_state"), state.label().as_bytes());
        }
        if let Some(rows) = statement.rows() {
            fields.number(name!("statement_rows"), rows);
        }
        fields.millis(name!("queue_ms"), moments.forwarded.as_nanos() as u64);
        if let Some(answered) = moments.answered {
            fields.millis(name!("first_byte_ms"), answered.as_nanos() as u64);
        }
    }

    /// Writes the line of the request, which is over at `ended` and took so many nanoseconds.
    fn log(&self, ended: Instant, duration: u64, upstream: Option<u64>) {
        let Some(format) = self.worker.plane.access_log else { return };
        let mut batch = self.worker.batch();
        batch.reserve(line::ROOM + self.line.len());
        line::begin(&mut batch, format, &self.worker.wall.stamp(ended));
        batch.extend_from_slice(&self.line);
        let mut fields = Fields { out: &mut batch, format };
        fields.quoted(quoted!("request_id"), |out| out.extend_from_slice(&self.request_id));
        fields.quoted(quoted!("route"), |out| out.extend_from_slice(self.kind.label().as_bytes()));
        if let Some(session) = &self.session {
            fields.quoted(quoted!("org"), |out| out.extend_from_slice(session.org().as_bytes()));
            fields.text(quoted!("user"), session.user().as_bytes());
        }
        if let Some(upstream) = &self.upstream {
            fields.quoted(quoted!("upstream"), |out| out.extend_from_slice(upstream.as_str().as_bytes()));
        }
        fields.number(name!("status"), u64::from(self.status));
        fields.number(name!("bytes_in"), self.received);
        fields.number(name!("bytes_out"), self.sent);
        fields.millis(name!("duration_ms"), duration);
        if let Some(upstream) = upstream {
            fields.millis(name!("upstream_ms"), upstream);
        }
        if let Some(held) = self.held {
            fields.millis(name!("held_ms"), held.as_nanos() as u64);
        }
        if let Some(statement) = &self.statement {
            self.log_statement(statement, &mut fields);
        }
        if let Some(queued) = self.queued {
            fields.millis(name!("queued_ms"), queued.as_nanos() as u64);
        }
        if let Some(cut) = self.cut {
            fields.quoted(quoted!("cut_by"), |out| cut.write(out));
        }
        if let Some(reject) = &self.reject {
            fields.text(quoted!("reject"), reject.class.label().as_bytes());
            fields.text(quoted!("cause"), reject.cause.as_bytes());
        }
        line::end(&mut batch, format);
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
        let ended = self.ended.unwrap_or_else(Instant::now);
        let duration = nanos(self.started, ended);
        let upstream = self.measure(duration);
        self.log(ended, duration, upstream);
        self.worker.buffers.give(std::mem::take(&mut self.line));
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

/// Two random numbers as 32 hexadecimal digits.
fn hex(high: u64, low: u64) -> RequestId {
    let mut id = [0; 32];
    let words = [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32];
    for (digits, word) in id.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *digits = digits_of(word);
    }
    id
}

/// Eight hexadecimal digits, all at once: four bits go into each byte, and to those from ten on the way to the letters is
/// added.
fn digits_of(word: u32) -> [u8; 8] {
    let eight = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let halves = u64::from(word) & 0xffff | (u64::from(word) & 0xffff_0000) << 16;
    let bytes = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (bytes | bytes << 4) & eight(0x0f);
    let letters = (fours + eight(6)) >> 4 & eight(1);
    (fours + eight(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// Nanoseconds from one moment to a later one.
fn nanos(earlier: Instant, later: Instant) -> u64 {
    let time = later.saturating_duration_since(earlier);
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_has_all_digits_of_both_numbers() {
        for (high, low) in [(0, 0), (u64::MAX, u64::MAX), (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210), (9, 10)] {
            assert_eq!(str::from_utf8(&hex(high, low)).unwrap(), format!("{high:016x}{low:016x}"));
        }
    }
}
