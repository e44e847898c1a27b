//! Places of which there are so many, such as connections to a node: counted exactly, over all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many places are taken.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<AtomicU32>);

impl Places {
    /// A place, unless `most` are taken; 0 means any number.
    #[must_use]
    pub fn take(&self, most: u32) -> Option<Place> {
        // Counted first, so that two can never take the last place; the place gives itself back.
        let taken = self.0.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.0));
        (most == 0 || taken < most).then_some(place)
    }

    /// How many are taken now.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_each_comes_back() {
        let places = Places::default();
        let taken: Vec<_> = (0..4).filter_map(|_| places.take(3)).collect();
        assert_eq!((taken.len(), places.taken()), (3, 3));
        assert!(places.take(3).is_none() && places.take(0).is_some());
        drop(taken);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn threads_never_take_more_than_there_are() {
        let (places, most) = (Places::default(), 5);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let place = places.take(most);
                        // Those that are refused count for a moment, each thread one at a time.
                        assert!(places.taken() <= most + 4);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(places.taken(), 0);
    }
}
