//! What `demo` and `dev` share: a gateway on this machine that needs no files.

use super::serve::Signals;
use super::{key, serve, token};
use crate::app::sockets::Sockets;
use crate::app::{self, Gateway, Start};
use crate::clock::Clock;
use crate::config::{Config, Env, Log, LogFormat};
use crate::directory::file;
use crate::directory::sync::FixedSource;
use crate::log::Writer;
use crate::net::listen;
use crate::net::manager::Manager;
use crate::session::seal::Purpose;
use anyhow::{Context, Result};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

/// Apps are at `{app}--{org}.apps.localhost`: browsers and curl take every name below `localhost` for this machine.
pub(super) const BASE_DOMAIN: &str = "apps.localhost";
/// The name the process keeps its throw-away session key under.
const KEY: &str = "EMBEDGATE_LOCAL_KEY";
const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);

/// A gateway on this machine.
pub(super) struct Local {
    pub(super) gateway: Gateway,
    signals: Signals,
    /// Writes the log as long as it lives.
    pub(super) log: Writer,
    port: u16,
}

/// Binds first, because the port is part of what is configured.
pub(super) fn bind(address: SocketAddr) -> Result<Vec<TcpListener>> {
    listen::bind(address, 1).with_context(|| {
        format!("cannot listen on {address}; choose another address with --listen, such as 127.0.0.1:0")
    })
}

impl Local {
    /// Starts a gateway over `listeners` with this directory, which may name `hosts` as upstreams.
    pub(super) fn start(listeners: Vec<TcpListener>, directory: &str, hosts: &[&str]) -> Result<Self> {
        let address = listeners[0].local_addr()?;
        let env = Env::from([(KEY.to_owned(), key::generate()?)]);
        let nowhere = Path::new("built in");
        let text = settings(address, hosts);
        let mut config = Config::parse(&text, nowhere, &env).context("the built-in configuration")?;
        config.log = Log { format: LogFormat::Text, level: "info".into(), access: true };
        let keys = app::load_keys(&config, &env)?;
        let tables =
            file::parse(directory, nowhere, &config.upstreams.allowed, &env, keys.vault()).context("the directory")?;
        let log = serve::start_log(&config.log)?;
        let (clock, sink, source) = (Clock::default(), log.sink(), FixedSource(tables));
        let sockets = Sockets::Bound(listeners);
        let start = Start { config, env, source, keys, log: sink, clock, sockets };
        let gateway = start.run().map_err(serve::start_error)?;
        let signals = Signals::new(&gateway)?;
        Ok(Self { gateway, signals, log, port: address.port() })
    }

    /// A session token for a user.
    pub(super) fn token(&self, org: &str, user: &str, email: &str) -> Result<String> {
        let session = token::session(org, user, email, None, SESSION_LIFE)?;
        let sealed = self.gateway.plane().keys.ring().seal(Purpose::Session, &session)?;
        sealed.context("there is no key to seal with")
    }

    /// The link that opens an app with a session.
    pub(super) fn link(&self, org: &str, app: &str, token: &str) -> String {
        format!("http://{app}--{org}.{BASE_DOMAIN}:{}/.embedgate/session?token={token}&next=/", self.port)
    }

    /// The public host, for SQL and path mode.
    pub(super) fn public_url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Runs until Ctrl-C.
    pub(super) fn run(self) {
        let Self { gateway, signals, log, .. } = self;
        serve::run_until_told(gateway, signals, &Manager::default());
        drop(log);
    }
}

fn settings(address: SocketAddr, hosts: &[&str]) -> String {
    let port = address.port();
    let admin = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0);
    // Nobody is there to begin a session again after a break.
    let idle = SESSION_LIFE.as_secs();
    format!(
        r#"
        [server]
        listen = "{address}"
        public_url = "http://localhost:{port}"
        drain_timeout = "5s"
        drain_spread = "0s"
        [admin]
        listen = "{admin}"
        [session]
        keys = [{{ id = "local", env = "{KEY}" }}]
        idle_timeout = "{idle}s"
        [routing]
        base_domain = "{BASE_DOMAIN}"
        [upstreams]
        allowed_domains = {hosts:?}
        allow_private_addresses = true
        "#
    )
}
