//! The composition root: builds every part, starts every task, and owns the end.

mod admin;
pub mod certificates;
mod fleet;
mod gateway;
mod room;
pub mod sockets;
mod tickets;

pub use gateway::Gateway;

use crate::admin::TokenError;
use crate::clock::Clock;
use crate::config::{Config, DirectorySource, Env, FireflyTables};
use crate::control::{autostart, health};
use crate::credential::assertions::{AssertionKeyError, Assertions};
use crate::credential::{Means, Minter, Settings as MinterSettings};
use crate::directory::Directory;
use crate::directory::misses::Misses;
use crate::directory::once::Once;
use crate::directory::postgres::Writer;
use crate::directory::revoke::Revoker;
use crate::directory::sync::{self, Asker, Source};
use crate::log::Sink;
use crate::metrics::Metrics;
use crate::net::dial::Dialer;
use crate::net::tls::{ServerTls, TlsError};
use crate::plane::hold::{self, Holds};
use crate::plane::leaving::Stages;
use crate::plane::start::Starter;
use crate::plane::waits::Waits;
use crate::plane::{Firefly, Plane, Settings, listener};
use crate::session::firefly::Opener;
use crate::session::jwt::Verifier;
use crate::session::keys::{self, KeyLoadCause, KeyLoadError, Keys};
use certificates::Outbound;
use futures_util::FutureExt;
use rustix::process::{Resource, Rlimit, setrlimit};
use sockets::{Sockets, SocketsError, Taken};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;
use std::{fmt, io};
use tickets::TicketKeys;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys that cannot be had.
    #[error("{}", lines(.0))]
    Keys(Vec<KeyLoadError>),
    /// Keys that sign what the gateway says of principals, and cannot be had.
    #[error("{}", lines(.0))]
    Assertions(Vec<AssertionKeyError>),
    /// FireFly's key cannot be had.
    #[error("firefly.encryption_key: {0}")]
    FireflyKey(KeyLoadCause),
    /// The token of the admin API cannot be had.
    #[error("admin.token: {0}")]
    AdminToken(TokenError),
    /// A key of TLS session tickets cannot be had.
    #[error("server.tls.ticket_keys: {0}")]
    TicketKey(KeyLoadCause),
    /// Certificates or keys that cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The directory cannot be read; every mistake in it.
    #[error("{0}")]
    Directory(String),
    /// An address that cannot be listened on.
    #[error("cannot listen on {address} ({key}): {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Its key in the configuration.
        key: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// Sockets that do not come from where they should.
    #[error("{0}")]
    Sockets(#[from] SocketsError),
    /// The system refuses a thread, a runtime or random numbers.
    #[error("the system refuses what the gateway needs: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// Whether the configuration is to be changed, and not the world.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Keys(_)
            | Self::Assertions(_)
            | Self::FireflyKey(_)
            | Self::TicketKey(_)
            | Self::AdminToken(_)
            | Self::Tls(_)
            | Self::Directory(_)
            | Self::Sockets(SocketsError::Elsewhere { .. } | SocketsError::Both) => true,
            Self::Sockets(SocketsError::Handover(_)) | Self::Listen { .. } | Self::System(_) => false,
        }
    }
}

fn lines<T: fmt::Display>(errors: &[T]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the session keys.
///
/// # Errors
/// [`StartError::Keys`] names every key that cannot be had.
pub fn load_keys(config: &Config, env: &Env) -> Result<Arc<Keys>, StartError> {
    Keys::load(&config.session.keys, env).map(Arc::new).map_err(StartError::Keys)
}

/// What a gateway is started with.
pub struct Start<S> {
    /// The checked configuration.
    pub config: Config,
    /// Variables that it names.
    pub env: Env,
    /// Where the directory comes from.
    pub source: S,
    /// The session keys; the directory's secrets are sealed with them too.
    pub keys: Arc<Keys>,
    /// Where log lines go.
    pub log: Sink,
    /// Wall clock.
    pub clock: Clock,
    /// Sockets that are there already.
    pub sockets: Sockets,
}

impl<S: Source> Start<S> {
    /// Starts the gateway: when this returns, requests are served.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn run(self) -> Result<Gateway, StartError> {
        let Self { config, env, mut source, keys, log, clock, sockets } = self;
        forbid_core_dumps();
        let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let metrics = Arc::<Metrics>::default();
        let directory = Arc::new(Directory::default());
        if !S::REMOTE {
            let first = control.block_on(sync::start(&mut source, &directory, &metrics));
            first.map_err(|error| StartError::Directory(error.to_string()))?;
        }
        let mut taken = control.block_on(Taken::new(sockets, &config))?;
        let address = taken.listening.data[0].local_addr()?;
        let outbound = Outbound::load(&config.upstreams)?;
        let (tls, tickets) = server_tls(&config, &env)?;
        let (asker, wishes) = sync::asker();
        let dialer = dialer(&config, &outbound);
        let issuers = dialer.with_tls(Arc::clone(&outbound.issuers));
        let minter =
            Arc::new(minter(&config, &env, issuers.clone(), &metrics, &clock, asker.clone(), control.handle())?);
        let misses = fleet::misses(&config, &asker, control.handle());
        let probing =
            health::Means { dialer: dialer.clone(), directory: Arc::clone(&directory), metrics: Arc::clone(&metrics) };
        let ways_out = WaysOut { dialer, issuers, minter, misses, outbound: &outbound };
        let plane = build(&config, &env, &directory, &metrics, keys, log, &clock, control.handle(), ways_out, tls)?;
        let plane = Arc::new(plane);
        let teller = fleet::teller(&config, &env);
        let (heart, begun) = fleet::start(&config, &plane, teller.clone(), address, control.handle());
        let followed = Arc::clone(&directory);
        control.spawn(async move {
            // The fleet hears of this instance before it decides anything.
            let _ = begun.await;
            sync::follow(source, followed, metrics, wishes).await;
        });
        let sharing = fleet::share(&config, &plane, teller.as_ref(), control.handle());
        control.spawn(health::Prober::new(probing, config.upstreams.health.max_probes, sharing).run());
        control.spawn(upkeep(Arc::clone(&plane), outbound, tickets, asker.clone()));
        control.block_on(taken.until_useful(&directory));
        let (admin, serving) = admin::start(&config, env, taken.admin(&config)?, &plane, teller, control.handle())?;
        let (stages, managed) = (Stages::default(), taken.managed);
        let spawn = |(number, sockets)| listener::spawn(Arc::clone(&plane), sockets, stages.follow(), number);
        let workers = taken.allot(&config)?.into_iter().enumerate().map(spawn).collect::<io::Result<Vec<_>>>()?;
        let heirs = control.block_on(taken.take_place(serving));
        Ok(Gateway { plane, control, workers, stages, asker, heart, address, admin, managed, heirs })
    }
}

/// What reaches others.
struct WaysOut<'a> {
    dialer: Dialer,
    minter: Arc<Minter>,
    misses: Option<Misses>,
    /// What dials issuers of tokens, and whoever starts things.
    issuers: Dialer,
    outbound: &'a Outbound,
}

#[allow(clippy::too_many_arguments, reason = "the composition root puts the parts together")]
fn build(
    config: &Config,
    env: &Env,
    directory: &Arc<Directory>,
    metrics: &Arc<Metrics>,
    keys: Arc<Keys>,
    log: Sink,
    clock: &Clock,
    control: &Handle,
    WaysOut { dialer, issuers, minter, misses, outbound }: WaysOut<'_>,
    tls: Option<ServerTls>,
) -> Result<Plane, StartError> {
    let (writer, fleet) = (writer(config, env), fleet::fleet()?);
    let holds = holds(config, issuers, writer.as_ref(), metrics, clock, &minter, control);
    Ok(Plane {
        settings: Settings::new(config, room::max_connections(config.limits.max_connections)),
        starter: starter(config, writer.as_ref(), metrics, clock, control, outbound),
        revoker: Revoker::new(Arc::clone(directory), writer, control.clone()),
        directory: Arc::clone(directory),
        misses,
        admission: room::admission(config, directory, metrics, control, &fleet),
        fleet,
        keys,
        minter,
        holds,
        dialer,
        metrics: Arc::clone(metrics),
        clock: clock.clone(),
        log,
        access_log: config.log.access.then_some(config.log.format),
        firefly: firefly(config, env)?,
        tls,
        leaving: AtomicBool::new(false),
        connections: AtomicUsize::new(0),
        tunnels: AtomicUsize::new(0),
        held: Arc::default(),
    })
}

/// TLS towards clients, where there is some, and the keys of its tickets, where instances share them.
fn server_tls(config: &Config, env: &Env) -> Result<(Option<ServerTls>, Option<TicketKeys>), StartError> {
    let Some(tls) = &config.server.tls else { return Ok((None, None)) };
    let keys = TicketKeys::load(&tls.ticket_keys, env)?;
    let shared = keys.as_ref().map(TicketKeys::tickets);
    Ok((Some(certificates::server_tls(tls, config.server.http2, shared)?), keys))
}

/// What dials upstreams.
fn dialer(config: &Config, outbound: &Outbound) -> Dialer {
    let upstreams = &config.upstreams;
    if upstreams.allowed.private {
        tracing::warn!("upstreams.allow_private_addresses is on: meant for local work and private networks only");
    }
    Dialer::new(Arc::clone(&outbound.upstreams), upstreams.allowed.private, upstreams.connect_timeout)
}

/// What has things started: it is told of wishes through a channel, and works beside the requests.
fn holds(
    config: &Config,
    dialer: Dialer,
    writer: Option<&Arc<Writer>>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    minter: &Arc<Minter>,
    control: &Handle,
) -> Holds {
    let starts = &config.autostart;
    let (minter, metrics) = (Arc::clone(minter), Arc::clone(metrics));
    let means = autostart::Means { dialer, clock: clock.clone(), metrics, minter, writer: writer.cloned() };
    let settings = autostart::Settings {
        poll_interval: starts.poll_interval,
        check_interval: starts.check_interval,
        start_timeout: starts.start_timeout,
        call_timeout: starts.call_timeout,
    };
    let (wishes, heard) = mpsc::channel(MAX_WISHES);
    control.spawn(autostart::Starter::new(means, settings).run(heard));
    let limits = hold::Limits {
        sql: starts.hold_sql,
        api: starts.hold_api,
        per_upstream: starts.queue,
        per_org: starts.queue_per_org,
        total: starts.queue_total,
    };
    Holds { limits, wishes, waiting: Arc::default(), waits: Waits::default() }
}

/// What gets tokens of principals.
fn minter(
    config: &Config,
    env: &Env,
    dialer: Dialer,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    asker: Asker,
    control: &Handle,
) -> Result<Minter, StartError> {
    let credentials = &config.credentials;
    let issuer = config.server.public_url.to_string();
    let assertions = Assertions::load(&credentials.assertion_keys, issuer, env).map_err(StartError::Assertions)?;
    let reread = move |org| {
        let asker = asker.clone();
        async move { asker.org(org).await }.boxed()
    };
    let (clock, metrics) = (clock.clone(), Arc::clone(metrics));
    let means = Means { dialer, clock, metrics, assertions, reread: Box::new(reread) };
    let settings = MinterSettings { timeout: credentials.mint_timeout, refresh_idle: credentials.refresh_idle };
    Ok(Minter::new(means, settings, control.clone()))
}

/// What starts sessions, if front ends may. The keys' address is the operator's own word, so it may be private.
fn starter(
    config: &Config,
    writer: Option<&Arc<Writer>>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    control: &Handle,
    outbound: &Outbound,
) -> Option<Starter> {
    let jwt = config.session.jwt.as_ref()?;
    let dialer = Dialer::new(Arc::clone(&outbound.issuers), true, config.upstreams.connect_timeout);
    let verifier = Verifier::new(jwt, dialer, clock.clone(), Arc::clone(metrics));
    verifier.spawn(control);
    let once = jwt.single_use.then(|| Once::new(clock.clone(), writer.cloned(), control.clone()));
    Some(Starter { verifier, once, ttl: config.session.ttl, has_warned: AtomicBool::new(false) })
}

/// What writes to the database of the directory, if there is one.
fn writer(config: &Config, env: &Env) -> Option<Arc<Writer>> {
    match &config.directory {
        DirectorySource::Postgres(settings) | DirectorySource::Firefly(FireflyTables { postgres: settings, .. }) => {
            Some(Arc::new(Writer::new(settings.clone(), env.clone())))
        }
        DirectorySource::File { .. } => None,
    }
}

fn firefly(config: &Config, env: &Env) -> Result<Option<Firefly>, StartError> {
    let Some(firefly) = &config.firefly_v1 else { return Ok(None) };
    let key = keys::read(&firefly.key, env).map_err(StartError::FireflyKey)?;
    Ok(Some(Firefly { opener: Opener::new(&key), domain_suffix: firefly.domain_suffix.clone() }))
}

/// Wishes that wait to be heard; what is lost is wished again.
const MAX_WISHES: usize = 1024;

/// Session keys and tokens are in memory: they must not be written to a disk when the process crashes.
fn forbid_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
}

/// How often key and certificate files are read again, and what only changes with time is measured.
const UPKEEP: Duration = Duration::from_secs(2);

async fn upkeep(plane: Arc<Plane>, outbound: Outbound, mut tickets: Option<TicketKeys>, asker: Asker) {
    let mut ticks = interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut complained, mut assertions) = (false, false);
    loop {
        ticks.tick().await;
        plane.metrics.held_longest.set(plane.holds.waits.longest().as_secs_f64());
        plane.metrics.overload.queue_longest.set(plane.admission.longest_wait().as_secs_f64());
        if let Some(snapshot) = plane.directory.held() {
            health::measure(&snapshot, &plane.metrics);
        }
        certificates::look_after(&plane, &outbound);
        if let Some(tickets) = &mut tickets {
            tickets.reload();
        }
        match plane.keys.reload() {
            Ok(changed) => {
                complained = false;
                if changed {
                    tracing::info!("session keys changed");
                    // Secrets that did not open may open now, and the other way round.
                    asker.all();
                }
            }
            Err(errors) if !complained => {
                complained = true;
                tracing::error!(error = %lines(&errors), "session keys cannot be read; the ones before stay in use");
            }
            Err(_) => {}
        }
        assertions = look_after_assertions(&plane, assertions);
    }
}

/// Reads the keys of assertions again; whether they cannot be read, which is said once.
fn look_after_assertions(plane: &Plane, complained: bool) -> bool {
    match plane.minter.assertions().reload() {
        Ok(changed) => {
            if changed {
                tracing::info!("assertion keys changed");
            }
            false
        }
        Err(errors) => {
            if !complained {
                tracing::error!(error = %lines(&errors), "assertion keys cannot be read; the ones before stay in use");
            }
            true
        }
    }
}
