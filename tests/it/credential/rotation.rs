//! Secrets and keys that are replaced while requests come: none of them fails.

use super::kinds::{installation, org};
use crate::harness::installation::{KEY, session};
use crate::harness::issuer::{App, Issuer, Mood};
use crate::harness::signer::Key;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

const PRINCIPAL: &str =
    "kind = 'oauth2'\ntoken_url = '{issuer}/token'\nclient_id = 'c'\nclient_secret = { file = 'secret' }";

#[tokio::test]
async fn a_secret_rotated_under_load_fails_no_request() -> Result<()> {
    // Tokens of four seconds, so that there is always one to be got.
    let (issuer, app) = (Issuer::start(Mood::IssuesTo("first", 4)).await?, App::start("welcome").await?);
    let (installation, _keys) = installation(&org("acme", PRINCIPAL, &issuer.url(), &app.url()))?;
    installation.write("secret", "first")?;
    let gateway = installation.serve().await?;
    let done = AtomicBool::new(false);
    let load = async {
        let mut requests = 0;
        while !done.load(Ordering::Relaxed) {
            let answer = gateway.get("/app-proxy/studio/", &session(KEY, "acme", None, 0)?).await?;
            ensure!(answer.status == 200, "after {requests}: {answer:?}");
            requests += 1;
        }
        Ok(requests)
    };
    let rotate = async {
        for (secret, count) in [("second", 2), ("third", 4)] {
            let minted = until(PATIENCE, async || Ok((issuer.tokens().len() >= count).then_some(())));
            minted.await?.context("no tokens")?;
            installation.replace("secret", secret)?;
            // The old one is worth nothing from the same moment on.
            issuer.set(Mood::IssuesTo(secret, 4));
            let used = until(PATIENCE, async || {
                let before = issuer.tokens().len();
                let is_used = issuer.calls().last().is_some_and(|call| call.secret == secret);
                Ok((is_used && before > count).then_some(()))
            });
            used.await?.context("the new secret is never used")?;
        }
        done.store(true, Ordering::Relaxed);
        Ok(())
    };
    let (requests, ()) = tokio::try_join!(load, rotate)?;
    ensure!(requests > 20, "only {requests} requests");
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_refused_secret_is_read_again_before_the_request_fails() -> Result<()> {
    let (issuer, app) = (Issuer::start(Mood::Hangs).await?, App::start("welcome").await?);
    let other = org("other", "kind = 'bearer'\ntoken = { file = 'token' }", &issuer.url(), &app.url());
    let directory = org("acme", PRINCIPAL, &issuer.url(), &app.url()) + &other;
    let (installation, _keys) = installation(&directory)?;
    installation.write("secret", "first")?;
    installation.write("token", "first")?;
    let gateway = installation.serve().await?;
    let (others, session) = (session(KEY, "other", None, 0)?, session(KEY, "acme", None, 0)?);
    let ask = gateway.get("/app-proxy/studio/", &session);
    let rotate = async {
        // The call with the old secret is under way when the secret is replaced.
        let called = until(PATIENCE, async || Ok((!issuer.calls().is_empty()).then_some(())));
        called.await?.context("no call")?;
        installation.replace("secret", "second")?;
        installation.replace("token", "second")?;
        issuer.set(Mood::IssuesTo("second", 3600));
        Ok(())
    };
    let (answer, ()) = tokio::try_join!(ask, rotate)?;
    assert_eq!(answer.verdict(), (200, String::new()));
    let secrets: Vec<_> = issuer.calls().into_iter().map(|call| call.secret).collect();
    assert_eq!(secrets, ["first", "second"]);
    // What changed at the same time for others is not lost on them.
    let changed = until(PATIENCE, async || {
        gateway.get_until(200, "/app-proxy/studio/other", &others).await?;
        Ok(app.bearers("/other").last().is_some_and(|token| token == "second").then_some(()))
    });
    changed.await?.context("the other organisation keeps its old token")?;
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn assertion_keys_are_replaced_while_running() -> Result<()> {
    let (issuer, app) = (Issuer::start(Mood::Issues(3600)).await?, App::start("welcome").await?);
    let lines = "kind = 'token-exchange'\nsubject = 's'";
    let (installation, _keys) = installation(&org("acme", lines, &issuer.url(), &app.url()))?;
    let mut gateway = installation.serve().await?;
    let new = Key::generate("a1", "ES256")?;
    installation.replace("a1.pem", &new.pem()?)?;
    let published = until(PATIENCE, async || {
        let published: Value = serde_json::from_str(&gateway.get("/.embedgate/jwks.json", "").await?.body)?;
        Ok((published["keys"][0]["x"] == new.jwk()["x"]).then_some(()))
    });
    published.await?.context("the new key is not published")?;
    gateway.get_until(200, "/app-proxy/studio/", &session(KEY, "acme", None, 0)?).await?;
    let call = issuer.calls().pop().context("no call")?;
    super::kinds::claims(&call.form["subject_token"], &new.jwk(), &format!("{}/oidc/v1/token", issuer.url()))?;
    // What is no key changes nothing.
    installation.replace("a1.pem", "nonsense")?;
    gateway.wait_for_log("assertion keys cannot be read").await?;
    let still: Value = serde_json::from_str(&gateway.get("/.embedgate/jwks.json", "").await?.body)?;
    assert_eq!(still["keys"][0]["x"], new.jwk()["x"]);
    gateway.stop().await?;
    Ok(())
}
