mod scene;
mod simulation;

use super::node::time_for;
use super::{Draw, key, new_place, owner, pick};
use crate::model::balance::{Balance, HashOn, Strategy, hash};
use crate::model::engine::{Dialect, Engine, Manner};
use crate::model::tables::ClusterState::{Draining, Running, Starting, Stopped};
use crate::model::tables::{ClusterRole, ClusterRow, ClusterState, UpstreamRow};
use crate::model::upstream::Upstream;
use crate::plane::decide::Moment;
use crate::session::Session;
use crate::session::places::Place;
use crate::wire::request::{Head, Limits};
use scene::{app, app_of, chosen, cluster, name, session, snapshot, with_app};
use std::collections::BTreeMap;
use std::sync::Arc;

const LIMITS: Limits = Limits { bytes: 9999, fields: 50 };

fn by(strategy: Strategy) -> Balance {
    Balance { strategy, ..Balance::default() }
}

fn affinity() -> Balance {
    Balance { affinity: true, ..Balance::default() }
}

/// How many of some requests, each of a session of its own, go to each node.
fn counts(app: &Upstream, requests: u64, moment: &Moment<'_>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut seeds = Draw(moment.seed);
    for number in 0..requests {
        let moment = Moment { seed: seeds.next(), ..*moment };
        *counts.entry(name(app, &session(number), &moment)).or_default() += 1;
    }
    counts
}

fn cause(app: &Upstream, moment: &Moment<'_>) -> String {
    pick(app, None, &session(0), moment).expect_err("a refusal").cause.into_owned()
}

#[test]
fn clusters_get_requests_by_weight_and_their_nodes_equally() {
    let clusters = vec![
        cluster("blue", Running, 300, &["a", "b", "c"]),
        cluster("green", Running, 100, &["d"]),
        cluster("none", Running, 0, &["e"]),
        cluster("old", Draining, 9000, &["f"]),
        cluster("next", Starting, 9000, &["g"]),
        cluster("off", Stopped, 9000, &["h"]),
        ClusterRow { role: ClusterRole::Shadow, ..cluster("copy", Running, 9000, &["i"]) },
    ];
    for strategy in Strategy::NAMES.map(|(_, strategy)| strategy) {
        let found = counts(&app_of(by(strategy), clusters.clone()), 8000, &Moment::default());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"], "{strategy:?}");
        assert!(found.values().all(|count| (1800..2200).contains(count)), "{strategy:?}: {found:?}");
    }
}

#[test]
fn who_cannot_serve_says_why() {
    let at = Moment::default();
    let refused = |clusters| cause(&app_of(Balance::default(), clusters), &at);
    let (weightless, draining) = (cluster("blue", Running, 0, &["a"]), cluster("green", Draining, 100, &["b"]));
    assert_eq!(refused(vec![weightless.clone()]), "every running cluster of the upstream has the weight 0");
    assert_eq!(refused(vec![weightless, draining.clone()]), "every running cluster of the upstream has the weight 0");
    assert_eq!(refused(vec![draining]), "no cluster of the upstream is running");
    let alone = app_of(Balance::default(), vec![cluster("blue", Running, 1, &["a"])]);
    let tried = [chosen(&alone, &session(0), &at).node.live.uid()];
    assert_eq!(cause(&alone, &Moment { tried: &tried, ..at }), "the request could be sent to no node of the upstream");
}

#[test]
fn an_upstream_with_a_fault_serves_nobody_and_keeps_what_it_had() {
    let whole = snapshot(Balance::default(), vec![cluster("blue", Running, 100, &["a"])], None);
    let _lease = app(&whole).clusters[0].live.lease();
    let row = UpstreamRow::new(
        app(&whole).id.clone(),
        app(&whole).workspace.id.clone(),
        app(&whole).clusters[0].nodes[0].url.clone(),
    );
    let broken = with_app(UpstreamRow { fault: Some("cluster \"blue\": it has no node".into()), ..row }, Some(&whole));
    assert_eq!(
        cause(app(&broken), &Moment::default()),
        "the directory has what cannot be used: cluster \"blue\": it has no node"
    );
    assert_eq!(app(&broken).clusters[0].live.active(), 1);
    let mended = snapshot(Balance::default(), vec![cluster("blue", Running, 100, &["a"])], Some(&broken));
    assert_eq!(app(&mended).clusters[0].live.active(), 1);
    assert_eq!(name(app(&mended), &session(0), &Moment::default()), "a");
}

#[test]
fn round_robin_takes_each_in_its_turn() {
    let app = app_of(by(Strategy::RoundRobin), vec![cluster("blue", Running, 100, &["a", "b", "c"])]);
    let turns: Vec<_> = (0..7).map(|seed| name(&app, &session(0), &Moment { seed, ..Moment::default() })).collect();
    assert_eq!(turns, ["a", "b", "c", "a", "b", "c", "a"]);
}

#[test]
fn the_less_busy_of_two_is_taken() {
    for strategy in [Strategy::LeastRequests, Strategy::PeakEwma] {
        let app = app_of(by(strategy), vec![cluster("blue", Running, 100, &["a", "b"])]);
        let _lease = app.clusters[0].nodes[0].live.lease();
        assert_eq!(counts(&app, 100, &Moment::default()), BTreeMap::from([("b".into(), 100)]), "{strategy:?}");
    }
}

#[test]
fn time_is_latency_by_requests_and_the_unknown_is_tried_once() {
    let order = [(0, 0), (100, 0), (100, 1), (250, 0), (100, 9), (u32::MAX, 0), (0, 1), (0, 2)];
    let times = order.map(|(latency, active)| time_for(latency, active));
    assert!(times.is_sorted_by(|one, two| one < two), "{times:?}");
}

#[test]
fn what_has_been_tried_is_not_tried_again() {
    let clusters = vec![cluster("blue", Running, 9999, &["a", "b"]), cluster("green", Running, 1, &["c"])];
    for strategy in Strategy::NAMES.map(|(_, strategy)| strategy) {
        let app = app_of(Balance { affinity: true, ..by(strategy) }, clusters.clone());
        let mut tried = Vec::new();
        let mut home = session(7);
        while tried.len() < 3 {
            let choice = chosen(&app, &home, &Moment { tried: &tried, seed: 5, ..Moment::default() });
            assert!(!tried.contains(&choice.node.live.uid()), "{strategy:?}");
            tried.push(choice.node.live.uid());
            home = home.at(new_place(&app, &choice, &home).unwrap());
        }
        assert!(pick(&app, None, &home, &Moment { tried: &tried, ..Moment::default() }).is_err(), "{strategy:?}");
    }
}

#[test]
fn a_hash_sends_a_session_to_one_node_and_a_header_before_it() {
    let nodes = vec![cluster("blue", Running, 100, &["a", "b", "c"]), cluster("green", Running, 100, &["d", "e"])];
    let on_session = app_of(by(Strategy::Hash), nodes.clone());
    let header = HashOn::parse("header:X-Tenant").unwrap();
    let on_header = app_of(Balance { hash_on: header, ..by(Strategy::Hash) }, nodes);
    let with_head = |fields: &str, app: &Upstream, number: u64, seed: u64| {
        let mut positions = Vec::new();
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let head = Head::parse(text.as_bytes(), &mut positions, LIMITS).unwrap();
        name(app, &session(number), &Moment { seed, head: Some(&head), ..Moment::default() })
    };
    for number in 0..50 {
        let home = with_head("", &on_session, number, 1);
        assert_eq!(home, with_head("X-Tenant: t\r\n", &on_session, number, 2));
        assert_eq!(home, with_head("", &on_header, number, 3), "without the field, the session counts");
        let tenant = format!("x-tenant: {number}\r\n");
        assert_eq!(with_head(&tenant, &on_header, 1, 4), with_head(&tenant, &on_header, 2, 5));
    }
}

#[test]
fn a_transaction_stays_on_one_node_of_a_firebolt_engine() {
    let upstream = app_of(Balance::default(), vec![cluster("blue", Running, 100, &["a", "b"])]);
    let engine = |dialect| {
        let manner = Manner { dialect, ..Manner::default() };
        Engine { upstream: Arc::clone(&upstream), own: None, manner }
    };
    let key = |dialect, target: &str| {
        let mut positions = Vec::new();
        let text = format!("POST {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = Head::parse(text.as_bytes(), &mut positions, LIMITS).unwrap();
        key::of(&upstream, Some(&engine(dialect)), &session(0), Some(&head))
    };
    let firebolt = |target| key(Dialect::Firebolt, target);
    assert_eq!(firebolt("/?database=d&transaction_id=t1"), Some(hash(b"t1")));
    assert_eq!(firebolt("/?transaction_id=&transaction_id=t1"), Some(hash(b"t1")));
    for other in ["/", "/?transaction_id=", "/?transaction_idx=t1", "/?x=transaction_id"] {
        assert_eq!(firebolt(other), None, "{other}");
    }
    assert_eq!(key(Dialect::Generic, "/?transaction_id=t1"), None);
}

#[test]
fn a_session_stays_on_its_node_as_long_as_that_serves() {
    let with = |states: [(ClusterState, u32); 2], previous: Option<&_>| {
        let [(blue, heavy), (green, light)] = states;
        let clusters = vec![cluster("blue", blue, heavy, &["a", "b"]), cluster("green", green, light, &["c", "d"])];
        snapshot(affinity(), clusters, previous)
    };
    let both = with([(Running, 100), (Running, 100)], None);
    let is_blue = |session: &Session| chosen(app(&both), session, &Moment::default()).cluster.id.as_str() == "blue";
    let new = (0..99).map(session).find(is_blue).unwrap();
    let first = chosen(app(&both), &new, &Moment::default());
    let settled = new.at(new_place(app(&both), &first, &new).unwrap());
    assert_eq!(new_place(app(&both), &first, &settled), None, "it knows already");
    let stays = |world: &_, seed| {
        let choice = chosen(app(world), &settled, &Moment { seed, ..Moment::default() });
        (choice.node.url == first.node.url, new_place(app(world), &choice, &settled))
    };
    // Neither other weights nor a newcomer move it.
    for states in [[(Running, 1), (Running, 9999)], [(Running, 0), (Running, 100)]] {
        let world = with(states, Some(&both));
        assert!((0..50).all(|seed| stays(&world, seed) == (true, None)), "{states:?}");
    }
    for state in [Draining, Stopped, Starting] {
        let world = with([(state, 100), (Running, 100)], Some(&both));
        let (stayed, place) = stays(&world, 3);
        assert!(!stayed && place.is_some_and(|place| settled.places.of(place.upstream) != Some(place.node)));
    }
}

#[test]
fn a_place_of_another_upstream_means_nothing() {
    let app = app_of(affinity(), vec![cluster("blue", Running, 100, &["a", "b"])]);
    let choice = chosen(&app, &session(1), &Moment::default());
    let place = new_place(&app, &choice, &session(1)).unwrap();
    let foreign = session(1).at(Place { upstream: place.upstream ^ 1, ..place });
    assert_eq!(new_place(&app, &choice, &foreign), Some(place));
    let unknown = session(1).at(Place { node: !place.node, ..place });
    assert_eq!(chosen(&app, &unknown, &Moment::default()).node.url, choice.node.url, "as without a place");
    // Without affinity nothing is remembered, and what was is not looked at.
    let free = app_of(Balance::default(), vec![cluster("blue", Running, 100, &["a", "b"])]);
    assert_eq!(new_place(&free, &choice, &session(1)), None);
    assert_eq!(counts(&free, 500, &Moment::default()).len(), 2);
}

#[test]
fn keys_are_owned_by_weight() {
    let things = [("a", hash(b"a"), 100), ("b", hash(b"b"), 300), ("none", hash(b"none"), 0)];
    let mut found = BTreeMap::new();
    for key in 0..8000_u64 {
        *found.entry(owner(hash(&key.to_be_bytes()), things.into_iter()).unwrap()).or_insert(0) += 1;
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), [&"a", &"b"]);
    assert!((1800..2200).contains(&found["a"]), "{found:?}");
}
