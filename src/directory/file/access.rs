//! Who may come in, in the directory file: members, banned users, ended sessions.

use crate::clock::UnixSeconds;
use crate::config::reader::{Item, Section};
use crate::model::access::{Bar, Subject, session_id};
use crate::model::ids::is_valid_id;

const REVOCATION: &[&str] = &["org", "user", "session", "before"];

/// The users that an organisation admits; none for everybody.
pub(super) fn members(org: &Section<'_>) -> Option<Vec<Box<str>>> {
    org.get("members").map(|item| item.items().iter().filter_map(user).collect())
}

/// Banned users and ended sessions.
pub(super) fn bars(root: &Section<'_>) -> Vec<(Bar, UnixSeconds)> {
    let banned = root.list("banned", user).into_iter().map(|user| (Bar::Banned(user), 0));
    let revocations = root.sections("revocation", REVOCATION);
    banned.chain(revocations.iter().filter_map(revocation)).collect()
}

/// A user as the front end names it.
pub(super) fn user(item: &Item<'_>) -> Option<Box<str>> {
    let text = item.text()?;
    if text.len() > 255 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        item.wrong("a user is 1 to 255 characters without spaces or letters beyond ASCII");
        return None;
    }
    Some(text.into())
}

fn revocation(section: &Section<'_>) -> Option<(Bar, UnixSeconds)> {
    let subject = match (section.get("org"), section.get("user"), section.get("session")) {
        (Some(item), None, None) => {
            let id = item.text()?;
            if !is_valid_id(id) {
                item.wrong("is not the id of an organisation");
            }
            Subject::Org(id.into())
        }
        (None, Some(item), None) => Subject::User(user(&item)?),
        (None, None, Some(item)) => Subject::Session(session(&item)?),
        _ => {
            section.lacks("write one of org = \"...\", user = \"...\" and session = \"...\"");
            return None;
        }
    };
    let before = |item: &Item<'_>| item.integer(0..=i128::from(u32::MAX));
    let before = if matches!(subject, Subject::Session(_)) {
        section.or("before", 0, before)
    } else {
        let advice = "write before = ..., the moment in Unix seconds up to which sessions are over";
        before(&section.require("before", advice)?)?
    };
    Some((Bar::Revoked(subject), before))
}

fn session(item: &Item<'_>) -> Option<[u8; 16]> {
    let id = session_id(item.text()?);
    if id.is_none() {
        item.wrong("a session is 32 hexadecimal digits, as `embedgate token inspect` prints it");
    }
    id
}
