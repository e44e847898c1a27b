//! The streams of a connection that are open, found by their numbers and by their places.

use super::stream::Stream;
use slab::Slab;

/// Open streams.
#[derive(Default)]
pub(super) struct Open {
    streams: Slab<Stream>,
    /// Number and place of each. A new one always has a higher number than all before.
    numbers: Vec<(u32, usize)>,
}

impl Open {
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The place that the next stream will have.
    pub(super) fn next_place(&self) -> usize {
        self.streams.vacant_key()
    }

    pub(super) fn insert(&mut self, stream: Stream) {
        self.numbers.push((stream.number, self.streams.vacant_key()));
        self.streams.insert(stream);
    }

    /// Where a stream is.
    pub(super) fn place(&self, number: u32) -> Option<usize> {
        let index = self.numbers.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.numbers[index].1)
    }

    pub(super) fn at(&mut self, place: usize) -> Option<&mut Stream> {
        self.streams.get_mut(place)
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Stream> {
        let stream = self.streams.try_remove(place)?;
        if let Ok(index) = self.numbers.binary_search_by_key(&stream.number, |(number, _)| *number) {
            self.numbers.remove(index);
        }
        Some(stream)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Stream)> {
        self.streams.iter_mut()
    }

    pub(super) fn clear(&mut self) {
        self.streams.clear();
        self.numbers.clear();
    }
}
