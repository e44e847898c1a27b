//! `embedgate token`.

use super::{ConfigArg, Wrong, db, key, print};
use crate::clock::Clock;
use crate::config::{Config, Env, duration, firefly};
use crate::directory::firefly::key::read;
use crate::session::keys::{KeyLoadError, Keys};
use crate::session::seal::Purpose;
use crate::session::{Parts, Session};
use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use std::thread;
use std::time::Duration;

/// Make and look at session tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Seal a session token with the first key of the configuration and print it
    Mint(Mint),
    /// Open a session token and print what is in it as JSON; exit code 1 if it would not be accepted
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(super) struct Mint {
    #[command(flatten)]
    config: ConfigArg,
    /// The organisation's id in the directory
    #[arg(long)]
    org: String,
    /// The user's id, as your product names the user
    #[arg(long)]
    user: String,
    /// The user's e-mail address
    #[arg(long)]
    email: String,
    /// The only app the session is for; without it, all apps and warehouses of the organisation
    #[arg(long)]
    app: Option<String>,
    /// How long the session lasts, such as 15m, 1h or 12h; else the configuration's session.ttl
    #[arg(long, value_parser = duration::parse)]
    ttl: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    #[command(flatten)]
    config: ConfigArg,
    /// The token
    token: String,
}

impl Token {
    pub(super) fn run(&self, env: &Env) -> Result<()> {
        match self {
            Self::Mint(mint) => mint.run(env),
            Self::Inspect(inspect) => inspect.run(env),
        }
    }
}

/// A session that begins now.
pub(super) fn session(org: &str, user: &str, email: &str, app: Option<&str>, life: Duration) -> Result<Session> {
    let mut id = [0u8; 16];
    getrandom::fill(&mut id)?;
    let issued = Clock::default().now();
    let expires = issued + life.as_secs();
    Ok(Session::new(Parts { id, issued, expires, org, user, email, app }).map_err(|error| Wrong(error.to_string()))?)
}

/// The keys of the configuration; where it names none, the one that is kept beside FireFly's tables.
pub(super) fn keys(config: &Config, env: &Env) -> Result<Keys> {
    let lines = |errors: Vec<_>| errors.iter().map(|e: &KeyLoadError| e.to_string()).collect::<Vec<_>>().join("\n");
    let keys = Keys::load(&config.session.keys, env).map_err(|errors| Wrong(lines(errors)))?;
    if config.session.keys.is_empty() {
        // On a thread of its own, because some who ask are within a runtime already.
        let kept = thread::scope(|scope| scope.spawn(|| kept_key(config, env)).join());
        let kept = kept.map_err(|_| anyhow!("the thread that asks for the key panicked"))??;
        keys.replace_kept(vec![(firefly::KEY_ID.to_owned(), kept)]);
    }
    Ok(keys)
}

fn kept_key(config: &Config, env: &Env) -> Result<[u8; 32]> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let key = runtime.block_on(async { read(&db::connect(config, env).await?).await.map_err(db::wrong) })?;
    key.context(
        "there is no session key yet: start `embedgate serve`, run `embedgate db adopt-firefly`, or set ENCRYPTION_KEY",
    )
}

impl Mint {
    fn run(&self, env: &Env) -> Result<()> {
        let config = self.config.load(env)?;
        let life = self.ttl.unwrap_or(config.session.ttl);
        let session = session(&self.org, &self.user, &self.email, self.app.as_deref(), life)?;
        let token = keys(&config, env)?.ring().seal(Purpose::Session, &session)?;
        print(token.context("session.keys names no key to seal with")?)
    }
}

impl Inspect {
    fn run(&self, env: &Env) -> Result<()> {
        let config = self.config.load(env)?;
        let keys = keys(&config, env)?;
        let token = self.token.trim().as_bytes();
        let (ring, now) = (keys.ring(), Clock::default().now());
        let session =
            ring.unseal(Purpose::Session, token).map_err(|error| anyhow!("the token does not open: {error}"))?;
        let accepted = ring.open(Purpose::Session, token, now);
        let mut report = serde_json::json!({
            "valid": accepted.is_ok(),
            "session": key::hex(&session.id),
            "org": session.org(),
            "user": session.user(),
            "email": session.email(),
            "app": session.app(),
            "issued": session.issued,
            "expires": session.expires,
            "expires_in_seconds": session.expires.saturating_sub(now),
        });
        if let Some(idle) = session.idle {
            report["idle"] = idle.into();
        }
        if let Err(error) = &accepted {
            report["error"] = error.to_string().into();
        }
        print(format_args!("{report:#}"))?;
        accepted.map(drop).map_err(|error| anyhow!("the token would be refused: {error}"))
    }
}
