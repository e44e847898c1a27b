//! Sends a request on and brings its answer back: on a pooled or new connection, repeated where that is safe, and accounted
//! for however it ends.

use super::account::Account;
use super::base_tag;
use super::client::Client;
use super::connect::connect;
use super::cut::Cut;
use super::databricks;
use super::detour::{Broken, Detour};
use super::engine::{Leads, leads};
use super::exchange::{Exchange, Passage};
use super::failure::{Failure, broke, cut, fail};
use super::guard::Origin;
use super::headers::{Signer, ToClient, ToUpstream};
use super::health;
use super::held::Held;
use super::multiplexed::UpstreamIo;
use super::outbox::Outbox;
use super::respond::wants_page;
use super::trip::{Credential, Pace, Trip};
use super::worker::{Worker, others_first};
use crate::config::Attribution;
use crate::live::token::Token;
use crate::model::principal::SigV4;
use crate::model::reject::{Class, Reject};
use crate::net::Peer;
use crate::net::io::Io;
use crate::wire::body::Framing;
use crate::wire::request::Head;
use crate::wire::response;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// How a request ended.
pub(super) enum Forwarded {
    /// The answer is complete; whether the client's connection may go on.
    Done { reusable: bool },
    /// It was cut off: the connection must end without another word.
    Cut,
    /// Nothing of an answer was passed on, and the request may be sent again: to another upstream, or with another token.
    Again,
    /// The upstream changed the protocol.
    Upgraded { upstream: Io, first: Vec<u8>, websocket: bool, pace: Pace },
}

/// Forwards a request.
///
/// # Errors
/// [`Reject`] as long as nothing of an answer has been sent.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    mut trip: Trip,
    mut detour: Detour<'_>,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    detour.enter(worker, client, &mut trip, account)?;
    worker.retries.earn();
    let body = hold_body(worker, client, head, &trip, account).await?;
    // What has been held back goes out with the head, as often as that does.
    let bodiless = body.as_ref().map(|_| Head { framing: Framing::Empty, expects_continue: false, ..*head });
    let head = bodiless.as_ref().unwrap_or(head);
    let upgrade = head.upgrade.filter(|protocol| worker.plane.settings.passes_upgrade(protocol));
    let (mut fresh, mut renewed, mut http1) = (false, false, upgrade.is_some());
    loop {
        let (io, reused) = match connect(worker, &trip, &detour, (fresh, http1), account).await {
            Ok(connected) => connected,
            Err(missed) => {
                detour.missed(worker, client, &mut trip, account, missed)?;
                (fresh, http1) = (false, upgrade.is_some());
                continue;
            }
        };
        if matches!(io, UpstreamIo::Stream(_)) {
            worker.plane.metrics.upstream_http2_streams.increment(1);
        }
        let content = body.as_ref().map(Held::bytes);
        let outbox = write_head(worker, head, content, &trip, upgrade, (account, &client.peer));
        others_first(worker).await;
        let now = Instant::now();
        account.forwarded = Some(now);
        let times = (now, account.session_end());
        let mut exchange = Exchange::new(worker, client, (io, outbox), head, times, trip.pace(worker));
        exchange.token = trip.naming_token();
        let length = match exchange.answer().await {
            Ok(length) => length,
            Err(failure) => {
                let how = How { fresh, http1, reused, upgrades: upgrade.is_some() };
                (fresh, http1) = match failed(worker, failure, exchange, head, (&mut trip, &mut detour), how, account) {
                    ControlFlow::Continue(next) => next,
                    ControlFlow::Break(end) => return end,
                };
                continue;
            }
        };
        account.answered = Some(Instant::now());
        let input = std::mem::take(&mut exchange.input);
        let mut positions = worker.buffers.take_positions();
        let limits = worker.plane.settings.answer_limits;
        let answer = response::Head::parse(&input[..length], &mut positions, limits, head.method == "HEAD")
            .map_err(|error| broke(format!("the answer's head: {error}")))?;
        if answer.is_interim() {
            return Err(Reject::new(Class::Internal, "an interim answer was taken for a final one"));
        }
        health::answered(worker, &trip, account, &detour, answer.status);
        if let Some(refused) = refused(&answer, &trip) {
            match Box::pin(credential(worker, refused, head, &mut trip, exchange.is_sent(), renewed)).await? {
                Credited::Anew if head.framing != Framing::Empty => return Ok(Forwarded::Again),
                Credited::Anew => {
                    (renewed, fresh) = (true, false);
                    continue;
                }
                Credited::No => {}
            }
        }
        if trip.may_be_elsewhere && answer.status == 404 && exchange.is_sent() {
            return Ok(Forwarded::Again);
        }
        account.heard(answer.status);
        let rest = &input[length..];
        if answer.status == 101 {
            return switch(exchange, &answer, rest, (&trip, head, upgrade), account).await;
        }
        let forwarded = pass_on(&mut exchange, head, &answer, rest, &trip, account).await?;
        let may_reuse = exchange.is_clean && upgrade.is_none() && answer.keep_alive && trip.is_pooled();
        if may_reuse && matches!(forwarded, Forwarded::Done { .. }) {
            worker.pool.put(trip.to(), exchange.io, account.connection.take(), account.end());
        }
        worker.buffers.give(input);
        worker.buffers.give_positions(positions);
        return Ok(forwarded);
    }
}

/// How a request was sent that came to nothing.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct How {
    /// On a connection that was asked to be fresh.
    fresh: bool,
    /// On one that was asked to be of HTTP/1.1.
    http1: bool,
    /// On one that had been used before.
    reused: bool,
    /// As one that asks for another protocol.
    upgrades: bool,
}

/// What follows when no answer came: how the request is sent again, as [`How`] has it, or its end.
#[cold]
fn failed(
    worker: &Rc<Worker>,
    failure: Failure,
    exchange: Exchange<'_>,
    head: &Head<'_>,
    (trip, detour): (&mut Trip, &mut Detour<'_>),
    how: How,
    account: &mut Account,
) -> ControlFlow<Result<Forwarded, Reject>, (bool, bool)> {
    if let Some(next) = once_more(worker, failure, &exchange, head, trip, how) {
        return ControlFlow::Continue(next);
    }
    let (silent, whole, pace) = (exchange.is_silent(), exchange.is_whole(), exchange.pace);
    if failure == Failure::ClientGone && exchange.is_sent() {
        databricks::take_over(worker, (exchange.io, exchange.input), trip, account);
    } else {
        let broken = Broken { failure, silent, whole, reused: how.reused, pace };
        if detour.broke(worker, exchange.client, head, trip, account, broken) {
            return ControlFlow::Continue((false, how.upgrades));
        }
    }
    ControlFlow::Break(fail(worker, failure, silent, pace, account))
}

/// How a request is sent to the same node again, on a connection that is fresh and one of HTTP/1.1; none where that helps
/// nobody, or is not safe.
fn once_more(
    worker: &Worker,
    failure: Failure,
    exchange: &Exchange<'_>,
    head: &Head<'_>,
    trip: &Trip,
    How { fresh, http1, reused, .. }: How,
) -> Option<(bool, bool)> {
    let may = match failure {
        // The upstream had closed the pooled connection while the request was on its way (RFC 9110 9.2.2).
        Failure::UpstreamClosed | Failure::UpstreamReset => reused && head.is_replayable() && exchange.is_silent(),
        // The upstream has done nothing, so it does not matter what the request is for.
        Failure::UpstreamUntouched => !fresh && exchange.is_whole(),
        Failure::NeedsHttp1 { always } if !http1 && exchange.is_whole() => {
            if always {
                worker.pool.wants_http1(trip.to());
            }
            return Some((fresh, true));
        }
        _ => false,
    };
    (may && may_retry(worker)).then_some((true, http1))
}

/// The body of a request, if it has to be signed as a whole.
async fn hold_body(
    worker: &Worker,
    client: &mut Client,
    head: &Head<'_>,
    trip: &Trip,
    account: &Account,
) -> Result<Option<Held>, Reject> {
    if head.framing == Framing::Empty || !trip.signer().is_some_and(SigV4::needs_body) {
        return Ok(None);
    }
    let limit = worker.plane.settings.signed_body_bytes;
    let too_large = |reject: Reject| match reject.class {
        Class::BodyTooLarge => Reject::new(
            reject.class,
            "the body is larger than limits.signed_body_bytes, and the principal signs bodies; raise it, or set payload = \"unsigned\" where the service takes that",
        ),
        _ => reject,
    };
    Box::pin(Held::read(worker, client, head, limit, account, |_| Ok(()))).await.map(Some).map_err(too_large)
}

/// Whether a request that could be sent again may be, as things are with this worker.
pub(super) fn may_retry(worker: &Worker) -> bool {
    let metrics = &worker.plane.metrics;
    let granted = worker.retries.spend();
    if granted { &metrics.retries } else { &metrics.retries_over_budget }.increment(1);
    granted
}

/// The head as it goes to the upstream.
fn write_head(
    worker: &Worker,
    head: &Head<'_>,
    body: Option<&[u8]>,
    trip: &Trip,
    upgrade: Option<&str>,
    (account, peer): (&Account, &Peer),
) -> Outbox {
    let settings = &worker.plane.settings;
    let firefly = matches!(trip.credential, Credential::Firefly(_));
    let to_upstream = ToUpstream {
        head,
        node: &trip.node,
        prefix: trip.link + if trip.policy.strip_prefix { trip.prefix } else { 0 },
        manner: trip.manner(),
        host: trip.policy.host,
        uncompressed: trip.wishes.uncompressed || trip.changes_pages() && head.method == "GET" && wants_page(head),
        attributes: settings.sql.attribution != Attribution::Off,
        held: body,
        signer: trip.signer().map(|keys| Signer { keys, now: worker.plane.clock.now() }),
        token: trip.token(),
        drop_authorization: trip.drop_authorization,
        drop_referer: firefly || trip.link > 0,
        origin: if firefly { Origin::Own } else { trip.guard.origin(head) },
        upgrade,
        session: account.session.as_deref(),
        peer,
        trusted: settings.trusted_proxies.iter().any(|net| net.contains(peer.ip)),
        scheme: settings.guard.scheme,
        request_id: &account.request_id,
    };
    let mut outbox = Outbox::default();
    outbox.borrow_from(&worker.buffers);
    to_upstream.write(outbox.buffer());
    outbox
}

/// How an upstream says that it does not take the credential.
#[derive(PartialEq, Eq)]
enum Refused {
    /// With 401, which means something to clients as well.
    Unauthorized,
    /// As Databricks Apps do, by leading to the sign-in, where no client of ours could go.
    ToSignIn,
}

/// Whether the upstream did not take the credential.
fn refused(answer: &response::Head<'_>, trip: &Trip) -> Option<Refused> {
    let Credential::Principal(principal, Some(_)) = &trip.credential else { return None };
    if !principal.kind.is_minted() {
        return None;
    }
    let location = answer.fields.first(crate::wire::fields::Name::Location).unwrap_or_default();
    let to_sign_in = || {
        // Behind the issuer's origin its path begins, or it is the beginning of another host.
        let below = location.strip_prefix(principal.issuer.to_string().as_bytes());
        let to_issuer = below.is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?' | b'#')));
        to_issuer || location.starts_with(b"/oidc/")
    };
    match answer.status {
        401 => Some(Refused::Unauthorized),
        300..=399 if to_sign_in() => Some(Refused::ToSignIn),
        _ => None,
    }
}

/// What comes of a credential that was not taken.
enum Credited {
    /// The request may be sent again with another one.
    Anew,
    /// The answer stands.
    No,
}

/// What follows when an upstream did not take the credential of a request, which may have been renewed for it already.
///
/// # Errors
/// [`Reject`] where the answer is no use to the client.
#[cold]
async fn credential(
    worker: &Rc<Worker>,
    refused: Refused,
    head: &Head<'_>,
    trip: &mut Trip,
    is_sent: bool,
    is_renewed: bool,
) -> Result<Credited, Reject> {
    // An app that redirects a change may have made it: only reading is repeated.
    let may_repeat = refused == Refused::Unauthorized || head.is_safe();
    let can_repeat = head.framing == Framing::Empty || trip.is_held && is_sent;
    if !is_renewed && may_repeat && renew(worker, can_repeat, trip).await && may_retry(worker) {
        return Ok(Credited::Anew);
    }
    if refused == Refused::ToSignIn {
        let cause = "the app leads to the workspace's sign-in, which is for people and not for principals";
        return Err(Reject::new(Class::CredentialRefused, cause));
    }
    Ok(Credited::No)
}

/// Gets another token, if the request can be sent again. Otherwise the next request will have it.
async fn renew(worker: &Rc<Worker>, can_repeat: bool, trip: &mut Trip) -> bool {
    let Credential::Principal(principal, token) = &mut trip.credential else { return false };
    let Some(stale) = token.clone() else { return false };
    if !can_repeat {
        let (worker, principal) = (Rc::clone(worker), Arc::clone(principal));
        tokio::task::spawn_local(async move { worker.plane.minter.renew(&principal, &stale).await.map(drop) });
        return false;
    }
    match worker.plane.minter.renew(principal, &stale).await {
        Ok(Some(fresh)) => {
            *token = Some(fresh);
            true
        }
        Ok(None) | Err(_) => false,
    }
}

/// Passes an answer on, which may have to be looked into first.
async fn pass_on(
    exchange: &mut Exchange<'_>,
    head: &Head<'_>,
    answer: &response::Head<'_>,
    rest: &[u8],
    trip: &Trip,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    let mut page = Vec::new();
    if trip.changes_pages() && base_tag::may_change(head, answer) {
        match Box::pin(exchange.read_page(answer.framing, rest, &trip.base(head))).await {
            Ok(read) => (page, exchange.insertion) = (read.raw, read.insertion),
            Err(failure) => {
                let worker = exchange.worker;
                return fail(worker, failure, false, trip.pace(worker), account);
            }
        }
    }
    let rest = if page.is_empty() { rest } else { &page };
    Ok(deliver(exchange, head, answer, rest, trip, account).await)
}

/// Passes the body of an answer on.
async fn deliver(
    exchange: &mut Exchange<'_>,
    head: &Head<'_>,
    answer: &response::Head<'_>,
    rest: &[u8],
    trip: &Trip,
    account: &mut Account,
) -> Forwarded {
    let worker = exchange.worker;
    let now = account.answered.unwrap_or_else(Instant::now);
    let framing = match answer.framing {
        Framing::UntilClose | Framing::Chunked if head.http11 => Framing::Chunked,
        Framing::Chunked => Framing::UntilClose,
        known => known,
    };
    let keep = head.keep_alive
        && framing != Framing::UntilClose
        && exchange.is_sent()
        && exchange.client.may_stay(worker, now);
    let connection = match (keep, head.http11) {
        (true, true) => None,
        (true, false) => Some("keep-alive"),
        (false, _) => Some("close"),
    };
    let insertion = exchange.insertion.as_ref();
    let (framing, changed) = (insertion.map_or(framing, |one| one.framing(framing)), insertion.is_some());
    if let Some(statement) = &mut account.statement {
        statement.answered(answer);
    }
    exchange.client.outbox.borrow_from(&worker.buffers);
    let out = exchange.client.outbox.buffer();
    let ours = trip.token().is_some_and(Token::replaces_authorization);
    let cookie = trip.cookie(worker, account, answer);
    let frames = trip.guard.frontends.ancestors();
    let outside = trip.outside(head);
    // Trailers may be about the body as the app sent it.
    let trailers = framing == Framing::Chunked && head.takes_trailers() && !changed;
    let cookie = cookie.as_deref();
    let leads = &leads(worker, trip.engine.as_deref(), head, answer, account);
    ToClient {
        head: answer,
        ours,
        cookie,
        frames,
        outside,
        leads,
        changed,
        framing,
        trailers,
        held: account.held,
        connection,
    }
    .write(out);
    // What of the answer is here goes out with those of others; a large one waits for nobody after that.
    others_first(worker).await;
    let passage = Passage { from: answer.framing, to: framing, trailers: trailers.then_some(answer.fields) };
    match exchange.deliver(passage, rest, account).await {
        Ok(()) => Forwarded::Done { reusable: keep },
        Err(failure) => {
            account.cut(cut(worker, failure, trip.pace(worker)));
            Forwarded::Cut
        }
    }
}

/// Passes the 101 on and gives the upstream's side away.
async fn switch(
    exchange: Exchange<'_>,
    answer: &response::Head<'_>,
    rest: &[u8],
    (trip, head, upgrade): (&Trip, &Head<'_>, Option<&str>),
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    let Some(protocol) = upgrade else { return Err(broke("101 without a request to upgrade")) };
    let cookie = trip.cookie(exchange.worker, account, answer);
    let (cookie, outside) = (cookie.as_deref(), trip.outside(head));
    let out = exchange.client.outbox.buffer();
    let connection = Some("Upgrade");
    let (frames, framing, trailers, changed, leads) = (None, Framing::Empty, false, false, &Leads::AsTold);
    ToClient {
        head: answer,
        ours: true,
        cookie,
        frames,
        outside,
        leads,
        changed,
        framing,
        trailers,
        held: account.held,
        connection,
    }
    .write(out);
    let pace = exchange.pace;
    let limit = pace.idle_timeout;
    let UpstreamIo::Socket(upstream) = exchange.io else {
        return Err(Reject::new(Class::Internal, "a stream of HTTP/2 was asked to change the protocol"));
    };
    match exchange.client.flush(limit).await {
        Ok(()) => Ok(Forwarded::Upgraded {
            upstream,
            first: rest.to_vec(),
            websocket: protocol.eq_ignore_ascii_case("websocket"),
            pace,
        }),
        Err(error) => {
            account.cut(Cut::of_client(&error, limit));
            Ok(Forwarded::Cut)
        }
    }
}
