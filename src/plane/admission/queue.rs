//! Waiting for a permit, within limits.

use super::super::account::Account;
use super::super::client::Client;
use super::super::hold::gets_page;
use super::super::waits::Wait;
use super::super::worker::Worker;
use crate::live::autostart::Waiting;
use crate::live::gate::{Gate, Permit, Place};
use crate::metrics::RouteKind;
use crate::model::reject::{Class, Reject};
use crate::wire::request::Head;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, sleep_until};

/// A gate that somebody has to wait at.
pub(in crate::plane) struct Turn {
    pub(super) gate: Arc<Gate>,
    /// Those with one number share a line; the lines take turns.
    pub(super) who: u64,
    pub(super) is_instance: bool,
}

/// A request in the queue, counted until it is dropped.
struct Queued<'a> {
    worker: &'a Worker,
    wait: Wait<'a>,
}

impl<'a> Queued<'a> {
    fn new(worker: &'a Worker) -> Self {
        worker.plane.metrics.overload.queued.increment(1.0);
        Self { worker, wait: worker.plane.admission.waits.begin(worker.random()) }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let metrics = &self.worker.plane.metrics.overload;
        metrics.queued.decrement(1.0);
        metrics.queued_seconds.record(self.wait.began().elapsed());
    }
}

/// Waits for a permit; false when the client went away meanwhile. One permission may be followed by another wait: the time
/// for all of them counts from the first.
///
/// # Errors
/// [`Reject`] when too many wait, or for too long, or the session ends.
pub(in crate::plane) async fn wait(
    worker: &Worker,
    client: &mut Client,
    head: &Head<'_>,
    turn: Turn,
    account: &mut Account,
) -> Result<bool, Reject> {
    let full = |what: &'static str| move || Reject::new(Class::QueueFull, what);
    let admission = &worker.plane.admission;
    let limits = &admission.queue;
    let own = account.charge.as_ref().map(|charge| charge.org().wait(limits.per_org));
    let _own = own.map(|own| own.ok_or_else(full("queue.per_org is reached"))).transpose()?;
    let _one = Waiting::take(&admission.waiting, limits.total).ok_or_else(full("queue.total is reached"))?;
    let place = turn.gate.queue(turn.who, limits.length);
    let mut place = place.ok_or_else(full("queue.length is reached"))?;
    let queued = Queued::new(worker);
    let began = *account.queued_since.get_or_insert(queued.wait.began());
    let limit = match account.kind {
        _ if gets_page(head) => limits.max_time_page,
        RouteKind::Sql | RouteKind::Engine => limits.max_time_sql,
        _ => limits.max_time_api,
    };
    let permit = permit(worker, client, &mut place, began + limit).await;
    account.queued = Some(began.elapsed());
    let Some(permit) = permit? else { return Ok(false) };
    let kept = if turn.is_instance { &mut account.permits.instance } else { &mut account.permits.upstream };
    *kept = Some(permit);
    Ok(true)
}

/// The permit; none when the client is gone.
async fn permit(
    worker: &Worker,
    client: &mut Client,
    place: &mut Place,
    deadline: Instant,
) -> Result<Option<Permit>, Reject> {
    let mut time = pin!(sleep_until(deadline));
    poll_fn(|cx| {
        if let Poll::Ready(permit) = place.poll(cx) {
            let lost = || Reject::new(Class::QueueFull, "queue.length is reached, and others had fewer waiting");
            return Poll::Ready(permit.map(Some).ok_or_else(lost));
        }
        if let Poll::Ready(why) = poll_ended(client, cx) {
            return Poll::Ready(Err(why));
        }
        if client.poll_gone(cx, &mut worker.scratch.borrow_mut()).is_ready() {
            return Poll::Ready(Ok(None));
        }
        let late = || Err(Reject::new(Class::QueueTimeout, "its turn did not come while the request could wait"));
        time.as_mut().poll(cx).map(|()| late())
    })
    .await
}

fn poll_ended(client: &Client, cx: &mut Context<'_>) -> Poll<Reject> {
    if let Poll::Ready(why) = client.registration.poll_ended(cx) {
        return Poll::Ready(Reject::new(Class::Session, why));
    }
    if client.registration.is_late() {
        return Poll::Ready(Reject::new(Class::Draining, "its turn did not come before the end of the drain"));
    }
    Poll::Pending
}
