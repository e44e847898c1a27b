//! The task that keeps one principal's token fresh for as long as it is used.

use super::mint::Whose;
use super::{MintError, Shared};
use crate::live::token::{Token, TokenCell, margin};
use crate::model::upstream::ServicePrincipal;
use crate::secret::Secret;
use futures_util::FutureExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

/// Where a keeper is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// A call to the issuer is under way, or the first one is about to be.
    Minting,
    /// There is a token.
    Ready,
    /// The last call failed, and the next is not made yet.
    Failed(MintError),
    /// The last failure is forgotten; the next wish leads to a call.
    Idle,
}

/// How requests talk to a keeper.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) state: watch::Receiver<State>,
    pub(super) wish: Arc<Notify>,
    forced: Arc<Forced>,
}

/// How requests ask for another token although there is one.
#[derive(Default)]
struct Forced {
    asked: Notify,
    call: Mutex<ForcedCall>,
}

#[derive(Default)]
struct ForcedCall {
    /// Before this no other is made.
    not_before: Option<Instant>,
    /// Whether one was asked for that has not ended.
    under_way: bool,
}

impl Forced {
    fn call(&self) -> MutexGuard<'_, ForcedCall> {
        // Poisoning would mean a panic between two assignments; both values are whole either way.
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Asks for a call although there is a token, at most once in `interval`. Whether such a call is under way now, so
    /// that it is worth to wait for its outcome.
    pub(super) fn force(&self, interval: Duration) -> bool {
        let mut call = self.forced.call();
        let now = Instant::now();
        if call.not_before.is_none_or(|due| now >= due) {
            *call = ForcedCall { not_before: Some(now + interval), under_way: true };
            self.forced.asked.notify_one();
        }
        call.under_way
    }
}

/// Keeps one principal's token fresh.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    key: u64,
    whose: Whose,
    cell: Weak<TokenCell>,
    state: watch::Sender<State>,
    wish: Arc<Notify>,
    forced: Arc<Forced>,
    failures: u32,
}

/// Why a keeper goes on waiting no longer.
enum Woken {
    /// It is time, or somebody asks.
    Mint,
    /// Nobody has used the token for long, or nobody can any more.
    Stop,
}

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// After a failure, a keeper nobody asks anything ends.
const FORGET_FAILURE: Duration = Duration::from_secs(600);
/// How long a refused principal may take to be read again.
const REREAD: Duration = Duration::from_secs(2);
/// Tokens with a long life are refreshed this long before their end.
const MAX_LEAD: Duration = Duration::from_secs(20 * 60);

impl Keeper {
    pub(super) fn new(principal: &ServicePrincipal, shared: Arc<Shared>, key: u64) -> (Self, Link) {
        let (state, states) = watch::channel(State::Minting);
        let (wish, forced) = (Arc::new(Notify::new()), Arc::<Forced>::default());
        let keeper = Self {
            shared,
            key,
            whose: Whose::of(principal),
            cell: Arc::downgrade(&principal.token),
            state,
            wish: Arc::clone(&wish),
            forced: Arc::clone(&forced),
            failures: 0,
        };
        (keeper, Link { state: states, wish, forced })
    }

    /// Mints, waits until the next time, and again; until nobody needs the token any more.
    pub(super) async fn run(mut self) {
        loop {
            let woken = match self.mint().await {
                Ok(life) => self.rest(life).await,
                Err(error) => self.back_off(error).await,
            };
            if matches!(woken, Woken::Stop) {
                break;
            }
        }
        self.shared.keepers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }

    /// One call to the issuer: how long the new token may be used.
    async fn mint(&self) -> Result<Duration, MintError> {
        if !self.is_usable() {
            self.state.send_replace(State::Minting);
        }
        let minted = self.whose.mint(&self.shared).await?;
        let life = minted.life;
        if let Some(cell) = self.cell.upgrade() {
            let bearer = Secret::new(format!("Bearer {}", minted.access_token.expose()));
            let token = Token::authorization(&bearer, &self.whose.extras.headers);
            cell.put(token.living(life, self.shared.clock.now()));
        }
        self.shared.metrics.mints.increment(1);
        tracing::debug!(org = %self.whose.org, principal = %self.whose.id, life_seconds = life, "token issued");
        Ok(Duration::from_secs(life - margin(life)))
    }

    /// Waits with a good token until it is time for the next.
    async fn rest(&mut self, life: Duration) -> Woken {
        self.failures = 0;
        self.settle(State::Ready);
        let lead = life.mul_f64(self.whose.lead()).min(MAX_LEAD);
        // Spread, so that principals first used together are not refreshed together.
        let pause = life.saturating_sub(lead.mul_f64(1.0 - 0.1 * random_unit()));
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = self.forced.asked.notified() => return Woken::Mint,
                () = self.wish.notified() => {
                    // Wishes of requests that came before the token did.
                    if self.is_usable() { continue }
                    return Woken::Mint;
                }
            }
        }
        if self.is_in_use() { Woken::Mint } else { Woken::Stop }
    }

    /// Waits after a failure. While an older token is still good it is refreshed again by itself, else only when asked.
    async fn back_off(&mut self, error: MintError) -> Woken {
        self.count(&error);
        if self.failures == 1 && matches!(error, MintError::Refused(_)) {
            // Its secret may have been changed a moment ago. Then whoever waits finds another principal in its place.
            let _ = timeout(REREAD, (self.shared.reread)(self.whose.org.clone())).await;
        }
        tracing::warn!(org = %self.whose.org, principal = %self.whose.id, %error, attempt = self.failures, "no token for principal");
        let pause = self.pause_after(&error);
        let usable = self.is_usable();
        self.settle(State::Failed(error));
        sleep(pause).await;
        if usable {
            return if self.is_in_use() { Woken::Mint } else { Woken::Stop };
        }
        self.state.send_replace(State::Idle);
        let asked = async {
            tokio::select! {
                () = self.wish.notified() => {}
                () = self.forced.asked.notified() => {}
            }
        };
        match timeout(FORGET_FAILURE, asked).await {
            Ok(()) if self.cell.strong_count() > 0 => Woken::Mint,
            _ => Woken::Stop,
        }
    }

    /// Tells the outcome of a call. It is the outcome of a forced one, too, that was asked for meanwhile.
    fn settle(&self, state: State) {
        let mut call = self.forced.call();
        call.under_way = false;
        let _ = self.forced.asked.notified().now_or_never();
        self.state.send_replace(state);
    }

    fn count(&mut self, error: &MintError) {
        self.failures = self.failures.saturating_add(1);
        match error {
            MintError::Refused(_) => self.shared.metrics.mints_refused.increment(1),
            MintError::Unavailable { .. } => self.shared.metrics.mints_unreachable.increment(1),
        }
    }

    fn pause_after(&self, error: &MintError) -> Duration {
        let doubled = FIRST_BACKOFF.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        let own = doubled.min(LAST_BACKOFF).mul_f64(0.75 + 0.5 * random_unit());
        match error {
            MintError::Unavailable { retry_after: Some(asked), .. } => own.max(*asked),
            _ => own,
        }
    }

    fn is_usable(&self) -> bool {
        self.cell.upgrade().is_some_and(|cell| cell.has_usable(self.shared.clock.now()))
    }

    fn is_in_use(&self) -> bool {
        let idle = |cell: Arc<TokenCell>| self.shared.clock.now().saturating_sub(cell.last_used());
        self.cell.upgrade().is_some_and(|cell| idle(cell) <= self.shared.settings.refresh_idle.as_secs())
    }
}

/// A random number from 0 to 1, for spreading things in time.
fn random_unit() -> f64 {
    let mut bytes = [0u8; 4];
    // Without randomness nothing is spread, which is all that is lost.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}
