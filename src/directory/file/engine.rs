//! Engines in the directory file.

use super::principals::Principals;
use super::{Context, Ids, Workspaces, clusters, permitted, probe, start};
use crate::config::reader::{Item, Section};
use crate::directory::{balance, quota};
use crate::model::api::Pattern;
use crate::model::engine::{Dialect, EngineRow, Manner, address, pattern, user};
use crate::model::ids::UpstreamId;
use crate::model::policy::{HostSeen, Policy, Protocol};
use crate::model::tables::UpstreamRow;
use crate::model::url::BaseUrl;

const ENGINE: &[&str] = &[
    "id",
    "workspace",
    "principal",
    "url",
    "dialect",
    "user",
    "allow",
    "host",
    "protocol",
    "idle_timeout",
    "balance",
    "hash_on",
    "affinity",
    "slow_start",
    "max_concurrent",
    "adaptive",
    "start",
    "health",
    "cluster",
];

/// Reads the engines of an organisation.
pub(super) fn engines(
    org: &Section<'_>,
    workspaces: &Workspaces,
    principals: &Principals,
    context: Context<'_>,
) -> Vec<EngineRow> {
    let mut ids = Ids::new("engine", "the organisation");
    let row = |section: &Section<'_>| {
        let id = ids.take(section, UpstreamId::parse);
        let workspace = workspaces.of(section);
        let named = section.get("principal");
        let principal = named.as_ref().map(|item| principals.named(item));
        let address = place(section, context);
        let dialect = section.or("dialect", Dialect::default(), |item| item.one_of(&Dialect::NAMES));
        let policy = policy(section, dialect);
        let (user, allow) = (told_user(section, dialect), allow(section));
        let (clusters, balance) = (clusters(section, context), balance::read(section));
        let (start, probe) = (start(section, principals, context), probe(section));
        let load = quota::load(section);
        // Nobody takes the place of one that cannot be read.
        let principal = principal.map_or(Some(None), |named| named.map(Some))?;
        let (url, base) = address?;
        let row = UpstreamRow::new(id?, workspace?.id.clone(), url);
        let upstream = UpstreamRow { policy, balance, start, probe, load, clusters, ..row };
        Some(EngineRow { upstream, principal, manner: Manner { base, dialect, user, allow } })
    };
    org.sections("engine", ENGINE).iter().filter_map(row).collect()
}

fn place(section: &Section<'_>, context: Context<'_>) -> Option<(BaseUrl, Box<str>)> {
    let item = section.require("url", "write url = \"https://...\", where the engine's paths begin")?;
    let (url, base) = item.parsed(address)?;
    permitted(&item, &url, context);
    Some((url, base))
}

fn policy(section: &Section<'_>, dialect: Dialect) -> Policy {
    let usual = Policy::default();
    Policy {
        host: section.or("host", dialect.host(), |item| item.one_of(&HostSeen::NAMES)),
        protocol: section.or("protocol", usual.protocol, |item| item.one_of(&Protocol::NAMES)),
        idle_timeout: section.get("idle_timeout").as_ref().and_then(Item::duration),
        ..usual
    }
}

fn told_user(section: &Section<'_>, dialect: Dialect) -> Option<Box<str>> {
    let item = section.get("user")?;
    if dialect != Dialect::Trino {
        item.wrong("is for engines with dialect = \"trino\"; remove it, or write the dialect");
    }
    item.parsed(user)
}

/// The calls that may be made; none for all.
fn allow(section: &Section<'_>) -> Option<Vec<Pattern>> {
    let item = section.get("allow")?;
    if item.is_empty_array() {
        item.wrong("allows nothing; write allow = [\"POST /\"], or leave it out for everything below the url");
    }
    Some(item.items().iter().filter_map(|item| item.parsed(pattern)).collect())
}
