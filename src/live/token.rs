//! The current token of a principal: read by every request, written by the minter.

use crate::clock::UnixSeconds;
use crate::secret::Secret;
use arc_swap::{ArcSwapOption, Guard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A credential as it goes upstream.
#[derive(Debug)]
pub struct Token {
    /// The value of the `Authorization` field.
    pub authorization: Secret,
    /// When it ends; `u64::MAX` for one that does not.
    pub expires: UnixSeconds,
}

/// Tokens are not used in their last seconds, so that they do not expire on the way. Databricks on Azure refuses tokens
/// with 30 seconds or less to go.
pub const EXPIRY_MARGIN_SECONDS: u64 = 40;

impl Token {
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
#[derive(Debug)]
pub struct TokenCell {
    uid: u64,
    token: ArcSwapOption<Token>,
    used: AtomicU64,
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

impl Default for TokenCell {
    fn default() -> Self {
        Self { uid: NEXT_UID.fetch_add(1, Ordering::Relaxed), token: ArcSwapOption::empty(), used: AtomicU64::new(0) }
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

    /// Puts a token that ends at `expires`, less the margin that keeps it from ending on its way upstream.
    pub fn put(&self, authorization: Secret, now: UnixSeconds, expires: UnixSeconds) {
        let token = Token { authorization, expires: expires - margin(expires.saturating_sub(now)) };
        self.token.store(Some(Arc::new(token)));
    }

    /// Whether there is a token that may be used; does not count as use.
    #[must_use]
    pub fn has_usable(&self, now: UnixSeconds) -> bool {
        self.token.load().as_ref().is_some_and(|token| token.is_usable(now))
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

    #[test]
    fn a_token_is_not_given_out_near_its_end() {
        let cell = TokenCell::default();
        assert!(cell.get(1000).is_none());
        cell.put(Secret::new("Bearer x".into()), 1000, 1000 + 3600);
        assert!(cell.get(1000).is_some());
        assert!(cell.get(1000 + 3600 - EXPIRY_MARGIN_SECONDS - 1).is_some());
        assert!(cell.get(1000 + 3600 - EXPIRY_MARGIN_SECONDS).is_none());
        assert_eq!(cell.last_used(), 1000 + 3600 - EXPIRY_MARGIN_SECONDS);
    }

    #[test]
    fn a_short_token_is_used_for_half_of_its_life() {
        let cell = TokenCell::default();
        cell.put(Secret::new("Bearer x".into()), 1000, 1010);
        assert!(cell.get(1004).is_some());
        assert!(cell.get(1005).is_none());
    }
}
