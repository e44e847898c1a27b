//! How much organisations, users and upstreams may have under way, as the directory and the configuration say it.

/// Limits of an organisation and its users, for the whole fleet. None leaves one to the configuration; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Requests per second.
    pub requests_per_second: Option<u32>,
    /// Requests at once after a pause; 0 for as many as one second gives.
    pub burst: Option<u32>,
    /// Requests, streams and tunnels under way.
    pub concurrent: Option<u32>,
    /// The same for each user.
    pub user_requests_per_second: Option<u32>,
    /// The same for each user.
    pub user_burst: Option<u32>,
    /// The same for each user.
    pub user_concurrent: Option<u32>,
}

/// The largest number that a limit may be.
pub const MAX_LIMIT: u32 = 1_000_000;

impl Quota {
    /// The names of the limits, in the directory and the configuration.
    pub const KEYS: &'static [&'static str] =
        &["requests_per_second", "burst", "concurrent", "user_requests_per_second", "user_burst", "user_concurrent"];

    /// The limits in the order of their names.
    #[must_use]
    pub fn values(&self) -> [Option<u32>; 6] {
        [
            self.requests_per_second,
            self.burst,
            self.concurrent,
            self.user_requests_per_second,
            self.user_burst,
            self.user_concurrent,
        ]
    }

    /// Limits in the order of their names.
    #[must_use]
    pub fn of(values: [Option<u32>; 6]) -> Self {
        let [requests_per_second, burst, concurrent, user_requests_per_second, user_burst, user_concurrent] = values;
        Self { requests_per_second, burst, concurrent, user_requests_per_second, user_burst, user_concurrent }
    }

    /// The same, with those of `other` where nothing is said. A burst belongs to its rate.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let burst = if self.requests_per_second.is_some() { self.burst } else { self.burst.or(other.burst) };
        let user_burst = if self.user_requests_per_second.is_some() {
            self.user_burst
        } else {
            self.user_burst.or(other.user_burst)
        };
        Self {
            requests_per_second: self.requests_per_second.or(other.requests_per_second),
            burst,
            concurrent: self.concurrent.or(other.concurrent),
            user_requests_per_second: self.user_requests_per_second.or(other.user_requests_per_second),
            user_burst,
            user_concurrent: self.user_concurrent.or(other.user_concurrent),
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        let limits = [self.requests_per_second, self.concurrent, self.user_requests_per_second, self.user_concurrent];
        limits.into_iter().all(|limit| limit.unwrap_or(0) == 0)
    }
}

/// How much may be under way on an upstream, from each instance. None leaves it to the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests, streams and tunnels; 0 is no limit.
    pub max_concurrent: Option<u32>,
    /// Whether its latency sets the limit, below that one.
    pub adaptive: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organisation_says_what_differs() {
        let usual = Quota { burst: Some(7), concurrent: Some(9), ..Quota::of([Some(5); 6]) };
        let own = Quota { requests_per_second: Some(1), user_concurrent: Some(0), ..Quota::default() };
        let both = own.or(&usual);
        // A burst that was meant for another rate is not taken over.
        assert_eq!(both.values(), [Some(1), None, Some(9), Some(5), Some(5), Some(0)]);
        assert_eq!(Quota::of(both.values()), both);
        assert!(Quota { concurrent: Some(0), burst: Some(5), ..Quota::default() }.is_unlimited());
        assert!(!usual.is_unlimited());
    }
}
