//! The session key of installations that have none: made once, and kept beside FireFly's tables, so that all instances
//! seal with the same.

use crate::directory::postgres::Error;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

/// Held while the key is made, so that of many instances one makes it.
const LOCK: &str = "set local lock_timeout = '30s';
    select pg_advisory_xact_lock(hashtextextended('embedgate.firefly_key', 0));
    create table if not exists embedgate.firefly_key (
      id text primary key check (id = 'firefly'),
      key bytea not null check (length(key) = 32),
      made_at timestamptz not null default now()
    )";
const IS_THERE: &str = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'embedgate' and c.relname = 'firefly_key' and has_schema_privilege(n.oid, 'usage'))";

/// The key, if it has been made.
///
/// # Errors
/// [`Error::Sql`].
pub async fn read(client: &impl GenericClient) -> Result<Option<[u8; 32]>, Error> {
    if !client.query_typed_one(IS_THERE, &[]).await?.try_get(0)? {
        return Ok(None);
    }
    let rows = client.query_typed("select key from embedgate.firefly_key", &[]).await?;
    let key = rows.first().map(|row| row.try_get::<_, Vec<u8>>(0)).transpose()?;
    let odd = |_| Error::Firefly("embedgate.firefly_key holds no key of 32 bytes".to_owned());
    key.map(|key| key.try_into().map_err(odd)).transpose()
}

/// The key, made now unless it was before; and whether it was made.
///
/// # Errors
/// [`Error::Sql`], above all when the role may not create the table.
pub async fn make(client: &mut Client) -> Result<([u8; 32], bool), Error> {
    if let Some(key) = read(client).await? {
        return Ok((key, false));
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| Error::Firefly(format!("no random numbers for a key: {error}")))?;
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    let insert = "insert into embedgate.firefly_key (id, key) values ('firefly', $1) on conflict do nothing";
    let made = transaction.execute_typed(insert, &[(&&key[..], Type::BYTEA)]).await? == 1;
    let kept = read(&transaction).await?;
    transaction.commit().await?;
    Ok((kept.unwrap_or(key), made))
}
