//! Engines in the database: read from their rows, and written by an import.

use super::clusters::{self, BalanceColumns};
use super::import::Columns;
use crate::config::duration;
use crate::model::api::Pattern;
use crate::model::autostart::StartRow;
use crate::model::engine::{Dialect, EngineRow, Manner, address, pattern, user};
use crate::model::ids::{PrincipalId, UpstreamId, WorkspaceId};
use crate::model::policy::{HostSeen, Policy, Protocol};
use crate::model::tables::UpstreamRow;
use crate::model::url::AllowedHosts;
use tokio_postgres::Row;

/// Reads the engines of some organisations, or of all.
pub(super) const ENGINES: &str = concat!(
    "select org::text, id::text, workspace::text, url::text, principal, dialect, trino_user,
    allow, host, protocol, idle_timeout::text, start::text, ",
    clusters::columns!(),
    ", health::text from embedgate.engine where $1 is null or org = any ($1) order by org, id"
);

const INSERT: &str = "insert into embedgate.engine
    (org, id, workspace, url, principal, dialect, trino_user, allow, host, protocol, idle_timeout, start,
      balance, hash_on, affinity, slow_start, health)
    select org, id, workspace, url, principal, dialect, trino_user, string_to_array(allow, E'\\n'), host, protocol, idle_timeout,
      start::jsonb, balance, hash_on, affinity::boolean, slow_start, health::jsonb
    from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[])
    as r (position, org, id, workspace, url, principal, dialect, trino_user, allow, host, protocol, idle_timeout, start,
      balance, hash_on, affinity, slow_start, health)";

/// Reads a row of [`ENGINES`].
pub(super) fn engine(
    row: &Row,
    allowed: &AllowedHosts,
    start: Result<Option<StartRow>, String>,
) -> Result<Result<EngineRow, String>, tokio_postgres::Error> {
    let (id, workspace, url): (&str, &str, &str) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let principal: Option<&str> = row.try_get(4)?;
    let (manner, policy, balance) = (manner(row)?, policy(row)?, clusters::balance(row, 12)?);
    let probe = super::rows::probe(row.try_get(13)?);
    let made = || {
        let (url, base) = address(url).map_err(text)?;
        allowed.permits(&url).map_err(text)?;
        let id = UpstreamId::parse(id).map_err(text)?;
        let workspace = WorkspaceId::parse(workspace).map_err(text)?;
        let principal = principal.map(PrincipalId::parse).transpose().map_err(text)?;
        let (policy, balance, start, probe) = (policy?, balance?, start?, probe?);
        let upstream = UpstreamRow { policy, balance, start, probe, ..UpstreamRow::new(id, workspace, url) };
        Ok(EngineRow { upstream, principal, manner: Manner { base, ..manner? } })
    };
    Ok(made())
}

/// What is said there, and how; without where its paths begin.
fn manner(row: &Row) -> Result<Result<Manner, String>, tokio_postgres::Error> {
    let (told, allow): (Option<&str>, Option<Vec<&str>>) = (row.try_get(6)?, row.try_get(7)?);
    let dialect = super::rows::named("dialect", &Dialect::NAMES, row.try_get(5)?);
    let made = || {
        let patterns = |texts: Vec<&str>| texts.into_iter().map(|one| pattern(one).map_err(text)).collect();
        let (user, allow) = (told.map(user).transpose().map_err(text)?, allow.map(patterns).transpose()?);
        Ok(Manner { base: Box::default(), dialect: dialect?, user, allow })
    };
    Ok(made())
}

fn policy(row: &Row) -> Result<Result<Policy, String>, tokio_postgres::Error> {
    let (host, protocol): (Option<&str>, &str) = (row.try_get(8)?, row.try_get(9)?);
    let idle_timeout: Option<&str> = row.try_get(10)?;
    let dialect = super::rows::named("dialect", &Dialect::NAMES, row.try_get(5)?);
    let made = || {
        let host = match host {
            Some(host) => super::rows::named("host", &HostSeen::NAMES, host)?,
            None => dialect?.host(),
        };
        let protocol = super::rows::named("protocol", &Protocol::NAMES, protocol)?;
        let idle_timeout = idle_timeout.map(duration::parse).transpose().map_err(text)?;
        Ok(Policy { host, protocol, idle_timeout, ..Policy::default() })
    };
    Ok(made())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

/// What is to be written of engines.
pub(super) fn columns() -> Columns {
    Columns::new(INSERT, 17)
}

/// Adds an engine of an organisation to what is to be written.
pub(super) fn push(columns: &mut Columns, org: &str, row: &EngineRow) {
    let EngineRow { upstream, principal, manner } = row;
    let Policy { host, protocol, idle_timeout, .. } = upstream.policy;
    let url = format!("{}{}", upstream.url, manner.base);
    let lines = |allow: &Vec<Pattern>| allow.iter().map(Pattern::as_str).collect::<Vec<_>>().join("\n");
    let (allow, idle) = (manner.allow.as_ref().map(lines), idle_timeout.map(duration::format));
    let place = [org, upstream.id.as_str(), upstream.workspace.as_str(), &url].map(Some);
    let principal = principal.as_ref().map(PrincipalId::as_str);
    let [org, id, workspace, url] = place;
    let (dialect, user) = (Some(manner.dialect.name()), manner.user.as_deref());
    let (host, protocol) = (Some(host.name()), Some(protocol.name()));
    let (start, probe) = (super::import::start(upstream), super::import::probe(upstream));
    let own = [org, id, workspace, url, principal, dialect, user, allow.as_deref(), host, protocol, idle.as_deref()];
    let balance = BalanceColumns::of(&upstream.balance);
    let rest = [start.as_deref()].into_iter().chain(balance.texts()).chain([probe.as_deref()]);
    columns.push(own.into_iter().chain(rest), 0);
}
