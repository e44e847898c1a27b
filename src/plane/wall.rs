//! Wall-clock time of a worker: read from the system once a second and counted on from there, because clocks are read often
//! enough for each request.

use crate::clock::UnixSeconds;
use crate::log::Stamp;
use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// What time it is.
pub(super) struct Wall {
    read: Cell<Read>,
    stamp: Cell<Stamp>,
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Read {
    at: Instant,
    /// Since 1970-01-01 UTC.
    time: Duration,
}

impl Read {
    fn now() -> Self {
        Self { at: Instant::now(), time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

impl Default for Wall {
    fn default() -> Self {
        Self { read: Cell::new(Read::now()), stamp: Cell::default() }
    }
}

impl Wall {
    /// Reads the system's clock again, which may have been set.
    pub(super) fn read(&self) {
        self.read.set(Read::now());
    }

    /// The time since 1970-01-01 UTC at a moment, in microseconds.
    fn micros(&self, at: Instant) -> u64 {
        let read = self.read.get();
        let since = at.saturating_duration_since(read.at);
        let time = if since.is_zero() {
            read.time.saturating_sub(read.at.saturating_duration_since(at))
        } else {
            read.time + since
        };
        time.as_secs() * 1_000_000 + u64::from(time.subsec_micros())
    }

    /// Seconds since 1970-01-01 UTC at a moment, by the last reading.
    pub(super) fn second(&self, at: Instant) -> UnixSeconds {
        self.micros(at) / 1_000_000
    }

    /// The time at a moment, for a line of the log.
    pub(super) fn stamp(&self, at: Instant) -> Stamp {
        let mut stamp = self.stamp.get();
        stamp.set(self.micros(at));
        self.stamp.set(stamp);
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_and_after_a_reading_are_counted_from_it() {
        let wall = Wall::default();
        let (at, second) = (wall.read.get().at, Duration::from_secs(1));
        let now = wall.micros(at);
        assert_eq!(wall.micros(at + second), now + 1_000_000);
        assert_eq!(wall.micros(at - second), now - 1_000_000);
        assert_eq!(wall.second(at + second), now / 1_000_000 + 1);
    }
}
