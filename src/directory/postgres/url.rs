//! URLs of databases, as libpq's users write them, with TLS rules of our own: verified or off, never in between.

use crate::config::{Env, Postgres, UrlSource};
use crate::model::url::is_loopback_name;
use crate::secret::Secret;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};
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
    pub config: tokio_postgres::Config,
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
}

/// The database that rows are read from.
///
/// # Errors
/// [`super::Error::Url`].
pub fn rows(settings: &Postgres, env: &Env) -> Result<Target, super::Error> {
    resolve("url", &settings.url, settings.connect_timeout, env)
}

/// The database that is listened to.
///
/// # Errors
/// [`super::Error::Url`].
pub fn listen(settings: &Postgres, env: &Env) -> Result<Target, super::Error> {
    let source = settings.listen_url.as_ref().unwrap_or(&settings.url);
    let mut target = resolve(listen_key(settings), source, settings.connect_timeout, env)?;
    if target.config.get_application_name() == Some(NAME) {
        // So that it is told apart in `pg_stat_activity`.
        target.config.application_name(LISTENER_NAME);
    }
    Ok(target)
}

/// The key under which the URL to listen at stands.
pub(super) fn listen_key(settings: &Postgres) -> &'static str {
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
    let mut config: tokio_postgres::Config = text.expose().parse().map_err(|_| UrlError::Malformed)?;
    if config.get_hosts().is_empty() {
        return Err(UrlError::Malformed);
    }
    let tls = asked.tls(is_local(&config))?;
    config.ssl_mode(if tls == Tls::Off { SslMode::Disable } else { SslMode::Require });
    limit(&mut config);
    Ok(Target { config, tls })
}

/// A peer that vanished is noticed within a minute; two hours are the system's default.
fn limit(config: &mut tokio_postgres::Config) {
    config.keepalives(true).keepalives_idle(Duration::from_secs(30));
    config.keepalives_interval(Duration::from_secs(10)).keepalives_retries(3);
    config.tcp_user_timeout(Duration::from_secs(30));
    if config.get_application_name().is_none() {
        config.application_name(NAME);
    }
}

/// Whether every host is this machine.
fn is_local(config: &tokio_postgres::Config) -> bool {
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
                let alone = format!("postgres://host?{pair}").parse::<tokio_postgres::Config>();
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
