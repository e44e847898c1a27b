//! Says to the fleet, by way of the database, that this instance lives and what is under way on its clusters, so that
//! whoever drains a cluster learns when nobody is on it any more, wherever. While the database is away nothing of that is
//! missed by requests.

use crate::directory::Directory;
use crate::directory::postgres::Writer;
use crate::directory::postgres::fleet::{Beat, ClusterName, UnderWay};
use crate::live::fleet::Fleet;
use crate::metrics::Metrics;
use crate::model::tables::ClusterState;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// Clusters that are told of at once. Draining ones come first, and of one that is not told of nobody thinks that it is
/// empty.
const MAX_TOLD: usize = 10_000;

/// What is needed to tell.
pub struct Means {
    /// The clusters.
    pub directory: Arc<Directory>,
    /// Who this is, and what is known of the others.
    pub fleet: Arc<Fleet>,
    /// None without a database: then this instance is all there is.
    pub writer: Option<Arc<Writer>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// How it is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where this instance serves, for people.
    pub address: String,
    /// How often it says that it lives.
    pub interval: Duration,
    /// The same while something is under way on draining clusters, and after changes of the directory.
    pub drain_interval: Duration,
    /// How long it counts as alive without another word.
    pub expiry: Duration,
}

/// What there is to tell.
#[derive(Debug, Default)]
struct Found {
    under_way: Vec<UnderWay>,
    /// How many are not told of.
    left_out: usize,
    draining: usize,
    /// What is under way on draining clusters.
    leaving: u64,
    /// Whether it holds for the newest snapshot.
    is_settled: bool,
}

/// The one task that tells.
pub struct Heart {
    means: Means,
    settings: Settings,
    complained: bool,
}

impl Heart {
    /// A task that has told nobody yet.
    #[must_use]
    pub fn new(means: Means, settings: Settings) -> Self {
        Self { means, settings, complained: false }
    }

    /// Tells until the instance has ended. `begun` hears of the first time, whatever came of it: before, this instance must
    /// not decide anything, or nobody would know that it does.
    pub async fn run(mut self, begun: oneshot::Sender<()>) {
        let mut begun = Some(begun);
        while !self.means.fleet.has_ended() {
            // Before the look, so that no change falls between.
            let mut news = self.means.directory.news();
            let found = self.look();
            self.tell(&found).await;
            // An error means that nobody waits.
            begun.take().map(|begun| begun.send(()));
            let hurries = found.leaving > 0 || !found.is_settled;
            let Settings { interval, drain_interval, .. } = self.settings;
            let changed = async {
                // Whether it was one or more than can be kept: there is something new.
                let _ = news.recv().await;
                sleep(drain_interval).await;
            };
            tokio::select! {
                () = sleep(if hurries { drain_interval } else { interval }) => {}
                () = self.means.fleet.news() => {}
                () = changed => {}
            }
        }
        if let Some(writer) = &self.means.writer
            && let Err(error) = writer.goodbye(self.means.fleet.id()).await
        {
            tracing::warn!(%error, "the fleet does not hear that this instance ends; it counts as alive until its time is over");
        }
    }

    /// Looks at all clusters: those that are draining, and those on which something is under way.
    fn look(&self) -> Found {
        let mut found = Found::default();
        // In this order: what is decided by an older snapshot has been counted when nobody reads one any more.
        let Some(snapshot) = self.means.directory.held() else { return Found { is_settled: true, ..found } };
        found.is_settled = self.means.directory.is_settled();
        let mut running = Vec::new();
        for org in snapshot.orgs() {
            let seen = if found.is_settled { org.version } else { 0 };
            for (kind, upstream) in org.by_kind() {
                for cluster in &upstream.clusters {
                    let count = cluster.live.active();
                    let told = || {
                        let (org, upstream, cluster) = (org.id.as_str(), upstream.id.as_str(), cluster.id.as_str());
                        UnderWay { of: ClusterName::new(org, kind, upstream, cluster), count, seen }
                    };
                    if cluster.state == ClusterState::Draining {
                        found.leaving += u64::from(count);
                        found.under_way.push(told());
                    } else if count > 0 {
                        running.push(told());
                    }
                }
            }
        }
        found.draining = found.under_way.len();
        found.under_way.append(&mut running);
        found.left_out = found.under_way.len().saturating_sub(MAX_TOLD);
        found.under_way.truncate(MAX_TOLD);
        found
    }

    async fn tell(&mut self, found: &Found) {
        let Means { fleet, writer, metrics, .. } = &self.means;
        let metrics = &metrics.fleet;
        metrics.draining.set(found.draining as f64);
        metrics.draining_requests.set(found.leaving as f64);
        metrics.untold.set(found.left_out as f64);
        let Some(writer) = writer else { return metrics.instances.set(1.0) };
        let beat = Beat {
            id: fleet.id(),
            address: &self.settings.address,
            is_leaving: fleet.is_leaving(),
            life: self.settings.expiry,
            under_way: &found.under_way,
        };
        let told = writer.beat(beat).await;
        match &told {
            Ok(instances) => {
                fleet.note(*instances);
                metrics.beats.increment(1);
                if self.complained {
                    tracing::info!(instances, "the fleet hears of this instance again");
                }
            }
            Err(error) => {
                metrics.beats_failed.increment(1);
                if !self.complained {
                    tracing::error!(%error, "the fleet does not hear of this instance; requests are served all the same");
                }
            }
        }
        self.complained = told.is_err();
        metrics.instances.set(f64::from(fleet.instances()));
        if let Some(silent) = fleet.silent_seconds() {
            metrics.silence.set(silent);
        }
    }
}
