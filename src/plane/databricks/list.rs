//! The list of warehouses. The workspace's own would show those of others, so it is asked for by a call of the gateway's own,
//! read whole, and told again with nothing in it but what the organisation has.

use crate::model::api::Call;
use crate::model::ids::WorkspaceId;
use crate::model::reject::{Class, Reject};
use crate::model::snapshot::Org;
use crate::plane::account::Account;
use crate::plane::client::Client;
use crate::plane::fetch::fetch;
use crate::plane::forward::Forwarded;
use crate::plane::request::{Planned, plan, reply};
use crate::plane::respond::{Answer, phrase};
use crate::plane::route::Target;
use crate::plane::worker::Worker;
use crate::session::Session;
use crate::wire::request::Head;
use http::header;
use serde_json::{Map, Value};
use std::rc::Rc;

/// The longest list that is read: some thousands of warehouses.
const MAX_LIST: usize = 8 * 1024 * 1024;

/// Answers a call for the list.
pub(super) async fn answer(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    call: Call<'_>,
    session: &Rc<Session>,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    // Nothing has to be started for a list.
    let Planned::Goes(mut plan) = plan(worker, client, head, &Target::Api(call), session, account).await? else {
        return Err(Reject::new(Class::Internal, "a list that waits for a warehouse"));
    };
    let named = call.workspace.map(|workspace| ("x-databricks-org-id", workspace));
    let response = fetch(worker, head, &mut plan, (head.target, named.as_slice()), MAX_LIST, account).await?;
    let org = worker.plane.directory.snapshot().and_then(|snapshot| snapshot.org(session.org()).cloned());
    let org = org.ok_or_else(|| Reject::new(Class::Session, "the session's organisation is not in the directory"))?;
    let status = response.status().as_u16();
    let body = if status == 200 { own(response.body(), &org, &plan.workspace)? } else { response.body().to_vec() };
    let mut answer = Answer::new(status, phrase(status)).field("Cache-Control", "no-store");
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    if let Some(seconds) = retry_after.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())) {
        answer = answer.field("Retry-After", seconds);
    }
    Ok(reply(worker, client, head, &answer.body("application/json", body), account).await)
}

/// The list without everything that is not the organisation's in this workspace.
fn own(list: &[u8], org: &Org, workspace: &WorkspaceId) -> Result<Vec<u8>, Reject> {
    let broke = || Reject::new(Class::UpstreamBroke, "the workspace's list of warehouses is not one");
    let mut list: Map<String, Value> = serde_json::from_slice(list).map_err(|_| broke())?;
    let is_own = |warehouse: &Value| {
        let known = warehouse.get("id").and_then(Value::as_str).and_then(|id| org.warehouse(id));
        known.is_some_and(|known| known.workspace.id == *workspace)
    };
    let mut told = Map::new();
    match list.remove("warehouses") {
        None => {}
        Some(Value::Array(all)) => {
            told.insert("warehouses".to_owned(), all.into_iter().filter(is_own).collect());
        }
        Some(_) => return Err(broke()),
    }
    told.extend(list.remove_entry("next_page_token"));
    Ok(Value::Object(told).to_string().into_bytes())
}
