//! Buffers that requests need while they are under way, and connections do not need between them. The one that was given
//! back last is given away first, so that the few that are in use stay near the processor however many connections there are.

use crate::wire::fields::Position;
use std::cell::RefCell;

/// A larger buffer is given back to the allocator.
pub(super) const KEEP: usize = 4096;
/// Room in a new buffer: for most heads, so that they do not grow step by step.
const USUAL: usize = 1024;
/// Buffers that are kept for the next requests at most.
const MOST: usize = 512;

/// The spare buffers of one worker.
#[derive(Default)]
pub(super) struct Buffers {
    bytes: RefCell<Vec<Vec<u8>>>,
    positions: RefCell<Vec<Vec<Position>>>,
}

impl Buffers {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        self.bytes.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(USUAL))
    }

    /// Takes a buffer back, whatever is in it.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() < MOST && (1..=KEEP).contains(&buffer.capacity()) {
            buffer.clear();
            bytes.push(buffer);
        }
    }

    /// Room for the fields of a head.
    pub(super) fn take_positions(&self) -> Vec<Position> {
        self.positions.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes that back. How many fields there are is bounded, and so is how large it is.
    pub(super) fn give_positions(&self, fields: Vec<Position>) {
        let mut positions = self.positions.borrow_mut();
        if positions.len() < MOST {
            positions.push(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_given_away_again_and_empty() {
        let buffers = Buffers::default();
        buffers.give(b"secret".to_vec());
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() > 0);
    }

    #[test]
    fn few_and_small_ones_are_kept() {
        let buffers = Buffers::default();
        buffers.give(Vec::with_capacity(KEEP + 1));
        buffers.give(Vec::new());
        assert_eq!(buffers.bytes.borrow().len(), 0);
        for _ in 0..2 * MOST {
            buffers.give(vec![0; KEEP]);
            buffers.give_positions(Vec::new());
        }
        assert_eq!((buffers.bytes.borrow().len(), buffers.positions.borrow().len()), (MOST, MOST));
    }
}
