//! How quickly a node answers: a peak EWMA, which believes a slow answer at once and forgets it slowly, so that balancing
//! leaves a node in trouble quickly and comes back carefully.

use std::sync::atomic::{AtomicU64, Ordering};

/// After so long, half of what was above the newer answers is forgotten.
const HALF_LIFE_MS: u64 = 10_000;
/// Answers that are quicker are noted no more often: what is forgotten in between would be lost in rounding, and a store
/// per request would bounce the line between cores.
const PAUSE_MS: u64 = 100;

/// Microseconds in the high half, the moment they are of in milliseconds in the low half. Written without a loop: of two
/// answers at the same moment one may be lost.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    /// Notes an answer.
    pub(super) fn note(&self, now: u64, took: std::time::Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let packed = self.0.load(Ordering::Relaxed);
        let (value, since) = ((packed >> 32) as u32, now.wrapping_sub(packed) & 0xffff_ffff);
        let value = if took >= value {
            took
        } else if since < PAUSE_MS {
            return;
        } else {
            took + decayed(value - took, since)
        };
        self.0.store(u64::from(value) << 32 | now & 0xffff_ffff, Ordering::Relaxed);
    }

    /// What is believed at a moment, without an answer since.
    pub(super) fn at(&self, now: u64) -> u32 {
        let packed = self.0.load(Ordering::Relaxed);
        let value = (packed >> 32) as u32;
        if value == 0 { 0 } else { decayed(value, now.wrapping_sub(packed) & 0xffff_ffff).max(1) }
    }
}

/// What is left of a value after so long: halves, and a straight line between them.
fn decayed(value: u32, since: u64) -> u32 {
    let halves = u32::try_from(since / HALF_LIFE_MS).unwrap_or(u32::MAX);
    let left = u64::from(value.checked_shr(halves).unwrap_or(0));
    (left - (left * (since % HALF_LIFE_MS)).div_ceil(2 * HALF_LIFE_MS)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let latency = Latency::default();
        assert_eq!(latency.at(5), 0);
        latency.note(1000, MILLI);
        assert_eq!(latency.at(1000), 1000);
        latency.note(1001, 100 * MILLI);
        assert_eq!(latency.at(1001), 100_000);
        // Unasked, it is forgotten by itself.
        assert_eq!(latency.at(1001 + HALF_LIFE_MS), 50_000);
        assert_eq!(latency.at(1001 + HALF_LIFE_MS / 2), 75_000);
        assert_eq!(latency.at(1001 + 100 * HALF_LIFE_MS), 1);
    }

    #[test]
    fn however_often_it_is_asked_it_comes_down_to_what_answers_take() {
        for pause in [1, 7, 100, 999] {
            let latency = Latency::default();
            latency.note(0, 100 * MILLI);
            let end = 20 * HALF_LIFE_MS;
            let mut last = 0;
            for now in (0..end).step_by(pause) {
                latency.note(now, MILLI);
                last = latency.at(now);
                assert!((900..=100_000).contains(&last), "{pause}: {last}");
            }
            assert!((900..1100).contains(&last), "{pause}: {last}");
        }
    }

    #[test]
    fn the_clock_may_turn_over() {
        let latency = Latency::default();
        let late = u64::from(u32::MAX) - 10;
        latency.note(late, MILLI);
        assert_eq!(latency.at(late + 20), 999);
    }
}
