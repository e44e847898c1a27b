//! How long things take, in buckets of fixed bounds: recorded with two additions, and never more than so many numbers.

use metrics::HistogramFn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets in nanoseconds; what takes longer is in one more bucket. Each is at least twice the one
/// before, so that [`FIRST`] leaves one comparison.
pub(super) const BOUNDS: [u64; 18] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// Buckets with the last one, which has no bound.
const BUCKETS: usize = BOUNDS.len() + 1;

/// The first bucket for numbers of so many bits: that of the smallest of them. At most one bound lies among them.
const FIRST: [u8; 65] = {
    let mut first = [0; 65];
    let mut bits = 1;
    while bits < first.len() {
        let smallest = 1_u64 << (bits - 1);
        while (first[bits] as usize) < BOUNDS.len() && smallest > BOUNDS[first[bits] as usize] {
            first[bits] += 1;
        }
        bits += 1;
    }
    first
};

const _: () = {
    let mut at = 1;
    while at < BOUNDS.len() {
        assert!(BOUNDS[at] >= 2 * BOUNDS[at - 1], "a bucket could be two further than FIRST says");
        at += 1;
    }
};

/// A histogram of times.
#[derive(Debug, Default)]
pub struct Histogram {
    /// How many times fell into each bucket alone.
    buckets: [AtomicU64; BUCKETS],
    /// All times together, in nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// Records a time; any thread may.
    pub fn record(&self, time: Duration) {
        let nanos = whole_nanos(time);
        self.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Records nanoseconds where no other thread records: without an instruction that locks the memory.
    pub(super) fn record_alone(&self, nanos: u64) {
        add_alone(&self.buckets[bucket_of(nanos)], 1);
        add_alone(&self.sum, nanos);
    }

    /// What has been recorded until now.
    pub(super) fn read(&self) -> Recorded {
        Recorded {
            buckets: self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }

    /// Replaces everything by what was recorded elsewhere.
    pub(super) fn replace(&self, recorded: &Recorded) {
        for (bucket, count) in self.buckets.iter().zip(recorded.buckets) {
            bucket.store(count, Ordering::Relaxed);
        }
        self.sum.store(recorded.sum, Ordering::Relaxed);
    }
}

impl HistogramFn for Histogram {
    /// Records seconds; none that are not a time.
    fn record(&self, seconds: f64) {
        if let Ok(time) = Duration::try_from_secs_f64(seconds) {
            Self::record(self, time);
        }
    }
}

/// What a histogram had recorded at one time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Recorded {
    /// Adds what another histogram had recorded.
    pub(super) fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// For each bound in nanoseconds, how many times were not above it.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        BOUNDS.into_iter().zip(self.buckets).scan(0, |below, (bound, count)| {
            *below += count;
            Some((bound, *below))
        })
    }

    /// How many times there were.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All times together in seconds.
    pub(super) fn sum(&self) -> f64 {
        seconds(self.sum)
    }
}

/// Nanoseconds in seconds.
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A time in nanoseconds, of which a `u64` holds 584 years.
fn whole_nanos(time: Duration) -> u64 {
    time.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(time.subsec_nanos()))
}

/// Adds to a number that no other thread writes.
pub(super) fn add_alone(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// The bucket of a time.
fn bucket_of(nanos: u64) -> usize {
    let bits = u64::BITS - nanos.leading_zeros();
    let first = usize::from(FIRST[bits as usize]);
    first + usize::from(BOUNDS.get(first).is_some_and(|bound| nanos > *bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let around = BOUNDS.into_iter().flat_map(|bound| [bound - 1, bound, bound + 1]);
        let powers = (0..64).map(|power| 1 << power).flat_map(|power: u64| [power - 1, power, power + 1]);
        for nanos in around.chain(powers).chain([u64::MAX]) {
            let expected = BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
            assert_eq!(bucket_of(nanos), expected, "{nanos}");
        }
    }

    #[test]
    fn counts_add_up_to_the_bounds_and_beyond() {
        let histogram = Histogram::default();
        for micros in [50, 51, 70_000_000, 3] {
            histogram.record(Duration::from_micros(micros));
        }
        histogram.record_alone(100_000);
        let recorded = histogram.read();
        let cumulative: Vec<_> = recorded.cumulative().collect();
        assert_eq!(cumulative[..3], [(50_000, 2), (100_000, 4), (250_000, 4)]);
        assert_eq!(cumulative.last(), Some(&(60_000_000_000, 4)));
        assert_eq!(recorded.count(), 5);
        assert!((recorded.sum() - 70.000_204).abs() < 1e-9, "{}", recorded.sum());
    }

    #[test]
    fn histograms_of_several_threads_are_added() {
        let (one, other, all) = (Histogram::default(), Histogram::default(), Histogram::default());
        one.record_alone(1);
        other.record_alone(1);
        other.record_alone(u64::MAX / 4);
        let mut sum = one.read();
        sum.add(&other.read());
        all.replace(&sum);
        assert_eq!(all.read(), sum);
        assert_eq!(all.read().count(), 3);
    }

    #[test]
    fn what_is_no_time_is_not_recorded() {
        let histogram = Histogram::default();
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 0.25] {
            HistogramFn::record(&histogram, seconds);
        }
        assert_eq!(histogram.read().count(), 1);
    }
}
