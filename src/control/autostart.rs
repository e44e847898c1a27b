//! Starts what is asked for and does not run: one task for each such upstream looks how it is, starts it once for the whole
//! fleet, tells how far it is, and stops it when nobody has used it for long.

mod calls;

use crate::clock::Clock;
use crate::credential::Minter;
use crate::directory::postgres::Writer;
use crate::live::autostart::{Phase, StartCell};
use crate::metrics::Metrics;
use crate::model::upstream::Upstream;
use crate::net::dial::Dialer;
use calls::{Calls, Seen, Trouble};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep};

/// Settings of a [`Starter`].
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How often something on its way up is looked at.
    pub poll_interval: Duration,
    /// How often something that is up and in use is looked at.
    pub check_interval: Duration,
    /// How long it may take to come up.
    pub start_timeout: Duration,
    /// How long one call may take.
    pub call_timeout: Duration,
}

/// What a [`Starter`] works with.
pub struct Means {
    /// Calls those who start things.
    pub dialer: Dialer,
    /// Wall clock.
    pub clock: Clock,
    /// Where starts are counted.
    pub metrics: Arc<Metrics>,
    /// Gets tokens.
    pub minter: Arc<Minter>,
    /// Where the fleet agrees on who starts what; without one, this instance is all there is.
    pub writer: Option<Arc<Writer>>,
}

/// Most upstreams that are looked after at once.
const MAX_KEEPERS: usize = 65_536;
/// Who starts something does it alone for so long. Longer than a call may take, and short enough to be outlived by those
/// who wait.
const LEASE: Duration = Duration::from_secs(30);
/// For so long after a start, an upstream may still look as if nobody had started it.
const GRACE: Duration = Duration::from_secs(60);
/// Whoever refuses is not asked again for so long, unless the directory changes.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Pauses after calls that came to nothing.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// Without a request for so many looks, nobody looks any more.
const IDLE_LOOKS: u32 = 4;

/// Starts and stops upstreams.
pub struct Starter {
    means: Means,
    settings: Settings,
    /// The upstreams that are looked after, by their cells.
    keepers: Mutex<HashSet<u64>>,
}

impl Starter {
    /// A starter that does nothing yet.
    #[must_use]
    pub fn new(means: Means, settings: Settings) -> Arc<Self> {
        Arc::new(Self { means, settings, keepers: Mutex::default() })
    }

    /// Looks after whatever is wished for, until nobody can wish any more.
    pub async fn run(self: Arc<Self>, mut wishes: Receiver<Arc<Upstream>>) {
        while let Some(upstream) = wishes.recv().await {
            let Some(autostart) = &upstream.autostart else { continue };
            let key = autostart.cell.uid();
            let is_new = {
                let mut keepers = self.keepers();
                keepers.len() < MAX_KEEPERS && keepers.insert(key)
            };
            if is_new {
                let starter = Arc::clone(&self);
                tokio::spawn(async move {
                    Keeper::new(&starter, &upstream).run().await;
                    starter.keepers().remove(&key);
                });
            }
        }
    }

    fn keepers(&self) -> MutexGuard<'_, HashSet<u64>> {
        // A panic elsewhere leaves the map whole.
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after one upstream for as long as somebody uses it.
struct Keeper<'a> {
    starter: &'a Starter,
    upstream: &'a Upstream,
    cell: Arc<StartCell>,
    calls: Calls<'a>,
    /// When this instance, or another one that it knows of, has started it.
    started: Option<Instant>,
    /// When it was found not to be up.
    down_since: Option<Instant>,
    failures: u32,
    unused: u32,
}

impl<'a> Keeper<'a> {
    fn new(starter: &'a Starter, upstream: &'a Upstream) -> Self {
        // Checked by the one who makes keepers.
        let autostart = upstream.autostart.as_ref().expect("only what can be started has a keeper");
        let calls = Calls::new(&starter.means, autostart, upstream, starter.settings.call_timeout);
        let cell = Arc::clone(&autostart.cell);
        Self { starter, upstream, cell, calls, started: None, down_since: None, failures: 0, unused: 0 }
    }

    async fn run(mut self) {
        while let Some(pause) = self.look().await {
            sleep(pause).await;
        }
        self.cell.tell(Phase::Unknown, "looking");
    }

    /// Looks how it is and does what that asks for; how long to wait before the next look, none when nobody cares.
    async fn look(&mut self) -> Option<Duration> {
        match self.calls.status().await {
            Ok(Seen::Up) => self.up().await,
            Ok(Seen::Starting(step)) => Some(self.starting(&step)),
            Ok(Seen::Down) => self.down().await,
            Ok(Seen::Broken(why)) => self.broken(&why).await,
            Err(trouble) => Some(self.unknown(trouble)),
        }
    }

    async fn up(&mut self) -> Option<Duration> {
        let settings = self.starter.settings;
        self.failures = 0;
        if let Some(since) = self.down_since.take() {
            tracing::info!(org = %self.calls.org(), upstream = %self.upstream.id, seconds = since.elapsed().as_secs(), "is up");
        }
        if self.started.take().is_some() {
            self.release().await;
        }
        self.cell.tell(Phase::Up, "running");
        let idle = self.starter.means.clock.now().saturating_sub(self.cell.last_used());
        let active: u32 = self.upstream.clusters.iter().flat_map(|c| &c.nodes).map(|node| node.live.active()).sum();
        let is_used = active > 0 || idle < settings.check_interval.as_secs().max(1);
        self.unused = if is_used { 0 } else { self.unused + 1 };
        if let Some(limit) = self.calls.idle_stop() {
            self.note_use(if active > 0 { 0 } else { idle }).await;
            if active == 0 && idle >= limit.as_secs() && self.stop(limit).await {
                return None;
            }
            return Some(settings.check_interval.min(limit));
        }
        (self.unused < IDLE_LOOKS).then_some(settings.check_interval)
    }

    fn starting(&mut self, step: &str) -> Duration {
        let since = *self.down_since.get_or_insert_with(Instant::now);
        if since.elapsed() > self.starter.settings.start_timeout {
            self.fail("it does not come up in time");
            return LAST_BACKOFF;
        }
        self.cell.tell(Phase::Starting, step);
        self.starter.settings.poll_interval
    }

    /// It does not run: starts it, unless somebody else does or has just done so, or nobody wants it any more.
    async fn down(&mut self) -> Option<Duration> {
        let is_wanted = self.starter.means.clock.now().saturating_sub(self.cell.last_used())
            <= self.starter.settings.check_interval.as_secs().max(60);
        if !is_wanted {
            return None;
        }
        self.down_since.get_or_insert_with(Instant::now);
        if self.started.is_some_and(|at| at.elapsed() < GRACE) {
            return Some(self.starting("starting"));
        }
        self.cell.tell(Phase::Starting, "starting");
        if !self.claim().await {
            return Some(self.starting("starting"));
        }
        match self.calls.start().await {
            Ok(()) => {
                self.starter.means.metrics.starts.increment(1);
                tracing::info!(org = %self.calls.org(), upstream = %self.upstream.id, "started");
                self.started = Some(Instant::now());
                Some(self.starter.settings.poll_interval)
            }
            Err(Trouble::Refused(why)) => {
                self.release().await;
                self.fail(&why);
                Some(REFUSED_FOR)
            }
            Err(Trouble::Away { cause, retry_after }) => {
                self.release().await;
                tracing::warn!(org = %self.calls.org(), upstream = %self.upstream.id, cause, "could not be started");
                Some(self.back_off(retry_after))
            }
        }
    }

    /// It says that it is broken. A start may mend that, once.
    async fn broken(&mut self, why: &str) -> Option<Duration> {
        if self.down_since.is_none() {
            return self.down().await;
        }
        self.fail(why);
        Some(REFUSED_FOR)
    }

    /// Nobody can say how it is. What was not known to be down is taken for running: it will say so itself if not.
    fn unknown(&mut self, trouble: Trouble) -> Duration {
        let (cause, retry_after) = match trouble {
            Trouble::Refused(cause) => (cause, Some(LAST_BACKOFF)),
            Trouble::Away { cause, retry_after } => (cause, retry_after),
        };
        tracing::warn!(org = %self.calls.org(), upstream = %self.upstream.id, cause, "it is not known whether it runs");
        if self.down_since.is_none() {
            self.cell.tell(Phase::Up, "not known");
        }
        self.back_off(retry_after)
    }

    fn fail(&mut self, why: &str) {
        self.starter.means.metrics.starts_failed.increment(1);
        tracing::error!(org = %self.calls.org(), upstream = %self.upstream.id, cause = why, "cannot be started");
        self.cell.tell(Phase::Failed, why);
        self.down_since = None;
        self.started = None;
    }

    fn back_off(&mut self, retry_after: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_BACKOFF.saturating_mul(1 << (self.failures - 1).min(10)).min(LAST_BACKOFF);
        doubled.max(retry_after.unwrap_or_default())
    }

    /// Whether this instance is the one to start or stop it now. When the database cannot say, both may: that is harmless.
    async fn claim(&self) -> bool {
        let Some(writer) = &self.starter.means.writer else { return true };
        writer.claim_start(self.calls.name(), LEASE).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the fleet could not agree on who starts something");
            true
        })
    }

    /// Lets others start or stop it, as soon as this instance is done with it.
    async fn release(&self) {
        let Some(writer) = &self.starter.means.writer else { return };
        if let Err(error) = writer.release_start(self.calls.name()).await {
            tracing::warn!(%error, "others have to wait for a lease to end");
        }
    }

    async fn note_use(&self, idle_seconds: u64) {
        let Some(writer) = &self.starter.means.writer else { return };
        if let Err(error) = writer.note_use(self.calls.name(), idle_seconds).await {
            tracing::warn!(%error, "the fleet could not be told of a use");
        }
    }

    /// Stops it, if no other instance uses it; whether it was stopped.
    async fn stop(&mut self, limit: Duration) -> bool {
        if let Some(writer) = &self.starter.means.writer {
            // Without the database nobody knows whether others use it.
            let claimed = writer.claim_stop(self.calls.name(), limit, LEASE).await;
            if !claimed.unwrap_or(false) {
                return false;
            }
        }
        // From now on requests wait, and start it again.
        self.cell.tell(Phase::Unknown, "looking");
        let stopped = self.calls.stop().await;
        self.release().await;
        match stopped {
            Ok(()) => {
                self.starter.means.metrics.idle_stops.increment(1);
                tracing::info!(org = %self.calls.org(), upstream = %self.upstream.id, "stopped, for nobody uses it");
                true
            }
            Err(trouble) => {
                tracing::warn!(org = %self.calls.org(), upstream = %self.upstream.id, cause = trouble.cause(), "could not be stopped");
                self.cell.tell(Phase::Up, "running");
                false
            }
        }
    }
}
