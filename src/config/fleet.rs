//! How instances tell one another of themselves.

use std::time::Duration;

/// What instances tell one another, by way of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// How often one says that it lives.
    pub interval: Duration,
    /// The same while something is under way on clusters that are draining.
    pub drain_interval: Duration,
    /// How long it counts as alive without another word.
    pub expiry: Duration,
}
