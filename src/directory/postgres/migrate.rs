//! The schema: its versions stand in `migrations/`, and in the table `embedgate.schema_version` those that were applied.

use super::{Error, explain};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// From 1, without gaps.
    pub version: i32,
    /// For people.
    pub name: &'static str,
    sql: &'static str,
}

/// All steps in their order. One that was released never changes.
pub const MIGRATIONS: [Migration; 15] = [
    Migration { version: 1, name: "directory", sql: include_str!("../../../migrations/0001_directory.sql") },
    Migration { version: 2, name: "notices", sql: include_str!("../../../migrations/0002_notices.sql") },
    Migration { version: 3, name: "access", sql: include_str!("../../../migrations/0003_access.sql") },
    Migration { version: 4, name: "app policies", sql: include_str!("../../../migrations/0004_app_policies.sql") },
    Migration { version: 5, name: "app protocol", sql: include_str!("../../../migrations/0005_app_protocol.sql") },
    Migration {
        version: 6,
        name: "principal kinds",
        sql: include_str!("../../../migrations/0006_principal_kinds.sql"),
    },
    Migration { version: 7, name: "api rules", sql: include_str!("../../../migrations/0007_api_rules.sql") },
    Migration { version: 8, name: "front ends", sql: include_str!("../../../migrations/0008_frontends.sql") },
    Migration { version: 9, name: "autostart", sql: include_str!("../../../migrations/0009_autostart.sql") },
    Migration { version: 10, name: "engines", sql: include_str!("../../../migrations/0010_engines.sql") },
    Migration { version: 11, name: "balance", sql: include_str!("../../../migrations/0011_balance.sql") },
    Migration { version: 12, name: "fleet", sql: include_str!("../../../migrations/0012_fleet.sql") },
    Migration { version: 13, name: "limits", sql: include_str!("../../../migrations/0013_limits.sql") },
    Migration { version: 14, name: "health", sql: include_str!("../../../migrations/0014_health.sql") },
    Migration { version: 15, name: "prober", sql: include_str!("../../../migrations/0015_prober.sql") },
];

/// The version this program needs.
pub const LATEST: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Held while the schema changes, so that of many instances one does it and the others find it done.
const LOCK: &str =
    "set local lock_timeout = '60s'; select pg_advisory_xact_lock(hashtextextended('embedgate.schema', 0))";

const TABLE: &str = "create schema if not exists embedgate;
    create table if not exists embedgate.schema_version (
        version integer primary key,
        name text not null,
        applied_at timestamptz not null default now()
    )";

/// Applies what is missing, all of it or nothing; gives the steps that were applied.
///
/// # Errors
/// [`Error::Newer`] when the schema is of a newer program; [`Error::Sql`].
pub async fn migrate(client: &mut Client) -> Result<Vec<Migration>, Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    let there = version(&transaction).await?;
    if there.is_none() {
        transaction.batch_execute(TABLE).await?;
    }
    let found = there.unwrap_or(0);
    if found > LATEST {
        return Err(Error::Newer { found, known: LATEST });
    }
    let missing: Vec<_> = MIGRATIONS.into_iter().filter(|migration| migration.version > found).collect();
    for migration in &missing {
        let Migration { version, name, .. } = *migration;
        let failed = |error| Error::Step { version, name, cause: explain(&error) };
        transaction.batch_execute(migration.sql).await.map_err(failed)?;
        let row = "insert into embedgate.schema_version (version, name) values ($1, $2)";
        let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&migration.version, Type::INT4), (&migration.name, Type::TEXT)];
        transaction.execute_typed(row, &values).await?;
    }
    transaction.commit().await?;
    Ok(missing)
}

/// The version that is there; none without the table, 0 when it is empty.
///
/// # Errors
/// [`Error::Sql`].
pub async fn version(client: &impl GenericClient) -> Result<Option<i32>, Error> {
    let is_there = "select to_regclass('embedgate.schema_version') is not null";
    let row = client.query_typed(is_there, &[]).await?;
    if !row.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        return Ok(None);
    }
    let rows = client.query_typed("select coalesce(max(version), 0) from embedgate.schema_version", &[]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// An error unless the schema is at least the one this program needs. A newer one is fine: while instances are replaced
/// one by one, old and new ones read the same.
///
/// # Errors
/// [`Error::Schema`].
pub fn check(found: Option<i32>) -> Result<(), Error> {
    let found = match found {
        Some(found) if found >= LATEST => return Ok(()),
        Some(found) => format!("version {found} of the schema"),
        None => "no schema \"embedgate\"".to_owned(),
    };
    Err(Error::Schema { found, needed: LATEST })
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The version of the schema; none without one.
    pub version: Option<i32>,
    /// How many organisations.
    pub organisations: i64,
    /// How many secrets are sealed with which key.
    pub sealed: Vec<(String, i64)>,
}

/// Says what is there.
///
/// # Errors
/// [`Error::Sql`].
pub async fn status(client: &impl GenericClient) -> Result<Status, Error> {
    let version = version(client).await?;
    if version.unwrap_or(0) < 1 {
        return Ok(Status { version, organisations: 0, sealed: Vec::new() });
    }
    let rows = client.query_typed("select count(*) from embedgate.organisation", &[]).await?;
    let organisations = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    let by_key = "select split_part(sealed, '.', 2), count(*)
        from embedgate.principal p cross join lateral jsonb_each_text(to_jsonb(p)) as s (name, sealed)
        where sealed like '~s1.%' group by 1 order by 1";
    let rows = client.query_typed(by_key, &[]).await?;
    let sealed = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    Ok(Status { version, organisations, sealed: sealed.collect::<Result<_, tokio_postgres::Error>>()? })
}
