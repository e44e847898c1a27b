//! What a session asks for and the snapshot does not have: the organisation is read once more before the answer is no. Only
//! who has a session makes a read.

use super::route::Target;
use super::worker::Worker;
use crate::directory::misses::Asked;
use crate::metrics::Miss;
use crate::model::ids::OrgId;
use crate::model::snapshot::{Org, Snapshot};
use crate::session::Session;

/// Whether the directory has by now what the session asks for and was missing, so that it is worth deciding again.
pub(super) async fn is_there_now(worker: &Worker, target: &Target<'_>, session: &Session) -> bool {
    let is_known = |org: &Org| knows(org, target);
    let lacks = |snapshot: &Snapshot| is_missing(snapshot, session, is_known);
    is_found(worker, session.org(), lacks).await
}

/// Whether the directory has by now what was missing of an organisation; `lacks` says whether something is.
pub(super) async fn is_found(worker: &Worker, org: &str, lacks: impl Fn(&Snapshot) -> bool) -> bool {
    let plane = &worker.plane;
    let Some(misses) = &plane.misses else { return false };
    let is_lacking = || plane.directory.snapshot().is_some_and(|snapshot| lacks(&snapshot));
    let Ok(org) = OrgId::parse(org) else { return false };
    if !is_lacking() {
        return false;
    }
    let miss = match misses.ask(&org).await {
        Asked::Read if is_lacking() => Miss::Absent,
        Asked::Read => Miss::Found,
        Asked::Late => Miss::Late,
        Asked::Not => Miss::Unasked,
    };
    plane.metrics.fleet.count_miss(miss);
    miss == Miss::Found
}

/// Whether something is missing of which a read could tell. What the holder may not have is not looked for.
fn is_missing(snapshot: &Snapshot, session: &Session, is_known: impl Fn(&Org) -> bool) -> bool {
    match snapshot.admit(session.holder()) {
        Ok(org) => !is_known(org),
        Err(None) => snapshot.access().check(session.holder()).is_ok(),
        Err(Some(_)) => false,
    }
}

/// Whether an organisation has what is asked for, and a cluster of it that serves.
fn knows(org: &Org, target: &Target<'_>) -> bool {
    let app = |id: &str| org.app(id).or_else(|| org.engine(id).map(|engine| &engine.upstream));
    let is_foreign = |own: &str| own != org.id.as_str();
    let upstream = match target {
        // What is another organisation's is not looked for.
        Target::AppByHost { org: own, .. } if is_foreign(own) => return true,
        Target::Engine { org: Some(own), .. } if is_foreign(own) => return true,
        Target::AppByHost { app: id, .. } => app(id),
        Target::AppByPath { app: id, .. } => org.app(id),
        Target::Engine { ask, .. } => org.engine(ask.engine).map(|engine| &engine.upstream),
        Target::Api(call) => match call.warehouse {
            Some(id) => org.warehouse(id),
            None => return true,
        },
        Target::Own(_)
        | Target::Discovery(_)
        | Target::StartSession
        | Target::AppWithoutSlash
        | Target::Linked { .. }
        | Target::FireflyV1 { .. } => return true,
    };
    upstream.is_some_and(|upstream| upstream.obstacle().is_none())
}
