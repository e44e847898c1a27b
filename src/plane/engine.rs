//! Calls of engines on their way: what of an engine may be called is told by method and path, so these have one reading.

mod firebolt;

pub(super) use firebolt::{Leads, leads};

use super::account::Account;
use super::client::Client;
use super::forward::Forwarded;
use super::headers::is_named;
use super::request::{Planned, Way, authenticate, enter, go_on, plan};
use super::route::{Target, engine_at};
use super::worker::Worker;
use crate::model::engine::{Dialect, Engine, Manner};
use crate::model::reject::{Class, Reject};
use crate::session::Session;
use crate::session::carrier::Via;
use crate::wire::request::Head;
use std::rc::Rc;
use std::sync::Arc;

/// Serves a call of an engine.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    target: &Target<'_>,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    refuse_other_method(head)?;
    let entry = authenticate(worker, head, target, account.came())?;
    serve_as(worker, client, head, target, entry, account).await
}

/// Serves a call of somebody who has a session.
pub(super) async fn serve_as(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    target: &Target<'_>,
    (session, via): (Rc<Session>, Via<'_>),
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    // Whatever was agreed on in its place, nobody would look at it.
    let head = &Head { upgrade: None, ..*head };
    enter(worker, head, &session, via, account)?;
    refuse_other_method(head)?;
    if let Target::Engine { ask, prefix, .. } = target
        && firebolt::is_discovery(ask)
    {
        let is_firebolt = |engine: &Arc<Engine>| engine.manner.dialect == Dialect::Firebolt;
        if let Planned::Goes(mut plan) = plan(worker, client, head, target, &session, account).await?
            && let Some(engine) = plan.engine.clone().filter(is_firebolt)
        {
            return firebolt::discover(worker, client, head, (&mut plan, &engine, *prefix), account).await;
        }
    }
    go_on(worker, client, head, Way::new(target, 0), &session, via, account).await
}

/// What is asked of the engine that has the host of a request; none where an app has it, or nobody. To whom is not of the
/// organisation, nobody has it: they must not see that an engine does.
pub(super) fn by_host<'a>(
    worker: &Worker,
    head: &Head<'a>,
    target: &'a Target<'a>,
    session: &Session,
) -> Option<Result<Target<'a>, Reject>> {
    let Target::AppByHost { org, app: id } = target else { return None };
    if **org != *session.org() {
        return None;
    }
    let snapshot = worker.plane.directory.snapshot()?;
    let known = snapshot.org(org)?;
    if known.app(id).is_some() {
        return None;
    }
    known.engine(id).map(|_| engine_at(Some(org), id, head, 0))
}

/// Fields by which some servers take a request for one with another method.
const OTHER_METHOD: [&[u8]; 3] = [b"x-http-method-override", b"x-http-method", b"x-method-override"];

/// Refuses a request that could be taken for one with another method than was judged.
pub(super) fn refuse_other_method(head: &Head<'_>) -> Result<(), Reject> {
    if head.fields.iter().any(|field| is_named(field.name, &OTHER_METHOD)) {
        return Err(Reject::new(Class::Malformed, "a field names another method"));
    }
    Ok(())
}

/// Fields by which clients of Trino, and of Presto before it, say as whom a query runs.
const TRINO_USER: [&[u8]; 3] = [b"x-trino-user", b"x-trino-original-user", b"x-presto-user"];

/// Whether a field of the client's would make it somebody else to the engine.
pub(super) fn impersonates(manner: &Manner, name: &[u8]) -> bool {
    manner.dialect == Dialect::Trino && is_named(name, &TRINO_USER)
}
