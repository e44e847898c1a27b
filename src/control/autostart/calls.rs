//! The calls that look at, start and stop an upstream, for each of those who can.

use super::Means;
use crate::directory::postgres::StartName;
use crate::live::token::Token;
use crate::model::autostart::{AutoStart, StartBy};
use crate::model::ids::OrgId;
use crate::model::upstream::Upstream;
use crate::model::url::{BaseUrl, Endpoint};
use crate::net::http::{self as client, Limits};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How an upstream looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Up,
    /// On its way, with what is going on.
    Starting(String),
    Down,
    /// Not without help.
    Broken(String),
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Asking again soon is of no use.
    Refused(String),
    Away {
        cause: String,
        retry_after: Option<Duration>,
    },
}

impl Trouble {
    pub(super) fn cause(&self) -> &str {
        match self {
            Self::Refused(cause) | Self::Away { cause, .. } => cause,
        }
    }
}

/// The longest answer that is read.
const MAX_ANSWER: usize = 256 * 1024;
/// Longer is nobody left alone, or a slip of theirs would keep an app down for a day.
const MAX_RETRY_AFTER: u64 = 600;

/// The calls for one upstream.
pub(super) struct Calls<'a> {
    means: &'a Means,
    autostart: &'a AutoStart,
    upstream: &'a Upstream,
    limit: Duration,
}

impl<'a> Calls<'a> {
    pub(super) fn new(means: &'a Means, autostart: &'a AutoStart, upstream: &'a Upstream, limit: Duration) -> Self {
        Self { means, autostart, upstream, limit }
    }

    pub(super) fn org(&self) -> &OrgId {
        &self.autostart.principal.org
    }

    pub(super) fn idle_stop(&self) -> Option<Duration> {
        self.autostart.idle_stop
    }

    /// What the fleet calls it.
    pub(super) fn name(&self) -> StartName<'_> {
        StartName { org: self.org().as_str(), kind: self.autostart.kind, upstream: self.upstream.id.as_str() }
    }

    /// Looks how it is.
    pub(super) async fn status(&self) -> Result<Seen, Trouble> {
        match &self.autostart.by {
            StartBy::DatabricksApp(name) => {
                self.workspace(Method::GET, &format!("/api/2.0/apps/{name}")).await.map(|app| app_state(&app))
            }
            StartBy::DatabricksWarehouse => {
                let path = format!("/api/2.0/sql/warehouses/{}", self.upstream.id);
                self.workspace(Method::GET, &path).await.map(|warehouse| warehouse_state(&warehouse))
            }
            StartBy::Firebolt { system_engine, engine } => {
                let sql = format!("SELECT status FROM information_schema.engines WHERE engine_name = '{engine}'");
                self.sql(system_engine, sql).await.map(|answer| engine_state(&answer))
            }
            StartBy::Webhook(hook) => self.hook(hook, "status").await.map(|answer| hook_state(&answer)),
        }
    }

    /// Starts it; it may take a while until it is up.
    pub(super) async fn start(&self) -> Result<(), Trouble> {
        self.act("start").await
    }

    /// Stops it.
    pub(super) async fn stop(&self) -> Result<(), Trouble> {
        self.act("stop").await
    }

    async fn act(&self, what: &'static str) -> Result<(), Trouble> {
        let done = match &self.autostart.by {
            StartBy::DatabricksApp(name) => self.workspace(Method::POST, &format!("/api/2.0/apps/{name}/{what}")).await,
            StartBy::DatabricksWarehouse => {
                self.workspace(Method::POST, &format!("/api/2.0/sql/warehouses/{}/{what}", self.upstream.id)).await
            }
            StartBy::Firebolt { system_engine, engine } => {
                self.sql(system_engine, format!("{} ENGINE \"{engine}\"", what.to_uppercase())).await
            }
            StartBy::Webhook(hook) => self.hook(hook, what).await,
        };
        done.map(drop)
    }

    /// A call of the workspace's API.
    async fn workspace(&self, method: Method, path: &str) -> Result<Value, Trouble> {
        let body = if method == Method::POST { "{}" } else { "" };
        self.call(&self.upstream.workspace.node.url, method, path, "application/json", body.to_owned()).await
    }

    async fn sql(&self, engine: &Endpoint, sql: String) -> Result<Value, Trouble> {
        let target = engine.target();
        let separator = if target.query().is_some() { '&' } else { '?' };
        let target = format!("{target}{separator}output_format=JSON_Compact");
        self.call(engine.base(), Method::POST, &target, "text/plain; charset=utf-8", sql).await
    }

    async fn hook(&self, hook: &Endpoint, action: &str) -> Result<Value, Trouble> {
        let StartName { org, kind, upstream } = self.name();
        let body = json!({ "action": action, "org": org, "kind": kind, "upstream": upstream }).to_string();
        self.call(hook.base(), Method::POST, hook.target().as_str(), "application/json", body).await
    }

    /// Makes a call as the principal, and once more with another token where that one is not taken.
    async fn call(
        &self,
        to: &BaseUrl,
        method: Method,
        target: &str,
        content_type: &'static str,
        body: String,
    ) -> Result<Value, Trouble> {
        let principal = &self.autostart.principal;
        let away = |cause: String| Trouble::Away { cause, retry_after: None };
        let mut token = principal.token.get(self.means.clock.now());
        if token.is_none() && !principal.kind.is_anonymous() {
            token = Some(self.means.minter.token(principal).await.map_err(|error| away(error.to_string()))?);
        }
        for last in [false, true] {
            let request = request(&method, target, content_type, &body, token.as_ref())?;
            let limits = Limits { time: self.limit, answer: MAX_ANSWER };
            let answer = client::call(&self.means.dialer, to, request, limits).await;
            let answer = answer.map_err(|error| away(error.to_string()))?;
            if answer.status() != 401 || last {
                return judge(to, &answer);
            }
            let Some(stale) = &token else { return judge(to, &answer) };
            match self.means.minter.renew(principal, stale).await {
                Ok(Some(fresh)) => token = Some(fresh),
                Ok(None) | Err(_) => return judge(to, &answer),
            }
        }
        Err(away(format!("{to} does not take the principal's token")))
    }
}

fn request(
    method: &Method,
    target: &str,
    content_type: &'static str,
    body: &str,
    token: Option<&Arc<Token>>,
) -> Result<Request<Full<Bytes>>, Trouble> {
    let mut request = Request::builder().method(method).uri(target).header(ACCEPT, "application/json");
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, content_type);
    }
    for (name, value) in token.iter().flat_map(|token| token.fields()) {
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            value.set_sensitive(true);
            request = request.header(name, value);
        }
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    request.body(body).map_err(|error| Trouble::Refused(format!("the call cannot be made: {error}")))
}

/// What an answer means; nothing of its text is repeated but a code, which is one word.
fn judge(to: &BaseUrl, answer: &Response<Bytes>) -> Result<Value, Trouble> {
    let status = answer.status().as_u16();
    let document: Option<Value> = serde_json::from_slice(answer.body()).ok();
    let word = |text: &&str| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let code = document.as_ref().and_then(|document| document.get("error_code")?.as_str()).filter(word);
    let told = code.map(|code| format!(" ({code})")).unwrap_or_default();
    let said = format!("{to} answered {status}{told}");
    match status {
        200..=299 if answer.body().is_empty() => Ok(Value::Null),
        200..=299 => document.ok_or_else(|| Trouble::Away { cause: format!("{said} without JSON"), retry_after: None }),
        // It is being started already, or in a state from which it cannot be: the next look tells.
        409 => Ok(Value::Null),
        408 | 425 | 429 | 500.. => Err(Trouble::Away { cause: said, retry_after: retry_after(answer) }),
        _ => Err(Trouble::Refused(said)),
    }
}

fn retry_after(answer: &Response<Bytes>) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

/// A text of a document, in upper case.
fn word(document: &Value, path: &str) -> String {
    document.pointer(path).and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase()
}

/// An app of Databricks: its compute has to be up and the app itself to run.
fn app_state(app: &Value) -> Seen {
    let (compute, state) = (word(app, "/compute_status/state"), word(app, "/app_status/state"));
    match (compute.as_str(), state.as_str()) {
        ("ACTIVE", "RUNNING") => Seen::Up,
        ("ACTIVE", "CRASHED") => Seen::Broken("the app has crashed".into()),
        ("ACTIVE", _) => Seen::Starting("the app is starting".into()),
        ("STARTING" | "UPDATING", _) => Seen::Starting("compute is starting".into()),
        ("STOPPING", _) => Seen::Starting("compute is stopping first".into()),
        ("ERROR" | "DELETING", _) => Seen::Broken("its compute is in error".into()),
        _ => Seen::Down,
    }
}

fn warehouse_state(warehouse: &Value) -> Seen {
    match word(warehouse, "/state").as_str() {
        "RUNNING" => Seen::Up,
        "STARTING" => Seen::Starting("the warehouse is starting".into()),
        "STOPPING" => Seen::Starting("the warehouse is stopping first".into()),
        "DELETING" | "DELETED" => Seen::Broken("the warehouse was deleted".into()),
        _ => Seen::Down,
    }
}

/// An engine of Firebolt, whose states are spelled in several ways.
fn engine_state(answer: &Value) -> Seen {
    let state = word(answer, "/data/0/0");
    match state.trim_start_matches("ENGINE_STATE_") {
        "RUNNING" | "RESIZING" => Seen::Up,
        "STARTING" => Seen::Starting("the engine is starting".into()),
        "STOPPING" | "DRAINING" => Seen::Starting("the engine is stopping first".into()),
        "DELETING" => Seen::Broken("the engine is being deleted".into()),
        "" => Seen::Broken("there is no such engine".into()),
        _ => Seen::Down,
    }
}

/// What a webhook says: a state, and what is going on in a few words.
fn hook_state(answer: &Value) -> Seen {
    let told = answer.get("message").and_then(Value::as_str).unwrap_or_default();
    let told: String = told.chars().filter(|c| !c.is_control()).take(120).collect();
    let or = |usual: &str| if told.is_empty() { usual.to_owned() } else { told.clone() };
    match word(answer, "/state").as_str() {
        "RUNNING" => Seen::Up,
        "STARTING" | "STOPPING" => Seen::Starting(or("starting")),
        "FAILED" => Seen::Broken(or("it has failed")),
        _ => Seen::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_up_when_compute_and_app_are() {
        let seen =
            |compute, app| app_state(&json!({"compute_status": {"state": compute}, "app_status": {"state": app}}));
        assert_eq!(seen("ACTIVE", "RUNNING"), Seen::Up);
        assert_eq!(seen("STOPPED", "UNAVAILABLE"), Seen::Down);
        assert!(matches!(seen("STARTING", "UNAVAILABLE"), Seen::Starting(_)));
        assert!(matches!(seen("ACTIVE", "DEPLOYING"), Seen::Starting(_)));
        assert!(matches!(seen("ACTIVE", "CRASHED"), Seen::Broken(_)));
        assert!(matches!(seen("ERROR", "UNAVAILABLE"), Seen::Broken(_)));
        assert_eq!(app_state(&json!({})), Seen::Down);
    }

    #[test]
    fn engines_are_told_apart_however_their_states_are_spelled() {
        let seen = |state| engine_state(&json!({"data": [[state]]}));
        for running in ["RUNNING", "Running", "ENGINE_STATE_RUNNING", "resizing"] {
            assert_eq!(seen(running), Seen::Up, "{running}");
        }
        assert_eq!(seen("STOPPED"), Seen::Down);
        assert!(matches!(seen("draining"), Seen::Starting(_)));
        assert!(matches!(engine_state(&json!({"data": []})), Seen::Broken(_)));
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let to = BaseUrl::parse("https://w.example.com").unwrap();
        let answer = |status: u16, body: &'static str| {
            let answer = Response::builder().status(status).header(RETRY_AFTER, "7").body(Bytes::from(body)).unwrap();
            judge(&to, &answer)
        };
        assert!(matches!(answer(200, r#"{"state":"RUNNING"}"#), Ok(Value::Object(_))));
        assert!(matches!(answer(200, ""), Ok(Value::Null)));
        assert!(matches!(answer(200, "<html>"), Err(Trouble::Away { .. })));
        assert!(matches!(answer(409, "{}"), Ok(Value::Null)));
        let Err(Trouble::Away { retry_after, .. }) = answer(429, "") else { panic!() };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
        let Err(refused) = answer(403, r#"{"error_code":"PERMISSION_DENIED","message":"secret"}"#) else { panic!() };
        assert_eq!(refused.cause(), "https://w.example.com answered 403 (PERMISSION_DENIED)");
    }
}
