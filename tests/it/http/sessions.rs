//! Who may come in, and with what.

use super::{HOST, Site};
use crate::harness::gateway::{BASE_DOMAIN, Builder, Gateway, org};
use crate::harness::raw::{Message, Upstream, ok};
use anyhow::{Context as _, Result, ensure};

/// A refusal without what names the request: its status and its body.
fn face(answer: &Message) -> Result<(u16, String)> {
    let id = answer.field("X-Request-Id").context("a refusal without X-Request-Id")?;
    Ok((answer.status(), answer.text().replace(id, "ID")))
}

/// A request for acme's app with these fields.
fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")
}

#[tokio::test]
async fn a_session_travels_as_cookie_or_bearer() -> Result<()> {
    let site = Site::open().await?;
    let token = &site.token;
    for fields in [
        format!("Authorization: Bearer {token}\r\n"),
        format!("authorization: bEaReR {token}\r\n"),
        format!("Cookie: embedgate={token}\r\n"),
        format!("Cookie: a=1; embedgate={token}; b=2\r\n"),
        format!("Cookie: a=1\r\nCookie: embedgate={token}\r\n"),
        format!("Cookie: embedgate=\"{token}\"\r\n"),
        format!("Cookie: embedgate={token}; embedgate={token}\r\n"),
        format!("Cookie: embedgate=stale; embedgate={token}\r\n"),
        format!("Cookie: embedgate={token}\r\nAuthorization: Bearer for-the-app\r\n"),
    ] {
        let (_, answer) = site.exchange(with(&fields), ok("in")).await.context(fields)?;
        ensure!(answer.text() == "in");
    }
    Ok(())
}

#[tokio::test]
async fn every_session_that_is_none_is_refused_with_the_same_words() -> Result<()> {
    let site = Site::open().await?;
    let other = Builder::new("").variable("TEST_SESSION_KEY", &"77".repeat(32)).start().await?;
    let forged = other.session("acme")?;
    let short = site.gateway.token("acme", "ann", "ann@acme.example", None, 60)?;
    let gone = site.gateway.session("nobody")?;
    let (token, last) = (&site.token, site.token.len() - 1);
    let swapped = if token.ends_with('A') { "Q" } else { "A" };
    let changed = format!("{}{swapped}", &token[..last]);
    let missing = site.refused(with("")).await?;
    ensure!(missing.status() == 401, "{missing:?}");
    site.gateway.clock.turn(61);
    for (name, token) in [
        ("expired", &*short),
        ("forged", &forged),
        ("organisation that is not there", &gone),
        ("changed", &changed),
        ("cut", &token[..last]),
        ("another key id", &token.replace("test", "tset")),
        ("another version", &token.replace("~1.", "~2.")),
        ("nonsense", "~1.test.AAAA"),
        ("empty", ""),
        ("long", &"A".repeat(5000)),
    ] {
        for fields in [format!("Cookie: embedgate={token}\r\n"), format!("Authorization: Bearer {token}\r\n")] {
            let answer = site.refused(with(&fields)).await?;
            ensure!(face(&answer)? == face(&missing)?, "{name}: {answer:?}");
        }
    }
    // The session that did not change is still good, so it was not for the clock or the key that the others were not.
    site.exchange(site.get("/"), ok("")).await.map(drop)
}

#[tokio::test]
async fn two_different_sessions_in_one_request_are_refused() -> Result<()> {
    let site = Site::open().await?;
    let (one, other) = (&site.token, site.gateway.session("acme")?);
    for fields in [
        format!("Cookie: embedgate={one}; embedgate={other}\r\n"),
        format!("Cookie: embedgate={one}\r\nCookie: embedgate={other}\r\n"),
    ] {
        ensure!(site.refused(with(&fields)).await?.status() == 401, "{fields}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cookie_for_https_does_not_count_on_http_and_the_other_way_round() -> Result<()> {
    for (public_url, good, bad) in
        [("http://localhost", "embedgate", "__Host-embedgate"), ("https://localhost", "__Host-embedgate", "embedgate")]
    {
        let site = Site::with(&[("server.public_url", public_url)]).await?;
        let answer = site.refused(with(&format!("Cookie: {bad}={}\r\n", site.token))).await?;
        ensure!(answer.status() == 401, "{public_url}: {answer:?}");
        site.exchange(with(&format!("Cookie: {good}={}\r\n", site.token)), ok("")).await?;
    }
    Ok(())
}

/// Opens a session link on a host.
pub(super) async fn open_link(gateway: &Gateway, host: &str, query: &str) -> Result<Message> {
    let mut client = gateway.connect().await?;
    client.send(format!("GET /.embedgate/session?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await?;
    client.answer().await
}

#[tokio::test]
async fn a_link_sets_the_cookie_and_leads_to_a_clean_address() -> Result<()> {
    for (public_url, name, attributes) in [
        ("http://localhost", "embedgate", &["Path=/", "HttpOnly", "SameSite=Lax"][..]),
        (
            "https://localhost",
            "__Host-embedgate",
            &["Path=/", "HttpOnly", "Secure", "SameSite=None", "Partitioned"][..],
        ),
    ] {
        let site = Site::with(&[("server.public_url", public_url)]).await?;
        let answer = open_link(&site.gateway, HOST, &format!("token={}&next=/a%3Fb=c", site.token)).await?;
        ensure!(answer.status() == 303 && answer.field("Location") == Some("/a?b=c"), "{answer:?}");
        ensure!(answer.field("Referrer-Policy") == Some("no-referrer"), "{answer:?}");
        ensure!(answer.field("Cache-Control") == Some("no-store"), "{answer:?}");
        let cookie = answer.field("Set-Cookie").context("no cookie")?;
        let mut parts = cookie.split("; ");
        let pair = parts.next().context("an empty cookie")?;
        ensure!(pair.starts_with(&format!("{name}=~1.")), "{cookie}");
        let (ages, mut rest): (Vec<_>, Vec<_>) = parts.partition(|part| part.starts_with("Max-Age="));
        rest.sort_unstable();
        let mut expected = attributes.to_vec();
        expected.sort_unstable();
        ensure!(rest == expected && ages.len() == 1, "{cookie}");
        site.upstream.expect_untouched()?;
        site.exchange(with(&format!("Cookie: {pair}\r\n")), ok("")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_cookie_ends_with_its_session() -> Result<()> {
    let site = Site::with(&[("session.idle_timeout", "3h")]).await?;
    let token = site.gateway.token("acme", "ann", "ann@acme.example", None, 10_000)?;
    site.gateway.clock.turn(4_000);
    let answer = open_link(&site.gateway, HOST, &format!("token={token}")).await?;
    let cookie = answer.field("Set-Cookie").context("no cookie")?;
    let age = cookie.split("; ").find_map(|part| part.strip_prefix("Max-Age=")).context("no Max-Age")?;
    let age: u64 = age.parse()?;
    ensure!((5_000..=6_000).contains(&age), "{cookie}");
    Ok(())
}

#[tokio::test]
async fn a_link_leads_nowhere_else() -> Result<()> {
    let site = Site::open().await?;
    for next in [
        "https://evil.example/",
        "//evil.example/",
        "/%5Cevil.example/",
        "%2F%2Fevil.example",
        "%5C/evil.example",
        "evil",
        "",
        "/a%0d%0aSet-Cookie:x=y",
        "/%09/evil.example",
        "javascript:alert(1)",
    ] {
        let answer = open_link(&site.gateway, HOST, &format!("token={}&next={next}", site.token)).await?;
        ensure!(answer.status() == 400 && !answer.has("Set-Cookie") && !answer.has("Location"), "{next}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_link_without_a_good_session_sets_nothing() -> Result<()> {
    let site = Site::open().await?;
    let missing = open_link(&site.gateway, HOST, "next=/").await?;
    ensure!(missing.status() == 401, "{missing:?}");
    for query in ["token=&next=/", "token=~1.test.AAAA&next=/", "next=/&Token=x"] {
        let answer = open_link(&site.gateway, HOST, query).await?;
        ensure!(face(&answer)? == face(&missing)? && !answer.has("Set-Cookie"), "{query}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_link_counts_only_where_its_session_belongs() -> Result<()> {
    let site = Site::open().await?;
    let other = site.gateway.token("acme", "ann", "ann@acme.example", Some("viz"), 60)?;
    for (host, token, status) in [
        ("editor--umbra.apps.localhost", &site.token, 404),
        ("other.example", &site.token, 404),
        (HOST, &other, 403),
        ("viz--acme.apps.localhost", &other, 303),
        ("localhost", &site.token, 303),
    ] {
        let answer = open_link(&site.gateway, host, &format!("token={token}")).await?;
        ensure!(answer.status() == status && answer.has("Set-Cookie") == (status == 303), "{host}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn apps_that_share_a_host_have_a_cookie_each() -> Result<()> {
    let site = Site::open().await?;
    let token = site.gateway.token("acme", "ann", "ann@acme.example", Some("editor"), 60)?;
    let answer = open_link(&site.gateway, "localhost", &format!("token={token}")).await?;
    ensure!(answer.field("Location") == Some("/app-proxy/editor/"), "{answer:?}");
    let cookie = answer.field("Set-Cookie").context("no cookie")?;
    let pair = cookie.split(';').next().context("an empty cookie")?;
    ensure!(pair.starts_with("embedgate-editor="), "{cookie}");
    // Another app's cookie beside it does no harm.
    let fields = format!("Cookie: {pair}; embedgate-viz=x\r\n");
    let head = format!("GET /app-proxy/editor/ HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    site.exchange(head, ok("")).await.map(drop)
}

#[tokio::test]
async fn a_page_cannot_open_a_link_behind_the_users_back() -> Result<()> {
    let site = Site::open().await?;
    for (mode, dest, status) in [
        ("navigate", "document", 303),
        ("navigate", "iframe", 303),
        ("no-cors", "image", 403),
        ("cors", "empty", 403),
        ("navigate", "object", 403),
    ] {
        let head = format!(
            "GET /.embedgate/session?token={} HTTP/1.1\r\nHost: {HOST}\r\nSec-Fetch-Mode: {mode}\r\n\
             Sec-Fetch-Dest: {dest}\r\nSec-Fetch-Site: cross-site\r\n\r\n",
            site.token
        );
        let answer = site.refused(head).await?;
        ensure!(answer.status() == status && answer.has("Set-Cookie") == (status == 303), "{mode} {dest}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn ending_a_session_takes_every_cookie_of_the_host_back() -> Result<()> {
    let site = Site::open().await?;
    let head = |fields: &str| format!("DELETE /.embedgate/session HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
    let cookies = format!("Cookie: a=1; embedgate={}; embedgate-viz=x\r\n", site.token);
    let answer = site.refused(head(&format!("{cookies}Origin: http://{HOST}\r\n"))).await?;
    ensure!(answer.status() == 204, "{answer:?}");
    let taken = answer.all("Set-Cookie");
    ensure!(taken.len() == 2 && taken.iter().all(|cookie| cookie.contains("=; ") && cookie.contains("Max-Age=0")));
    ensure!(taken[0].starts_with("embedgate=;") && taken[1].starts_with("embedgate-viz=;"), "{taken:?}");
    let answer = site.refused(head(&format!("{cookies}Origin: https://evil.example\r\n"))).await?;
    ensure!(answer.status() == 403 && !answer.has("Set-Cookie"), "another site ends sessions: {answer:?}");
    Ok(())
}

/// Requests with acme's cookie that a page made: what it is, the request line, the fields, and whether it may.
const PAGES: &[(&str, &str, &str, bool)] = &[
    ("own page", "POST /", "Origin: http://editor--acme.apps.localhost\r\n", true),
    ("front end", "POST /", "Origin: https://front.example\r\n", true),
    ("own page without Origin", "POST /", "Sec-Fetch-Site: same-origin\r\n", true),
    ("typed address", "GET /", "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n", true),
    (
        "frame in another site",
        "GET /",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
        true,
    ),
    ("no browser", "GET /", "", true),
    ("another site's form", "POST /", "Origin: https://evil.example\r\n", false),
    ("another app's form", "POST /", "Origin: http://viz--acme.apps.localhost\r\n", false),
    ("another tenant's form", "POST /", "Origin: http://editor--umbra.apps.localhost\r\n", false),
    ("another port", "POST /", "Origin: http://editor--acme.apps.localhost:8080\r\n", false),
    ("another scheme", "POST /", "Origin: https://editor--acme.apps.localhost\r\n", false),
    ("a name that ends alike", "POST /", "Origin: http://evileditor--acme.apps.localhost\r\n", false),
    ("a name that begins alike", "POST /", "Origin: http://editor--acme.apps.localhost.evil.example\r\n", false),
    ("a page that hides", "POST /", "Origin: null\r\n", false),
    ("empty Origin", "POST /", "Origin:\r\n", false),
    ("another site's fetch", "GET /", "Origin: https://evil.example\r\n", false),
    ("another site's image", "GET /", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", false),
    ("a sibling's script", "GET /", "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n", false),
    ("another site's form, no Origin", "POST /", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", false),
    ("unknown, changing", "POST /", "", false),
    ("unknown, deleting", "DELETE /", "", false),
    ("unknown, odd method", "PROPFIND /", "", false),
    (
        "socket of another site",
        "GET /",
        "Origin: https://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        false,
    ),
    (
        "socket of another app",
        "GET /",
        "Origin: http://viz--acme.apps.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        false,
    ),
    ("socket without Origin", "GET /", "Connection: Upgrade\r\nUpgrade: websocket\r\n", false),
];

#[tokio::test]
async fn another_site_cannot_ask_in_the_users_name() -> Result<()> {
    let site = Site::with(&[("embedding.frontend_origins", "['https://front.example']")]).await?;
    for (name, line, fields, may) in PAGES {
        let head = format!("{line} HTTP/1.1\r\nHost: {HOST}\r\nCookie: embedgate={}\r\n{fields}\r\n", site.token);
        if *may {
            let (_, answer) = site.exchange(head, ok("")).await.context(*name)?;
            ensure!(answer.status() == 200, "{name}: {answer:?}");
        } else {
            let answer = site.refused(head).await.context(*name)?;
            ensure!(
                answer.status() == 403 && answer.text().contains("Not allowed from another site"),
                "{name}: {answer:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_program_with_a_bearer_needs_no_origin() -> Result<()> {
    let site = Site::open().await?;
    for fields in ["", "Origin: https://elsewhere.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        let (_, answer) = site.exchange(site.head("POST /", fields), ok("")).await?;
        ensure!(answer.status() == 200, "{fields}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_for_one_app_opens_no_other() -> Result<()> {
    let (editor, viz) = (Upstream::start()?, Upstream::start()?);
    let directory = org("acme", &[("editor", editor.address()), ("viz", viz.address())]);
    let gateway = Builder::new(directory).start().await?;
    let token = gateway.token("acme", "ann", "ann@acme.example", Some("editor"), 60)?;
    for (host, path, status) in [
        ("viz--acme.apps.localhost", "/", 403),
        ("localhost", "/app-proxy/viz/", 403),
        ("localhost", "/sql/1.0/warehouses/wh1", 403),
        ("localhost", "/api/2.0/sql/statements", 403),
        ("other--acme.apps.localhost", "/", 404),
    ] {
        let mut client = gateway.connect().await?;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
        let answer = client.answer().await?;
        ensure!(answer.status() == status, "{host}{path}: {answer:?}");
    }
    editor.expect_untouched()?;
    viz.expect_untouched()
}

#[tokio::test]
async fn what_belongs_to_another_organisation_looks_like_nothing() -> Result<()> {
    let (acme, umbra) = (Upstream::start()?, Upstream::start()?);
    let directory = org("acme", &[("editor", acme.address())]) + &org("umbra", &[("secret", umbra.address())]);
    let gateway = Builder::new(directory).start().await?;
    let token = gateway.session("acme")?;
    let ask = async |host: &str, path: &str| {
        let mut client = gateway.connect().await?;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
        face(&client.answer().await?)
    };
    let host = |label: &str| format!("{label}.{BASE_DOMAIN}");
    let nothing = ask(&host("nothing--nowhere"), "/").await?;
    ensure!(nothing.0 == 404, "{nothing:?}");
    for (host, path) in [
        (host("secret--umbra"), "/"),
        (host("editor--umbra"), "/"),
        (host("secret--acme"), "/"),
        ("localhost".to_owned(), "/app-proxy/secret/"),
        ("localhost".to_owned(), "/app-proxy/nothing/"),
    ] {
        let answer = ask(&host, path).await?;
        ensure!(answer == nothing, "{host}{path}: {answer:?}");
    }
    acme.expect_untouched()?;
    umbra.expect_untouched()
}
