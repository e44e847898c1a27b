//! Generated histories of an app: its clusters come, go and change while requests begin and end. Every failure names the
//! seed that its history grows from.

use super::scene::{app, app_of, chosen, cluster, session, snapshot};
use crate::live::cluster::ClusterLease;
use crate::live::node::NodeLease;
use crate::model::balance::{Balance, HashOn, Strategy};
use crate::model::snapshot::Snapshot;
use crate::model::tables::{ClusterRow, ClusterState};
use crate::model::upstream::{Cluster, Node, Upstream};
use crate::plane::balance::{Draw, new_place, pick};
use crate::plane::decide::Moment;
use crate::session::Session;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const HISTORIES: u64 = 2000;
const STEPS: usize = 30;
const RAMP: Duration = Duration::from_secs(60);
const NODES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// A request under way.
struct Request {
    cluster: Arc<Cluster>,
    node: Arc<Node>,
    _leases: (ClusterLease, NodeLease),
}

/// An app in the course of its history.
struct World {
    seed: u64,
    draw: Draw,
    balance: Balance,
    rows: Vec<ClusterRow>,
    snapshot: Snapshot,
    uptime: u64,
    sessions: Vec<Session>,
    requests: Vec<Request>,
    /// Counters that were once in the snapshot: of clusters and nodes.
    counters: BTreeMap<usize, (Arc<Cluster>, Vec<Arc<Node>>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let (_, strategy) = Strategy::NAMES[draw.below(4) as usize];
        let affinity = draw.below(2) == 0;
        let balance = Balance { strategy, hash_on: HashOn::Session, affinity, slow_start: None };
        let snapshot = snapshot(balance.clone(), Vec::new(), None);
        let sessions = (0..5).map(session).collect();
        let (rows, requests, uptime) = (Vec::new(), Vec::new(), 0);
        let mut world =
            Self { seed, draw, balance, rows, snapshot, uptime, sessions, requests, counters: BTreeMap::new() };
        (0..3).for_each(|_| world.change());
        world.publish();
        world
    }

    fn step(&mut self) {
        match self.draw.below(10) {
            0 => {
                self.change();
                self.publish();
            }
            1..=2 => self.uptime += self.draw.below(20_000),
            3..=4 if !self.requests.is_empty() => {
                let ends = self.draw.below(self.requests.len() as u64) as usize;
                self.requests.swap_remove(ends);
            }
            _ => self.ask(),
        }
        self.count();
    }

    /// Another directory: one more cluster, one less, or one in another state, with another weight, or with other nodes.
    fn change(&mut self) {
        let states = [ClusterState::Running, ClusterState::Stopped, ClusterState::Starting, ClusterState::Draining];
        let at = self.draw.below(4) as usize;
        let state = states[self.draw.below(8) as usize % 5 % 4];
        let weight = [0, 1, 50, 100, 10_000][self.draw.below(5) as usize];
        let (first, count) = (self.draw.below(8) as usize, 1 + self.draw.below(4) as usize);
        let nodes: Vec<_> = NODES.iter().cycle().skip(first).take(count).copied().collect();
        let new = cluster(&format!("c{at}"), state, weight, &nodes);
        match (self.rows.iter().position(|row| row.id == new.id), self.draw.below(6)) {
            (None, _) => self.rows.push(new),
            (Some(at), 0) => drop(self.rows.swap_remove(at)),
            (Some(at), 1) => self.rows[at].weight = weight,
            (Some(at), 2) => self.rows[at].nodes = new.nodes,
            (Some(at), _) => self.rows[at].state = state,
        }
    }

    fn publish(&mut self) {
        self.snapshot = snapshot(self.balance.clone(), self.rows.clone(), Some(&self.snapshot));
        for cluster in &app(&self.snapshot).clusters {
            let (_, nodes) = self
                .counters
                .entry(Arc::as_ptr(&cluster.live) as usize)
                .or_insert_with(|| (Arc::clone(cluster), Vec::new()));
            nodes.extend(cluster.nodes.iter().cloned());
        }
    }

    /// A request that some nodes of the app are tried for in vain.
    fn ask(&mut self) {
        let who = self.draw.below(self.sessions.len() as u64) as usize;
        let in_vain = self.draw.below(3);
        let mut tried = Vec::new();
        for _ in 0..=in_vain {
            let moment = Moment {
                now: 1,
                seed: self.draw.next(),
                tried: &tried,
                panic_threshold: 500,
                uptime: self.uptime,
                slow_start: RAMP,
                head: None,
            };
            let (app, session) = (Arc::clone(app(&self.snapshot)), &self.sessions[who]);
            let Ok(choice) = pick(&app, None, session, &moment) else {
                let is_left = |node: &Arc<Node>| !tried.contains(&node.live.uid());
                assert!(!takes_new(&app).any(|(_, node)| is_left(node)), "seed {}: a node was left", self.seed);
                return;
            };
            let (id, uid) = (&choice.cluster.id, choice.node.live.uid());
            assert!(!tried.contains(&uid), "seed {}: a node was tried twice", self.seed);
            assert_eq!(choice.cluster.state, ClusterState::Running, "seed {}: cluster {id}", self.seed);
            let stays = app.balance.affinity && session.places.of(app.tag) == Some(choice.cluster.place(choice.node));
            assert!(stays || choice.cluster.weight > 0, "seed {}: new on cluster {id} of weight 0", self.seed);
            if let Some(place) = new_place(&app, &choice, session) {
                self.sessions[who] = session.at(place);
            }
            tried.push(uid);
            let (cluster, node) = (Arc::clone(choice.cluster), Arc::clone(choice.node));
            let leases = (cluster.live.lease(), node.live.lease());
            self.requests.push(Request { cluster, node, _leases: leases });
            // The one before was in vain, and has left its place.
            if tried.len() > 1 {
                let before = self.requests.len() - 2;
                self.requests.swap_remove(before);
            }
        }
    }

    /// Every request is counted where it is, also on what the directory does not have any more.
    fn count(&self) {
        for (cluster, nodes) in self.counters.values() {
            let here = self.requests.iter().filter(|request| Arc::ptr_eq(&request.cluster.live, &cluster.live));
            assert_eq!(cluster.live.active() as usize, here.count(), "seed {}: cluster {}", self.seed, cluster.id);
            for node in nodes {
                let here = self.requests.iter().filter(|request| Arc::ptr_eq(&request.node.live, &node.live));
                assert_eq!(node.live.active() as usize, here.count(), "seed {}: {}", self.seed, node.url);
            }
        }
    }
}

/// What new requests may go to.
fn takes_new(app: &Upstream) -> impl Iterator<Item = (&Arc<Cluster>, &Arc<Node>)> {
    let clusters = app.serving().filter(|cluster| cluster.weight > 0);
    clusters.flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster, node)))
}

#[test]
fn whatever_happens_requests_go_to_what_serves_and_none_is_lost() {
    for seed in 0..HISTORIES {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.requests.clear();
        world.count();
    }
}

/// An app of which nothing is cold: clusters of random weights, with one to four nodes each.
fn settled(balance: Balance, draw: &mut Draw) -> (Vec<ClusterRow>, Arc<Upstream>) {
    let rows: Vec<_> = (0..2 + draw.below(3))
        .map(|number| {
            let names: Vec<_> = (0..=draw.below(4)).map(|node| format!("n{number}{node}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            cluster(&format!("c{number}"), ClusterState::Running, 1 + draw.below(1000) as u32, &names)
        })
        .collect();
    (rows.clone(), app_of(balance, rows))
}

/// How far a count may be from what is expected of so many draws: five standard deviations, and a little for few.
fn bound(requests: u64, share: f64) -> f64 {
    5.0 * (requests as f64 * share * (1.0 - share)).sqrt() + 3.0
}

#[test]
fn shares_are_as_the_weights_say() {
    const REQUESTS: u64 = 2000;
    for seed in 0..100 {
        let mut draw = Draw(seed);
        let (_, strategy) = Strategy::NAMES[draw.below(4) as usize];
        let (_, app) = settled(Balance { strategy, ..Balance::default() }, &mut draw);
        let total: u32 = app.clusters.iter().map(|cluster| cluster.weight).sum();
        let mut clusters = BTreeMap::<_, u64>::new();
        let mut nodes = BTreeMap::<_, u64>::new();
        for number in 0..REQUESTS {
            let moment = Moment { seed: draw.next(), ..Moment::default() };
            let choice = chosen(&app, &session(draw.next() ^ number), &moment);
            *clusters.entry(&choice.cluster.id).or_default() += 1;
            *nodes.entry(choice.node.url.host()).or_default() += 1;
        }
        for cluster in &app.clusters {
            let share = f64::from(cluster.weight) / f64::from(total);
            let found = clusters.get(&cluster.id).copied().unwrap_or(0) as f64;
            let wrong = (found - share * REQUESTS as f64).abs();
            assert!(wrong <= bound(REQUESTS, share), "seed {seed}: {share} of cluster {}, {found}", cluster.id);
            for node in &cluster.nodes {
                let share = share / cluster.nodes.len() as f64;
                let found = nodes.get(node.url.host()).copied().unwrap_or(0) as f64;
                let wrong = (found - share * REQUESTS as f64).abs();
                assert!(wrong <= bound(REQUESTS, share), "seed {seed}: {share} of node {}, {found}", node.url);
            }
        }
    }
}

#[test]
fn only_the_keys_of_what_leaves_move() {
    for seed in 0..100 {
        let mut draw = Draw(seed);
        let (rows, app) = settled(Balance { strategy: Strategy::Hash, ..Balance::default() }, &mut draw);
        let home = |app: &Upstream, number| {
            let choice = chosen(app, &session(number), &Moment { seed: number, ..Moment::default() });
            (choice.cluster.id.clone(), choice.node.url.clone())
        };
        let leaves = draw.below(rows.len() as u64) as usize;
        // Without a whole cluster, without a node of it, and with more weight.
        let mut without = rows.clone();
        let gone = without.remove(leaves);
        let without = app_of(app.balance.clone(), without);
        let mut smaller = rows.clone();
        let lost = smaller[leaves].nodes.pop().unwrap();
        smaller.retain(|row| !row.nodes.is_empty());
        let smaller = app_of(app.balance.clone(), smaller);
        let mut heavier = rows;
        heavier[leaves].weight *= 2;
        let heavier = app_of(app.balance.clone(), heavier);
        for number in 0..300 {
            let (cluster, node) = home(&app, number);
            let was = (cluster.clone(), node.clone());
            assert!(cluster == gone.id || home(&without, number) == was, "seed {seed}: without {}", gone.id);
            let is_lost = cluster == gone.id && node == lost;
            assert!(is_lost || home(&smaller, number) == was, "seed {seed}: without {lost}");
            let now = home(&heavier, number);
            assert!(now == was || now.0 == gone.id, "seed {seed}: more weight of {}", gone.id);
        }
    }
}

/// Which part of the requests in each ten seconds of a slow start goes to the newcomer: a cluster beside an old one of the
/// same weight, or a node beside an old one. So many requests are always under way.
fn ramp(strategy: Strategy, is_node: bool, under_way: usize) -> Vec<f64> {
    const PER_SECOND: u64 = 400;
    let balance = Balance { strategy, ..Balance::default() };
    let blue = |nodes: &[&str]| cluster("blue", ClusterState::Running, 100, nodes);
    let before = snapshot(balance.clone(), vec![blue(&["a"])], None);
    let after = if is_node {
        vec![blue(&["a", "new"])]
    } else {
        vec![blue(&["a"]), cluster("green", ClusterState::Running, 100, &["new"])]
    };
    let after = snapshot(balance, after, Some(&before));
    let mut draw = Draw(7);
    let mut leases = VecDeque::new();
    let bin = |bin: u64| {
        let new = (0..10 * PER_SECOND).filter(|number| {
            let uptime = 5_000 + bin * 10_000 + number * 1000 / PER_SECOND;
            let moment = Moment { seed: draw.next(), uptime, slow_start: RAMP, ..Moment::default() };
            let (app, session) = (app(&after), session(draw.next()));
            let node = chosen(app, &session, &moment).node;
            leases.push_back(node.live.lease());
            while leases.len() > under_way {
                leases.pop_front();
            }
            node.url.host() == "new.example"
        });
        new.count() as f64 / (10 * PER_SECOND) as f64
    };
    (0..8).map(bin).collect()
}

#[test]
fn a_newcomers_share_grows_to_its_own() {
    println!("the newcomer's part of the requests in ten seconds each, in percent");
    for (is_node, what) in [(false, "cluster"), (true, "node")] {
        for (name, strategy) in Strategy::NAMES {
            for under_way in [0, 50] {
                let shares = ramp(strategy, is_node, under_way);
                let shown: Vec<_> = shares.iter().map(|share| format!("{:4.1}", share * 100.0)).collect();
                println!("{what:8} {name:15} {under_way:2} {}", shown.join(" "));
                let case = format!("{what}, {name}, {under_way}: {shares:?}");
                assert!(shares[..6].windows(2).all(|two| two[0] < two[1]), "it does not grow: {case}");
                assert!((0.04..0.16).contains(&shares[0]), "it begins elsewhere: {case}");
                assert!(shares[6..].iter().all(|share| (share - 0.5).abs() < 0.05), "it ends elsewhere: {case}");
            }
        }
    }
}
