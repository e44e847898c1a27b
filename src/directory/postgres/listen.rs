//! Hears of changes, on a connection of its own that is made anew whenever it is lost.
//!
//! The order closes the gap: first listen, then read everything, then follow notices. Whatever was sent while nobody
//! listened is covered by that read.

use super::standing::{self, History, Moment};
use super::url::{self, Target};
use super::{Error, bars, connect, explain};
use crate::config::{Env, Postgres};
use crate::directory::sync::Change;
use crate::model::access::Bar;
use crate::model::ids::OrgId;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};

/// The channel that the triggers notify.
pub const CHANNEL: &str = "embedgate_directory";
/// A connection that is silent is asked for a sign of life this often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// An answer to that takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// More organisations, or bars, than this waiting to be read are read as a whole.
const MAX_WAITING: usize = 1000;

/// What has been heard and not been read yet. Many notices of one organisation are one.
#[derive(Debug, Default)]
struct Heard {
    all: bool,
    /// Notices may have been missed: versions are to be compared.
    compare: bool,
    order: VecDeque<OrgId>,
    versions: HashMap<OrgId, u64>,
    bars: BTreeSet<Bar>,
    /// The connection that hears of changes, while there is one.
    primary: Option<Primary>,
    trouble: Option<String>,
    pooled: bool,
}

impl Heard {
    fn everything(&mut self) {
        self.all = true;
        self.order.clear();
        self.versions.clear();
        self.bars.clear();
    }

    fn missed(&mut self) {
        self.compare = true;
        self.order.clear();
        self.versions.clear();
        self.bars.clear();
    }

    /// Takes a notice in; one that is not understood means that anything may have changed.
    fn notice(&mut self, payload: &str) {
        if self.all {
            return;
        }
        if let Some(bar) = bars::bar_of_notice(payload) {
            if self.bars.len() >= MAX_WAITING {
                return self.missed();
            }
            self.bars.insert(bar);
            return;
        }
        let parts = payload
            .split_once(' ')
            .and_then(|(id, version)| Some((OrgId::parse(id).ok()?, version.parse::<u64>().ok()?)));
        let Some((id, version)) = parts else { return self.everything() };
        if let Some(known) = self.versions.get_mut(&id) {
            *known = version.max(*known);
            return;
        }
        if self.order.len() >= MAX_WAITING {
            return self.missed();
        }
        self.order.push_back(id.clone());
        self.versions.insert(id, version);
    }

    fn take(&mut self) -> Option<Change> {
        let compare = std::mem::take(&mut self.compare);
        if std::mem::take(&mut self.all) {
            return Some(Change::All);
        }
        if compare {
            return Some(Change::Versions);
        }
        // First of all single ones, because they take access away.
        if !self.bars.is_empty() {
            return Some(Change::Bars(std::mem::take(&mut self.bars).into_iter().collect()));
        }
        let id = self.order.pop_front()?;
        let version = self.versions.remove(&id).unwrap_or(0);
        Some(Change::Org { id, version })
    }
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    wake: Notify,
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        // A panic in between leaves a notice unheard at worst, which the next full read makes good.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens as long as it lives.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Begins to listen; within a runtime.
    #[must_use]
    pub fn start(settings: Postgres, env: Env) -> Self {
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(run(settings, env, Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Waits for a change. Nothing is lost when the wait is given up.
    pub async fn changed(&self) -> Change {
        loop {
            let woken = self.shared.wake.notified();
            if let Some(change) = self.shared.heard().take() {
                return change;
            }
            woken.await;
        }
    }

    /// A change that has been heard of already.
    #[must_use]
    pub fn waiting(&self) -> Option<Change> {
        self.shared.heard().take()
    }

    /// Whether changes are heard of, and all that were have been given out.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let heard = self.shared.heard();
        heard.primary.is_some() && !heard.all && !heard.compare && heard.order.is_empty() && heard.bars.is_empty()
    }

    /// The primary, while it is listened to.
    #[must_use]
    pub fn primary(&self) -> Option<Primary> {
        self.shared.heard().primary.clone()
    }

    /// Whether changes are heard of.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.heard().primary.is_some()
    }

    /// Whether a pooler keeps notices from coming, which no waiting mends.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.shared.heard().pooled
    }

    /// Why changes are not heard of.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.heard().trouble.clone()
    }
}

async fn run(settings: Postgres, env: Env, shared: Arc<Shared>) {
    let (mut failures, mut newest) = (0_u32, None);
    loop {
        let Err(error) = listen(&settings, &env, &shared, &mut failures, &mut newest).await;
        let pause = FIRST_BACKOFF.saturating_mul(1 << failures.min(10)).min(LAST_BACKOFF);
        failures = failures.saturating_add(1);
        tracing::error!(%error, attempt = failures, "changes of the directory are not heard of; trying again");
        {
            let mut heard = shared.heard();
            if newest.is_none() && failures == 1 && !settings.replicas.is_empty() {
                // Better to begin with what a replica has than with nothing.
                heard.everything();
                shared.wake.notify_one();
            }
            heard.primary = None;
            heard.trouble = Some(error.to_string());
            heard.pooled = matches!(error, Error::Pooled { .. });
        }
        sleep(pause.mul_f64(0.5 + 0.5 * random_unit())).await;
    }
}

/// One connection, from its making to its loss. `newest` is the newest history that was ever listened to.
async fn listen(
    settings: &Postgres,
    env: &Env,
    shared: &Arc<Shared>,
    failures: &mut u32,
    newest: &mut Option<History>,
) -> Result<Infallible, Error> {
    let Session { key, primary, pid, mut task } =
        open_first(&url::candidates(settings, env)?, settings, shared, newest.as_ref()).await?;
    *failures = 0;
    *newest = primary.history.clone().or(newest.take());
    {
        let mut heard = shared.heard();
        heard.missed();
        (heard.primary, heard.trouble) = (Some(primary.clone()), None);
    }
    shared.wake.notify_one();
    tracing::info!(at = %primary.target.at(), "listening for changes of the directory");
    tokio::select! {
        ended = &mut task.0 => Err(Error::Lost(ended.unwrap_or_else(|error| error.to_string()))),
        result = watch(key, &primary.client, pid) => result,
    }
}

/// The connection that changes are heard of on.
#[derive(Debug, Clone)]
pub struct Primary {
    client: Arc<Client>,
    target: Target,
    history: Option<History>,
}

impl Primary {
    /// Where it is.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What it writes, where it tells.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// How far it is now.
    ///
    /// # Errors
    /// [`Error::Late`] and [`Error::Sql`].
    pub async fn moment(&self, limit: Duration) -> Result<Moment, Error> {
        let asked = Instant::now();
        let late = |_| Error::Late(format!("the primary does not tell its position within {limit:?}"));
        let position = timeout(limit, standing::position(&*self.client)).await.map_err(late)??;
        let history = self.history.clone().ok_or(Error::Foreign)?;
        Ok(Moment { history, position, asked })
    }
}

/// A connection that listens, with the server process behind it.
struct Session {
    key: &'static str,
    primary: Primary,
    pid: i32,
    task: AbortOnDrop,
}

/// Listens to the first candidate that is the primary.
async fn open_first(
    candidates: &[(&'static str, Target)],
    settings: &Postgres,
    shared: &Arc<Shared>,
    newest: Option<&History>,
) -> Result<Session, Error> {
    let mut errors = Vec::new();
    for (key, target) in candidates {
        let opened = open(key, target, settings.connect_timeout, shared).await;
        let is_old = |session: &Session| {
            session.primary.history.as_ref().zip(newest).is_some_and(|(history, newest)| history.is_before(newest))
        };
        match opened {
            Ok(session) if is_old(&session) => {
                let error = Error::Superseded { at: target.at() };
                tracing::warn!(%error, "a primary of the past is passed over");
                errors.push(error);
            }
            Ok(session) => return Ok(session),
            Err(error) => errors.push(error),
        }
    }
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let only = errors.pop().filter(|_| all.len() == 1);
    Err(only.unwrap_or_else(|| Error::NoPrimary(all.join("; "))))
}

/// Listens to one candidate, if it is a primary.
async fn open(key: &'static str, target: &Target, limit: Duration, shared: &Arc<Shared>) -> Result<Session, Error> {
    let (client, mut driver) = connect::direct(&target.listening(), limit).await?;
    let told = Arc::clone(shared);
    let task = AbortOnDrop(tokio::spawn(async move {
        loop {
            match poll_fn(|context| driver.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(notice))) if notice.channel() == CHANNEL => {
                    told.heard().notice(notice.payload());
                    told.wake.notify_one();
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return explain(&error),
                None => return "it was closed".to_owned(),
            }
        }
    }));
    let begun = timeout(limit, begin(key, &client, target, limit));
    let (pid, history) = begun.await.map_err(|_| late("no answer to LISTEN"))??;
    Ok(Session { key, primary: Primary { client: Arc::new(client), target: target.clone(), history }, pid, task })
}

struct AbortOnDrop(JoinHandle<String>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn late(what: &str) -> Error {
    Error::Lost(format!("{what} in time"))
}

/// Listens, and makes sure that this connection is a session: a pooler takes LISTEN without a word, and no notice ever
/// comes. The server process that answers is told apart while another connection holds the one it was a moment ago.
async fn begin(
    key: &'static str,
    client: &Client,
    target: &Target,
    limit: Duration,
) -> Result<(i32, Option<History>), Error> {
    let standing = standing::ask(client).await?;
    if standing.is_standby {
        return Err(Error::Standby { at: target.at() });
    }
    client.batch_execute(&format!("listen {CHANNEL}")).await?;
    let session = sign_of_life(key, client).await?;
    let other = connect::client(&target.listening(), limit).await?;
    other.batch_execute("begin").await?;
    let rows = other.query_typed("select pg_backend_pid()", &[]).await?;
    let pid: Option<i32> = rows.first().map(|row| row.try_get(0)).transpose()?;
    if pid == Some(session) {
        return Err(Error::Pooled { key });
    }
    // With the pooler's only connection taken, there would be no answer at all.
    let again = timeout(PATIENCE / 2, sign_of_life(key, client)).await.map_err(|_| Error::Pooled { key })??;
    other.batch_execute("rollback").await?;
    if again == session { Ok((session, standing.history)) } else { Err(Error::Pooled { key }) }
}

/// The server process behind the connection, which has to listen.
async fn sign_of_life(key: &'static str, client: &Client) -> Result<i32, Error> {
    let sql = "select pg_backend_pid(), exists (select from pg_listening_channels() as c (name) where name = $1)";
    let row = client.query_typed_one(sql, &[(&CHANNEL, tokio_postgres::types::Type::TEXT)]).await?;
    if !row.try_get::<_, bool>(1)? {
        return Err(Error::Pooled { key });
    }
    Ok(row.try_get(0)?)
}

/// Asks for signs of life until there is none, or one of another server process.
async fn watch(key: &'static str, client: &Client, session: i32) -> Result<Infallible, Error> {
    loop {
        sleep(HEARTBEAT).await;
        let sign = timeout(PATIENCE, sign_of_life(key, client));
        if sign.await.map_err(|_| late("no sign of life"))?? != session {
            return Err(Error::Pooled { key });
        }
    }
}

/// A random number from 0 to 1, so that instances do not come back all at once.
fn random_unit() -> f64 {
    let mut bytes = [0u8; 4];
    // Without randomness nothing is spread, which is all that is lost.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Subject;

    fn org(id: &str, version: u64) -> Change {
        Change::Org { id: OrgId::parse(id).unwrap(), version }
    }

    #[test]
    fn notices_are_folded_and_keep_their_order() {
        let mut heard = Heard::default();
        for payload in ["b 3", "a 4", "b 7", "b 5"] {
            heard.notice(payload);
        }
        assert_eq!([heard.take(), heard.take(), heard.take()], [Some(org("b", 7)), Some(org("a", 4)), None]);
    }

    #[test]
    fn bars_go_first() {
        let mut heard = Heard::default();
        for payload in
            ["a 4", "user:u:1", "ban:u-2", "user:u:1", "organisation:a", "session:000102030405060708090a0b0c0d0e0f"]
        {
            heard.notice(payload);
        }
        let session = Subject::Session([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let revoked = [Subject::Org("a".into()), Subject::User("u:1".into()), session].map(Bar::Revoked);
        let bars = revoked.into_iter().chain([Bar::Banned("u-2".into())]).collect();
        assert_eq!([heard.take(), heard.take(), heard.take()], [Some(Change::Bars(bars)), Some(org("a", 4)), None]);
    }

    #[test]
    fn what_is_not_understood_or_too_much_means_everything() {
        for payload in ["*", "", "a", "a x", "a b 1", "a.b 1", "a -1", "x:y", "session:12", "user:"] {
            let mut heard = Heard::default();
            heard.notice("b 1");
            heard.notice(payload);
            heard.notice("c 1");
            assert_eq!([heard.take(), heard.take()], [Some(Change::All), None], "{payload:?}");
        }
        let mut heard = Heard::default();
        (0..=MAX_WAITING).for_each(|number| heard.notice(&format!("o{number} 1")));
        assert_eq!([heard.take(), heard.take()], [Some(Change::Versions), None]);
    }
}
