//! The gateway's own endpoints on every data host, below `/.embedgate/`.

use super::cookie;
use super::cors;
use super::guard::is_navigation;
use super::respond::Answer;
use super::route::{Hosts, Target, locate};
use super::site::is_framed_elsewhere;
use super::worker::Worker;
use crate::model::reject::{Class, Reject};
use crate::session::Session;
use crate::session::carrier;
use crate::session::seal::Purpose;
use crate::wire::fields::Name;
use crate::wire::request::Head;

/// Answers a request for `/.embedgate/{path}`. A session that was opened on the way is told for the log.
///
/// # Errors
/// [`Reject`] where there is nothing of that name, or the token does not open.
pub(super) async fn answer(worker: &Worker, head: &Head<'_>, path: &str) -> Result<(Answer, Option<Session>), Reject> {
    match (path, head.method) {
        ("healthz", "GET" | "HEAD") => Ok((healthz(worker), None)),
        ("jwks.json", "GET" | "HEAD") => Ok((assertion_keys(worker)?, None)),
        ("session", "GET" | "HEAD") => start_session(worker, head).map(|(answer, session)| (answer, Some(session))),
        ("session", "DELETE") => end_session(worker, head).await,
        _ => Err(Reject::new(Class::NotFound, "no such endpoint of the gateway")),
    }
}

fn healthz(worker: &Worker) -> Answer {
    if worker.plane.is_leaving() {
        Answer::new(503, "Service Unavailable").field("Cache-Control", "no-store").body("text/plain", "draining\n")
    } else {
        Answer::new(200, "OK").field("Cache-Control", "no-store").body("text/plain", "ok\n")
    }
}

/// The public keys with which issuers check what the gateway says of principals. They may keep them for a while: a new
/// key is to be listed for that long before it signs.
fn assertion_keys(worker: &Worker) -> Result<Answer, Reject> {
    let keys = worker.plane.minter.assertions().published();
    let keys = keys.ok_or_else(|| Reject::new(Class::NotFound, "credentials.assertion_keys is not configured"))?;
    let answer = Answer::new(200, "OK").field("Cache-Control", "public, max-age=300");
    Ok(answer.body("application/json", keys.as_bytes()))
}

/// `GET /.embedgate/session?token=T&next=/path`: checks T, sets the cookie of this host and goes to `next`, so that the
/// token is in no history and no Referer.
fn start_session(worker: &Worker, head: &Head<'_>) -> Result<(Answer, Session), Reject> {
    // A page may lead to the link but not fetch it behind the user's back.
    if head.fields.first(Name::SecFetchMode).is_some() && !is_navigation(head) {
        return Err(Reject::new(Class::CrossSite, "a session link that was not navigated to"));
    }
    let token = parameter(head.query(), "token").ok_or_else(|| Reject::new(Class::Session, "no token in the link"))?;
    let now = worker.plane.clock.now();
    let ring = worker.plane.keys.ring();
    if ring.is_empty() {
        return Err(Reject::new(Class::NotReady, cookie::NO_KEY));
    }
    let opened = ring.open(Purpose::Session, token.as_bytes(), now);
    let session = opened.map_err(|error| Reject::new(Class::Session, error.to_string()))?;
    let place = Place::of(&worker.plane.settings.hosts, head, &session)?;
    let next = match parameter(head.query(), "next") {
        Some(next) => {
            local_path(&next).ok_or_else(|| Reject::new(Class::Malformed, "next is not a path of this host"))?
        }
        None => place.start(),
    };
    let framed = is_framed_elsewhere(&worker.plane.guard_of(session.org()), head.authority);
    let cookie = cookie::session_cookie(worker, place.cookie_app(), framed, &session)?;
    let answer = Answer::new(303, "See Other")
        .field("Location", &next)
        .field("Set-Cookie", &cookie)
        .field("Cache-Control", "no-store")
        .field("Referrer-Policy", "no-referrer");
    Ok((answer, session))
}

/// Where a session is started.
pub(super) enum Place {
    /// On the host of one app.
    AppHost,
    /// On the host that apps share: for one of them, or for all.
    Shared(Option<String>),
}

impl Place {
    pub(super) fn of(hosts: &Hosts, head: &Head<'_>, session: &Session) -> Result<Self, Reject> {
        // The host alone counts here, so the root of it is asked for.
        let root = Head { target: "/app-proxy/any/", ..*head };
        match locate(hosts, &root)? {
            Target::AppByHost { org, .. } if *org != *session.org() => {
                Err(Reject::new(Class::NotFound, "the host is another organisation's"))
            }
            Target::AppByHost { app, .. } if session.app().is_some_and(|own| own != &*app) => {
                Err(Reject::new(Class::Forbidden, "the session is for another app"))
            }
            Target::AppByHost { .. } => Ok(Self::AppHost),
            _ => Ok(Self::Shared(session.app().map(str::to_owned))),
        }
    }

    /// Apps that share a host have a cookie each, so that one does not overwrite another's.
    pub(super) fn cookie_app(&self) -> Option<&str> {
        match self {
            Self::AppHost => None,
            Self::Shared(app) => app.as_deref(),
        }
    }

    /// The path at which it begins.
    pub(super) fn start(&self) -> String {
        self.cookie_app().map_or_else(|| "/".to_owned(), |app| format!("/app-proxy/{app}/"))
    }
}

/// `DELETE /.embedgate/session`: ends the sessions that came with the request on the whole fleet, and takes the cookies of
/// this host back.
async fn end_session(worker: &Worker, head: &Head<'_>) -> Result<(Answer, Option<Session>), Reject> {
    let plane = &worker.plane;
    let now = plane.clock.now();
    let (mut sessions, mut others) = (carrier::all(head.fields, &plane.keys.ring(), now), Vec::new());
    if sessions.iter().all(|(_, cookie)| cookie.is_some()) {
        plane.guard_at(head).check(head)?;
        // Where organisations share a host, the sessions of those whose page does not ask are as good as not there.
        let may_end = |(session, _): &(Session, _)| plane.guard_of(session.org()).check(head).is_ok();
        (sessions, others) = sessions.into_iter().partition(may_end);
    }
    let mut ended: Vec<&Session> = Vec::new();
    for (session, _) in &sessions {
        if ended.iter().any(|other| other.id == session.id) {
            continue;
        }
        let recorded = plane.revoker.end(session.id, now, session.expires).await;
        recorded.map_err(|error| Reject::new(Class::NotRecorded, error.to_string()))?;
        ended.push(session);
    }
    let kept: Vec<_> = others.iter().filter_map(|(_, cookie)| *cookie).collect();
    let answer = cors::allow(&plane.guard_at(head), head, taken_back(worker, head, &kept));
    Ok((answer, sessions.into_iter().next().map(|(session, _)| session)))
}

/// An answer that takes the cookies of this host back, but for those that are kept.
fn taken_back(worker: &Worker, head: &Head<'_>, kept: &[&[u8]]) -> Answer {
    let mut answer = Answer::new(204, "No Content").field("Cache-Control", "no-store");
    let framed = is_framed_elsewhere(&worker.plane.guard_at(head), head.authority);
    for name in our_cookies(head).filter(|name| !kept.contains(&name.as_bytes())) {
        answer = answer.field("Set-Cookie", &cookie::taken_back(framed, name));
    }
    answer
}

fn our_cookies<'a>(head: &Head<'a>) -> impl Iterator<Item = &'a str> {
    let names = head.fields.all(Name::Cookie).flat_map(carrier::names);
    names.filter(|name| carrier::is_our_cookie(name)).filter_map(|name| std::str::from_utf8(name).ok())
}

/// A parameter of a query string, percent-decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || (bytes.next()? as char).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The text, if it is a path of this host and nothing that a browser would take for another place.
fn local_path(next: &str) -> Option<String> {
    let is_local = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    (is_local && next.bytes().all(|b| b.is_ascii_graphic())).then(|| next.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(parameter("a=1&token=~1.k.x&next=%2Fp%3Fq", "next").as_deref(), Some("/p?q"));
        assert_eq!(parameter("a=1&token=~1.k.x", "token").as_deref(), Some("~1.k.x"));
        for query in ["", "next", "nextx=1", "next=%2", "next=%zz", "next=%ff"] {
            assert_eq!(parameter(query, "next"), None, "{query}");
        }
    }

    #[test]
    fn next_stays_on_this_host() {
        for good in ["/", "/a/b?c=d#e"] {
            assert_eq!(local_path(good).as_deref(), Some(good));
        }
        for bad in [
            "",
            "a",
            "//evil.com",
            "/\\evil.com",
            "\\/evil.com",
            "https://evil.com",
            "/a\r\nX: y",
            "/a b",
            "/\t/evil.com",
        ] {
            assert_eq!(local_path(bad), None, "{bad:?}");
        }
    }
}
