//! The one prober of a fleet, in the database: who it is, and what it finds.

use super::{Error, Writer};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::types::{ToSql, Type};

/// A node that fails its probes, as the fleet calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadNode {
    /// The id of the organisation.
    pub org: Box<str>,
    /// Where it is.
    pub node: Box<str>,
}

/// The nodes that fail their probes; all others are well.
pub type Dead = BTreeSet<DeadNode>;

/// Dead nodes that are told of at once; the others count as well.
const MAX_TOLD: usize = 10_000;

/// What the database says to one who would probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Whether it is the one.
    pub is_mine: bool,
    /// The version of what the prober has told; none when there was not a word.
    pub told: Option<i64>,
}

impl Writer {
    /// Asks to be the one who probes, for as long as `lease`.
    ///
    /// # Errors
    /// [`Error`]; then nobody knows.
    pub async fn claim_probing(&self, id: &str, lease: Duration) -> Result<Claim, Error> {
        let sql = "select mine, told from embedgate.claim_probing($1, make_interval(secs => $2))";
        let lease = lease.as_secs_f64();
        let claimed = async {
            let client = self.client().await?;
            let row = client.query_typed_one(sql, &[(&id, Type::TEXT), (&lease, Type::FLOAT8)]).await?;
            Ok(Claim { is_mine: row.try_get(0)?, told: row.try_get(1)? })
        };
        self.within_limit(claimed).await
    }

    /// Says which nodes are dead; gives the version of that, and none when another probes meanwhile.
    ///
    /// # Errors
    /// [`Error`]; then it may or may not have been heard.
    pub async fn tell_dead_nodes(&self, id: &str, dead: &Dead) -> Result<Option<i64>, Error> {
        let sql = "select embedgate.tell_dead_nodes($1, $2, $3)";
        let (orgs, nodes): (Vec<&str>, Vec<&str>) =
            dead.iter().take(MAX_TOLD).map(|DeadNode { org, node }| (&**org, &**node)).unzip();
        let values: [(&(dyn ToSql + Sync), Type); 3] =
            [(&id, Type::TEXT), (&orgs, Type::TEXT_ARRAY), (&nodes, Type::TEXT_ARRAY)];
        let told = async { Ok(self.client().await?.query_typed_one(sql, &values).await?.try_get(0)?) };
        self.within_limit(told).await
    }

    /// The nodes that are dead, by the prober's last word.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn dead_nodes(&self) -> Result<Dead, Error> {
        let sql = format!("select org, node from embedgate.dead_node limit {MAX_TOLD}");
        let read = async {
            let rows = self.client().await?.query_typed(&sql, &[]).await?;
            let dead = rows.iter().map(|row| Ok(DeadNode { org: row.try_get(0)?, node: row.try_get(1)? }));
            Ok(dead.collect::<Result<_, tokio_postgres::Error>>()?)
        };
        self.within_limit(read).await
    }
}
