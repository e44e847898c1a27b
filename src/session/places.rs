//! Where a session is at home: of a few upstreams the node that its requests go to. Nodes stand there as numbers that only
//! the upstream itself can make something of.

/// How many upstreams a session remembers: those used last. Each takes eleven characters of the cookie.
pub const MOST: usize = 4;

/// An upstream, and the node of it that the session is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// What stands for the upstream.
    pub upstream: u32,
    /// What stands for the cluster and the node.
    pub node: u32,
}

/// The places of a session, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places {
    all: [Place; MOST],
    count: u8,
}

impl Places {
    /// All of them, the newest first.
    #[must_use]
    pub fn as_slice(&self) -> &[Place] {
        &self.all[..usize::from(self.count)]
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The node that the session is on of an upstream.
    #[must_use]
    pub fn of(&self, upstream: u32) -> Option<u32> {
        self.as_slice().iter().find(|place| place.upstream == upstream).map(|place| place.node)
    }

    /// The same with a place as the newest, instead of the upstream's one before and at the expense of the oldest.
    #[must_use]
    pub fn with(self, new: Place) -> Self {
        let kept = self.as_slice().iter().filter(|place| place.upstream != new.upstream).copied();
        std::iter::once(new).chain(kept).collect()
    }

    /// The same with those of other upstreams behind them, as far as there is room.
    #[must_use]
    pub fn and(self, older: Self) -> Self {
        let others = older.as_slice().iter().filter(|place| self.of(place.upstream).is_none());
        self.as_slice().iter().chain(others).copied().collect()
    }
}

impl FromIterator<Place> for Places {
    /// Takes as many as are remembered.
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut these = Self::default();
        for (place, room) in places.into_iter().zip(&mut these.all) {
            *room = place;
            these.count += 1;
        }
        these
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(upstream: u32, node: u32) -> Place {
        Place { upstream, node }
    }

    fn places(all: &[(u32, u32)]) -> Places {
        all.iter().map(|(upstream, node)| place(*upstream, *node)).collect()
    }

    #[test]
    fn the_newest_is_kept_and_the_oldest_goes() {
        let four = places(&[(4, 40), (3, 30), (2, 20), (1, 10)]);
        assert_eq!((four.of(1), four.of(9)), (Some(10), None));
        assert_eq!(four.with(place(5, 50)), places(&[(5, 50), (4, 40), (3, 30), (2, 20)]));
        assert_eq!(four.with(place(1, 11)), places(&[(1, 11), (4, 40), (3, 30), (2, 20)]));
        assert!(Places::default().is_empty() && Places::default().with(place(0, 0)).of(0) == Some(0));
    }

    #[test]
    fn two_become_one() {
        let (newer, older) = (places(&[(1, 10), (2, 20)]), places(&[(2, 21), (3, 30), (4, 40), (5, 50)]));
        assert_eq!(newer.and(older), places(&[(1, 10), (2, 20), (3, 30), (4, 40)]));
        assert_eq!(newer.and(newer), newer);
        assert_eq!(Places::default().and(older), older);
    }
}
