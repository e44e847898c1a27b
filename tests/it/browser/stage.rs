//! A front end, a gateway and the apps behind it, with names that a browser knows them by.

use crate::harness::apps::{App, free_port};
use crate::harness::browser::{Browser, Page};
use crate::harness::front::{Front, USER};
use crate::harness::gateway::org;
use crate::harness::installation::{Installation, LOCAL, Serving};
use crate::harness::tls::Authority;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A front end, and `embedgate serve` before the apps of the organisation `acme`, of which the user is a member.
pub(super) struct Stage {
    pub(super) front: Front,
    pub(super) gateway: Serving,
    installation: Installation,
    /// Where the gateway is, by the names that it has for browsers.
    port: u16,
    /// Who has signed its certificate, where it has one.
    authority: Option<Authority>,
    /// What runs behind it and ends with it.
    _app: Option<App>,
}

/// How the gateway is set up.
pub(super) struct Setting<'a> {
    /// Scheme and host of its public URL.
    pub(super) public: &'a str,
    /// Below which its apps have hosts of their own.
    pub(super) base_domain: &'a str,
    /// The ids of the apps and where they are.
    pub(super) apps: &'a [(&'a str, SocketAddr)],
    /// More keys of the last app's in the directory.
    pub(super) keys: &'a str,
    /// Who signs its certificate; none for plain http.
    pub(super) authority: Option<Authority>,
}

impl Stage {
    /// The gateway on plain http at `localhost`, before the app `editor`.
    pub(super) async fn http(front: Front, app: App, keys: &str) -> Result<Self> {
        let apps = [("editor", app.address())];
        let setting =
            Setting { public: "http://localhost", base_domain: "apps.localhost", apps: &apps, keys, authority: None };
        Ok(Self { _app: Some(app), ..Self::with(front, setting).await? })
    }

    /// The gateway with TLS at `gate.localhost`, before the app `editor` at a host of its own.
    pub(super) async fn https(front: Front, app: App) -> Result<Self> {
        let apps = [("editor", app.address())];
        let setting = Setting {
            public: "https://gate.localhost",
            base_domain: "apps.localhost",
            apps: &apps,
            keys: "",
            authority: Some(Authority::new()?),
        };
        Ok(Self { _app: Some(app), ..Self::with(front, setting).await? })
    }

    /// The gateway in any setting.
    pub(super) async fn with(front: Front, setting: Setting<'_>) -> Result<Self> {
        let Setting { public, base_domain, apps, keys, authority } = setting;
        let port = free_port()?;
        let directory = org("acme", apps) + keys;
        let members = format!("members = [\"{USER}\"]\n[[org.workspace]]");
        let tls = match &authority {
            Some(authority) => certificate(authority, public, base_domain)?,
            None => String::new(),
        };
        let config = format!("{LOCAL}{}[routing]\nbase_domain = \"{base_domain}\"\n{tls}", front.config());
        let mut installation = Installation::new(&config, &directory.replacen("[[org.workspace]]", &members, 1))?;
        installation.set("EMBEDGATE__SERVER__LISTEN", &format!("127.0.0.1:{port}"));
        installation.set("EMBEDGATE__SERVER__PUBLIC_URL", &format!("{public}:{port}"));
        installation.set("EMBEDGATE__EMBEDDING__COOKIELESS", "true");
        let gateway = installation.serve().await?;
        Ok(Self { front, gateway, installation, port, authority, _app: None })
    }

    /// A browser that trusts whoever has signed the gateway's certificate.
    pub(super) async fn browser(&self, preferences: &Value) -> Result<Browser> {
        let trusted = self.authority.as_ref().map(Authority::browser_argument).transpose()?;
        Browser::launch_with(trusted.as_slice(), preferences).await
    }

    /// The page at `front` that embeds the app `editor`, by FireFly's way of starting below the public host, or by the
    /// gateway's own at the host of the app.
    pub(super) fn page_at(&self, front: &str, proxy: &str, form: &str) -> String {
        self.page_of("editor", front, proxy, form)
    }

    /// The same for any app.
    pub(super) fn page_of(&self, app: &str, front: &str, proxy: &str, form: &str) -> String {
        format!("{front}/?proxy={proxy}:{}&app={app}&org=acme&form={form}", self.port)
    }

    /// The only session cookie of the person at a page.
    pub(super) async fn cookie(&self, page: &Page) -> Result<Value> {
        let mut cookies = self.cookies(page).await?;
        ensure!(cookies.len() == 1, "{cookies:#?}");
        cookies.pop().context("none")
    }

    /// All session cookies of the person at a page.
    pub(super) async fn cookies(&self, page: &Page) -> Result<Vec<Value>> {
        let mut cookies = page.cookies().await?;
        cookies.retain(|cookie| cookie["name"].as_str().is_some_and(|name| name.contains("embedgate")));
        Ok(cookies)
    }

    /// Ends the sessions of the user as an operator does.
    pub(super) async fn revoke(&self) -> Result<()> {
        let ended = self.installation.run(&["session", "revoke", "--config", "embedgate.toml", "--user", USER]).await?;
        ensure!(ended.code == Some(0), "{ended:?}");
        Ok(())
    }

    /// The browser goes first: what the gateway does with open streams when it stops is for other tests.
    pub(super) async fn end(self, browser: Browser) -> Result<()> {
        drop(browser);
        self.gateway.stop().await.map(drop)
    }
}

/// The section of the configuration with a certificate for the public host and those of the apps.
fn certificate(authority: &Authority, public: &str, base_domain: &str) -> Result<String> {
    let (_, host) = public.split_once("://").context("a URL without a scheme")?;
    authority.issue("gate", &format!("DNS:{host},DNS:*.{base_domain}"), 2)?;
    authority.chain("gate")?;
    let (cert, key) = (authority.toml("gate.chain.crt"), authority.toml("gate.key"));
    Ok(format!("[server.tls]\ncert = {cert}\nkey = {key}\n"))
}

/// Whether a cookie without a partition that a frame sets is there afterwards.
pub(super) const KEEPS_THIRD_PARTY_COOKIES: &str =
    "(document.cookie = 'probe=1; Secure; SameSite=None', document.cookie.includes('probe=1'))";

/// Checks that a session's cookie has what it needs in a frame of another site, and is for frames on `site` alone.
pub(super) fn check_partitioned(cookie: &Value, site: &str) -> Result<()> {
    for (name, value) in
        [("secure", json!(true)), ("httpOnly", json!(true)), ("sameSite", json!("None")), ("path", json!("/"))]
    {
        ensure!(cookie[name] == value, "{name}: {cookie:#}");
    }
    ensure!(cookie["partitionKey"]["topLevelSite"] == site, "{cookie:#}");
    Ok(())
}
