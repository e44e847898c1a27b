//! The cookie that carries a session: set where the session starts, renewed on answers while it is used, taken back where
//! it ends.

use super::site::is_framed_elsewhere;
use super::worker::Worker;
use crate::clock::UnixSeconds;
use crate::model::reject::{Class, Reject};
use crate::model::url::Scheme;
use crate::session::Session;
use crate::session::carrier::{CookieNames, Via};
use crate::session::places::Place;
use crate::session::seal::Purpose;
use crate::wire::fields::{Fields, Name, list};
use crate::wire::request::Head;
use crate::wire::response;
use std::time::{Duration, UNIX_EPOCH};

/// Where the key is kept beside the directory, it comes with the first load.
pub(super) const NO_KEY: &str = "the key of sessions is not known yet";

/// The value of the `Set-Cookie` that gives a session to the browser, with an idle end counted from now. `app` is the app
/// whose own cookie it is, where apps share the host; `framed` says whether it is for frames of other sites.
///
/// # Errors
/// [`Reject`] when it cannot be sealed.
pub(super) fn session_cookie(
    worker: &Worker,
    app: Option<&str>,
    framed: bool,
    session: &Session,
) -> Result<String, Reject> {
    let plane = &worker.plane;
    let now = plane.clock.now();
    let session = plane.settings.session_idle.renew(session, now);
    let token = seal(worker, Purpose::Session, &session)?;
    let https = plane.settings.guard.scheme == Scheme::Https;
    Ok(set(framed, &CookieNames::new(https).of(app), &token, session.end().saturating_sub(now)))
}

/// The session as a token.
///
/// # Errors
/// [`Reject`] when it cannot be sealed.
pub(super) fn seal(worker: &Worker, purpose: Purpose, session: &Session) -> Result<String, Reject> {
    match worker.plane.keys.ring().seal(purpose, session) {
        Ok(Some(token)) => Ok(token),
        Ok(None) => Err(Reject::new(Class::NotReady, NO_KEY)),
        Err(error) => Err(Reject::new(Class::Internal, format!("sealing the session: {error}"))),
    }
}

/// The value of the `Set-Cookie` that takes the cookie of this name back.
pub(super) fn taken_back(framed: bool, name: &str) -> String {
    set(framed, name, "", 0)
}

fn set(framed: bool, name: &str, value: &str, max_age: u64) -> String {
    // In a frame of another site a cookie comes along only with SameSite=None, which needs Secure; Partitioned keeps it
    // where third-party cookies are blocked (CHIPS).
    let kind = if framed { "Secure; SameSite=None; Partitioned" } else { "SameSite=Lax" };
    format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; {kind}")
}

/// A session whose cookie is to be renewed with the answer.
pub(super) struct Renewal {
    app: Option<String>,
    framed: bool,
    /// Where the session is from now on, where that is new.
    place: Option<Place>,
}

impl Renewal {
    /// The renewal that a request brings about, because the session has been used for a while or is to remember a place;
    /// none for most requests. A program with a bearer has nowhere to keep another token.
    pub(super) fn due(
        worker: &Worker,
        head: &Head<'_>,
        session: &Session,
        via: Via<'_>,
        place: Option<Place>,
    ) -> Option<Self> {
        let Via::Cookie(app) = via else { return None };
        let gateway = &worker.plane;
        let is_due = |idle| gateway.settings.session_idle.is_due(idle, gateway.clock.now());
        (place.is_some() || session.idle.is_some_and(is_due)).then(|| {
            let framed = is_framed_elsewhere(&gateway.guard_of(session.org()), head.authority);
            Self { app: app.map(str::to_owned), framed, place }
        })
    }

    /// The value of the `Set-Cookie` for this answer; none where another answer has to do it.
    pub(super) fn cookie(&self, worker: &Worker, session: &Session, answer: &response::Head<'_>) -> Option<String> {
        let now = worker.plane.clock.now();
        // A cache that revalidates takes the fields of a 304 over into what it has stored (RFC 9111 4.3.4).
        if answer.status == 304 || now >= session.expires || is_kept(answer.fields, now) {
            return None;
        }
        // An app's answer does not fail for it: the session stands as it is, and the next answer tries again.
        let moved = self.place.map(|place| session.at(place));
        session_cookie(worker, self.app.as_deref(), self.framed, moved.as_ref().unwrap_or(session)).ok()
    }
}

/// Whether an answer says that it may be kept for later or for others, as a user's cookie must not be.
fn is_kept(fields: Fields<'_>, now: UnixSeconds) -> bool {
    let fresh_until = |value: &[u8]| httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok();
    let is_fresh = |value| fresh_until(value).is_some_and(|end| end > UNIX_EPOCH + Duration::from_secs(now));
    fields.first(Name::SharedCache).is_some()
        || fields.all(Name::Expires).any(is_fresh)
        || fields.all(Name::CacheControl).flat_map(list).any(allows_keeping)
}

/// Whether a directive of `Cache-Control` (RFC 9111 5.2.2, RFC 8246) makes caches keep an answer.
fn allows_keeping(directive: &[u8]) -> bool {
    let end = directive.iter().position(|b| *b == b'=').unwrap_or(directive.len());
    let (name, value) = directive.split_at(end);
    let is = |known: &[u8]| name.trim_ascii().eq_ignore_ascii_case(known);
    let is_zero = || value.iter().all(|b| matches!(b, b'=' | b'0' | b'"' | b' ' | b'\t'));
    is(b"public") || is(b"immutable") || is(b"s-maxage") || (is(b"max-age") && !is_zero())
}

/// Whether a `Cache-Control` keeps the whole answer out of shared caches.
pub(super) fn is_private(value: &[u8]) -> bool {
    // With an argument, `private` is about the fields it names only.
    list(value)
        .any(|directive| [&b"private"[..], b"no-store"].iter().any(|known| directive.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::Limits;

    /// 2026-07-01 00:00:00 UTC.
    const NOW: UnixSeconds = 1_782_864_000;

    fn kept(lines: &str) -> bool {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
        let mut positions = Vec::new();
        let limits = Limits { bytes: 9999, fields: 50 };
        let head = response::Head::parse(text.as_bytes(), &mut positions, limits, false).unwrap();
        is_kept(head.fields, NOW)
    }

    #[test]
    fn answers_that_may_be_kept_are_known() {
        for lines in [
            "Cache-Control: public",
            "cache-control: no-cache, PUBLIC",
            "Cache-Control: max-age=1",
            "Cache-Control: max-age=\"60\"",
            "Cache-Control: max-age = 60",
            "Cache-Control: max-age=x",
            "Cache-Control: private, max-age=60",
            "Cache-Control: s-maxage=0",
            "Cache-Control: no-cache\r\nCache-Control: immutable",
            "Expires: Wed, 01 Jul 2026 00:00:01 GMT",
            "Age: 0",
            "CDN-Cache-Control: max-age=60",
            "Cache-Control: private\r\nSurrogate-Control: max-age=60",
        ] {
            assert!(kept(lines), "{lines}");
        }
        for lines in [
            "X: 1",
            "Cache-Control: no-store",
            "Cache-Control: private",
            "Cache-Control: no-cache, max-age=0, must-revalidate",
            "Cache-Control: max-age=\"0\"",
            "Cache-Control: publicity, max-age-of-nothing=5",
            "Cache-Control: no-cache\r\nExpires: 0",
            "Expires: -1",
            "Expires: Wed, 01 Jul 2026 00:00:00 GMT",
            "Last-Modified: Wed, 01 Jul 2026 00:00:00 GMT",
        ] {
            assert!(!kept(lines), "{lines}");
        }
    }

    #[test]
    fn private_is_private_without_an_argument() {
        for value in ["private", "no-cache, Private", "no-store"] {
            assert!(is_private(value.as_bytes()), "{value}");
        }
        for value in ["", "no-cache", "private=\"x-a\"", "max-age=0", "privately"] {
            assert!(!is_private(value.as_bytes()), "{value}");
        }
    }
}
