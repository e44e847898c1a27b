//! The slow start of what joins others: how much of its share it gets by now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A whole share, and so the unit of all others.
pub const WHOLE: u32 = 1000;
/// The share that a slow start begins with. From nothing at all it would not begin where requests are few, and nobody would
/// see how the newcomer fares before it gets many.
pub const FLOOR: u32 = WHOLE / 10;

/// It gets its whole share.
const WARM: u64 = 0;
/// Its slow start begins with the next request that it could get: time without requests warms nothing.
const COLD: u64 = 1;

/// When a slow start began, by a clock that counts milliseconds; what is new is warm.
#[derive(Debug, Default)]
pub struct Ramp(AtomicU64);

impl Ramp {
    /// Has it start slowly.
    pub fn cool(&self) {
        self.0.store(COLD, Ordering::Relaxed);
    }

    /// Gives it its whole share.
    pub fn warm(&self) {
        self.0.store(WARM, Ordering::Relaxed);
    }

    /// How many thousandths of its share it gets when the clock shows `now`, growing to the whole over `period`.
    #[must_use]
    pub fn share(&self, now: u64, period: Duration) -> u32 {
        let mut began = self.0.load(Ordering::Relaxed);
        if began == WARM {
            return WHOLE;
        }
        if began == COLD {
            let now = now.max(COLD + 1);
            // Whoever is first sets it for all.
            began = match self.0.compare_exchange(COLD, now, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => now,
                Err(WARM) => return WHOLE,
                Err(other) => other,
            };
        }
        let (gone, period) = (now.saturating_sub(began), u64::try_from(period.as_millis()).unwrap_or(u64::MAX));
        if gone >= period {
            // Only where nobody has it start again at this moment.
            let _ = self.0.compare_exchange(began, WARM, Ordering::Relaxed, Ordering::Relaxed);
            return WHOLE;
        }
        // Less than the whole, as the quotient is below one.
        let grown = u128::from(gone) * u128::from(WHOLE) / u128::from(period);
        u32::try_from(grown).unwrap_or(WHOLE).max(FLOOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let ramp = Ramp::default();
        assert_eq!(ramp.share(5, MINUTE), WHOLE);
        ramp.cool();
        for (now, share) in
            [(7_000, 100), (7_001, 100), (13_000, 100), (22_000, 250), (37_000, 500), (66_999, 999), (67_000, WHOLE)]
        {
            assert_eq!(ramp.share(now, MINUTE), share, "at {now}");
        }
        // Once warm it stays so, whatever the clock shows.
        assert_eq!(ramp.share(0, MINUTE), WHOLE);
    }

    #[test]
    fn no_time_is_no_slow_start() {
        let ramp = Ramp::default();
        ramp.cool();
        assert_eq!(ramp.share(0, Duration::ZERO), WHOLE);
        ramp.cool();
        assert_eq!(ramp.share(0, MINUTE), FLOOR);
        ramp.warm();
        assert_eq!(ramp.share(0, MINUTE), WHOLE);
    }

    #[test]
    fn a_clock_that_runs_back_does_no_harm() {
        let ramp = Ramp::default();
        ramp.cool();
        assert_eq!(ramp.share(50_000, MINUTE), FLOOR);
        assert_eq!(ramp.share(1, MINUTE), FLOOR);
    }
}
