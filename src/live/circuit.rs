//! The live side of an upstream's circuit breaker: what is under way on all of its nodes together.

use super::place::Places;

/// Counters of one upstream; they outlive the snapshot.
#[derive(Debug, Default)]
pub struct Circuit {
    /// Requests; counted only where there is a limit.
    pub requests: Places,
    /// Requests that are tried again, on another node than the first.
    pub retries: Places,
}
