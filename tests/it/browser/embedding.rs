//! A person at a browser opens a front end's page, which starts a session with a JWT and shows an app in a frame.
//!
//! "Works" means here as elsewhere: a real click in the frame changes a text by way of the app's server.

use super::stage::{KEEPS_THIRD_PARTY_COOKIES, Stage, check_partitioned};
use super::using::Kind;
use crate::harness::apps::App;
use crate::harness::browser::{Browser, Page};
use crate::harness::front::Front;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;

/// A front end on the gateway's own site, as during development.
const SAME_SITE: &str = "localhost";
/// A front end on another site than the gateway.
const OTHER_SITE: &str = "front.localhost";

/// The WebSocket in the frame is closed with this reason, and the app does not come back.
async fn expect_end(page: &Page, frame: &Page, reason: &str) -> Result<()> {
    let expected = format!("1008 {reason}");
    let closed = until(PATIENCE, async || Ok(frame.record().closes.contains(&expected).then_some(())));
    ensure!(closed.await?.is_some(), "not closed with {expected:?}:\n{}", frame.record());
    page.eval("reload()").await?;
    frame.wait_for_text("Sign in again", PATIENCE).await?;
    frame.wait_for_text("401 · request ", PATIENCE).await
}

#[tokio::test]
async fn a_front_end_on_the_same_site_embeds_an_app() -> Result<()> {
    let stage = Stage::http(Front::start(SAME_SITE).await?, App::marimo_run().await?, "").await?;
    let browser = Browser::launch().await?;
    let page = browser.page().await?;
    page.goto(&stage.page_at(stage.front.origin(), "http://localhost", "firefly")).await?;
    Kind::Marimo.work(&page.frame().await?).await?;
    let cookie = stage.cookie(&page).await?;
    ensure!(cookie["name"] == "embedgate-editor" && cookie["domain"] == "localhost", "{cookie:#}");
    ensure!(cookie["sameSite"] == "Lax" && cookie["httpOnly"] == true && cookie["secure"] == false, "{cookie:#}");
    page_of_another_origin_gets_nothing(&stage, &page).await?;
    ensure!(stage.cookie(&page).await?["value"] == cookie["value"], "the session was replaced");
    stage.end(browser).await
}

/// The user's cookie comes along with what a page of the same site asks for, so it is the gateway that refuses.
async fn page_of_another_origin_gets_nothing(stage: &Stage, page: &Page) -> Result<()> {
    let stranger = Front::start(SAME_SITE).await?;
    page.goto(&stage.page_at(stranger.origin(), "http://localhost", "firefly")).await?;
    page.wait_for_text("failed: TypeError: Failed to fetch", PATIENCE).await?;

    let order = json!({ "jwt": stage.front.token()?, "toolId": "editor", "orgId": "acme" }).to_string();
    let order = json!(order);
    let unread = format!(
        "fetch(`${{proxy}}/start-session`, {{ method: 'POST', mode: 'no-cors', credentials: 'include', body: {order} }})"
    );
    ensure!(page.eval(&format!("{unread}.then((answer) => answer.type)")).await? == "opaque");
    let read = "fetch(appUrl, { credentials: 'include' }).then((answer) => answer.status, String)";
    ensure!(page.eval(read).await? == "TypeError: Failed to fetch");
    ensure!(page.eval("signOut().catch(String)").await? == "TypeError: Failed to fetch");
    let socket = "new Promise((closed) => new WebSocket(appUrl.replace('http', 'ws') + 'ws').onclose = ({ code }) => closed(code))";
    ensure!(page.eval(socket).await? == 1006);
    // The order, the request and the handshake; the browser did not even send what it first asked about.
    stage.gateway.wait_for_metric("embedgate_rejects_total{reason=\"cross_site\"}", 3.0).await?;

    page.eval("embed()").await?;
    let refused = until(PATIENCE, async || {
        let record = page.record();
        Ok(record.console_errors.iter().any(|error| error.contains("frame-ancestors 'self'")).then_some(()))
    });
    ensure!(refused.await?.is_some(), "{}", page.record());
    let frame = page.frame().await?;
    ensure!(!frame.eval("page.text()").await?.to_string().contains("kernel"), "the app is shown");
    Ok(())
}

#[tokio::test]
async fn a_front_end_on_another_site_embeds_an_app_at_its_own_host() -> Result<()> {
    let stage = Stage::https(Front::start(OTHER_SITE).await?, App::streamlit().await?).await?;
    let browser = stage.browser(&json!({})).await?;
    let page = browser.page().await?;
    let url = |front: &str| stage.page_at(front, "https://editor--acme.apps.localhost", "own");
    page.goto(&url(stage.front.origin())).await?;
    let frame = page.frame().await?;
    Kind::Streamlit.work(&frame).await?;
    ensure!(frame.eval(KEEPS_THIRD_PARTY_COOKIES).await? == false, "the browser blocks none");
    ensure!(frame.eval(UPLOAD).await? != 403, "Streamlit misses its own cookie: {:#?}", page.cookies().await?);
    let cookie = stage.cookie(&page).await?;
    ensure!(cookie["name"] == "__Host-embedgate" && cookie["domain"] == "editor--acme.apps.localhost", "{cookie:#}");
    check_partitioned(&cookie, &format!("http://{OTHER_SITE}"))?;

    ensure!(page.eval("signOut()").await? == 204);
    expect_end(&page, &frame, "the session was ended").await?;
    ensure!(stage.cookies(&page).await?.is_empty(), "{:#?}", stage.cookies(&page).await?);

    page.eval("start()").await?;
    let frame = page.frame().await?;
    Kind::Streamlit.work(&frame).await?;
    stage.revoke().await?;
    expect_end(&page, &frame, "the sessions of the user were ended").await?;

    let stranger = browser.page().await?;
    stranger.goto(&url(&stage.front.elsewhere())).await?;
    stranger.wait_for_text("failed: TypeError: Failed to fetch", PATIENCE).await?;
    ensure!(stage.cookies(&stranger).await?.is_empty());
    stranger.eval("embed()").await?;
    let blocked = until(PATIENCE, async || {
        let record = stranger.record();
        Ok(record.console_errors.iter().any(|error| error.contains("frame-ancestors 'self'")).then_some(()))
    });
    ensure!(blocked.await?.is_some(), "not even a refusal is for a stranger's frame:\n{}", stranger.record());
    stage.end(browser).await
}

/// The status of an upload to Streamlit, which takes it only with what it has set as a cookie of its own.
const UPLOAD: &str = "(() => {
    const token = document.cookie.match(/_streamlit_xsrf=([^;]*)/)?.[1] ?? '';
    const order = { method: 'PUT', headers: { 'X-Xsrftoken': token }, body: new FormData() };
    return fetch('/_stcore/upload_file/x/y', order).then((answer) => answer.status);
})()";

#[tokio::test]
async fn a_front_end_on_another_site_embeds_an_app_below_the_public_host() -> Result<()> {
    let stage = Stage::https(Front::start(OTHER_SITE).await?, App::marimo_run().await?).await?;
    let allowed = json!({ "profile": { "cookie_controls_mode": 0, "block_third_party_cookies": false } });
    let browser = stage.browser(&allowed).await?;
    let page = browser.page().await?;
    page.goto(&stage.page_at(stage.front.origin(), "https://gate.localhost", "firefly")).await?;
    let frame = page.frame().await?;
    Kind::Marimo.work(&frame).await?;
    ensure!(frame.eval(KEEPS_THIRD_PARTY_COOKIES).await? == true, "the browser blocks them");
    let cookie = stage.cookie(&page).await?;
    ensure!(cookie["name"] == "__Host-embedgate-editor" && cookie["domain"] == "gate.localhost", "{cookie:#}");
    check_partitioned(&cookie, &format!("http://{OTHER_SITE}"))?;
    ensure!(page.eval("signOut()").await? == 204);
    expect_end(&page, &frame, "the session was ended").await?;
    // The refusal tells the page around it, which starts another session, and the frame loads the app again.
    page.eval("renews = true").await?;
    page.eval("reload()").await?;
    frame.wait_for_text("The kernel says 1", PATIENCE).await?;
    stage.end(browser).await
}

#[tokio::test]
async fn an_app_that_is_told_its_base_path_works_below_it() -> Result<()> {
    let (front, app) = (Front::start(SAME_SITE).await?, App::streamlit_below().await?);
    let stage = Stage::http(front, app, "strip_prefix = false\n").await?;
    let browser = Browser::launch().await?;
    let page = browser.page().await?;
    page.goto(&stage.page_at(stage.front.origin(), "http://localhost", "firefly")).await?;
    Kind::Streamlit.work(&page.frame().await?).await?;
    let cookies = page.cookies().await?;
    ensure!(
        cookies.iter().any(|cookie| cookie["name"] == "_streamlit_xsrf" && cookie["path"] == "/app-proxy/editor/"),
        "the app's own cookie is not held to its path: {cookies:#?}"
    );
    stage.end(browser).await
}

#[tokio::test]
async fn apps_work_by_an_address_that_holds_the_session() -> Result<()> {
    let stage = Stage::https(Front::start(OTHER_SITE).await?, App::streamlit().await?).await?;
    works_without_cookies(stage, "https://editor--acme.apps.localhost", Kind::Streamlit).await?;
    let stage = Stage::https(Front::start(OTHER_SITE).await?, App::marimo_run().await?).await?;
    works_without_cookies(stage, "https://gate.localhost", Kind::Marimo).await
}

async fn works_without_cookies(stage: Stage, proxy: &str, kind: Kind) -> Result<()> {
    let browser = stage.browser(&json!({})).await?;
    let page = browser.page().await?;
    page.goto(&stage.page_at(stage.front.origin(), proxy, "cookieless")).await?;
    let frame = page.frame().await?;
    kind.work(&frame).await?;
    ensure!(stage.cookies(&page).await?.is_empty(), "{:#?}", stage.cookies(&page).await?);
    let referrer = frame.eval("fetch('x').then((answer) => answer.headers.get('referrer-policy'))").await?;
    ensure!(referrer == "same-origin", "{referrer}");
    stage.revoke().await?;
    let ended = frame.eval("location.pathname").await?;
    expect_end(&page, &frame, "the sessions of the user were ended").await?;
    // The refusal tells the page around it, which starts another session, and the frame goes on at the same place.
    page.eval("renews = true").await?;
    page.eval("document.querySelector('iframe').src = appUrl + '?place=here#there'").await?;
    let place = "location.pathname + ' ' + location.search + location.hash + ' ' + document.title";
    let mut last = json!(null);
    let renewed = until(PATIENCE, async || {
        last = frame.eval(place).await.unwrap_or_default();
        let at = last.as_str().unwrap_or_default();
        let is_fresh = at.starts_with("/.embedgate/t/") && !at.starts_with(ended.as_str().unwrap_or_default());
        Ok((is_fresh && at.contains(" ?place=here#there ") && !at.contains("Sign in again")).then_some(()))
    });
    renewed.await?.with_context(|| format!("the frame does not go on: {last}"))?;
    frame.wait_for_text("says 1", PATIENCE).await?;
    stage.end(browser).await
}
