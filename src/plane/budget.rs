//! How many requests of a worker may be sent a second time: a share of all, so that an upstream in trouble does not get
//! twice the load, with something saved up for a moment in which it drops all idle connections.

use std::cell::Cell;

/// What a retry costs; requests earn a part of it.
const PRICE: u32 = 1000;
/// Retries that can be saved up. A worker starts with as many.
const SAVED: u32 = 100;

/// The retries that a worker may still make.
pub(super) struct Budget {
    left: Cell<u32>,
    /// What each request earns.
    share: u32,
}

impl Budget {
    /// A budget of so many retries in a thousand requests; with none, nothing is ever sent twice.
    pub(super) fn new(share: u32) -> Self {
        Self { left: Cell::new(if share == 0 { 0 } else { SAVED * PRICE }), share }
    }

    /// A request is sent for the first time.
    pub(super) fn earn(&self) {
        self.left.set((self.left.get() + self.share).min(SAVED * PRICE));
    }

    /// Whether one may be made.
    pub(super) fn has_some(&self) -> bool {
        self.left.get() >= PRICE
    }

    /// Whether a request may be sent again, which it then is.
    pub(super) fn spend(&self) -> bool {
        let left = self.left.get().checked_sub(PRICE);
        self.left.set(left.unwrap_or(self.left.get()));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many retries are left, which are none then.
    fn drain(budget: &Budget) -> u32 {
        std::iter::repeat_with(|| budget.spend()).take_while(|granted| *granted).count() as u32
    }

    #[test]
    fn a_burst_is_possible_and_then_a_share_of_all_requests() {
        let budget = Budget::new(200);
        assert_eq!(drain(&budget), SAVED);
        for (requests, retries) in [(4, 0), (1, 1), (50, 10), (100_000, SAVED)] {
            (0..requests).for_each(|_| budget.earn());
            assert_eq!(drain(&budget), retries, "{requests}");
        }
    }

    #[test]
    fn without_a_share_there_is_none() {
        let budget = Budget::new(0);
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!(drain(&budget), 0);
    }
}
