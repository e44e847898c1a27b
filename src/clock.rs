//! Wall-clock time, used only where expiries are compared, and milliseconds that never run back for what is decided without
//! a runtime; everything else is tokio's monotonic time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01 UTC.
pub type UnixSeconds = u64;

/// A wall clock that tests can turn.
#[derive(Debug, Clone)]
pub struct Clock {
    offset: Arc<AtomicI64>,
    made: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { offset: Arc::default(), made: Instant::now() }
    }
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> UnixSeconds {
        self.at(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// The time at one that the system's clock has shown; tests move it.
    pub fn at(&self, real: UnixSeconds) -> UnixSeconds {
        real.saturating_add_signed(self.offset.load(Ordering::Relaxed))
    }

    /// How many milliseconds after the clock was made a moment is; tests move that, too.
    #[must_use]
    pub fn uptime(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.made);
        let real = since.as_secs() * 1000 + u64::from(since.subsec_millis());
        real.saturating_add_signed(self.offset.load(Ordering::Relaxed).saturating_mul(1000))
    }

    /// Moves the clock, and all its clones, by so many seconds.
    pub fn turn(&self, seconds: i64) {
        self.offset.fetch_add(seconds, Ordering::Relaxed);
    }
}
