//! Apps made of a few words, and what is chosen of them.

use crate::model::balance::Balance;
use crate::model::ids::{ClusterId, OrgId, UpstreamId, WorkspaceId};
use crate::model::snapshot::Snapshot;
use crate::model::tables::{ClusterRole, ClusterRow, ClusterState, OrgRow, Segment, Tables, UpstreamRow, WorkspaceRow};
use crate::model::upstream::Upstream;
use crate::model::url::BaseUrl;
use crate::plane::balance::{Choice, pick};
use crate::plane::decide::Moment;
use crate::session::{Parts, Session};
use std::sync::Arc;

fn url(node: &str) -> BaseUrl {
    BaseUrl::parse(&format!("https://{node}.example")).unwrap()
}

/// A cluster whose nodes have these names.
pub(super) fn cluster(id: &str, state: ClusterState, weight: u32, nodes: &[&str]) -> ClusterRow {
    let nodes = nodes.iter().map(|node| url(node)).collect();
    ClusterRow { id: ClusterId::parse(id).unwrap(), state, role: ClusterRole::Primary, weight, nodes }
}

/// A directory with this app alone.
pub(super) fn snapshot(balance: Balance, clusters: Vec<ClusterRow>, previous: Option<&Snapshot>) -> Snapshot {
    let workspace = WorkspaceId::parse("main").unwrap();
    let app = UpstreamRow::new(UpstreamId::parse("editor").unwrap(), workspace.clone(), url("none"));
    with_app(UpstreamRow { balance, clusters, ..app }, previous)
}

/// The same of a row.
pub(super) fn with_app(app: UpstreamRow, previous: Option<&Snapshot>) -> Snapshot {
    let org = OrgRow {
        id: OrgId::parse("acme").unwrap(),
        name: "Acme".into(),
        segment: Segment::Stable,
        version: 0,
        members: None,
        frontends: None,
        workspaces: vec![WorkspaceRow { id: app.workspace.clone(), url: url("workspace") }],
        principals: Vec::new(),
        apps: vec![app],
        warehouses: Vec::new(),
        engines: Vec::new(),
        rules: Vec::new(),
    };
    Snapshot::build(Tables { orgs: vec![org], bars: Vec::new() }, previous)
}

/// The app of such a directory.
pub(super) fn app(snapshot: &Snapshot) -> &Arc<Upstream> {
    snapshot.org("acme").unwrap().app("editor").unwrap()
}

/// An app with these clusters from the beginning.
pub(super) fn app_of(balance: Balance, clusters: Vec<ClusterRow>) -> Arc<Upstream> {
    Arc::clone(app(&snapshot(balance, clusters, None)))
}

/// One of many sessions.
pub(super) fn session(number: u64) -> Session {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let parts = Parts { id, issued: 0, expires: 99, org: "acme", user: "u", email: "u@x", app: None };
    Session::new(parts).unwrap()
}

/// What is chosen of an app that serves.
pub(super) fn chosen<'a>(app: &'a Upstream, session: &Session, moment: &Moment<'_>) -> Choice<'a> {
    pick(app, None, session, moment).unwrap()
}

/// The name of the node that is chosen.
pub(super) fn name(app: &Upstream, session: &Session, moment: &Moment<'_>) -> String {
    let host = chosen(app, session, moment).node.url.host();
    host.strip_suffix(".example").unwrap().to_owned()
}
