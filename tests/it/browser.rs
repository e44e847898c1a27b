//! A person at a browser opens the link of `embedgate dev` and uses the app behind it.
//!
//! Each test changes a text by way of the app's server, with real mouse and key events: what arrives there and comes
//! back goes through the gateway, most of it through a WebSocket.

mod embedding;
mod jupyter;
mod matrix;
mod stage;
mod using;

use crate::harness::PATIENCE;
use crate::harness::apps::App;
use crate::harness::browser::{Browser, Modifier, Page};
use crate::harness::embedgate::Embedgate;
use anyhow::{Context as _, Result, ensure};
use using::Kind;

/// An app, the gateway before it, and a page on which its link was opened.
struct Visit {
    page: Page,
    browser: Browser,
    gateway: Embedgate,
    app: App,
    link: String,
}

impl Visit {
    /// Starts `embedgate dev` before an app and opens the link that it prints.
    async fn through_dev(app: App) -> Result<Self> {
        let mut gateway = Embedgate::dev(&app.url())?;
        let link = gateway.link().await?;
        let browser = Browser::launch().await?;
        let page = browser.page().await?;
        page.goto(&link).await?;
        Ok(Self { page, browser, gateway, app, link })
    }

    /// Checks what holds for every visit, and stops the gateway.
    async fn end(self) -> Result<()> {
        self.check_url_bar().await?;
        self.check_traffic()?;
        // The browser goes first: what the gateway does with open streams when it stops is for other tests.
        drop((self.page, self.browser));
        self.gateway.stop().await?;
        drop(self.app);
        Ok(())
    }

    /// The app is shown at the gateway's address, and the token is neither in the URL bar nor a step back.
    async fn check_url_bar(&self) -> Result<()> {
        let (_, query) = self.link.split_once("token=").context("a link without a token")?;
        let token = query.split('&').next().filter(|token| !token.is_empty()).context("an empty token")?;
        let (_, history) = self.page.history().await?;
        ensure!(
            !history.iter().any(|url| url.contains(token)),
            "the token stays in the browser's history: {history:?}"
        );
        let url = self.page.url().await?;
        ensure!(url.starts_with(self.origin()?), "the link {} led to {url}", self.link);
        Ok(())
    }

    /// The app's WebSocket held, and the gateway refused or lost none of the page's requests.
    fn check_traffic(&self) -> Result<()> {
        let record = self.page.record();
        record.check_websockets()?;
        let origin = self.origin()?;
        ensure!(
            !record.failed_requests.iter().any(|request| request.starts_with(origin)),
            "requests failed:\n{record}"
        );
        Ok(())
    }

    /// Scheme, host and port of the gateway for this app.
    fn origin(&self) -> Result<&str> {
        let (origin, _) = self.link.split_once("/.embedgate/").context("a link to elsewhere")?;
        Ok(origin)
    }
}

#[tokio::test]
async fn streamlit_button_changes_a_text_through_dev() -> Result<()> {
    let visit = Visit::through_dev(App::streamlit().await?).await?;
    Kind::Streamlit.click(&visit.page).await?;
    visit.end().await
}

#[tokio::test]
async fn marimo_cell_runs_through_dev() -> Result<()> {
    let visit = Visit::through_dev(App::marimo_run().await?).await?;
    Kind::Marimo.click(&visit.page).await?;
    visit.end().await
}

#[tokio::test]
async fn marimo_editor_runs_what_is_typed_through_dev() -> Result<()> {
    let visit = Visit::through_dev(App::marimo_edit().await?).await?;
    visit.page.click(".cm-content").await?;
    // No brackets and no quotes, because the editor adds closing ones as one types.
    visit.page.type_text("1234567 * 9").await?;
    visit.page.press_enter(Modifier::Control).await?;
    visit.page.wait_for_text("11111103", PATIENCE).await?;
    visit.end().await
}
