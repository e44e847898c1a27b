//! One prober for a fleet: instances agree by a lease in the database who probes, and the others take its verdicts. While
//! the database is away each probes for itself, so that nobody is left blind.

use crate::directory::Directory;
use crate::directory::postgres::prober::{Claim, Dead};
use crate::directory::postgres::{Error, Writer};
use crate::live::fleet::Fleet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Verdicts that come within it are told together.
const GATHERING: Duration = Duration::from_millis(50);

/// Who probes, with the nodes that are dead as far as this instance has heard.
#[derive(Debug, Clone)]
pub enum Duty {
    /// This instance, from what was heard on.
    Probes(Arc<Dead>),
    /// Another: nothing else counts.
    Follows(Arc<Dead>),
}

/// A prober's link with the [`Agreement`].
pub struct Sharing {
    pub(super) duty: watch::Receiver<Duty>,
    /// What it finds; none while another probes.
    pub(super) found: watch::Sender<Option<Dead>>,
}

/// What is needed to agree.
pub struct Means {
    /// Without it there is nothing to probe, and nothing to tell.
    pub directory: Arc<Directory>,
    /// Who this is.
    pub fleet: Arc<Fleet>,
    /// Where it is agreed.
    pub writer: Arc<Writer>,
}

/// How it is agreed.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How often the lease is asked for, and verdicts are.
    pub interval: Duration,
    /// When the prober is not heard of for so long, another probes.
    pub expiry: Duration,
}

/// Where this instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Another probes, or nothing is known yet.
    Follower,
    /// It probes for all.
    Prober,
    /// It probes for itself.
    Alone,
}

/// The one task that agrees.
pub struct Agreement {
    means: Means,
    settings: Settings,
    duty: watch::Sender<Duty>,
    found: watch::Receiver<Option<Dead>>,
    standing: Standing,
    /// What was read last, with its version.
    heard: Option<(i64, Arc<Dead>)>,
    /// What was told last, with its version.
    told: Option<(i64, Dead)>,
}

impl Agreement {
    /// A task that has agreed on nothing yet, and the link of the prober with it.
    #[must_use]
    pub fn new(means: Means, settings: Settings) -> (Self, Sharing) {
        let (duty, duties) = watch::channel(Duty::Follows(Arc::default()));
        let (found, finds) = watch::channel(None);
        let standing = Standing::Follower;
        let agreement = Self { means, settings, duty, found: finds, standing, heard: None, told: None };
        (agreement, Sharing { duty: duties, found })
    }

    /// Agrees until the instance has ended.
    pub async fn run(mut self) {
        let mut news = self.means.directory.news();
        while self.means.directory.held().is_none() {
            // Whether it was one or more than can be kept: there is something.
            let _ = news.recv().await;
        }
        while !self.means.fleet.has_ended() {
            if let Err(error) = self.agree().await {
                self.miss(&error);
            }
            tokio::select! {
                () = sleep(self.settings.interval) => {}
                Ok(()) = self.found.changed(), if self.standing == Standing::Prober => sleep(GATHERING).await,
            }
        }
    }

    async fn agree(&mut self) -> Result<(), Error> {
        let Settings { interval, expiry } = self.settings;
        // The others ask each interval: one of them has it within the expiry.
        let lease = expiry.saturating_sub(interval);
        let Claim { is_mine, told } = self.means.writer.claim_probing(self.means.fleet.id(), lease).await?;
        if is_mine { self.lead(told).await } else { self.follow(told).await }
    }

    /// Probes for all, and tells them what is new. `told` is the version of what they know.
    async fn lead(&mut self, told: Option<i64>) -> Result<(), Error> {
        if self.standing != Standing::Prober {
            if self.standing == Standing::Follower {
                let dead = self.hear(told).await?;
                self.duty.send_replace(Duty::Probes(dead));
            }
            self.standing = Standing::Prober;
            tracing::info!("this instance probes nodes for the fleet");
        }
        // None until the prober has taken up its duty.
        let Some(found) = self.found.borrow_and_update().clone() else { return Ok(()) };
        if self.told.as_ref().is_some_and(|(version, dead)| Some(*version) == told && *dead == found) {
            return Ok(());
        }
        let version = self.means.writer.tell_dead_nodes(self.means.fleet.id(), &found).await?;
        self.told = version.map(|version| (version, found));
        Ok(())
    }

    /// Takes what another has told. Until it has said a word, all stays as it is.
    async fn follow(&mut self, told: Option<i64>) -> Result<(), Error> {
        let is_known = self.heard.as_ref().is_some_and(|(version, _)| Some(*version) == told);
        if told.is_none() || (self.standing == Standing::Follower && is_known) {
            return Ok(());
        }
        let dead = self.hear(told).await?;
        self.duty.send_replace(Duty::Follows(dead));
        if self.standing != Standing::Follower {
            self.standing = Standing::Follower;
            tracing::info!("another instance probes nodes for the fleet");
        }
        Ok(())
    }

    /// What is told under this version, or was heard before anything was.
    async fn hear(&mut self, told: Option<i64>) -> Result<Arc<Dead>, Error> {
        let known = self.heard.clone();
        let Some(told) = told else { return Ok(known.map(|(_, dead)| dead).unwrap_or_default()) };
        if let Some((_, dead)) = known.filter(|(version, _)| *version == told) {
            return Ok(dead);
        }
        let dead = Arc::new(self.means.writer.dead_nodes().await?);
        self.heard = Some((told, Arc::clone(&dead)));
        Ok(dead)
    }

    /// Nobody knows who probes.
    fn miss(&mut self, error: &Error) {
        if self.standing == Standing::Alone {
            return;
        }
        if self.standing == Standing::Follower {
            let dead = self.heard.as_ref().map(|(_, dead)| Arc::clone(dead)).unwrap_or_default();
            self.duty.send_replace(Duty::Probes(dead));
        }
        self.standing = Standing::Alone;
        tracing::error!(%error, "the fleet does not agree on who probes nodes; this instance probes for itself meanwhile");
    }
}
