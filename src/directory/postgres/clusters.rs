//! Clusters in the database, and how requests are spread over them: read from their rows, and written by an import.

use crate::config::duration;
use crate::directory::balance;
use crate::model::balance::{Balance, HashOn, MAX_WEIGHT};
use crate::model::ids::ClusterId;
use crate::model::tables::{ClusterRole, ClusterRow, ClusterState};
use tokio_postgres::Row;

/// Reads the clusters of some organisations, or of all, with their nodes. The schema has no cluster without one; where that
/// was got round, it must not look as if the cluster were not there.
pub(super) const NODES: &str =
    "select c.org::text, c.kind, c.upstream::text, c.id::text, c.state, c.role, n.url::text, c.weight
    from embedgate.cluster c left join embedgate.node n
      on n.org = c.org and n.kind = c.kind and n.upstream = c.upstream and n.cluster = c.id
    where $1 is null or c.org = any ($1)
    order by c.org, c.kind, c.upstream, c.position, c.id, n.position, n.url";

/// The columns of an upstream that say how its requests are spread, as one, with the keys of the directory file.
macro_rules! columns {
    () => {
        "jsonb_build_object('balance', balance, 'hash_on', hash_on, 'affinity', affinity,
      'slow_start', slow_start::text)::text"
    };
}
pub(super) use columns;

/// Reads such a column.
pub(super) fn balance(row: &Row, column: usize) -> Result<Result<Balance, String>, tokio_postgres::Error> {
    row.try_get(column).map(balance::of_row)
}

/// The same the other way round: the texts of the four columns.
pub(super) struct BalanceColumns(&'static str, Option<String>, &'static str, Option<String>);

impl BalanceColumns {
    pub(super) fn of(balance: &Balance) -> Self {
        let hash_on = Some(&balance.hash_on).filter(|one| **one != HashOn::default()).map(HashOn::text);
        let affinity = if balance.affinity { "true" } else { "false" };
        Self(balance.strategy.name(), hash_on, affinity, balance.slow_start.map(duration::format))
    }

    pub(super) fn texts(&self) -> [Option<&str>; 4] {
        [Some(self.0), self.1.as_deref(), Some(self.2), self.3.as_deref()]
    }
}

/// A cluster of a row of [`NODES`] whose nodes follow.
pub(super) fn cluster(id: &str, row: &Row) -> Result<ClusterRow, String> {
    let id = ClusterId::parse(id).map_err(|error| error.to_string())?;
    let text = |at: usize| row.try_get::<_, &str>(at).map_err(|error| error.to_string());
    let state = match text(4)? {
        "stopped" => ClusterState::Stopped,
        "starting" => ClusterState::Starting,
        "running" => ClusterState::Running,
        "draining" => ClusterState::Draining,
        other => return Err(format!("the state {other:?} is not known")),
    };
    let role = match text(5)? {
        "primary" => ClusterRole::Primary,
        "shadow" => ClusterRole::Shadow,
        other => return Err(format!("the role {other:?} is not known")),
    };
    let weight = row.try_get::<_, i32>(7).map_err(|error| error.to_string())?;
    let weight = u32::try_from(weight).ok().filter(|weight| *weight <= MAX_WEIGHT);
    let weight = weight.ok_or_else(|| format!("its weight is not one of 0 to {MAX_WEIGHT}"))?;
    Ok(ClusterRow { id, state, role, weight, nodes: Vec::new() })
}
