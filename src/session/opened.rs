//! Sessions whose tokens have been opened already. A client sends the same token with each request, and the same bytes open to
//! the same session for as long as the keys are the same; what may change, time and access, is asked anew each time.

use super::Session;
use super::seal::{KeyRing, OpenError, Purpose};
use crate::clock::UnixSeconds;
use foldhash::fast::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// Tokens that are remembered at most: a power of two. Each takes less than a kilobyte, so that many take little, and only
/// those of clients that are active matter.
const SLOTS: usize = 256;

/// The tokens that one worker has opened last. A token has one place, and the next one there takes it, so there is nothing
/// to tidy up.
pub struct Opened {
    /// What they were opened with. It does not keep the keys: these are gone when everybody else has let go of them.
    ring: Weak<KeyRing>,
    slots: Vec<Option<Entry>>,
    /// Seeded by chance, so that nobody can choose tokens that push out others'.
    hasher: RandomState,
}

struct Entry {
    token: Box<[u8]>,
    session: Rc<Session>,
}

impl Default for Opened {
    fn default() -> Self {
        Self { ring: Weak::new(), slots: Vec::new(), hasher: RandomState::default() }
    }
}

impl Opened {
    /// Opens a token for [`Purpose::Session`], as [`KeyRing::open`] does. Only what opens is remembered, so every failure
    /// still takes the same work.
    ///
    /// # Errors
    /// [`OpenError`], for the log only.
    pub fn open(&mut self, ring: &Arc<KeyRing>, token: &[u8], now: UnixSeconds) -> Result<Rc<Session>, OpenError> {
        if self.ring.as_ptr() != Arc::as_ptr(ring) {
            self.forget(ring);
        }
        let at = self.hasher.hash_one(token) as usize % SLOTS;
        if let Some(entry) = &self.slots[at]
            && is_same(&entry.token, token)
        {
            entry.session.check(now)?;
            return Ok(Rc::clone(&entry.session));
        }
        let session = Rc::new(ring.open(Purpose::Session, token, now)?);
        self.slots[at] = Some(Entry { token: token.into(), session: Rc::clone(&session) });
        Ok(session)
    }

    /// Begins anew with other keys.
    fn forget(&mut self, ring: &Arc<KeyRing>) {
        self.ring = Arc::downgrade(ring);
        self.slots.clear();
        self.slots.resize_with(SLOTS, || None);
    }
}

/// Whether two tokens are the same. It looks at all of them whatever it finds: how long it takes must not tell how much of
/// somebody else's token a guess has right.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Parts;

    fn ring(key: u8) -> Arc<KeyRing> {
        Arc::new(KeyRing::new([("k1".to_owned(), [key; 32])]))
    }

    fn token(ring: &KeyRing, user: &str) -> Vec<u8> {
        let parts =
            Parts { id: [7; 16], issued: 10, expires: 20, org: "acme", user, email: "ann@acme.example", app: None };
        let session = Session { idle: Some(18), ..Session::new(parts).unwrap() };
        ring.seal(Purpose::Session, &session).unwrap().unwrap().into_bytes()
    }

    #[test]
    fn a_token_opens_again_to_the_same_session() {
        let (ring, mut opened) = (ring(1), Opened::default());
        let token = token(&ring, "ann");
        let (one, two) = (opened.open(&ring, &token, 11).unwrap(), opened.open(&ring, &token, 12).unwrap());
        assert!(Rc::ptr_eq(&one, &two));
        assert_eq!(one.user(), "ann");
    }

    #[test]
    fn time_passes_for_what_was_opened_before() {
        let (ring, mut opened) = (ring(1), Opened::default());
        let token = token(&ring, "ann");
        for (now, expected) in [(11, None), (18, Some(OpenError::Idle)), (20, Some(OpenError::Expired)), (12, None)] {
            assert_eq!(opened.open(&ring, &token, now).err(), expected, "at {now}");
        }
        let mut fresh = Opened::default();
        assert_eq!(fresh.open(&ring, &token, 20).err(), Some(OpenError::Expired), "nor does it open late");
    }

    #[test]
    fn other_keys_open_nothing_of_before() {
        let (old, new, mut opened) = (ring(1), ring(2), Opened::default());
        let token = token(&old, "ann");
        assert!(opened.open(&old, &token, 11).is_ok());
        assert_eq!(opened.open(&new, &token, 11).err(), Some(OpenError::BadTag));
        assert!(opened.open(&old, &token, 11).is_ok(), "and back again");
    }

    #[test]
    fn keys_are_not_kept() {
        let (ring, mut opened) = (ring(1), Opened::default());
        let token = token(&ring, "ann");
        assert!(opened.open(&ring, &token, 11).is_ok());
        assert_eq!(Arc::strong_count(&ring), 1);
    }

    #[test]
    fn who_is_next_is_never_taken_for_who_was_before() {
        let (ring, mut opened) = (ring(1), Opened::default());
        let tokens: Vec<_> =
            (0..4 * SLOTS).map(|user| (format!("u{user}"), token(&ring, &format!("u{user}")))).collect();
        for _ in 0..2 {
            for (user, token) in &tokens {
                assert_eq!(opened.open(&ring, token, 11).unwrap().user(), user);
                let mut changed = token.clone();
                *changed.last_mut().unwrap() ^= 1;
                assert!(opened.open(&ring, &changed, 11).is_err());
                assert!(opened.open(&ring, &token[..token.len() - 1], 11).is_err());
            }
        }
    }
}
