//! Sessions of browsers: they end when nobody uses them, requests renew them, and nothing makes them longer than they were
//! to be.

use super::sessions::open_link;
use super::websocket::{AGREE, ASK};
use super::{HOST, Site};
use crate::harness::gateway::outlast;
use crate::harness::raw::{Message, ok};
use anyhow::{Context as _, Result, ensure};
use embedgate::session::Session;
use std::time::Duration;

/// `session.idle_timeout` where a test sets none.
const IDLE: u64 = 30 * 60;

/// A session for 24 hours that ends in `idle` seconds unless it is renewed.
fn session(site: &Site, idle: u64) -> Result<Session> {
    let token = site.gateway.token("acme", "ann", "ann@acme.example", None, 24 * 3600)?;
    let mut session = site.gateway.unseal(&token)?;
    session.idle = Some(site.gateway.clock.now() + idle);
    Ok(session)
}

/// A token of a session whose next request renews it.
fn due(site: &Site) -> Result<String> {
    site.gateway.seal(&session(site, IDLE / 2)?)
}

fn with_cookie(cookie: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n")
}

/// A cookie of the gateway's in an answer.
#[derive(Debug)]
pub(super) struct Cookie {
    name: String,
    pub(super) token: String,
    max_age: u64,
    attributes: Vec<String>,
}

impl Cookie {
    /// The only one, when there is one.
    pub(super) fn of(answer: &Message) -> Result<Option<Self>> {
        let all = answer.all("Set-Cookie");
        ensure!(all.len() <= 1, "{answer:?}");
        all.first().map(|value| Self::parse(value)).transpose()
    }

    fn expected(answer: &Message) -> Result<Self> {
        Self::of(answer)?.with_context(|| format!("no cookie: {answer:?}"))
    }

    fn parse(value: &str) -> Result<Self> {
        let mut parts = value.split("; ");
        let (name, token) = parts.next().and_then(|pair| pair.split_once('=')).context("no name")?;
        let mut attributes: Vec<_> = parts.map(str::to_owned).collect();
        let age = attributes.iter().position(|part| part.starts_with("Max-Age=")).context("no Max-Age")?;
        let max_age = attributes.remove(age)["Max-Age=".len()..].parse()?;
        Ok(Self { name: name.to_owned(), token: token.to_owned(), max_age, attributes })
    }

    /// As a browser sends it.
    pub(super) fn sent(&self) -> String {
        format!("{}={}", self.name, self.token)
    }
}

/// Starts a session with a link.
async fn start(site: &Site, token: &str) -> Result<Cookie> {
    Cookie::expected(&open_link(&site.gateway, HOST, &format!("token={token}")).await?)
}

/// Asks the app with a cookie, and gives the cookie of its answer.
async fn ask(site: &Site, cookie: &str) -> Result<Option<Cookie>> {
    let (_, answer) = site.exchange(with_cookie(cookie), ok("in")).await?;
    ensure!(answer.status() == 200 && answer.text() == "in", "{answer:?}");
    Cookie::of(&answer)
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends() -> Result<()> {
    let site = Site::open().await?;
    let cookie = start(&site, &site.token).await?;
    ensure!(cookie.max_age == IDLE, "{cookie:?}");
    let (begun, held) = (site.gateway.unseal(&site.token)?, site.gateway.unseal(&cookie.token)?);
    ensure!(held.merge(begun.clone()) == Some(begun), "the cookie holds another session");
    site.gateway.clock.turn(IDLE.cast_signed() - 60);
    ask(&site, &cookie.sent()).await?;
    site.gateway.clock.turn(60);
    ensure!(site.refused(with_cookie(&cookie.sent())).await?.status() == 401);
    site.gateway.log_line(|line| line.contains("\"cause\":\"idle for too long\"")).await?;
    // Neither does a link begin it again; the token of a program has no such end.
    let link = open_link(&site.gateway, HOST, &format!("token={}", cookie.token)).await?;
    ensure!(link.status() == 401 && !link.has("Set-Cookie"), "{link:?}");
    site.exchange(site.get("/"), ok("")).await.map(drop)
}

#[tokio::test]
async fn use_keeps_a_session_until_its_end_and_no_longer() -> Result<()> {
    let site = Site::open().await?;
    let token = site.gateway.token("acme", "ann", "ann@acme.example", None, 10_000)?;
    let begun = site.gateway.unseal(&token)?;
    let mut cookie = start(&site, &token).await?;
    for _ in 0..9 {
        site.gateway.clock.turn(1_000);
        cookie = ask(&site, &cookie.sent()).await?.context("no renewal")?;
        let (session, now) = (site.gateway.unseal(&cookie.token)?, site.gateway.clock.now());
        ensure!(session.end() <= begun.expires && session.end() > now + 500, "{session:?} at {now}");
        ensure!(session.end().abs_diff(now + cookie.max_age) < 60, "{cookie:?} and {session:?} at {now}");
        ensure!(session.merge(begun.clone()) == Some(begun.clone()), "another session");
    }
    let session = site.gateway.unseal(&cookie.token)?;
    ensure!(session.end() == begun.expires, "{session:?}");
    site.gateway.clock.turn(500);
    ensure!(ask(&site, &cookie.sent()).await?.is_none(), "a renewal past the end");
    site.gateway.clock.turn(500);
    ensure!(site.refused(with_cookie(&cookie.sent())).await?.status() == 401);
    site.gateway.log_line(|line| line.contains("\"cause\":\"expired\"")).await.map(drop)
}

#[tokio::test]
async fn a_session_is_renewed_once_an_interval() -> Result<()> {
    let site = Site::open().await?;
    let token = site.gateway.token("acme", "ann", "ann@acme.example", None, 24 * 3600)?;
    let mut cookie = start(&site, &token).await?;
    for _ in 0..3 {
        ensure!(ask(&site, &cookie.sent()).await?.is_none(), "a renewal of what is new");
        site.gateway.clock.turn(200);
        ensure!(ask(&site, &cookie.sent()).await?.is_none(), "a renewal before its time");
        site.gateway.clock.turn(100);
        cookie = ask(&site, &cookie.sent()).await?.context("no renewal in time")?;
        ensure!(cookie.max_age == IDLE, "{cookie:?}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_that_may_be_kept_bring_no_cookie() -> Result<()> {
    let site = Site::open().await?;
    let cookie = format!("embedgate={}", due(&site)?);
    for head in [
        "200 OK\r\nCache-Control: public, no-cache",
        "200 OK\r\nCache-Control: max-age=60",
        "200 OK\r\nCache-Control: private, MAX-AGE=60",
        "200 OK\r\nCache-Control: no-cache\r\nCache-Control: s-maxage=1",
        "200 OK\r\nCache-Control: immutable",
        "200 OK\r\nExpires: Fri, 31 Dec 2100 23:59:59 GMT",
        "200 OK\r\nCache-Control: no-cache\r\nAge: 3",
        "200 OK\r\nCache-Control: private\r\nCDN-Cache-Control: max-age=60",
        "304 Not Modified\r\nETag: x",
    ] {
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
        let (_, answer) = site.exchange(with_cookie(&cookie), &answer).await?;
        ensure!(!answer.has("Set-Cookie"), "{head}: {answer:?}");
        let caching: Vec<_> = head.split("\r\n").filter_map(|line| line.strip_prefix("Cache-Control: ")).collect();
        ensure!(answer.all("Cache-Control") == caching, "{head}: {answer:?}");
    }
    ensure!(ask(&site, &cookie).await?.is_some(), "the next answer does not renew");
    Ok(())
}

#[tokio::test]
async fn an_answer_with_a_renewed_cookie_is_private() -> Result<()> {
    let site = Site::open().await?;
    let cookie = format!("embedgate={}", due(&site)?);
    for (head, caching) in [
        ("200 OK\r\nContent-Length: 0", &["private"][..]),
        ("301 Moved Permanently\r\nLocation: /\r\nContent-Length: 0", &["private"]),
        ("500 Oh\r\nContent-Length: 0", &["private"]),
        ("200 OK\r\nCache-Control: no-cache\r\nExpires: 0\r\nContent-Length: 0", &["no-cache", "private"]),
        ("200 OK\r\nCache-Control: no-store\r\nContent-Length: 0", &["no-store"]),
        ("200 OK\r\nCache-Control: private, no-cache\r\nContent-Length: 0", &["private, no-cache"]),
    ] {
        let (_, answer) = site.exchange(with_cookie(&cookie), format!("HTTP/1.1 {head}\r\n\r\n")).await?;
        ensure!(Cookie::of(&answer)?.is_some() && answer.all("Cache-Control") == caching, "{head}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_renewed_cookie_is_the_cookie_that_came() -> Result<()> {
    let secure = ["Path=/", "HttpOnly", "Secure", "SameSite=None", "Partitioned"];
    for (scheme, name, attributes) in [
        ("http", "embedgate", &["Path=/", "HttpOnly", "SameSite=Lax"][..]),
        ("http", "embedgate-editor", &["Path=/", "HttpOnly", "SameSite=Lax"]),
        ("https", "__Host-embedgate", &secure),
        ("https", "__Host-embedgate-editor", &secure),
    ] {
        let site = Site::with(&[("server.public_url", &format!("{scheme}://localhost"))]).await?;
        let session = session(&site, IDLE / 2)?;
        let fields = format!("Cookie: {name}={}; {name}-viz=x\r\n", site.gateway.seal(&session)?);
        let head = format!("GET /app-proxy/editor/ HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let (_, answer) = site.exchange(head, ok("")).await?;
        let cookie = Cookie::expected(&answer)?;
        ensure!(cookie.name == name && cookie.attributes == attributes, "{name}: {cookie:?}");
        ensure!(site.gateway.unseal(&cookie.token)?.id == session.id, "{name}: another session");
    }
    Ok(())
}

#[tokio::test]
async fn an_apps_own_cookies_stay_beside_a_renewed_one() -> Result<()> {
    let site = Site::open().await?;
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: embedgate=x\r\nContent-Length: 0\r\n\r\n";
    let (_, answer) = site.exchange(with_cookie(&format!("embedgate={}", due(&site)?)), answer).await?;
    let all = answer.all("Set-Cookie");
    ensure!(all.len() == 2 && all[0] == "a=1" && all[1].starts_with("embedgate=~1."), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn only_cookies_with_an_idle_end_are_renewed() -> Result<()> {
    let site = Site::open().await?;
    let due = due(&site)?;
    site.gateway.clock.turn(600);
    for fields in [
        format!("Authorization: Bearer {due}\r\n"),
        // The bearer counts, so it is not the cookie that was used.
        format!("Authorization: Bearer {}\r\nCookie: embedgate={due}\r\n", site.token),
        format!("Cookie: embedgate={}\r\n", site.token),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
        let (_, answer) = site.exchange(head, ok("")).await?;
        ensure!(!answer.has("Set-Cookie") && !answer.has("Cache-Control"), "{fields}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_request_renews_nothing() -> Result<()> {
    let site = Site::open().await?;
    let cookie = format!("Cookie: embedgate={}\r\n", due(&site)?);
    for (host, fields, status) in [
        (HOST, "Origin: https://evil.example\r\n", 403),
        (HOST, "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", 403),
        ("nothing--acme.apps.localhost", "", 404),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{cookie}{fields}\r\n");
        let answer = site.refused(head).await?;
        ensure!(answer.status() == status && !answer.has("Set-Cookie"), "{host} {fields}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn two_tokens_of_one_session_are_one_session() -> Result<()> {
    let site = Site::open().await?;
    let mut session = session(&site, 60)?;
    let before = site.gateway.seal(&session)?;
    session.idle = Some(site.gateway.clock.now() + IDLE);
    let after = site.gateway.seal(&session)?;
    for cookies in [format!("embedgate={before}; embedgate={after}"), format!("embedgate={after}; embedgate={before}")]
    {
        ensure!(ask(&site, &cookies).await?.is_none(), "renewed although the later token is new: {cookies}");
    }
    // Once the first has ended the second goes on.
    site.gateway.clock.turn(600);
    let renewed = ask(&site, &format!("embedgate={before}; embedgate={after}")).await?.context("no renewal")?;
    ensure!(site.gateway.unseal(&renewed.token)?.id == session.id);
    Ok(())
}

#[tokio::test]
async fn a_websocket_renews_when_it_opens_and_outlives_the_idle_end() -> Result<()> {
    let site = Site::open().await?;
    let idle = Duration::from_secs(3);
    let session = session(&site, idle.as_secs())?;
    let cookie = format!("Cookie: embedgate={}\r\nOrigin: http://{HOST}\r\n", site.gateway.seal(&session)?);
    let mut client = site.gateway.connect().await?;
    client.send(format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\n{ASK}{cookie}\r\n")).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send(AGREE).await?;
    let agreed = client.head().await?;
    ensure!(agreed.status() == 101, "{agreed:?}");
    let renewed = Cookie::expected(&agreed)?;
    ensure!(renewed.max_age == IDLE && site.gateway.unseal(&renewed.token)?.id == session.id, "{renewed:?}");
    outlast(idle).await;
    client.expect_silence()?;
    client.send(b"up").await?;
    ensure!(app.exactly(2).await? == b"up");
    app.send(b"down").await?;
    ensure!(client.exactly(4).await? == b"down");
    Ok(())
}
