//! Service principals in the directory file: whom each is for.

use super::{Ids, Workspaces};
use crate::config::reader::{Item, Section};
use crate::directory::principal::{Context, KEYS, Reader};
use crate::model::ids::{OrgId, PrincipalId, WorkspaceId};
use crate::model::principal::PrincipalRow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The principals of an organisation.
pub(super) struct Principals {
    pub(super) rows: Vec<PrincipalRow>,
    /// Whether none was left out because of a mistake.
    is_whole: bool,
}

impl Principals {
    /// The principal that an item names, if it is a readable one.
    pub(super) fn named(&self, item: &Item<'_>) -> Option<PrincipalId> {
        let name = item.text()?;
        let row = self.rows.iter().find(|row| row.id.as_str() == name);
        // One with mistakes in it may be the one that is meant.
        if row.is_none() && self.is_whole {
            item.wrong_missing(format!("the organisation has no principal {name:?}; add it, or write one of its own"));
        }
        row.map(|row| row.id.clone())
    }
}

/// Reads the principals of an organisation.
pub(super) fn read(
    org: &Section<'_>,
    org_id: Option<&OrgId>,
    workspaces: &Workspaces,
    context: Context<'_>,
) -> Principals {
    let mut ids = Ids::new("principal", "the organisation");
    let mut taken = Taken::default();
    let row = |section: &Section<'_>| {
        let id = ids.take(section, PrincipalId::parse);
        let workspace = workspaces.of(section);
        let loopback = workspace.map(|row| row.url.is_loopback());
        let whose = org_id.zip(id.as_ref());
        let proof = Reader { section, whose, loopback, context }.read();
        let users = users(section);
        let control = section.or("control", false, Item::boolean);
        if control && users.as_ref().is_some_and(|users| !users.is_empty()) {
            section.wrong("a control principal acts for nobody; remove users, or control");
        }
        if let (Some(id), Some(workspace), Some(users), false) = (&id, workspace, &users, control) {
            taken.take(section, id, &workspace.id, users);
        }
        let (kind, extras) = proof?;
        let workspace = workspace?.id.clone();
        Some(PrincipalRow { id: id?, kind, extras, workspace, issuer: None, users: users?, control })
    };
    let sections = org.sections("principal", KEYS);
    let rows: Vec<_> = sections.iter().filter_map(row).collect();
    Principals { is_whole: rows.len() == sections.len(), rows }
}

/// The e-mail addresses, in lower case and each once; `None` when one is wrong, for then it is unclear who is meant.
fn users(section: &Section<'_>) -> Option<Vec<String>> {
    let Some(item) = section.get("users") else { return Some(Vec::new()) };
    let items = item.items();
    if items.is_empty() && !item.is_empty_array() {
        return None;
    }
    let mut users: Vec<String> = Vec::with_capacity(items.len());
    let mut complete = true;
    for item in &items {
        match email(item) {
            Some(user) if !users.contains(&user) => users.push(user),
            Some(_) => {}
            None => complete = false,
        }
    }
    complete.then_some(users)
}

/// An e-mail address, in lower case.
pub(super) fn email(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if !text.contains('@') || text.contains(char::is_whitespace) {
        item.wrong(format!("{text:?} is not an e-mail address; write one such as \"ann@example.com\""));
        return None;
    }
    Some(text.to_lowercase())
}

/// Whom each principal is for, so that there is never more than one to choose from.
#[derive(Default)]
struct Taken {
    /// The principal for a user, or for everybody else, of a workspace.
    by: BTreeMap<(WorkspaceId, Option<String>), PrincipalId>,
}

impl Taken {
    fn take(&mut self, section: &Section<'_>, id: &PrincipalId, workspace: &WorkspaceId, users: &[String]) {
        let whom = if users.is_empty() { vec![None] } else { users.iter().cloned().map(Some).collect() };
        for user in whom {
            let shown = user.clone();
            let other = match self.by.entry((workspace.clone(), user)) {
                Entry::Occupied(first) => first.get().clone(),
                Entry::Vacant(free) => {
                    free.insert(id.clone());
                    continue;
                }
            };
            let message = match shown {
                Some(user) => format!(
                    "{user:?} is reserved by principal \"{other}\" of this workspace already; remove it from one of them"
                ),
                None => format!(
                    "principal \"{other}\" of this workspace is for the whole organisation already; write users = [\"...\"] for one of them"
                ),
            };
            match section.get("users") {
                Some(item) => item.wrong(message),
                None => section.wrong(message),
            }
        }
    }
}
