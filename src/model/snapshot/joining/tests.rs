use crate::live::ramp::{FLOOR, WHOLE};
use crate::model::ids::{ClusterId, OrgId, UpstreamId, WorkspaceId};
use crate::model::snapshot::Snapshot;
use crate::model::tables::ClusterState::{Draining, Running, Starting, Stopped};
use crate::model::tables::{ClusterRole, ClusterRow, ClusterState, OrgRow, Segment, Tables, UpstreamRow, WorkspaceRow};
use crate::model::url::BaseUrl;
use std::time::Duration;

/// An app with clusters: their ids, states and nodes.
type App<'a> = &'a [(&'a str, ClusterState, &'a [&'a str])];

fn snapshot(app: App<'_>, previous: Option<&Snapshot>) -> Snapshot {
    let url = |node: &str| BaseUrl::parse(&format!("https://{node}.example")).unwrap();
    let cluster = |(id, state, nodes): &(&str, ClusterState, &[&str])| ClusterRow {
        id: ClusterId::parse(id).unwrap(),
        state: *state,
        role: ClusterRole::Primary,
        weight: 100,
        nodes: nodes.iter().map(|node| url(node)).collect(),
    };
    let workspace = WorkspaceId::parse("main").unwrap();
    let row = UpstreamRow::new(UpstreamId::parse("editor").unwrap(), workspace.clone(), url("a"));
    let org = OrgRow {
        id: OrgId::parse("acme").unwrap(),
        name: "Acme".into(),
        segment: Segment::Stable,
        version: 0,
        members: None,
        frontends: None,
        workspaces: vec![WorkspaceRow { id: workspace, url: url("w") }],
        principals: Vec::new(),
        apps: vec![UpstreamRow { clusters: app.iter().map(cluster).collect(), ..row }],
        warehouses: Vec::new(),
        engines: Vec::new(),
        rules: Vec::new(),
    };
    Snapshot::build(Tables { orgs: vec![org], bars: Vec::new() }, previous)
}

/// The shares of what serves after a history: of the clusters, and of the nodes of each.
fn shares(history: &[App<'_>]) -> Vec<(u32, Vec<u32>)> {
    let last = history.iter().fold(None, |last, app| Some(snapshot(app, last.as_ref()))).unwrap();
    let app = last.org("acme").unwrap().app("editor").unwrap();
    let minute = Duration::from_secs(60);
    let nodes = |nodes: &[std::sync::Arc<super::super::Node>]| {
        nodes.iter().map(|node| node.live.ramp.share(0, minute)).collect()
    };
    app.serving().map(|cluster| (cluster.live.ramp.share(0, minute), nodes(&cluster.nodes))).collect()
}

#[test]
fn what_joins_others_starts_slowly_and_nothing_else_does() {
    let (a, b) = (&["a"][..], &["b"][..]);
    let blue: App<'_> = &[("blue", Running, a)];
    let both: App<'_> = &[("blue", Running, a), ("green", Running, b)];
    let cold = |state| [("blue", Running, a), ("green", state, b)];
    for (what, history, expected) in [
        ("the first snapshot", &[both][..], &[WHOLE, WHOLE][..]),
        ("a first cluster", &[&[], blue], &[WHOLE]),
        ("a new one beside it", &[blue, both], &[WHOLE, FLOOR]),
        ("with whatever comes after", &[blue, both, both, both], &[WHOLE, FLOOR]),
        ("started", &[&cold(Starting), both], &[WHOLE, FLOOR]),
        ("stopped and started", &[both, &cold(Stopped), both], &[WHOLE, FLOOR]),
        ("switched back", &[both, &cold(Draining), both], &[WHOLE, WHOLE]),
        ("stopped after a drain", &[both, &cold(Draining), &cold(Stopped), both], &[WHOLE, FLOOR]),
        ("in place of another", &[blue, &[("green", Running, b)]], &[WHOLE]),
        ("in place of one that drains", &[blue, &[("blue", Draining, a), ("green", Running, b)]], &[WHOLE]),
        ("left alone before its time", &[blue, both, &[("green", Running, b)]], &[WHOLE]),
        (
            "two in place of another",
            &[&[("red", Running, &["r"])], &[("red", Draining, &["r"]), ("blue", Running, a), ("green", Running, b)]],
            &[WHOLE, WHOLE],
        ),
    ] {
        let found: Vec<_> = shares(history).into_iter().map(|(share, _)| share).collect();
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_node_starts_slowly_in_a_cluster_that_keeps_others() {
    let with = |nodes: &'static [&'static str]| vec![("blue", Running, nodes)];
    for (before, after, expected) in [
        (&["a", "b"][..], &["a", "b", "c"][..], vec![WHOLE, WHOLE, FLOOR]),
        (&["a"], &["c"], vec![WHOLE]),
        (&["a", "b"], &["a"], vec![WHOLE]),
    ] {
        assert_eq!(shares(&[&with(before), &with(after)]), [(WHOLE, expected)], "{before:?} {after:?}");
    }
    // One that goes and comes back is another one for the gateway.
    let back = [&with(&["a", "b"])[..], &with(&["a"])[..], &with(&["a", "b"])[..]];
    assert_eq!(shares(&back), [(WHOLE, vec![WHOLE, FLOOR])]);
}
