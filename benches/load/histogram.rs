//! Durations by their logarithm: a fixed table, in which every value is kept to within 0.8 %.

use std::time::Duration;

/// Each doubling of the duration has so many slots, as a power of two.
const BITS: u32 = 7;
const SLOTS: usize = ((64 - BITS as usize) << BITS) + (1 << BITS);

pub(crate) struct Histogram {
    slots: Box<[u64]>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { slots: vec![0; SLOTS].into(), count: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, took: Duration) {
        self.slots[slot(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))] += 1;
        self.count += 1;
    }

    /// The duration in microseconds that this share is not above; none without any.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = (share * self.count as f64).ceil().max(1.0);
        let mut seen = 0;
        let at = self.slots.iter().position(|count| {
            seen += count;
            seen as f64 >= wanted
        })?;
        Some(middle(at) / 1000.0)
    }
}

fn slot(nanoseconds: u64) -> usize {
    let shift = (u64::BITS - nanoseconds.leading_zeros()).saturating_sub(BITS + 1);
    ((shift as usize) << BITS) + (nanoseconds >> shift) as usize
}

/// The middle of what a slot stands for, in nanoseconds.
fn middle(slot: usize) -> f64 {
    let shift = (slot >> BITS).saturating_sub(1);
    let first = slot - (shift << BITS);
    (first as f64 + 0.5) * (1u64 << shift) as f64
}
