//! What clients of Databricks ask a host before they have a credential. They are told that this is a workspace and that
//! nobody gives tokens out here: the session is the token.

use crate::model::reject::{Class, Reject};
use crate::plane::respond::Answer;
use crate::plane::route::DISCOVERIES;
use crate::plane::worker::Worker;
use crate::wire::request::Head;
use serde_json::json;

/// Answers a question for one of [`DISCOVERIES`].
///
/// # Errors
/// [`Reject`] for a method that asks nothing.
pub(in crate::plane) fn discovery(worker: &Worker, head: &Head<'_>, path: &str) -> Result<Answer, Reject> {
    if !matches!(head.method, "GET" | "HEAD") {
        return Err(Reject::new(Class::Method, "a question is asked with GET"));
    }
    // The name is one of the gateway's own: requests for others do not come here.
    let issuer = format!("{}://{}/oidc", worker.plane.settings.guard.scheme.as_str(), head.authority);
    let document = if path == DISCOVERIES[0] {
        json!({ "oidc_endpoint": issuer })
    } else {
        json!({ "issuer": issuer, "response_types_supported": [], "grant_types_supported": [] })
    };
    let answer = Answer::new(200, "OK").field("Cache-Control", "no-store");
    Ok(answer.body("application/json", document.to_string()))
}
