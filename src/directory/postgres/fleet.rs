//! The fleet in the database: instances say that they live and what is under way on them, and whoever asks finds the sum.
//! And the states of clusters, which are changed by functions of the schema that do just that.

use super::{Error, Writer};
use std::time::Duration;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{GenericClient, Row};

/// What an instance says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    /// Its id.
    pub id: &'a str,
    /// Where it serves.
    pub address: &'a str,
    /// Whether it is about to end.
    pub is_leaving: bool,
    /// How long it counts as alive without another word.
    pub life: Duration,
    /// What is under way on it.
    pub under_way: &'a [UnderWay],
}

/// What an instance has under way on one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The cluster.
    pub of: ClusterName,
    /// How much.
    pub count: u32,
    /// The version of the organisation by which everything else was decided; 0 when that cannot be said.
    pub seen: u64,
}

/// A cluster, as the fleet calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterName {
    /// The id of the organisation.
    pub org: Box<str>,
    /// `app`, `warehouse` or `engine`.
    pub kind: Box<str>,
    /// The id of the upstream.
    pub upstream: Box<str>,
    /// Its own id.
    pub cluster: Box<str>,
}

impl ClusterName {
    /// A cluster of an upstream.
    #[must_use]
    pub fn new(org: &str, kind: &str, upstream: &str, cluster: &str) -> Self {
        Self { org: org.into(), kind: kind.into(), upstream: upstream.into(), cluster: cluster.into() }
    }
}

/// An instance that was heard of and counts as alive.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Where it serves.
    pub address: String,
    /// The version of its program.
    pub program: String,
    /// Whether it is about to end.
    pub is_leaving: bool,
    /// Seconds since it was heard of.
    pub silent_seconds: f64,
}

/// What one instance has said of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which cluster.
    pub of: ClusterName,
    /// The id of the instance.
    pub instance: String,
    /// How much is under way there.
    pub count: u32,
    /// As [`UnderWay::seen`].
    pub seen: u64,
}

/// What the living instances have said, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Roll {
    /// The instances.
    pub instances: Vec<Instance>,
    /// What is under way on them.
    pub said: Vec<Said>,
}

/// What one instance has on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The id of the instance.
    pub instance: String,
    /// How much is under way there.
    pub count: u32,
    /// Whether the instance decides by the version that is asked about, or a later one.
    pub is_current: bool,
}

/// What all living instances have on a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// One for each.
    pub shares: Vec<Share>,
}

impl Tally {
    /// What is under way on the cluster, as far as is known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.shares.iter().map(|share| u64::from(share.count)).sum()
    }

    /// Whether nothing is under way, and nothing will be unless a later version says so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.iter().all(|share| share.count == 0 && share.is_current)
    }
}

impl Roll {
    /// What the instances have on a cluster that has been draining since `version`. An instance that has not said a word of
    /// it may not know that it drains.
    #[must_use]
    pub fn tally(&self, of: &ClusterName, version: u64) -> Tally {
        let share = |instance: &Instance| {
            let said = self.said.iter().find(|said| said.instance == instance.id && said.of == *of);
            Share {
                instance: instance.id.clone(),
                count: said.map_or(0, |said| said.count),
                is_current: said.is_some_and(|said| said.seen >= version),
            }
        };
        Tally { shares: self.instances.iter().map(share).collect() }
    }
}

/// What came of a change of a cluster's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done: the version of the organisation since then, and whether anything had to be changed.
    Done {
        /// An instance that has seen it sends no request by the state before.
        version: u64,
        /// False when it was so already.
        changed: bool,
    },
    /// It is the last cluster that runs.
    Last,
    /// It is a shadow, which serves nobody.
    Shadow,
    /// There is no such organisation, upstream or cluster: the word says which.
    Unknown(&'static str),
}

const BEAT: &str =
    "select embedgate.beat($1, $2, $3, $4, make_interval(secs => $5), $6, $7, $8, $9, $10::int4[], $11::int8[])";

impl Writer {
    /// Says that an instance lives; gives how many there are that are not about to end.
    ///
    /// # Errors
    /// [`Error`]; then it may or may not have been heard.
    pub async fn beat(&self, beat: Beat<'_>) -> Result<u32, Error> {
        let Beat { id, address, is_leaving, life, under_way } = beat;
        let column = |pick: fn(&ClusterName) -> &str| under_way.iter().map(|one| pick(&one.of)).collect::<Vec<_>>();
        let (orgs, kinds) = (column(|of| &of.org), column(|of| &of.kind));
        let (upstreams, clusters) = (column(|of| &of.upstream), column(|of| &of.cluster));
        let counts: Vec<_> = under_way.iter().map(|one| i32::try_from(one.count).unwrap_or(i32::MAX)).collect();
        let seen: Vec<_> = under_way.iter().map(|one| one.seen.cast_signed()).collect();
        let (program, life) = (env!("CARGO_PKG_VERSION"), life.as_secs_f64());
        let values: [(&(dyn ToSql + Sync), Type); 11] = [
            (&id, Type::TEXT),
            (&address, Type::TEXT),
            (&program, Type::TEXT),
            (&is_leaving, Type::BOOL),
            (&life, Type::FLOAT8),
            (&orgs, Type::TEXT_ARRAY),
            (&kinds, Type::TEXT_ARRAY),
            (&upstreams, Type::TEXT_ARRAY),
            (&clusters, Type::TEXT_ARRAY),
            (&counts, Type::INT4_ARRAY),
            (&seen, Type::INT8_ARRAY),
        ];
        let beaten = async { Ok(self.client().await?.query_typed_one(BEAT, &values).await?.try_get::<_, i32>(0)?) };
        self.within_limit(beaten).await.map(i32::unsigned_abs)
    }

    /// Says that an instance has ended.
    ///
    /// # Errors
    /// [`Error`]; then it counts as gone when its time is over.
    pub async fn goodbye(&self, id: &str) -> Result<(), Error> {
        let sql = "select embedgate.goodbye($1) is null";
        let said = async { Ok(self.client().await?.query_typed_one(sql, &[(&id, Type::TEXT)]).await.map(drop)?) };
        self.within_limit(said).await
    }

    /// As [`roll`].
    ///
    /// # Errors
    /// [`Error`].
    pub async fn roll(&self, of: Scope<'_>) -> Result<Roll, Error> {
        self.within_limit(async { roll(&**self.client().await?, of).await }).await
    }

    /// As [`set_state`].
    ///
    /// # Errors
    /// [`Error`]; then it may or may not have been changed.
    pub async fn set_state(&self, of: &ClusterName, state: &str, force: bool) -> Result<Outcome, Error> {
        self.within_limit(async { set_state(&**self.client().await?, of, state, force).await }).await
    }

    /// As [`switch`].
    ///
    /// # Errors
    /// [`Error`]; then it may or may not have been changed.
    pub async fn switch(&self, to: &ClusterName) -> Result<Outcome, Error> {
        self.within_limit(async { switch(&**self.client().await?, to).await }).await
    }
}

/// What is asked about: an organisation, or all; an upstream of it, or all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope<'a> {
    /// The id of the organisation.
    pub org: Option<&'a str>,
    /// Kind and id of the upstream.
    pub upstream: Option<(&'a str, &'a str)>,
}

// One statement, so that it is one moment: an instance that is not in it has ended, and not just begun to be read.
const ROLL: &str = "select i.id, i.address, i.program, i.leaving,
      extract(epoch from clock_timestamp() - i.heartbeat_at)::float8, f.org, f.kind, f.upstream, f.cluster, f.count, f.seen
    from embedgate.instance i left join embedgate.in_flight f
      on f.instance = i.id and ($1 is null or f.org = $1) and ($2 is null or (f.kind, f.upstream) = ($2, $3))
    where i.expires_at > clock_timestamp()
    order by i.started_at, i.id, f.org, f.kind, f.upstream, f.cluster";

/// What the living instances have said.
///
/// # Errors
/// [`Error::Schema`] and [`Error::Sql`].
pub async fn roll(client: &impl GenericClient, of: Scope<'_>) -> Result<Roll, Error> {
    let (kind, upstream) = of.upstream.unzip();
    let rows = client.query_typed(ROLL, &[(&of.org, Type::TEXT), (&kind, Type::TEXT), (&upstream, Type::TEXT)]).await?;
    let mut roll = Roll::default();
    for row in &rows {
        let instance = instance(row)?;
        if let Some(said) = said(row, &instance.id)? {
            roll.said.push(said);
        }
        if roll.instances.last().is_none_or(|last| last.id != instance.id) {
            roll.instances.push(instance);
        }
    }
    Ok(roll)
}

fn instance(row: &Row) -> Result<Instance, tokio_postgres::Error> {
    Ok(Instance {
        id: row.try_get(0)?,
        address: row.try_get(1)?,
        program: row.try_get(2)?,
        is_leaving: row.try_get(3)?,
        silent_seconds: row.try_get(4)?,
    })
}

fn said(row: &Row, instance: &str) -> Result<Option<Said>, tokio_postgres::Error> {
    let Some(org) = row.try_get::<_, Option<&str>>(5)? else { return Ok(None) };
    let (kind, upstream, cluster): (&str, &str, &str) = (row.try_get(6)?, row.try_get(7)?, row.try_get(8)?);
    let (count, seen): (i32, i64) = (row.try_get(9)?, row.try_get(10)?);
    let of = ClusterName::new(org, kind, upstream, cluster);
    Ok(Some(Said { of, instance: instance.to_owned(), count: count.unsigned_abs(), seen: seen.unsigned_abs() }))
}

/// Sets the state of a cluster. The last one that runs goes on running, unless `force` is set.
///
/// # Errors
/// [`Error::Sql`].
pub async fn set_state(
    client: &impl GenericClient,
    of: &ClusterName,
    state: &str,
    force: bool,
) -> Result<Outcome, Error> {
    let ClusterName { org, kind, upstream, cluster } = of;
    let sql = "select outcome, version from embedgate.set_cluster_state($1, $2, $3, $4, $5, $6)";
    let values: [(&(dyn ToSql + Sync), Type); 6] = [
        (org, Type::TEXT),
        (kind, Type::TEXT),
        (upstream, Type::TEXT),
        (cluster, Type::TEXT),
        (&state, Type::TEXT),
        (&force, Type::BOOL),
    ];
    outcome(&client.query_typed_one(sql, &values).await?)
}

/// The kinds of which an organisation has an upstream with this id.
///
/// # Errors
/// [`Error::Sql`].
pub async fn kinds(client: &impl GenericClient, org: &str, upstream: &str) -> Result<Vec<String>, Error> {
    let sql = "select 'app' from embedgate.app where org = $1 and id = $2
        union all select 'warehouse' from embedgate.warehouse where org = $1 and id = $2
        union all select 'engine' from embedgate.engine where org = $1 and id = $2";
    let rows = client.query_typed(sql, &[(&org, Type::TEXT), (&upstream, Type::TEXT)]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// The state of a cluster; none where it is not in the directory.
///
/// # Errors
/// [`Error::Sql`].
pub async fn state(client: &impl GenericClient, of: &ClusterName) -> Result<Option<String>, Error> {
    let ClusterName { org, kind, upstream, cluster } = of;
    let sql = "select state from embedgate.cluster where org = $1 and kind = $2 and upstream = $3 and id = $4";
    let values: [(&(dyn ToSql + Sync), Type); 4] =
        [(org, Type::TEXT), (kind, Type::TEXT), (upstream, Type::TEXT), (cluster, Type::TEXT)];
    let rows = client.query_typed(sql, &values).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// Makes a cluster run, and all others that run drain, at one moment.
///
/// # Errors
/// [`Error::Sql`].
pub async fn switch(client: &impl GenericClient, to: &ClusterName) -> Result<Outcome, Error> {
    let ClusterName { org, kind, upstream, cluster } = to;
    let sql = "select outcome, version from embedgate.switch_cluster($1, $2, $3, $4)";
    let values: [(&(dyn ToSql + Sync), Type); 4] =
        [(org, Type::TEXT), (kind, Type::TEXT), (upstream, Type::TEXT), (cluster, Type::TEXT)];
    outcome(&client.query_typed_one(sql, &values).await?)
}

fn outcome(row: &Row) -> Result<Outcome, Error> {
    let (outcome, version): (&str, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let version = version.unwrap_or(0).unsigned_abs();
    Ok(match outcome {
        "changed" => Outcome::Done { version, changed: true },
        "unchanged" => Outcome::Done { version, changed: false },
        "last" => Outcome::Last,
        "shadow" => Outcome::Shadow,
        "no organisation" => Outcome::Unknown("organisation"),
        "no upstream" => Outcome::Unknown("upstream"),
        "no cluster" => Outcome::Unknown("cluster"),
        other => return Err(Error::Sql(format!("a change of a cluster's state gave {other:?}"))),
    })
}
