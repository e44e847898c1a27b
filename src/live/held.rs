//! How much of an organisation's is held in memory: counted over all workers, and carried over from snapshot to snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of bodies that an organisation has held.
#[derive(Debug, Default)]
pub struct HeldLive(AtomicUsize);

impl HeldLive {
    /// How many there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// An empty share of them.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> HeldShare {
        HeldShare { of: Arc::clone(self), bytes: 0 }
    }
}

/// What one body takes of them; given back when it is dropped.
#[derive(Debug)]
pub struct HeldShare {
    of: Arc<HeldLive>,
    bytes: usize,
}

impl HeldShare {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many more, unless there would be more than `most` of all.
    #[must_use]
    pub fn grow(&mut self, more: usize, most: usize) -> bool {
        // Compared and added in one step: what is refused never stands in another's way.
        let fits = |held: usize| held.checked_add(more).filter(|held| *held <= most);
        let has_grown = self.of.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.bytes += if has_grown { more } else { 0 };
        has_grown
    }

    /// Gives all of it back.
    pub fn give_back(&mut self) {
        self.of.0.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for HeldShare {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_stay_within_what_is_allowed() {
        let live = Arc::<HeldLive>::default();
        let (mut one, mut other) = (live.share(), live.share());
        assert!(one.grow(60, 100) && other.grow(40, 100));
        assert!(!one.grow(1, 100) && !other.grow(usize::MAX, 100));
        assert_eq!((one.bytes(), other.bytes(), live.bytes()), (60, 40, 100));
        drop(one);
        assert!(other.grow(60, 100));
        drop(other);
        assert_eq!(live.bytes(), 0);
    }
}
