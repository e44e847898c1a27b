use super::*;
use crate::model::api::{Action, Pattern, RuleRow};
use crate::model::ids::{ClusterId, OrgId, PrincipalId, RuleId, WorkspaceId};
use crate::model::principal::{Extras, PrincipalKind, PrincipalRow};
use crate::model::quota::Quota;
use crate::model::tables::{ClusterRole, ClusterRow, ClusterState, OrgRow, Segment, Tables, UpstreamRow, WorkspaceRow};
use crate::model::url::BaseUrl;
use crate::secret::Secret;
use crate::session::Parts;
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

const AT: Moment<'_> =
    Moment { now: 1, seed: 0, tried: &[], panic_threshold: 500, uptime: 0, slow_start: Duration::ZERO, head: None };

fn url(text: &str) -> BaseUrl {
    BaseUrl::parse(text).unwrap()
}

fn cluster(id: &str, state: ClusterState, role: ClusterRole, nodes: &[&str]) -> ClusterRow {
    let nodes = nodes.iter().map(|node| url(node)).collect();
    ClusterRow { id: ClusterId::parse(id).unwrap(), state, role, weight: 100, nodes }
}

fn upstream(id: &str, clusters: Vec<ClusterRow>) -> UpstreamRow {
    let workspace = WorkspaceId::parse("main").unwrap();
    let row = UpstreamRow::new(UpstreamId::parse(id).unwrap(), workspace, url("https://app.example"));
    UpstreamRow { clusters, ..row }
}

fn org(id: &str, clusters: Vec<ClusterRow>, kind: PrincipalKind) -> OrgRow {
    let workspace = WorkspaceId::parse("main").unwrap();
    OrgRow {
        members: None,
        frontends: None,
        quota: Quota::default(),
        version: 0,
        id: OrgId::parse(id).unwrap(),
        name: id.to_owned(),
        segment: Segment::Stable,
        principals: vec![PrincipalRow {
            issuer: None,
            id: PrincipalId::parse("spn").unwrap(),
            kind,
            extras: Extras::default(),
            workspace: workspace.clone(),
            users: vec![],
            control: false,
        }],
        apps: vec![upstream("editor", clusters), upstream("viz", vec![])],
        warehouses: vec![upstream("wh", vec![])],
        engines: Vec::new(),
        rules: Vec::new(),
        workspaces: vec![WorkspaceRow { id: workspace, url: url("https://dbc.example") }],
    }
}

fn bearer() -> PrincipalKind {
    PrincipalKind::Bearer { token: Secret::new("t".into()) }
}

fn tables(orgs: Vec<OrgRow>) -> Tables {
    Tables { orgs, bars: Vec::new() }
}

fn world(clusters: Vec<ClusterRow>) -> Snapshot {
    Snapshot::build(tables(vec![org("acme", clusters, bearer()), org("other", vec![], bearer())]), None)
}

fn session(org: &str, app: Option<&str>) -> Session {
    Session::new(Parts { id: [0; 16], issued: 0, expires: 99, org, user: "u", email: "u@x", app }).unwrap()
}

fn by_path(app: &str) -> Target<'_> {
    Target::AppByPath { app, prefix: 0 }
}

fn class(result: Result<Decision, Reject>) -> Result<(), Class> {
    result.map(|_| ()).map_err(|reject| reject.class)
}

#[test]
fn access_follows_organisation_then_app() {
    let world = world(vec![]);
    let ask = |target: &Target<'_>, session: &Session| class(decide(&world, target, session, &AT));
    let (all, bound) = (session("acme", None), session("acme", Some("editor")));
    assert_eq!(ask(&by_path("editor"), &all), Ok(()));
    assert_eq!(ask(&by_path("editor"), &bound), Ok(()));
    assert_eq!(ask(&by_path("viz"), &bound), Err(Class::Forbidden));
    assert_eq!(ask(&by_path("nothing"), &bound), Err(Class::NotFound));
    assert_eq!(ask(&by_path("editor"), &session("gone", None)), Err(Class::Session));
    let foreign = Target::AppByHost { org: Cow::Borrowed("other"), app: Cow::Borrowed("editor") };
    assert_eq!(ask(&foreign, &all), Err(Class::NotFound));
}

fn api(call: &'static str) -> Target<'static> {
    let (method, path) = call.split_once(' ').unwrap();
    Target::Api(Call::of(method, path).unwrap().unwrap())
}

#[test]
fn calls_are_those_of_everybody_and_those_that_a_rule_allows() {
    let mut acme = org("acme", vec![], bearer());
    acme.rules = vec![RuleRow {
        id: RuleId::parse("r").unwrap(),
        members: vec!["u".into()],
        users: vec![],
        allow: vec![Pattern::parse("GET /api/2.0/sql/history/queries").unwrap()],
        warehouses: vec![Action::Start],
    }];
    let world = Snapshot::build(tables(vec![acme, org("other", vec![], bearer())]), None);
    let ask = |call, session: &Session| class(decide(&world, &api(call), session, &AT));
    let (all, bound) = (session("acme", None), session("acme", Some("editor")));
    for (call, expected) in [
        ("POST /sql/1.0/warehouses/wh", Ok(())),
        ("POST /sql/1.0/warehouses/theirs", Err(Class::NotFound)),
        ("GET /api/2.0/sql/warehouses/theirs", Err(Class::NotFound)),
        ("GET /api/2.0/sql/statements/1", Ok(())),
        ("GET /api/2.0/sql/history/queries", Ok(())),
        ("POST /api/2.0/sql/warehouses/wh/start", Ok(())),
        ("POST /api/2.0/sql/warehouses/theirs/start", Err(Class::NotFound)),
        ("POST /api/2.0/sql/warehouses/wh/stop", Err(Class::Forbidden)),
        ("POST /api/2.0/sql/warehouses/theirs/stop", Err(Class::NotFound)),
        ("GET /api/2.0/clusters/list", Err(Class::Forbidden)),
    ] {
        assert_eq!(ask(call, &all), expected, "{call}");
        let for_an_app = if expected == Err(Class::NotFound) { expected } else { Err(Class::Forbidden) };
        assert_eq!(ask(call, &bound), for_an_app, "{call}");
    }
    let other = session("other", None);
    assert_eq!(ask("GET /api/2.0/sql/history/queries", &other), Err(Class::Forbidden));
}

#[test]
fn a_call_goes_to_the_workspace_of_its_warehouse_or_to_the_one_it_asks_for() {
    let mut acme = org("acme", vec![], bearer());
    let second = WorkspaceId::parse("second").unwrap();
    acme.workspaces.push(WorkspaceRow { id: second.clone(), url: url("https://second.example") });
    acme.principals.push(PrincipalRow {
        id: PrincipalId::parse("spn2").unwrap(),
        workspace: second.clone(),
        ..acme.principals[0].clone()
    });
    acme.warehouses.push(UpstreamRow { workspace: second, ..upstream("wh2", vec![]) });
    let world = Snapshot::build(tables(vec![acme]), None);
    let all = session("acme", None);
    let ask = |call, workspace| {
        let Target::Api(call) = api(call) else { panic!("an api") };
        match decide(&world, &Target::Api(Call { workspace, ..call }), &all, &AT) {
            Ok(Decision::Go(plan)) => Ok(plan.workspace.to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(reject) => Err(reject.class),
        }
    };
    let (main, second) = (Ok("main".to_owned()), Ok("second".to_owned()));
    assert_eq!(ask("GET /api/2.0/sql/warehouses", None), main);
    assert_eq!(ask("GET /api/2.0/sql/warehouses", Some("second")), second);
    assert_eq!(ask("GET /api/2.0/sql/warehouses", Some("third")), Err(Class::NotFound));
    assert_eq!(ask("POST /sql/1.0/warehouses/wh2", None), second);
    assert_eq!(ask("POST /sql/1.0/warehouses/wh2", Some("second")), second);
    assert_eq!(ask("POST /sql/1.0/warehouses/wh2", Some("main")), Err(Class::NotFound));
}

#[test]
fn a_refused_request_needs_no_token() {
    let databricks =
        PrincipalKind::Databricks { client_id: "c".into(), client_secret: Secret::new("s".into()), account: None };
    let stopped = cluster("old", ClusterState::Stopped, ClusterRole::Primary, &["https://old.example"]);
    let idle = Snapshot::build(tables(vec![org("acme", vec![stopped], databricks.clone())]), None);
    let nowhere = decide(&idle, &by_path("editor"), &session("acme", None), &AT);
    assert_eq!(class(nowhere), Err(Class::NoRunningCluster));
    let world = Snapshot::build(tables(vec![org("acme", vec![], databricks)]), None);
    let ask = |app, session: &Session| decide(&world, &by_path(app), session, &AT);
    assert!(matches!(ask("editor", &session("acme", None)), Ok(Decision::NeedsToken(p)) if p.id.as_str() == "spn"));
    assert_eq!(class(ask("viz", &session("acme", Some("editor")))), Err(Class::Forbidden));
}

#[test]
fn only_running_primary_clusters_are_used() {
    use ClusterRole::{Primary, Shadow};
    use ClusterState::{Draining, Running, Starting, Stopped};
    let world = world(vec![
        cluster("old", Draining, Primary, &["https://old.example"]),
        cluster("new", Running, Primary, &["https://a.example", "https://b.example", "https://c.example"]),
        cluster("next", Starting, Primary, &["https://next.example"]),
        cluster("copy", Running, Shadow, &["https://copy.example"]),
    ]);
    let mut seen: HashMap<String, u32> = HashMap::new();
    for seed in 0..3000u64 {
        let Ok(Decision::Go(plan)) = decide(
            &world,
            &by_path("editor"),
            &session("acme", None),
            &Moment { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), ..AT },
        ) else {
            panic!("refused");
        };
        *seen.entry(plan.node.url.host().to_owned()).or_default() += 1;
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(
        seen.iter().all(|(host, n)| ["a.example", "b.example", "c.example"].contains(&&**host) && *n > 700),
        "{seen:?}"
    );
    let stopped = self::world(vec![cluster("old", Stopped, Primary, &["https://old.example"])]);
    let refused = decide(&stopped, &by_path("editor"), &session("acme", None), &AT);
    assert_eq!(class(refused), Err(Class::NoRunningCluster));
}

#[test]
fn the_less_busy_of_two_is_taken() {
    let nodes = ["https://a.example", "https://b.example"];
    let world = world(vec![cluster("c", ClusterState::Running, ClusterRole::Primary, &nodes)]);
    let busy = &world.org("acme").unwrap().app("editor").unwrap().clusters[0].nodes[0];
    let _lease = busy.live.lease();
    for seed in 0..100u64 {
        let Ok(Decision::Go(plan)) = decide(
            &world,
            &by_path("editor"),
            &session("acme", None),
            &Moment { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), ..AT },
        ) else {
            panic!("refused");
        };
        assert_eq!(plan.node.url.host(), "b.example");
    }
}

/// How often each node is chosen of 600 decisions, without these.
fn shares(world: &Snapshot, tried: &[u64]) -> Vec<u32> {
    let nodes = &world.org("acme").unwrap().app("editor").unwrap().clusters[0].nodes;
    let mut shares = vec![0; nodes.len()];
    for seed in 0..600u64 {
        let moment = Moment { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), tried, ..AT };
        if let Ok(Decision::Go(plan)) = decide(world, &by_path("editor"), &session("acme", None), &moment) {
            shares[nodes.iter().position(|node| node.url == plan.node.url).unwrap()] += 1;
        }
    }
    shares
}

#[test]
fn nodes_that_are_out_of_use_get_nothing_until_too_few_are_left() {
    let nodes = ["https://a.example", "https://b.example", "https://c.example", "https://d.example"];
    let world = world(vec![cluster("c", ClusterState::Running, ClusterRole::Primary, &nodes)]);
    let nodes = &world.org("acme").unwrap().app("editor").unwrap().clusters[0].nodes;
    let live = |number: usize| &nodes[number].live;
    assert!(shares(&world, &[]).iter().all(|share| *share > 100));
    // Half of them is enough.
    live(0).probed(false);
    live(1).probed(false);
    assert!(matches!(shares(&world, &[])[..], [0, 0, c, d] if c > 200 && d > 200));
    // Behind those that work are those that may.
    assert!(matches!(shares(&world, &[live(2).uid()])[..], [0, 0, 0, 600]));
    let tried = [live(2).uid(), live(3).uid()];
    assert!(matches!(shares(&world, &tried)[..], [a, b, 0, 0] if a > 200 && b > 200));
    live(2).probed(false);
    assert!(shares(&world, &[]).iter().all(|share| *share > 100), "one would have to bear it all");
    live(3).probed(false);
    assert!(shares(&world, &[]).iter().all(|share| *share > 100), "none is left");
    let tried: Vec<_> = nodes.iter().map(|node| node.live.uid()).collect();
    assert_eq!(shares(&world, &tried), [0; 4]);
}
