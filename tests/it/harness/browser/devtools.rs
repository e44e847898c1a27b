//! The connection to Chromium: calls and their answers by its debugging protocol, and the events of its pages.

use super::record::Record;
use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tungstenite::Message;
use tungstenite::protocol::WebSocketConfig;

/// What every page and frame runs before its own scripts.
const WITNESS: &str = include_str!("witness.js");

/// How long the browser may take for one call, so that a page which hangs fails its test instead of stopping the run.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One connection, shared by a browser and all its pages.
pub(super) struct DevTools {
    sink: tokio::sync::Mutex<SplitSink<Socket, Message>>,
    last_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    calls: HashMap<u64, oneshot::Sender<Value>>,
    records: HashMap<String, Record>,
}

impl DevTools {
    /// Connects to the address that Chromium printed.
    pub(super) async fn connect(address: &str) -> Result<Arc<Self>> {
        // A screenshot is one message, of any size.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = tokio_tungstenite::connect_async_with_config(address, Some(config), true).await?;
        let (sink, stream) = socket.split();
        let (last_id, state) = (AtomicU64::new(0), Mutex::default());
        let this = Arc::new(Self { sink: tokio::sync::Mutex::new(sink), last_id, state });
        tokio::spawn(read(Arc::clone(&this), stream));
        Ok(this)
    }

    /// Calls a method of the browser, or of one page's session, and returns its result.
    pub(super) async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        if !self.expect_answer(id, sender) {
            bail!("{method}: the browser is gone");
        }
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.sink.lock().await.send(Message::text(message.to_string())).await?;
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        let mut answer = answer.with_context(|| format!("{method}: no answer"))?.context("the browser is gone")?;
        match answer.get("error") {
            Some(error) => bail!("{method}: {error}"),
            None => Ok(answer["result"].take()),
        }
    }

    /// Follows what the page or frame of a session does, and lets it go on if it waits for that.
    pub(super) async fn follow(&self, session: &str) -> Result<()> {
        let iframes = json!([{ "type": "iframe" }]);
        let attach = json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true, "filter": iframes });
        let calls = [
            ("Page.enable", json!({})),
            ("Runtime.enable", json!({})),
            ("Network.enable", json!({})),
            ("Log.enable", json!({})),
            ("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WITNESS })),
            ("Target.setAutoAttach", attach),
            ("Runtime.runIfWaitingForDebugger", json!({})),
        ];
        // Sent in this order, without a wait for one another: what waits may answer only when it goes on.
        let calls = calls.map(|(method, parameters)| self.call(Some(session), method, parameters));
        try_join_all(calls).await.map(drop)
    }

    /// What the page of this session has done so far.
    pub(super) fn record(&self, session: &str) -> Record {
        self.state().records.get(session).cloned().unwrap_or_default()
    }

    /// Registers a call, unless nobody is left to answer it.
    fn expect_answer(&self, id: u64, sender: oneshot::Sender<Value>) -> bool {
        let mut state = self.state();
        if !state.closed {
            state.calls.insert(id, sender);
        }
        !state.closed
    }

    /// Takes in one message: an answer, or an event of a page.
    fn receive(&self, mut message: Value) {
        let mut state = self.state();
        if let Some(id) = message["id"].as_u64() {
            // A call that gave up waiting has dropped its receiver, and misses nothing.
            let _ = state.calls.remove(&id).map(|call| call.send(message));
        } else if let (Some(session), Some(method)) = (message["sessionId"].as_str(), message["method"].as_str()) {
            let (session, method) = (session.to_owned(), method.to_owned());
            state.records.entry(session).or_default().note(&method, &message["params"].take());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until the connection ends; every call that still waits then fails at once.
async fn read(devtools: Arc<DevTools>, mut stream: SplitStream<Socket>) {
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Text(text) = message
            && let Ok(message) = serde_json::from_str::<Value>(&text)
        {
            if message["method"] == "Target.attachedToTarget" {
                follow_frame(&devtools, &message["params"]);
            }
            devtools.receive(message);
        }
    }
    let mut state = devtools.state();
    state.closed = true;
    state.calls.clear();
}

/// Follows a frame of another process, which waits for that.
fn follow_frame(devtools: &Arc<DevTools>, attached: &Value) {
    if let Some(session) = attached["sessionId"].as_str().filter(|_| attached["targetInfo"]["type"] == "iframe") {
        let (devtools, session) = (Arc::clone(devtools), session.to_owned());
        // A frame that is gone again needs nothing.
        tokio::spawn(async move { devtools.follow(&session).await });
    }
}
