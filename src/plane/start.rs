//! Session start: a front end's page exchanges the JWT of its user for a sealed session in a cookie of this host.
//! `POST /.embedgate/session`, and `POST /start-session` as `FireFly`'s front end calls it.

mod refusal;

use super::Plane;
use super::account::Account;
use super::client::Client;
use super::cookie::{seal, session_cookie};
use super::cors;
use super::guard::Guard;
use super::own::Place;
use super::respond::{Answer, plain, problem};
use super::route::LINK;
use super::site::is_framed_elsewhere;
use super::worker::Worker;
use crate::clock::UnixSeconds;
use crate::credential::MintError;
use crate::directory::once::{Once, UseError};
use crate::model::ids::is_valid_id;
use crate::model::snapshot::{Org, Snapshot};
use crate::model::upstream::ServicePrincipal;
use crate::session::jwt::{Claims, Verifier};
use crate::session::seal::Purpose;
use crate::session::{Parts, Session};
use crate::wire::fields::Name;
use crate::wire::request::Head;
use refusal::Refusal;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Who may start sessions, and how long they last.
pub struct Starter {
    /// Checks JWTs.
    pub verifier: Verifier,
    /// Remembers used ones, where each may be used once.
    pub once: Option<Once>,
    /// How long a session lasts.
    pub ttl: Duration,
    /// Whether it was said that an organisation is open to all.
    pub has_warned: AtomicBool,
}

/// Whose way of starting sessions is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The gateway's own.
    Own,
    /// `FireFly`'s.
    Firefly,
}

/// The longest body: a JWT has a few kilobytes.
const MAX_BODY: usize = 16 * 1024;

/// What a page asks for.
struct Order {
    jwt: String,
    app: Option<String>,
    org: String,
    /// Whether the session is to be in the app's address.
    cookieless: bool,
}

/// Answers a request to start a session, or the preflight before it. Says whether the body has been read.
pub(super) async fn answer(
    worker: &Worker,
    client: &mut Client,
    head: &Head<'_>,
    form: Form,
    account: &mut Account,
) -> (Answer, bool) {
    // Until the organisation is known, which the body says.
    let guard = worker.plane.guard_at(head);
    if head.method == "OPTIONS" {
        let (methods, bare) = match form {
            Form::Own => ("POST, DELETE, OPTIONS", Answer::new(204, "No Content")),
            Form::Firefly => ("POST, OPTIONS", Answer::new(200, "OK")),
        };
        return (cors::preflight(&guard, head, methods, bare), false);
    }
    let (mut about, mut read) = (About::new(guard), false);
    let answer = match start(worker, client, head, form, &mut about, &mut read).await {
        Ok((session, cookie)) => {
            let answer = started(form, &about, &session, cookie.as_deref());
            account.session = Some(Rc::new(session));
            answer
        }
        Err(refusal) => {
            let answer = refused(form, &about, &refusal, account);
            account.reject(refusal.reject());
            answer
        }
    };
    (cors::allow(&about.guard, head, answer.field("Cache-Control", "no-store")), read)
}

/// What is known of an order so far.
struct About {
    /// Whose pages may read the answer.
    guard: Guard,
    app: String,
    org: String,
    email: String,
    /// Where the app is on this host.
    place: String,
}

impl About {
    fn new(guard: Guard) -> Self {
        Self { guard, app: String::new(), org: String::new(), email: String::new(), place: String::new() }
    }
}

fn started(form: Form, about: &About, session: &Session, cookie: Option<&str>) -> Answer {
    let answer = Answer::new(200, "OK");
    let answer = if let Some(cookie) = cookie { answer.field("Set-Cookie", cookie) } else { answer };
    let body = match form {
        Form::Firefly => serde_json::json!({ "ok": true }),
        Form::Own => serde_json::json!({ "ok": true, "path": about.place, "expires": session.expires }),
    };
    answer.body("application/json", body.to_string())
}

fn refused(form: Form, about: &About, refusal: &Refusal, account: &Account) -> Answer {
    let face = refusal.face();
    match form {
        Form::Own => problem(face.class, face.reason, face.detail, &account.request_id),
        Form::Firefly => {
            let (status, text) = refusal.firefly(&about.app, &about.org, &about.email);
            plain(status, face.class, &text, &account.request_id)
        }
    }
}

/// Everything from the request to the session and its cookie; none where it is in the address.
async fn start(
    worker: &Worker,
    client: &mut Client,
    head: &Head<'_>,
    form: Form,
    about: &mut About,
    read: &mut bool,
) -> Result<(Session, Option<String>), Refusal> {
    let plane = &worker.plane;
    let starter = plane.starter.as_ref().ok_or(Refusal::NotReady)?;
    check_head(&about.guard, head, form)?;
    let body = client.read_body(worker, head, MAX_BODY).await.map_err(Refusal::Body)?;
    *read = true;
    let order = order(&body, form, about)?;
    let ttl = life(worker, starter, &order)?;
    let claims = starter.verifier.verify(&order.jwt).await.map_err(Refusal::Jwt)?;
    about.email.clone_from(&claims.email);
    let now = plane.clock.now();
    let (session, principal) = {
        let snapshot = plane.directory.snapshot().ok_or(Refusal::NotReady)?;
        let org = admitted(starter, &snapshot, &claims, &order)?;
        about.guard = plane.settings.guard.with(org.frontends.clone());
        cors::frontend(&about.guard, head).ok_or(Refusal::Origin)?;
        let issued = now.max(snapshot.access().earliest(&order.org, &claims.subject));
        grant(org, &claims, &order, issued, ttl)?
    };
    let here = Place::of(&plane.settings.hosts, head, &session).map_err(|_| Refusal::WrongHost)?;
    about.place = here.start();
    if let Some(principal) = principal {
        have_token(plane, &order, &session, &principal).await.map_err(|error| Refusal::NoToken(error.into()))?;
    }
    use_up(starter, &claims).await?;
    if order.cookieless {
        let token = seal(worker, Purpose::Cookieless, &session).map_err(Refusal::Internal)?;
        about.place.insert_str(0, &format!("{LINK}{token}"));
        return Ok((session, None));
    }
    let framed = is_framed_elsewhere(&about.guard, head.authority);
    let cookie = session_cookie(worker, here.cookie_app(), framed, &session);
    let cookie = cookie.map_err(Refusal::Internal)?;
    Ok((session, Some(cookie)))
}

/// How long the session is to last. One in an address is for an app, and only where it is allowed.
fn life(worker: &Worker, starter: &Starter, order: &Order) -> Result<Duration, Refusal> {
    if !order.cookieless {
        return Ok(starter.ttl);
    }
    let ttl = worker.plane.settings.cookieless_ttl.ok_or(Refusal::NoCookieless)?;
    if order.app.is_none() { Err(Refusal::App) } else { Ok(ttl.min(starter.ttl)) }
}

/// What can be told before the body is read.
fn check_head(guard: &Guard, head: &Head<'_>, form: Form) -> Result<(), Refusal> {
    if head.method != "POST" {
        return Err(Refusal::Method);
    }
    if cors::frontend(guard, head).is_none() {
        return Err(Refusal::Origin);
    }
    if !matches!(head.fields.first(Name::SecFetchMode), None | Some(b"cors" | b"same-origin")) {
        return Err(Refusal::Origin);
    }
    let kind = head.fields.first(Name::ContentType).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    // FireFly does not ask for it; the Origin protects it as well.
    if form == Form::Own && !kind.eq_ignore_ascii_case(b"application/json") {
        return Err(Refusal::ContentType);
    }
    Ok(())
}

fn order(body: &[u8], form: Form, about: &mut About) -> Result<Order, Refusal> {
    use crate::model::reject::{Class, Reject};
    let wrong = || Refusal::Body(Reject::new(Class::Malformed, "the body is not a JSON object"));
    let body: serde_json::Value = serde_json::from_slice(body).map_err(|_| wrong())?;
    let body = body.as_object().ok_or_else(wrong)?;
    let (app, org) = match form {
        Form::Own => ("app", "org"),
        Form::Firefly => ("toolId", "orgId"),
    };
    let text = |key: &str| body.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let id = |key: &str| Some(text(key)).filter(|text| is_valid_id(text)).map(str::to_owned);
    // A session for all apps of the organisation is asked for by leaving the app out.
    let for_all = form == Form::Own && body.get(app).is_none_or(serde_json::Value::is_null);
    let app = if for_all { None } else { Some(id(app).ok_or(Refusal::App)?) };
    let org = id(org).ok_or(Refusal::Org)?;
    about.app = app.clone().unwrap_or_default();
    about.org.clone_from(&org);
    let jwt = text("jwt");
    if jwt.is_empty() {
        return Err(Refusal::NoJwt);
    }
    let cookieless = form == Form::Own && body.get("cookieless") == Some(&true.into());
    Ok(Order { jwt: jwt.to_owned(), app, org, cookieless })
}

/// The organisation, if the user may have a session there. That it has front ends of its own is told to no one else.
fn admitted<'a>(
    starter: &Starter,
    snapshot: &'a Snapshot,
    claims: &Claims,
    order: &Order,
) -> Result<&'a Arc<Org>, Refusal> {
    let (user, org) = (claims.subject.as_str(), order.org.as_str());
    if snapshot.access().is_banned(user) {
        return Err(Refusal::Banned);
    }
    let is_vouched_for = |org: &str| claims.orgs.as_ref().is_none_or(|orgs| orgs.iter().any(|one| one == org));
    let known =
        snapshot.org(org).filter(|known| is_vouched_for(org) && known.admits(user)).ok_or(Refusal::NotMember)?;
    let is_open = claims.orgs.is_none() && !known.has_members() && snapshot.len() > 1;
    if is_open && !starter.has_warned.swap(true, Ordering::Relaxed) {
        warn_of_open(known);
    }
    Ok(known)
}

/// The session, which begins at `issued`: not before the user's sessions were ended, should that have been within this
/// second. And whose token it will need first.
fn grant(
    known: &Org,
    claims: &Claims,
    order: &Order,
    issued: UnixSeconds,
    ttl: Duration,
) -> Result<(Session, Option<Arc<ServicePrincipal>>), Refusal> {
    let (user, org) = (claims.subject.as_str(), order.org.as_str());
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Refusal::User(error.to_string()))?;
    let expires = issued + ttl.as_secs();
    let (email, app) = (claims.email.as_str(), order.app.as_deref());
    let session = Session::new(Parts { id, issued, expires, org, user, email, app });
    let session = session.map_err(|error| Refusal::User(error.to_string()))?;
    let Some(app) = app else { return Ok((session, None)) };
    let app = known.app(app).ok_or(Refusal::UnknownApp)?;
    if app.failed {
        return Err(Refusal::AppFailed);
    }
    let principal = app.workspace.principals.of(session.email()).ok_or(Refusal::NoPrincipal)?;
    Ok((session, Some(Arc::clone(principal))))
}

/// Sees to it that the principal has a token, so that a secret that is not accepted shows here, to the front end, and not
/// in the frame. With a secret that was changed meanwhile there is another in its place, which is tried as well.
async fn have_token(
    plane: &Plane,
    order: &Order,
    session: &Session,
    principal: &ServicePrincipal,
) -> Result<(), MintError> {
    let needs_one = |principal: &ServicePrincipal| !principal.kind.is_anonymous();
    if !needs_one(principal) {
        return Ok(());
    }
    let Err(error) = plane.minter.token(principal).await else { return Ok(()) };
    let now = plane.directory.snapshot().and_then(|snapshot| {
        let app = snapshot.org(&order.org)?.app(order.app.as_deref()?)?;
        app.workspace.principals.of(session.email()).cloned()
    });
    match now.filter(|now| now.token.uid() != principal.token.uid()) {
        Some(now) if needs_one(&now) => plane.minter.token(&now).await.map(drop),
        Some(_) => Ok(()),
        None => Err(error),
    }
}

/// Where there are several organisations, one that neither names its members nor is named by JWTs is open to the users of
/// all the others. That may be meant, but not unawares.
fn warn_of_open(org: &Org) {
    tracing::warn!(
        org = %org.id,
        "every user of the front end may start sessions in this organisation: it has no list of members, and \
         session.jwt.org_claim is not set"
    );
}

/// Takes the JWT out of use, where each may be used once. Last of all, so that a refusal for another reason costs none.
async fn use_up(starter: &Starter, claims: &Claims) -> Result<(), Refusal> {
    let (Some(once), Some(id)) = (&starter.once, &claims.id) else { return Ok(()) };
    match once.take(id, claims.expires + crate::session::jwt::SKEW).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::Used),
        Err(UseError::Full) => Err(Refusal::TooManyUses),
        Err(UseError::Unknown(error)) => Err(Refusal::UseUnknown(error)),
    }
}
