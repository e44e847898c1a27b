//! Cross-origin requests of front ends to the gateway's own endpoints (Fetch, 3.2 "CORS protocol"). Answers of apps are
//! none of its business.

use super::guard::Guard;
use super::respond::Answer;
use crate::wire::fields::Name;
use crate::wire::request::Head;

/// How long browsers may remember a preflight, in seconds; Safari takes no more.
const MAX_AGE: &str = "600";

/// What of an answer's fields a page may read besides the few that every page may.
const EXPOSED: &str = "Retry-After, X-Request-Id";

/// Lets a front end's page read the answer. Caches are told that it depends on who asks, also when the page may not.
pub(super) fn allow(guard: &Guard, head: &Head<'_>, answer: Answer) -> Answer {
    let answer = answer.field("Vary", "Origin");
    match frontend(guard, head) {
        Some(origin) => answer
            .field("Access-Control-Allow-Origin", origin)
            .field("Access-Control-Allow-Credentials", "true")
            .field("Access-Control-Expose-Headers", EXPOSED),
        None => answer,
    }
}

/// Answers a preflight with `answer` as the bare form. A page of somebody else learns nothing.
pub(super) fn preflight(guard: &Guard, head: &Head<'_>, methods: &str, answer: Answer) -> Answer {
    let answer = allow(guard, head, answer);
    if frontend(guard, head).is_none() {
        return answer;
    }
    answer
        .field("Access-Control-Allow-Methods", methods)
        .field("Access-Control-Allow-Headers", "Content-Type")
        .field("Access-Control-Max-Age", MAX_AGE)
}

/// The origin of the page that asks, when it is a front end's. There must be one `Origin` field and no more.
pub(super) fn frontend<'a>(guard: &Guard, head: &Head<'a>) -> Option<&'a str> {
    let mut origins = head.fields.all(Name::Origin);
    let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
    if guard.is_frontend(origin) { std::str::from_utf8(origin).ok() } else { None }
}
