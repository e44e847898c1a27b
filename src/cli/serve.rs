//! `embedgate serve`.

use super::{ConfigArg, Wrong};
use crate::app::{self, Gateway, Start, StartError};
use crate::clock::Clock;
use crate::config::{Config, DirectorySource, Env, Log, firefly};
use crate::directory::firefly::{FireflySource, OnKey};
use crate::directory::postgres::PostgresSource;
use crate::directory::sync::{FileSource, Source};
use crate::log::{self, Writer};
use crate::session::keys::Keys;
use anyhow::{Context, Result};
use clap::Args;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

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
        let writer = start_log(&config.log)?;
        let keys = app::load_keys(&config, &env).map_err(start_error)?;
        let (policy, vault) = (config.upstreams.allowed.clone(), Arc::clone(keys.vault()));
        let gateway = match config.directory.clone() {
            DirectorySource::File { path } => {
                let source = FileSource::new(path, policy, env.clone(), vault);
                start(config, env, keys, source, &writer)
            }
            DirectorySource::Firefly(tables) => {
                let source = FireflySource::new(tables, policy, env.clone(), on_key(&config, &keys));
                let source = source.map_err(|error| StartError::Directory(error.to_string()));
                source.and_then(|source| start(config, env, keys, source, &writer))
            }
            DirectorySource::Postgres(settings) => {
                let source = PostgresSource::new(settings, policy, env.clone(), vault);
                let source = source.map_err(|error| StartError::Directory(error.to_string()));
                source.and_then(|source| start(config, env, keys, source, &writer))
            }
        };
        let gateway = gateway.map_err(start_error)?;
        tracing::info!(
            listen = %gateway.address(),
            admin = %gateway.admin_address(),
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );
        run_until_told(gateway)
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
    writer: &Writer,
) -> Result<Gateway, StartError> {
    let (log, clock) = (writer.sink(), Clock::default());
    Start { config, env, source, keys, log, clock, listeners: Vec::new() }.run()
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

enum Told {
    Leave,
    Reload,
}

/// Runs until a signal says to leave, and then leaves; a second signal ends the process at once.
pub(super) fn run_until_told(gateway: Gateway) -> Result<()> {
    let (mut terminate, mut interrupt, mut hangup) = {
        let _inside = gateway.control().enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    loop {
        let told = gateway.control().block_on(async {
            tokio::select! {
                _ = terminate.recv() => Told::Leave,
                _ = interrupt.recv() => Told::Leave,
                _ = hangup.recv() => Told::Reload,
            }
        });
        match told {
            Told::Reload => gateway.reload(),
            Told::Leave => break,
        }
    }
    gateway.control().spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("told twice: leaving at once");
        std::process::exit(0);
    });
    gateway.leave();
    Ok(())
}
