//! How a person uses an app: a real click changes a text by way of the app's server.

use crate::harness::PATIENCE;
use crate::harness::browser::Page;
use anyhow::Result;

/// An app that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Marimo,
    Streamlit,
}

impl Kind {
    /// What the app says at first.
    pub(super) fn beginning(self) -> &'static str {
        match self {
            Self::Marimo => "The kernel says 1",
            Self::Streamlit => "The server says 1",
        }
    }

    /// Waits until the app is there, clicks, and waits for what that leads to.
    pub(super) async fn click(self, page: &Page) -> Result<()> {
        let (button, end) = match self {
            Self::Marimo => ("[data-testid=marimo-plugin-button]", "The kernel says 42"),
            Self::Streamlit => ("[data-testid=stButton] button", "The server says 42"),
        };
        page.wait_for_text(self.beginning(), PATIENCE).await?;
        page.click(button).await?;
        page.wait_for_text(end, PATIENCE).await
    }

    /// Uses the app, none of whose WebSockets may have ended.
    pub(super) async fn work(self, page: &Page) -> Result<()> {
        self.click(page).await?;
        page.record().check_websockets()
    }
}
