//! One organisation, and who acts for whom in it.

use super::{Context, Guest, Shared, Spn};
use crate::directory::checks::no_controls;
use crate::directory::postgres::rows::Fault;
use crate::model::ids::{OrgId, PrincipalId, UpstreamId, WorkspaceId};
use crate::model::principal::{Extras, PrincipalKind, PrincipalRow};
use crate::model::tables::{OrgRow, Segment, UpstreamRow, WorkspaceRow};
use crate::model::url::{AllowedHosts, BaseUrl};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Stands for a workspace whose URL nobody has written down. The name never resolves (RFC 6761 6.4).
const UNSET: &str = "https://unset.invalid";

/// An organisation as far as it has been read.
pub(super) struct Draft {
    id: String,
    name: String,
    workspace: Option<String>,
    members: Vec<Box<str>>,
    /// Of the members, in lower case.
    addresses: BTreeSet<String>,
    apps: Vec<App>,
    /// The oldest of its own principals.
    pub(super) byod: Option<Spn>,
}

struct App {
    id: String,
    url: String,
    failed: bool,
}

impl Draft {
    pub(super) fn new(id: String, name: String, workspace: Option<String>) -> Self {
        Self { id, name, workspace, members: Vec::new(), addresses: BTreeSet::new(), apps: Vec::new(), byod: None }
    }

    pub(super) fn member(&mut self, user: &str, address: Option<String>) {
        self.members.push(user.into());
        self.addresses.extend(address.map(|address| address.to_ascii_lowercase()));
    }

    pub(super) fn app(&mut self, id: String, url: String, failed: bool) {
        self.apps.push(App { id, url, failed });
    }

    /// The organisation's row; none when its id is not one. What cannot be used is added to the faults.
    pub(super) fn finish(self, shared: &Shared, context: Context<'_>, faults: &mut Vec<Fault>) -> Option<OrgRow> {
        let mut faults = Faults { org: &self.id, list: faults };
        let Ok(id) = OrgId::parse(&self.id) else {
            faults.add("organization".to_owned(), "the id is not one");
            return None;
        };
        let main = WorkspaceId::parse("main").expect("a constant that is a valid id");
        let own = self.workspace.as_deref().and_then(|url| {
            let url = origin(url, context.policy);
            url.map_err(|cause| faults.add("organization.\"workspaceUrl\"".to_owned(), cause)).ok()
        });
        let principals = self.principals(&main, own.as_ref(), shared, context.policy, &mut faults);
        // With a URL that is wrong, another must not take its place.
        let first = principals.iter().find_map(|row| row.issuer.clone()).filter(|_| self.workspace.is_none());
        let unset = || BaseUrl::parse(UNSET).expect("a constant that is a URL");
        let url = own.or(first).unwrap_or_else(unset);
        let apps = self.apps.into_iter().filter_map(|app| app.row(&main, context, &mut faults)).collect();
        Some(OrgRow {
            id,
            name: self.name,
            segment: Segment::default(),
            version: 0,
            members: Some(self.members),
            frontends: None,
            workspaces: vec![WorkspaceRow { id: main, url }],
            principals,
            apps,
            warehouses: Vec::new(),
            engines: Vec::new(),
            rules: Vec::new(),
        })
    }

    /// For each member the principal of the address, else the guest's, else the organisation's own.
    fn principals(
        &self,
        main: &WorkspaceId,
        own: Option<&BaseUrl>,
        shared: &Shared,
        policy: &AllowedHosts,
        faults: &mut Faults<'_>,
    ) -> Vec<PrincipalRow> {
        let mut of_users: BTreeMap<(&str, String), (Spn, Vec<String>)> = BTreeMap::new();
        let mut refused = Vec::new();
        for address in &self.addresses {
            match shared.of(address) {
                Acting::As(spn) => {
                    let entry = of_users.entry(spn.id.clone()).or_insert_with(|| (spn, Vec::new()));
                    entry.1.push(address.clone());
                }
                Acting::Refused(cause) => {
                    refused.push(address.clone());
                    if let Some(cause) = cause {
                        faults.add(format!("\"guestUser\" {address:?}"), cause);
                    }
                }
                Acting::Organisation => {}
            }
        }
        let byod = self.byod.clone().map(|spn| (shared.with_workspace(spn), Vec::new()));
        let spns = of_users.into_values().chain(byod);
        let mut rows: Vec<_> = spns.map(|(spn, users)| spn.row(users, main, own, policy, faults)).collect();
        if !refused.is_empty() {
            let id = principal_id("refused", "guests");
            let (kind, workspace) = (PrincipalKind::Unusable, main.clone());
            rows.push(PrincipalRow {
                id,
                kind,
                extras: Extras::default(),
                workspace,
                issuer: None,
                users: refused,
                control: false,
            });
        }
        rows
    }
}

/// Who acts for the holder of an address.
enum Acting {
    As(Spn),
    Refused(Option<&'static str>),
    Organisation,
}

impl Shared {
    fn of(&self, address: &str) -> Acting {
        if let Some(spn) = self.users.get(address) {
            return Acting::As(spn.clone());
        }
        match self.guests.get(address) {
            None => Acting::Organisation,
            Some(Guest::Expired) => Acting::Refused(None),
            Some(Guest::Spn(spn, workspace)) => {
                let Some(spn) = spn.as_ref().and_then(|id| self.guest_spns.get(id)) else {
                    return Acting::Refused(Some("its service principal is not in \"guestSpns\""));
                };
                let workspace = workspace.as_ref().or(spn.workspace.as_ref());
                let workspace = workspace.and_then(|id| self.guest_workspaces.get(id)).cloned();
                Acting::As(Spn { workspace, ..spn.clone() })
            }
        }
    }

    fn with_workspace(&self, byod: Spn) -> Spn {
        Spn { workspace: self.byod_workspaces.get(&byod.id.1).cloned(), ..byod }
    }
}

impl Spn {
    /// The principal's row. `own` is the organisation's workspace.
    fn row(
        self,
        users: Vec<String>,
        main: &WorkspaceId,
        own: Option<&BaseUrl>,
        policy: &AllowedHosts,
        faults: &mut Faults<'_>,
    ) -> PrincipalRow {
        let id = principal_id(self.id.0, &self.id.1);
        let issuer = self.workspace.as_deref().map(|url| origin(url, policy)).transpose();
        let made = issuer.and_then(|issuer| {
            if issuer.is_none() && own.is_none() {
                return Err("neither it nor its organisation has a \"workspaceUrl\" that can be used".to_owned());
            }
            Ok((self.kind()?, issuer))
        });
        let (kind, issuer) = made.unwrap_or_else(|cause| {
            faults.add(format!("service principal {id}"), cause);
            (PrincipalKind::Unusable, None)
        });
        PrincipalRow { id, kind, extras: Extras::default(), workspace: main.clone(), issuer, users, control: false }
    }

    fn kind(self) -> Result<PrincipalKind, String> {
        let (Some(client_id), Some(client_secret)) = (self.client_id, self.client_secret) else {
            return Err("its \"clientId\" or \"clientSecret\" is empty".to_owned());
        };
        no_controls(client_secret.expose()).map_err(|error| format!("its \"clientSecret\" {error}"))?;
        Ok(PrincipalKind::Databricks { client_id, client_secret, account: None })
    }
}

impl App {
    fn row(self, main: &WorkspaceId, context: Context<'_>, faults: &mut Faults<'_>) -> Option<UpstreamRow> {
        let id = UpstreamId::parse(&self.id).map_err(|error| error.to_string());
        let made = id.and_then(|id| {
            let url = origin(&self.url, context.policy)?;
            context.apps.permits(&url).map_err(|_| format!("host {} is not in the apex domain", url.host()))?;
            Ok((id, url))
        });
        match made {
            Ok((id, url)) => {
                let app = UpstreamRow::new(id, main.clone(), url);
                Some(UpstreamRow { failed: self.failed, ..app })
            }
            Err(cause) => {
                faults.add(format!("\"authoringTool\" {:?}", self.id), cause);
                None
            }
        }
    }
}

/// What is wrong in one organisation.
struct Faults<'a> {
    org: &'a str,
    list: &'a mut Vec<Fault>,
}

impl Faults<'_> {
    fn add(&mut self, row: String, cause: impl Into<String>) {
        self.list.push(Fault { org: self.org.to_owned(), row, cause: cause.into() });
    }
}

/// The origin of a URL that may have a path behind it, if it is an allowed one.
fn origin(text: &str, policy: &AllowedHosts) -> Result<BaseUrl, String> {
    let text = text.trim();
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    let url = BaseUrl::parse(&text[..end]).map_err(|error| error.to_string())?;
    policy.permits(&url).map_err(|error| error.to_string())?;
    Ok(url)
}

/// An id for the principal of a row: the row's, or its hash where that is none of ours.
fn principal_id(table: &str, row: &str) -> PrincipalId {
    let hashed = || {
        let mut id = format!("{table}-h");
        for byte in &Sha256::digest(row)[..16] {
            // Writing to a string does not fail.
            let _ = write!(id, "{byte:02x}");
        }
        id
    };
    let plain = PrincipalId::parse(&format!("{table}-{row}"));
    plain.or_else(|_| PrincipalId::parse(&hashed())).expect("a short word and 32 digits are an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_to_their_origins() {
        let policy = AllowedHosts { domains: vec!["x.com".into()], private: false };
        for (text, expected) in [
            ("https://a.x.com", Some("https://a.x.com")),
            ("https://a.x.com/", Some("https://a.x.com")),
            (" https://A.x.com:8443/p/q?r#s ", Some("https://a.x.com:8443")),
            ("https://a.x.com?o=1", Some("https://a.x.com")),
            ("https://u:p@a.x.com/", None),
            ("http://a.x.com", None),
            ("a.x.com", None),
            ("https://y.com/.x.com", None),
            ("", None),
        ] {
            assert_eq!(origin(text, &policy).ok().map(|url| url.to_string()).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn every_row_has_an_id() {
        assert_eq!(principal_id("spn", "V1StGXR8_Z5").as_str(), "spn-V1StGXR8_Z5");
        let odd = principal_id("byod", "a b");
        assert_ne!(odd, principal_id("byod", "a c"));
        assert_eq!((odd.as_str().len(), principal_id("guest", &"x".repeat(99)).as_str().len()), (38, 39));
    }
}
