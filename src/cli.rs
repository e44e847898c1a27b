//! The commands. Together with `main` the only place for `anyhow`; results go to standard output, everything else to
//! standard error.

mod check;
mod db;
mod demo;
mod dev;
mod healthcheck;
mod key;
mod local;
mod secret;
mod serve;
mod session;
mod token;
mod upstream;

use crate::config::{Config, Env, Mistake, Mistakes, firefly};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Puts data apps and SQL warehouses into your product, for users who have no account there.
#[derive(Debug, Parser)]
#[command(name = "embedgate", version, about, max_term_width = 100)]
#[command(after_help = "Start with `embedgate demo`: it needs no configuration, no network and no database.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what it does: a sample app and warehouse with the gateway in front, all on this machine
    Demo(demo::Demo),
    /// Put the gateway before an app that runs on this machine
    Dev(dev::Dev),
    /// Run the gateway
    Serve(serve::Serve),
    /// Check configuration, keys and directory; print every mistake with its line
    Check(check::Check),
    /// Make session keys
    #[command(subcommand)]
    Key(key::Key),
    /// Make and look at session tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Seal secrets for the directory
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// End sessions before their time
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// See what requests go to, and change the states of clusters
    #[command(subcommand)]
    Upstream(upstream::UpstreamCommand),
    /// Look after the directory in Postgres
    #[command(subcommand)]
    Db(db::Db),
    /// Ask a running gateway on this machine whether it is healthy
    #[command(hide = true)]
    Healthcheck(healthcheck::Healthcheck),
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigArg {
    /// Configuration file; without it $`EMBEDGATE_CONFIG`, else config/embedgate.toml, else the variables of `FireFly`'s
    /// proxy
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A wrong use or a wrong configuration: exit code 2, and the message as it is.
#[derive(Debug)]
struct Wrong(String);

impl Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

impl From<Mistakes> for Wrong {
    fn from(mistakes: Mistakes) -> Self {
        Self(mistakes.to_string())
    }
}

/// Where the configuration was found.
enum Found {
    /// In a file, which may not be there.
    File(PathBuf),
    /// In the variables of FireFly's proxy.
    Firefly,
}

impl ConfigArg {
    fn found(&self, env: &Env) -> Found {
        let named = || env.get("EMBEDGATE_CONFIG").map(PathBuf::from);
        if let Some(path) = self.config.clone().or_else(named) {
            return Found::File(path);
        }
        let usual = PathBuf::from("config/embedgate.toml");
        if firefly::is_meant(env) && !usual.exists() { Found::Firefly } else { Found::File(usual) }
    }

    fn load(&self, env: &Env) -> Result<Config, Wrong> {
        Ok(match self.found(env) {
            Found::File(path) => Config::load(&path, env),
            Found::Firefly => Config::of_firefly(env),
        }?)
    }
}

impl Found {
    /// What messages call it.
    fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Firefly => Path::new(firefly::NAME),
        }
    }

    /// As [`Config::examine`].
    fn examine(&self, env: &Env) -> Result<(Config, Vec<Mistake>), Mistakes> {
        match self {
            Self::File(path) => Config::examine(path, env),
            Self::Firefly => Ok(Config::examine_firefly(env)),
        }
    }
}

/// Prints a line of the result. Whoever reads it may leave before the end, which is an error and no panic.
fn print(line: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}").context("cannot print the result")
}

/// Runs the command: exit code 0 when all is well, 1 when it failed, 2 for wrong use or a wrong configuration.
pub fn run(cli: Cli) -> ExitCode {
    let env = crate::config::env::process();
    let result = match cli.command {
        Command::Demo(demo) => demo.run(),
        Command::Dev(dev) => dev.run(),
        Command::Serve(serve) => serve.run(env),
        Command::Check(check) => check.run(&env),
        Command::Key(key) => key.run(),
        Command::Token(token) => token.run(&env),
        Command::Secret(secret) => secret.run(&env),
        Command::Session(session) => session.run(&env),
        Command::Upstream(upstream) => upstream.run(&env),
        Command::Db(db) => db.run(&env),
        Command::Healthcheck(healthcheck) => healthcheck.run(&env),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed there is nobody to tell; the exit code says it as well.
            let _ = writeln!(io::stderr(), "embedgate: {error:#}");
            if error.is::<Wrong>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
