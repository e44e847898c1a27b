//! What organisations and users have used of their quotas. Exact over all workers, and without a lock: rates are one number
//! each, requests under way another.

use super::autostart::Waiting;
use super::fleet::Fleet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// Places of a user's hash in the table: with four, sharing is rare until the table is nearly full.
const WAYS: usize = 4;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds for one request.
    interval: u64,
    /// Requests in a full bucket.
    burst: u64,
}

impl Pace {
    /// This instance's share of so many requests per second for the fleet; none for no limit. A burst of 0 is what one
    /// second gives. The rate is divided exactly; of a burst each instance has at least one request.
    #[must_use]
    pub fn share(per_second: u32, burst: u32, fleet: &Fleet) -> Option<Self> {
        let (rate, instances) = (u64::from(per_second), u64::from(fleet.instances()));
        let burst = u64::from(if burst == 0 { per_second } else { burst });
        (rate > 0).then(|| Self { interval: SECOND * instances / rate, burst: (burst / instances).max(1) })
    }
}

/// This instance's share of a count for the fleet; 0 is no limit and stays so.
#[must_use]
pub fn share(count: u32, fleet: &Fleet) -> u32 {
    if count == 0 { 0 } else { (count / fleet.instances()).max(1) }
}

/// A bucket of tokens in one number: the moment at which it is full again (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one request out.
    ///
    /// # Errors
    /// After how long there is one, when there is none now.
    pub fn take(&self, now: u64, pace: Pace) -> Result<(), Duration> {
        let room = pace.interval * pace.burst;
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now) + pace.interval;
            (next - now <= room).then_some(next)
        });
        let wait = |full_at: u64| Duration::from_nanos((full_at + pace.interval).saturating_sub(room + now));
        taken.map(drop).map_err(wait)
    }

    /// Puts back what was taken a moment ago.
    fn put_back(&self, pace: Pace) {
        self.0.fetch_sub(pace.interval, Ordering::Relaxed);
    }

    fn is_full(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

/// What of an organisation is under way here, and its bucket. Outlives the snapshot.
#[derive(Debug, Default)]
pub struct OrgUsage {
    active: AtomicU32,
    bucket: Bucket,
    waiting: Arc<AtomicU32>,
}

impl OrgUsage {
    /// Requests, streams and tunnels of the organisation that are under way here.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// A place among its requests that wait for their turn, wherever that is, unless that many are taken.
    #[must_use]
    pub fn wait(&self, most: u32) -> Option<Waiting> {
        Waiting::take(&self.waiting, most)
    }
}

/// Counters of users in a table of fixed size. A user has one of a few places by the hash of organisation and user, which
/// nobody outside can foresee. When others are in all of them, the user shares one: then both have one quota together,
/// which refuses earlier and never later.
#[derive(Debug)]
pub struct Users {
    hasher: RandomState,
    sets: usize,
    table: OnceLock<Box<[[User; WAYS]]>>,
}

#[derive(Debug, Default)]
struct User {
    /// Whose place it is; 0 before the first.
    tag: AtomicU64,
    active: AtomicU32,
    bucket: Bucket,
}

impl User {
    /// Whether whoever has it can be forgotten: a full bucket and nothing under way are what everybody begins with.
    fn is_idle(&self, now: u64) -> bool {
        self.active.load(Ordering::Relaxed) == 0 && self.bucket.is_full(now)
    }
}

impl Users {
    /// A table for about so many users at once. It takes memory with the first user that has a quota.
    #[must_use]
    pub fn new(users: usize) -> Self {
        Self { hasher: RandomState::new(), sets: users.div_ceil(WAYS).max(1), table: OnceLock::new() }
    }

    /// The number of somebody, for this process.
    #[must_use]
    pub fn number(&self, who: (&str, &str)) -> u64 {
        self.hasher.hash_one(who)
    }

    fn place(&self, number: u64, now: u64) -> (usize, usize) {
        // 0 means nobody.
        let tag = number | 1;
        let set = (number >> 32) as usize % self.sets;
        let places = &self.table()[set];
        let is_own = |user: &User| user.tag.load(Ordering::Relaxed) == tag;
        if let Some(own) = places.iter().position(is_own) {
            return (set, own);
        }
        // Somebody who comes back between the look and the exchange shares the place for that one request.
        let take = |user: &User| {
            let before = user.tag.load(Ordering::Relaxed);
            user.is_idle(now) && user.tag.compare_exchange(before, tag, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        (set, places.iter().position(take).unwrap_or(number as usize % WAYS))
    }

    fn table(&self) -> &[[User; WAYS]] {
        self.table.get_or_init(|| std::iter::repeat_with(Default::default).take(self.sets).collect())
    }
}

/// The limits that a request counts against, as this instance has them: 0 and none are no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of the organisation: requests under way.
    pub concurrent: u32,
    /// Of the organisation: how often they may begin.
    pub pace: Option<Pace>,
    /// The same of each user.
    pub user_concurrent: u32,
    /// The same of each user.
    pub user_pace: Option<Pace>,
}

/// The limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests of the organisation under way.
    Concurrent,
    /// Requests of the organisation per second.
    Rate,
    /// Requests of the user under way.
    UserConcurrent,
    /// Requests of the user per second.
    UserRate,
}

impl Limit {
    /// All of them, for tables of metrics.
    pub const ALL: [Self; 4] = [Self::Concurrent, Self::Rate, Self::UserConcurrent, Self::UserRate];

    /// Its key in the directory, which is also its label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Concurrent => "concurrent",
            Self::Rate => "requests_per_second",
            Self::UserConcurrent => "user_concurrent",
            Self::UserRate => "user_requests_per_second",
        }
    }
}

/// A request's place in the counts of its organisation and user; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    org: Arc<OrgUsage>,
    user: Option<(Arc<Users>, usize, usize)>,
}

impl Charge {
    /// Counts a request, and takes it out of the buckets. Nothing stays counted of one that is refused.
    ///
    /// # Errors
    /// The limit that is reached, and after how long another try makes sense.
    pub fn take(
        org: &Arc<OrgUsage>,
        users: &Arc<Users>,
        number: impl FnOnce() -> u64,
        now: u64,
        limits: &Limits,
    ) -> Result<Self, (Limit, Duration)> {
        let busy = Duration::from_secs(1);
        // Counted first, so that two can never take the last place; what was counted gives itself back.
        let before = org.active.fetch_add(1, Ordering::Relaxed);
        let mut charge = Self { org: Arc::clone(org), user: None };
        if limits.concurrent > 0 && before >= limits.concurrent {
            return Err((Limit::Concurrent, busy));
        }
        if limits.user_concurrent > 0 || limits.user_pace.is_some() {
            let (set, way) = users.place(number(), now);
            let user = &users.table()[set][way];
            let before = user.active.fetch_add(1, Ordering::Relaxed);
            charge.user = Some((Arc::clone(users), set, way));
            if limits.user_concurrent > 0 && before >= limits.user_concurrent {
                return Err((Limit::UserConcurrent, busy));
            }
            if let Some(pace) = limits.user_pace {
                user.bucket.take(now, pace).map_err(|wait| (Limit::UserRate, wait))?;
            }
        }
        if let Some(pace) = limits.pace {
            org.bucket.take(now, pace).map_err(|wait| {
                if let (Some(user), Some(pace)) = (charge.user(), limits.user_pace) {
                    user.bucket.put_back(pace);
                }
                (Limit::Rate, wait)
            })?;
        }
        Ok(charge)
    }

    /// The organisation whose request it is.
    #[must_use]
    pub fn org(&self) -> &Arc<OrgUsage> {
        &self.org
    }

    fn user(&self) -> Option<&User> {
        self.user.as_ref().map(|(users, set, way)| &users.table()[*set][*way])
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.org.active.fetch_sub(1, Ordering::Relaxed);
        if let Some(user) = self.user() {
            user.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(instances: u32) -> Fleet {
        let fleet = Fleet::new("a");
        fleet.note(instances);
        fleet
    }

    /// Takes requests of user `user` until one is refused; says how many there were, and with what.
    struct Site {
        org: Arc<OrgUsage>,
        users: Arc<Users>,
        limits: Limits,
    }

    impl Site {
        fn new(limits: Limits) -> Self {
            Self { org: Arc::default(), users: Arc::new(Users::new(64)), limits }
        }

        fn take(&self, user: &str, now: u64) -> Result<Charge, (Limit, Duration)> {
            let number = || self.users.number(("acme", user));
            Charge::take(&self.org, &self.users, number, now, &self.limits)
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let pace = Pace::share(10, 3, &fleet(1)).unwrap();
        let bucket = Bucket::default();
        let mut now = 5 * SECOND;
        assert_eq!((0..10).filter(|_| bucket.take(now, pace).is_ok()).count(), 3);
        assert_eq!(bucket.take(now, pace), Err(Duration::from_millis(100)));
        now += SECOND / 10 - 1;
        assert_eq!(bucket.take(now, pace), Err(Duration::from_nanos(1)));
        assert_eq!(bucket.take(now + 1, pace), Ok(()));
        // However long nobody comes, it holds no more than its burst.
        assert_eq!((0..10).filter(|_| bucket.take(now + 100 * SECOND, pace).is_ok()).count(), 3);
    }

    #[test]
    fn instances_share_a_quota() {
        assert_eq!(Pace::share(0, 7, &fleet(1)), None);
        assert_eq!(Pace::share(100, 0, &fleet(4)), Some(Pace { interval: SECOND / 25, burst: 25 }));
        assert_eq!(Pace::share(1, 1, &fleet(4)), Some(Pace { interval: 4 * SECOND, burst: 1 }));
        assert_eq!([0, 3, 10].map(|count| share(count, &fleet(4))), [0, 1, 2]);
    }

    #[test]
    fn each_limit_refuses_and_keeps_nothing_of_what_it_refused() {
        let one = Pace::share(1, 1, &fleet(1));
        let none = Limits::default();
        let cases = [
            (Limit::Concurrent, Limits { concurrent: 1, ..none }),
            (Limit::Rate, Limits { pace: one, ..none }),
            (Limit::UserConcurrent, Limits { user_concurrent: 1, ..none }),
            (Limit::UserRate, Limits { user_pace: one, ..none }),
        ];
        for (limit, limits) in cases {
            let site = Site::new(limits);
            let first = site.take("ann", SECOND).unwrap();
            assert_eq!(site.take("ann", SECOND).unwrap_err(), (limit, Duration::from_secs(1)));
            let of_all = matches!(limit, Limit::Concurrent | Limit::Rate);
            assert_eq!(site.take("bob", SECOND).is_err(), of_all, "{limit:?}");
            drop(first);
            assert_eq!(site.org.active(), 0, "{limit:?}");
            assert!(site.take("ann", 2 * SECOND).is_ok(), "{limit:?}");
        }
    }

    #[test]
    fn what_the_organisation_is_refused_its_user_does_not_pay() {
        let pace = |rate| Pace::share(rate, 0, &fleet(1));
        let site = Site::new(Limits { pace: pace(1), user_pace: pace(2), ..Limits::default() });
        assert!(site.take("ann", SECOND).is_ok());
        for _ in 0..10 {
            assert_eq!(site.take("ann", SECOND).unwrap_err().0, Limit::Rate);
        }
        assert!(site.take("ann", 2 * SECOND).is_ok());
    }

    #[test]
    fn a_full_table_makes_users_share_and_never_grow_it() {
        let site =
            Site { users: Arc::new(Users::new(4)), ..Site::new(Limits { user_concurrent: 1, ..Limits::default() }) };
        let names: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        let held: Vec<_> = names.iter().filter_map(|name| site.take(name, 0).ok()).collect();
        assert!((1..=4).contains(&held.len()), "{}", held.len());
        drop(held);
        // Those that went leave their places.
        for name in &names {
            assert!(site.take(name, 0).is_ok(), "{name}");
        }
    }

    #[test]
    fn threads_never_get_more_than_there_is() {
        let site = Site::new(Limits { concurrent: 3, pace: Pace::share(1, 50, &fleet(1)), ..Limits::default() });
        let (most, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        let now_held = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Ok(charge) = site.take("ann", SECOND) {
                            most.fetch_max(now_held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            taken.fetch_add(1, Ordering::SeqCst);
                            now_held.fetch_sub(1, Ordering::SeqCst);
                            drop(charge);
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(taken.into_inner(), 50);
        assert_eq!(site.org.active(), 0);
    }
}
