//! The directory in the tables of FireFly's front end, read where they are.
//!
//! Organisations, members, tools and service principals are taken over as they stand there. `proxy_sessions`, where
//! FireFly's own proxy kept its sessions with all their secrets, is neither read nor written.

pub mod adopt;
pub mod key;
pub mod rows;
pub mod tables;
pub mod watch;

use crate::clock::UnixSeconds;
use crate::config::{Env, FireflyTables, Postgres};
use crate::directory::postgres::connect::{self, Limits};
use crate::directory::postgres::faults::Faults;
use crate::directory::postgres::listen::Listener;
use crate::directory::postgres::rows::Read;
use crate::directory::postgres::{Error, migrate, url};
use crate::directory::sync::{Change, Source};
use crate::model::access::Bar;
use crate::model::ids::OrgId;
use crate::model::tables::{OrgRow, Tables};
use crate::model::url::AllowedHosts;
use deadpool_postgres::{Object, Pool};
use rows::Context;
use tokio_postgres::{Client, IsolationLevel};
use watch::Watcher;

/// Takes the key that is kept beside the tables.
pub type OnKey = Box<dyn FnMut([u8; 32]) + Send>;

/// How changes are come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Triggers tell of them.
    Notices,
    /// The tables are asked.
    Polling,
}

/// Reads FireFly's tables by a pool.
pub struct FireflySource {
    settings: Postgres,
    env: Env,
    policy: AllowedHosts,
    apps: AllowedHosts,
    /// None where the configuration has a key.
    on_key: Option<OnKey>,
    /// Whether our own schema has been seen to.
    is_prepared: bool,
    has_warned: bool,
    /// Made when it is first needed, and again after a failed load: a password file may have changed.
    pool: Option<(Pool, String)>,
    /// Made at the first wait, which is within a runtime.
    watcher: Option<Watcher>,
    /// Only while the tables have triggers.
    listener: Option<Listener>,
    /// A pooler keeps notices from coming.
    is_deaf: bool,
    mode: Option<Mode>,
    /// What was wrong at the last reads.
    faults: Faults,
}

impl FireflySource {
    /// A source that reads these tables. `on_key` gets the key that is kept beside them, where there is no other.
    ///
    /// # Errors
    /// [`Error::Url`] and [`Error::Tls`], which waiting does not mend.
    pub fn new(tables: FireflyTables, policy: AllowedHosts, env: Env, on_key: Option<OnKey>) -> Result<Self, Error> {
        let FireflyTables { postgres: settings, apps } = tables;
        url::candidates(&settings, &env)?;
        let mut source = Self {
            settings,
            env,
            policy,
            apps,
            on_key,
            is_prepared: false,
            has_warned: false,
            pool: None,
            watcher: None,
            listener: None,
            is_deaf: false,
            mode: None,
            faults: Faults::default(),
        };
        source.pool()?;
        Ok(source)
    }

    fn pool(&mut self) -> Result<&(Pool, String), Error> {
        let settings = &self.settings;
        let made = if let Some(made) = self.pool.take() {
            made
        } else {
            let target = url::rows(settings, &self.env)?;
            let (connect, acquire) = (settings.connect_timeout, settings.acquire_timeout);
            (connect::pool(&target, Limits { size: settings.pool_size, connect, acquire })?, target.at())
        };
        Ok(self.pool.insert(made))
    }

    async fn client(&mut self) -> Result<Object, Error> {
        let (pool, at) = self.pool()?;
        connect::acquire(pool, at).await
    }

    /// Sees to our own schema, and to the key where there is no other.
    async fn prepare(&mut self) -> Result<(), Error> {
        if self.is_prepared {
            return Ok(());
        }
        let mut client = self.client().await?;
        let schema = schema(&mut client).await;
        if let Some(on_key) = &mut self.on_key {
            on_key(kept_key(&mut client, schema).await?);
            tracing::warn!(
                "sessions are sealed with a key that is kept in the database, in embedgate.firefly_key; one in a file, \
                 named in session.keys, is out of reach of whoever reads the database"
            );
        } else if let Err(error) = schema {
            tracing::warn!(
                %error,
                "there is no schema \"embedgate\", so sessions cannot be ended on other instances; run \
                 `embedgate db adopt-firefly` as a role that may create it"
            );
        }
        self.is_prepared = true;
        Ok(())
    }

    /// Reads one organisation or all, as they are at one moment.
    async fn read(&mut self, orgs: Option<&[&str]>) -> Result<Read, Error> {
        self.prepare().await?;
        let mut client = self.client().await?;
        let limit = self.settings.statement_timeout.as_millis();
        let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = transaction.start().await?;
        // Local, because behind a pooler the connection is another's afterwards.
        transaction.batch_execute(&format!("set local statement_timeout = {limit}")).await?;
        let context = Context { policy: &self.policy, apps: &self.apps };
        let (read, secrets) = rows::read(&*transaction, orgs, context).await?;
        transaction.commit().await?;
        if secrets > 0 && !self.has_warned {
            self.has_warned = true;
            tracing::warn!(
                secrets,
                "FireFly keeps the secrets of its service principals in clear text, and whoever reads its database has them"
            );
        }
        Ok(read)
    }

    async fn read_or_forget(&mut self, orgs: Option<&[&str]>) -> Result<Read, Error> {
        let result = self.read(orgs).await;
        if result.is_err() {
            self.pool = None;
        }
        result
    }

    async fn read_bars(&mut self, which: &[Bar]) -> Result<Vec<(Bar, UnixSeconds)>, Error> {
        let client = self.client().await?;
        let tables = tables::Tables::look(&**client).await?;
        rows::bars(&**client, &tables, Some(which)).await
    }

    /// Listens where there are triggers, and looks more rarely where listening works.
    fn choose(&mut self, has_triggers: Option<bool>) {
        let Some(has_triggers) = has_triggers else { return };
        if self.listener.as_ref().is_some_and(Listener::is_pooled) {
            self.is_deaf = true;
        }
        if !has_triggers || self.is_deaf {
            self.listener = None;
        } else if self.listener.is_none() {
            self.listener = Some(Listener::start(self.settings.clone(), self.env.clone()));
        }
        let mode = match &self.listener {
            Some(listener) if listener.is_connected() => Mode::Notices,
            // It shows in a moment whether that works.
            Some(listener) if listener.trouble().is_none() => return,
            _ => Mode::Polling,
        };
        if self.mode.replace(mode) == Some(mode) {
            return;
        }
        if let Some(watcher) = &self.watcher {
            watcher.set_quiet(mode == Mode::Notices);
        }
        match mode {
            Mode::Notices => tracing::info!("triggers tell of changes in FireFly's tables"),
            Mode::Polling => tracing::info!(
                triggers = has_triggers,
                pooler = self.is_deaf,
                "FireFly's tables are asked for changes once a second; `embedgate db adopt-firefly` installs triggers"
            ),
        }
    }
}

/// Brings our own schema up to what this program needs, where it is not. A role that may not do so is fine where somebody
/// else has.
async fn schema(client: &mut Client) -> Result<(), Error> {
    if migrate::check(migrate::version(client).await?).is_ok() {
        return Ok(());
    }
    migrate::migrate(client).await.map(drop)
}

async fn kept_key(client: &mut Client, schema: Result<(), Error>) -> Result<[u8; 32], Error> {
    let made = match schema {
        Ok(()) => key::make(client).await.map(|(key, _)| key),
        Err(error) => Err(error),
    };
    made.map_err(|error| {
        Error::Firefly(format!(
            "there is no key for sessions, and none can be kept in the database ({error}): set ENCRYPTION_KEY, or run \
             `embedgate db adopt-firefly` as a role that may create a schema"
        ))
    })
}

impl Source for FireflySource {
    type Error = Error;

    const REMOTE: bool = true;

    async fn load(&mut self) -> Result<Tables, Error> {
        let read = self.read_or_forget(None).await?;
        self.faults.take(self.faults.orgs(), read.faults);
        Ok(Tables { orgs: read.orgs, bars: read.bars })
    }

    async fn load_orgs(&mut self, ids: &[(OrgId, u64)]) -> Result<Vec<OrgRow>, Error> {
        let ids: Vec<_> = ids.iter().map(|(id, _)| id.as_str()).collect();
        let read = self.read_or_forget(Some(&ids)).await?;
        self.faults.take(ids.into_iter().map(str::to_owned).collect(), read.faults);
        Ok(read.orgs)
    }

    async fn load_bars(&mut self, which: &[Bar]) -> Result<Vec<(Bar, UnixSeconds)>, Error> {
        let result = self.read_bars(which).await;
        if result.is_err() {
            self.pool = None;
        }
        result
    }

    async fn changed(&mut self) -> Change {
        loop {
            let start = || Watcher::start(self.settings.clone(), self.env.clone());
            let has_triggers = self.watcher.get_or_insert_with(start).has_triggers();
            self.choose(has_triggers);
            let (Some(watcher), listener) = (&self.watcher, self.listener.as_ref()) else { continue };
            let heard = async {
                match listener {
                    Some(listener) => listener.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = heard => {
                    if change == Change::All {
                        // The triggers may have been taken away.
                        watcher.look();
                    }
                    return change;
                }
                changed = watcher.news() => if changed { return Change::All },
            }
        }
    }

    fn is_current(&self) -> bool {
        let is_told =
            self.listener.as_ref().is_none_or(|listener| self.mode != Some(Mode::Notices) || listener.is_current());
        is_told && self.watcher.as_ref().is_some_and(Watcher::is_current)
    }

    fn unusable_rows(&self) -> usize {
        self.faults.len()
    }

    fn trouble(&self) -> Option<String> {
        self.watcher.as_ref().and_then(Watcher::trouble)
    }
}
