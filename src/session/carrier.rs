//! Where a session travels: our cookie, or a bearer for programs. And what must be taken off before a request goes on.

use super::Session;
use super::seal::{KeyRing, OpenError, PREFIX, Purpose};
use crate::clock::UnixSeconds;
use crate::wire::fields::{Fields, Name};
use std::rc::Rc;

/// How a session came with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via<'a> {
    /// The browser sent it by itself, so other sites can make it do so: their requests must be told apart. Where apps
    /// share the host, the app whose own cookie it was; none for the cookie for all.
    Cookie(Option<&'a str>),
    /// A program put it there.
    Bearer,
    /// In the address, which nobody knows whom it was not given to.
    Link,
}

/// Why a request has no session. The client learns nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    /// Neither cookie nor bearer.
    #[error("no session with the request")]
    Missing,
    /// What came does not open.
    #[error("{0}")]
    Unopened(#[from] OpenError),
    /// Two different sessions under one name.
    #[error("two different sessions in one request")]
    Ambiguous,
    /// More cookies of our name than anybody has by accident.
    #[error("too many session cookies")]
    TooMany,
}

/// Most cookies of one of our names that are tried.
const MAX_COOKIES: usize = 8;

/// The names of our cookies on one kind of host.
#[derive(Debug, Clone, Copy)]
pub struct CookieNames {
    base: &'static str,
}

/// The cookie of `FireFly's` proxy, which this gateway may have taken over from: it still opens sessions there.
const FIREFLY: &[u8] = b"proxy_sid";
const PLAIN: &str = "embedgate";
const HOST_PREFIXED: &str = "__Host-embedgate";

impl CookieNames {
    /// Names for https, where the `__Host-` prefix keeps other hosts of the domain from setting our cookie (RFC 6265bis
    /// 4.1.3.2), or for plain http, where browsers refuse the prefix.
    #[must_use]
    pub fn new(https: bool) -> Self {
        Self { base: if https { HOST_PREFIXED } else { PLAIN } }
    }

    /// The name of the cookie for all apps of a host, or, where apps share a host, for one of them.
    #[must_use]
    pub fn of(self, app: Option<&str>) -> String {
        app.map_or_else(|| self.base.to_owned(), |app| format!("{}-{app}", self.base))
    }

    /// Whether `name` is what [`Self::of`] gives for `app`.
    fn is(self, name: &[u8], app: Option<&str>) -> bool {
        match (name.strip_prefix(self.base.as_bytes()), app) {
            (Some(b""), None) => true,
            (Some([b'-', rest @ ..]), Some(app)) => rest == app.as_bytes(),
            _ => false,
        }
    }
}

/// Finds the session of a request and opens it with `open`. `app` is the app asked for where apps share the host: its own
/// cookie goes before the one for all.
///
/// # Errors
/// [`NoSession`], for the log.
pub fn find<'a>(
    fields: Fields<'_>,
    names: CookieNames,
    app: Option<&'a str>,
    mut open: impl FnMut(&[u8]) -> Result<Rc<Session>, OpenError>,
) -> Result<(Rc<Session>, Via<'a>), NoSession> {
    if let Some(token) = bearer(fields) {
        return Ok((open(token)?, Via::Bearer));
    }
    let mut of = |app| from_cookies(fields, names, app, &mut open).map(|session| (session, Via::Cookie(app)));
    match app.map(|app| of(Some(app))) {
        Some(Ok(own)) => Ok(own),
        Some(Err(why @ (NoSession::Ambiguous | NoSession::TooMany))) => Err(why),
        // A left-over of an ended session must not stand before one that opens.
        Some(Err(NoSession::Missing)) | None => of(None),
        Some(Err(why)) => of(None).map_err(|_| why),
    }
}

/// Every session that comes with a request, whatever it is for, with the name of its cookie; the bearer's, which has none,
/// first.
#[must_use]
pub fn all<'a>(fields: Fields<'a>, ring: &KeyRing, now: UnixSeconds) -> Vec<(Session, Option<&'a [u8]>)> {
    let cookies = fields.all(Name::Cookie).flat_map(pairs).filter(|pair| is_our_cookie(pair.name));
    let cookies = cookies.take(MAX_COOKIES).map(|pair| (pair.value, Some(pair.name)));
    let tokens = bearer(fields).map(|token| (token, None)).into_iter().chain(cookies);
    tokens.filter_map(|(token, name)| Some((ring.open(Purpose::Session, token, now).ok()?, name))).collect()
}

/// The token of `Authorization: Bearer`, when it is one of ours; another bearer is the app's own affair.
fn bearer(fields: Fields<'_>) -> Option<&[u8]> {
    session_in(fields.first(Name::Authorization)?)
}

/// The session that an Authorization field holds, whether it opens or not.
pub fn session_in(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(7)?;
    let token = token.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"bearer ") && token.starts_with(PREFIX.as_bytes())).then_some(token)
}

fn from_cookies(
    fields: Fields<'_>,
    names: CookieNames,
    app: Option<&str>,
    open: &mut impl FnMut(&[u8]) -> Result<Rc<Session>, OpenError>,
) -> Result<Rc<Session>, NoSession> {
    let (mut found, mut why): (Option<Rc<Session>>, _) = (None, NoSession::Missing);
    let ours = fields.all(Name::Cookie).flat_map(pairs).filter(|pair| names.is(pair.name, app));
    for (count, pair) in ours.enumerate() {
        if count == MAX_COOKIES {
            return Err(NoSession::TooMany);
        }
        match open(pair.value) {
            Ok(session) => found = Some(merged(found, session)?),
            Err(error) => why = error.into(),
        }
    }
    found.ok_or(why)
}

/// Two tokens of one session are one before and one after a renewal.
fn merged(found: Option<Rc<Session>>, session: Rc<Session>) -> Result<Rc<Session>, NoSession> {
    let Some(other) = found else { return Ok(session) };
    let one = Rc::unwrap_or_clone(other).merge(Rc::unwrap_or_clone(session));
    one.map(Rc::new).ok_or(NoSession::Ambiguous)
}

/// One cookie of a Cookie field (RFC 6265 4.2.1).
struct Pair<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

fn pairs(field: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    field.split(|b| *b == b';').map(pair)
}

fn pair(text: &[u8]) -> Pair<'_> {
    let text = text.trim_ascii();
    let split = text.iter().position(|b| *b == b'=').unwrap_or(text.len());
    let (name, value) = text.split_at(split);
    let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
    let unquoted = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    Pair { name: name.trim_ascii_end(), value: unquoted }
}

/// The names of the cookies in a Cookie field.
pub fn names(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    pairs(field).map(|pair| pair.name)
}

/// Whether a cookie name is, or was, one of ours, on any kind of host and in any case.
#[must_use]
pub fn is_our_cookie(name: &[u8]) -> bool {
    if name.eq_ignore_ascii_case(FIREFLY) {
        return true;
    }
    [PLAIN, HOST_PREFIXED].iter().any(|ours| {
        let (Some(start), rest) = (name.get(..ours.len()), name.get(ours.len()..).unwrap_or_default()) else {
            return false;
        };
        start.eq_ignore_ascii_case(ours.as_bytes()) && (rest.is_empty() || rest[0] == b'-')
    })
}

/// Writes the value of a Cookie field without our cookies, the others byte for byte. Writes nothing when none is left.
pub fn strip_cookies(field: &[u8], out: &mut Vec<u8>) {
    let is_ours = |pair: &Pair<'_>| is_our_cookie(pair.name) || pair.value.starts_with(PREFIX.as_bytes());
    if !pairs(field).any(|pair| is_ours(&pair)) {
        out.extend_from_slice(field);
        return;
    }
    let start = out.len();
    for text in field.split(|b| *b == b';').filter(|text| !is_ours(&pair(text))) {
        if out.len() > start {
            out.push(b';');
            out.extend_from_slice(text);
        } else {
            out.extend_from_slice(text.trim_ascii_start());
        }
    }
}

#[cfg(test)]
mod tests;
