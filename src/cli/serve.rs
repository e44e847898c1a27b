//! `embedgate serve`.

use super::{ConfigArg, Wrong};
use crate::app::sockets::Sockets;
use crate::app::{self, Gateway, Start, StartError};
use crate::clock::Clock;
use crate::config::{Config, DirectorySource, Env, Log, firefly};
use crate::directory::firefly::{FireflySource, OnKey};
use crate::directory::postgres::PostgresSource;
use crate::directory::sync::{FileSource, Source};
use crate::log::{self, Writer};
use crate::net::manager::{self, Manager};
use crate::plane::leaving::Stage;
use crate::session::keys::Keys;
use anyhow::{Context, Result};
use clap::Args;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Run the gateway.
#[derive(Debug, Args)]
#[command(
    after_help = "SIGTERM or SIGINT: leave gracefully; a second one: at once. SIGHUP: read directory and keys again."
)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigArg,
}

impl Serve {
    pub(super) fn run(&self, env: Env) -> Result<()> {
        let config = self.config.load(&env)?;
        // Before there are threads: the variables that were meant for this process alone are taken away.
        let given = manager::sockets(&env, config.admin.listen).map_err(|error| Wrong(error.to_string()))?;
        let sockets = given.map(Sockets::Managed).unwrap_or_default();
        let manager = Manager::new(&env);
        let writer = start_log(&config.log)?;
        let keys = app::load_keys(&config, &env).map_err(start_error)?;
        let (policy, vault) = (config.upstreams.allowed.clone(), Arc::clone(keys.vault()));
        let gateway = match config.directory.clone() {
            DirectorySource::File { path } => {
                let source = FileSource::new(path, policy, env.clone(), vault);
                start(config, env, keys, source, sockets, &writer)
            }
            DirectorySource::Firefly(tables) => {
                let source = FireflySource::new(tables, policy, env.clone(), on_key(&config, &keys));
                let source = source.map_err(|error| StartError::Directory(error.to_string()));
                source.and_then(|source| start(config, env, keys, source, sockets, &writer))
            }
            DirectorySource::Postgres(settings) => {
                let source = PostgresSource::new(settings, policy, env.clone(), vault);
                let source = source.map_err(|error| StartError::Directory(error.to_string()));
                source.and_then(|source| start(config, env, keys, source, sockets, &writer))
            }
        };
        let gateway = gateway.map_err(start_error)?;
        // Whoever is told that it serves may tell it to leave.
        let signals = Signals::new(&gateway)?;
        tracing::info!(
            listen = %gateway.address(),
            admin = %gateway.admin_address(),
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );
        manager.is_ready();
        run_until_told(gateway, signals, &manager);
        Ok(())
    }
}

/// What takes the key that is kept beside FireFly's tables; none where the configuration names one.
fn on_key(config: &Config, keys: &Arc<Keys>) -> Option<OnKey> {
    if let [key] = &config.session.keys[..]
        && key.derived
    {
        tracing::info!(
            "the session key is derived from another; one of its own in a file, named in session.keys, is safer"
        );
    }
    let keys = Arc::clone(keys);
    let hand_in = move |key| keys.replace_kept(vec![(firefly::KEY_ID.to_owned(), key)]);
    config.session.keys.is_empty().then(|| Box::new(hand_in) as OnKey)
}

fn start<S: Source>(
    config: Config,
    env: Env,
    keys: Arc<Keys>,
    source: S,
    sockets: Sockets,
    writer: &Writer,
) -> Result<Gateway, StartError> {
    let (log, clock) = (writer.sink(), Clock::default());
    Start { config, env, source, keys, log, clock, sockets }.run()
}

/// Starts the log and makes `tracing` write to it.
pub(super) fn start_log(config: &Log) -> Result<Writer> {
    let writer = Writer::start(std::io::stderr()).context("cannot start the log")?;
    let subscriber = log::subscriber(writer.sink(), config.format, &config.level)
        .map_err(|error| Wrong(format!("log.level: {error}")))?;
    tracing::subscriber::set_global_default(subscriber).context("cannot start the log")?;
    Ok(writer)
}

/// A configuration that cannot work is wrong use; the rest is failure.
pub(super) fn start_error(error: StartError) -> anyhow::Error {
    if error.is_configuration() { Wrong(error.to_string()).into() } else { error.into() }
}

#[derive(PartialEq, Eq)]
enum Told {
    Leave,
    Reload,
}

/// The signals that the program hears.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Hears them from now on.
    pub(super) fn new(gateway: &Gateway) -> Result<Self> {
        let _inside = gateway.control().enter();
        let hear = |kind| signal(kind).context("cannot hear signals");
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            hangup: hear(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Leave,
            _ = self.interrupt.recv() => Told::Leave,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// Runs until a signal says to leave or another process has taken over, and then leaves; a second signal makes that short.
pub(super) fn run_until_told(mut gateway: Gateway, mut signals: Signals, manager: &Manager) {
    let is_relieved = loop {
        match gateway.until_relieved(signals.next()) {
            Some(Told::Reload) => gateway.reload(),
            Some(Told::Leave) => break false,
            None => break true,
        }
    };
    manager.is_stopping();
    let stages = gateway.stages();
    gateway.control().spawn(async move {
        while signals.next().await != Told::Leave {}
        tracing::warn!("told again: what is still under way is cut");
        stages.advance(Stage::Over);
    });
    if is_relieved {
        gateway.leave_to_successor();
    } else {
        gateway.leave();
    }
}
