//! The nodes that a request is tried on. It enters one within the limits of its circuit, and goes to another where one takes
//! nobody in, cannot be reached, or breaks off before it has answered something that may be asked twice.

use super::account::{Account, Lease};
use super::client::Client;
use super::cookie::Renewal;
use super::databricks;
use super::decide::{Decision, Plan, decide, grant};
use super::failure::{Failure, refusal};
use super::forward::may_retry;
use super::health;
use super::request::{Way, moment};
use super::route::Target;
use super::standing::Standing;
use super::trip::{Pace, Shut, Trip};
use super::worker::Worker;
use crate::metrics::CircuitLimit;
use crate::model::reject::{Class, Reject};
use crate::session::Session;
use crate::session::carrier::Via;
use crate::wire::request::Head;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// Nodes that are looked at for one request: where so many are full, the rest will hardly have room.
const MOST_LOOKED_AT: usize = 16;

/// How a request was decided on, so that it can be decided again.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    pub(super) way: Way<'a>,
    pub(super) head: &'a Head<'a>,
    pub(super) session: &'a Rc<Session>,
    pub(super) via: Via<'a>,
}

/// Why there is no connection to a node.
pub(super) enum Missed {
    /// It could not be reached.
    Unreached(Reject),
    /// It may have no more of them.
    Full(CircuitLimit),
    /// It is not the node's fault, and would be the same with any other.
    Wrong(Reject),
}

/// How an exchange ended before there was an answer.
#[derive(Clone, Copy)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// Whether the upstream has sent nothing at all.
    pub(super) silent: bool,
    /// Whether nothing of the body has been taken from the client.
    pub(super) whole: bool,
    /// Whether the connection had been used before.
    pub(super) reused: bool,
    pub(super) pace: Pace,
}

/// The nodes of one request.
pub(super) struct Detour<'a> {
    /// None where it is not the directory that says where the request goes.
    course: Option<Course<'a>>,
    /// Nodes that are behind it, by their numbers. Empty for nearly all.
    behind: Vec<u64>,
    /// How many it was tried on.
    tries: usize,
    /// How it ended on a node that had got it. The client is told of that one, whatever became of others.
    sent: Option<Broken>,
}

impl<'a> Detour<'a> {
    pub(super) fn new(course: Option<Course<'a>>) -> Self {
        Self { course, behind: Vec::new(), tries: 1, sent: None }
    }

    /// Takes the request's places on its node, or on another one where that takes nobody in.
    ///
    /// # Errors
    /// [`Reject`] when none does.
    pub(super) fn enter(
        &mut self,
        worker: &Worker,
        client: &Client,
        trip: &mut Trip,
        account: &mut Account,
    ) -> Result<(), Reject> {
        let circuit = &worker.plane.settings.circuit;
        loop {
            let Err(shut) = trip.enter(circuit, false, account.lease.get_or_insert_default()) else {
                return Ok(());
            };
            if shut != Shut::Full(CircuitLimit::Requests) && self.turn(worker, client, trip, account, |_| true) {
                continue;
            }
            // What others try may take long, and this node is all there is.
            let lease = account.lease.get_or_insert_default();
            let last = if shut == Shut::OnTrial { trip.enter(circuit, true, lease) } else { Err(shut) };
            return last.map_err(|shut| full(worker, shut.limit(), account));
        }
    }

    /// How long the connection to the node may take: not long where another one waits.
    pub(super) fn patience(&self, worker: &Worker, trip: &Trip) -> Duration {
        let (whole, short) = (worker.plane.dialer.timeout(), worker.plane.settings.try_timeout);
        let may_turn = short < whole && self.may_try(worker, trip) && worker.retries.has_some();
        if may_turn && self.has_other(worker, trip.node.live.uid()) { short } else { whole }
    }

    /// Whether a node that works is left besides `at`. Only looked at: a decision would take another one's turn.
    fn has_other(&self, worker: &Worker, at: u64) -> bool {
        let Some(Course { way, session, .. }) = &self.course else { return false };
        let Some(snapshot) = worker.plane.directory.snapshot() else { return false };
        let granted = grant(&snapshot, way.target, session);
        granted.is_ok_and(|granted| granted.has_other(|uid| uid == at || self.behind.contains(&uid)))
    }

    /// Goes to another node, because there is no connection to this one: nothing was sent, so whatever the request is.
    ///
    /// # Errors
    /// [`Reject`] when it ends here.
    pub(super) fn missed(
        &mut self,
        worker: &Worker,
        client: &Client,
        trip: &mut Trip,
        account: &mut Account,
        missed: Missed,
    ) -> Result<(), Reject> {
        let ended = match missed {
            Missed::Wrong(reject) => Err(reject),
            Missed::Full(limit) => {
                let turned = self.turn(worker, client, trip, account, |_| true);
                if turned { self.enter(worker, client, trip, account) } else { Err(full(worker, limit, account)) }
            }
            Missed::Unreached(reject) => {
                health::failed(worker, trip, account, self, &reject.cause);
                if self.again(worker, client, trip, account, |_| true) { Ok(()) } else { Err(reject) }
            }
        };
        ended.map_err(|reject| match self.sent {
            Some(Broken { failure, silent, pace, .. }) => refusal(worker, failure, silent, pace, account),
            None => reject,
        })
    }

    /// Goes to another node, if the exchange broke off in a way that allows it; whether it does.
    pub(super) fn broke(
        &mut self,
        worker: &Worker,
        client: &Client,
        head: &Head<'_>,
        trip: &mut Trip,
        account: &mut Account,
        broken: Broken,
    ) -> bool {
        let Broken { failure, silent, whole, reused, .. } = broken;
        if failure.tells_of_node(reused) {
            health::failed(worker, trip, account, self, failure.cause());
        }
        if failure == Failure::UpstreamUntouched {
            return whole && self.again(worker, client, trip, account, |_| true);
        }
        let may_repeat = match failure {
            Failure::UpstreamClosed | Failure::UpstreamReset => head.is_replayable(),
            // What is changed twice, and slowly, had better not be.
            Failure::NoAnswer => head.is_replayable() && matches!(head.method, "GET" | "HEAD"),
            _ => false,
        };
        if !may_repeat || !silent || self.sent.is_some() {
            return false;
        }
        let is_available = |plan: &Plan| plan.node.live.is_available();
        let goes = self.again(worker, client, trip, account, is_available);
        self.sent = goes.then_some(broken);
        goes
    }

    /// Whether the upstream has no other node.
    pub(super) fn is_alone(&self, worker: &Worker) -> bool {
        let Some(Course { way, session, .. }) = &self.course else { return true };
        let snapshot = worker.plane.directory.snapshot();
        snapshot
            .is_none_or(|snapshot| grant(&snapshot, way.target, session).map_or(true, |granted| granted.has_one_node()))
    }

    /// Whether the request may be tried once more.
    fn may_try(&self, worker: &Worker, trip: &Trip) -> bool {
        trip.cluster.is_some() && self.tries < worker.plane.settings.max_tries
    }

    /// Goes to another node that `suits`, and enters it, if there is one and nothing speaks against more load on the upstream.
    fn again(
        &mut self,
        worker: &Worker,
        client: &Client,
        trip: &mut Trip,
        account: &mut Account,
        suits: impl Fn(&Plan) -> bool,
    ) -> bool {
        let settings = &worker.plane.settings;
        let Some(cluster) = trip.cluster.clone().filter(|_| self.may_try(worker, trip)) else { return false };
        // What it had of the upstream is free for it to take again.
        account.lease = None;
        let place = cluster.upstream.retries.take(settings.circuit.max_retries);
        if place.is_none() {
            worker.plane.metrics.nodes.count_circuit(CircuitLimit::Retries);
            return false;
        }
        if !self.turn(worker, client, trip, account, suits) || !may_retry(worker) {
            return false;
        }
        if self.enter(worker, client, trip, account).is_err() {
            return false;
        }
        if let Some(lease) = &mut account.lease {
            lease.retry = place;
        }
        self.tries += 1;
        worker.plane.metrics.nodes.retries.increment(1);
        true
    }

    /// Leads the request to another node that `suits`, if there is one; it stands there from now on.
    fn turn(
        &mut self,
        worker: &Worker,
        client: &Client,
        trip: &mut Trip,
        account: &mut Account,
        suits: impl Fn(&Plan) -> bool,
    ) -> bool {
        self.behind.push(trip.node.live.uid());
        if self.behind.len() >= MOST_LOOKED_AT {
            return false;
        }
        let Some((plan, lease)) = self.other(worker).filter(|(plan, _)| suits(plan)) else { return false };
        let Some(course) = &self.course else { return false };
        // Whoever is counted as tried again is so wherever it goes.
        let retry = account.lease.take().and_then(|before| before.retry);
        account.lease = Some(Lease { retry, ..lease });
        client.registration.stand_on(Standing::new(course.way.target, &plan, course.session));
        *trip = course.trip(worker, plan, account);
        true
    }

    /// Decides again, among the nodes that are not behind the request; with the place on the cluster.
    fn other(&self, worker: &Worker) -> Option<(Plan, Lease)> {
        let Course { way, head, session, .. } = self.course.as_ref()?;
        let snapshot = worker.plane.directory.snapshot()?;
        // Whatever else is to be said, that the node failed comes first.
        match decide(&snapshot, way.target, session, &moment(worker, head, Instant::now().into_std(), &self.behind)) {
            Ok(Decision::Go(plan)) if plan.cluster.is_some() => {
                let lease = Lease::on(plan.cluster.as_ref());
                Some((plan, lease))
            }
            _ => None,
        }
    }
}

impl Course<'_> {
    /// The way of the request by a plan.
    pub(super) fn trip(&self, worker: &Worker, plan: Plan, account: &Account) -> Trip {
        let Way { target, link, may_be_elsewhere, is_held } = self.way;
        let prefix = match target {
            Target::AppByPath { prefix, .. } | Target::Engine { prefix, .. } => *prefix,
            _ => 0,
        };
        let guard = worker.plane.settings.guard.with(plan.frontends.clone());
        let renewal = Renewal::due(worker, self.head, self.session, self.via, plan.place);
        let mut trip = Trip::planned(plan, prefix, self.via, guard);
        (trip.link, trip.may_be_elsewhere, trip.is_held) = (link, may_be_elsewhere, is_held);
        trip.wishes = databricks::wishes(worker, target, account);
        trip.renewal = renewal;
        trip
    }
}

/// The refusal where a limit is reached.
fn full(worker: &Worker, limit: CircuitLimit, account: &Account) -> Reject {
    worker.plane.metrics.nodes.count_circuit(limit);
    // 503 promises that nothing was sent, and it may have been, on a connection that broke.
    let class = if account.forwarded.is_some() { Class::UpstreamBroke } else { Class::CircuitOpen };
    Reject::new(class, limit.cause())
}
