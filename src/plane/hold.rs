//! Requests for something that does not run: people get a page that tells how far it is and moves on by itself, programs
//! wait within limits, and nobody waits for more than that.

use super::account::RequestId;
use super::client::Client;
use super::guard::Guard;
use super::respond::{self, Answer, wants_page};
use super::waits::{Wait, Waits};
use super::worker::Worker;
use crate::live::autostart::{Phase, Progress, Waiting};
use crate::metrics::RouteKind;
use crate::model::autostart::AutoStart;
use crate::model::reject::{Class, Reject};
use crate::model::upstream::Upstream;
use crate::wire::fields::Name;
use crate::wire::request::Head;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Limits on waiting.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a request for SQL waits, of a warehouse or an engine: clients take a refusal for a minute's pause.
    pub sql: Duration,
    /// How long any other request of a program waits, a WebSocket's too.
    pub api: Duration,
    /// How many wait for one upstream.
    pub per_upstream: u32,
    /// How many wait for all upstreams of an organisation.
    pub per_org: u32,
    /// How many wait at all.
    pub total: u32,
}

/// Where wishes for something to be started go.
pub struct Holds {
    /// Limits on waiting.
    pub limits: Limits,
    /// To whoever starts things.
    pub wishes: mpsc::Sender<Arc<Upstream>>,
    /// Requests that wait now.
    pub waiting: Arc<AtomicU32>,
    /// Since when each of them has.
    pub waits: Waits,
}

/// A request that waits, counted until it is dropped.
struct Held<'a> {
    worker: &'a Worker,
    wait: Wait<'a>,
}

impl<'a> Held<'a> {
    fn new(worker: &'a Worker) -> Self {
        let wait = worker.plane.holds.waits.begin(worker.random());
        worker.plane.metrics.held.increment(1.0);
        Self { worker, wait }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let metrics = &self.worker.plane.metrics;
        metrics.held.decrement(1.0);
        metrics.held_seconds.record(self.wait.began().elapsed());
    }
}

/// How long somebody who would get a page waits for the first look: most often it is just that nobody has looked.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// A wish that was lost is made again.
const WISH_AGAIN: Duration = Duration::from_secs(5);
/// What the page sends to ask how far it is.
const ASKS: &[u8] = b"x-embedgate-starting";

/// What came of waiting.
pub(super) enum Outcome {
    /// It is up; with how long that took, if it was not.
    Up(Option<Duration>),
    /// The client went away meanwhile.
    Gone,
}

/// Waits until an upstream is up.
///
/// # Errors
/// [`Reject`] when it is not up in time, cannot be started, or too many wait.
pub(super) async fn until_up(
    worker: &Worker,
    client: &mut Client,
    head: &Head<'_>,
    kind: RouteKind,
    upstream: &Arc<Upstream>,
) -> Result<Outcome, Reject> {
    let Some(autostart) = &upstream.autostart else { return Ok(Outcome::Up(None)) };
    let holds = &worker.plane.holds;
    let _places = places(holds, autostart)?;
    let place = Held::new(worker);
    let (began, for_page) = (place.wait.began(), gets_page(head));
    let limit = match kind {
        _ if for_page => FIRST_LOOK,
        RouteKind::Sql | RouteKind::Engine => holds.limits.sql,
        _ => holds.limits.api,
    };
    wait(worker, client, upstream, autostart, (began, began + limit), for_page).await
}

/// A place in each queue.
fn places(holds: &Holds, autostart: &AutoStart) -> Result<[Waiting; 3], Reject> {
    let limits = holds.limits;
    let full = |what: &'static str| move || Reject::new(Class::QueueFull, what);
    let own = autostart.cell.wait(limits.per_upstream).ok_or_else(full("as many wait for it as autostart.queue"))?;
    let org = Waiting::take(&autostart.waiting, limits.per_org)
        .ok_or_else(full("as many wait for the organisation's as autostart.queue_per_org"))?;
    let all = Waiting::take(&holds.waiting, limits.total).ok_or_else(full("as many wait as autostart.queue_total"))?;
    Ok([own, org, all])
}

async fn wait(
    worker: &Worker,
    client: &mut Client,
    upstream: &Arc<Upstream>,
    autostart: &AutoStart,
    (began, deadline): (Instant, Instant),
    for_page: bool,
) -> Result<Outcome, Reject> {
    let (mut watch, mut cold) = (autostart.cell.watch(), false);
    loop {
        let progress = watch.borrow_and_update().clone();
        match progress.phase {
            Phase::Up => return Ok(Outcome::Up(cold.then(|| began.elapsed()))),
            Phase::Failed => return Err(Reject::new(Class::StartFailed, progress.step.to_string())),
            Phase::Starting if for_page => return Err(Reject::new(Class::Starting, "the page tells how far it is")),
            Phase::Starting => cold = true,
            Phase::Unknown => {}
        }
        if Instant::now() >= deadline {
            return Err(Reject::new(Class::Starting, "it did not come up while the request could wait"));
        }
        wish(worker, upstream);
        let mut time = pin!(sleep_until(deadline.min(Instant::now() + WISH_AGAIN)));
        let mut changed = pin!(watch.changed());
        let is_there = poll_fn(|cx| {
            if let Poll::Ready(why) = client.registration.poll_ended(cx) {
                return Poll::Ready(Err(Reject::new(Class::Session, why)));
            }
            if client.poll_gone(cx, &mut worker.scratch.borrow_mut()).is_ready() {
                return Poll::Ready(Ok(false));
            }
            if changed.as_mut().poll(cx).is_ready() || time.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(true));
            }
            Poll::Pending
        });
        if !is_there.await? {
            return Ok(Outcome::Gone);
        }
    }
}

/// Wishes for an upstream to be looked after. A full channel loses the wish, which is made again.
fn wish(worker: &Worker, upstream: &Arc<Upstream>) {
    let _ = worker.plane.holds.wishes.try_send(Arc::clone(upstream));
}

/// Whether a request that cannot be served yet is answered by the page that waits.
pub(super) fn gets_page(head: &Head<'_>) -> bool {
    head.method == "GET" && head.upgrade.is_none() && wants_page(head)
}

/// Whether it is that page which asks. Apps never see its field.
pub(super) fn is_asked(head: &Head<'_>) -> bool {
    head.fields.iter().any(|field| field.kind == Name::Identity && field.name.eq_ignore_ascii_case(ASKS))
}

/// What the page that waits is told; none when it is not the one who asks.
pub(super) fn progress(worker: &Worker, head: &Head<'_>, upstream: &Arc<Upstream>) -> Option<Answer> {
    let autostart = upstream.autostart.as_ref().filter(|_| is_asked(head))?;
    wish(worker, upstream);
    let Progress { phase, step, since } = autostart.cell.progress();
    let state = if phase == Phase::Failed { "failed" } else { "starting" };
    let seconds = since.elapsed().as_secs();
    let document = serde_json::json!({ "state": state, "step": &*step, "seconds": seconds });
    let answer = Answer::new(503, "Service Unavailable").field("Cache-Control", "no-store").field("Retry-After", "2");
    Some(answer.body("application/json", document.to_string()))
}

/// That the page may move on.
pub(super) fn arrived() -> Answer {
    Answer::new(204, "No Content").field("Cache-Control", "no-store")
}

/// The page that waits.
pub(super) fn page(guard: &Guard, reject: &Reject, id: &RequestId) -> Answer {
    let id = std::str::from_utf8(id).unwrap_or_default();
    let policy = respond::policy_of(SCRIPT, "connect-src 'self'", guard.frontends.ancestors());
    let page = include_str!("starting.html").replace("{id}", id).replace("{script}", SCRIPT);
    Answer::new(503, "Service Unavailable")
        .field("X-Request-Id", id)
        .field("Proxy-Status", &reject.proxy_status())
        .field("Retry-After", "5")
        .field("Cache-Control", "no-store")
        .field("Content-Security-Policy", &policy)
        .body("text/html; charset=utf-8", page)
}

const SCRIPT: &str = include_str!("starting.js");
