//! How long a session lasts without a request, and when a request moves that end on.

use super::Session;
use crate::clock::UnixSeconds;
use std::time::Duration;

/// The idle limit of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleLimit {
    /// How long a session lasts without a request, in seconds.
    limit: u64,
    /// How far the end must have come nearer before it is moved on: a page with a hundred requests renews once.
    interval: u64,
}

/// The longest time between two renewals, in seconds.
const LONGEST_INTERVAL: u64 = 300;

impl IdleLimit {
    /// Sessions last so long without a request; parts of seconds do not count.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let limit = limit.as_secs();
        Self { limit, interval: (limit / 6).clamp(1, LONGEST_INTERVAL) }
    }

    /// The session as a token that is made now holds it: an idle end only where it is nearer than the end of all.
    #[must_use]
    pub fn renew(self, session: &Session, now: UnixSeconds) -> Session {
        let idle = Some(now + self.limit).filter(|idle| *idle < session.expires);
        Session { idle, ..session.clone() }
    }

    /// Whether a session that ends at `idle` without a renewal is to be renewed now.
    #[must_use]
    pub fn is_due(self, idle: UnixSeconds, now: UnixSeconds) -> bool {
        idle.saturating_sub(now) + self.interval <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Parts;

    fn session(expires: UnixSeconds) -> Session {
        let (org, user, email) = ("acme", "u1", "a@b.example");
        Session::new(Parts { id: [0; 16], issued: 0, expires, org, user, email, app: None }).unwrap()
    }

    #[test]
    fn an_idle_end_is_never_past_the_end_of_all() {
        let limit = IdleLimit::new(Duration::from_secs(60));
        let session = session(1000);
        for (now, idle, end) in [(0, Some(60), 60), (939, Some(999), 999), (940, None, 1000), (999, None, 1000)] {
            let renewed = limit.renew(&session, now);
            assert_eq!((renewed.idle, renewed.end()), (idle, end), "at {now}");
            assert_eq!(renewed, Session { idle, ..session.clone() }, "at {now}");
        }
    }

    #[test]
    fn a_renewal_is_due_once_an_interval_is_over() {
        for (limit, interval) in [(2, 1), (5, 1), (60, 10), (1800, 300), (86_400, 300)] {
            let limit = IdleLimit::new(Duration::from_secs(limit));
            let idle = limit.renew(&session(1 << 20), 1000).idle.unwrap();
            assert!(!limit.is_due(idle, 1000), "{limit:?}");
            assert!(!limit.is_due(idle, 1000 + interval - 1), "{limit:?}");
            assert!(limit.is_due(idle, 1000 + interval), "{limit:?}");
            assert!(limit.is_due(idle, idle - 1), "{limit:?}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_renews_nothing() {
        let limit = IdleLimit::new(Duration::from_secs(60));
        assert!(!limit.is_due(1070, 1000));
    }
}
