//! The directory in Postgres: rows by a pool that may stand behind a pooler, changes by a connection of its own.
//!
//! Only calls with typed parameters and batches are made on the pool: named prepared statements break behind a pooler
//! that hands connections out per transaction.

pub mod bars;
mod clusters;
pub mod connect;
mod engines;
pub mod faults;
pub mod fleet;
pub mod import;
mod limits;
pub mod listen;
pub mod migrate;
mod organisations;
pub mod prober;
pub mod reading;
pub mod replicas;
pub mod rows;
mod rules;
pub mod servers;
pub mod source;
pub mod standing;
pub mod url;
pub mod write;

pub use source::PostgresSource;
pub use write::{StartName, Writer};

use crate::net::tls::TlsError;
use std::error::Error as _;
use std::fmt::Write;
use tokio_postgres::error::SqlState;

/// Why the database cannot be used. Never with a password in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A URL that cannot be used.
    #[error("directory.postgres.{key}: {cause}")]
    Url {
        /// Its key in the configuration.
        key: &'static str,
        /// What is wrong.
        cause: url::UrlError,
    },
    /// The roots of TLS cannot be used.
    #[error("sslrootcert: {0}")]
    Tls(#[from] TlsError),
    /// No connection.
    #[error("cannot connect to Postgres at {at}: {cause}")]
    Connect {
        /// Hosts and ports.
        at: String,
        /// Why.
        cause: String,
    },
    /// Something took longer than its limit.
    #[error("{0}")]
    Late(String),
    /// The schema is not there, or older than this program.
    #[error("the database has {found}, and this program needs version {needed}: run `embedgate db migrate`")]
    Schema {
        /// What is there.
        found: String,
        /// The version this program was made for.
        needed: i32,
    },
    /// A step of the schema does not go through, such as one that finds what is not known to be there.
    #[error("version {version} ({name}) of the schema cannot be applied, and nothing was changed: {cause}")]
    Step {
        /// Its version.
        version: i32,
        /// Its name.
        name: &'static str,
        /// Why.
        cause: String,
    },
    /// The schema is newer than this program, which therefore does not touch it.
    #[error("the database has version {found} of the schema, newer than this program's {known}: use the newer program")]
    Newer {
        /// The version that is there.
        found: i32,
        /// The version this program was made for.
        known: i32,
    },
    /// The connection that is to listen is shared by a pooler.
    #[error(
        "directory.postgres.{key}: a pooler stands there that hands connections out per transaction, and notices do not \
         come through it; set listen_url to the primary itself"
    )]
    Pooled {
        /// The key of the URL in the configuration.
        key: &'static str,
    },
    /// What was read is older than what is known.
    #[error("what was read is older than what is known")]
    Behind,
    /// There is nothing to listen to on a standby.
    #[error("Postgres at {at} is a standby, and changes are told of by the primary alone; name it in listen_url")]
    Standby {
        /// Hosts and ports.
        at: String,
    },
    /// A primary of the past that another one has replaced.
    #[error("Postgres at {at} was replaced by another primary and still runs as one; what is written to it is lost")]
    Superseded {
        /// Hosts and ports.
        at: String,
    },
    /// No candidate is the primary; what each of them said.
    #[error("no primary: {0}")]
    NoPrimary(String),
    /// A standby lacks what the primary has.
    #[error("Postgres at {at} is a standby that has not caught up with the primary within max_replica_lag")]
    Lagging {
        /// Hosts and ports.
        at: String,
    },
    /// A standby without a primary that tells whether it is current.
    #[error("Postgres at {at} is a standby, and without its primary it is not known whether it is current")]
    Alone {
        /// Hosts and ports.
        at: String,
    },
    /// A replica of something else.
    #[error("the server is no replica of the primary that is listened to")]
    Foreign,
    /// The connection ended.
    #[error("the connection to Postgres was lost: {0}")]
    Lost(String),
    /// A secret cannot be sealed.
    #[error("{row}: {cause}")]
    Seal {
        /// Whose.
        row: String,
        /// Why.
        cause: crate::vault::SealError,
    },
    /// FireFly's tables, or what is kept beside them, are not as they have to be.
    #[error("{0}")]
    Firefly(String),
    /// The database refuses.
    #[error("Postgres: {0}")]
    Sql(String),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let is_absent = |code: &SqlState| [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code);
        if error.code().is_some_and(is_absent) {
            return Self::Schema { found: "no complete schema \"embedgate\"".to_owned(), needed: migrate::LATEST };
        }
        Self::Sql(explain(&error))
    }
}

/// The error with its causes; what the server says without its details, which may hold values of rows.
fn explain(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let constraint = said.constraint().map(|name| format!(", constraint {name}")).unwrap_or_default();
        return format!("{} (SQLSTATE {}{constraint})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
