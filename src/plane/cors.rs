//! Cross-origin requests of front ends (Fetch, 3.2 "CORS protocol"): to the gateway's own endpoints, and the preflights of
//! those to apps. What a page may read of an app's answers is for the app to say.

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

/// The answer to the preflight of a front end for an app; none for everything else. A preflight carries no session
/// (Fetch, 4.8), so nobody could let it through to the app. The request that follows is judged like any other.
pub(super) fn preflight_for_app(guard: &Guard, head: &Head<'_>) -> Option<Answer> {
    let is_preflight = head.method == "OPTIONS" && head.fields.first(Name::Authorization).is_none();
    let method = head.fields.single(Name::AccessControlRequestMethod).ok()?.filter(|_| is_preflight)?;
    frontend(guard, head)?;
    let answer = allow(guard, head, Answer::new(204, "No Content"))
        .field("Access-Control-Allow-Methods", text(method)?)
        .field("Access-Control-Max-Age", MAX_AGE);
    match head.fields.single(Name::AccessControlRequestHeaders).ok()? {
        Some(names) => Some(answer.field("Access-Control-Allow-Headers", text(names)?)),
        None => Some(answer),
    }
}

/// A value that is repeated to whoever sent it, if it is one that browsers send.
fn text(value: &[u8]) -> Option<&str> {
    let is_plain = value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    std::str::from_utf8(value).ok().filter(|_| is_plain && !value.is_empty())
}

/// The origin of the page that asks, when it is a front end's. There must be one `Origin` field and no more.
pub(super) fn frontend<'a>(guard: &Guard, head: &Head<'a>) -> Option<&'a str> {
    let mut origins = head.fields.all(Name::Origin);
    let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
    if guard.is_frontend(origin) { std::str::from_utf8(origin).ok() } else { None }
}
