//! A limit that an upstream's own latency sets. The upstream is taken for a queue before so many servers: with more requests
//! on it than it has servers, latency rises in proportion and nothing is won.
//!
//! At the end of each window of time the limit L is moved towards L × g + √L, where g is 1.2 × base / mean, between 1/2 and
//! 1: mean is the mean latency of the window, base the least of those of the last windows. So as long as latency is at its
//! base the limit grows by its root, and it shrinks as latency grows; it settles a little above the knee. This is the
//! gradient of Netflix' concurrency-limits with the windowed minimum and the regular probe of BBR (Cardwell et al., 2016): now
//! and then the limit is halved for a moment, so that the base is measured without a queue and does not creep up with it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The shortest window, and the fewest answers in one.
const WINDOW: Duration = Duration::from_secs(1);
const ANSWERS: u32 = 10;
/// How many windows the base is looked for in, and after how many it is measured again.
const MEMORY: usize = 30;
/// How many windows that takes: one until the queue is gone, one to measure.
const PROBE: u32 = 2;
/// How much latency may lie above its base before the limit shrinks.
const TOLERANCE: f64 = 1.2;
/// How far the limit moves towards where it is to go.
const STEP: f64 = 0.3;
/// Where it begins.
const FIRST: u32 = 20;

/// Between which limits one is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// At least 1.
    pub least: u32,
    /// At least as much.
    pub most: u32,
}

/// Finds the limit of one upstream.
#[derive(Debug)]
pub struct Adaptive {
    limit: AtomicU32,
    /// Microseconds of all answers of the window.
    micros: AtomicU64,
    answers: AtomicU32,
    /// Whether the limit was reached in the window. Where it was not, latency says nothing of what is above it.
    was_reached: AtomicBool,
    /// When the window ends, in milliseconds.
    ends: AtomicU64,
    /// Taken once a window, by whoever finds it over.
    course: Mutex<Course>,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            limit: AtomicU32::new(FIRST),
            micros: AtomicU64::new(0),
            answers: AtomicU32::new(0),
            was_reached: AtomicBool::new(false),
            ends: AtomicU64::new(0),
            course: Mutex::default(),
        }
    }
}

impl Adaptive {
    /// The limit now.
    #[must_use]
    pub fn limit(&self, bounds: Bounds) -> u32 {
        self.limit.load(Ordering::Relaxed).clamp(bounds.least, bounds.most)
    }

    /// Notes that the limit was reached.
    pub fn reached(&self) {
        self.was_reached.store(true, Ordering::Relaxed);
    }

    /// Notes how long an answer took to begin; `now` is the time since a moment that stays the same. Gives the new limit
    /// at the end of a window.
    pub fn record(&self, latency: Duration, now: Duration, bounds: Bounds) -> Option<u32> {
        self.micros.fetch_add(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX >> 16), Ordering::Relaxed);
        let answers = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX >> 1);
        if answers < ANSWERS || now < self.ends.load(Ordering::Relaxed) {
            return None;
        }
        // Whoever comes second leaves it to the first.
        let mut course = self.course.try_lock().ok()?;
        if now < self.ends.load(Ordering::Relaxed) {
            return None;
        }
        let (answers, micros) = (self.answers.swap(0, Ordering::Relaxed), self.micros.swap(0, Ordering::Relaxed));
        let mean = micros as f64 / f64::from(answers.max(1));
        let limit = course.step(mean, self.was_reached.swap(false, Ordering::Relaxed), bounds);
        // Longer than an answer takes, or a probe would measure what came before it.
        let length = (WINDOW.as_millis() as u64).max(micros / u64::from(answers.max(1)) / 1000);
        self.ends.store(now + length, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        Some(limit)
    }
}

/// How the limit goes from window to window.
#[derive(Debug)]
struct Course {
    limit: f64,
    /// The mean latencies of the last windows.
    means: VecDeque<f64>,
    /// Windows since the base was measured.
    since_probe: usize,
    /// While it is: how many windows that still takes, and the limit to go back to.
    probe: Option<(u32, f64)>,
}

impl Default for Course {
    fn default() -> Self {
        Self { limit: f64::from(FIRST), means: VecDeque::new(), since_probe: 0, probe: None }
    }
}

impl Course {
    fn step(&mut self, mean: f64, was_reached: bool, bounds: Bounds) -> u32 {
        let (least, most) = (f64::from(bounds.least), f64::from(bounds.most));
        if self.means.len() == MEMORY {
            self.means.pop_front();
        }
        self.means.push_back(mean.max(1.0));
        match self.probe.take() {
            Some((left, before)) if left > 1 => self.probe = Some((left - 1, before)),
            Some((_, before)) => self.limit = before,
            None => self.adjust(mean.max(1.0), was_reached),
        }
        self.limit = self.limit.clamp(least, most);
        self.since_probe += 1;
        if self.since_probe > MEMORY - PROBE as usize {
            self.since_probe = 0;
            self.probe = Some((PROBE, self.limit));
            self.limit = (self.limit / 2.0).max(least);
        }
        whole(self.limit)
    }

    fn adjust(&mut self, mean: f64, was_reached: bool) {
        let base = self.means.iter().copied().fold(f64::INFINITY, f64::min);
        let gradient = (TOLERANCE * base / mean).clamp(0.5, 1.0);
        let target = self.limit * gradient + self.limit.sqrt();
        if target < self.limit || was_reached {
            self.limit += STEP * (target - self.limit);
        }
    }
}

/// A limit in whole requests.
#[expect(clippy::cast_sign_loss, reason = "limits lie between bounds that are at least 1")]
fn whole(limit: f64) -> u32 {
    limit.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { least: 4, most: 1000 };

    /// An upstream with so many servers, each of which takes so many microseconds for a request.
    struct Model {
        servers: f64,
        micros: f64,
    }

    impl Model {
        /// Latency with so many on it.
        fn latency(&self, active: f64, noise: f64) -> f64 {
            self.micros * (active / self.servers).max(1.0) * noise
        }
    }

    /// Runs so many windows in which `offered` requests want to be on it at once; gives the limits.
    fn run(course: &mut Course, model: &Model, offered: f64, windows: usize, seed: &mut u64) -> Vec<u32> {
        let mut limits = vec![whole(course.limit)];
        for _ in 0..windows {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = 0.95 + 0.1 * ((*seed >> 33) as f64 / f64::from(1u32 << 31));
            let limit = f64::from(*limits.last().unwrap());
            let mean = model.latency(limit.min(offered), noise);
            limits.push(course.step(mean, offered >= limit, BOUNDS));
        }
        limits
    }

    /// The middle of the last limits.
    fn settled(limits: &[u32]) -> f64 {
        let mut last = limits[limits.len() - 40..].to_vec();
        last.sort_unstable();
        f64::from(last[20])
    }

    #[test]
    fn the_limit_finds_the_knee() {
        for servers in [8.0, 40.0, 200.0] {
            for seed in 1..40u64 {
                let mut seed = seed;
                let limits = run(&mut Course::default(), &Model { servers, micros: 50_000.0 }, 5000.0, 400, &mut seed);
                let found = settled(&limits) / servers;
                assert!((0.9..2.2).contains(&found), "{found} of {servers} servers: {limits:?}");
                assert!(limits.iter().all(|limit| *limit >= BOUNDS.least));
            }
        }
    }

    #[test]
    fn it_follows_an_upstream_that_shrinks_and_recovers() {
        let (mut course, mut seed) = (Course::default(), 7);
        let model = |servers: f64| Model { servers, micros: 20_000.0 };
        run(&mut course, &model(100.0), 5000.0, 300, &mut seed);
        let small = run(&mut course, &model(10.0), 5000.0, 300, &mut seed);
        assert!((9.0..22.0).contains(&settled(&small)), "{small:?}");
        let large = run(&mut course, &model(100.0), 5000.0, 300, &mut seed);
        assert!((90.0..220.0).contains(&settled(&large)), "{large:?}");
    }

    #[test]
    fn slower_answers_alone_lower_it_for_a_while_only() {
        let (mut course, mut seed) = (Course::default(), 3);
        run(&mut course, &Model { servers: 50.0, micros: 10_000.0 }, 5000.0, 200, &mut seed);
        let slow = run(&mut course, &Model { servers: 50.0, micros: 100_000.0 }, 5000.0, 400, &mut seed);
        assert!(slow.iter().all(|limit| *limit >= BOUNDS.least));
        assert!((45.0..110.0).contains(&settled(&slow)), "{slow:?}");
    }

    #[test]
    fn it_does_not_grow_while_nobody_needs_it() {
        let (mut course, mut seed) = (Course::default(), 5);
        let limits = run(&mut course, &Model { servers: 50.0, micros: 10_000.0 }, 3.0, 100, &mut seed);
        assert!(limits.iter().all(|limit| *limit <= 20), "{limits:?}");
    }

    #[test]
    fn a_window_ends_with_time_and_answers() {
        let adaptive = Adaptive::default();
        let (answer, at) = (Duration::from_millis(10), Duration::from_secs);
        adaptive.reached();
        assert_eq!((0..9).find_map(|_| adaptive.record(answer, at(5), BOUNDS)), None);
        assert_eq!(adaptive.record(answer, at(5), BOUNDS), Some(21));
        assert_eq!((0..20).find_map(|_| adaptive.record(answer, at(5), BOUNDS)), None);
        assert!(adaptive.record(answer, at(6), BOUNDS).is_some());
        assert_eq!(adaptive.limit(Bounds { least: 1, most: 5 }), 5);
    }
}
