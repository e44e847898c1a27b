//! Calls of the gateway's own to an upstream, for the few answers that it tells again in part.

use super::account::Account;
use super::decide::Plan;
use super::failure::dial_failed;
use super::worker::Worker;
use crate::model::reject::{Class, Reject};
use crate::net::http::{CallError, Limits, call};
use crate::wire::request::Head;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;

/// Gets what is at `target` of the plan's node, as its principal, in JSON and of `max` bytes at most. `fields` go along.
/// Where the credential is not taken, once more with another.
pub(super) async fn fetch(
    worker: &Worker,
    head: &Head<'_>,
    plan: &mut Plan,
    what: (&str, &[(&str, &str)]),
    max: usize,
    account: &Account,
) -> Result<Response<Bytes>, Reject> {
    let response = once(worker, head, plan, what, max, account).await?;
    if response.status() == 401 && renew(worker, plan).await {
        return once(worker, head, plan, what, max, account).await;
    }
    Ok(response)
}

async fn once(
    worker: &Worker,
    head: &Head<'_>,
    plan: &Plan,
    (target, fields): (&str, &[(&str, &str)]),
    max: usize,
    account: &Account,
) -> Result<Response<Bytes>, Reject> {
    let mut request = Request::get(target).header(header::ACCEPT, "application/json");
    if let Some(token) = &plan.token {
        for (name, value) in token.fields() {
            request = request.header(name, value);
        }
    }
    if let Some(agent) = head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(b"user-agent")) {
        request = request.header(header::USER_AGENT, agent.value);
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.header("x-request-id", &account.request_id[..]).body(Full::default());
    let request = request.map_err(|error| Reject::new(Class::Malformed, error.to_string()))?;
    let limits = Limits { time: worker.plane.settings.first_byte_timeout, answer: max };
    let answered = call(&worker.plane.dialer, &plan.node.url, request, limits).await;
    answered.map_err(|error| match error {
        CallError::Dial(error) => dial_failed(&error),
        CallError::Timeout(..) => Reject::new(Class::UpstreamTimeout, error.to_string()),
        CallError::Broken(..) | CallError::TooLong(..) => Reject::new(Class::UpstreamBroke, error.to_string()),
    })
}

/// Gets another token, where the upstream does not take the one there is.
async fn renew(worker: &Worker, plan: &mut Plan) -> bool {
    let Some(stale) = plan.token.clone() else { return false };
    match worker.plane.minter.renew(&plan.principal, &stale).await {
        Ok(Some(fresh)) => {
            plan.token = Some(fresh);
            true
        }
        Ok(None) | Err(_) => false,
    }
}
