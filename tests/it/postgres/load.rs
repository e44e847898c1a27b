//! Requests that go on while something is done to the database.

use super::Gateway;
use crate::harness::http::get;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// Clients that ask for an app again and again.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    answers: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Four clients at once, each with one request after the other.
    pub(super) fn start(gateway: &Gateway, app: &str, token: &str) -> Self {
        let (shared, mut clients) = (Arc::<Shared>::default(), JoinSet::new());
        for _ in 0..4 {
            let (path, token) = (format!("/app-proxy/{app}/"), token.to_owned());
            clients.spawn(ask(gateway.data, path, token, Arc::clone(&shared)));
        }
        Self { shared, clients }
    }

    /// Waits until many more requests have been answered than now.
    pub(super) async fn go_on(&self) -> Result<()> {
        let answers = || self.shared.answers.load(Ordering::Relaxed);
        let goal = answers() + 50;
        until(PATIENCE, async || Ok((answers() >= goal).then_some(()))).await?.context("no answers any more")
    }

    /// Ends it; an error unless every request was answered by the app.
    pub(super) async fn end(self) -> Result<()> {
        self.go_on().await?;
        self.shared.over.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        let failures = self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(failures.is_empty(), "{} requests failed: {:?}", failures.len(), failures.first());
        Ok(())
    }
}

async fn ask(gateway: SocketAddr, path: String, token: String, shared: Arc<Shared>) {
    while !shared.over.load(Ordering::Relaxed) {
        let failure = match get(gateway, &path, Some(&token)).await {
            Ok((200, _)) => None,
            Ok(other) => Some(format!("{other:?}")),
            Err(error) => Some(format!("{error:#}")),
        };
        shared.answers.fetch_add(1, Ordering::Relaxed);
        shared.failures.lock().unwrap_or_else(PoisonError::into_inner).extend(failure);
    }
}
