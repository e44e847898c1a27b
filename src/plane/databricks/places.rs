//! Which workspace a statement is in. Its id does not tell, and no instance keeps a list: where an organisation has several
//! workspaces and the client names none, they are asked in turn, and what one does not know is asked of the next. Any
//! instance finds any statement so; where a worker has found one before, it asks there first.

use super::Caller;
use crate::model::api::Call;
use crate::model::ids::WorkspaceId;
use crate::model::reject::{Class, Reject};
use crate::model::snapshot::Org;
use crate::plane::account::Account;
use crate::plane::client::Client;
use crate::plane::forward::Forwarded;
use crate::plane::held::Held;
use crate::plane::request::{Way, go_on};
use crate::plane::route::Target;
use crate::plane::worker::Worker;
use crate::wire::request::Head;
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// How many workspaces are asked for one statement at most.
const MAX_ASKED: usize = 16;
/// How many statements a worker remembers.
const PLACES: usize = 1024;
/// The body of a call that cancels a statement: empty, or an empty object.
const MAX_BODY: usize = 16 * 1024;

/// A statement, and the workspace in which it was found.
type Place = (u64, WorkspaceId);

/// Where statements were found. A wrong answer costs a question more and nothing else, so hashes will do.
pub(in crate::plane) struct Places {
    hasher: RandomState,
    slots: RefCell<Box<[Option<Place>]>>,
}

impl Default for Places {
    fn default() -> Self {
        Self { hasher: RandomState::new(), slots: RefCell::new(vec![None; PLACES].into()) }
    }
}

impl Places {
    fn hash(&self, org: &str, statement: &str) -> u64 {
        self.hasher.hash_one((org, statement))
    }

    fn get(&self, hash: u64) -> Option<WorkspaceId> {
        let slots = self.slots.borrow();
        slots[hash as usize % PLACES].as_ref().filter(|(known, _)| *known == hash).map(|(_, id)| id.clone())
    }

    fn put(&self, hash: u64, id: &WorkspaceId) {
        self.slots.borrow_mut()[hash as usize % PLACES] = Some((hash, id.clone()));
    }
}

/// Serves a call about a statement, wherever it is.
pub(super) async fn find(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    call: Call<'_>,
    caller: &Caller<'_>,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    let hash = worker.places.hash(caller.session.org(), call.statement.unwrap_or_default());
    let places = {
        let not_ready = || Reject::new(Class::NotReady, "the directory has not been loaded yet");
        let snapshot = worker.plane.directory.snapshot().ok_or_else(not_ready)?;
        snapshot.org(caller.session.org()).map(|org| order(org, worker.places.get(hash))).unwrap_or_default()
    };
    if places.len() < 2 {
        let target = Target::Api(call);
        return go_on(worker, client, head, Way::new(&target, 0), &caller.session, caller.via, account).await;
    }
    let mut body = Held::read(worker, client, head, MAX_BODY, account, |_| Ok(())).await?;
    let mut failed = None;
    for (at, place) in places.iter().enumerate() {
        let target = Target::Api(Call { workspace: Some(place.as_str()), ..call });
        // Where one could not be asked, that the last does not know it says nothing.
        let may_be_elsewhere = at + 1 < places.len() || failed.is_some();
        let way = Way { may_be_elsewhere, ..Way::new(&target, 0) };
        let head = body.offer(client, head, may_be_elsewhere);
        match go_on(worker, client, &head, way, &caller.session, caller.via, account).await {
            Ok(Forwarded::Again) => {}
            Ok(done) => {
                if (200..300).contains(&account.status) {
                    worker.places.put(hash, place);
                }
                return Ok(done);
            }
            // The user may have nobody to act in this one.
            Err(reject) if reject.class == Class::Forbidden => {}
            Err(reject) if is_used_up(reject.class) => return Err(reject),
            Err(reject) => failed = Some(reject),
        }
    }
    Err(failed
        .unwrap_or_else(|| Reject::new(Class::NotFound, "no workspace that the user may use knows the statement")))
}

/// Whether there is no more of something that all workspaces share.
fn is_used_up(class: Class) -> bool {
    matches!(class, Class::Quota | Class::Overloaded | Class::QueueFull | Class::QueueTimeout)
}

/// The workspaces in the order in which they are asked: where it was found before, that of requests that name none, the rest.
fn order(org: &Org, before: Option<WorkspaceId>) -> Vec<WorkspaceId> {
    let home = org.home().map(|home| home.id.clone());
    let mut rest: Vec<_> = org.workspaces().map(|workspace| workspace.id.clone()).collect();
    rest.sort_unstable();
    let mut order: Vec<WorkspaceId> = Vec::with_capacity(rest.len());
    let before = before.filter(|id| rest.contains(id));
    for id in before.into_iter().chain(home).chain(rest) {
        if !order.contains(&id) {
            order.push(id);
        }
    }
    order.truncate(MAX_ASKED);
    order
}
