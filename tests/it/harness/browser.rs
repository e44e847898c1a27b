//! A real browser: headless Chromium, driven by its debugging protocol (CDP) with real mouse and key events.

mod devtools;
mod record;

use super::process::{Process, Stream};
use super::{PATIENCE, until};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use devtools::DevTools;
use record::{Record, exception};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// No first-run pages, no traffic of the browser's own. No sandbox, because a container as root has no place for one;
/// the pages are ours. Shared memory in files, because a container's `/dev/shm` is often too small. Names that can be on no
/// other machine (RFC 6761 6.2) are of this one, as those below `localhost` are without being told.
const ARGUMENTS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
];

/// Functions for the expressions of the tests, as a JavaScript object.
const HELPERS: &str = include_str!("browser/page.js");

/// A modifier key held down while another is pressed, by the protocol's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modifier {
    None = 0,
    Control = 2,
}

/// A running Chromium with a profile of its own. Dropping it kills it, then removes the profile.
pub(crate) struct Browser {
    devtools: Arc<DevTools>,
    // In this order: fields are dropped as they stand here, and a browser that still runs writes to its profile.
    _process: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts `$CHROMIUM`, or else `chromium` from the path.
    pub(crate) async fn launch() -> Result<Self> {
        Self::launch_with(&[], &json!({})).await
    }

    /// The same with further arguments, and with preferences as Chromium keeps them in a profile.
    pub(crate) async fn launch_with(arguments: &[String], preferences: &Value) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        std::fs::create_dir(profile.path().join("Default"))?;
        std::fs::write(profile.path().join("Default/Preferences"), preferences.to_string())?;
        let mut command = Command::new(std::env::var_os("CHROMIUM").unwrap_or_else(|| "chromium".into()));
        command.args(ARGUMENTS).args(arguments).arg(format!("--user-data-dir={}", profile.path().display()));
        // It would leave folders of its own in the machine's.
        command.env("TMPDIR", profile.path());
        let mut process = Process::spawn("chromium", command).context("no browser: run tests/setup")?;
        let address = |line: &str| line.strip_prefix("DevTools listening on ").map(str::to_owned);
        let address = process.wait_for_line(Stream::Stderr, "DevTools address", PATIENCE, address).await?;
        Ok(Self { devtools: DevTools::connect(&address).await?, _process: process, _profile: profile })
    }

    /// Opens an empty page with cookies and storage of its own, as if another person sat at another browser.
    pub(crate) async fn page(&self) -> Result<Page> {
        let context = self.call("Target.createBrowserContext", json!({})).await?["browserContextId"].take();
        let person = context.as_str().context("no browser context")?.to_owned();
        let parameters = json!({ "url": "about:blank", "browserContextId": person });
        let target = self.call("Target.createTarget", parameters).await?["targetId"].take();
        let parameters = json!({ "targetId": target, "flatten": true });
        let attached = self.call("Target.attachToTarget", parameters).await?;
        let session = attached["sessionId"].as_str().context("no session")?.to_owned();
        self.devtools.follow(&session).await?;
        Ok(Page { devtools: Arc::clone(&self.devtools), session, person, within: None })
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        self.devtools.call(None, method, parameters).await
    }
}

/// One page of a [`Browser`], or a frame in one.
#[derive(Clone)]
pub(crate) struct Page {
    devtools: Arc<DevTools>,
    session: String,
    /// The browser context, which holds the cookies.
    person: String,
    within: Option<Within>,
}

/// Where a frame is.
#[derive(Clone)]
struct Within {
    page: Box<Page>,
    /// Its id, where it is in the process of its page and shares its session.
    id: Option<String>,
}

impl Page {
    /// Goes to a URL, follows redirects, and waits until the document and all it asks for are loaded.
    pub(crate) async fn goto(&self, url: &str) -> Result<()> {
        let answer = self.call("Page.navigate", json!({ "url": url })).await?;
        if let Some(error) = answer["errorText"].as_str() {
            bail!("cannot go to {url}: {error}");
        }
        self.wait_for("document.readyState === 'complete'", PATIENCE).await
    }

    /// The URL in the URL bar.
    pub(crate) async fn url(&self) -> Result<String> {
        let (current, mut urls) = self.history().await?;
        Ok(urls.swap_remove(current))
    }

    /// The URLs to which this page can go back and forward, and the index of the current one.
    pub(crate) async fn history(&self) -> Result<(usize, Vec<String>)> {
        let history = self.call("Page.getNavigationHistory", json!({})).await?;
        let urls = history["entries"].as_array().into_iter().flatten().filter_map(|entry| entry["url"].as_str());
        let urls: Vec<String> = urls.map(str::to_owned).collect();
        let current = usize::try_from(history["currentIndex"].as_u64().context("no current entry")?)?;
        ensure!(current < urls.len(), "no entry {current} in {history}");
        Ok((current, urls))
    }

    /// The value of a JavaScript expression; of what it resolves to, if it is a promise. The expression may use
    /// the functions of `page.js`, such as `page.find('button')`.
    ///
    /// # Errors
    /// An exception of the expression, with its stack.
    pub(crate) async fn eval(&self, expression: &str) -> Result<Value> {
        let expression = format!("((page) => ({expression}))({HELPERS})");
        let mut parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        if let Some(id) = self.within.as_ref().and_then(|within| within.id.as_deref()) {
            // The same one each time, until the frame gets another document.
            let world = json!({ "frameId": id, "worldName": "tests" });
            parameters["contextId"] = self.call("Page.createIsolatedWorld", world).await?["executionContextId"].take();
        }
        let mut answer = self.call("Runtime.evaluate", parameters).await?;
        match answer.get("exceptionDetails") {
            Some(details) => bail!("JavaScript: {}", exception(details)),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// Waits until a JavaScript expression is true.
    ///
    /// # Errors
    /// When the deadline passes: what the page shows instead, and where a picture of it lies.
    pub(crate) async fn wait_for(&self, condition: &str, within: Duration) -> Result<()> {
        let mut last = Ok(Value::Null);
        let holds = until(within, async || {
            // An error is "not yet" as well: a page on its way to the next one has no context to evaluate in.
            last = self.eval(condition).await;
            Ok(last.as_ref().is_ok_and(|value| *value == Value::Bool(true)).then_some(()))
        });
        match holds.await? {
            Some(()) => Ok(()),
            None => Err(self.describe(&format!("after {within:?}, `{condition}` is {last:?}")).await),
        }
    }

    /// Waits until the page shows a text.
    pub(crate) async fn wait_for_text(&self, text: &str, within: Duration) -> Result<()> {
        self.wait_for(&format!("page.text().includes({})", json!(text)), within).await
    }

    /// Moves the mouse to the middle of an element and clicks, as soon as the element can be hit there.
    pub(crate) async fn click(&self, selector: &str) -> Result<()> {
        let mut last = Ok(Value::Null);
        let point = until(PATIENCE, async || {
            last = self.eval(&format!("page.target({})", json!(selector))).await;
            let Ok(target) = &last else { return Ok(None) };
            Ok(target["x"].as_f64().zip(target["y"].as_f64()))
        });
        let Some((x, y)) = point.await? else {
            return Err(self.describe(&format!("cannot click on {selector}: {last:?}")).await);
        };
        self.click_at(x, y).await
    }

    /// Clicks at a point of the page or frame. The mouse is the whole page's: the browser finds out what it hits.
    async fn click_at(&self, mut x: f64, mut y: f64) -> Result<()> {
        let page = self.page();
        if self.within.is_some() {
            let corner = page.eval("page.corner('iframe')").await?;
            x += corner["x"].as_f64().context("no frame to click in")?;
            y += corner["y"].as_f64().context("no frame to click in")?;
        }
        for (kind, button, clicks) in
            [("mouseMoved", "none", 0), ("mousePressed", "left", 1), ("mouseReleased", "left", 1)]
        {
            let event = json!({ "type": kind, "x": x, "y": y, "button": button, "clickCount": clicks });
            page.call("Input.dispatchMouseEvent", event).await?;
        }
        Ok(())
    }

    /// The page that a frame is in; a page itself.
    fn page(&self) -> &Self {
        self.within.as_ref().map_or(self, |within| &within.page)
    }

    /// The frame in this page, as soon as it shows something, whichever process it is in.
    pub(crate) async fn frame(&self) -> Result<Self> {
        let place = until(PATIENCE, async || {
            if let Some(session) = self.record().frames.pop() {
                return Ok(Some((session, None)));
            }
            let tree = self.call("Page.getFrameTree", json!({})).await?;
            let frame = &tree["frameTree"]["childFrames"][0]["frame"];
            // A frame begins as an empty one of the page, wherever it goes then.
            let is_empty = matches!(frame["url"].as_str(), None | Some("" | "about:blank" | ":"));
            let id = frame["id"].as_str().filter(|_| !is_empty).map(str::to_owned);
            Ok(id.map(|id| (self.session.clone(), Some(id))))
        });
        let Some((session, id)) = place.await? else { return Err(self.describe("no frame").await) };
        let within = Some(Within { page: Box::new(self.clone()), id });
        Ok(Self { session, within, ..self.clone() })
    }

    /// All cookies of the person at this page, as the debugging protocol tells them.
    pub(crate) async fn cookies(&self) -> Result<Vec<Value>> {
        let person = json!({ "browserContextId": self.page().person });
        let cookies = self.devtools.call(None, "Storage.getCookies", person).await?;
        Ok(cookies["cookies"].as_array().context("no list of cookies")?.clone())
    }

    /// Types a text into whatever has the focus, key by key.
    pub(crate) async fn type_text(&self, text: &str) -> Result<()> {
        for character in text.chars() {
            let key = character.to_string();
            self.call("Input.dispatchKeyEvent", json!({ "type": "keyDown", "key": key, "text": key })).await?;
            self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key })).await?;
        }
        Ok(())
    }

    /// Presses Enter, maybe with another key held down.
    pub(crate) async fn press_enter(&self, modifier: Modifier) -> Result<()> {
        let mut event = json!({
            "type": "keyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "modifiers": modifier as u8,
        });
        if modifier == Modifier::None {
            event["text"] = "\r".into();
        }
        self.call("Input.dispatchKeyEvent", event.clone()).await?;
        event["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", event).await?;
        Ok(())
    }

    /// Writes a PNG of what the page shows.
    pub(crate) async fn screenshot(&self, path: &Path) -> Result<()> {
        let picture = self.page().call("Page.captureScreenshot", json!({ "format": "png" })).await?;
        let picture = picture["data"].as_str().context("no picture")?;
        std::fs::write(path, base64::engine::general_purpose::STANDARD.decode(picture)?)?;
        Ok(())
    }

    /// What has failed on this page so far, and each WebSocket it has opened.
    pub(crate) fn record(&self) -> Record {
        self.devtools.record(&self.session)
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        self.devtools.call(Some(&self.session), method, parameters).await
    }

    /// An error about this page: `problem`, what the page shows, what failed on it, and a picture.
    async fn describe(&self, problem: &str) -> anyhow::Error {
        let seen = "[document.title, location.href, page.text().trim().slice(0, 500)]";
        let seen = self.eval(seen).await.unwrap_or_else(|error| json!([error.to_string()]));
        let [title, url, text] = [&seen[0], &seen[1], &seen[2]].map(|value| value.as_str().unwrap_or("?"));
        let path = picture_path(&self.session);
        let picture = match self.screenshot(&path).await {
            Ok(()) => path.display().to_string(),
            Err(error) => error.to_string(),
        };
        let record = self.record();
        anyhow!("{problem}\n title: {title}\n URL: {url}\n picture: {picture}\n text: {text}\n{record}")
    }
}

/// Where the picture of a failed test goes: into cargo's folder for the files of tests.
fn picture_path(session: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failed-{session}.png"))
}
