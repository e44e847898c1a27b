//! The parts of an instance that know of the others: who it is, what it tells them, and the reads of what it lacks.

use crate::config::{Config, DirectorySource, Env, FireflyTables, Prober};
use crate::control::fleet::{Heart, Means, Settings};
use crate::control::health::sharing::{self, Agreement, Sharing};
use crate::directory::misses::{Limits, Misses};
use crate::directory::postgres::Writer;
use crate::directory::sync::Asker;
use crate::live::fleet::Fleet;
use crate::plane::Plane;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An instance as it begins, under an id that nobody else has.
pub(super) fn fleet() -> io::Result<Arc<Fleet>> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let id = random.iter().fold(String::new(), |mut id, byte| {
        // Writing to a string never fails.
        let _ = write!(id, "{byte:02x}");
        id
    });
    Ok(Arc::new(Fleet::new(id)))
}

/// Reads what is missing, where the directory is in a database.
pub(super) fn misses(config: &Config, asker: &Asker, control: &Handle) -> Option<Misses> {
    let (DirectorySource::Postgres(settings) | DirectorySource::Firefly(FireflyTables { postgres: settings, .. })) =
        &config.directory
    else {
        return None;
    };
    let limits = Limits { timeout: settings.miss_timeout, interval: settings.miss_interval };
    Some(Misses::new(asker.clone(), limits, control.clone()))
}

/// What tells the database, apart from what requests write there. `FireFly`'s tables know neither instances nor clusters.
pub(super) fn teller(config: &Config, env: &Env) -> Option<Arc<Writer>> {
    match &config.directory {
        DirectorySource::Postgres(settings) => Some(Arc::new(Writer::new(settings.clone(), env.clone()))),
        DirectorySource::Firefly(_) | DirectorySource::File { .. } => None,
    }
}

/// The task that tells of this instance.
pub(super) struct Beating(JoinHandle<()>);

/// How long the last word may take: whoever waits for it waits for the end of the process.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Begins to tell of this instance; the receiver hears when the fleet has been told for the first time, or could not be.
pub(super) fn start(
    config: &Config,
    plane: &Plane,
    writer: Option<Arc<Writer>>,
    address: SocketAddr,
    control: &Handle,
) -> (Beating, oneshot::Receiver<()>) {
    let settings = Settings {
        address: address.to_string(),
        interval: config.fleet.interval,
        drain_interval: config.fleet.drain_interval,
        expiry: config.fleet.expiry,
    };
    let (directory, metrics) = (Arc::clone(&plane.directory), Arc::clone(&plane.metrics));
    let means = Means { directory, fleet: Arc::clone(&plane.fleet), writer, metrics };
    let (tell, begun) = oneshot::channel();
    (Beating(control.spawn(Heart::new(means, settings).run(tell))), begun)
}

/// Begins to agree with the others on who probes nodes, where one does it for all.
pub(super) fn share(config: &Config, plane: &Plane, writer: Option<&Arc<Writer>>, control: &Handle) -> Option<Sharing> {
    let writer = writer.filter(|_| config.upstreams.health.prober == Prober::Fleet)?;
    let (directory, fleet) = (Arc::clone(&plane.directory), Arc::clone(&plane.fleet));
    let means = sharing::Means { directory, fleet, writer: Arc::clone(writer) };
    let settings = sharing::Settings { interval: config.fleet.interval, expiry: config.fleet.expiry };
    let (agreement, sharing) = Agreement::new(means, settings);
    control.spawn(agreement.run());
    Some(sharing)
}

impl Beating {
    /// Takes this instance off the fleet, if the database hears of it in time.
    pub(super) fn end(self, fleet: &Fleet, control: &Runtime) {
        fleet.end();
        // What is not heard now is known when the instance's time is over.
        let _ = control.block_on(async { timeout(LAST_WORD, self.0).await });
    }
}
