//! What requests tell of the node that they were on: noted where that is known, and said in the log when it takes the node
//! out of use or brings it back. A client that left, and an answer that is the user's own fault, tell nothing.

use super::account::Account;
use super::detour::Detour;
use super::trip::Trip;
use super::worker::Worker;
use crate::live::node::Rules;
use crate::metrics::RouteKind;
use std::time::Duration;
use tokio::time::Instant;

/// Notes an answer with this status.
pub(super) fn answered(worker: &Worker, trip: &Trip, account: &Account, detour: &Detour<'_>, status: u16) {
    if trip.cluster.is_none() {
        return;
    }
    // Warehouses and engines say 500 where a statement is wrong.
    let is_failure = match status {
        502..=504 => true,
        500 => worker.plane.settings.count_500 && account.kind == RouteKind::App,
        _ => false,
    };
    if is_failure {
        return failed(worker, trip, account, detour, &format!("it answers {status}"));
    }
    let now = account.answered.unwrap_or_else(Instant::now);
    let took = account.forwarded.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
    if trip.node.live.succeeded(now, took) {
        let (org, upstream, cluster) = names(trip, account);
        tracing::info!(org, upstream, cluster, node = %trip.node.url, "node is back in use: it answers again");
    }
}

/// Notes that a request failed on the node. The only node of an upstream stays in use whatever happens.
pub(super) fn failed(worker: &Worker, trip: &Trip, account: &Account, detour: &Detour<'_>, why: &str) {
    if trip.cluster.is_none() {
        return;
    }
    let rules = worker.plane.settings.health;
    let rules =
        if detour.is_alone(worker) { Rules { consecutive_failures: 0, failure_share: 0, ..rules } } else { rules };
    let Some(ejection) = trip.node.live.failed(Instant::now(), worker.random(), &rules) else { return };
    worker.plane.metrics.nodes.count_ejection(ejection.reason);
    let (org, upstream, cluster) = names(trip, account);
    tracing::warn!(
        org,
        upstream,
        cluster,
        node = %trip.node.url,
        reason = ejection.reason.label(),
        last = why,
        seconds = ejection.time.as_secs_f64(),
        "node is out of use"
    );
}

/// Organisation, upstream and cluster, for the log.
fn names<'a>(trip: &'a Trip, account: &'a Account) -> (&'a str, &'a str, &'a str) {
    (
        account.session.as_ref().map_or("", |session| session.org()),
        account.upstream.as_ref().map_or("", |upstream| upstream.as_str()),
        trip.cluster.as_ref().map_or("", |cluster| cluster.id.as_str()),
    )
}
