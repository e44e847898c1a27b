//! Refusals of calls, in the form that Databricks' clients read: a JSON document with a code and a message, and the message
//! once more in the fields that drivers look for when an answer holds no Thrift.

use crate::model::reject::{Class, Reject};
use crate::plane::respond::Answer;
use serde_json::json;

/// The document and the fields; `answer` has the status and what all refusals have.
pub(in crate::plane) fn refusal(answer: Answer, reject: &Reject, id: &str) -> Answer {
    let (code, message) = (code(reject.class), message(reject));
    let document = json!({
        "error_code": code,
        "message": message,
        "details": [
            { "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reject.class.label(), "domain": "embedgate" },
            { "@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": id },
        ],
    });
    answer
        .field("x-thriftserver-error-message", message)
        .field("x-databricks-error-or-redirect-message", message)
        .field("x-databricks-reason-phrase", code)
        .body("application/json", document.to_string())
}

fn code(class: Class) -> &'static str {
    match class.status() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "RESOURCE_DOES_NOT_EXIST",
        429 => "REQUEST_LIMIT_EXCEEDED",
        500 | 502 => "INTERNAL_ERROR",
        503 => "TEMPORARILY_UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "BAD_REQUEST",
    }
}

/// What happened and what to do next. None of these may hold words by which clients tell that they may send a statement
/// again, unless they may.
fn message(reject: &Reject) -> &str {
    match reject.class {
        Class::BadBody => &reject.cause,
        Class::Session => "The access token is not a valid session, or the session has ended. Get a new token.",
        Class::Forbidden => "You may not make this call. Ask your administrator for access.",
        Class::NotFound => "Your organisation has no such warehouse, statement or path. Check the id and the address.",
        Class::Unreachable => {
            "The workspace did not accept a connection. Nothing was sent to it; try again in a moment."
        }
        Class::BadDestination => {
            "The workspace's address is not known or not allowed. Report the request id to your administrator."
        }
        Class::UpstreamBroke => {
            "The workspace ended the connection before its answer was complete. Whether the statement ran is not known."
        }
        Class::UpstreamTimeout => {
            "The workspace did not answer in time. Whether the statement ran is not known; it may still be running."
        }
        Class::NoRunningCluster => "The warehouse is not running at the moment. Try again in a moment.",
        Class::CredentialRefused => {
            "The workspace does not accept the credential of your organisation. Report the request id to your administrator."
        }
        other => other.detail(),
    }
}
