//! From the tree of a configuration file to the checked [`Config`]: one function per section, then what concerns several.

mod admin;
mod autostart;
mod certificates;
mod credentials;
mod fleet;
mod health;
mod limits;
mod log;
mod postgres;
mod queue;
mod quotas;
mod server;
mod sql;
mod upstreams;

use super::mistake::Report;
use super::reader::{Item, Section};
use super::{
    Certificate, Config, DirectorySource, Embedding, Env, FireflyTables, FireflyV1, JWT_ALGORITHMS, Jwt, KeyRef,
    KeySource, MAX_KEY_ID_LEN, MAX_SESSION_LIFE, Mistakes, Postgres, Routing, Session, env, firefly, tree,
};
use crate::model::ids::is_valid_id;
use crate::model::url::{AllowedHosts, BaseUrl, Endpoint, is_host};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// The keys of every section, by the section's name; elements of `session.keys` have theirs under that name.
pub(super) mod keys {
    pub(in crate::config) use super::admin::KEYS as ADMIN;
    pub(in crate::config) use super::fleet::KEYS as FLEET;

    /// The sections themselves.
    pub(crate) const ROOT: &[&str] = &[
        "server",
        "admin",
        "directory",
        "session",
        "embedding",
        "routing",
        "upstreams",
        "limits",
        "quotas",
        "queue",
        "sql",
        "autostart",
        "fleet",
        "credentials",
        "log",
        "firefly",
    ];
    pub(crate) const SERVER: &[&str] = &[
        "listen",
        "workers",
        "public_url",
        "trusted_proxies",
        "http2",
        "proxy_protocol",
        "drain_delay",
        "drain_timeout",
        "drain_spread",
        "handover",
        "tls",
    ];
    pub(crate) const TLS: &[&str] = &["cert", "key", "certificates", "strict_sni", "ticket_keys"];
    pub(crate) const CERTIFICATE: &[&str] = &["cert", "key"];
    pub(crate) const DIRECTORY: &[&str] = &["source", "path", "postgres"];
    pub(crate) const POSTGRES: &[&str] = &[
        "url",
        "url_file",
        "url_env",
        "listen_url",
        "listen_url_file",
        "listen_url_env",
        "replicas",
        "max_replica_lag",
        "pool_size",
        "connect_timeout",
        "acquire_timeout",
        "statement_timeout",
        "resync_interval",
        "miss_timeout",
        "miss_interval",
    ];
    pub(crate) const SESSION: &[&str] = &["keys", "ttl", "idle_timeout", "jwt"];
    pub(crate) const SESSION_KEY: &[&str] = &["id", "file", "env", "derived"];
    pub(crate) const JWT: &[&str] = &[
        "issuer",
        "audience",
        "jwks_url",
        "algorithms",
        "refresh_interval",
        "unknown_kid_interval",
        "single_use",
        "max_lifetime",
        "org_claim",
    ];
    pub(crate) const EMBEDDING: &[&str] = &["frontend_origins", "cookieless", "cookieless_ttl"];
    pub(crate) const ROUTING: &[&str] = &["base_domain", "public_hosts"];
    pub(crate) const UPSTREAMS: &[&str] = &[
        "allowed_domains",
        "allow_private_addresses",
        "ca_file",
        "client_cert",
        "client_key",
        "connect_timeout",
        "try_timeout",
        "max_tries",
        "first_byte_timeout",
        "idle_timeout",
        "ping_interval",
        "pool_idle_timeout",
        "pool_max_idle",
        "retry_budget",
        "slow_start",
        "max_concurrent",
        "adaptive",
        "adaptive_min",
        "adaptive_max",
        "drain_grace",
        "drain_spread",
        "upgrades",
        "websocket_max_frame",
        "websocket_max_message",
        "health",
        "circuit",
    ];
    pub(crate) const LIMITS: &[&str] = &[
        "max_connections",
        "max_requests",
        "memory",
        "http2_streams",
        "http2_stream_window",
        "http2_connection_window",
        "http2_max_requests",
        "http2_max_age",
        "http2_resets",
        "http2_early_resets",
        "http2_faults",
        "header_bytes",
        "header_count",
        "header_timeout",
        "keep_alive_timeout",
        "max_connection_age",
        "body_idle_timeout",
        "tls_handshake_timeout",
        "body_bytes",
        "statement_bytes",
        "held_bytes",
        "held_bytes_per_org",
        "signed_body_bytes",
    ];
    pub(crate) const CREDENTIALS: &[&str] = &["mint_timeout", "refresh_idle", "assertion_keys"];
    pub(crate) const ASSERTION_KEY: &[&str] = &["id", "file", "env"];
    pub(crate) const LOG: &[&str] = &["format", "level", "access"];
    pub(crate) const FIREFLY: &[&str] = &["apex_domain", "v1", "encryption_key", "domain_suffix"];
    /// The two places of a key.
    pub(crate) const KEY_SOURCE: &[&str] = &["file", "env"];
}

/// Reads a text and checks it as a whole. The values are good only if there are no mistakes.
pub(super) fn config(text: &str, path: &Path, env: &Env) -> (Config, Result<(), Mistakes>) {
    let mut report = Report::new(path);
    let mut tree = tree::parse_file(text, &mut report);
    env::apply(&mut tree, env, &report);
    let config = all(&Section::root(&tree, &report, keys::ROOT), env);
    (config, report.finish())
}

/// Checks what FireFly's variables amount to.
pub(super) fn firefly(env: &Env) -> (Config, Result<(), Mistakes>) {
    let mut report = Report::new(Path::new(firefly::NAME));
    let mut tree = firefly::tree(env, &mut report);
    env::apply(&mut tree, env, &report);
    let config = all(&Section::root(&tree, &report, keys::ROOT), env);
    (config, report.finish())
}

fn all(root: &Section<'_>, env: &Env) -> Config {
    let server = server::server(&root.section("server", keys::SERVER), env);
    let directory = root.section("directory", keys::DIRECTORY);
    let has_fleet = directory.get("source").is_some_and(|source| source.as_text() == Some("postgres"));
    let upstreams = upstreams::upstreams(&root.section("upstreams", keys::UPSTREAMS), has_fleet);
    let postgres = postgres::postgres(&directory, env);
    let firefly = root.section("firefly", keys::FIREFLY);
    let apps = apps(&firefly, upstreams.allowed.private);
    let directory = self::directory(&directory, postgres.as_ref(), apps);
    let has_key = matches!(directory, DirectorySource::Firefly(_));
    Config {
        admin: admin::admin(&root.section("admin", keys::ADMIN), server.listen, env),
        server,
        directory,
        postgres,
        session: session(&root.section("session", keys::SESSION), has_key, &upstreams.allowed, env),
        embedding: embedding(&root.section("embedding", keys::EMBEDDING)),
        routing: routing(&root.section("routing", keys::ROUTING)),
        upstreams,
        limits: limits::limits(&root.section("limits", keys::LIMITS)),
        sql: sql::sql(&root.section("sql", sql::KEYS)),
        quotas: quotas::quotas(&root.section("quotas", quotas::KEYS)),
        queue: queue::queue(&root.section("queue", queue::KEYS)),
        fleet: fleet::fleet(&root.section("fleet", keys::FLEET)),
        autostart: autostart::autostart(&root.section("autostart", autostart::KEYS)),
        credentials: credentials::credentials(&root.section("credentials", keys::CREDENTIALS), env),
        log: log::log(&root.section("log", keys::LOG)),
        firefly_v1: firefly_v1(&firefly, env),
    }
}

fn embedding(section: &Section<'_>) -> Embedding {
    let is_on = section.or("cookieless", false, Item::boolean);
    let ttl = section.or("cookieless_ttl", Duration::from_secs(10 * 60), ttl);
    Embedding { frontend_origins: section.list("frontend_origins", origin), cookieless: is_on.then_some(ttl) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    File,
    Postgres,
    Firefly,
}

/// `apps` is where FireFly's apps may be, if that is said.
fn directory(section: &Section<'_>, postgres: Option<&Postgres>, apps: Option<AllowedHosts>) -> DirectorySource {
    let sources = [("file", Source::File), ("postgres", Source::Postgres), ("firefly", Source::Firefly)];
    let source = section.or("source", Source::File, |item| item.one_of(&sources));
    let path =
        section.get("path").and_then(|item| item.path()).unwrap_or_else(|| section.folder().join("directory.toml"));
    if source == Source::File {
        return DirectorySource::File { path };
    }
    let name = if source == Source::Postgres { "postgres" } else { "firefly" };
    if section.get("postgres").is_none() {
        section
            .lacks(format!("source = \"{name}\" needs a section [directory.postgres] with url = \"postgres://...\""));
    }
    if source == Source::Firefly && apps.is_none() {
        section.lacks("source = \"firefly\" needs apex_domain = \"aws.databricksapps.com\" in [firefly]");
    }
    match (postgres.cloned(), apps, source) {
        (Some(postgres), _, Source::Postgres) => DirectorySource::Postgres(postgres),
        (Some(postgres), apps, Source::Firefly) => {
            DirectorySource::Firefly(FireflyTables { postgres, apps: apps.unwrap_or_default() })
        }
        _ => DirectorySource::File { path },
    }
}

/// Where FireFly's apps may be: at the apex and below it, and for local work on this machine.
fn apps(section: &Section<'_>, private: bool) -> Option<AllowedHosts> {
    let apex = host(&section.get("apex_domain")?).unwrap_or_default();
    let local = firefly::LOCAL.iter().filter(|_| private).map(|name| (*name).to_owned());
    Some(AllowedHosts { domains: std::iter::once(apex).chain(local).collect(), private })
}

/// `has_key` says that there is a key without `keys`.
fn session(section: &Section<'_>, has_key: bool, allowed: &AllowedHosts, env: &Env) -> Session {
    let advice = "write keys = [{ id = \"k1\", file = \"session.key\" }] with a key made by `embedgate key generate`";
    let keys = if has_key { section.get("keys") } else { section.require("keys", advice) };
    if let Some(item) = keys.as_ref().filter(|item| item.is_empty_array() && !has_key) {
        item.wrong(format!("needs at least one key; {advice}"));
    }
    let mut ids = BTreeSet::new();
    let keys = keys.map(|item| item.sections(keys::SESSION_KEY)).unwrap_or_default();
    Session {
        keys: keys.iter().filter_map(|key| key_ref(key, &mut ids, env)).collect(),
        ttl: section.or("ttl", Duration::from_secs(60 * 60), ttl),
        idle_timeout: section.or("idle_timeout", Duration::from_secs(30 * 60), idle_timeout),
        jwt: section.optional("jwt", keys::JWT).map(|jwt| self::jwt(&jwt, allowed)),
    }
}

fn ttl(item: &Item<'_>) -> Option<Duration> {
    let ttl = item.duration()?;
    if ttl > MAX_SESSION_LIFE {
        item.wrong("must be at most 30d; revocations are remembered for that long");
        return None;
    }
    Some(ttl)
}

/// Sessions count whole seconds.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

fn idle_timeout(item: &Item<'_>) -> Option<Duration> {
    let timeout = item.duration()?;
    if timeout < MIN_IDLE_TIMEOUT {
        item.wrong("must be at least 1s; write a duration such as \"30m\"");
        return None;
    }
    Some(timeout)
}

fn key_ref(section: &Section<'_>, ids: &mut BTreeSet<String>, env: &Env) -> Option<KeyRef> {
    let (source, id) = (key_source(section, env), key_id(section, ids)?);
    let derived = section.or("derived", false, Item::boolean);
    Some(KeyRef { id, source: source?, derived })
}

/// The id of a key among others.
fn key_id(section: &Section<'_>, ids: &mut BTreeSet<String>) -> Option<String> {
    let item = section.require("id", "write id = \"k1\", a short name that is new for every new key")?;
    let id = item.text()?;
    if !is_valid_id(id) || id.len() > MAX_KEY_ID_LEN {
        item.wrong(format!("a key id is 1 to {MAX_KEY_ID_LEN} characters of A-Z, a-z, 0-9, '-' and '_'"));
        return None;
    }
    if !ids.insert(id.to_owned()) {
        item.wrong(format!("another key has the id {id:?} already; give every key its own"));
    }
    Some(id.to_owned())
}

/// The place of a key: a file or a variable, and not both.
fn key_source(section: &Section<'_>, env: &Env) -> Option<KeySource> {
    match (section.get("file"), section.get("env")) {
        (Some(file), None) => file.path().map(KeySource::File),
        (None, Some(item)) => {
            let name = item.text()?;
            if env.get(name).is_none_or(String::is_empty) {
                item.wrong(format!("the environment variable {name:?} is not set or empty"));
            }
            Some(KeySource::Env(name.to_owned()))
        }
        (Some(_), Some(item)) => {
            item.wrong("has both a file and an env; keep one of them");
            None
        }
        (None, None) => {
            section.lacks("does not say where the key is; write file = \"...\" or env = \"...\"");
            None
        }
    }
}

fn jwt(section: &Section<'_>, allowed: &AllowedHosts) -> Jwt {
    let text = |key, advice| {
        let item = section.require(key, advice);
        item.and_then(|item| item.text().map(str::to_owned)).unwrap_or_default()
    };
    let algorithms = section.get("algorithms").map(|item| {
        if item.is_empty_array() {
            item.wrong("needs at least one algorithm, such as \"EdDSA\"");
        }
        item.items().iter().filter_map(algorithm).collect()
    });
    let jwks_url = section.require("jwks_url", "write the URL of the front end's public keys");
    Jwt {
        issuer: text("issuer", "write the iss that the front end puts into its JWTs"),
        audience: text("audience", "write the aud that the front end puts into its JWTs"),
        jwks_url: jwks_url
            .and_then(|item| self::jwks_url(&item, allowed))
            .unwrap_or_else(|| BaseUrl::localhost(80).into()),
        algorithms: algorithms.unwrap_or_else(|| ["EdDSA", "ES256", "RS256"].map(str::to_owned).to_vec()),
        refresh_interval: section.seconds("refresh_interval", 5 * 60),
        unknown_kid_interval: section.seconds("unknown_kid_interval", 30),
        single_use: section.or("single_use", false, Item::boolean),
        max_lifetime: section.seconds("max_lifetime", 60 * 60),
        org_claim: section.get("org_claim").and_then(|item| item.text().map(str::to_owned)),
    }
}

fn algorithm(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.eq_ignore_ascii_case("none") || text.to_ascii_uppercase().starts_with("HS") {
        item.wrong(format!("{text:?} does not prove who signed; known here: {}", JWT_ALGORITHMS.join(", ")));
        return None;
    }
    item.one_of(&JWT_ALGORITHMS.map(|name| (name, name))).map(str::to_owned)
}

/// Whoever can change the answer can sign sessions, hence no plain http through a network.
fn jwks_url(item: &Item<'_>, allowed: &AllowedHosts) -> Option<Endpoint> {
    let endpoint = item.parsed(Endpoint::parse)?;
    let base = endpoint.base();
    if base.scheme().as_str() == "http" && !base.is_loopback() && !allowed.private {
        item.wrong("plain http lets anybody on the way sign sessions; use https, or a loopback address for local work");
    }
    Some(endpoint)
}

fn routing(section: &Section<'_>) -> Routing {
    let domain = |item: &Item<'_>| {
        let domain = host(item)?;
        if domain.parse::<IpAddr>().is_ok() {
            item.wrong("an address has no names below it; write a domain such as \"apps.example.com\"");
        }
        Some(Some(domain))
    };
    let mut any_host = false;
    let public_hosts = section.list("public_hosts", |item| {
        let is_any = item.as_text() == Some("*");
        any_host |= is_any;
        if is_any { None } else { host(item) }
    });
    Routing { base_domain: section.or("base_domain", None, domain), public_hosts, any_host }
}

fn firefly_v1(section: &Section<'_>, env: &Env) -> Option<FireflyV1> {
    let key = section.optional("encryption_key", keys::KEY_SOURCE).and_then(|key| key_source(&key, env));
    let domain_suffix = section.or("domain_suffix", "com".to_owned(), host);
    if !section.or("v1", false, Item::boolean) {
        return None;
    }
    let advice = "v1 = true needs it; write encryption_key = { env = \"ENCRYPTION_KEY\" } or { file = \"...\" }";
    section.require("encryption_key", advice)?;
    Some(FireflyV1 { key: key?, domain_suffix })
}

fn socket(item: &Item<'_>) -> Option<SocketAddr> {
    let text = item.text()?;
    let address = text.parse().ok();
    if address.is_none() {
        item.wrong(format!(
            "{text:?} is not an address with a port; write one such as \"0.0.0.0:8080\" or \"[::1]:8080\""
        ));
    }
    address
}

fn origin(item: &Item<'_>) -> Option<BaseUrl> {
    item.parsed(BaseUrl::parse)
}

/// A host name in lower case, or an address.
fn host(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let host = text.to_ascii_lowercase();
    if is_host(&host) {
        return Some(host);
    }
    let bare = host.trim_start_matches("*.").trim_matches(['.', '[', ']']);
    let advice = if bare != host && is_host(bare) { bare } else { "apps.example.com" };
    item.wrong(format!("{text:?} is not a host name, without scheme, port, dot or star around it; write {advice:?}"));
    None
}

fn required_path(section: &Section<'_>, key: &str, advice: &str) -> std::path::PathBuf {
    section.require(key, advice).and_then(|item| item.path()).unwrap_or_default()
}
