//! Quotas and the limits of upstreams in the database: read beside the rows they belong to, and written by an import.

use super::import::Columns;
use crate::directory::quota;
use crate::model::quota::Load;
use crate::model::tables::{OrgRow, UpstreamRow};
use tokio_postgres::Row;

/// Reads the quotas of some organisations, or of all.
pub(super) const QUOTAS: &str = "select id::text, quota::text from embedgate.organisation
    where quota is not null and ($1 is null or id = any ($1))";
/// The same for the limits of upstreams.
pub(super) const LOADS: &str = "select org::text, kind, id::text, max_concurrent, adaptive from (
      select org, 'app' as kind, id, max_concurrent, adaptive from embedgate.app
      union all select org, 'warehouse', id, max_concurrent, adaptive from embedgate.warehouse
      union all select org, 'engine', id, max_concurrent, adaptive from embedgate.engine
    ) as all_kinds
    where (max_concurrent is not null or adaptive is not null) and ($1 is null or org = any ($1))";

const SET_QUOTA: &str = "update embedgate.organisation as known set quota = r.quota::jsonb
    from unnest($1::int4[], $2::text[], $3::text[]) as r (position, id, quota)
    where known.id = r.id and known.quota is distinct from r.quota::jsonb";
const SET_APPS: &str = "update embedgate.app as known
    set max_concurrent = r.max_concurrent::integer, adaptive = r.adaptive::boolean
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[])
    as r (position, org, id, max_concurrent, adaptive)
    where known.org = r.org and known.id = r.id";
const SET_WAREHOUSES: &str = "update embedgate.warehouse as known
    set max_concurrent = r.max_concurrent::integer, adaptive = r.adaptive::boolean
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[])
    as r (position, org, id, max_concurrent, adaptive)
    where known.org = r.org and known.id = r.id";
const SET_ENGINES: &str = "update embedgate.engine as known
    set max_concurrent = r.max_concurrent::integer, adaptive = r.adaptive::boolean
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[])
    as r (position, org, id, max_concurrent, adaptive)
    where known.org = r.org and known.id = r.id";

/// Reads a row of [`LOADS`] behind its first three columns.
pub(super) fn load(row: &Row) -> Result<Load, tokio_postgres::Error> {
    let most: Option<i32> = row.try_get(3)?;
    Ok(Load { max_concurrent: most.map(i32::unsigned_abs), adaptive: row.try_get(4)? })
}

/// What an import writes of limits, when the rows that they belong to are there.
pub(super) fn columns(orgs: &[OrgRow]) -> [Columns; 4] {
    let [mut quotas, mut apps, mut warehouses, mut engines] = [
        Columns::new(SET_QUOTA, 2),
        Columns::new(SET_APPS, 4),
        Columns::new(SET_WAREHOUSES, 4),
        Columns::new(SET_ENGINES, 4),
    ];
    for org in orgs {
        let id = org.id.as_str();
        let quota = quota::to_json(&org.quota).map(|quota| quota.to_string());
        quotas.push([Some(id), quota.as_deref()], 0);
        org.apps.iter().for_each(|row| push(&mut apps, id, row));
        org.warehouses.iter().for_each(|row| push(&mut warehouses, id, row));
        org.engines.iter().for_each(|row| push(&mut engines, id, &row.upstream));
    }
    [quotas, apps, warehouses, engines]
}

fn push(columns: &mut Columns, org: &str, row: &UpstreamRow) {
    if row.load == Load::default() {
        return;
    }
    let most = row.load.max_concurrent.map(|most| most.to_string());
    let adaptive = row.load.adaptive.map(|adaptive| if adaptive { "true" } else { "false" });
    columns.push([Some(org), Some(row.id.as_str()), most.as_deref(), adaptive], 0);
}
