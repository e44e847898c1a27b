//! The front end's keys, fetched ahead of time and kept: a token whose key is known never waits. While they cannot be
//! fetched, those before stay in use.

use super::JwtError;
use super::keyset::{BadKeySet, KeySet};
use crate::config::Jwt;
use crate::metrics::Metrics;
use crate::model::url::Endpoint;
use crate::net::dial::Dialer;
use crate::net::http::{CallError, Limits, call};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{ACCEPT, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use jsonwebtoken::Algorithm;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A whole fetch takes no longer, and its answer is no larger: a key has less than 2 KiB.
const LIMITS: Limits = Limits { time: Duration::from_secs(5), answer: 256 * 1024 };
/// How long a token waits for a fetch: as long as one takes, and a little for its task to be woken.
const PATIENCE: Duration = Duration::from_secs(6);
/// The pauses after failed fetches: doubled from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Keys that could not be fetched for so long are not used any more: they may have been withdrawn for a reason.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// How often the age of the keys is told.
const TELL: Duration = Duration::from_secs(5);

/// Why a fetch came to nothing.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0} answered {1}")]
    Status(Endpoint, StatusCode),
    #[error("what {0} answered {1}")]
    KeySet(Endpoint, BadKeySet),
}

/// The keys now, and who fetches them when.
pub(super) struct Jwks {
    endpoint: Endpoint,
    algorithms: Arc<[Algorithm]>,
    /// How old keys may become.
    refresh: Duration,
    /// Least time between two fetches that tokens ask for.
    pace: Duration,
    dialer: Dialer,
    metrics: Arc<Metrics>,
    keys: ArcSwapOption<KeySet>,
    asked: Notify,
    fetch: Mutex<Fetch>,
    /// What the last fetch failed with; sent whenever one ends.
    outcome: watch::Sender<Option<Arc<str>>>,
}

/// The fetch that is under way or was asked for, and the next that may be asked for.
struct Fetch {
    under_way: bool,
    /// Before this no token may ask for another.
    not_before: Option<Instant>,
}

impl Jwks {
    pub(super) fn new(config: &Jwt, algorithms: Arc<[Algorithm]>, dialer: Dialer, metrics: Arc<Metrics>) -> Self {
        Self {
            endpoint: config.jwks_url.clone(),
            algorithms,
            refresh: config.refresh_interval,
            pace: config.unknown_kid_interval,
            dialer,
            metrics,
            keys: ArcSwapOption::empty(),
            asked: Notify::new(),
            // The first one needs no asking, and whoever comes before it waits for it.
            fetch: Mutex::new(Fetch { under_way: true, not_before: None }),
            outcome: watch::Sender::new(None),
        }
    }

    /// The keys now.
    pub(super) fn keys(&self) -> Result<Arc<KeySet>, JwtError> {
        let unavailable = || {
            let cause = self.outcome.borrow().clone().unwrap_or_else(|| "they have not been fetched yet".into());
            JwtError::KeysUnavailable { cause }
        };
        self.keys.load_full().ok_or_else(unavailable)
    }

    /// Waits for a fetch: for the one under way, or else for a new one, for which all wait that come meanwhile. Whether
    /// it brought keys. Does not wait when the last fetch that a token asked for is too short a time ago.
    pub(super) async fn fetched_anew(&self) -> bool {
        // Before asking, so that its end is not missed.
        let mut outcomes = self.outcome.subscribe();
        if !self.ask() {
            return false;
        }
        let ended = timeout(PATIENCE, outcomes.changed()).await;
        ended.is_ok_and(|alive| alive.is_ok()) && outcomes.borrow().is_none()
    }

    /// Whether there is a fetch to wait for.
    fn ask(&self) -> bool {
        let mut fetch = self.fetch();
        let now = Instant::now();
        if !fetch.under_way && fetch.not_before.is_none_or(|due| now >= due) {
            *fetch = Fetch { under_way: true, not_before: Some(now + self.pace) };
            self.asked.notify_one();
        }
        fetch.under_way
    }

    fn fetch(&self) -> MutexGuard<'_, Fetch> {
        // Poisoning would mean a panic between two assignments; both values are whole either way.
        self.fetch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches for ever: ahead of time, when asked, and again after a failure.
    pub(super) async fn run(self: Arc<Self>) {
        let (mut failures, mut fetched) = (0, Instant::now());
        loop {
            self.fetch().under_way = true;
            match self.fetch_keys().await {
                Ok(keys) => {
                    let is_news = failures > 0 || self.keys.load().is_none();
                    self.take(keys, is_news);
                    (failures, fetched) = (0, Instant::now());
                }
                Err(error) => {
                    failures += 1;
                    self.complain(&error, failures);
                }
            }
            self.rest(self.pause_after(failures), fetched).await;
        }
    }

    async fn fetch_keys(&self) -> Result<KeySet, FetchError> {
        let mut request = Request::new(Full::<Bytes>::default());
        *request.uri_mut() = Uri::from(self.endpoint.target().clone());
        let accepted = HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(ACCEPT, accepted);
        let answer = call(&self.dialer, self.endpoint.base(), request, LIMITS).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(self.endpoint.clone(), answer.status()));
        }
        let keys = KeySet::parse(answer.body(), &self.algorithms);
        keys.map_err(|bad| FetchError::KeySet(self.endpoint.clone(), bad))
    }

    fn take(&self, keys: KeySet, is_news: bool) {
        if is_news {
            tracing::info!(keys = keys.len(), "keys of the front end fetched");
        }
        self.keys.store(Some(Arc::new(keys)));
        self.settle(None);
    }

    fn complain(&self, error: &FetchError, failures: u32) {
        self.metrics.jwks_failures.increment(1);
        let cause = error.to_string();
        tracing::warn!(error = %cause, attempt = failures, "no keys from the front end; those before stay in use");
        self.settle(Some(cause.into()));
    }

    /// Tells the outcome of a fetch to all who wait.
    fn settle(&self, failure: Option<Arc<str>>) {
        let mut fetch = self.fetch();
        fetch.under_way = false;
        // Asked for just before a fetch began by itself: this was it.
        let _ = self.asked.notified().now_or_never();
        self.outcome.send_replace(failure);
    }

    /// Waits until it is time, or until a token asks; meanwhile tells the keys' age.
    async fn rest(&self, pause: Duration, fetched: Instant) {
        let until = Instant::now() + pause;
        loop {
            self.metrics.jwks_age.set(fetched.elapsed().as_secs_f64());
            if fetched.elapsed() > MAX_AGE && self.keys.swap(None).is_some() {
                tracing::error!("the keys of the front end are a day old and not used any more");
            }
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.asked.notified() => return,
                () = sleep(TELL) => {}
            }
        }
    }

    /// Spread, so that gateways started together do not fetch together.
    fn pause_after(&self, failures: u32) -> Duration {
        // Without randomness nothing is spread, which is all that is lost.
        let random = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
        let Some(doublings) = failures.checked_sub(1) else { return self.refresh.mul_f64(1.0 - 0.1 * random) };
        let doubled = FIRST_RETRY.saturating_mul(1 << doublings.min(10));
        doubled.min(LAST_RETRY).mul_f64(0.75 + 0.5 * random)
    }
}
