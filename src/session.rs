//! Sessions: sealed tokens that name an organisation and a user, where requests carry them, the keys that open them,
//! and the JWTs that start them.

pub mod carrier;
pub mod firefly;
pub mod idle;
pub mod jwt;
pub mod keys;
pub mod opened;
pub mod places;
pub mod seal;

use crate::clock::UnixSeconds;
use crate::model::access::Holder;
use places::{Place, Places};
use seal::OpenError;
use std::time::Duration;

/// Who a request is from. Holds ids only; everything that may change is looked up in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// 128 random bits that name the session.
    pub id: [u8; 16],
    /// When it began.
    pub issued: UnixSeconds,
    /// When it ends whatever happens.
    pub expires: UnixSeconds,
    /// When it ends unless it is renewed before; none for a session that needs no renewal.
    pub idle: Option<UnixSeconds>,
    /// The nodes it is on, where upstreams keep sessions on theirs.
    pub places: Places,
    /// What upstreams are told of it, as lines of a head, and the app behind that.
    text: Box<str>,
    /// Where user, e-mail and organisation end in it.
    ends: [u16; 3],
}

/// What stands before user, e-mail and organisation.
const LABELS: [&str; 3] = ["X-Forwarded-User: ", "\r\nX-Forwarded-Email: ", "\r\nX-Embedgate-Org: "];
/// What stands behind them.
const LINE_END: &str = "\r\n";

/// Why a session cannot be made of given parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSession {
    /// The organisation or app is not an id.
    #[error("organisation and app must be ids: letters, digits, '-' and '_'")]
    Id,
    /// The user is empty or has control characters.
    #[error("the user must not be empty nor hold control characters or non-ASCII letters")]
    User,
    /// The e-mail address has no `@` or has control characters.
    #[error("the e-mail address must hold '@' and no control characters or non-ASCII letters")]
    Email,
    /// All of it together is too long.
    #[error("organisation, user, e-mail and app are longer than {MAX_TEXT} characters together")]
    TooLong,
    /// It would end before it begins, or live longer than [`MAX_LIFE`].
    #[error("a session ends after it begins and lives for at most 30 days")]
    Life,
}

/// The longest life of a session: revocations are remembered for that long.
pub const MAX_LIFE: Duration = crate::config::MAX_SESSION_LIFE;

/// How far clocks of instances may differ.
const SKEW_SECONDS: u64 = 10;

/// Most bytes of organisation, user, e-mail and app together.
pub const MAX_TEXT: usize = 255;

/// The parts of a [`Session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// 128 random bits that name the session.
    pub id: [u8; 16],
    /// When it begins.
    pub issued: UnixSeconds,
    /// When it ends.
    pub expires: UnixSeconds,
    /// The organisation.
    pub org: &'a str,
    /// The user, as the front end names it.
    pub user: &'a str,
    /// The user's e-mail address; kept in lower case.
    pub email: &'a str,
    /// The only app the session is for, or none for all of the organisation's.
    pub app: Option<&'a str>,
}

impl Session {
    /// A session of these parts.
    ///
    /// # Errors
    /// [`InvalidSession`] says which part is wrong.
    pub fn new(parts: Parts<'_>) -> Result<Self, InvalidSession> {
        use crate::model::ids::is_valid_id;
        if !is_valid_id(parts.org) || !parts.app.is_none_or(is_valid_id) {
            return Err(InvalidSession::Id);
        }
        // They go upstream as header values, so nothing but visible ASCII may be in them.
        let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_visible(parts.user) {
            return Err(InvalidSession::User);
        }
        if !is_visible(parts.email) || !parts.email.contains('@') {
            return Err(InvalidSession::Email);
        }
        if parts.expires <= parts.issued || parts.expires - parts.issued > MAX_LIFE.as_secs() {
            return Err(InvalidSession::Life);
        }
        let told = [parts.user, parts.email, parts.org];
        let app = parts.app.unwrap_or("");
        let length = told.iter().map(|part| part.len()).sum::<usize>() + app.len();
        if length > MAX_TEXT {
            return Err(InvalidSession::TooLong);
        }
        // To the byte, so that it becomes a box without moving.
        let mut text =
            String::with_capacity(length + LABELS.iter().map(|label| label.len()).sum::<usize>() + LINE_END.len());
        let mut ends = [0; 3];
        for ((part, label), end) in told.into_iter().zip(LABELS).zip(&mut ends) {
            text.push_str(label);
            text.push_str(part);
            *end = text.len() as u16;
        }
        text[usize::from(ends[0]) + LABELS[1].len()..usize::from(ends[1])].make_ascii_lowercase();
        text.push_str(LINE_END);
        text.push_str(app);
        let text = text.into_boxed_str();
        let (Parts { id, issued, expires, .. }, places) = (parts, Places::default());
        Ok(Self { id, issued, expires, idle: None, places, text, ends })
    }

    /// When it ends if nothing renews it.
    #[must_use]
    pub fn end(&self) -> UnixSeconds {
        self.idle.map_or(self.expires, |idle| idle.min(self.expires))
    }

    /// Whether it is valid at a time.
    ///
    /// # Errors
    /// [`OpenError`]: it has ended, or has not begun.
    pub fn check(&self, now: UnixSeconds) -> Result<(), OpenError> {
        if now >= self.expires {
            return Err(OpenError::Expired);
        }
        if now >= self.end() {
            return Err(OpenError::Idle);
        }
        if self.issued > now + SKEW_SECONDS { Err(OpenError::NotYetValid) } else { Ok(()) }
    }

    /// One session out of two tokens of it, with the later idle end, and the places of both: where they differ, those of
    /// the token that was made later. None if the tokens are of different sessions.
    #[must_use]
    pub fn merge(self, other: Self) -> Option<Self> {
        let idle = self.idle.zip(other.idle).map(|(one, two)| one.max(two));
        // Who ends by idling later, or not at all any more, was renewed later.
        let is_newer = self.idle.unwrap_or(self.expires) >= other.idle.unwrap_or(other.expires);
        let places = if is_newer { self.places.and(other.places) } else { other.places.and(self.places) };
        let (one, two) = (Self { idle, places, ..self }, Self { idle, places, ..other });
        (one == two).then_some(one)
    }

    /// The same session at this place of an upstream.
    #[must_use]
    pub fn at(&self, place: Place) -> Self {
        Self { places: self.places.with(place), ..self.clone() }
    }

    /// Who asks, for the directory.
    #[must_use]
    pub fn holder(&self) -> Holder<'_> {
        Holder { session: &self.id, issued: self.issued, org: self.org(), user: self.user() }
    }

    /// The organisation.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.text[usize::from(self.ends[1]) + LABELS[2].len()..usize::from(self.ends[2])]
    }

    /// The user, as the front end names it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.text[LABELS[0].len()..usize::from(self.ends[0])]
    }

    /// The user's e-mail address in lower case.
    #[must_use]
    pub fn email(&self) -> &str {
        &self.text[usize::from(self.ends[0]) + LABELS[1].len()..usize::from(self.ends[1])]
    }

    /// What upstreams are told of user and organisation: whole lines of a head.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.text.as_bytes()[..self.lines_end()]
    }

    fn lines_end(&self) -> usize {
        usize::from(self.ends[2]) + LINE_END.len()
    }

    /// The only app the session is for, or none for all of the organisation's.
    #[must_use]
    pub fn app(&self) -> Option<&str> {
        let app = &self.text[self.lines_end()..];
        if app.is_empty() { None } else { Some(app) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: Parts<'_> =
        Parts { id: [7; 16], issued: 10, expires: 20, org: "acme", user: "u1", email: "Ann@Acme.example", app: None };

    #[test]
    fn parts_come_back() {
        let session = Session::new(Parts { app: Some("editor"), ..PARTS }).unwrap();
        assert_eq!((session.org(), session.user()), ("acme", "u1"));
        assert_eq!((session.email(), session.app()), ("ann@acme.example", Some("editor")));
        let lines = "X-Forwarded-User: u1\r\nX-Forwarded-Email: ann@acme.example\r\nX-Embedgate-Org: acme\r\n";
        assert_eq!(session.lines(), lines.as_bytes());
        assert_eq!(Session::new(PARTS).unwrap().app(), None);
    }

    #[test]
    fn tokens_of_one_session_become_one() {
        let session = |idle| Session { idle, ..Session::new(PARTS).unwrap() };
        for (one, other, expected) in [
            (Some(12), Some(15), Some(15)),
            (Some(15), Some(12), Some(15)),
            (Some(12), None, None),
            (None, Some(12), None),
            (None, None, None),
        ] {
            assert_eq!(session(one).merge(session(other)), Some(session(expected)), "{one:?} {other:?}");
        }
        for other in [
            Parts { id: [8; 16], ..PARTS },
            Parts { issued: 11, ..PARTS },
            Parts { expires: 21, ..PARTS },
            Parts { user: "u2", ..PARTS },
        ] {
            assert_eq!(session(Some(12)).merge(Session::new(other).unwrap()), None, "{other:?}");
        }
    }

    #[test]
    fn places_of_the_later_token_count() {
        let place = |upstream, node| Place { upstream, node };
        let session = |idle, all: &[Place]| Session {
            idle,
            places: all.iter().copied().collect(),
            ..Session::new(PARTS).unwrap()
        };
        let (old, new) = (session(Some(12), &[place(1, 10), place(2, 20)]), session(Some(15), &[place(1, 11)]));
        let both = session(Some(15), &[place(1, 11), place(2, 20)]);
        assert_eq!(old.clone().merge(new.clone()), Some(both.clone()));
        assert_eq!(new.merge(old.clone()), Some(both));
        // One that needs no renewal any more was made last.
        let last = session(None, &[place(1, 12)]);
        assert_eq!(old.merge(last).unwrap().places.of(1), Some(12));
    }

    #[test]
    fn wrong_parts_are_refused() {
        let long = "x".repeat(250);
        for (parts, expected) in [
            (Parts { org: "", ..PARTS }, InvalidSession::Id),
            (Parts { app: Some("a/b"), ..PARTS }, InvalidSession::Id),
            (Parts { app: Some(""), ..PARTS }, InvalidSession::Id),
            (Parts { user: "a\nb", ..PARTS }, InvalidSession::User),
            (Parts { user: "é", ..PARTS }, InvalidSession::User),
            (Parts { email: "nobody", ..PARTS }, InvalidSession::Email),
            (Parts { user: &long, ..PARTS }, InvalidSession::TooLong),
            (Parts { expires: 10, ..PARTS }, InvalidSession::Life),
            (Parts { expires: 11 + MAX_LIFE.as_secs(), ..PARTS }, InvalidSession::Life),
        ] {
            assert_eq!(Session::new(parts), Err(expected), "{parts:?}");
        }
    }
}
