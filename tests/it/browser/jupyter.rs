//! JupyterLab in a frame of a front end on another site: a kernel runs a cell, and a terminal takes what is typed.

use super::stage::Stage;
use crate::harness::apps::App;
use crate::harness::browser::{Modifier, Page};
use crate::harness::front::Front;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result};
use serde_json::json;

/// Waits until a WebSocket whose address ends like this, but for its query, has got a message.
async fn expect_websocket(frame: &Page, end: &str) -> Result<()> {
    let speaks = async || {
        let sockets = frame.record().websockets;
        let is_meant = |url: &str| url.split('?').next().is_some_and(|path| path.ends_with(end));
        Ok(sockets.iter().any(|socket| is_meant(&socket.url) && socket.received > 0).then_some(()))
    };
    until(PATIENCE, speaks).await?.with_context(|| format!("no WebSocket {end} speaks:\n{}", frame.record()))
}

#[tokio::test]
async fn jupyterlab_runs_a_cell_and_a_terminal() -> Result<()> {
    let stage = Stage::https(Front::start("front.localhost").await?, App::jupyterlab().await?).await?;
    let browser = stage.browser(&json!({})).await?;
    let page = browser.page().await?;
    page.goto(&stage.page_at(stage.front.origin(), "https://editor--acme.apps.localhost", "own")).await?;
    let frame = page.frame().await?;

    frame.click(".jp-LauncherCard[data-category=Notebook]").await?;
    expect_websocket(&frame, "/channels").await?;
    frame.click(".jp-Notebook .cm-content").await?;
    // Keys go to whatever has the focus, and only the page around the frame knows what that is.
    page.type_text("1234567 * 9").await?;
    page.press_enter(Modifier::Control).await?;
    frame.wait_for_text("11111103", PATIENCE).await?;

    // Its first button opens another launcher.
    frame.click(".jp-FileBrowser-toolbar jp-button").await?;
    frame.click(".jp-LauncherCard[title='Start a new terminal session']").await?;
    expect_websocket(&frame, "/terminals/websocket/1").await?;
    frame.click(".jp-Terminal .xterm-screen").await?;
    // The terminal is a picture; the list of files, which is text, shows what it has done.
    page.type_text("touch made-by-$((6*7))").await?;
    page.press_enter(Modifier::None).await?;
    frame.wait_for_text("made-by-42", PATIENCE).await?;
    frame.record().check_websockets()?;
    stage.end(browser).await
}
