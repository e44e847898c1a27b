//! The configuration: a TOML file and environment variables, checked as a whole, with all mistakes at once.
//!
//! `config/embedgate.toml` explains every key; here stand the values after the checks.

mod admin;
pub mod duration;
pub mod env;
pub mod firefly;
mod fleet;
mod health;
pub mod ipnet;
mod limits;
pub mod mistake;
mod parse;
pub mod reader;
#[cfg(test)]
mod tests;
pub mod tree;

pub use admin::Admin;
pub use env::Env;
pub use fleet::Fleet;
pub use health::{Circuit, Health, Prober};
pub use ipnet::IpNet;
pub use limits::{Http2Limits, Limits, Queue, Quotas};
pub use mistake::{Mistake, Mistakes};

use crate::model::url::{AllowedHosts, BaseUrl, Endpoint};
use crate::secret::Secret;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything an operator can set. Paths are relative to the folder of the configuration file when they were written so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The data listener.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Who owns what.
    pub directory: DirectorySource,
    /// The database, whether the directory is read from it or not: `embedgate db` works on it either way.
    pub postgres: Option<Postgres>,
    /// Sealed sessions and who may start them.
    pub session: Session,
    /// The pages that may embed apps.
    pub embedding: Embedding,
    /// Host names.
    pub routing: Routing,
    /// Connections to apps, warehouses and workspaces.
    pub upstreams: Upstreams,
    /// What a client may use up.
    pub limits: Limits,
    /// `sql`.
    pub sql: Sql,
    /// What organisations and users may have under way.
    pub quotas: Quotas,
    /// How requests wait that are over a limit.
    pub queue: Queue,
    /// What is started when somebody asks for it.
    pub autostart: AutoStart,
    /// What instances tell one another.
    pub fleet: Fleet,
    /// Tokens of service principals.
    pub credentials: Credentials,
    /// Log lines.
    pub log: Log,
    /// `FireFly`'s first form of links, when it is switched on.
    pub firefly_v1: Option<FireflyV1>,
}

/// The data listener: where browsers and programs arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Address and port; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Number of workers; 0 means one per core.
    pub workers: usize,
    /// The gateway as browsers see it.
    pub public_url: BaseUrl,
    /// Proxies in front whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether clients may speak HTTP/2 too.
    pub http2: bool,
    /// Whether the proxies in front begin every connection with a PROXY header.
    pub proxy_protocol: bool,
    /// Certificates and keys; absent means plain HTTP.
    pub tls: Option<Tls>,
    /// Where the next process asks for the listening sockets; absent means that they are not handed over.
    pub handover: Option<PathBuf>,
    /// How long readiness already fails before connections are ended; may be zero.
    pub drain_delay: Duration,
    /// How long open requests and streams may then go on.
    pub drain_timeout: Duration,
    /// Over how much of that time WebSockets are asked to leave; may be zero.
    pub drain_spread: Duration,
}

/// The data listener's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The one for clients that ask for none of the names.
    pub default: Certificate,
    /// More, each for the names in it; at most [`MAX_CERTIFICATES`].
    pub certificates: Vec<Certificate>,
    /// Whether clients that ask for none of the names are refused instead.
    pub strict_sni: bool,
    /// Secrets of the tickets that instances share: the first seals, all open; at most [`MAX_TICKET_KEYS`]. None means that
    /// each process has its own.
    pub ticket_keys: Vec<KeySource>,
}

/// How many secrets of tickets there may be.
pub const MAX_TICKET_KEYS: usize = 8;

/// How many certificates the data listener may have besides its default one.
pub const MAX_CERTIFICATES: usize = 1000;

/// The files of a certificate, in PEM. They are not read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where the directory is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectorySource {
    /// A TOML file.
    File {
        /// The file. It is not read here.
        path: PathBuf,
    },
    /// A Postgres database.
    Postgres(Postgres),
    /// The tables of `FireFly`'s front end, where they are.
    Firefly(FireflyTables),
}

/// The tables of `FireFly`'s front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FireflyTables {
    /// Their database.
    pub postgres: Postgres,
    /// Where apps may be; workspaces are held to `upstreams.allowed_domains` alone.
    pub apps: AllowedHosts,
}

/// The database of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Where rows are read. May be a pooler that hands connections out per transaction.
    pub url: UrlSource,
    /// Where changes are listened for: a connection of one's own to the primary. Absent means `url`.
    pub listen_url: Option<UrlSource>,
    /// Standbys that rows are read from while they are fresh, and that may become the primary.
    pub replicas: Vec<UrlSource>,
    /// A replica is waited for this long.
    pub max_replica_lag: Duration,
    /// Connections to each server at most, besides the one that listens.
    pub pool_size: usize,
    /// For a connection to be made, TLS and authentication included.
    pub connect_timeout: Duration,
    /// For a connection of the pool to be free.
    pub acquire_timeout: Duration,
    /// For one statement.
    pub statement_timeout: Duration,
    /// Versions are compared this often, whatever was heard.
    pub resync_interval: Duration,
    /// A request for what is not in memory waits this long for a read.
    pub miss_timeout: Duration,
    /// Least time between two such reads of an organisation.
    pub miss_interval: Duration,
}

/// Where the URL of a database is kept. It is parsed where it is used, so that a changed file counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlSource {
    /// In the configuration; a secret, because a password may stand in it.
    Text(Secret),
    /// In a file. It is not read here.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

/// Sealed sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// With unique ids: the first seals, all open. None only with `FireFly`'s tables, for the key that is kept beside them.
    pub keys: Vec<KeyRef>,
    /// How long a session lasts at most.
    pub ttl: Duration,
    /// How long it lasts without a request.
    pub idle_timeout: Duration,
    /// The front end whose JWTs are exchanged for sessions; absent means none are.
    pub jwt: Option<Jwt>,
}

/// A key by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRef {
    /// Stands readable in every token sealed with the key; at most [`MAX_KEY_ID_LEN`] characters.
    pub id: String,
    /// Where the key is.
    pub source: KeySource,
    /// Whether it is not this key but one derived from it, which leaves the key itself to its other use.
    pub derived: bool,
}

/// Longest id of a session key, in bytes: it travels in every token.
pub const MAX_KEY_ID_LEN: usize = 16;

/// The longest life of a session.
pub const MAX_SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where a key is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file. It is not read here.
    File(PathBuf),
    /// In an environment variable, which was set and not empty when the configuration was read.
    Env(String),
}

/// Who signs the JWTs that start sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// The `iss` that is demanded, compared letter by letter.
    pub issuer: String,
    /// The `aud` that is demanded, compared letter by letter.
    pub audience: String,
    /// Where the signer's public keys are, as a JWK set (RFC 7517 5).
    pub jwks_url: Endpoint,
    /// Signatures that are accepted, each out of [`JWT_ALGORITHMS`]; at least one.
    pub algorithms: Vec<String>,
    /// How old the keys may become before they are fetched again.
    pub refresh_interval: Duration,
    /// Least time between two fetches because of a key id that is not known.
    pub unknown_kid_interval: Duration,
    /// Whether a JWT has to have an id (`jti`), so that it can be used once only.
    pub single_use: bool,
    /// The longest time from a JWT's `iat` to its `exp`.
    pub max_lifetime: Duration,
    /// The claim that holds the organisations of the user, a text or a list; absent means that the directory alone says who
    /// may come in.
    pub org_claim: Option<String>,
}

/// The signatures a JWT may have (RFC 7518 3.1, RFC 8037 3.1). All are asymmetric: `none` proves nothing, and with `HS*`
/// whoever can check a token could also write one.
pub const JWT_ALGORITHMS: [&str; 9] = ["EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// The pages that may embed apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// Their origins.
    pub frontend_origins: Vec<BaseUrl>,
    /// How long a session lasts at most that is in the app's address, for browsers that keep no cookie; absent means that
    /// there are none.
    pub cookieless: Option<Duration>,
}

/// Host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Apps and engines answer at `{id}--{org}.{base_domain}`; absent means path mode only. Lower case.
    pub base_domain: Option<String>,
    /// Names, besides that of the public URL, at which the public host answers. Lower case, without ports.
    pub public_hosts: Vec<String>,
    /// Whether it answers at every name.
    pub any_host: bool,
}

/// Connections to apps, warehouses and workspaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstreams {
    /// Which hosts requests and credentials may be sent to.
    pub allowed: AllowedHosts,
    /// Certificates, in PEM, to be trusted besides the public ones. The file is not read here.
    pub ca_file: Option<PathBuf>,
    /// What the gateway proves itself with to upstreams that ask for a certificate.
    pub client: Option<Certificate>,
    /// For name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// The same as long as there is another node to go to.
    pub try_timeout: Duration,
    /// Nodes that one request may be tried on.
    pub max_tries: usize,
    /// When nodes are taken out of use.
    pub health: Health,
    /// How much they may have to do.
    pub circuit: Circuit,
    /// From the end of a request to the head of its response.
    pub first_byte_timeout: Duration,
    /// How long a response body or a tunnel may be silent.
    pub idle_timeout: Duration,
    /// How long an unused connection is kept.
    pub pool_idle_timeout: Duration,
    /// How long nothing may move on a WebSocket before its client is pinged; zero for never.
    pub ping_interval: Duration,
    /// Unused connections kept per node and worker.
    pub pool_max_idle: usize,
    /// How many of a thousand requests may be sent a second time.
    pub retry_budget: u32,
    /// How long the share of nodes and clusters grows that join others; zero for not at all.
    pub slow_start: Duration,
    /// Requests, streams and tunnels on an upstream at once; 0 means no limit.
    pub max_concurrent: u32,
    /// Whether an upstream's latency sets its limit.
    pub adaptive: bool,
    /// The least limit that is set so; at least 1.
    pub adaptive_min: u32,
    /// The largest one; at least that.
    pub adaptive_max: u32,
    /// How long WebSockets stay on a node whose cluster stops running; may be zero.
    pub drain_grace: Duration,
    /// Over how long a time they are then asked to leave; may be zero.
    pub drain_spread: Duration,
    /// Protocols a client may upgrade to, in lower case.
    pub upgrades: Vec<String>,
    /// Largest payload of one WebSocket frame, in bytes; 0 means no limit.
    pub websocket_max_frame: u64,
    /// Largest sum of the payloads of all frames of a WebSocket message, in bytes; 0 means no limit.
    pub websocket_max_message: u64,
}

/// What is added to statements and done for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sql {
    /// How the backend is told whose a statement is.
    pub attribution: Attribution,
    /// Whether statements are cancelled whose clients have gone before the answer.
    pub cancel_abandoned: bool,
    /// Whether answers about statements are asked for without compression.
    pub plain_answers: bool,
}

/// How the history of a backend learns whose a statement is, besides the fields that every request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribution {
    /// Not at all: a statement is passed on byte by byte.
    Off,
    /// By tags that are put beside the statement.
    Tags,
    /// By a comment in front of its text.
    Comment,
}

/// What is started when somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoStart {
    /// How long a request for SQL waits.
    pub hold_sql: Duration,
    /// How long any other request waits that gets no page.
    pub hold_api: Duration,
    /// How many requests wait for one upstream.
    pub queue: u32,
    /// How many requests wait for all upstreams of an organisation.
    pub queue_per_org: u32,
    /// How many requests wait at all.
    pub queue_total: u32,
    /// How often something on its way up is looked at.
    pub poll_interval: Duration,
    /// How often something that is up and in use is looked at.
    pub check_interval: Duration,
    /// How long something may take to come up.
    pub start_timeout: Duration,
    /// How long one call to whoever starts things may take.
    pub call_timeout: Duration,
}

/// Tokens of service principals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// For a token endpoint to answer.
    pub mint_timeout: Duration,
    /// How long an unused principal's token is still renewed ahead of time.
    pub refresh_idle: Duration,
    /// With unique ids: the first signs what the gateway says of principals, the public halves of all are published.
    pub assertion_keys: Vec<AssertionKey>,
}

/// A key that signs, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssertionKey {
    /// Stands in every JWT that is signed with the key.
    pub id: String,
    /// Where the key is.
    pub source: KeySource,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Their form.
    pub format: LogFormat,
    /// `level` or `target=level`, several with commas between them.
    pub level: String,
    /// Whether every request gets a line.
    pub access: bool,
}

/// `FireFly`'s first form of links, with the encrypted token in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FireflyV1 {
    /// The key its tokens are encrypted with.
    pub key: KeySource,
    /// The end of every app's host, lower case, without a leading dot.
    pub domain_suffix: String,
}

impl Config {
    /// Reads and checks a file. `env` holds the overrides, and the variables in which keys are kept.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn load(path: &Path, env: &Env) -> Result<Self, Mistakes> {
        let text = std::fs::read_to_string(path).map_err(|error| Mistakes::unreadable(path, &error))?;
        Self::parse(&text, path, env)
    }

    /// Checks a text as if it stood in the file `path`, which need not exist.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn parse(text: &str, path: &Path, env: &Env) -> Result<Self, Mistakes> {
        let (config, checked) = parse::config(text, path, env);
        checked.map(|()| config)
    }

    /// The configuration that `FireFly`'s own variables amount to, with overrides put over it.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn of_firefly(env: &Env) -> Result<Self, Mistakes> {
        let (config, checked) = parse::firefly(env);
        checked.map(|()| config)
    }

    /// As [`Config::of_firefly`], for somebody who wants to see what else is wrong. Nothing may run on such values.
    #[must_use]
    pub fn examine_firefly(env: &Env) -> (Self, Vec<Mistake>) {
        let (config, checked) = parse::firefly(env);
        (config, checked.err().map(|mistakes| mistakes.0).unwrap_or_default())
    }

    /// Reads and checks a file for somebody who wants to see what else is wrong: the values, with defaults in the place
    /// of wrong ones, and the mistakes. Nothing may run on such values.
    ///
    /// # Errors
    /// When there is no file to read.
    pub fn examine(path: &Path, env: &Env) -> Result<(Self, Vec<Mistake>), Mistakes> {
        let text = std::fs::read_to_string(path).map_err(|error| Mistakes::unreadable(path, &error))?;
        let (config, checked) = parse::config(&text, path, env);
        Ok((config, checked.err().map(|mistakes| mistakes.0).unwrap_or_default()))
    }
}
