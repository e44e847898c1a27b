//! `embedgate check`.

use super::{ConfigArg, Found, Wrong, print};
use crate::app::certificates::files;
use crate::config::{self, Config, DirectorySource, Env, Mistake, Mistakes, Postgres};
use crate::credential::assertions::Assertions;
use crate::directory::file;
use crate::directory::postgres::{self, url};
use crate::model::ids::UpstreamId;
use crate::model::tables::{OrgRow, Tables};
use crate::net::certificates::Certificate;
use crate::net::tls::{self, TlsError};
use crate::session::keys::{self, Keys};
use anyhow::Result;
use clap::Args;
use std::path::Path;
use std::sync::Arc;

/// Check configuration, keys and directory.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArg,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(&self, env: &Env) -> Result<()> {
        let found = self.config.found(env);
        let path = found.path();
        let (orgs, mistakes) = check(&found, env);
        if self.json {
            print(format_args!("{:#}", report(&mistakes)))?;
        } else if mistakes.is_empty() {
            let plural = if orgs == Some(1) { "organisation" } else { "organisations" };
            let orgs = orgs.map(|orgs| format!(", {orgs} {plural}")).unwrap_or_default();
            print(format_args!("{}: fine{orgs}", path.display()))?;
        }
        if mistakes.is_empty() {
            return Ok(());
        }
        let count = mistakes.len();
        let plural = if count == 1 { "mistake" } else { "mistakes" };
        if !self.json {
            print(Mistakes(mistakes))?;
        }
        Err(Wrong(format!("{count} {plural} in {}", path.display())).into())
    }
}

/// How many organisations the directory file has, if that is the source, and everything that is wrong.
fn check(found: &Found, env: &Env) -> (Option<usize>, Vec<Mistake>) {
    let (config, mut mistakes) = match found.examine(env) {
        Ok(examined) => examined,
        Err(mistakes) => return (None, mistakes.0),
    };
    // What follows from a mistake in one section is no mistake of its own. Without a key, it may be in any section.
    let wrong: Vec<String> = mistakes.iter().map(|mistake| mistake.key.clone()).collect();
    let is_good = |section: &str| !wrong.iter().any(|key| key.is_empty() || key.starts_with(section));
    mistakes.extend(outside(&config, found.path(), env, is_good));
    // The database is not asked: what is in it is for its constraints, and `embedgate db status` tells of it.
    let DirectorySource::File { path: directory } = &config.directory else { return (None, mistakes) };
    if !is_good("directory") || !is_good("upstreams") {
        return (None, mistakes);
    }
    // A key that cannot be had has been reported; then nothing opens.
    let vault = Keys::load(&config.session.keys, env).map(|keys| Arc::clone(keys.vault())).unwrap_or_default();
    match file::load(directory, &config.upstreams.allowed, env, &vault) {
        Ok(tables) => {
            mistakes.extend(hidden(&tables, &config, directory));
            (Some(tables.orgs.len()), mistakes)
        }
        Err(more) => {
            mistakes.extend(more.0);
            (None, mistakes)
        }
    }
}

/// Engines that have no host of their own, because an app has it.
fn hidden(tables: &Tables, config: &Config, directory: &Path) -> Vec<Mistake> {
    let Some(base) = &config.routing.base_domain else { return Vec::new() };
    let of_org = |org: &OrgRow| {
        let has_app = |id: &UpstreamId| org.apps.iter().any(|app| app.id == *id);
        let ids = org.engines.iter().map(|engine| &engine.upstream.id).filter(|id| has_app(id));
        let mistake = |id: &UpstreamId| Mistake {
            file: directory.to_owned(),
            line: None,
            key: format!("org[{}].engine[{id}].id", org.id),
            message: format!(
                "an app has the same id, and the host {id}--{}.{base}; give one of them another id",
                org.id
            ),
        };
        ids.map(mistake).collect::<Vec<_>>()
    };
    tables.orgs.iter().flat_map(of_org).collect()
}

fn postgres_urls(settings: &Postgres, env: &Env) -> Result<(), postgres::Error> {
    url::rows(settings, env)?;
    url::candidates(settings, env).map(drop)
}

/// What is wrong with the certificates that are shown to clients, with their keys.
fn certificates(tls: &config::Tls) -> Vec<(String, TlsError)> {
    let more = (1..).zip(&tls.certificates).map(|(number, one)| (format!("server.tls.certificates[#{number}]"), one));
    let all = std::iter::once(("server.tls".to_owned(), &tls.default)).chain(more);
    all.filter_map(|(key, one)| Some((key, certificate(one).err()?))).collect()
}

fn certificate(certificate: &config::Certificate) -> Result<(), TlsError> {
    Certificate::read(&files(certificate)).map(drop)
}

/// What is wrong with the keys and certificates that the good sections name.
fn outside(config: &Config, path: &Path, env: &Env, is_good: impl Fn(&str) -> bool) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut add = |key: &str, message: String| {
        mistakes.push(Mistake { file: path.to_owned(), line: None, key: key.to_owned(), message });
    };
    if is_good("session.keys")
        && let Err(errors) = Keys::load(&config.session.keys, env)
    {
        for error in errors {
            add("session.keys", error.to_string());
        }
    }
    if is_good("credentials")
        && let Err(errors) = Assertions::load(&config.credentials.assertion_keys, String::new(), env)
    {
        for error in errors {
            add("credentials.assertion_keys", error.to_string());
        }
    }
    if is_good("firefly")
        && let Some(Err(error)) = config.firefly_v1.as_ref().map(|firefly| keys::read(&firefly.key, env))
    {
        add("firefly.encryption_key", error.to_string());
    }
    if is_good("upstreams")
        && let Err(error) = tls::client_config(config.upstreams.ca_file.as_deref())
    {
        add("upstreams.ca_file", error.to_string());
    }
    if is_good("upstreams")
        && let Some(Err(error)) = config.upstreams.client.as_ref().map(certificate)
    {
        add("upstreams.client_cert", error.to_string());
    }
    if is_good("server.tls")
        && let Some(tls) = &config.server.tls
    {
        for (key, error) in certificates(tls) {
            add(&key, error.to_string());
        }
        for (number, source) in (1..).zip(&tls.ticket_keys) {
            if let Err(error) = keys::read(source, env) {
                add(&format!("server.tls.ticket_keys[#{number}]"), error.to_string());
            }
        }
    }
    if is_good("directory")
        && let Some(Err(error)) = config.postgres.as_ref().map(|settings| postgres_urls(settings, env))
    {
        add("directory.postgres", error.to_string());
    }
    mistakes
}

fn report(mistakes: &[Mistake]) -> serde_json::Value {
    let row = |m: &Mistake| serde_json::json!({ "file": m.file, "line": m.line, "key": m.key, "message": m.message });
    serde_json::json!({ "ok": mistakes.is_empty(), "mistakes": mistakes.iter().map(row).collect::<Vec<_>>() })
}
