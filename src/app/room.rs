//! How much room the system gives the process, and what of it requests may have.

use crate::config::Config;
use crate::control::pressure;
use crate::directory::Directory;
use crate::live::fleet::Fleet;
use crate::live::pressure::Pressure;
use crate::metrics::Metrics;
use crate::plane::admission::Admission;
use crate::plane::listener::POLITE_REFUSALS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use tokio::runtime::Handle;

/// File descriptors kept for everything but connections of clients and their upstreams.
const RESERVED_FILES: u64 = 64;

/// What lets requests begin, and what measures how near the process is to its limits.
pub(super) fn admission(
    config: &Config,
    directory: &Arc<Directory>,
    metrics: &Arc<Metrics>,
    control: &Handle,
    fleet: &Arc<Fleet>,
) -> Admission {
    let pressure = Arc::<Pressure>::default();
    let memory = match config.limits.memory {
        0 => pressure::available_memory().map(|bytes| bytes - bytes / 10),
        bytes => Some(bytes),
    };
    let files = open_files().saturating_sub(RESERVED_FILES);
    let gauge = pressure::Gauge {
        pressure: Arc::clone(&pressure),
        directory: Arc::clone(directory),
        metrics: Arc::clone(metrics),
        memory,
        files,
    };
    control.spawn(gauge.run());
    Admission::new(config, Arc::clone(fleet), pressure)
}

/// The limit on connections: what was configured, else half of the file descriptors, as each may need one upstream.
pub(super) fn max_connections(configured: usize) -> usize {
    // Who is refused has a file for a moment, which must not be one of those with which operators are answered.
    let possible = (open_files().saturating_sub(RESERVED_FILES) as usize).saturating_sub(POLITE_REFUSALS);
    if configured == 0 {
        return possible / 2;
    }
    if configured > possible {
        tracing::warn!(configured, possible, "limits.max_connections is more than there are file descriptors for");
    }
    // What is over would take the files with which operators are answered.
    configured.min(possible)
}

/// How many files the process may have open, with its limit raised as far as it may be.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Services start with a low soft limit for the sake of select(2), which is not used here.
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    files.unwrap_or(1 << 20)
}
