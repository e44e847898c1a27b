//! Where rows are read: from a replica that is fresh, else from `url`, else from the server that is listened to.

use super::Error;
use super::connect::{self, Limits};
use super::listen::Primary;
use super::reading::{self, Found, Request};
use super::replicas::{Refusal, Replica};
use super::standing::{self, History, Moment};
use super::url;
use crate::config::{Env, Postgres};
use crate::metrics::Metrics;
use deadpool_postgres::{Object, Pool};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// All servers that rows can be read from, and the pools of connections to them.
pub struct Servers {
    settings: Postgres,
    env: Env,
    /// Made at the first read, and again after a failed one: a password file may have changed.
    url: Option<(Pool, String)>,
    /// The same for the server that is listened to, where that is another one.
    primary: Option<(Pool, String)>,
    replicas: Vec<Replica>,
    /// The replica that comes first is another one each time.
    turn: usize,
    /// Reads that no replica answered though there are some.
    fallbacks: u64,
}

impl Servers {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Url`] and [`Error::Tls`], which waiting does not mend.
    pub fn new(settings: Postgres, env: Env) -> Result<Self, Error> {
        url::candidates(&settings, &env)?;
        let replicas = (1..=settings.replicas.len()).map(Replica::new).collect();
        let mut servers = Self { settings, env, url: None, primary: None, replicas, turn: 0, fallbacks: 0 };
        servers.url = Some(connect::pool_at(&url::rows(&servers.settings, &servers.env)?, servers.limits())?);
        Ok(servers)
    }

    fn limits(&self) -> Limits {
        let Postgres { pool_size, connect_timeout, acquire_timeout, .. } = self.settings;
        Limits { size: pool_size, connect: connect_timeout, acquire: acquire_timeout }
    }

    /// Reads where it can be read. Without a primary it is not known whether a standby is current: then one is read only
    /// when there is nothing in memory (`is_first`), which would be gone back on.
    ///
    /// # Errors
    /// That of `url`, when nobody answers.
    pub async fn read(
        &mut self,
        primary: Option<&Primary>,
        is_first: bool,
        request: Request<'_>,
    ) -> Result<Found, Error> {
        if let Some(found) = self.read_replicas(primary, request).await {
            return Ok(found);
        }
        let error = match self.read_url(primary, is_first, request).await {
            Ok(found) => return Ok(self.elsewhere(found)),
            Err(error) => error,
        };
        self.url = None;
        match primary {
            Some(primary) => self.read_primary(primary, request).await.map(|found| self.elsewhere(found)),
            None if is_first => self.read_any_replica(request).await,
            None => None,
        }
        .ok_or(error)
    }

    fn elsewhere(&mut self, found: Found) -> Found {
        self.fallbacks += u64::from(!self.replicas.is_empty());
        found
    }

    async fn read_replicas(&mut self, primary: Option<&Primary>, request: Request<'_>) -> Option<Found> {
        let count = self.replicas.len();
        let primary = primary.filter(|_| count > 0)?;
        let moment = primary.moment(self.settings.connect_timeout).await.ok()?;
        self.turn = self.turn.wrapping_add(1);
        let mut order: Vec<_> = (0..count).map(|index| (self.turn + index) % count).collect();
        order.retain(|index| self.replicas[*index].is_awake());
        for index in order {
            match self.read_replica(index, Some(&moment), request).await {
                Ok(found) => return Some(found),
                Err(Refusal::Old) => return None,
                Err(Refusal::Late(_) | Refusal::Failed(_)) => {}
            }
        }
        None
    }

    async fn read_replica(
        &mut self,
        index: usize,
        moment: Option<&Moment>,
        request: Request<'_>,
    ) -> Result<Found, Refusal> {
        let (target, limits) = (url::replica(&self.settings, &self.env, index), self.limits());
        let deadline = moment.map_or_else(Instant::now, |moment| moment.asked) + self.settings.max_replica_lag;
        self.replicas[index].read(target, limits, moment, deadline, request).await
    }

    /// Reads from whatever replica answers, as it is.
    async fn read_any_replica(&mut self, request: Request<'_>) -> Option<Found> {
        for index in 0..self.replicas.len() {
            if let Ok(found) = self.read_replica(index, None, request).await {
                let replica = index + 1;
                tracing::warn!(replica, "there is no primary: the directory is what the replica has, old as it may be");
                return Some(found);
            }
        }
        None
    }

    async fn read_url(
        &mut self,
        primary: Option<&Primary>,
        is_first: bool,
        request: Request<'_>,
    ) -> Result<Found, Error> {
        let limits = self.limits();
        let (pool, at) = match self.url.take() {
            Some(made) => self.url.insert(made),
            None => self.url.insert(connect::pool_at(&url::rows(&self.settings, &self.env)?, limits)?),
        };
        let mut client = connect::acquire(pool, at).await?;
        let lag = self.settings.max_replica_lag;
        let history = history(&client, at, primary, is_first, limits, lag).await?;
        reading::read(&mut client, request, history.as_ref()).await
    }

    /// Reads from the server that is listened to, where that is not the one of `url`, which has failed.
    async fn read_primary(&mut self, primary: &Primary, request: Request<'_>) -> Option<Found> {
        let (target, limits) = (primary.target(), self.limits());
        if url::rows(&self.settings, &self.env).is_ok_and(|url| url.at() == target.at()) {
            return None;
        }
        let made = self.primary.take().filter(|(_, at)| *at == target.at());
        let (pool, at) = match made {
            Some(made) => made,
            None => connect::pool_at(target, limits).ok()?,
        };
        let mut client = connect::acquire(&pool, &at).await.ok()?;
        let found = reading::read(&mut client, request, primary.history()).await.ok()?;
        self.primary = Some((pool, at));
        Some(found)
    }

    /// Tells what was seen of the replicas.
    pub fn observe(&self, metrics: &Metrics) {
        metrics.directory_fallbacks.absolute(self.fallbacks);
        for replica in &self.replicas {
            let told = metrics.replica(replica.number());
            told.reads.absolute(replica.seen.reads);
            told.lag_bytes.set(replica.seen.lag_bytes as f64);
            told.lag_seconds.set(replica.seen.lag.as_secs_f64());
        }
    }
}

/// The history of what the server of `url` has; an error when that is older than what is known.
async fn history(
    client: &Object,
    at: &str,
    primary: Option<&Primary>,
    is_first: bool,
    limits: Limits,
    lag: Duration,
) -> Result<Option<History>, Error> {
    // A pooler gives connections away that lead nowhere yet.
    let late = |_| Error::Late(format!("Postgres at {at}: no answer within {:?}", limits.acquire));
    let standing = timeout(limits.acquire, standing::ask(&***client)).await.map_err(late)??;
    let at = at.to_owned();
    if !standing.is_standby {
        let known = primary.and_then(Primary::history);
        let is_old = standing.history.as_ref().zip(known).is_some_and(|(own, known)| own.is_before(known));
        return if is_old { Err(Error::Superseded { at }) } else { Ok(standing.history) };
    }
    let Some(primary) = primary else { return if is_first { Ok(None) } else { Err(Error::Alone { at }) } };
    let moment = primary.moment(limits.connect).await?;
    let lacking = standing::catch_up(&***client, &moment, 0, moment.asked + lag, limits.acquire).await?;
    if lacking == 0 { Ok(Some(moment.history)) } else { Err(Error::Lagging { at }) }
}
