//! What a page did beside showing itself: requests that failed, errors on its console, each WebSocket.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;

/// Everything noted about one page since it was opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// What the page or the browser wrote to the console as an error, and exceptions that nobody caught.
    pub(crate) console_errors: Vec<String>,
    /// URL, and status or reason, of each request that was refused or did not get through.
    pub(crate) failed_requests: Vec<String>,
    /// Each WebSocket that the page opened, in that order.
    pub(crate) websockets: Vec<WebSocket>,
    /// Code and reason of each WebSocket that was closed, in that order.
    pub(crate) closes: Vec<String>,
    /// The sessions of its frames that are in a process of their own, the latest last.
    pub(super) frames: Vec<String>,
    /// URLs of all requests, by the browser's id of the request.
    urls: HashMap<String, String>,
}

/// One WebSocket of a page.
#[derive(Debug, Clone, Default)]
pub(crate) struct WebSocket {
    id: String,
    /// Address, with its query.
    pub(crate) url: String,
    /// Status of the answer to the handshake; when it is open 101, or 200 over HTTP/2 (RFC 8441 5.1).
    pub(crate) status: Option<u64>,
    /// Messages that the page has received.
    pub(crate) received: usize,
    /// Why it broke.
    pub(crate) errors: Vec<String>,
    /// Whether it is closed, by whichever side.
    pub(crate) closed: bool,
}

impl Record {
    /// An error unless the page has a WebSocket, and all it ever opened got messages and are open still: a page that
    /// quietly connects again after a loss does not pass.
    pub(crate) fn check_websockets(&self) -> Result<()> {
        ensure!(!self.websockets.is_empty(), "the page opened no WebSocket: {self}");
        for socket in &self.websockets {
            ensure!(matches!(socket.status, Some(101 | 200)), "a handshake failed: {self}");
            ensure!(socket.errors.is_empty() && !socket.closed, "a WebSocket ended: {self}");
            ensure!(socket.received > 0, "a WebSocket got no message: {self}");
        }
        Ok(())
    }

    /// Notes an event.
    pub(super) fn note(&mut self, event: &str, parameters: &Value) {
        match event {
            "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
                let words = parameters["args"].as_array().into_iter().flatten().map(console_argument);
                self.console_errors.push(words.collect::<Vec<_>>().join(" "));
            }
            "Runtime.consoleAPICalled" if parameters["args"][0]["value"] == "WebSocket closed" => {
                self.closes.push(text(&parameters["args"][1]["value"]));
            }
            "Target.attachedToTarget" => self.frames.push(text(&parameters["sessionId"])),
            "Target.detachedFromTarget" => self.frames.retain(|session| *session != text(&parameters["sessionId"])),
            "Runtime.exceptionThrown" => self.console_errors.push(exception(&parameters["exceptionDetails"])),
            "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
                let entry = &parameters["entry"];
                self.console_errors.push(format!("{} {}", text(&entry["text"]), text(&entry["url"])));
            }
            _ if event.starts_with("Network.webSocket") => self.note_websocket(event, parameters),
            _ => self.note_request(event, parameters),
        }
    }

    fn note_request(&mut self, event: &str, parameters: &Value) {
        let id = text(&parameters["requestId"]);
        match event {
            "Network.requestWillBeSent" => {
                self.urls.insert(id, text(&parameters["request"]["url"]));
            }
            "Network.responseReceived" if parameters["response"]["status"].as_u64() >= Some(400) => {
                let response = &parameters["response"];
                self.failed_requests.push(format!("{}: {}", text(&response["url"]), response["status"]));
            }
            // What the page itself cancels is no failure.
            "Network.loadingFailed" if parameters["canceled"] != true => {
                let url = self.urls.get(&id).map_or("?", String::as_str);
                self.failed_requests.push(format!("{url}: {}", text(&parameters["errorText"])));
            }
            _ => {}
        }
    }

    fn note_websocket(&mut self, event: &str, parameters: &Value) {
        let id = text(&parameters["requestId"]);
        if event == "Network.webSocketCreated" {
            let url = text(&parameters["url"]);
            self.websockets.push(WebSocket { id, url, ..WebSocket::default() });
            return;
        }
        let Some(socket) = self.websockets.iter_mut().find(|socket| socket.id == id) else { return };
        match event {
            "Network.webSocketHandshakeResponseReceived" => socket.status = parameters["response"]["status"].as_u64(),
            "Network.webSocketFrameReceived" => socket.received += 1,
            "Network.webSocketFrameError" => socket.errors.push(text(&parameters["errorMessage"])),
            "Network.webSocketClosed" => socket.closed = true,
            _ => {}
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All but the URLs, which are hundreds.
        let Self { console_errors, failed_requests, websockets, closes, frames: _, urls: _ } = self;
        write!(f, " console errors: {console_errors:#?}\n failed requests: {failed_requests:#?}\n closed: {closes:?}")?;
        websockets.iter().try_for_each(|socket| write!(f, "\n {socket}"))
    }
}

impl fmt::Display for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id: _, url, status, received, errors, closed } = self;
        write!(f, "WebSocket {url}: status {status:?}, {received} messages, errors {errors:?}, closed {closed}")
    }
}

/// The message of an exception, with its stack when it has one.
pub(super) fn exception(details: &Value) -> String {
    match &details["exception"]["description"] {
        Value::String(description) => description.clone(),
        _ => format!("{} {}", text(&details["text"]), details["exception"]["value"]),
    }
}

/// One argument of a call of `console.error`.
fn console_argument(argument: &Value) -> String {
    match (&argument["description"], &argument["value"]) {
        (Value::String(text), _) | (_, Value::String(text)) => text.clone(),
        (_, value) => value.to_string(),
    }
}

/// A string as it is, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
