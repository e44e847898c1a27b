//! Single rules of a node's health, and thousands of histories of outcomes in which all of them have to hold.

use super::*;

const RULES: Rules = Rules {
    consecutive_failures: 5,
    failure_share: 500,
    failure_requests: 20,
    failure_window: Duration::from_secs(10),
    ejection_time: Duration::from_secs(10),
    max_ejection_time: Duration::from_secs(300),
};
/// Of this seed, times out are as long as they may be.
const EXACT: u64 = 0;

/// A node and its clock.
struct Tried {
    node: Arc<NodeLive>,
    now: Instant,
}

impl Tried {
    fn new() -> Self {
        let node = NodeLive::new();
        Self { now: node.born, node }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn fail(&self) -> Option<Ejection> {
        self.node.failed(self.now, EXACT, &RULES)
    }

    fn answer(&self) -> bool {
        self.node.succeeded(self.now, Duration::from_millis(1))
    }

    /// Fails as often as it takes; how long it is out then, in seconds.
    fn eject(&self) -> (Reason, u64) {
        let ejection = (0..5).find_map(|_| self.fail()).expect("five failures are too many");
        (ejection.reason, ejection.time.as_secs())
    }

    fn enter(&self, forced: bool) -> Result<NodeLease, Closed> {
        self.node.enter(|| self.now, 0, forced)
    }

    fn is_available(&self) -> bool {
        let health = &self.node.health;
        health.is_good() || health.may_be_tried(self.node.millis(self.now))
    }

    fn condition(&self) -> Condition {
        self.node.health.state(self.node.born, self.now).condition
    }
}

#[test]
fn a_lease_counts_until_it_is_dropped() {
    let node = NodeLive::new();
    let (one, two) = (node.lease(), node.enter(|| node.born, 2, false).unwrap());
    assert_eq!(node.active(), 2);
    assert_eq!(node.enter(|| node.born, 2, false).unwrap_err(), Closed::Full);
    assert_eq!(node.active(), 2);
    drop(one);
    assert_eq!(node.active(), 1);
    drop(two);
    assert_eq!(node.active(), 0);
    assert_ne!(node.uid(), NodeLive::new().uid());
}

#[test]
fn whom_a_full_node_does_not_take_in_thins_out_no_failures() {
    let tried = Tried::new();
    let _first = tried.node.enter(|| tried.now, 20, false).unwrap();
    assert_eq!(tried.fail(), None);
    let leases: Vec<_> = (1..20).map(|_| tried.node.enter(|| tried.now, 20, false).unwrap()).collect();
    for _ in 0..1000 {
        assert_eq!(tried.node.enter(|| tried.now, 20, false).unwrap_err(), Closed::Full);
    }
    // An answer before each failure, so that it is the share that counts.
    let ejection = leases.iter().find_map(|_| {
        tried.answer();
        tried.fail()
    });
    assert_eq!(ejection.map(|ejection| ejection.reason), Some(Reason::FailureShare));
}

#[test]
fn failures_in_a_row_take_it_out_and_an_answer_between_them_does_not() {
    let mut tried = Tried::new();
    for _ in 0..10 {
        assert!((0..4).all(|_| tried.fail().is_none()) && !tried.answer());
        // The share of failures is another rule's.
        tried.wait(11);
    }
    assert!(tried.is_available());
    assert_eq!(tried.eject(), (Reason::ConsecutiveFailures, 10));
    assert!(!tried.is_available());
    assert_eq!((tried.condition(), tried.node.health().failures), (Condition::Ejected, 5));
}

#[test]
fn a_share_of_failures_takes_it_out_once_there_are_enough_requests() {
    let tried = Tried::new();
    let mut ejected = None;
    for number in 1..=30 {
        let _lease = tried.node.lease();
        if number % 2 == 1 {
            ejected = ejected.or(tried.fail().map(|ejection| (number, ejection.reason)));
        } else {
            tried.answer();
        }
    }
    assert_eq!(ejected, Some((21, Reason::FailureShare)));
}

#[test]
fn failures_that_are_far_apart_are_not_added_up() {
    let mut tried = Tried::new();
    for _ in 0..200 {
        let _lease = tried.node.lease();
        assert_eq!(tried.fail(), None);
        tried.answer();
        tried.wait(1);
    }
}

#[test]
fn after_its_time_one_request_at_a_time_decides() {
    let mut tried = Tried::new();
    tried.eject();
    // An answer that was asked for before says nothing, and who is sent there for want of others is no trial.
    assert!(!tried.answer() && !tried.is_available());
    let _others = (tried.enter(false).unwrap(), tried.enter(false).unwrap());
    tried.wait(10);
    assert!(tried.is_available() && tried.condition() == Condition::OnTrial);
    let trial = tried.enter(false).unwrap();
    assert!(!tried.is_available());
    assert_eq!(tried.enter(false).unwrap_err(), Closed::OnTrial);
    // Where too few others are left, it is used all the same.
    drop(tried.enter(true).unwrap());
    assert!(!tried.is_available());
    // A client that left has decided nothing.
    drop(trial);
    let trial = tried.enter(false).unwrap();
    assert_eq!(tried.fail(), Some(Ejection { reason: Reason::FailedTrial, time: Duration::from_secs(20) }));
    drop(trial);
    assert!(!tried.is_available());
    tried.wait(20);
    let trial = tried.enter(false).unwrap();
    assert!(tried.answer() && tried.is_available() && tried.condition() == Condition::Good);
    // It is taken out again while that request is still under way: this is not its trial any more.
    tried.eject();
    tried.wait(300);
    let second = tried.enter(false).unwrap();
    drop(trial);
    assert_eq!(tried.enter(false).unwrap_err(), Closed::OnTrial);
    drop(second);
    assert!(tried.is_available());
}

#[test]
fn each_time_is_twice_as_long_up_to_a_limit_and_good_stretches_make_it_shorter() {
    let mut tried = Tried::new();
    let spell = |tried: &mut Tried, rest: u64| {
        tried.wait(rest);
        let (_, seconds) = tried.eject();
        tried.wait(seconds);
        assert!(tried.answer());
        seconds
    };
    let spells: Vec<_> = (0..7).map(|_| spell(&mut tried, 1)).collect();
    assert_eq!(spells, [10, 20, 40, 80, 160, 300, 300]);
    // Seven ejections are known; after one stretch three of them count, after another one.
    assert_eq!(spell(&mut tried, 300), 80);
    assert_eq!(spell(&mut tried, 2 * 300), 20);
    assert_eq!(spell(&mut tried, 100 * 300), 10);
}

#[test]
fn times_out_are_spread() {
    let spells: std::collections::BTreeSet<_> = (0..1000u64)
        .map(|seed| {
            let node = NodeLive::new();
            (0..5).find_map(|_| node.failed(node.born, seed, &RULES)).unwrap().time
        })
        .collect();
    assert!(spells.len() > 900);
    assert!(spells.iter().all(|time| (8..=10).contains(&time.as_secs())), "{spells:?}");
}

#[test]
fn probes_take_it_out_and_bring_it_back_whatever_requests_say() {
    let mut tried = Tried::new();
    assert!(!tried.node.probed(true) && tried.node.probed(false) && !tried.node.probed(false));
    tried.wait(1_000_000);
    assert!(!tried.is_available() && !tried.answer());
    assert_eq!(tried.condition(), Condition::Dead);
    tried.eject();
    assert!(tried.node.probed(true) && tried.is_available());
    assert_eq!(tried.condition(), Condition::Good);
}

/// SplitMix64 (Steele et al. 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A history of requests, outcomes, probes and time, with what has to hold at each step.
fn history(seed: u64) {
    let mut chance = Chance(seed);
    let rules =
        Rules { consecutive_failures: chance.below(7) as u32, failure_share: chance.below(1000) as u32, ..RULES };
    let mut tried = Tried::new();
    let (most, bad) = (chance.below(6) as u32, 1 + chance.below(9));
    let mut leases: Vec<NodeLease> = Vec::new();
    let (mut is_dead, mut until) = (false, None);
    for step in 0..300 {
        let told = format!("seed {seed}, step {step}");
        tried.now += Duration::from_millis(chance.below(4000));
        match chance.below(10) {
            0..5 => {
                let (could, is_free) = (tried.is_available(), most == 0 || (leases.len() as u32) < most);
                let forced = !could;
                let is_trial = until.is_some() && !forced;
                match tried.node.enter(|| tried.now, most, forced) {
                    Ok(lease) => {
                        assert!(is_free, "more than it may: {told}");
                        assert!(!is_trial || !tried.is_available(), "a second trial would be possible: {told}");
                        leases.push(lease);
                    }
                    Err(closed) => assert_eq!(closed, Closed::Full, "{told}"),
                }
            }
            5..9 if !leases.is_empty() => {
                let lease = leases.swap_remove(chance.below(leases.len() as u64) as usize);
                if chance.below(10) < bad {
                    let ejection = tried.node.failed(tried.now, chance.next(), &rules);
                    if let Some(ejection) = ejection {
                        assert!(until.is_none_or(|until| tried.now >= until), "ejected within its time: {told}");
                        assert!(ejection.time <= rules.max_ejection_time, "{told}");
                        assert_eq!(ejection.reason == Reason::FailedTrial, until.is_some(), "{told}");
                        until = Some(tried.now + ejection.time);
                    }
                } else if tried.node.succeeded(tried.now, Duration::from_millis(chance.below(50))) {
                    assert!(until.is_some_and(|until| tried.now + Duration::from_millis(1) >= until), "{told}");
                    until = None;
                }
                drop(lease);
            }
            9 => {
                let is_well = chance.below(2) == 0;
                let is_new = tried.node.probed(is_well);
                assert_eq!(is_new, is_dead == is_well, "{told}");
                is_dead = !is_well;
                // With life come all chances.
                until = until.filter(|_| !(is_new && is_well));
            }
            _ => {}
        }
        assert_eq!(tried.node.active() as usize, leases.len(), "{told}");
        assert!(!is_dead || !tried.is_available(), "{told}");
        assert_eq!(tried.node.health.is_ejected(), until.is_some(), "{told}");
        assert!(tried.is_available() || is_dead || until.is_some(), "{told}");
    }
    // Whatever was, every ejection ends.
    leases.clear();
    tried.node.probed(true);
    tried.now += rules.max_ejection_time;
    assert!(tried.is_available(), "seed {seed}");
    let _trial = tried.enter(false).unwrap();
    tried.answer();
    assert!(tried.node.health.is_good(), "seed {seed}");
}

#[test]
fn whatever_happens_to_a_node_the_rules_hold() {
    (0..5_000).for_each(history);
}

#[test]
fn threads_that_fail_at_once_take_it_out_once() {
    for _ in 0..50 {
        let node = NodeLive::new();
        let now = node.born;
        let ejections = std::thread::scope(|scope| {
            let fail = || (0..100).filter_map(|_| node.failed(now, EXACT, &RULES)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(fail)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(ejections, 1);
    }
}

#[test]
fn of_threads_that_try_it_at_once_one_may() {
    for _ in 0..50 {
        let mut tried = Tried::new();
        tried.eject();
        tried.wait(10);
        let (node, now) = (&tried.node, tried.now);
        let leases = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| node.enter(|| now, 0, false))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(leases.iter().filter(|lease| lease.is_ok()).count(), 1);
        assert_eq!(node.active(), 1);
        drop(leases);
        assert_eq!(node.active(), 0);
    }
}
