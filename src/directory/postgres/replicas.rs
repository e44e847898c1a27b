//! Replicas that rows are read from: each has to prove that it has everything that is committed on the primary.

use super::Error;
use super::connect::{self, Limits};
use super::reading::{self, Found, Request};
use super::standing::{self, Moment};
use super::url::Target;
use deadpool_postgres::Pool;
use std::time::Duration;
use tokio::time::Instant;

/// One that failed is left alone for so long: doubled from the first to the last.
const FIRST_REST: Duration = Duration::from_secs(1);
const LAST_REST: Duration = Duration::from_secs(30);

/// One replica, with what was seen of it.
pub struct Replica {
    number: usize,
    pool: Option<(Pool, String)>,
    /// Set while it does not catch up in time.
    behind: Option<Behind>,
    /// Failures in a row, and until when it is left alone for them.
    failures: u32,
    resting: Option<Instant>,
    /// What the metrics tell.
    pub seen: Seen,
}

/// A replica that was waited for in vain.
struct Behind {
    since: Instant,
    /// It is not waited for again before it has replayed up to here: whoever waits for the rows has waited once.
    position: u64,
}

/// What was seen of a replica.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Reads that it answered.
    pub reads: u64,
    /// How many bytes it had still to replay when it was last asked.
    pub lag_bytes: u64,
    /// From asking the primary for its position to the replica's being there, as far as that was waited for.
    pub lag: Duration,
}

/// Why a replica was not read from.
pub enum Refusal {
    /// It has not replayed up to the position of the primary.
    Late(Moment),
    /// What was read is too old though it said that it had replayed enough.
    Old,
    /// It is not to be had.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Replica {
    /// One that has not been connected to; its number, from 1, is how it is called.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self { number, pool: None, behind: None, failures: 0, resting: None, seen: Seen::default() }
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether it is not left alone just now.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.resting.is_none_or(|until| until <= Instant::now())
    }

    /// Reads when it has replayed what was committed at `moment`. Without a moment it is read as it is.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn read(
        &mut self,
        target: Result<Target, Error>,
        limits: Limits,
        moment: Option<&Moment>,
        deadline: Instant,
        request: Request<'_>,
    ) -> Result<Found, Refusal> {
        let result = self.try_read(target, limits, moment, deadline, request).await;
        match &result {
            Ok(_) => self.good(),
            Err(Refusal::Late(moment)) => self.late(moment),
            Err(Refusal::Old) => {}
            Err(Refusal::Failed(error)) => self.failed(error),
        }
        result
    }

    async fn try_read(
        &mut self,
        target: Result<Target, Error>,
        limits: Limits,
        moment: Option<&Moment>,
        deadline: Instant,
        request: Request<'_>,
    ) -> Result<Found, Refusal> {
        let (pool, at) = match self.pool.take() {
            Some(made) => self.pool.insert(made),
            None => self.pool.insert(connect::pool_at(&target?, limits)?),
        };
        let mut client = connect::acquire(pool, at).await?;
        if let Some(moment) = moment {
            let worth_it = self.behind.as_ref().map_or(0, |behind| behind.position);
            self.seen.lag_bytes = standing::catch_up(&**client, moment, worth_it, deadline, limits.acquire).await?;
            if self.seen.lag_bytes > 0 {
                return Err(Refusal::Late(moment.clone()));
            }
            self.seen.lag = moment.asked.elapsed();
        }
        let found = reading::read(&mut client, request, moment.map(|moment| &moment.history)).await;
        found.map_err(|error| if matches!(error, Error::Behind) { Refusal::Old } else { Refusal::Failed(error) })
    }

    fn good(&mut self) {
        if self.failures > 0 || self.behind.is_some() {
            tracing::info!(replica = self.number, "rows are read from the replica again");
        }
        (self.failures, self.resting, self.behind) = (0, None, None);
        self.seen.reads += 1;
    }

    fn late(&mut self, moment: &Moment) {
        let Moment { position, asked: since, .. } = *moment;
        let lag_bytes = self.seen.lag_bytes;
        if self.behind.is_none() {
            tracing::warn!(replica = self.number, lag_bytes, "the replica lags; rows are read elsewhere");
        }
        let behind = self.behind.get_or_insert(Behind { since, position });
        self.seen.lag = behind.since.elapsed();
        if position - lag_bytes >= behind.position {
            // It was waited for again, and again in vain.
            behind.position = position;
        }
    }

    fn failed(&mut self, error: &Error) {
        if self.failures == 0 {
            tracing::warn!(replica = self.number, %error, "the replica cannot be read; rows are read elsewhere");
        }
        (self.pool, self.resting) = (None, Some(Instant::now() + rest(self.failures)));
        self.failures = self.failures.saturating_add(1);
    }
}

/// How long one is left alone after so many failures before the last one.
fn rest(failures: u32) -> Duration {
    FIRST_REST.saturating_mul(1 << failures.min(10)).min(LAST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::postgres::standing::History;

    #[test]
    fn one_that_lags_is_waited_for_again_when_it_has_what_it_lacked() {
        let mut replica = Replica::new(1);
        let history = History { system: 1, timeline: 1, started: 0 };
        for (position, replayed, worth_it) in [(100, 50, 100), (200, 60, 100), (300, 100, 300), (400, 299, 300)] {
            replica.seen.lag_bytes = position - replayed;
            replica.late(&Moment { history: history.clone(), position, asked: Instant::now() });
            assert_eq!(replica.behind.as_ref().map(|behind| behind.position), Some(worth_it), "{position}");
        }
        replica.good();
        assert!(replica.behind.is_none() && replica.seen.reads == 1);
    }

    #[test]
    fn one_that_fails_rests_longer_each_time_and_up_to_a_limit() {
        assert_eq!([0, 1, 4, 5, u32::MAX].map(|failures| rest(failures).as_secs()), [1, 2, 16, 30, 30]);
        let mut replica = Replica::new(1);
        assert!(replica.is_awake());
        replica.failed(&Error::Foreign);
        assert!(!replica.is_awake());
        replica.good();
        assert!(replica.is_awake() && replica.failures == 0);
    }
}
