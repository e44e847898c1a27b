//! Service principals in the directory file, and the secrets they prove themselves with.

use super::{Context, Ids, Workspaces};
use crate::config::reader::{Item, Section};
use crate::directory::checks::{header_safe, no_controls};
use crate::model::ids::{OrgId, PrincipalId, WorkspaceId};
use crate::model::tables::{PrincipalKind, PrincipalRow};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use zeroize::Zeroizing;

const PRINCIPAL: &[&str] = &["id", "kind", "workspace", "users", "client_id", "client_secret", "token"];
const SECRET: &[&str] = &["env", "file", "sealed"];

const CLEAR_TEXT: &str =
    "a secret in clear text is accepted only for loopback workspaces; use { env = .. } or { file = .. }";

/// The kinds by name, each with the keys that only it has.
const KINDS: [(&str, &[&str]); 3] =
    [("databricks", &["client_id", "client_secret"]), ("bearer", &["token"]), ("none", &[])];

/// Reads the principals of an organisation.
pub(super) fn read(
    org: &Section<'_>,
    org_id: Option<&OrgId>,
    workspaces: &Workspaces,
    context: Context<'_>,
) -> Vec<PrincipalRow> {
    let mut ids = Ids::new("principal", "the organisation");
    let mut taken = Taken::default();
    let row = |section: &Section<'_>| {
        let id = ids.take(section, PrincipalId::parse);
        let workspace = workspaces.of(section);
        let loopback = workspace.map(|row| row.url.is_loopback());
        let whose = org_id.zip(id.as_ref());
        let kind = kind(&SecretReader { section, whose, loopback, context });
        let users = users(section);
        if let (Some(id), Some(workspace), Some(users)) = (&id, workspace, &users) {
            taken.take(section, id, &workspace.id, users);
        }
        Some(PrincipalRow { id: id?, kind: kind?, workspace: workspace?.id.clone(), issuer: None, users: users? })
    };
    org.sections("principal", PRINCIPAL).iter().filter_map(row).collect()
}

fn kind(reader: &SecretReader<'_, '_>) -> Option<PrincipalKind> {
    let section = reader.section;
    let item = section.require("kind", "write databricks, bearer or none")?;
    let (name, own) = item.one_of(&KINDS.map(|(name, own)| (name, (name, own))))?;
    let foreign = KINDS.iter().flat_map(|(_, keys)| *keys).filter(|key| !own.contains(key));
    for item in foreign.filter_map(|key| section.get(key)) {
        item.wrong(format!("a principal of kind {name:?} does not have this key; remove it"));
    }
    match name {
        "databricks" => {
            let client_id = client_id(section);
            let client_secret = reader.read("client_secret", no_controls);
            Some(PrincipalKind::Databricks { client_id: client_id?, client_secret: client_secret? })
        }
        "bearer" => reader.read("token", header_safe).map(|token| PrincipalKind::Bearer { token }),
        _ => Some(PrincipalKind::None),
    }
}

fn client_id(section: &Section<'_>) -> Option<String> {
    let item = section.require("client_id", "write the OAuth client id of the service principal")?;
    let text = item.text()?;
    // A colon would end the user name of HTTP Basic (RFC 7617 2).
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        item.wrong("a client id has no spaces, colons or letters beyond ASCII");
        return None;
    }
    Some(text.to_owned())
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

/// Says what is wrong with a secret, without showing it.
type Check = fn(&str) -> Result<(), &'static str>;

/// Reads the secrets of one principal.
struct SecretReader<'a, 't> {
    section: &'a Section<'t>,
    /// For whom its secrets are sealed; `None` when that is not known because of another mistake.
    whose: Option<(&'a OrgId, &'a PrincipalId)>,
    /// Whether the workspace is on this machine; `None` when that is not known because of another mistake.
    loopback: Option<bool>,
    context: Context<'a>,
}

impl SecretReader<'_, '_> {
    fn read(&self, key: &str, check: Check) -> Option<Secret> {
        let advice = format!("write {key} = {{ env = \"...\" }} or {{ file = \"...\" }}");
        let item = self.section.require(key, &advice)?;
        let text = if let Some(text) = item.as_text() {
            if self.loopback == Some(false) {
                item.wrong(CLEAR_TEXT);
            }
            Zeroizing::new(text.to_owned())
        } else if item.as_table().is_some() {
            self.kept_elsewhere(&item, &advice)?
        } else {
            item.wrong(format!("is not a secret; {advice}"));
            return None;
        };
        let text = text.trim_end_matches(['\r', '\n']);
        let checked = if text.is_empty() { Err("is empty") } else { check(text) };
        checked.map_err(|message| item.wrong(format!("the secret {message}"))).ok()?;
        Some(Secret::new(text.to_owned()))
    }

    /// The text of a secret that is kept in a variable or a file.
    fn kept_elsewhere(&self, item: &Item<'_>, advice: &str) -> Option<Zeroizing<String>> {
        let place = item.section(SECRET)?;
        match (place.get("env"), place.get("file"), place.get("sealed")) {
            (Some(item), None, None) => {
                let name = item.text()?;
                let value = self.context.env.get(name).cloned().map(Zeroizing::new);
                if value.is_none() {
                    item.wrong(format!("the environment variable {name:?} is not set"));
                }
                value
            }
            (None, Some(item), None) => {
                let path = item.path()?;
                let read = std::fs::read_to_string(&path).map(Zeroizing::new);
                read.map_err(|error| item.wrong(format!("cannot read {}: {error}", path.display()))).ok()
            }
            (None, None, Some(item)) => self.opened(&item),
            (None, None, None) => {
                place.lacks(format!("does not say where the secret is; {advice}"));
                None
            }
            _ => {
                item.wrong("says in more than one way where the secret is; keep one of env, file and sealed");
                None
            }
        }
    }

    /// The text of a secret that stands here sealed.
    fn opened(&self, item: &Item<'_>) -> Option<Zeroizing<String>> {
        let sealed = item.text()?;
        let (org, principal) = self.whose?;
        let secret = self.context.vault.open(org.as_str(), principal.as_str(), sealed);
        let secret = secret.map_err(|error| item.wrong(error.to_string())).ok()?;
        Some(Zeroizing::new(secret.expose().to_owned()))
    }
}
