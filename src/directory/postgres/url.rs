//! URLs of databases, as libpq's users write them, with TLS rules of our own: verified or off, never in between.

use crate::config::{Env, Postgres, UrlSource};
use crate::model::url::is_loopback_name;
use crate::secret::Secret;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Why a URL cannot be used. Never with the URL in it, for a password may stand there.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Its file cannot be read.
    #[error("cannot read {}: {cause}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Its variable is not set.
    #[error("the environment variable {0:?} is not set")]
    Env(String),
    /// What its variable holds.
    #[error("the environment variable {name:?}: {cause}")]
    InEnv {
        /// The variable.
        name: String,
        /// What is wrong with it.
        cause: Box<UrlError>,
    },
    /// Another form.
    #[error("is not a Postgres URL; write one such as postgres://user@host:5432/database, with %XX for odd characters")]
    Malformed,
    /// A parameter that is not known, or has a value that is not.
    #[error("{0}")]
    Parameter(String),
    /// A TLS mode that may end in plain text.
    #[error("sslmode={0} may fall back to plain text; write sslmode=require (verified), or sslmode=disable")]
    Opportunistic(String),
}

/// Whether TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// Always, with the server's name and chain verified.
    Verified {
        /// The roots to trust; absent means the public ones.
        roots: Option<PathBuf>,
    },
}

/// A database that can be connected to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Everything but TLS.
    pub config: Config,
    /// TLS.
    pub tls: Tls,
}

impl Target {
    /// Hosts and ports, for messages.
    #[must_use]
    pub fn at(&self) -> String {
        let ports = self.config.get_ports();
        let shown = |(index, host): (usize, &Host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("{} (port {port})", path.display()),
            }
        };
        self.config.get_hosts().iter().enumerate().map(shown).collect::<Vec<_>>().join(", ")
    }

    /// How many hosts are tried in turn.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        self.config.get_hosts().len().max(1) as u32
    }

    /// The same under another name in `pg_stat_activity`, unless the URL gives one: so that the connection that listens
    /// is told apart.
    #[must_use]
    pub fn listening(&self) -> Self {
        self.named(LISTENER_NAME)
    }

    /// As [`Self::listening`], for those that write.
    #[must_use]
    pub fn writing(&self) -> Self {
        self.named(WRITER_NAME)
    }

    fn named(&self, name: &str) -> Self {
        let mut target = self.clone();
        if target.config.get_application_name() == Some(NAME) {
            target.config.application_name(name);
        }
        target
    }

    /// One target for each of the hosts.
    fn each(&self) -> impl Iterator<Item = Self> {
        let one = |index| Self { config: single(&self.config, index), tls: self.tls.clone() };
        (0..self.config.get_hosts().len()).map(one)
    }
}

/// Everything of a configuration, with one of its hosts.
fn single(all: &Config, index: usize) -> Config {
    let mut one = Config::new();
    match &all.get_hosts()[index] {
        Host::Tcp(name) => one.host(name),
        #[cfg(unix)]
        Host::Unix(path) => one.host_path(path),
    };
    all.get_hostaddrs().get(index).map(|address| one.hostaddr(*address));
    all.get_ports().get(index).or(all.get_ports().first()).map(|port| one.port(*port));
    all.get_user().map(|user| one.user(user));
    all.get_password().map(|password| one.password(password));
    all.get_dbname().map(|name| one.dbname(name));
    all.get_options().map(|options| one.options(options));
    all.get_application_name().map(|name| one.application_name(name));
    all.get_connect_timeout().map(|limit| one.connect_timeout(*limit));
    one.ssl_mode(all.get_ssl_mode()).ssl_negotiation(all.get_ssl_negotiation());
    one.channel_binding(all.get_channel_binding());
    limit(&mut one);
    one
}

/// The database that rows are read from.
///
/// # Errors
/// [`super::Error::Url`].
pub fn rows(settings: &Postgres, env: &Env) -> Result<Target, super::Error> {
    resolve("url", &settings.url, settings.connect_timeout, env)
}

/// A replica, by its place in the configuration.
///
/// # Errors
/// [`super::Error::Url`].
pub fn replica(settings: &Postgres, env: &Env, index: usize) -> Result<Target, super::Error> {
    resolve(REPLICAS[index.min(REPLICAS.len() - 1)], &settings.replicas[index], settings.connect_timeout, env)
}

/// How the replicas are called in messages; the configuration takes no more.
const REPLICAS: [&str; 8] = [
    "replicas[#1]",
    "replicas[#2]",
    "replicas[#3]",
    "replicas[#4]",
    "replicas[#5]",
    "replicas[#6]",
    "replicas[#7]",
    "replicas[#8]",
];

/// The servers that may be the primary, each with the key of its URL: those of the URL to listen at, and the replicas,
/// for one of them may have been promoted.
///
/// # Errors
/// [`super::Error::Url`].
pub fn candidates(settings: &Postgres, env: &Env) -> Result<Vec<(&'static str, Target)>, super::Error> {
    let source = settings.listen_url.as_ref().unwrap_or(&settings.url);
    let key = listen_key(settings);
    let mut all: Vec<_> = resolve(key, source, settings.connect_timeout, env)?.each().map(|one| (key, one)).collect();
    for index in 0..settings.replicas.len() {
        let key = REPLICAS[index.min(REPLICAS.len() - 1)];
        all.extend(replica(settings, env, index)?.each().map(|one| (key, one)));
    }
    Ok(all)
}

/// The key under which the URL to listen at stands.
fn listen_key(settings: &Postgres) -> &'static str {
    if settings.listen_url.is_some() { "listen_url" } else { "url" }
}

fn resolve(key: &'static str, source: &UrlSource, timeout: Duration, env: &Env) -> Result<Target, super::Error> {
    let failed = |cause| super::Error::Url { key, cause };
    let named = |cause| match source {
        UrlSource::Env(name) => UrlError::InEnv { name: name.clone(), cause: Box::new(cause) },
        UrlSource::Text(_) | UrlSource::File(_) => cause,
    };
    let text = text(source, env).map_err(failed)?;
    let mut target = parse(text.expose().trim()).map_err(|cause| failed(named(cause)))?;
    target.config.connect_timeout(timeout);
    Ok(target)
}

fn text(source: &UrlSource, env: &Env) -> Result<Secret, UrlError> {
    match source {
        UrlSource::Text(text) => Ok(text.clone()),
        UrlSource::File(path) => {
            fs::read_to_string(path).map(Secret::new).map_err(|cause| UrlError::File { path: path.clone(), cause })
        }
        UrlSource::Env(name) => env.get(name).cloned().map(Secret::new).ok_or_else(|| UrlError::Env(name.clone())),
    }
}

/// How connections are called in `pg_stat_activity`, unless the URL says otherwise.
const NAME: &str = "embedgate";
/// The same for the one that listens.
const LISTENER_NAME: &str = "embedgate listener";
/// The same for those that write.
const WRITER_NAME: &str = "embedgate writer";

/// Parameters of libpq that mean nothing here.
const IGNORED: [&str; 6] = ["gssencmode", "sslcompression", "sslsni", "sslcrl", "krbsrvname", "passfile"];
/// Parameters of pgx, with which FireFly's proxy reads the same URL, that are about its own pool and statements.
const IGNORED_OF_PGX: [&str; 10] = [
    "pool_max_conns",
    "pool_min_conns",
    "pool_min_idle_conns",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_max_conn_idle_time",
    "pool_health_check_period",
    "default_query_exec_mode",
    "statement_cache_capacity",
    "description_cache_capacity",
];
/// Parameters of libpq that would mean something and are not part of this version.
const LACKING: [&str; 4] = ["sslcert", "sslkey", "sslpassword", "service"];

/// Parses a URL.
///
/// # Errors
/// [`UrlError`].
pub fn parse(text: &str) -> Result<Target, UrlError> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(UrlError::Malformed);
    }
    let (base, query) = text.split_once('?').unwrap_or((text, ""));
    let mut asked = Asked::default();
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if let Some(pair) = asked.take(pair)? {
            kept.push(pair);
        }
    }
    let text = Secret::new(if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) });
    let mut config: Config = text.expose().parse().map_err(|_| UrlError::Malformed)?;
    if config.get_hosts().is_empty() {
        return Err(UrlError::Malformed);
    }
    let tls = asked.tls(is_local(&config))?;
    config.ssl_mode(if tls == Tls::Off { SslMode::Disable } else { SslMode::Require });
    limit(&mut config);
    Ok(Target { config, tls })
}

/// A peer that vanished is noticed within a minute; two hours are the system's default.
fn limit(config: &mut Config) {
    config.keepalives(true).keepalives_idle(Duration::from_secs(30));
    config.keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
    config.tcp_user_timeout(Duration::from_secs(30));
    if config.get_application_name().is_none() {
        config.application_name(NAME);
    }
}

/// Whether every host is this machine.
fn is_local(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => is_loopback_name(name),
        #[cfg(unix)]
        Host::Unix(_) => true,
    });
    named && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

/// What a URL says of TLS.
#[derive(Default)]
struct Asked {
    mode: Option<String>,
    roots: Option<String>,
}

impl Asked {
    /// Takes a parameter that is ours; gives back one that the driver understands.
    fn take(&mut self, pair: &str) -> Result<Option<String>, UrlError> {
        let (key, value) = pair.split_once('=').ok_or(UrlError::Malformed)?;
        // What is no name of a parameter may be the rest of a password with an odd character in it: it is not shown.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Err(UrlError::Malformed);
        }
        let not_here = || UrlError::Parameter(format!("the parameter {key} is not part of this version; remove it"));
        match key {
            "sslmode" => self.mode = Some(decoded(value)?),
            "sslrootcert" => self.roots = Some(decoded(value)?),
            "target_session_attrs" if value == "primary" => return Ok(Some(format!("{key}=read-write"))),
            _ if IGNORED.contains(&key) || IGNORED_OF_PGX.contains(&key) => {}
            _ if LACKING.contains(&key) => return Err(not_here()),
            _ => {
                let alone = format!("postgres://host?{pair}").parse::<Config>();
                let wrong = || format!("the parameter {key} is not known, or has a value that is not");
                return if alone.is_ok() { Ok(Some(pair.to_owned())) } else { Err(UrlError::Parameter(wrong())) };
            }
        }
        Ok(None)
    }

    fn tls(self, is_local: bool) -> Result<Tls, UrlError> {
        let roots = self.roots.filter(|roots| roots != "system").map(PathBuf::from);
        match self.mode.as_deref() {
            Some("disable") => Ok(Tls::Off),
            Some("prefer" | "allow") | None if is_local && roots.is_none() => Ok(Tls::Off),
            Some("require" | "verify-ca" | "verify-full") | None => Ok(Tls::Verified { roots }),
            Some(mode @ ("prefer" | "allow")) => Err(UrlError::Opportunistic(mode.to_owned())),
            Some(_) => Err(UrlError::Parameter("sslmode is disable, require, verify-ca or verify-full".to_owned())),
        }
    }
}

/// Without `%XX` (RFC 3986 2.1).
fn decoded(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.split_at_checked(2).ok_or(UrlError::Malformed)?;
        let value = std::str::from_utf8(digits.0).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.ok_or(UrlError::Malformed)?);
        rest = digits.1;
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(text: &str) -> Tls {
        parse(text).unwrap().tls
    }

    #[test]
    fn tls_is_verified_or_off() {
        let public = Tls::Verified { roots: None };
        for (url, expected) in [
            ("postgres://u@db.example.com/d", public.clone()),
            ("postgres://u@db.example.com/d?sslmode=require", public.clone()),
            ("postgres://u@db.example.com/d?sslmode=verify-full&sslrootcert=system", public.clone()),
            ("postgres://u@db.example.com/d?sslmode=disable", Tls::Off),
            ("postgres://u@127.0.0.1:5433/d", Tls::Off),
            ("postgresql://u@localhost/d?sslmode=prefer", Tls::Off),
            ("postgres://u@localhost/d?sslmode=require", public.clone()),
            ("postgres://u@localhost,db.example.com/d", public),
            ("postgres://u@%2Frun%2Fpostgresql/d", Tls::Off),
            ("postgres://u@127.0.0.1/d?pool_max_conns=10&default_query_exec_mode=simple_protocol", Tls::Off),
        ] {
            assert_eq!(tls(url), expected, "{url}");
        }
        let roots = Tls::Verified { roots: Some("/etc/a b.pem".into()) };
        assert_eq!(tls("postgres://u@h/d?sslmode=verify-ca&sslrootcert=%2Fetc/a%20b.pem"), roots);
        assert!(matches!(parse("postgres://u@h/d?sslmode=prefer"), Err(UrlError::Opportunistic(_))));
    }

    #[test]
    fn parameters_of_the_driver_go_through() {
        let target = parse("postgres://u:p%40@a,b:6432/d?application_name=x&target_session_attrs=primary").unwrap();
        assert_eq!(target.config.get_application_name(), Some("x"));
        assert_eq!(target.config.get_password(), Some(&b"p@"[..]));
        assert_eq!(target.config.get_target_session_attrs(), tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        assert_eq!(parse("postgres://u@h:99/d").unwrap().at(), "h:99");
        assert_eq!(parse("postgres://u@h/d").unwrap().config.get_application_name(), Some("embedgate"));
    }

    #[test]
    fn every_host_is_a_candidate_with_all_that_was_said() {
        let all = parse("postgres://u:p@a,b:6432/d?application_name=x&sslrootcert=/r&options=-cx%3Dy").unwrap();
        let each: Vec<_> = all.each().collect();
        assert_eq!(each.iter().map(Target::at).collect::<Vec<_>>(), ["a:5432", "b:6432"]);
        for one in each {
            assert_eq!((one.hosts(), &one.tls), (1, &all.tls));
            let with_hosts = Config::clone(&all.config);
            let same = |of: fn(&Config) -> String| assert_eq!(of(&one.config), of(&with_hosts));
            same(|config| format!("{:?} {:?}", config.get_user(), config.get_password()));
            same(|config| format!("{:?} {:?}", config.get_dbname(), config.get_options()));
            same(|config| format!("{:?} {:?}", config.get_application_name(), config.get_ssl_mode()));
            same(|config| format!("{:?} {:?}", config.get_tcp_user_timeout(), config.get_keepalives_idle()));
        }
        let ports = parse("postgres://u@a,b:1/d").unwrap().each().map(|one| one.at()).collect::<Vec<_>>();
        assert_eq!(ports, ["a:5432", "b:1"]);
        let listening = parse("postgres://u@h/d").unwrap().listening();
        assert_eq!(listening.config.get_application_name(), Some("embedgate listener"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for text in [
            "",
            "u:hush@h/d",
            "mysql://u:hush@h/d",
            "postgres://u:hush?hush@h/d",
            "postgres://u:hush&hush=1@h/d?x",
            "postgres://u:hush@h:port/d",
            "postgres:///d",
            "postgres://u:hush@h/d?sslmode=hush",
            "postgres://u:hush@h/d?nonsense=hush",
            "postgres://u:hush@h/d?sslcert=hush",
            "postgres://u:hush@h/d?sslmode=%4",
            "postgres://u:hush@h/d?target_session_attrs=hush",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{text}: {error}");
        }
    }
}
