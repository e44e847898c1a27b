//! Asks the tables whether they are others than before, on a connection of its own that is made anew whenever it is lost.
//!
//! It is all there is where FireFly's tables have no triggers of ours, or a pooler keeps notices from coming; with them
//! it makes good what was not heard.

use super::adopt;
use super::tables::Tables;
use crate::config::{Env, Postgres};
use crate::directory::postgres::{Error, connect, url};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

/// How often the tables are asked where nothing tells of changes.
const POLL: Duration = Duration::from_secs(1);

/// Number of rows and checksum, by table.
type Print = Vec<(String, i64, String)>;

#[derive(Debug, Default)]
struct State {
    seen: Option<Print>,
    /// They are others than before, and nobody has been told.
    changed: bool,
    has_triggers: bool,
    /// Something else tells of changes.
    is_quiet: bool,
    trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes whoever waits for news.
    news: Notify,
    /// Makes the next look come at once.
    kick: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between costs one look at worst, and the next one makes it good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, seen: Print, has_triggers: bool) {
        let mut state = self.state();
        let is_new = state.seen.as_ref() != Some(&seen);
        if is_new || state.has_triggers != has_triggers || state.trouble.is_some() {
            self.news.notify_one();
        }
        state.changed |= is_new;
        (state.seen, state.has_triggers, state.trouble) = (Some(seen), has_triggers, None);
    }
}

/// Watches as long as it lives.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Begins to watch; within a runtime.
    #[must_use]
    pub fn start(settings: Postgres, env: Env) -> Self {
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(run(settings, env, Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Waits until something is new: the tables, or what else can be asked here. Says whether the tables are.
    pub async fn news(&self) -> bool {
        if !self.shared.state().changed {
            self.shared.news.notified().await;
        }
        std::mem::take(&mut self.shared.state().changed)
    }

    /// Whether all tables have the triggers that tell of changes; none before the first look.
    #[must_use]
    pub fn has_triggers(&self) -> Option<bool> {
        let state = self.shared.state();
        state.seen.as_ref().map(|_| state.has_triggers)
    }

    /// Looks more rarely, because something else tells of changes, or often again.
    pub fn set_quiet(&self, is_quiet: bool) {
        self.shared.state().is_quiet = is_quiet;
        self.shared.kick.notify_one();
    }

    /// Looks at once.
    pub fn look(&self) {
        self.shared.kick.notify_one();
    }

    /// Whether the tables can be asked, and nothing is known that has not been told.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let state = self.shared.state();
        state.seen.is_some() && !state.changed && state.trouble.is_none()
    }

    /// Why the tables cannot be asked.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.state().trouble.clone()
    }
}

async fn run(settings: Postgres, env: Env, shared: Arc<Shared>) {
    loop {
        let Err(error) = watch(&settings, &env, &shared).await;
        let text = error.to_string();
        let known = shared.state().trouble.replace(text.clone());
        if known.as_deref() != Some(&text) {
            tracing::error!(error = %text, "FireFly's tables cannot be watched; trying again");
        }
        sleep(POLL).await;
    }
}

/// One connection, from its making to its loss.
async fn watch(settings: &Postgres, env: &Env, shared: &Shared) -> Result<Infallible, Error> {
    let target = url::rows(settings, env)?;
    let client = connect::client(&target, settings.connect_timeout).await?;
    loop {
        let limit = settings.statement_timeout;
        let late = |_| Error::Late(format!("Postgres at {}: no answer within {limit:?}", target.at()));
        let (seen, has_triggers) = timeout(limit, look(&client)).await.map_err(late)??;
        shared.note(seen, has_triggers);
        let pause = if shared.state().is_quiet { settings.resync_interval } else { POLL };
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.kick.notified() => {}
        }
    }
}

async fn look(client: &Client) -> Result<(Print, bool), Error> {
    let tables = Tables::look(client).await?;
    tables.check()?;
    let has_triggers = adopt::is_complete(client, &tables).await?;
    let rows = client.query_typed(&tables.checksums(), &[]).await?;
    let print = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
    let mut print: Print = print.collect::<Result<_, tokio_postgres::Error>>()?;
    print.sort_unstable();
    Ok((print, has_triggers))
}
