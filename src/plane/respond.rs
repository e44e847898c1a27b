//! The gateway's own answers: refusals, redirects and small texts.

use super::account::RequestId;
use super::databricks;
use super::guard::{self, Guard};
use crate::metrics::RouteKind;
use crate::model::reject::{Class, Reject};
use crate::wire::fields::Name;
use crate::wire::request::Head;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::time::SystemTime;

/// An answer of the gateway's own.
#[derive(Debug, Default)]
pub(super) struct Answer {
    status: u16,
    reason: &'static str,
    /// Field lines, each with CR LF.
    fields: String,
    body: Vec<u8>,
}

impl Answer {
    /// An answer without a body.
    pub(super) fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason, ..Self::default() }
    }

    /// The status code.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Adds a field; the value must hold no CR or LF.
    pub(super) fn field(mut self, name: &str, value: &str) -> Self {
        debug_assert!(!value.contains(['\r', '\n']), "a field value is one line");
        for part in [name, ": ", value, "\r\n"] {
            self.fields.push_str(part);
        }
        self
    }

    /// Sets the body.
    pub(super) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.field("Content-Type", content_type)
    }

    /// Writes the answer. `keep_alive` says whether the connection goes on; a HEAD request gets no body.
    pub(super) fn write(&self, to_head: bool, keep_alive: bool, out: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        let _ = write!(out, "HTTP/1.1 {} {}\r\n{}", self.status, self.reason, self.fields);
        let _ = write!(out, "Date: {}\r\n", httpdate::HttpDate::from(SystemTime::now()));
        if self.status != 204 {
            let _ = write!(out, "Content-Length: {}\r\n", self.body.len());
        }
        out.extend_from_slice(if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" });
        if !to_head {
            out.extend_from_slice(&self.body);
        }
    }
}

/// The reason phrase of a status code that the gateway uses for refusals.
pub(super) fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("Refused")
}

/// The answer to a refused request: a page for people, `application/problem+json` (RFC 9457) for programs, and what
/// Databricks' clients read for calls of a workspace's API. Without a head nothing is known of the client.
pub(super) fn refusal(
    guard: &Guard,
    reject: &Reject,
    head: Option<&Head<'_>>,
    kind: RouteKind,
    id: &RequestId,
) -> Answer {
    let class = reject.class;
    let id = std::str::from_utf8(id).unwrap_or_default();
    let mut answer = Answer::new(class.status(), phrase(class.status()))
        .field("X-Request-Id", id)
        .field("Proxy-Status", &reject.proxy_status())
        .field("Cache-Control", "no-store");
    if let Some(seconds) = reject.retry_after() {
        answer = answer.field("Retry-After", &seconds.to_string());
    }
    if class == Class::Method {
        answer = answer.field("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    if kind == RouteKind::Sql {
        return databricks::refusal(answer, reject, id);
    }
    if let Some(head) = head.filter(|head| wants_page(head)) {
        // The page around a frame can do something about a session, and about nothing else.
        let frontends = &guard.frontends;
        let tells = class == Class::Session && !frontends.origins().is_empty() && guard::is_framed(head);
        let script = if tells { script(frontends.origins()) } else { String::new() };
        let policy = policy(tells, frontends.ancestors());
        let page = page(class, id).replace("{script}", &script);
        return answer.field("Content-Security-Policy", &policy).body("text/html; charset=utf-8", page);
    }
    answer.body("application/problem+json", document(class, id).to_string())
}

/// A refusal for a program, with a reason and a sentence of its own.
pub(super) fn problem(class: Class, reason: &str, detail: &str, id: &RequestId) -> Answer {
    let mut document = document(class, std::str::from_utf8(id).unwrap_or_default());
    document["reason"] = reason.into();
    document["detail"] = detail.into();
    bare(class.status(), class, id).body("application/problem+json", document.to_string())
}

/// A refusal in the form of Go's `http.Error`: a line of text.
pub(super) fn plain(status: u16, class: Class, text: &str, id: &RequestId) -> Answer {
    bare(status, class, id).body("text/plain; charset=utf-8", format!("{text}\n"))
}

fn bare(status: u16, class: Class, id: &RequestId) -> Answer {
    let answer = Answer::new(status, phrase(status))
        .field("X-Request-Id", std::str::from_utf8(id).unwrap_or_default())
        .field("Proxy-Status", &format!("embedgate; error={}", class.proxy_error()));
    match class.retry_after() {
        Some(seconds) if status == class.status() => answer.field("Retry-After", &seconds.to_string()),
        _ => answer,
    }
}

/// What a refusal's page runs within a front end's frame.
const SCRIPT: &str = include_str!("refusal.js");

/// The script with the origins that it may speak to, which are ASCII without quotes.
fn script(frontends: &[Box<str>]) -> String {
    let origins: Vec<&str> = frontends.iter().map(AsRef::as_ref).collect();
    let origins = serde_json::Value::from(origins).to_string().replace('"', "&quot;");
    format!("<script data-frontends=\"{origins}\">{SCRIPT}</script>")
}

/// What a refusal's page may do: nothing but show itself, and run its script where it has one.
fn policy(has_script: bool, ancestors: Option<&str>) -> String {
    policy_of(if has_script { SCRIPT } else { "" }, "", ancestors)
}

/// What a page of ours may do: show itself, run this script, and what `more` lets it.
pub(super) fn policy_of(script: &str, more: &str, ancestors: Option<&str>) -> String {
    let digest = || format!("script-src 'sha256-{}'", STANDARD.encode(Sha256::digest(script)));
    let script = if script.is_empty() { String::new() } else { digest() };
    let parts = ["default-src 'none'", "style-src 'unsafe-inline'", &script, more, ancestors.unwrap_or_default()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Whether a browser would show the answer to somebody.
pub(super) fn wants_page(head: &Head<'_>) -> bool {
    if head.fields.first(Name::SecFetchMode).is_some() {
        return guard::is_navigation(head);
    }
    let accept = head.fields.first(Name::Accept).unwrap_or_default();
    head.method == "GET" && memchr::memmem::find(accept, b"text/html").is_some()
}

fn document(class: Class, id: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "about:blank",
        "title": class.title(),
        "status": class.status(),
        "detail": class.detail(),
        "reason": class.label(),
        "request_id": id,
    })
}

fn page(class: Class, id: &str) -> String {
    include_str!("refusal.html")
        .replace("{title}", class.title())
        .replace("{detail}", class.detail())
        .replace("{status}", &class.status().to_string())
        .replace("{id}", id)
}
