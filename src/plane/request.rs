//! THE WAY OF A REQUEST, from its head to its answer. Everything that decides is called from here, in order:
//! what is asked for, who asks, whether another site made them ask, what the directory says, with which credential; then
//! the request goes on.

use super::account::{Account, Lease};
use super::admission::{self, Permits, queue};
use super::client::Client;
use super::cookie::NO_KEY;
use super::cors;
use super::cut::Cut;
use super::databricks;
use super::decide::{Decision, Moment, Plan, decide};
use super::detour::{Course, Detour};
use super::engine;
use super::forward::{Forwarded, forward};
use super::hold::{self, Outcome};
use super::miss;
use super::own;
use super::respond::{Answer, refusal};
use super::route::{Target, behind, kind_of_refused, locate, loggable};
use super::standing::Standing;
use super::start::{self, Form};
use super::trip::{Pace, Trip};
use super::worker::Worker;
use crate::clock::UnixSeconds;
use crate::credential::MintError;
use crate::live::node::NodeLive;
use crate::metrics::RouteKind;
use crate::model::reject::{Class, Reject};
use crate::model::upstream::Node;
use crate::model::url::BaseUrl;
use crate::net::io::Io;
use crate::session::Session;
use crate::session::carrier::{self, CookieNames, Via};
use crate::session::seal::Purpose;
use crate::wire::body::Framing;
use crate::wire::request::Head;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What becomes of a connection after a request.
pub(super) enum Next {
    /// Another request may come.
    Another,
    /// It ends once the answer has been read.
    Close,
    /// It ends at once: there is nobody to answer, or the answer must look broken.
    Abort,
    /// It is a tunnel now.
    Tunnel(Box<Upgraded>),
}

/// The upstream's side of an upgraded connection.
pub(super) struct Upgraded {
    pub(super) upstream: Io,
    /// Bytes that came with the head of the upstream's answer.
    pub(super) first: Vec<u8>,
    pub(super) websocket: bool,
    pub(super) pace: Pace,
    pub(super) account: Account,
}

/// Most times a decision is made again after waiting for what it needs; waiting for a turn has an end of its own.
const ROUNDS: usize = 3;

/// Serves one request.
pub(super) async fn serve(worker: &Rc<Worker>, client: &mut Client, head: &Head<'_>) -> Next {
    let located = locate(&worker.plane.settings.hosts, head);
    let mut account = Account::open(worker, head, &loggable(head.path()), client);
    let served = match located {
        Ok(target) => {
            account.kind = target.kind();
            handle(worker, client, head, &target, &mut account).await
        }
        Err(reject) => {
            account.kind = kind_of_refused(head.path());
            Err(reject)
        }
    };
    if !matches!(served, Ok(Forwarded::Upgraded { .. })) {
        client.registration.stand_down();
    }
    match served {
        Ok(Forwarded::Done { reusable }) => account.over(if reusable { Next::Another } else { Next::Close }),
        // Who may send a request again sees it to the end.
        Ok(Forwarded::Cut | Forwarded::Again) => account.over(Next::Abort),
        Ok(Forwarded::Upgraded { upstream, first, websocket, pace }) => {
            Next::Tunnel(Box::new(Upgraded { upstream, first, websocket, pace, account }))
        }
        Err(reject) => refuse(worker, client, Some(head), reject, &mut account).await,
    }
}

async fn handle(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    target: &Target<'_>,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    match target {
        // Boxed, here and below: what is seldom asked for takes no room in every connection.
        Target::Own("session") if matches!(head.method, "POST" | "OPTIONS") => {
            return Box::pin(start_session(worker, client, head, Form::Own, account)).await;
        }
        Target::StartSession => return Box::pin(start_session(worker, client, head, Form::Firefly, account)).await,
        Target::Own(path) => {
            let (answer, session) = Box::pin(own::answer(worker, head, path)).await?;
            account.session = session.map(Rc::new);
            return Ok(reply(worker, client, head, &answer, account).await);
        }
        Target::AppWithoutSlash => {
            let answer = Answer::new(308, "Permanent Redirect").field("Location", &with_slash(head));
            return Ok(reply(worker, client, head, &answer, account).await);
        }
        Target::FireflyV1 { token, host, prefix } => {
            let trip = firefly_trip(worker, token, host, *prefix)?;
            admission::admit_stranger(worker, account)?;
            return Box::pin(forward(worker, client, head, trip, Detour::new(None), account)).await;
        }
        Target::AppByHost { .. } | Target::AppByPath { .. } | Target::Linked { .. } => {
            if head.method == "OPTIONS"
                && let Some(answer) = cors::preflight_for_app(&worker.plane.guard_at(head), head)
            {
                return Ok(reply(worker, client, head, &answer, account).await);
            }
        }
        Target::Api(call) => return Box::pin(databricks::serve(worker, client, head, *call, account)).await,
        Target::Engine { .. } => return Box::pin(engine::serve(worker, client, head, target, account)).await,
        Target::Discovery(path) => {
            let answer = databricks::discovery(worker, head, path)?;
            return Ok(reply(worker, client, head, &answer, account).await);
        }
    }
    if let Target::Linked { token, link } = target {
        return Box::pin(linked(worker, client, head, (token, *link), account)).await;
    }
    let (session, via) = authenticate(worker, head, target, account.came())?;
    if let Some(engine) = engine::by_host(worker, head, target, &session) {
        account.kind = RouteKind::Engine;
        return Box::pin(engine::serve_as(worker, client, head, &engine?, (session, via), account)).await;
    }
    enter(worker, head, &session, via, account)?;
    go_on(worker, client, head, Way::new(target, 0), &session, via, account).await
}

/// Serves a request whose address holds the session.
async fn linked(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    (token, link): (&str, usize),
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    let target = behind(&worker.plane.settings.hosts, head, link)?;
    if target == Target::AppWithoutSlash {
        let answer = Answer::new(308, "Permanent Redirect").field("Location", &with_slash(head));
        return Ok(reply(worker, client, head, &answer, account).await);
    }
    let ring = worker.plane.keys.ring();
    if ring.is_empty() {
        return Err(Reject::new(Class::NotReady, NO_KEY));
    }
    let opened = ring.open(Purpose::Cookieless, token.as_bytes(), worker.plane.clock.now());
    let session = opened.map_err(|error| Reject::new(Class::Session, error.to_string()))?;
    let (session, via) = (Rc::new(session), Via::Link);
    enter(worker, head, &session, via, account)?;
    go_on(worker, client, head, Way::new(&target, link), &session, via, account).await
}

/// What is asked for, and how.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) target: &'a Target<'a>,
    /// How much of the request's target holds the session before that.
    pub(super) link: usize,
    /// Whether a 404 means that another upstream is to be asked.
    pub(super) may_be_elsewhere: bool,
    /// Whether the sender has the body and can send it again.
    pub(super) is_held: bool,
}

impl<'a> Way<'a> {
    /// The way of a request that is sent once.
    pub(super) fn new(target: &'a Target<'a>, link: usize) -> Self {
        Self { target, link, may_be_elsewhere: false, is_held: false }
    }
}

/// What is checked of a session that opens, before it is asked what it may use.
pub(super) fn enter(
    worker: &Worker,
    head: &Head<'_>,
    session: &Rc<Session>,
    via: Via<'_>,
    account: &mut Account,
) -> Result<(), Reject> {
    account.session = Some(Rc::clone(session));
    match via {
        Via::Cookie(_) => worker.plane.guard_of(session.org()).check(head)?,
        Via::Link => worker.plane.guard_of(session.org()).check_link(head)?,
        Via::Bearer => {}
    }
    check_body(worker, head)
}

/// Decides, and sends the request on.
pub(super) async fn go_on(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    way: Way<'_>,
    session: &Rc<Session>,
    via: Via<'_>,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    let plan = match plan(worker, client, head, way.target, session, account).await? {
        Planned::Goes(plan) => plan,
        Planned::Gone => {
            account.cut(Cut::Client);
            return Ok(Forwarded::Cut);
        }
        Planned::Waits(answer) => return Ok(reply(worker, client, head, &answer, account).await),
    };
    // Nothing is awaited between the decision and this: what changes after it is heard of.
    client.registration.stand_on(Standing::new(way.target, &plan, session));
    account.upstream.clone_from(&plan.upstream);
    let course = Course { way, head, session, via };
    let trip = course.trip(worker, plan, account);
    forward(worker, client, head, trip, Detour::new(Some(course)), account).await
}

/// Starts a session, where front ends may.
async fn start_session(
    worker: &Worker,
    client: &mut Client,
    head: &Head<'_>,
    form: Form,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    let may_start = worker.plane.starter.is_some() || (form == Form::Own && head.method == "OPTIONS");
    if !may_start {
        return Err(Reject::new(Class::NotFound, "session.jwt is not configured, so nobody starts sessions here"));
    }
    let (answer, read) = start::answer(worker, client, head, form, account).await;
    let framing = if read { Framing::Empty } else { head.framing };
    Ok(reply(worker, client, &Head { framing, ..*head }, &answer, account).await)
}

/// Opens the session of the request, which came now.
pub(super) fn authenticate<'a>(
    worker: &Worker,
    head: &Head<'_>,
    target: &'a Target<'_>,
    now: UnixSeconds,
) -> Result<(Rc<Session>, Via<'a>), Reject> {
    let plane = &worker.plane;
    let names = CookieNames::new(plane.settings.guard.scheme == crate::model::url::Scheme::Https);
    let shared = if let Target::AppByPath { app, .. } = target { Some(*app) } else { None };
    let ring = plane.keys.ring();
    if ring.is_empty() {
        return Err(Reject::new(Class::NotReady, NO_KEY));
    }
    let mut opened = worker.opened.borrow_mut();
    let found = carrier::find(head.fields, names, shared, |token| opened.open(&ring, token, now));
    found.map_err(|why| Reject::new(Class::Session, why.to_string()))
}

/// What a decision on a request is made with, at a time that has just been and without the nodes that were tried.
pub(super) fn moment<'a>(worker: &Worker, head: &'a Head<'a>, at: Instant, tried: &'a [u64]) -> Moment<'a> {
    let plane = &worker.plane;
    Moment {
        now: worker.wall_clock(at.into()),
        seed: worker.random(),
        tried,
        panic_threshold: plane.settings.panic_threshold,
        uptime: plane.clock.uptime(at),
        slow_start: plane.settings.slow_start,
        head: Some(head),
    }
}

/// What comes of planning.
pub(super) enum Planned {
    Goes(Plan),
    /// A page that waits for an app is told how far that is.
    Waits(Answer),
    /// The client did not wait any longer.
    Gone,
}

/// Decides, and waits for what is missing: an upstream that does not run yet, a token that the principal does not have, its
/// turn where much is under way.
pub(super) async fn plan(
    worker: &Worker,
    client: &mut Client,
    head: &Head<'_>,
    target: &Target<'_>,
    session: &Rc<Session>,
    account: &mut Account,
) -> Result<Planned, Reject> {
    let plane = &worker.plane;
    let mut failed: Option<(u64, MintError)> = None;
    let (mut rounds, mut has_looked) = (0, false);
    let mut at = account.started().into_std();
    while rounds < ROUNDS {
        let decision = match decide_now(worker, (target, head), session, at, account) {
            Err(reject) if !has_looked && may_be_missing(&reject) => {
                has_looked = true;
                if !Box::pin(miss::is_there_now(worker, target, session)).await {
                    return Err(reject);
                }
                at = Instant::now();
                continue;
            }
            decided => decided?,
        };
        admission::charge(worker, &decision, session, account)?;
        match decision {
            Decision::Go(plan) if plan.starts && hold::is_asked(head) => return Ok(Planned::Waits(hold::arrived())),
            Decision::Go(plan) => {
                let Some(turn) = admission::enter(worker, &plan, session, account) else {
                    return Ok(Planned::Goes(plan));
                };
                account.upstream.clone_from(&plan.upstream);
                // Who waits hears of access that is taken away. Much may have changed by the time the turn comes, so it is
                // decided again.
                client.registration.stand_on(Standing::new(target, &plan, session));
                account.lease = None;
                drop(plan);
                if !Box::pin(queue::wait(worker, client, head, turn, account)).await? {
                    return Ok(Planned::Gone);
                }
                at = Instant::now();
                continue;
            }
            Decision::NeedsStart(upstream) => {
                account.upstream = Some(upstream.id.clone());
                if let Some(answer) = hold::progress(worker, head, &upstream) {
                    return Ok(Planned::Waits(answer));
                }
                // Nobody else is to wait for what it cannot use yet.
                account.permits = Permits::default();
                match Box::pin(hold::until_up(worker, client, head, target.kind(), &upstream)).await? {
                    Outcome::Up(waited) => account.held = waited.or(account.held),
                    Outcome::Gone => return Ok(Planned::Gone),
                }
            }
            Decision::NeedsToken(principal) => {
                let uid = principal.token.uid();
                // With a secret that was changed meanwhile it would be another.
                if let Some((_, error)) = failed.take().filter(|(same, _)| *same == uid) {
                    return Err(error.into());
                }
                failed = Box::pin(plane.minter.token(&principal)).await.err().map(|error| (uid, error));
            }
        }
        // That took a while.
        at = Instant::now();
        rounds += 1;
    }
    Err(Reject::new(Class::IssuerUnreachable, "tokens end before they can be used"))
}

/// Decides by the directory as it is now. A request that goes has its place on its cluster then.
fn decide_now(
    worker: &Worker,
    (target, head): (&Target<'_>, &Head<'_>),
    session: &Session,
    at: Instant,
    account: &mut Account,
) -> Result<Decision, Reject> {
    // What it had elsewhere it gives back, as it may have to wait now.
    (account.lease, account.connection) = (None, None);
    let not_ready = || Reject::new(Class::NotReady, "the directory has not been loaded yet");
    let snapshot = worker.plane.directory.snapshot().ok_or_else(not_ready)?;
    let decision = decide(&snapshot, target, session, &moment(worker, head, at, &[]))?;
    if let Decision::Go(plan) = &decision {
        account.lease = Some(Lease::on(plan.cluster.as_ref()));
    }
    Ok(decision)
}

/// Whether what was refused may be so because of what is not in memory.
fn may_be_missing(reject: &Reject) -> bool {
    matches!(reject.class, Class::NotFound | Class::Session | Class::NoRunningCluster)
}

/// The way of a v1 request: no session, no organisation; the sealed bearer goes to the host in the URL, which must be one
/// that is allowed.
fn firefly_trip(worker: &Worker, token: &str, host: &str, prefix: usize) -> Result<Trip, Reject> {
    let settings = &worker.plane.settings;
    let firefly = worker.plane.firefly.as_ref().ok_or_else(|| Reject::new(Class::NotFound, "v1 is off"))?;
    let opened = firefly.opener.open(token).map_err(|error| Reject::new(Class::Session, error.to_string()))?;
    let not_found = |cause: String| Reject::new(Class::NotFound, cause);
    let url = format!("https://{host}.{}", firefly.domain_suffix);
    let url = BaseUrl::parse(&url).map_err(|error| not_found(error.to_string()))?;
    settings.allowed.permits(&url).map_err(|error| not_found(error.to_string()))?;
    let node = Arc::new(Node::new(url, NodeLive::new()));
    Ok(Trip::firefly(node, &opened, prefix, settings.guard.clone()))
}

fn check_body(worker: &Worker, head: &Head<'_>) -> Result<(), Reject> {
    let limit = worker.plane.settings.body_bytes;
    match head.framing {
        Framing::Length(length) if limit > 0 && length > limit => {
            Err(Reject::new(Class::BodyTooLarge, "the body is larger than limits.body_bytes"))
        }
        _ => Ok(()),
    }
}

fn with_slash(head: &Head<'_>) -> String {
    let query = head.query();
    if query.is_empty() { format!("{}/", head.path()) } else { format!("{}/?{query}", head.path()) }
}

/// Sends an answer of the gateway's own.
pub(super) async fn reply(
    worker: &Worker,
    client: &mut Client,
    head: &Head<'_>,
    answer: &Answer,
    account: &mut Account,
) -> Forwarded {
    account.status = answer.status();
    // What is left of a body would be read as the next request.
    let reusable =
        head.keep_alive && head.http11 && head.framing == Framing::Empty && client.may_stay(worker, account.started());
    answer.write(head.method == "HEAD", reusable, client.outbox.buffer());
    let limit = worker.plane.settings.idle_timeout;
    match client.flush(limit).await {
        Ok(()) => Forwarded::Done { reusable },
        Err(error) => {
            account.cut(Cut::of_client(&error, limit));
            Forwarded::Cut
        }
    }
}

/// Sends a refusal.
pub(super) async fn refuse(
    worker: &Worker,
    client: &mut Client,
    head: Option<&Head<'_>>,
    reject: Reject,
    account: &mut Account,
) -> Next {
    let guard = match (&account.session, head) {
        (Some(session), _) => worker.plane.guard_of(session.org()),
        (None, Some(head)) => worker.plane.guard_at(head),
        (None, None) => worker.plane.settings.guard.clone(),
    };
    let answer = match head {
        Some(head) if reject.class == Class::Starting && hold::gets_page(head) => {
            hold::page(&guard, &reject, &account.request_id)
        }
        _ => refusal(&guard, &reject, head, account.kind, &account.request_id),
    };
    let malformed = reject.class == Class::Malformed;
    account.reject(reject);
    let Some(head) = head.filter(|_| !malformed) else {
        answer.write(head.is_some_and(|head| head.method == "HEAD"), false, client.outbox.buffer());
        let _ = client.flush(worker.plane.settings.idle_timeout).await;
        return account.over(Next::Close);
    };
    // A front end's page is to be told why it gets nothing from the gateway; what it may know of apps they decide.
    let is_own = account.kind == RouteKind::Own;
    let answer = if is_own { cors::allow(&guard, head, answer) } else { answer };
    match reply(worker, client, head, &answer, account).await {
        Forwarded::Done { reusable } => account.over(if reusable { Next::Another } else { Next::Close }),
        Forwarded::Cut | Forwarded::Again | Forwarded::Upgraded { .. } => account.over(Next::Abort),
    }
}

/// Refuses what could not even be read as a request.
pub(super) async fn refuse_unread(worker: &Rc<Worker>, client: &mut Client, class: Class, cause: String) -> Next {
    let mut account = Account::open_unread(worker, &client.peer);
    account.kind = RouteKind::Unknown;
    refuse(worker, client, None, Reject::new(class, cause), &mut account).await
}
