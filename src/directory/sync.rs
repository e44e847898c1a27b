//! Keeps the snapshot current: load, build, publish, wait for a change, again. A load that fails leaves what is there.

use super::Directory;
use super::file;
use crate::config::{Env, Mistakes};
use crate::metrics::Metrics;
use crate::model::snapshot::Snapshot;
use crate::model::tables::Tables;
use crate::model::url::AllowedHosts;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Where rows come from.
pub trait Source: Send + 'static {
    /// Why rows cannot be had.
    type Error: std::fmt::Display + Send;

    /// Reads everything.
    fn load(&mut self) -> impl Future<Output = Result<Tables, Self::Error>> + Send;

    /// Waits until something may have changed. A hint: what changed, if anything, shows the next load.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether the source can be asked and has nothing newer than what was loaded last.
    fn is_current(&self) -> bool;
}

/// How often a file is looked at. Mounted secrets and config maps change by renaming, which no watch of a file sees.
const POLL: Duration = Duration::from_secs(1);

/// After so many looks everything is read again, for what the file only names.
const RESYNC_LOOKS: u32 = 60;

/// The source that reads a directory file.
pub struct FileSource {
    path: PathBuf,
    policy: AllowedHosts,
    env: Env,
    seen: Option<Stamp>,
    loaded: Option<Tables>,
    looks: u32,
}

/// What tells that a file is another than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

impl FileSource {
    /// A source that reads `path`.
    #[must_use]
    pub fn new(path: PathBuf, policy: AllowedHosts, env: Env) -> Self {
        Self { path, policy, env, seen: None, loaded: None, looks: 0 }
    }

    /// Whether the same file gives other rows: secrets have files of their own.
    fn reads_otherwise(&self) -> bool {
        file::load(&self.path, &self.policy, &self.env).is_ok_and(|tables| Some(&tables) != self.loaded.as_ref())
    }

    fn stamp(&self) -> Option<Stamp> {
        let data = fs::metadata(&self.path).ok()?;
        Some(Stamp {
            modified: data.modified().ok(),
            length: data.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&data),
        })
    }
}

impl Source for FileSource {
    type Error = Mistakes;

    async fn load(&mut self) -> Result<Tables, Mistakes> {
        // The stamp first: a change during the read shows as another change.
        self.seen = self.stamp();
        let tables = file::load(&self.path, &self.policy, &self.env)?;
        self.loaded = Some(tables.clone());
        Ok(tables)
    }

    async fn changed(&mut self) {
        loop {
            sleep(POLL).await;
            self.looks = self.looks.wrapping_add(1);
            if self.stamp() != self.seen || (self.looks.is_multiple_of(RESYNC_LOOKS) && self.reads_otherwise()) {
                return;
            }
        }
    }

    fn is_current(&self) -> bool {
        self.seen.is_some() && self.stamp() == self.seen
    }
}

/// A source that has the same rows for ever.
pub struct FixedSource(pub Tables);

impl Source for FixedSource {
    type Error = std::convert::Infallible;

    async fn load(&mut self) -> Result<Tables, Self::Error> {
        Ok(self.0.clone())
    }

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    fn is_current(&self) -> bool {
        true
    }
}

/// Loads for the first time and publishes.
///
/// # Errors
/// What the source says.
pub async fn start<S: Source>(source: &mut S, directory: &Directory, metrics: &Metrics) -> Result<(), S::Error> {
    let tables = source.load().await?;
    publish(tables, directory, metrics);
    Ok(())
}

/// How often the age of the directory is told when nothing changes.
const CONFIRM: Duration = Duration::from_secs(5);

/// Follows the source for ever. `reload` asks for a load now.
pub async fn follow<S: Source>(mut source: S, directory: Arc<Directory>, metrics: Arc<Metrics>, reload: Arc<Notify>) {
    let mut failed = false;
    loop {
        tokio::select! {
            () = source.changed() => {}
            () = reload.notified() => {}
            () = sleep(CONFIRM) => {
                if !failed && source.is_current() {
                    directory.confirm();
                }
                continue;
            }
        }
        match timeout(LOAD_LIMIT, source.load()).await {
            Ok(Ok(tables)) => {
                failed = false;
                publish(tables, &directory, &metrics);
            }
            Ok(Err(error)) => {
                failed = true;
                metrics.directory_failures.increment(1);
                tracing::error!(%error, "the directory was refused; the one before goes on serving");
            }
            Err(_) => {
                failed = true;
                metrics.directory_failures.increment(1);
                tracing::error!(limit = ?LOAD_LIMIT, "the directory could not be loaded in time; the one before goes on serving");
            }
        }
    }
}

/// A load takes no longer than this.
const LOAD_LIMIT: Duration = Duration::from_secs(120);

fn publish(tables: Tables, directory: &Directory, metrics: &Metrics) {
    let snapshot = match directory.snapshot() {
        Some(previous) => Snapshot::build(tables, Some(&previous)),
        None => Snapshot::build(tables, None),
    };
    tracing::info!(organisations = snapshot.len(), "directory loaded");
    metrics.directory_orgs.set(snapshot.len() as f64);
    metrics.directory_loads.increment(1);
    directory.publish(snapshot);
}
