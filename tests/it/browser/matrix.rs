//! Every app, at a host of its own and below the public host, over http on this machine and over https, each in a frame
//! of a front end on another site and in a browser that blocks third-party cookies.
//!
//! All share one browser and one process per app and run at the same time, each as another person.

use super::stage::{KEEPS_THIRD_PARTY_COOKIES, Setting, Stage, check_partitioned};
use super::using::Kind;
use crate::harness::apps::App;
use crate::harness::browser::{Browser, Page};
use crate::harness::front::Front;
use crate::harness::tls::Authority;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use serde_json::json;

const KINDS: [(&str, Kind); 2] = [("marimo", Kind::Marimo), ("streamlit", Kind::Streamlit)];

/// A setting of gateway and front end.
struct Site {
    stage: Stage,
    /// Scheme and public host, without the port.
    public: &'static str,
    /// Scheme and base domain.
    apps: (&'static str, &'static str),
    /// The site around the frames, as browsers name partitions.
    around: &'static str,
    /// What the session's cookie begins with.
    cookie: &'static str,
}

/// One app in one layout of a site.
struct Case<'a> {
    site: &'a Site,
    app: &'static str,
    kind: Kind,
    is_below_a_path: bool,
}

impl Case<'_> {
    /// Scheme and host of the app for browsers, without the port.
    fn proxy(&self) -> String {
        let (scheme, base) = self.site.apps;
        if self.is_below_a_path { self.site.public.to_owned() } else { format!("{scheme}://{}--acme.{base}", self.app) }
    }

    /// The app works, with a cookie that no other site gets; when its session has ended, the page around it starts
    /// another, and the app works again.
    async fn play(&self, browser: &Browser) -> Result<()> {
        let (stage, page) = (&self.site.stage, browser.page().await?);
        page.goto(&stage.page_of(self.app, stage.front.origin(), &self.proxy(), "own")).await?;
        let frame = page.frame().await?;
        self.kind.work(&frame).await?;
        ensure!(frame.eval(KEEPS_THIRD_PARTY_COOKIES).await? == false, "the browser blocks none");
        self.check_cookie(&page).await?;

        ensure!(page.eval("signOut()").await? == 204);
        let end = "1008 the session was ended";
        let closed = until(PATIENCE, async || Ok(frame.record().closes.iter().any(|how| how == end).then_some(())));
        closed.await?.with_context(|| format!("the WebSocket is open still:\n{}", frame.record()))?;
        ensure!(stage.cookies(&page).await?.is_empty(), "{:#?}", stage.cookies(&page).await?);
        // Without a session the frame gets a refusal, which tells the page around it.
        page.eval("renews = true").await?;
        page.eval("reload()").await?;
        frame.wait_for_text(self.kind.beginning(), PATIENCE).await?;
        self.kind.click(&frame).await?;
        self.check_cookie(&page).await
    }

    async fn check_cookie(&self, page: &Page) -> Result<()> {
        let cookie = self.site.stage.cookie(page).await?;
        let suffix = if self.is_below_a_path { format!("-{}", self.app) } else { String::new() };
        ensure!(cookie["name"] == format!("{}{suffix}", self.site.cookie), "{cookie:#}");
        check_partitioned(&cookie, self.site.around)
    }
}

/// Names below `localhost`, which browsers trust without TLS.
async fn plain(apps: &[(&str, std::net::SocketAddr)]) -> Result<Site> {
    let public = "http://gate.localhost";
    let setting = Setting { public, base_domain: "apps.localhost", apps, keys: "", authority: None };
    let stage = Stage::with(Front::start("front.localhost").await?, setting).await?;
    let apps = ("http", "apps.localhost");
    Ok(Site { stage, public, apps, around: "http://front.localhost", cookie: "embedgate" })
}

/// Names as on the internet, where front end and gateway are different sites and nothing is trusted without TLS.
async fn encrypted(apps: &[(&str, std::net::SocketAddr)]) -> Result<Site> {
    let authority = Authority::new()?;
    let front = Front::start_with_tls("app.front.test", &authority).await?;
    let public = "https://gate.test";
    let setting = Setting { public, base_domain: "apps.gate.test", apps, keys: "", authority: Some(authority) };
    let stage = Stage::with(front, setting).await?;
    let apps = ("https", "apps.gate.test");
    Ok(Site { stage, public, apps, around: "https://front.test", cookie: "__Host-embedgate" })
}

#[tokio::test]
async fn every_app_works_in_every_layout() -> Result<()> {
    let (marimo, streamlit) = tokio::try_join!(App::marimo_run(), App::streamlit())?;
    let apps = [("marimo", marimo.address()), ("streamlit", streamlit.address())];
    let (plain, encrypted) = tokio::try_join!(plain(&apps), encrypted(&apps))?;
    let browser = encrypted.stage.browser(&json!({})).await?;

    let played = [&plain, &encrypted].into_iter().flat_map(|site| {
        KINDS
            .into_iter()
            .flat_map(move |(app, kind)| [true, false].map(|is_below_a_path| Case { site, app, kind, is_below_a_path }))
    });
    let played = played.map(|case| async {
        let case = case;
        (case.play(&browser).await).with_context(|| format!("{} at {}", case.app, case.proxy()))
    });
    let failed: Vec<_> = join_all(played).await.into_iter().filter_map(Result::err).collect();
    ensure!(failed.is_empty(), "{} of 8 fail: {failed:#?}", failed.len());
    drop(browser);
    plain.stage.gateway.stop().await?;
    encrypted.stage.gateway.stop().await.map(drop)
}
