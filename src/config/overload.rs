//! What happens when more is asked for than there is room for.

use crate::model::quota::Quota;
use std::time::Duration;

/// What organisations and users may have under way, in the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Where the directory says nothing else.
    pub usual: Quota,
    /// About how many users are told apart at once.
    pub users: usize,
}

/// How requests wait that are over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How many wait for one upstream, or for the instance.
    pub length: u32,
    /// How many wait at all.
    pub total: u32,
    /// How long a request for SQL waits.
    pub max_time_sql: Duration,
    /// How long any other request of a program waits.
    pub max_time_api: Duration,
    /// How long a request waits whose answer somebody is to see.
    pub max_time_page: Duration,
}
