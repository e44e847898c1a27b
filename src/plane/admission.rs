//! Whether a request may begin now. Who is over a quota is refused, and so is whoever has most under way while the process is
//! short of memory or files; who is over a limit on what is under way waits in a fair queue, for a while.
//!
//! All of it comes after route and access. What is over a quota, or refused for a shortage, is so before a token is asked for,
//! and costs nobody one; who waits for a permit has the token. What was counted and granted is the account's, so it is given
//! back when the request is over, however it ends.

pub(super) mod queue;

use super::account::Account;
use super::decide::{Decision, Plan};
use super::waits::Waits;
use super::worker::Worker;
use crate::config::{self, Config};
use crate::live::adaptive::Bounds;
use crate::live::fleet::Fleet;
use crate::live::gate::{Gate, Permit};
use crate::live::pressure::{Pressure, Scarce};
use crate::live::quota::{Charge, Limit, Limits, Pace, Users, share};
use crate::model::quota::Quota;
use crate::model::reject::{Class, Reject};
use crate::model::upstream::{Budget, Cluster};
use crate::session::Session;
use queue::Turn;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use tokio::time::Instant;

/// Limits on what is under way, and what is under way.
#[derive(Debug)]
pub struct Admission {
    /// The quota where the directory says nothing else.
    usual: Quota,
    /// Requests under way in this instance; 0 for no limit.
    max_requests: u32,
    /// The same on one upstream, where the directory says nothing else.
    max_concurrent: u32,
    /// Whether the latency of an upstream sets its limit, where the directory says nothing else.
    adaptive: bool,
    bounds: Bounds,
    queue: config::Queue,
    fleet: Arc<Fleet>,
    pressure: Arc<Pressure>,
    users: Arc<Users>,
    /// The gate of the whole instance.
    gate: Arc<Gate>,
    /// How many wait at all gates.
    waiting: Arc<AtomicU32>,
    /// Since when.
    waits: Waits,
    /// What times are counted from.
    epoch: Instant,
}

/// A request's permits, given back when it is over.
#[derive(Debug, Default)]
pub(super) struct Permits {
    upstream: Option<Permit>,
    instance: Option<Permit>,
}

impl Admission {
    /// Nothing is under way yet.
    #[must_use]
    pub fn new(config: &Config, fleet: Arc<Fleet>, pressure: Arc<Pressure>) -> Self {
        let upstreams = &config.upstreams;
        Self {
            usual: config.quotas.usual,
            max_requests: config.limits.max_requests,
            max_concurrent: upstreams.max_concurrent,
            adaptive: upstreams.adaptive,
            bounds: Bounds { least: upstreams.adaptive_min, most: upstreams.adaptive_max },
            queue: config.queue,
            fleet,
            pressure,
            users: Arc::new(Users::new(config.quotas.users)),
            gate: Arc::default(),
            waiting: Arc::default(),
            waits: Waits::default(),
            epoch: Instant::now(),
        }
    }

    /// How long the request has waited that waits longest.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.waits.longest()
    }

    /// Whether a new connection is to be refused, so that there are files left for what is under way and for the operator.
    #[must_use]
    pub(super) fn is_short_of_files(&self) -> bool {
        self.pressure.is_full(Scarce::Files)
    }

    /// Counts a request of a user, and takes it out of the buckets.
    ///
    /// # Errors
    /// The limit that is reached, and after how long another try makes sense.
    pub fn charge(&self, budget: &Budget, session: &Session) -> Result<Charge, (Limit, Duration)> {
        let limits = self.limits(&budget.quota);
        let number = || self.users.number((session.org(), session.user()));
        let now = if limits == Limits::default() { 0 } else { self.epoch.elapsed().as_nanos() as u64 };
        Charge::take(&budget.usage, &self.users, number, now, &limits)
    }

    /// This instance's share of a quota.
    fn limits(&self, own: &Quota) -> Limits {
        let quota = own.or(&self.usual);
        if quota.is_unlimited() {
            return Limits::default();
        }
        let fleet = &self.fleet;
        let pace = |rate: Option<u32>, burst: Option<u32>| Pace::share(rate?, burst.unwrap_or(0), fleet);
        Limits {
            concurrent: share(quota.concurrent.unwrap_or(0), fleet),
            pace: pace(quota.requests_per_second, quota.burst),
            user_concurrent: share(quota.user_concurrent.unwrap_or(0), fleet),
            user_pace: pace(quota.user_requests_per_second, quota.user_burst),
        }
    }

    fn is_adaptive(&self, cluster: &Cluster) -> bool {
        cluster.load.adaptive.unwrap_or(self.adaptive)
    }

    /// How many may be under way on the upstream of a cluster; 0 for no limit.
    fn limit_of(&self, cluster: &Cluster) -> u32 {
        let most = cluster.load.max_concurrent.unwrap_or(self.max_concurrent);
        if !self.is_adaptive(cluster) {
            return most;
        }
        let found = cluster.upstream.adaptive().limit(self.bounds);
        if most == 0 { found } else { found.min(most) }
    }
}

/// Counts a request against its quotas, once however often it is decided.
///
/// # Errors
/// [`Reject`] of the classes `Quota` and `Overloaded`.
pub(super) fn charge(
    worker: &Worker,
    decision: &Decision,
    session: &Session,
    account: &mut Account,
) -> Result<(), Reject> {
    let Some(budget) = budget(decision).filter(|_| account.charge.is_none()) else { return Ok(()) };
    let admission = &worker.plane.admission;
    let metrics = &worker.plane.metrics.overload;
    if let Some(scarce) = admission.pressure.refuses(budget.usage.active()) {
        metrics.shed[scarce as usize].increment(1);
        return Err(Reject::new(Class::Overloaded, scarce_cause(scarce)));
    }
    let charge = admission.charge(budget, session).map_err(|(limit, wait)| {
        metrics.quota_refusals[limit as usize].increment(1);
        Reject::new(Class::Quota, quota_cause(limit)).after(wait)
    })?;
    account.charge = Some(charge);
    Ok(())
}

fn budget(decision: &Decision) -> Option<&Budget> {
    match decision {
        Decision::Go(plan) => Some(&plan.principal.budget),
        Decision::NeedsToken(principal) => Some(&principal.budget),
        Decision::NeedsStart(upstream) => Some(&upstream.autostart.as_ref()?.principal.budget),
    }
}

fn scarce_cause(scarce: Scarce) -> &'static str {
    match scarce {
        Scarce::Memory => "memory is near limits.memory",
        Scarce::Files => "file descriptors are nearly used up",
    }
}

fn quota_cause(limit: Limit) -> &'static str {
    match limit {
        Limit::Concurrent => "the organisation's quota `concurrent` is used up",
        Limit::Rate => "the organisation's quota `requests_per_second` is used up",
        Limit::UserConcurrent => "the user's quota `user_concurrent` is used up",
        Limit::UserRate => "the user's quota `user_requests_per_second` is used up",
    }
}

/// Takes the permits that a decided request needs, as far as there are any; gives the gate that it has to wait at.
pub(super) fn enter(worker: &Worker, plan: &Plan, session: &Session, account: &mut Account) -> Option<Turn> {
    let admission = &worker.plane.admission;
    // The upstream's first: who waits for a slow one must not keep the instance's from others.
    let turn = plan.cluster.as_ref().and_then(|cluster| enter_upstream(admission, cluster, session, account));
    if turn.is_some() {
        account.permits.instance = None;
        return turn;
    }
    enter_instance(admission, session, account)
}

fn enter_upstream(
    admission: &Admission,
    cluster: &Arc<Cluster>,
    session: &Session,
    account: &mut Account,
) -> Option<Turn> {
    let limit = admission.limit_of(cluster);
    if limit == 0 {
        cluster.upstream.lift();
        account.permits.upstream = None;
        return None;
    }
    let gate = cluster.upstream.gate();
    if admission.is_adaptive(cluster) {
        account.follow(cluster);
    }
    if account.permits.upstream.as_ref().is_some_and(|permit| permit.is_of(gate)) {
        return None;
    }
    account.permits.upstream = gate.enter(limit);
    if admission.is_adaptive(cluster) && gate.active() >= limit {
        cluster.upstream.adaptive().reached();
    }
    if account.permits.upstream.is_some() {
        return None;
    }
    // An upstream is one organisation's, so its users take turns.
    let who = admission.users.number((session.org(), session.user()));
    Some(Turn { gate: Arc::clone(gate), who, is_instance: false })
}

/// Takes the instance's permit.
fn enter_instance(admission: &Admission, session: &Session, account: &mut Account) -> Option<Turn> {
    if admission.max_requests == 0 || account.permits.instance.is_some() {
        return None;
    }
    account.permits.instance = admission.gate.enter(admission.max_requests);
    if account.permits.instance.is_some() {
        return None;
    }
    let who = admission.users.number((session.org(), ""));
    Some(Turn { gate: Arc::clone(&admission.gate), who, is_instance: true })
}

/// Lets a request in that nobody's session is behind, if there is room at once.
///
/// # Errors
/// [`Reject`] of the class `Overloaded`.
pub(super) fn admit_stranger(worker: &Worker, account: &mut Account) -> Result<(), Reject> {
    let admission = &worker.plane.admission;
    // It has no organisation whose share it could be within.
    if let Some(scarce) = admission.pressure.refuses(u32::MAX) {
        worker.plane.metrics.overload.shed[scarce as usize].increment(1);
        return Err(Reject::new(Class::Overloaded, scarce_cause(scarce)));
    }
    if admission.max_requests > 0 {
        account.permits.instance = admission.gate.enter(admission.max_requests);
        if account.permits.instance.is_none() {
            return Err(Reject::new(Class::Overloaded, "limits.max_requests is reached"));
        }
    }
    Ok(())
}

/// Notes how long an upstream took to begin its answer, where that sets its limit.
pub(super) fn learn(worker: &Worker, cluster: &Cluster, org: &str, upstream: &str, latency: Duration) {
    let admission = &worker.plane.admission;
    let found = cluster.upstream.adaptive().record(latency, admission.epoch.elapsed(), admission.bounds);
    if let Some(limit) = found {
        worker.plane.metrics.adaptive_limit(org, upstream).set(f64::from(limit));
    }
}
