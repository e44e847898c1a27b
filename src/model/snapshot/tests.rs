use super::*;
use crate::live::token::Token;
use crate::model::principal::{Extras, PrincipalKind};
use crate::model::tables::WorkspaceRow;
use crate::secret::Secret;

fn url(text: &str) -> BaseUrl {
    BaseUrl::parse(text).unwrap()
}

fn row(secret: &str, app: &str) -> OrgRow {
    let workspace = WorkspaceId::parse("main").unwrap();
    let principal = |id: &str, users: &[&str]| PrincipalRow {
        issuer: None,
        id: PrincipalId::parse(id).unwrap(),
        kind: PrincipalKind::Databricks {
            client_id: id.into(),
            client_secret: Secret::new(secret.into()),
            account: None,
        },
        extras: Extras::default(),
        workspace: workspace.clone(),
        users: users.iter().map(ToString::to_string).collect(),
        control: false,
    };
    OrgRow {
        members: None,
        frontends: None,
        version: 0,
        id: OrgId::parse("acme").unwrap(),
        name: "Acme".into(),
        segment: Segment::Stable,
        principals: vec![principal("shared", &[]), principal("own", &["ann@acme.example"])],
        apps: vec![UpstreamRow::new(UpstreamId::parse("editor").unwrap(), workspace.clone(), url(app))],
        warehouses: vec![],
        engines: Vec::new(),
        rules: Vec::new(),
        workspaces: vec![WorkspaceRow { id: workspace, url: url("https://dbc.example") }],
    }
}

fn snapshot(row: OrgRow, previous: Option<&Snapshot>) -> Snapshot {
    Snapshot::build(Tables { orgs: vec![row], bars: Vec::new() }, previous)
}

#[test]
fn a_reserved_principal_comes_before_the_shared_one() {
    let snapshot = snapshot(row("s", "https://a.example"), None);
    let workspace = snapshot.org("acme").unwrap().home().unwrap();
    assert_eq!(workspace.principals.of("ann@acme.example").unwrap().id.as_str(), "own");
    assert_eq!(workspace.principals.of("bob@acme.example").unwrap().id.as_str(), "shared");
    assert!(snapshot.org("other").is_none());
}

#[test]
fn counters_and_tokens_live_on_while_their_owner_stays_the_same() {
    let first = snapshot(row("s", "https://a.example"), None);
    let org = first.org("acme").unwrap();
    let _lease = org.app("editor").unwrap().clusters[0].nodes[0].live.lease();
    let token = &org.home().unwrap().principals.of("").unwrap().token;
    token.put(Token::authorization(&Secret::new("Bearer x".into()), &[]));

    let same = snapshot(row("s", "https://a.example"), Some(&first));
    let org = same.org("acme").unwrap();
    assert_eq!(org.app("editor").unwrap().clusters[0].nodes[0].live.active(), 1);
    assert!(org.home().unwrap().principals.of("").unwrap().token.get(0).is_some());

    let rotated = snapshot(row("other", "https://b.example"), Some(&same));
    let org = rotated.org("acme").unwrap();
    assert_eq!(org.app("editor").unwrap().clusters[0].nodes[0].live.active(), 0);
    assert!(org.home().unwrap().principals.of("").unwrap().token.get(0).is_none());
}

#[test]
fn what_is_under_way_on_a_cluster_is_counted_for_it_alone() {
    let cluster = |id: &str, state| {
        let nodes = vec![BaseUrl::parse("https://a.example").unwrap()];
        ClusterRow { id: ClusterId::parse(id).unwrap(), state, role: ClusterRole::Primary, weight: 100, nodes }
    };
    let with = |state, previous: Option<&Snapshot>| {
        let mut org = row("s", "https://a.example");
        org.apps[0].clusters = vec![cluster("blue", state), cluster("green", ClusterState::Running)];
        snapshot(org, previous)
    };
    let active = |snapshot: &Snapshot| {
        let app = Arc::clone(snapshot.org("acme").unwrap().app("editor").unwrap());
        app.clusters.iter().map(|cluster| cluster.live.active()).collect::<Vec<_>>()
    };
    let first = with(ClusterState::Running, None);
    let lease = first.org("acme").unwrap().app("editor").unwrap().clusters[0].live.lease();
    let second = with(ClusterState::Draining, Some(&first));
    assert_eq!((active(&first), active(&second)), (vec![1, 0], vec![1, 0]));
    drop(lease);
    assert_eq!(active(&second), [0, 0]);
}

#[test]
fn one_organisation_is_replaced_and_the_others_stay_where_they_are() {
    let other = OrgRow { id: OrgId::parse("other").unwrap(), ..row("s", "https://o.example") };
    let first = Snapshot::build(Tables { orgs: vec![row("s", "https://a.example"), other], bars: Vec::new() }, None);
    let _lease = first.org("acme").unwrap().app("editor").unwrap().clusters[0].nodes[0].live.lease();

    let second = OrgRow { version: 2, name: "New".into(), ..row("s", "https://a.example") };
    let second = first.with_orgs(vec![second], &[]);
    let org = second.org("acme").unwrap();
    assert_eq!((second.len(), org.version, org.name.as_str()), (2, 2, "New"));
    assert_eq!(org.app("editor").unwrap().clusters[0].nodes[0].live.active(), 1);
    assert_eq!(first.org("acme").unwrap().version, 0, "a snapshot is never changed");
    assert!(Arc::ptr_eq(first.org("other").unwrap(), second.org("other").unwrap()));

    let acme = OrgId::parse("acme").unwrap();
    let third = second.with_orgs(vec![], std::slice::from_ref(&acme)).with_orgs(vec![], &[acme]);
    assert!(third.org("acme").is_none() && third.org("other").is_some());
    assert_eq!((third.len(), third.with_orgs(vec![row("s", "https://a.example")], &[]).len()), (1, 2));
}

#[test]
fn many_organisations_are_replaced_at_once() {
    let named = |number: usize, version| OrgRow {
        version,
        id: OrgId::parse(&format!("o{number}")).unwrap(),
        ..row("s", "https://a.example")
    };
    let first =
        Snapshot::build(Tables { orgs: (0..3000).map(|number| named(number, 1)).collect(), bars: Vec::new() }, None);
    let gone: Vec<_> = (0..10).chain([9999]).map(|number| named(number, 0).id).collect();
    let second = first.with_orgs((2990..3005).map(|number| named(number, 2)).collect(), &gone);
    assert_eq!((first.len(), second.len(), second.orgs().count()), (3000, 2995, 2995));
    let version = |number: usize| second.org(&format!("o{number}")).map(|org| org.version);
    assert_eq!([version(0), version(10), version(2990), version(3004)], [None, Some(1), Some(2), Some(2)]);
    assert_eq!(first.org("o2990").unwrap().version, 1, "a snapshot is never changed");
}

#[test]
fn an_organisation_may_admit_members_alone() {
    let members = |members: Option<&[&str]>| {
        let members = members.map(|members| members.iter().map(|one| Box::from(*one)).collect());
        snapshot(OrgRow { members, ..row("s", "https://a.example") }, None)
    };
    let admit = |snapshot: &Snapshot, org, user| {
        snapshot.admit(Holder { session: &[0; 16], issued: 1, org, user }).map(|org| org.id.to_string())
    };
    let acme = || Ok("acme".to_owned());
    assert_eq!(admit(&members(None), "acme", "anybody"), acme());
    let some = members(Some(&["u-2", "u-1", "u-2"]));
    assert_eq!((admit(&some, "acme", "u-1"), admit(&some, "acme", "u-2")), (acme(), acme()));
    assert_eq!(admit(&some, "acme", "u-3"), Err(Some(NoAccess::NotMember)));
    assert_eq!(admit(&members(Some(&[])), "acme", "u-1"), Err(Some(NoAccess::NotMember)));
    assert_eq!(admit(&some, "other", "u-1"), Err(None));
    let banned = some.with_bars([(Bar::Banned("u-1".into()), Some(0))]);
    assert_eq!(admit(&banned, "acme", "u-1"), Err(Some(NoAccess::Banned)));
}
