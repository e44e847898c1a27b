//! Gates under generated histories of arrivals, ends, departures and changed limits.

use super::*;
use std::collections::HashMap;

/// Numbers nobody chose, the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

fn look(place: &mut Place) -> Poll<Option<Permit>> {
    place.poll(&Context::from_waker(Waker::noop()))
}

/// One gate with everybody who is in and who waits.
#[derive(Default)]
struct History {
    gate: Arc<Gate>,
    inside: Vec<(u64, Permit)>,
    waiting: Vec<(u64, Place)>,
    served: HashMap<u64, u64>,
    lost: u64,
}

impl History {
    fn arrive(&mut self, who: u64, limit: u32, length: u32) {
        match self.gate.enter(limit) {
            Some(permit) => self.inside.push((who, permit)),
            None => self.waiting.extend(self.gate.queue(who, length).map(|place| (who, place))),
        }
        self.settle();
    }

    /// Hears what became of those who wait.
    fn settle(&mut self) {
        let mut still = Vec::new();
        for (who, mut place) in std::mem::take(&mut self.waiting) {
            match look(&mut place) {
                Poll::Pending => still.push((who, place)),
                Poll::Ready(Some(permit)) => {
                    *self.served.entry(who).or_default() += 1;
                    self.inside.push((who, permit));
                }
                Poll::Ready(None) => self.lost += 1,
            }
        }
        self.waiting = still;
    }

    fn check(&self, limit: u32, length: u32, seed: u64) {
        assert_eq!(self.gate.active() as usize, self.inside.len(), "seed {seed}");
        assert_eq!(self.gate.waiting() as usize, self.waiting.len(), "seed {seed}");
        assert!(self.gate.waiting() <= length, "seed {seed}");
        assert!(self.waiting.is_empty() || self.gate.active() >= limit, "seed {seed}: somebody waits before room");
    }
}

#[test]
fn no_history_breaks_a_limit_or_loses_a_permit() {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let (mut limit, length) = (1 + random.below(6) as u32, random.below(12) as u32);
        let mut history = History::default();
        for _ in 0..120 {
            let before = history.inside.len();
            match random.below(10) {
                0..=4 => history.arrive(random.below(4), limit, length),
                5..=6 if before > 0 => drop(history.inside.swap_remove(random.below(before as u64) as usize)),
                7 if !history.waiting.is_empty() => {
                    let at = random.below(history.waiting.len() as u64) as usize;
                    drop(history.waiting.swap_remove(at));
                }
                8 if random.below(4) == 0 => {
                    limit = 1 + random.below(6) as u32;
                    history.gate.set_limit(limit);
                }
                _ => {}
            }
            history.settle();
            assert!(history.inside.len() <= (limit as usize).max(before), "seed {seed}: over the limit");
            history.check(limit, length, seed);
        }
        history.waiting.clear();
        history.inside.clear();
        assert_eq!((history.gate.active(), history.gate.waiting()), (0, 0), "seed {seed}");
    }
}

#[test]
fn those_who_are_called_and_gone_pass_their_permit_on() {
    let gate = Arc::new(Gate::default());
    let first = gate.enter(1).unwrap();
    let (second, mut third) = (gate.queue(1, 9).unwrap(), gate.queue(2, 9).unwrap());
    drop(first);
    // The second was called, and never heard of it.
    drop(second);
    assert!(matches!(look(&mut third), Poll::Ready(Some(_))));
    drop(third);
    assert_eq!((gate.active(), gate.waiting()), (0, 0));
}

#[test]
fn lines_take_turns_however_long_they_are() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut history = History::default();
        for _ in 0..40 {
            history.arrive(0, 2, 1000);
        }
        for who in [1, 2, 1, 2] {
            history.arrive(who, 2, 1000);
        }
        // Two of each quiet one are served within six: three lines take turns.
        for _ in 0..6 {
            let at = random.below(history.inside.len() as u64) as usize;
            drop(history.inside.swap_remove(at));
            history.settle();
        }
        assert_eq!([0, 1, 2].map(|who| history.served[&who]), [2, 2, 2], "seed {seed}");
    }
}

#[test]
fn within_a_line_the_first_comes_first() {
    let gate = Arc::new(Gate::default());
    let mut held = gate.enter(1);
    let mut places: Vec<_> = (0..5).map(|_| gate.queue(7, 9).unwrap()).collect();
    for next in 0..5 {
        assert!(places.iter_mut().skip(next).all(|place| look(place).is_pending()));
        held.take();
        let Poll::Ready(Some(permit)) = look(&mut places[next]) else { panic!("{next} was not called") };
        held = Some(permit);
    }
}

#[test]
fn a_full_queue_makes_room_for_who_has_less_of_it() {
    let mut history = History::default();
    for _ in 0..20 {
        history.arrive(0, 1, 4);
    }
    assert_eq!((history.waiting.len(), history.lost), (4, 0));
    // The noisy one gives up its last places until both have as many.
    for (comes, left) in [(1, 3), (2, 2), (2, 2)] {
        history.arrive(1, 1, 4);
        let noisy = history.waiting.iter().filter(|(who, _)| *who == 0).count();
        assert_eq!((history.waiting.len(), noisy, history.waiting.len() - noisy), (4, left, comes.min(2)));
    }
    assert_eq!(history.lost, 2);
}

#[test]
fn who_comes_and_goes_leaves_nothing_behind() {
    let gate = Arc::new(Gate::default());
    let _held = gate.enter(1);
    for who in 0..10_000 {
        drop(gate.queue(who, 9));
    }
    let (turns, waiters) = gate.line().as_ref().unwrap().remembered();
    assert!(turns <= 2 * 64 && waiters == 0, "{turns} turns, {waiters} waiters");
}

#[test]
fn threads_keep_the_limit_and_lose_nobody() {
    let (gate, inside) = (Arc::new(Gate::default()), AtomicU32::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let inside = Arc::new(inside);
    runtime.block_on(async {
        let tasks = (0..64).map(|who| {
            let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
            tokio::spawn(async move {
                for _ in 0..200 {
                    let mut permit = gate.enter(3);
                    if permit.is_none() {
                        let mut place = gate.queue(who % 5, 1000).unwrap();
                        permit = std::future::poll_fn(|cx| place.poll(cx)).await;
                    }
                    let permit = permit.unwrap();
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    assert_eq!((gate.active(), gate.waiting()), (0, 0));
}
