//! The section `[directory.postgres]`.

use super::keys;
use crate::config::reader::{Item, Section};
use crate::config::{Env, Postgres, UrlSource};
use crate::secret::Secret;
use std::time::Duration;

const ADVICE: &str = "write url = \"postgres://user@host/database\", or url_file or url_env for one with a password";

/// Enough for reads, of which there are few; each is a candidate that is asked when the primary is lost.
const MAX_REPLICAS: usize = 8;

/// Reads the section; `None` when it is absent, or lacks a URL.
pub(super) fn postgres(directory: &Section<'_>, env: &Env) -> Option<Postgres> {
    let section = directory.optional("postgres", keys::POSTGRES)?;
    let url = url(&section, "url", env);
    if url.is_none() && ["url", "url_file", "url_env"].iter().all(|key| section.get(key).is_none()) {
        section.lacks(format!("does not say where the database is; {ADVICE}"));
    }
    let postgres = Postgres {
        listen_url: self::url(&section, "listen_url", env),
        url: url.unwrap_or(UrlSource::Env(String::new())),
        replicas: replicas(&section),
        max_replica_lag: section.seconds("max_replica_lag", 10),
        pool_size: section.or("pool_size", 4, |item| item.integer(1..=1000)),
        connect_timeout: section.seconds("connect_timeout", 5),
        acquire_timeout: section.seconds("acquire_timeout", 5),
        statement_timeout: section.seconds("statement_timeout", 30),
        resync_interval: section.or("resync_interval", Duration::from_secs(60), resync),
        miss_timeout: section.seconds("miss_timeout", 2),
        miss_interval: section.seconds("miss_interval", 5),
    };
    Some(postgres)
}

/// A URL in one of three places: here, in a file, in a variable.
fn url(section: &Section<'_>, key: &str, env: &Env) -> Option<UrlSource> {
    let items = [section.get(key), section.get(&format!("{key}_file")), section.get(&format!("{key}_env"))];
    if let Some(second) = items.iter().flatten().nth(1) {
        second.wrong(format!("the URL stands in more than one place; keep one of {key}, {key}_file and {key}_env"));
        return None;
    }
    let [text, file, variable] = items;
    if let Some(item) = text {
        return text_url(&item);
    }
    if let Some(item) = file {
        return item.path().map(UrlSource::File);
    }
    let item = variable?;
    let name = item.text()?;
    match env.get(name) {
        None => item.wrong(format!("the environment variable {name:?} is not set")),
        Some(text) if !has_scheme(text.trim()) => {
            item.wrong(format!("the environment variable {name:?} holds no Postgres URL"));
        }
        Some(_) => {}
    }
    Some(UrlSource::Env(name.to_owned()))
}

fn text_url(item: &Item<'_>) -> Option<UrlSource> {
    let text = item.text()?;
    if !has_scheme(text) {
        item.wrong("is not a Postgres URL; write one such as \"postgres://user@host:5432/database\"");
    }
    Some(UrlSource::Text(Secret::new(text.to_owned())))
}

fn replicas(section: &Section<'_>) -> Vec<UrlSource> {
    let urls = section.list("replicas", text_url);
    if let Some(item) = section.get("replicas").filter(|_| urls.len() > MAX_REPLICAS) {
        item.wrong(format!("{} replicas are more than the {MAX_REPLICAS} that are possible; remove some", urls.len()));
    }
    urls
}

fn has_scheme(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn resync(item: &Item<'_>) -> Option<Duration> {
    let interval = item.duration()?;
    if interval < Duration::from_secs(1) {
        item.wrong("compares more often than once a second; write 1s or more");
    }
    Some(interval)
}
