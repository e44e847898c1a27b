//! What runs in requests: from the listener to the upstream and back. It reads the snapshot and writes counters; it never
//! asks a database and takes no lock on the way of a request.

mod account;
pub mod admission;
mod attribution;
mod balance;
mod base_tag;
#[doc(hidden)]
pub mod bench;
mod budget;
mod buffers;
mod client;
mod connect;
mod cookie;
mod cors;
mod cut;
mod databricks;
pub mod decide;
mod detour;
mod engine;
mod exchange;
mod failure;
mod fetch;
mod forward;
mod frames;
pub mod guard;
mod headers;
mod health;
mod held;
pub mod hold;
mod http2;
mod introduction;
pub mod leaving;
mod line;
pub mod listener;
mod miss;
mod multiplexed;
mod outbox;
mod outside;
mod own;
mod pool;
mod request;
mod respond;
pub mod route;
mod site;
mod standing;
pub mod start;
mod streams;
mod timer;
mod trailers;
mod trip;
mod tunnel;
pub mod waits;
mod wall;
mod worker;

use crate::clock::Clock;
use crate::config::{Circuit, Config, DirectorySource, Health, Http2Limits, IpNet, LogFormat, Sql};
use crate::credential::Minter;
use crate::directory::Directory;
use crate::directory::misses::Misses;
use crate::directory::revoke::Revoker;
use crate::live::fleet::Fleet;
use crate::live::held::HeldLive;
use crate::live::node::Rules;
use crate::log::Sink;
use crate::metrics::Metrics;
use crate::model::frontends::Frontends;
use crate::model::url::AllowedHosts;
use crate::net::dial::Dialer;
use crate::net::tls::ServerTls;
use crate::session::firefly::Opener;
use crate::session::idle::IdleLimit;
use crate::session::keys::Keys;
use crate::wire::fields::Name;
use crate::wire::request::{Head, Limits};
use admission::Admission;
use guard::Guard;
use route::{Hosts, org_of_host};
use start::Starter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What the plane needs of the configuration, in the form it needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The names this gateway answers to.
    pub hosts: Hosts,
    /// Whom requests with a cookie are taken from, where an organisation does not say.
    pub guard: Guard,
    /// How long a session in an address lasts at most; none where there are none.
    pub cookieless_ttl: Option<Duration>,
    /// How long sessions in cookies last without a request.
    pub session_idle: IdleLimit,
    /// Peers that may say whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether they begin every connection with a PROXY header.
    pub proxy_protocol: bool,
    /// Hosts that links of FireFly's first form may name; those of the directory were checked when it was read.
    pub allowed: AllowedHosts,
    /// Bounds on a request's head.
    pub head_limits: Limits,
    /// Bounds on an answer's head.
    pub answer_limits: Limits,
    /// Most bytes of a request's body; 0 for no limit.
    pub body_bytes: u64,
    /// Most bytes of a statement with its parameters, which is held until its warehouse is known.
    pub statement_bytes: usize,
    /// Most bytes of all bodies that are held at once.
    pub held_bytes: usize,
    /// Most bytes of those of one organisation.
    pub held_bytes_per_org: usize,
    /// What is added to statements and done for them.
    pub sql: Sql,
    /// Size of a request body that is held back until it can be signed.
    pub signed_body_bytes: usize,
    /// How long a head may take.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive_timeout: Duration,
    /// How old a connection of HTTP/1.1 may be when an answer begins and still stay open; zero for any age.
    pub max_connection_age: Duration,
    /// How long a request's body may stand still.
    pub body_idle_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout: Duration,
    /// How long an upstream may take until its answer begins.
    pub first_byte_timeout: Duration,
    /// How long an answer may stand still.
    pub idle_timeout: Duration,
    /// How long nothing may move on a WebSocket, or come from a client of HTTP/2 with open streams, before it is pinged;
    /// zero for never.
    pub ping_interval: Duration,
    /// How long a connection to an upstream is kept for the next request.
    pub pool_idle_timeout: Duration,
    /// How many of those are kept for a node by each worker.
    pub pool_max_idle: usize,
    /// How many of a thousand requests may be sent a second time.
    pub retry_budget: u32,
    /// On how many nodes a request may be tried.
    pub max_tries: usize,
    /// How long a connection to a node may take where the request can go to another.
    pub try_timeout: Duration,
    /// When nodes are taken out of use.
    pub health: Rules,
    /// Whether an app's 500 is a failure of its node.
    pub count_500: bool,
    /// When of a thousand nodes of an upstream fewer are available, all are used.
    pub panic_threshold: u32,
    /// How much upstreams and their nodes may have to do.
    pub circuit: Circuit,
    /// Protocols that may be upgraded to, in lower case.
    pub upgrades: Vec<String>,
    /// Largest payload of one WebSocket frame; 0 for no limit.
    pub websocket_max_frame: u64,
    /// Largest payload of all frames of a WebSocket message; 0 for no limit.
    pub websocket_max_message: u64,
    /// How long the share of nodes and clusters grows that join others.
    pub slow_start: Duration,
    /// How long WebSockets stay on a node that is to go, and the time over which they then leave it.
    pub upstream_drain_grace: Duration,
    /// See `upstream_drain_grace`.
    pub upstream_drain_spread: Duration,
    /// How long the instance serves on when it leaves.
    pub drain_delay: Duration,
    /// How long requests may then take to end.
    pub drain_timeout: Duration,
    /// The time over which WebSockets are asked to leave then.
    pub drain_spread: Duration,
    /// Most connections of clients at once, each stream of HTTP/2 counted as one more.
    pub max_connections: usize,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
    /// Bounds on one of their connections then.
    pub http2_limits: Http2Limits,
}

/// Answers' heads may be larger than requests': apps set long policies and many cookies.
const ANSWER_HEAD_BYTES: usize = 128 * 1024;

impl Settings {
    /// Takes them from the configuration. `max_connections` is the limit that its 0 stands for.
    #[must_use]
    pub fn new(config: &Config, max_connections: usize) -> Self {
        let (server, upstreams, limits) = (&config.server, &config.upstreams, &config.limits);
        let mut public = vec![server.public_url.host().to_owned()];
        public.extend(config.routing.public_hosts.iter().cloned());
        let hosts = Hosts {
            base_domain: config.routing.base_domain.clone(),
            loopback: server.public_url.is_loopback(),
            any: config.routing.any_host,
            public,
            firefly_v1: config.firefly_v1.is_some(),
            cookieless: config.embedding.cookieless.is_some(),
        };
        let frontends = Arc::new(Frontends::new(&config.embedding.frontend_origins));
        Self {
            hosts,
            guard: Guard { scheme: server.public_url.scheme(), frontends },
            cookieless_ttl: config.embedding.cookieless,
            session_idle: IdleLimit::new(config.session.idle_timeout),
            trusted_proxies: server.trusted_proxies.clone(),
            proxy_protocol: server.proxy_protocol,
            allowed: match &config.directory {
                DirectorySource::Firefly(tables) => tables.apps.clone(),
                DirectorySource::File { .. } | DirectorySource::Postgres(_) => upstreams.allowed.clone(),
            },
            head_limits: Limits { bytes: limits.header_bytes, fields: limits.header_count },
            answer_limits: Limits { bytes: ANSWER_HEAD_BYTES, fields: crate::wire::request::MAX_FIELDS },
            body_bytes: limits.body_bytes,
            statement_bytes: limits.statement_bytes,
            held_bytes: limits.held_bytes,
            held_bytes_per_org: limits.held_bytes_per_org,
            sql: config.sql,
            signed_body_bytes: limits.signed_body_bytes,
            header_timeout: limits.header_timeout,
            keep_alive_timeout: limits.keep_alive_timeout,
            max_connection_age: limits.max_connection_age,
            body_idle_timeout: limits.body_idle_timeout,
            tls_handshake_timeout: limits.tls_handshake_timeout,
            first_byte_timeout: upstreams.first_byte_timeout,
            idle_timeout: upstreams.idle_timeout,
            ping_interval: upstreams.ping_interval,
            pool_idle_timeout: upstreams.pool_idle_timeout,
            pool_max_idle: upstreams.pool_max_idle,
            retry_budget: upstreams.retry_budget,
            max_tries: upstreams.max_tries,
            try_timeout: upstreams.try_timeout,
            health: rules(&upstreams.health),
            count_500: upstreams.health.count_500,
            panic_threshold: upstreams.health.panic_threshold,
            circuit: upstreams.circuit,
            upgrades: upstreams.upgrades.clone(),
            websocket_max_frame: upstreams.websocket_max_frame,
            websocket_max_message: upstreams.websocket_max_message,
            slow_start: upstreams.slow_start,
            upstream_drain_grace: upstreams.drain_grace,
            upstream_drain_spread: upstreams.drain_spread,
            drain_delay: server.drain_delay,
            drain_timeout: server.drain_timeout,
            drain_spread: server.drain_spread,
            max_connections,
            http2: server.http2,
            http2_limits: limits.http2,
        }
    }

    fn passes_upgrade(&self, protocol: &str) -> bool {
        self.upgrades.iter().any(|known| known.eq_ignore_ascii_case(protocol))
    }
}

/// When nodes are taken out of use, as those see it who count.
fn rules(health: &Health) -> Rules {
    Rules {
        consecutive_failures: health.consecutive_failures,
        failure_share: health.failure_share,
        failure_requests: health.failure_requests,
        failure_window: health.failure_window,
        ejection_time: health.ejection_time,
        max_ejection_time: health.max_ejection_time,
    }
}

/// FireFly's first form of URL.
pub struct Firefly {
    /// Opens its tokens.
    pub opener: Opener,
    /// What ends the names of its hosts.
    pub domain_suffix: String,
}

/// What all workers share.
pub struct Plane {
    /// From the configuration.
    pub settings: Settings,
    /// Who owns what.
    pub directory: Arc<Directory>,
    /// Reads what the directory in memory does not have; none where it has everything.
    pub misses: Option<Misses>,
    /// The instances that share the work.
    pub fleet: Arc<Fleet>,
    /// The keys that open sessions.
    pub keys: Arc<Keys>,
    /// Starts sessions for front ends, when they may.
    pub starter: Option<Starter>,
    /// Ends sessions.
    pub revoker: Revoker,
    /// Gets tokens.
    pub minter: Arc<Minter>,
    /// Lets requests begin, or wait, or not.
    pub admission: Admission,
    /// Has what does not run started.
    pub holds: hold::Holds,
    /// Connects to upstreams.
    pub dialer: Dialer,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Wall clock.
    pub clock: Clock,
    /// Where log lines go.
    pub log: Sink,
    /// The form of the line of each request; none for no lines.
    pub access_log: Option<LogFormat>,
    /// FireFly's first form of URL, when it is on.
    pub firefly: Option<Firefly>,
    /// TLS towards clients.
    pub tls: Option<ServerTls>,
    /// Set when the instance is going away: health says so, requests are still served.
    pub leaving: AtomicBool,
    /// Connections of clients and streams of HTTP/2 now.
    pub connections: AtomicUsize,
    /// WebSockets and other upgraded connections now.
    pub tunnels: AtomicUsize,
    /// Bodies that are held until it is known where they go.
    pub held: Arc<HeldLive>,
}

impl Plane {
    /// Whether the instance is going away.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whom requests for something of this organisation are taken from.
    pub(crate) fn guard_of(&self, org: &str) -> Guard {
        let snapshot = self.directory.snapshot();
        let own = snapshot.as_ref().and_then(|snapshot| snapshot.org(org)?.frontends.clone());
        self.settings.guard.with(own)
    }

    /// Whom a request is taken from that has shown no session: by the organisation in the host's name. Where the host
    /// belongs to all, a front end of any organisation counts as one, for what promises nothing of an organisation yet:
    /// preflights, which name none, and session start, which is held to its organisation's front ends in the end.
    pub(crate) fn guard_at(&self, head: &Head<'_>) -> Guard {
        if let Some(org) = org_of_host(&self.settings.hosts, head) {
            return self.guard_of(&org);
        }
        let origin = head.fields.first(Name::Origin).and_then(|origin| std::str::from_utf8(origin).ok());
        let is_own = |origin: &&str| self.directory.snapshot().is_some_and(|snapshot| snapshot.is_frontend(origin));
        let guard = &self.settings.guard;
        let own = origin.filter(|origin| !guard.is_frontend(origin.as_bytes())).filter(is_own);
        guard.with(own.map(|origin| Arc::new(Frontends::only(origin))))
    }
}
