//! Heads on their way: nobody but the gateway says who asks, the session stays behind, everything else passes untouched.

use super::{HOST, Site};
use crate::harness::gateway::{Builder, org, org_with};
use crate::harness::raw::{Message, Upstream, ok};
use anyhow::{Context as _, Result, ensure};

/// The names under which an app could look for who asks, and what the gateway itself says there, if anything.
const IDENTITY: &[(&str, Option<&str>)] = &[
    ("X-Forwarded-User", Some("ann")),
    ("X-Forwarded-Email", Some("ann@acme.example")),
    ("X-Embedgate-Org", Some("acme")),
    ("X-Forwarded-For", Some("127.0.0.1")),
    ("X-Forwarded-Proto", Some("http")),
    ("X-Forwarded-Host", None),
    ("X-Forwarded-Preferred-Username", None),
    ("X-Forwarded-Access-Token", None),
    ("X-Forwarded-Groups", None),
    ("X-Forwarded-Prefix", None),
    ("X-Forwarded-A-Name-Longer-Than-Anybody-Would-Expect", None),
    ("X-Embedgate-Role", None),
    ("Forwarded", None),
    ("X-Real-Ip", None),
    ("X-Original-Url", None),
    ("X-Rewrite-Url", None),
    ("True-Client-Ip", None),
    ("Proxy", None),
    ("Remote-User", None),
];

/// Fields of a name with the two dashes that servers take for the same.
fn like(message: &Message, name: &str) -> Vec<String> {
    let same = |known: &str| known.replace('_', "-").eq_ignore_ascii_case(name);
    message.fields.iter().filter(|(known, _)| same(known)).map(|(_, value)| value.clone()).collect()
}

#[tokio::test]
async fn nobody_but_the_gateway_says_who_asks() -> Result<()> {
    let site = Site::open().await?;
    let disguises: [fn(&str) -> String; 5] = [
        str::to_owned,
        str::to_uppercase,
        str::to_lowercase,
        |name| name.replace('-', "_"),
        |name| name.replacen('-', "_", 1).to_uppercase(),
    ];
    for (name, told) in IDENTITY {
        for disguise in disguises {
            let field = disguise(name);
            let head = site.head("GET /", &format!("{field}: evil\r\n{field}: evil\r\n"));
            let (request, _) = site.exchange(head, ok("")).await?;
            let expected: Vec<_> = told.iter().map(|told| (*told).to_owned()).collect();
            ensure!(like(&request, name) == expected, "{field}: {request:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn naming_a_field_in_connection_does_not_remove_what_the_gateway_says() -> Result<()> {
    let site = Site::open().await?;
    let names =
        "X-Forwarded-User, X-Forwarded-Email, X-Embedgate-Org, Authorization, Host, X-Forwarded-For, X-Request-Id";
    let (request, _) = site.exchange(site.head("GET /", &format!("Connection: {names}\r\n")), ok("")).await?;
    ensure!(request.field("X-Forwarded-User") == Some("ann"), "{request:?}");
    ensure!(request.field("X-Forwarded-Email") == Some("ann@acme.example"), "{request:?}");
    ensure!(request.field("X-Embedgate-Org") == Some("acme"), "{request:?}");
    ensure!(request.field("Authorization") == Some("Bearer acme-bearer"), "{request:?}");
    ensure!(request.field("Host").is_some() && request.field("X-Forwarded-For").is_some(), "{request:?}");
    ensure!(request.field("X-Request-Id").is_some() && !request.has("Connection"), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn a_body_cannot_be_unframed_by_naming_its_length_in_connection() -> Result<()> {
    let site = Site::open().await?;
    let head = site.head("POST /", "Connection: Content-Length\r\nContent-Length: 5\r\n");
    let (request, _) = site.exchange(head + "hello", ok("")).await?;
    ensure!(request.field("Content-Length") == Some("5") && request.text() == "hello", "{request:?}");
    Ok(())
}

#[tokio::test]
async fn underscore_forms_of_names_that_frame_or_authenticate_are_dropped() -> Result<()> {
    let site = Site::open().await?;
    for name in ["Content_Length", "Transfer_Encoding", "HOST_", "X_Request_Id", "Proxy_Connection", "Sec_Fetch_Site"] {
        let (request, _) = site.exchange(site.head("GET /", &format!("{name}: 7\r\n")), ok("")).await?;
        let kept = name == "HOST_";
        ensure!(request.has(name) == kept, "{name}: {request:?}");
    }
    Ok(())
}

/// Sends a GET with these fields, none of which is the app's affair, and checks that the app sees no part of a session.
async fn without_session(site: &Site, target: &str, fields: &str) -> Result<Message> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
    let (request, _) = site.exchange(request, ok("")).await?;
    let everything = format!("{request:?}");
    ensure!(!everything.contains("~1."), "the session reaches the app: {everything}");
    Ok(request)
}

#[tokio::test]
async fn the_session_never_reaches_the_app() -> Result<()> {
    let site = Site::open().await?;
    let token = &site.token;
    for fields in [
        format!("Authorization: Bearer {token}\r\n"),
        format!("authorization: bearer  {token}\r\n"),
        format!("Cookie: embedgate={token}\r\n"),
        format!("Cookie: embedgate=\"{token}\"\r\n"),
        format!("Cookie: embedgate={token}; embedgate-editor={token}; __Host-embedgate={token}\r\n"),
        format!("Cookie: embedgate={token}\r\nCookie: EMBEDGATE={token}\r\nCookie: copy={token}\r\n"),
        format!("Cookie: embedgate={token}\r\nReferer: http://{HOST}/.embedgate/session?token={token}&next=/\r\n"),
        format!("Cookie: embedgate={token}\r\nReferer: http://{HOST}/x?session={token}\r\n"),
        format!("Cookie: embedgate={token}\r\nProxy-Authorization: Bearer {token}\r\n"),
        format!("Cookie: embedgate={token}\r\nAuthorization: Bearer {token}\r\n"),
    ] {
        without_session(&site, "/", &fields).await.context(fields)?;
    }
    Ok(())
}

#[tokio::test]
async fn the_session_never_reaches_an_app_that_needs_no_credential_either() -> Result<()> {
    let upstream = Upstream::start()?;
    let directory = org_with("acme", &[("editor", upstream.address())], "kind = \"none\"");
    let gateway = Builder::new(directory).start().await?;
    let token = gateway.session("acme")?;
    let site = Site { gateway, upstream, token };
    let token = &site.token;
    let request = without_session(&site, "/", &format!("Authorization: Bearer {token}\r\n")).await?;
    ensure!(!request.has("Authorization"), "{request:?}");
    let both = format!("Cookie: embedgate={token}\r\nAuthorization: Basic YTpi\r\n");
    let request = without_session(&site, "/", &both).await?;
    ensure!(request.field("Authorization") == Some("Basic YTpi"), "the app's own credential is lost: {request:?}");
    Ok(())
}

#[tokio::test]
async fn the_principals_bearer_takes_the_place_of_any_other() -> Result<()> {
    let site = Site::open().await?;
    for fields in [site.bearer(), format!("Cookie: embedgate={}\r\nAuthorization: Basic YTpi\r\n", site.token)] {
        let request = without_session(&site, "/", &fields).await?;
        ensure!(request.field("Authorization") == Some("Bearer acme-bearer"), "{request:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_apps_own_cookies_pass_byte_for_byte() -> Result<()> {
    let site = Site::open().await?;
    let ours = format!("embedgate={}", site.token);
    for (sent, passed) in [
        (format!("{ours}; a=1; b=\"x y\"; c"), "a=1; b=\"x y\"; c"),
        (format!("a=1; {ours}; b=2"), "a=1; b=2"),
        (format!("a=1;b=2 ;  {ours};c=%20=; "), "a=1;b=2 ;c=%20=; "),
        (format!("{ours};embedgate-editor=old; __host-EMBEDGATE=x; a=1"), "a=1"),
        (format!("{ours}; embedgates=1; xembedgate=2; embedgate.x=3"), "embedgates=1; xembedgate=2; embedgate.x=3"),
    ] {
        let request = without_session(&site, "/", &format!("Cookie: {sent}\r\n")).await?;
        ensure!(request.all("Cookie") == [passed.trim_end()], "{sent:?}: {request:?}");
    }
    let untouched = "a=1;;b =2; c=\u{e9}\u{ff}; =; $Version=1";
    let bytes: Vec<u8> = format!("Cookie: {untouched}\r\n").chars().map(|c| c as u8).collect();
    let head = site.head("GET /", "");
    let request = [head.trim_end().as_bytes(), b"\r\n", &bytes, b"\r\n"].concat();
    let (request, _) = site.exchange(request, ok("")).await?;
    ensure!(request.all("Cookie") == [untouched], "{request:?}");
    Ok(())
}

#[tokio::test]
async fn a_request_without_other_cookies_has_no_cookie_field() -> Result<()> {
    let site = Site::open().await?;
    let request = without_session(&site, "/", &format!("Cookie: embedgate={}\r\n", site.token)).await?;
    ensure!(!request.has("Cookie"), "{request:?}");
    Ok(())
}

const HOP_BY_HOP: &str = "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, deflate\r\nTrailer: X\r\n\
                          Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nProxy-Authorization: Basic YTpi\r\n\
                          Connection: close, X-Mine, , x-other\r\nConnection: x-third\r\nX-Mine: 1\r\nx-OTHER: 2\r\n\
                          X-Third: 3\r\nX-Kept: 4\r\n";
const HOP_NAMES: [&str; 9] = [
    "Keep-Alive",
    "Proxy-Connection",
    "Trailer",
    "Upgrade",
    "HTTP2-Settings",
    "Proxy-Authorization",
    "X-Mine",
    "X-Other",
    "X-Third",
];

#[tokio::test]
async fn what_concerns_one_hop_stays_on_it() -> Result<()> {
    let site = Site::open().await?;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\n{HOP_BY_HOP}\r\n");
    let (request, answer) = site.exchange(site.head("GET /", HOP_BY_HOP), answer).await?;
    // What the gateway says to the app of their own connection: that trailers are taken, as the client does.
    ensure!(request.field("TE") == Some("trailers") && request.field("Connection") == Some("TE"), "{request:?}");
    ensure!(!answer.has("TE") && answer.field("Connection") == Some("close"), "{answer:?}");
    for name in HOP_NAMES {
        ensure!(!request.has(name), "{name} reaches the app: {request:?}");
        ensure!(!answer.has(name), "{name}: {answer:?}");
    }
    ensure!(!answer.has("Proxy-Authenticate"), "{answer:?}");
    ensure!(request.field("X-Kept") == Some("4") && answer.field("X-Kept") == Some("4"));
    Ok(())
}

#[tokio::test]
async fn ordinary_fields_pass_both_ways_in_order_and_case() -> Result<()> {
    let site = Site::open().await?;
    let fields = "accept: */*\r\nX-One: 1\r\nx-one: 2\r\nX-Empty:\r\nUser-Agent: t/1 (x; y)\r\nX-One: 3\r\n\
                  Accept-Encoding: gzip, br\r\nRange: bytes=0-1\r\nIf-None-Match: \"a\"\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
    let (request, answer) = site.exchange(site.head("GET /", fields), answer).await?;
    let expected: Vec<(&str, &str)> = fields
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim_start()))
        .collect();
    for (side, message) in [("request", &request), ("answer", &answer)] {
        let known = |name: &str| expected.iter().any(|(expected, _)| *expected == name);
        let passed: Vec<_> = message.fields.iter().filter(|(name, _)| known(name)).collect();
        let passed: Vec<(&str, &str)> = passed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        ensure!(passed == expected, "{side}: {passed:?}");
    }
    Ok(())
}

#[tokio::test]
async fn status_and_reason_pass() -> Result<()> {
    let site = Site::open().await?;
    for line in
        ["200 OK", "203 Partly true", "299 ", "404 Nothing here (really)", "418 I'm a teapot", "500 Oh no", "999 X"]
    {
        let (_, answer) = site.exchange(site.get("/"), format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n")).await?;
        ensure!(answer.start == format!("HTTP/1.1 {line}"), "{}", answer.start);
    }
    Ok(())
}

#[tokio::test]
async fn methods_and_targets_pass_as_they_are() -> Result<()> {
    let site = Site::open().await?;
    for line in [
        "PROPFIND /",
        "OPTIONS /",
        "get /",
        "PURGE /a//b/../c?x=%2F&&y",
        "GET /?",
        "GET //evil.example/x",
        "M-SEARCH /",
    ] {
        let (request, _) = site.exchange(site.head(line, ""), ok("")).await?;
        ensure!(request.start == format!("{line} HTTP/1.1"), "{line}: {}", request.start);
    }
    Ok(())
}

#[tokio::test]
async fn the_app_sees_its_own_name() -> Result<()> {
    let site = Site::with(&[("embedding.frontend_origins", "['https://front.example']")]).await?;
    let app = site.upstream.address().to_string();
    for (sent, seen) in [
        (format!("http://{HOST}"), format!("http://{app}")),
        (format!("http://{}:80", HOST.to_uppercase()), format!("http://{app}")),
        ("https://front.example".to_owned(), format!("http://{app}")),
        ("https://other.example".to_owned(), "https://other.example".to_owned()),
    ] {
        let (request, _) = site.exchange(site.head("GET /", &format!("Origin: {sent}\r\n")), ok("")).await?;
        ensure!(request.field("Host") == Some(&app), "{request:?}");
        ensure!(request.field("Origin") == Some(&seen), "{sent}: {request:?}");
    }
    let (request, _) = site.exchange(site.get("/"), ok("")).await?;
    ensure!(!request.has("Origin"), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn only_trusted_proxies_say_whom_they_speak_for() -> Result<()> {
    let fields = "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-For: 192.0.2.3\r\nX-Forwarded-Proto: https\r\n";
    for (trusted, sources, scheme) in [
        ("[]", "127.0.0.1", "http"),
        ("['10.0.0.0/8']", "127.0.0.1", "http"),
        ("['127.0.0.0/8']", "192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1", "https"),
    ] {
        let site = Site::with(&[("server.trusted_proxies", trusted)]).await?;
        let (request, _) = site.exchange(site.head("GET /", fields), ok("")).await?;
        ensure!(request.field("X-Forwarded-For") == Some(sources), "{trusted}: {request:?}");
        ensure!(request.field("X-Forwarded-Proto") == Some(scheme), "{trusted}: {request:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_app_cannot_set_the_gateways_cookies() -> Result<()> {
    let site = Site::open().await?;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: embedgate=x\r\n\
                  set-cookie: __Host-embedgate=x; Secure; Path=/\r\nSet-Cookie:  EmbedGate-editor = x; Path=/\r\n\
                  Set-Cookie: __HOST-EMBEDGATE-viz=x\r\nSet-Cookie: b=embedgate=2; HttpOnly\r\n\
                  Set-Cookie: embedgates=3\r\n\r\n";
    let (_, answer) = site.exchange(site.get("/"), answer).await?;
    let passed = answer.all("Set-Cookie");
    ensure!(passed == ["a=1; Path=/", "b=embedgate=2; HttpOnly", "embedgates=3"], "{passed:?}");
    Ok(())
}

#[tokio::test]
async fn every_request_has_an_id_of_its_own_that_the_log_knows() -> Result<()> {
    let site = Site::open().await?;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (request, _) = site.exchange(site.head("GET /", "X-Request-Id: mine\r\n"), ok("")).await?;
        let id = request.field("X-Request-Id").context("no request id")?.to_owned();
        ensure!(id.len() == 32 && !ids.contains(&id), "{id}");
        site.gateway.log_line(|line| line.contains(&id)).await?;
        ids.push(id);
    }
    Ok(())
}

#[tokio::test]
async fn the_log_holds_no_secret() -> Result<()> {
    let site = Site::open().await?;
    let link = format!("GET /.embedgate/session?token={}&next=/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n", site.token);
    ensure!(site.refused(link).await?.status() == 303);
    site.exchange(site.get("/a?password=hunter2"), ok("")).await?;
    site.gateway.log_line(|line| line.contains("\"path\":\"/a\"")).await?;
    site.gateway.log_line(|line| line.contains("\"path\":\"/.embedgate/session\"")).await?;
    let log = site.gateway.log();
    for secret in [&*site.token, "~1.", "acme-bearer", "hunter2"] {
        ensure!(!log.contains(secret), "{secret:?} is in the log:\n{log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_log_line_cannot_be_forged() -> Result<()> {
    let site = Site::open().await?;
    let target = "/\",\"status\":999,\"x\":\"\\";
    site.exchange(site.get(target), ok("")).await?;
    let line = site.gateway.log_line(|line| line.contains("999")).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    ensure!(line["status"] == 200 && line["path"] == target, "{line}");
    Ok(())
}

#[tokio::test]
async fn another_organisations_headers_are_its_own() -> Result<()> {
    let (acme, umbra) = (Upstream::start()?, Upstream::start()?);
    let directory = org("acme", &[("editor", acme.address())]) + &org("umbra", &[("editor", umbra.address())]);
    let gateway = Builder::new(directory).start().await?;
    for (org, upstream) in [("acme", &acme), ("umbra", &umbra)] {
        let mut client = gateway.connect().await?;
        let token = gateway.session(org)?;
        let head =
            format!("GET / HTTP/1.1\r\nHost: editor--{org}.apps.localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
        client.send(head).await?;
        let request = upstream.accept().await?.request().await?;
        ensure!(request.field("X-Embedgate-Org") == Some(org), "{request:?}");
        ensure!(request.field("Authorization") == Some(&format!("Bearer {org}-bearer")), "{request:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_app_behind_a_path_stays_behind_it() -> Result<()> {
    let site = Site::open().await?;
    let address = site.upstream.address();
    let request = format!("GET /app-proxy/editor/a HTTP/1.1\r\nHost: localhost\r\n{}\r\n", site.bearer());
    let answer = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{address}/login?next=/\r\nSet-Cookie: a=b; Path=/; Domain=x.example\r\n\
         Service-Worker-Allowed: /\r\nClear-Site-Data: \"cookies\"\r\nStrict-Transport-Security: max-age=9\r\n\
         Alt-Svc: h3=\":443\"\r\nContent-Length: 0\r\n\r\n"
    );
    let (_, got) = site.exchange(request, &answer).await?;
    ensure!(got.field("Location") == Some("/app-proxy/editor/login?next=/"), "{got:?}");
    ensure!(got.field("Set-Cookie") == Some("a=b; Path=/app-proxy/editor/"), "{got:?}");
    ensure!(got.field("Service-Worker-Allowed") == Some("/app-proxy/editor/"), "{got:?}");
    for name in ["Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc"] {
        ensure!(!got.has(name), "{name}: {got:?}");
    }
    let (_, got) = site.exchange(site.get("/a"), answer).await?;
    ensure!(
        got.field("Location") == Some("/login?next=/") && got.field("Set-Cookie") == Some("a=b; Path=/"),
        "{got:?}"
    );
    ensure!(got.field("Service-Worker-Allowed") == Some("/") && got.has("Clear-Site-Data"), "{got:?}");
    Ok(())
}

#[tokio::test]
async fn cookies_of_apps_in_frames_of_other_sites_come_back() -> Result<()> {
    let settings =
        [("server.public_url", "https://localhost"), ("embedding.frontend_origins", "[\"https://front.example\"]")];
    let site = Site::with(&settings).await?;
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/; SameSite=Lax; HttpOnly\r\nContent-Length: 0\r\n\r\n";
    let (_, got) = site.exchange(site.get("/"), answer).await?;
    let cookie = "a=b; Path=/; HttpOnly; Secure; SameSite=None; Partitioned";
    ensure!(got.field("Set-Cookie") == Some(cookie), "{got:?}");
    Ok(())
}
