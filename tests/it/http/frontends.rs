//! Organisations with front ends of their own: those and nobody else's, least of all another organisation's.

use super::websocket::ASK;
use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::raw::{Message, Upstream};
use crate::harness::signer::{AUDIENCE, ISSUER, Signer, claims};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// The front end of `acme` alone, that of `beta` alone, and that of everybody else, which is `plain`.
const ACME: &str = "https://front.acme.example";
const BETA: &str = "https://front.beta.example";
const ALL: &str = "https://front.example";

/// Each organisation with the origin that is good there, and those that are not.
const CASES: [(&str, &str, [&str; 2]); 3] =
    [("acme", ACME, [BETA, ALL]), ("beta", BETA, [ACME, ALL]), ("plain", ALL, [ACME, BETA])];

struct Site {
    gateway: Gateway,
    signer: Signer,
    upstream: Upstream,
}

impl Site {
    async fn open() -> Result<Self> {
        let (signer, upstream) = (Signer::start().await?, Upstream::start()?);
        let org = |id: &str, own: &str| {
            let row = format!("id = \"{id}\"\n{own}\n");
            org(id, &[("editor", upstream.address())]).replacen(&format!("id = \"{id}\"\n"), &row, 1)
        };
        let own = |origin: &str| format!("frontend_origins = [\"{origin}\"]");
        let directory = org("acme", &own(ACME)) + &org("beta", &own(BETA)) + &org("plain", "");
        let builder = Builder::new(directory)
            .set("embedding.frontend_origins", &format!("[\"{ALL}\"]"))
            .set("embedding.cookieless", "true")
            .set("session.jwt.issuer", ISSUER)
            .set("session.jwt.audience", AUDIENCE)
            .set("session.jwt.jwks_url", &signer.url());
        Ok(Self { gateway: builder.start().await?, signer, upstream })
    }

    /// The answer of the gateway's own.
    async fn ask(&self, request: String) -> Result<Message> {
        let mut wire = self.gateway.connect().await?;
        wire.send(request).await?;
        let answer = wire.answer().await?;
        self.upstream.expect_untouched()?;
        Ok(answer)
    }

    /// The answer of the app, which says this of itself.
    async fn app(&self, request: String, says: &str) -> Result<(Message, Message)> {
        let mut wire = self.gateway.connect().await?;
        wire.send(request).await?;
        let mut app = self.upstream.accept().await?;
        let request = app.request().await?;
        app.send(format!("HTTP/1.1 200 OK\r\n{says}Content-Length: 0\r\n\r\n")).await?;
        drop(app);
        Ok((request, wire.answer().await?))
    }

    async fn start(&self, host: &str, origin: &str, org: &str) -> Result<Message> {
        self.start_with(host, origin, org, false).await
    }

    async fn start_with(&self, host: &str, origin: &str, org: &str, cookieless: bool) -> Result<Message> {
        let jwt = self.signer.token(&claims(self.gateway.clock.now()))?;
        let body = json!({ "jwt": jwt, "org": org, "app": "editor", "cookieless": cookieless }).to_string();
        let head = format!("Host: {host}\r\nOrigin: {origin}\r\nContent-Type: application/json\r\n");
        let length = body.len();
        self.ask(format!("POST /.embedgate/session HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}")).await
    }

    /// A cookie with a session of the organisation, as a browser sends it.
    fn cookie(&self, org: &str) -> Result<String> {
        Ok(format!("Cookie: embedgate={}\r\n", self.gateway.session(org)?))
    }
}

fn host(org: &str) -> String {
    format!("editor--{org}.apps.localhost")
}

fn reason(answer: &Message) -> String {
    let body: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
    body["reason"].as_str().unwrap_or_default().to_owned()
}

fn allowed(answer: &Message) -> Option<&str> {
    answer.field("Access-Control-Allow-Origin")
}

#[tokio::test]
async fn only_an_organisations_own_front_end_may_frame_its_apps() -> Result<()> {
    let site = Site::open().await?;
    for (org, good, _) in CASES {
        let (host, cookie) = (host(org), site.cookie(org)?);
        for (target, host) in [("/", host.as_str()), ("/app-proxy/editor/", "localhost")] {
            let get = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n");
            let says = "Content-Security-Policy: default-src x; frame-ancestors 'none'\r\nX-Frame-Options: DENY\r\n";
            let (_, answer) = site.app(get, says).await?;
            let policy = answer.field("Content-Security-Policy");
            ensure!(policy == Some(&*format!("default-src x; frame-ancestors 'self' {good}")), "{answer:?}");
            ensure!(!answer.has("X-Frame-Options"), "{answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_tells_the_organisations_own_front_end_and_nobody_else() -> Result<()> {
    let site = Site::open().await?;
    let framed = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n";
    for (org, good, bad) in CASES {
        let page = site.ask(format!("GET / HTTP/1.1\r\nHost: {}\r\n{framed}\r\n", host(org))).await?;
        let policy = page.field("Content-Security-Policy").context("no policy")?;
        ensure!(page.status() == 401 && policy.ends_with(&format!("frame-ancestors 'self' {good}")), "{page:?}");
        ensure!(page.text().contains(&format!("data-frontends=\"[&quot;{good}&quot;]\"")), "{page:?}");
        ensure!(!bad.iter().any(|bad| policy.contains(bad) || page.text().contains(bad)), "{page:?}");
    }
    // Where the host names no organisation, and no session does, the refusal is for those of the configuration.
    let page = site.ask(format!("GET /app-proxy/editor/ HTTP/1.1\r\nHost: localhost\r\n{framed}\r\n")).await?;
    let policy = page.field("Content-Security-Policy").context("no policy")?;
    ensure!(page.status() == 401 && policy.ends_with(&format!("frame-ancestors 'self' {ALL}")), "{page:?}");
    ensure!(!page.text().contains("acme") && !page.text().contains("beta"), "{page:?}");
    Ok(())
}

#[tokio::test]
async fn no_other_origin_gets_anything_with_an_organisations_cookie() -> Result<()> {
    let site = Site::open().await?;
    for (org, good, bad) in CASES {
        let cookie = site.cookie(org)?;
        for (target, host) in [("/x", host(org)), ("/app-proxy/editor/x", "localhost".to_owned())] {
            let head = |line: &str, origin: &str| {
                format!("{line} {target} HTTP/1.1\r\nHost: {host}\r\n{cookie}Origin: {origin}\r\n")
            };
            let post = format!("{}Content-Length: 0\r\n\r\n", head("POST", good));
            let (request, _) = site.app(post, "").await?;
            ensure!(request.field("Authorization") == Some(&*format!("Bearer {org}-bearer")), "{request:?}");
            ensure!(request.field("Origin") != Some(good), "the app sees its own: {request:?}");
            for bad in bad {
                let answer = site.ask(format!("{}Content-Length: 0\r\n\r\n", head("POST", bad))).await?;
                ensure!(answer.status() == 403 && reason(&answer) == "cross_site", "{bad} at {org}: {answer:?}");
                let answer = site.ask(format!("{}{ASK}\r\n", head("GET", bad))).await?;
                ensure!(answer.status() == 403 && allowed(&answer).is_none(), "{bad} at {org}: {answer:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn only_an_organisations_own_front_end_starts_its_sessions() -> Result<()> {
    let site = Site::open().await?;
    for (org, good, bad) in CASES {
        for host in [host(org), "localhost".to_owned()] {
            let answer = site.start(&host, good, org).await?;
            ensure!(answer.status() == 200 && allowed(&answer) == Some(good), "{answer:?}");
            for bad in bad {
                let answer = site.start(&host, bad, org).await?;
                ensure!(answer.status() == 403 && reason(&answer) == "origin", "{bad} at {org}: {answer:?}");
                ensure!(allowed(&answer).is_none() && !answer.has("Set-Cookie"), "{answer:?}");
            }
        }
    }
    // Whether there is such an organisation at all is told nobody who is not of it.
    let answer = site.start("localhost", BETA, "nowhere").await?;
    ensure!(reason(&answer) == "not_member", "{answer:?}");
    let answer = site.start("localhost", "https://evil.example", "acme").await?;
    ensure!(reason(&answer) == "origin" && allowed(&answer).is_none(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn preflights_are_answered_for_the_hosts_organisation() -> Result<()> {
    let site = Site::open().await?;
    let ask = async |path: &str, host: &str, origin: &str| {
        let fields = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
        site.ask(format!("OPTIONS {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await
    };
    for (org, good, bad) in CASES {
        for path in ["/api", "/.embedgate/session"] {
            ensure!(allowed(&ask(path, &host(org), good).await?) == Some(good), "{org} {path}");
            for bad in bad {
                ensure!(allowed(&ask(path, &host(org), bad).await?).is_none(), "{bad} at {org} {path}");
            }
        }
        // On the host of all, a preflight names no organisation; what follows does.
        for path in ["/app-proxy/editor/api", "/.embedgate/session"] {
            ensure!(allowed(&ask(path, "localhost", good).await?) == Some(good), "{org} {path}");
            ensure!(allowed(&ask(path, "localhost", "https://evil.example").await?).is_none(), "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_front_end_signs_out_of_its_own_organisation_alone() -> Result<()> {
    let site = Site::open().await?;
    let (acme, beta) = (site.gateway.session("acme")?, site.gateway.session("beta")?);
    let cookies = format!("Cookie: embedgate-a={acme}; embedgate-b={beta}; embedgate-c=dead\r\n");
    let delete = format!("DELETE /.embedgate/session HTTP/1.1\r\nHost: localhost\r\n{cookies}Origin: {ACME}\r\n\r\n");
    let answer = site.ask(delete).await?;
    let taken = answer.all("Set-Cookie");
    ensure!(answer.status() == 204 && allowed(&answer) == Some(ACME), "{answer:?}");
    ensure!(taken.len() == 2 && taken[0].starts_with("embedgate-a=;"), "{answer:?}");
    ensure!(taken[1].starts_with("embedgate-c=;"), "{answer:?}");
    let get = |org: &str, token: &str| {
        format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n", host(org))
    };
    ensure!(site.ask(get("acme", &acme)).await?.status() == 401, "acme's is over");
    site.app(get("beta", &beta), "").await?;
    let delete = format!(
        "DELETE /.embedgate/session HTTP/1.1\r\nHost: {}\r\n{}Origin: {ACME}\r\n\r\n",
        host("beta"),
        site.cookie("beta")?
    );
    let answer = site.ask(delete).await?;
    ensure!(answer.status() == 403 && allowed(&answer).is_none(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_address_with_a_session_is_for_its_organisations_front_end() -> Result<()> {
    let site = Site::open().await?;
    let answer = site.start_with("localhost", ACME, "acme", true).await?;
    let body: Value = serde_json::from_str(&answer.text())?;
    let path = body["path"].as_str().context("no path")?;
    let post = |origin: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n")
    };
    let (_, answer) = site.app(post(ACME), "").await?;
    let policy = answer.field("Content-Security-Policy");
    ensure!(policy == Some(&*format!("frame-ancestors 'self' {ACME}")), "{answer:?}");
    for bad in [BETA, ALL] {
        ensure!(site.ask(post(bad)).await?.status() == 403, "{bad}");
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_list_counts_at_once() -> Result<()> {
    let site = Site::open().await?;
    let post = |origin: &str| -> Result<String> {
        let cookie = site.cookie("acme")?;
        let host = host("acme");
        Ok(format!("POST / HTTP/1.1\r\nHost: {host}\r\n{cookie}Origin: {origin}\r\nContent-Length: 0\r\n\r\n"))
    };
    site.app(post(ACME)?, "").await?;
    site.gateway.publish(&org("acme", &[("editor", site.upstream.address())]))?;
    ensure!(site.ask(post(ACME)?).await?.status() == 403, "it has none of its own any more");
    site.app(post(ALL)?, "").await?;
    let preflight = format!("Origin: {BETA}\r\nAccess-Control-Request-Method: POST\r\n");
    let answer = site.ask(format!("OPTIONS /app-proxy/editor/ HTTP/1.1\r\nHost: localhost\r\n{preflight}\r\n")).await?;
    ensure!(allowed(&answer).is_none(), "beta is gone: {answer:?}");
    Ok(())
}
