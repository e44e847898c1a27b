//! A workspace that starts and stops what stands behind it, as it is told; it is the app as well.

use super::raw::{Message, ok};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Answers to those who look after something, as they are told.
#[derive(Clone, Default)]
pub(crate) struct Control(Arc<Mutex<Script>>);

/// What is told.
#[derive(Default)]
pub(crate) struct Script {
    /// `STOPPED`, `STARTING`, `ACTIVE`, `ERROR`.
    pub(crate) state: &'static str,
    /// How many looks it takes from a start until it runs; none for never.
    pub(crate) looks: Option<u32>,
    /// What a start is answered with instead.
    pub(crate) refusal: Option<u16>,
    /// Whether looks are answered with an error.
    pub(crate) away: bool,
    pub(crate) seen: Vec<String>,
}

impl Control {
    pub(crate) fn new(state: &'static str, looks: Option<u32>) -> Self {
        Self(Arc::new(Mutex::new(Script { state, looks, ..Script::default() })))
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script());
    }

    /// How often something was asked for.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.script().seen.iter().filter(|seen| seen.contains(what)).count()
    }

    /// Everything that was more than a look.
    pub(crate) fn acts(&self) -> String {
        let script = self.script();
        script.seen.iter().filter(|seen| seen.contains("POST")).cloned().collect::<Vec<_>>().join("\n")
    }

    /// Answers for the workspace, and as the app for everything else.
    pub(crate) fn answer(&self, request: &Message) -> Vec<u8> {
        let (target, credential) = (request.target(), request.field("Authorization").unwrap_or("nobody"));
        let text = request.text();
        let action = ["/start", "/stop", "\"start\"", "\"stop\"", "START ENGINE", "STOP ENGINE"];
        let is_control =
            target.starts_with("/api/2.0/") || target.starts_with("/hook") || target.starts_with("/engine");
        if !is_control {
            return ok("the app");
        }
        let mut script = self.script();
        let acts = action.iter().find(|action| target.ends_with(**action) || text.contains(**action));
        script.seen.push(format!("{} {text} as {credential}", request.start));
        match acts {
            Some(acts) if acts.to_lowercase().contains("start") => {
                if let Some(status) = script.refusal {
                    return format!("HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes();
                }
                script.state = "STARTING";
                ok("{}")
            }
            Some(_) => {
                script.state = "STOPPED";
                ok("{}")
            }
            None if script.away => b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
            None => {
                if script.state == "STARTING" {
                    match script.looks {
                        Some(0) => script.state = "ACTIVE",
                        Some(left) => script.looks = Some(left - 1),
                        None => {}
                    }
                }
                ok(&look(target, script.state))
            }
        }
    }
}

/// How the state is told where it was asked for.
fn look(target: &str, state: &str) -> String {
    let running = if state == "ACTIVE" { "RUNNING" } else { state };
    if target.contains("/apps/") {
        let app = if state == "ACTIVE" { "RUNNING" } else { "UNAVAILABLE" };
        return format!(r#"{{"compute_status":{{"state":"{state}"}},"app_status":{{"state":"{app}"}}}}"#);
    }
    if target.starts_with("/engine") {
        return format!(r#"{{"data":[["ENGINE_STATE_{running}"]]}}"#);
    }
    format!(r#"{{"state":"{running}","message":"warming up"}}"#)
}
