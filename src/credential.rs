//! Tokens of service principals: one call to the issuer at a time for each principal however many requests wait, refreshed
//! ahead of time, failures remembered for a while.

pub mod assertions;
mod clients;
mod endpoint;
mod jwts;
mod keeper;
mod mint;
pub mod sigv4;

use crate::clock::Clock;
use crate::live::token::Token;
use crate::metrics::Metrics;
use crate::model::ids::OrgId;
use crate::model::principal::PrincipalKind;
use crate::model::reject::{Class, Reject};
use crate::model::upstream::ServicePrincipal;
use crate::model::url::BaseUrl;
use crate::net::dial::Dialer;
use assertions::Assertions;
use futures_util::future::BoxFuture;
use keeper::{Keeper, Link, State};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The issuer says no: asking again soon is of no use.
    #[error("the issuer refuses the principal: {0}")]
    Refused(String),
    /// The issuer did not answer, or not as an issuer does.
    #[error("the issuer gives no token: {cause}")]
    Unavailable {
        /// What happened.
        cause: String,
        /// How long the issuer asks to be left alone.
        retry_after: Option<Duration>,
    },
}

impl From<MintError> for Reject {
    fn from(error: MintError) -> Self {
        let class = match error {
            MintError::Refused(_) => Class::IssuerRefused,
            MintError::Unavailable { .. } => Class::IssuerUnreachable,
        };
        Self::new(class, error.to_string())
    }
}

/// Calls to issuers under way at once, over all principals: after a restart every organisation asks at the same moment.
const MAX_MINTS: usize = 256;
/// Calls to one issuer under way at once, so that one which hangs does not take the turns of the others.
const MAX_MINTS_PER_ISSUER: usize = 8;
/// A rejected token leads to a new one at most once in this time, or an app that answers 401 by itself would be a storm.
const FORCE_INTERVAL: Duration = Duration::from_secs(10);

/// Settings of a [`Minter`].
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long one call to an issuer may take.
    pub timeout: Duration,
    /// Tokens are refreshed ahead as long as their last use is not longer ago.
    pub refresh_idle: Duration,
}

impl Shared {
    /// The turns at an issuer.
    fn turns(&self, issuer: &BaseUrl) -> Arc<Semaphore> {
        // Poisoning would mean a panic between two map operations; the map is whole either way.
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = issuers.get(issuer).and_then(Weak::upgrade) {
            return turns;
        }
        issuers.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(MAX_MINTS_PER_ISSUER));
        issuers.insert(issuer.clone(), Arc::downgrade(&turns));
        turns
    }
}

/// Gets tokens and keeps them fresh. Its work runs on the control runtime, apart from the requests.
pub struct Minter {
    shared: Arc<Shared>,
    runtime: Handle,
}

/// Has the directory read an organisation again, and is over when that is done or cannot be.
pub type Reread = Box<dyn Fn(OrgId) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a [`Minter`] needs of others.
pub struct Means {
    /// Dials issuers.
    pub dialer: Dialer,
    /// Wall clock.
    pub clock: Clock,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    /// The gateway's own keys.
    pub assertions: Assertions,
    /// Asked before a principal is given up: its secret may have been changed.
    pub reread: Reread,
}

struct Shared {
    dialer: Dialer,
    clock: Clock,
    metrics: Arc<Metrics>,
    assertions: Assertions,
    reread: Reread,
    settings: Settings,
    permits: Semaphore,
    /// Turns at each issuer; those nobody holds are forgotten.
    issuers: Mutex<HashMap<BaseUrl, Weak<Semaphore>>>,
    /// The keeper of each principal in use, by its token cell.
    keepers: Mutex<HashMap<u64, Link>>,
}

impl Minter {
    /// A minter whose keepers run on `runtime`.
    #[must_use]
    pub fn new(means: Means, settings: Settings, runtime: Handle) -> Self {
        let Means { dialer, clock, metrics, assertions, reread } = means;
        let permits = Semaphore::new(MAX_MINTS);
        let (issuers, keepers) = (Mutex::default(), Mutex::default());
        let shared = Shared { dialer, clock, metrics, assertions, reread, settings, permits, issuers, keepers };
        Self { shared: Arc::new(shared), runtime }
    }

    /// The gateway's own keys.
    #[must_use]
    pub fn assertions(&self) -> &Assertions {
        &self.shared.assertions
    }

    /// The principal's token; waits for the issuer only when there is none, and no longer than two calls may take.
    ///
    /// # Errors
    /// [`MintError`] of the last attempt, also for a while after it.
    pub async fn token(&self, principal: &ServicePrincipal) -> Result<Arc<Token>, MintError> {
        if principal.kind == PrincipalKind::Unusable {
            return Err(MintError::Refused("its row in the directory cannot be used; the log says why".into()));
        }
        let limit = self.shared.settings.timeout * 2;
        timeout(limit, self.wait_for_token(principal)).await.unwrap_or_else(|_| {
            let cause = format!("no turn at the issuer within {limit:?}");
            Err(MintError::Unavailable { cause, retry_after: None })
        })
    }

    async fn wait_for_token(&self, principal: &ServicePrincipal) -> Result<Arc<Token>, MintError> {
        let mut link = self.link(principal);
        loop {
            if let Some(token) = principal.token.get(self.shared.clock.now()) {
                return Ok(token);
            }
            link.wish.notify_one();
            let state = link.state.wait_for(|state| !matches!(state, State::Minting | State::Idle)).await;
            match state.map(|state| state.clone()) {
                Ok(State::Failed(error)) => return Err(error),
                Ok(_) => {}
                // The keeper ended in between; the next one starts with a mint.
                Err(_) => link = self.link(principal),
            }
            // `Ready` without a usable token means the token just expired: wait for the change the wish brings.
            let expired = principal.token.get(self.shared.clock.now()).is_none();
            if expired && link.state.changed().await.is_err() {
                link = self.link(principal);
            }
        }
    }

    /// A token other than `stale`, which the upstream did not accept; one call to the issuer for all that ask at the same
    /// time. `None` when `stale` was got only a moment ago and another try would not help.
    ///
    /// # Errors
    /// [`MintError`] when the issuer gives none.
    pub async fn renew(
        &self,
        principal: &ServicePrincipal,
        stale: &Arc<Token>,
    ) -> Result<Option<Arc<Token>>, MintError> {
        let now = || self.shared.clock.now();
        let fresh = || principal.token.get(now()).filter(|token| !Arc::ptr_eq(token, stale));
        if let Some(token) = fresh() {
            return Ok(Some(token));
        }
        let mut link = self.link(principal);
        link.state.mark_unchanged();
        // After a failure the issuer is left alone, and a request does not wait for that to end.
        if let State::Failed(error) = &*link.state.borrow() {
            return Err(error.clone());
        }
        if !link.force(FORCE_INTERVAL) {
            return Ok(fresh());
        }
        loop {
            if link.state.changed().await.is_err() {
                return Ok(fresh());
            }
            let now_at = link.state.borrow_and_update().clone();
            match (fresh(), now_at) {
                (Some(token), _) => return Ok(Some(token)),
                (None, State::Failed(error)) => return Err(error),
                (None, _) => {}
            }
        }
    }

    fn link(&self, principal: &ServicePrincipal) -> Link {
        let key = principal.token.uid();
        // Poisoning would mean a panic between two map operations; the map is whole either way.
        let mut keepers = self.shared.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let (keeper, link) = Keeper::new(principal, Arc::clone(&self.shared), key);
            self.runtime.spawn(keeper.run());
            link
        };
        keepers.entry(key).or_insert_with(start).clone()
    }
}
