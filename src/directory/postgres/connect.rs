//! Connections: single ones, and the pool. All with TLS by rustls and with time limits.

use super::url::{Target, Tls};
use super::{Error, explain};
use crate::net::tls;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What a connection's own task runs.
pub type Driver = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

fn connector(target: &Target) -> Result<MakeRustlsConnect, Error> {
    let roots = match &target.tls {
        Tls::Verified { roots } => roots.as_deref(),
        // Not used then.
        Tls::Off => None,
    };
    Ok(MakeRustlsConnect::new(tls::database_config(roots)?))
}

/// A connection of one's own. Whoever asks for it runs the driver.
///
/// # Errors
/// [`Error::Connect`] and [`Error::Tls`].
pub async fn direct(target: &Target, limit: Duration) -> Result<(Client, Driver), Error> {
    let connector = connector(target)?;
    let limit = limit * target.hosts();
    let failed = |cause| Error::Connect { at: target.at(), cause };
    // The driver's own limit holds for TCP alone.
    match timeout(limit, target.config.connect(connector)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(failed(explain(&error))),
        Err(_) => Err(failed(format!("no answer within {limit:?}"))),
    }
}

/// A connection of one's own whose driver runs beside the caller until the client is dropped.
///
/// # Errors
/// As [`direct`].
pub async fn client(target: &Target, limit: Duration) -> Result<Client, Error> {
    let (client, driver) = direct(target, limit).await?;
    // How it ends shows in the calls of the client.
    tokio::spawn(async move { drop(driver.await) });
    Ok(client)
}

/// The limits of a pool.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at most.
    pub size: usize,
    /// For a new connection, and for asking an old one whether it still lives.
    pub connect: Duration,
    /// For a connection to be free.
    pub acquire: Duration,
}

/// A pool of connections. None is made before it is needed.
///
/// # Errors
/// [`Error::Tls`].
pub fn pool(target: &Target, limits: Limits) -> Result<Pool, Error> {
    // Verified: after a failover, what the pool holds is asked before it is used.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
    let manager = Manager::from_config(target.config.clone(), connector(target)?, recycling);
    let builder = Pool::builder(manager).max_size(limits.size).runtime(Runtime::Tokio1);
    let builder = builder.wait_timeout(Some(limits.acquire));
    // Hosts are tried in turn, and one that is silent must not take the time of the next.
    let create = limits.connect * target.hosts();
    let builder = builder.create_timeout(Some(create)).recycle_timeout(Some(limits.connect));
    builder.build().map_err(|error| Error::Sql(error.to_string()))
}

/// A pool with what to call its server.
///
/// # Errors
/// As [`pool`].
pub fn pool_at(target: &Target, limits: Limits) -> Result<(Pool, String), Error> {
    Ok((pool(target, limits)?, target.at()))
}

/// A connection out of the pool.
///
/// # Errors
/// [`Error::Connect`] and [`Error::Late`].
pub async fn acquire(pool: &Pool, at: &str) -> Result<Object, Error> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => Error::Connect { at: at.to_owned(), cause: explain(&error) },
        PoolError::Timeout(what) => Error::Late(format!("Postgres at {at}: no connection in time ({what:?})")),
        other => Error::Connect { at: at.to_owned(), cause: other.to_string() },
    })
}
