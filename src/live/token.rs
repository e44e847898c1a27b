//! The current token of a principal: read by every request, written by the minter. Beside it what the principal's
//! connections are made with.

use crate::clock::UnixSeconds;
use crate::secret::Secret;
use arc_swap::{ArcSwapOption, Guard};
use rustls::RootCertStore;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_rustls::TlsConnector;

/// A credential as it goes upstream: header fields, written out once so that a request only copies them.
#[derive(Debug)]
pub struct Token {
    /// Whole lines of a head.
    lines: Secret,
    /// The names of its fields, besides `Authorization`.
    names: Box<[Box<str>]>,
    /// Whether it takes the place of a client's own `Authorization`.
    replaces: bool,
    expires: UnixSeconds,
}

/// Tokens are not used in their last seconds, so that they do not expire on the way. Databricks on Azure refuses tokens
/// with 30 seconds or less to go.
pub const EXPIRY_MARGIN_SECONDS: u64 = 40;

/// It has rules of its own among a client's fields.
const AUTHORIZATION: &str = "Authorization";

impl Token {
    /// A credential that does not end: a field of its own, and others beside it. Names and values must be such as a head
    /// takes.
    #[must_use]
    pub fn new(own: Option<(&str, &str)>, others: &[(String, String)]) -> Self {
        let fields = || own.into_iter().chain(others.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        // Of the right size from the start: a text that grows leaves copies of secrets behind.
        let mut lines = String::with_capacity(fields().map(|(name, value)| name.len() + value.len() + 4).sum());
        for (name, value) in fields() {
            for part in [name, ": ", value, "\r\n"] {
                lines.push_str(part);
            }
        }
        let names = fields().map(|(name, _)| name).filter(|name| !name.eq_ignore_ascii_case(AUTHORIZATION));
        let names = names.map(Into::into).collect();
        Self { lines: Secret::new(lines), names, replaces: true, expires: u64::MAX }
    }

    /// An `Authorization` field, with others beside it.
    #[must_use]
    pub fn authorization(value: &Secret, others: &[(String, String)]) -> Self {
        Self::new(Some((AUTHORIZATION, value.expose())), others)
    }

    /// The same for use beside a client's own `Authorization`.
    #[must_use]
    pub fn beside_authorization(self) -> Self {
        Self { replaces: false, ..self }
    }

    /// The same with more names that only the gateway may use.
    #[must_use]
    pub fn reserving(self, names: &[&str]) -> Self {
        let names = self.names.into_iter().chain(names.iter().map(|name| (*name).into())).collect();
        Self { names, ..self }
    }

    /// The same with a life of so many seconds from now, less the margin that keeps it from ending on its way upstream.
    #[must_use]
    pub fn living(self, life: u64, now: UnixSeconds) -> Self {
        Self { expires: now + life - margin(life), ..self }
    }

    /// Its fields as whole lines of a head.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        self.lines.expose().as_bytes()
    }

    /// The same one by one, for a request that is not written as a head here.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.expose().split("\r\n").filter_map(|line| line.split_once(": "))
    }

    /// Whether a client's own `Authorization` is not for the upstream.
    #[must_use]
    pub fn replaces_authorization(&self) -> bool {
        self.replaces
    }

    /// Whether there are fields besides `Authorization` that only the gateway may use.
    #[must_use]
    pub fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whether a client must not send a field of this name: it is ours, or an underscore form that some servers take for
    /// it.
    #[must_use]
    pub fn is_own(&self, name: &[u8]) -> bool {
        let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let same = |own: &str| own.len() == name.len() && own.bytes().map(fold).eq(name.iter().copied().map(fold));
        self.names.iter().any(|own| same(own))
    }

    /// Whether the token still has enough life for a request.
    #[must_use]
    pub fn is_usable(&self, now: UnixSeconds) -> bool {
        now < self.expires
    }
}

/// How many seconds before its end a token that lives for `life` seconds is no longer used.
#[must_use]
pub fn margin(life: u64) -> u64 {
    EXPIRY_MARGIN_SECONDS.min(life / 2)
}

/// Holds the current token of one principal.
pub struct TokenCell {
    uid: u64,
    token: ArcSwapOption<Token>,
    used: AtomicU64,
    handshake: ArcSwapOption<Handshake>,
}

/// How TLS handshakes are made as a principal.
struct Handshake {
    /// Whom they trust.
    roots: Arc<RootCertStore>,
    connector: TlsConnector,
}

impl fmt::Debug for TokenCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCell").field("uid", &self.uid).finish_non_exhaustive()
    }
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

impl Default for TokenCell {
    fn default() -> Self {
        Self {
            uid: NEXT_UID.fetch_add(1, Ordering::Relaxed),
            token: ArcSwapOption::empty(),
            used: AtomicU64::new(0),
            handshake: ArcSwapOption::empty(),
        }
    }
}

impl TokenCell {
    /// A number that no other cell of this process has or had.
    #[must_use]
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// The token, when there is one that may still be used. Marks the principal as in use.
    #[must_use]
    pub fn get(&self, now: UnixSeconds) -> Option<Arc<Token>> {
        // Written once a second at most: a store per request would bounce the line between cores.
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
        let token: Guard<Option<Arc<Token>>> = self.token.load();
        token.as_ref().filter(|token| token.is_usable(now)).cloned()
    }

    /// Puts a token in the place of the one before.
    pub fn put(&self, token: Token) {
        self.token.store(Some(Arc::new(token)));
    }

    /// Whether there is a token that may be used; does not count as use.
    #[must_use]
    pub fn has_usable(&self, now: UnixSeconds) -> bool {
        self.token.load().as_ref().is_some_and(|token| token.is_usable(now))
    }

    /// How TLS handshakes are made as the principal, trusting these roots: set up once, and gone with it.
    ///
    /// # Errors
    /// What `make` says.
    pub fn tls<E>(
        &self,
        roots: &Arc<RootCertStore>,
        make: impl FnOnce() -> Result<TlsConnector, E>,
    ) -> Result<TlsConnector, E> {
        if let Some(kept) = self.handshake.load().as_ref().filter(|kept| Arc::ptr_eq(&kept.roots, roots)) {
            return Ok(kept.connector.clone());
        }
        let connector = make()?;
        // Where two make it at once, the last one counts, and the other's session is not resumed.
        let kept = Handshake { roots: Arc::clone(roots), connector: connector.clone() };
        self.handshake.store(Some(Arc::new(kept)));
        Ok(connector)
    }

    /// When a request last asked for the token; 0 for never.
    #[must_use]
    pub fn last_used(&self) -> UnixSeconds {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer() -> Token {
        Token::authorization(&Secret::new("Bearer x".into()), &[])
    }

    #[test]
    fn a_token_is_not_given_out_near_its_end() {
        let cell = TokenCell::default();
        assert!(cell.get(1000).is_none());
        cell.put(bearer().living(3600, 1000));
        assert!(cell.get(1000).is_some());
        assert!(cell.get(1000 + 3600 - EXPIRY_MARGIN_SECONDS - 1).is_some());
        assert!(cell.get(1000 + 3600 - EXPIRY_MARGIN_SECONDS).is_none());
        assert_eq!(cell.last_used(), 1000 + 3600 - EXPIRY_MARGIN_SECONDS);
    }

    #[test]
    fn a_short_token_is_used_for_half_of_its_life() {
        let cell = TokenCell::default();
        cell.put(bearer().living(10, 1000));
        assert!(cell.get(1004).is_some());
        assert!(cell.get(1005).is_none());
    }

    #[test]
    fn a_token_is_lines_and_the_names_in_them() {
        let token = Token::authorization(&Secret::new("Bearer x".into()), &[("X-Trino-User".into(), "svc".into())]);
        assert_eq!(token.lines(), b"Authorization: Bearer x\r\nX-Trino-User: svc\r\n");
        for (name, own) in [("x-trino-user", true), ("X_Trino-User", true), ("x-trino-users", false), ("a", false)] {
            assert_eq!(token.is_own(name.as_bytes()), own, "{name}");
        }
        assert!(token.replaces_authorization() && token.is_usable(u64::MAX - 1));
        let reserving = Token::new(None, &[]).reserving(&["X-Amz-Date"]).beside_authorization();
        assert!(reserving.is_own(b"x-amz-date") && !reserving.replaces_authorization());
        assert_eq!(reserving.lines(), b"");
    }
}
