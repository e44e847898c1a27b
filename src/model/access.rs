//! What takes access away across organisations: sessions that were ended, and users who are banned.

use super::sharded::Sharded;
use crate::clock::UnixSeconds;
use std::fmt;

/// Whose sessions end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// All of an organisation.
    Org(Box<str>),
    /// All of a user, in every organisation.
    User(Box<str>),
    /// One.
    Session([u8; 16]),
}

/// The id of a session as people and databases write it: 32 hexadecimal digits.
#[must_use]
pub fn session_text(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

/// Reads what [`session_text`] writes.
#[must_use]
pub fn session_id(text: &str) -> Option<[u8; 16]> {
    let is_one = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_one { u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes) } else { None }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Org(id) => write!(f, "organisation {id}"),
            Self::User(id) => write!(f, "user {id}"),
            Self::Session(id) => write!(f, "session {}", session_text(id)),
        }
    }
}

/// Something that takes access away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bar {
    /// Sessions that began at this moment or before are over.
    Revoked(Subject),
    /// A user who may do nothing, whatever the session.
    Banned(Box<str>),
}

/// Who asks, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The session.
    pub session: &'a [u8; 16],
    /// When it began.
    pub issued: UnixSeconds,
    /// Its organisation.
    pub org: &'a str,
    /// Its user.
    pub user: &'a str,
}

/// Why somebody has no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAccess {
    /// The session was ended.
    #[error("the session was ended")]
    SessionRevoked,
    /// All sessions of the user were ended.
    #[error("the sessions of the user were ended")]
    UserRevoked,
    /// All sessions of the organisation were ended.
    #[error("the sessions of the organisation were ended")]
    OrgRevoked,
    /// The user is banned.
    #[error("the user is banned")]
    Banned,
    /// The organisation admits members alone, and the user is none.
    #[error("the user is not a member of the organisation")]
    NotMember,
}

/// All of it at one moment. Empty for most gateways, and then it costs three comparisons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    orgs: Sharded<Box<str>, UnixSeconds>,
    users: Sharded<Box<str>, UnixSeconds>,
    sessions: Sharded<[u8; 16], UnixSeconds>,
    banned: Sharded<Box<str>, ()>,
}

impl Access {
    /// Whether the holder of a session was shut out.
    ///
    /// # Errors
    /// [`NoAccess`] says by what.
    pub fn check(&self, holder: Holder<'_>) -> Result<(), NoAccess> {
        if self.sessions.get(holder.session).is_some() {
            return Err(NoAccess::SessionRevoked);
        }
        if self.users.get(holder.user).is_some_and(|since| holder.issued <= *since) {
            return Err(NoAccess::UserRevoked);
        }
        if self.orgs.get(holder.org).is_some_and(|since| holder.issued <= *since) {
            return Err(NoAccess::OrgRevoked);
        }
        if self.is_banned(holder.user) { Err(NoAccess::Banned) } else { Ok(()) }
    }

    /// Whether the user may do nothing.
    #[must_use]
    pub fn is_banned(&self, user: &str) -> bool {
        self.banned.get(user).is_some()
    }

    /// The first moment at which a session of this user and organisation may begin: later than what was ended.
    #[must_use]
    pub fn earliest(&self, org: &str, user: &str) -> UnixSeconds {
        let user = self.users.get(user).map_or(0, |since| since + 1);
        self.orgs.get(org).map_or(user, |since| user.max(since + 1))
    }

    /// The same with these bars put up, each with the moment it is from, or taken away.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (Bar, Option<UnixSeconds>)>) -> Self {
        let (mut orgs, mut users, mut sessions, mut banned) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (bar, since) in changes {
            match bar {
                Bar::Revoked(Subject::Org(id)) => orgs.push((id, since)),
                Bar::Revoked(Subject::User(id)) => users.push((id, since)),
                Bar::Revoked(Subject::Session(id)) => sessions.push((id, since)),
                Bar::Banned(id) => banned.push((id, since.map(|_| ()))),
            }
        }
        Self {
            orgs: self.orgs.with(orgs),
            users: self.users.with(users),
            sessions: self.sessions.with(sessions),
            banned: self.banned.with(banned),
        }
    }

    /// How many bars there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orgs.len() + self.users.len() + self.sessions.len() + self.banned.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: Holder<'_> = Holder { session: &[1; 16], issued: 100, org: "acme", user: "u-ann" };

    #[test]
    fn a_bar_shuts_out_whom_it_names() {
        let user = |since| (Bar::Revoked(Subject::User("u-ann".into())), since);
        let org = |since| (Bar::Revoked(Subject::Org("acme".into())), since);
        for (bar, expected) in [
            ((Bar::Revoked(Subject::Session([1; 16])), Some(0)), Err(NoAccess::SessionRevoked)),
            ((Bar::Revoked(Subject::Session([2; 16])), Some(999)), Ok(())),
            (user(Some(100)), Err(NoAccess::UserRevoked)),
            (user(Some(99)), Ok(())),
            ((Bar::Revoked(Subject::User("u-bob".into())), Some(999)), Ok(())),
            (org(Some(100)), Err(NoAccess::OrgRevoked)),
            (org(Some(99)), Ok(())),
            ((Bar::Banned("u-ann".into()), Some(0)), Err(NoAccess::Banned)),
            ((Bar::Banned("u-bob".into()), Some(0)), Ok(())),
        ] {
            let access = Access::default().with([bar.clone()]);
            assert_eq!((access.check(HOLDER), access.len()), (expected, 1), "{bar:?}");
            assert!(access.with([(bar.0, None)]).is_empty());
        }
    }

    #[test]
    fn a_new_session_begins_after_what_was_ended() {
        let access = Access::default().with([
            (Bar::Revoked(Subject::User("u-ann".into())), Some(70)),
            (Bar::Revoked(Subject::Org("acme".into())), Some(80)),
        ]);
        let earliest = access.earliest("acme", "u-ann");
        assert_eq!((earliest, access.earliest("other", "u-ann"), access.earliest("other", "u-bob")), (81, 71, 0));
        assert_eq!(access.check(Holder { issued: earliest, ..HOLDER }), Ok(()));
    }
}
