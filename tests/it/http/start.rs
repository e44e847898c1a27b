//! Session start: a page of a front end exchanges its user's JWT for a session in a cookie.

use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::raw::{Message, Upstream};
use crate::harness::signer::{AUDIENCE, ISSUER, Publishes, Signer, claims};
use anyhow::{Context as _, Result, ensure};
use embedgate::model::access::{Bar, Subject};
use serde_json::{Value, json};

pub(super) const FRONT: &str = "https://front.example";

/// A gateway that takes the JWTs of a front end. `acme` admits `user-1` and `user-2`, `open` everybody.
pub(super) struct Desk {
    pub(super) gateway: Gateway,
    signer: Signer,
    pub(super) upstream: Upstream,
}

impl Desk {
    async fn open() -> Result<Self> {
        Self::with(&[]).await
    }

    pub(super) async fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let (signer, upstream) = (Signer::start().await?, Upstream::start()?);
        let app = upstream.address();
        let acme = org("acme", &[("editor", app), ("broken", app)])
            .replacen("[[org.workspace]]", "members = [\"user-1\", \"user-2\"]\n[[org.workspace]]", 1)
            .replace("id = \"broken\"", "id = \"broken\"\nstatus = \"failed\"");
        let reserved =
            org("reserved", &[("editor", app)]).replace("id = \"spn\"", "id = \"spn\"\nusers = [\"bob@x.example\"]");
        let directory = format!("{acme}{}{reserved}", org("open", &[("editor", app)]));
        let builder = Builder::new(directory)
            .set("embedding.frontend_origins", &format!("[\"{FRONT}\"]"))
            .set("session.jwt.issuer", ISSUER)
            .set("session.jwt.audience", AUDIENCE)
            .set("session.jwt.jwks_url", &signer.url());
        let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        Ok(Self { gateway: builder.start().await?, signer, upstream })
    }

    pub(super) fn jwt(&self, change: impl FnOnce(&mut Value)) -> Result<String> {
        let mut claims = claims(self.gateway.clock.now());
        change(&mut claims);
        self.signer.token(&claims)
    }

    pub(super) async fn send(&self, request: String) -> Result<Message> {
        let mut wire = self.gateway.connect().await?;
        wire.send(request).await?;
        wire.answer().await
    }

    /// Asks for a session with this body, as a page of the front end does.
    pub(super) async fn post(&self, path: &str, body: &str) -> Result<Message> {
        self.post_as(path, "localhost", &format!("Origin: {FRONT}\r\nContent-Type: application/json\r\n"), body).await
    }

    pub(super) async fn post_as(&self, path: &str, host: &str, fields: &str, body: &str) -> Result<Message> {
        let length = body.len();
        self.send(format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
            .await
    }

    async fn start(&self, org: &str, app: &str, change: impl FnOnce(&mut Value)) -> Result<Message> {
        let body = json!({ "jwt": self.jwt(change)?, "app": app, "org": org });
        self.post("/.embedgate/session", &body.to_string()).await
    }
}

/// The cookie that an answer sets, as a browser sends it back.
fn cookie(answer: &Message) -> Result<String> {
    let set = answer.field("Set-Cookie").with_context(|| format!("no cookie: {answer:?}"))?;
    Ok(set.split(';').next().unwrap_or_default().to_owned())
}

pub(super) fn reason(answer: &Message) -> String {
    let body: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
    body["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_jwt_becomes_a_session_that_opens_the_app() -> Result<()> {
    let desk = Desk::open().await?;
    let answer = desk.start("acme", "editor", |_| {}).await?;
    ensure!(answer.status() == 200, "{answer:?}");
    for (name, value) in [
        ("Access-Control-Allow-Origin", FRONT),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", "Retry-After, X-Request-Id"),
        ("Vary", "Origin"),
        ("Cache-Control", "no-store"),
        ("Content-Type", "application/json"),
    ] {
        ensure!(answer.field(name) == Some(value), "{name}: {answer:?}");
    }
    let body: Value = serde_json::from_str(&answer.text())?;
    ensure!(body["ok"] == true && body["path"] == "/app-proxy/editor/", "{body}");
    let cookie = cookie(&answer)?;
    let session = desk.gateway.unseal(cookie.strip_prefix("embedgate-editor=").context("another cookie")?)?;
    ensure!((session.org(), session.user(), session.email()) == ("acme", "user-1", "ann@acme.example"));
    ensure!(session.app() == Some("editor") && body["expires"] == session.expires);
    ensure!(session.expires == session.issued + 3600 && session.idle.is_some());

    let mut client = desk.gateway.connect().await?;
    client.send(format!("GET /app-proxy/editor/x HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n")).await?;
    let mut app = desk.upstream.accept().await?;
    let request = app.request().await?;
    ensure!(request.start == "GET /x HTTP/1.1" && request.field("Authorization") == Some("Bearer acme-bearer"));
    ensure!(!request.has("Cookie"), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn each_app_has_its_own_cookie_and_each_host_too() -> Result<()> {
    let desk = Desk::open().await?;
    let body = json!({ "jwt": desk.jwt(|_| {})?, "app": "editor", "org": "acme" }).to_string();
    let fields = format!("Origin: {FRONT}\r\nContent-Type: application/json; charset=utf-8\r\n");
    let own = desk.post_as("/.embedgate/session", "editor--acme.apps.localhost", &fields, &body).await?;
    ensure!(own.status() == 200 && cookie(&own)?.starts_with("embedgate=~1."), "{own:?}");
    ensure!(serde_json::from_str::<Value>(&own.text())?["path"] == "/");
    for host in ["editor--open.apps.localhost", "viz--acme.apps.localhost"] {
        let other = desk.post_as("/.embedgate/session", host, &fields, &body).await?;
        ensure!(other.status() == 403 && reason(&other) == "wrong_host", "{host}: {other:?}");
    }
    let all = json!({ "jwt": desk.jwt(|_| {})?, "org": "acme" }).to_string();
    let all = desk.post("/.embedgate/session", &all).await?;
    ensure!(all.status() == 200 && cookie(&all)?.starts_with("embedgate=~1."), "{all:?}");
    Ok(())
}

#[tokio::test]
async fn each_refusal_has_its_reason() -> Result<()> {
    let desk = Desk::open().await?;
    desk.gateway.put_up(Bar::Banned("user-2".into()))?;
    let now = desk.gateway.clock.now();
    let set = |name: &'static str, value: Value| move |claims: &mut Value| claims[name] = value;
    for (org, app, claim, status, expected) in [
        ("acme", "editor", ("iss", json!("https://evil.example")), 401, "jwt_invalid"),
        ("acme", "editor", ("aud", json!("somebody else")), 401, "jwt_invalid"),
        ("acme", "editor", ("exp", json!(now - 60)), 401, "jwt_expired"),
        ("acme", "editor", ("exp", json!(now + 90_000)), 401, "jwt_invalid"),
        ("acme", "editor", ("nbf", json!(now + 60)), 401, "jwt_invalid"),
        ("acme", "editor", ("sub", json!("")), 401, "jwt_subject"),
        ("acme", "editor", ("email", json!("")), 401, "jwt_email"),
        ("acme", "editor", ("sub", json!("u".repeat(255))), 403, "not_member"),
        ("open", "editor", ("sub", json!("u".repeat(255))), 401, "jwt_user"),
        ("acme", "editor", ("sub", json!("user-2")), 403, "banned"),
        ("acme", "editor", ("sub", json!("user-3")), 403, "not_member"),
        // Who is not of it does not learn whether there is such an organisation or app.
        ("nothing", "editor", ("sub", json!("user-1")), 403, "not_member"),
        ("acme", "secret", ("sub", json!("user-3")), 403, "not_member"),
        ("acme", "nothing", ("sub", json!("user-1")), 404, "unknown_app"),
        ("acme", "broken", ("sub", json!("user-1")), 503, "app_failed"),
        ("reserved", "editor", ("sub", json!("user-1")), 403, "no_principal"),
        ("acme", "a b", ("sub", json!("user-1")), 400, "app"),
        ("", "editor", ("sub", json!("user-1")), 400, "org"),
        ("../x", "editor", ("sub", json!("user-1")), 400, "org"),
    ] {
        let answer = desk.start(org, app, set(claim.0, claim.1.clone())).await?;
        let shown = format!("{org} {app} {claim:?}: {answer:?}");
        ensure!(answer.status() == status && reason(&answer) == expected, "{shown}");
        ensure!(answer.field("Access-Control-Allow-Origin") == Some(FRONT) && !answer.has("Set-Cookie"), "{shown}");
        ensure!(answer.field("Content-Type") == Some("application/problem+json"), "{shown}");
        ensure!(answer.has("Retry-After") == (status == 503) && answer.has("X-Request-Id"), "{shown}");
    }
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() -> Result<()> {
    let desk = Desk::open().await?;
    let long = format!("{{\"jwt\":\"{}\"}}", "x".repeat(20_000));
    for (body, status, expected) in [
        ("", 400, "body"),
        ("[]", 400, "body"),
        ("{", 400, "body"),
        ("\u{0}\u{ff}", 400, "body"),
        (r#"{"app":"editor","org":"acme"}"#, 400, "jwt"),
        (r#"{"jwt":7,"app":"editor","org":"acme"}"#, 400, "jwt"),
        (r#"{"jwt":"a.b.c","app":"editor","org":"acme"}"#, 401, "jwt_invalid"),
        (r#"{"jwt":"x","app":["editor"],"org":"acme"}"#, 400, "app"),
        (long.as_str(), 413, "body_too_large"),
    ] {
        let answer = desk.post("/.embedgate/session", body).await?;
        ensure!(answer.status() == status && reason(&answer) == expected, "{body:.40}: {answer:?}");
    }
    let form = format!("Origin: {FRONT}\r\nContent-Type: text/plain\r\n");
    let answer = desk.post_as("/.embedgate/session", "localhost", &form, "{}").await?;
    ensure!(answer.status() == 400 && reason(&answer) == "content_type", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn only_front_ends_start_sessions() -> Result<()> {
    let desk = Desk::open().await?;
    let body = json!({ "jwt": desk.jwt(|_| {})?, "app": "editor", "org": "acme" }).to_string();
    for fields in [
        "",
        "Origin: null\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: https://front.example.evil.example\r\n",
        "Origin: https://FRONT.example\r\n",
        "Origin: http://front.example\r\n",
        "Origin: http://localhost\r\n",
        "Origin: https://front.example\r\nOrigin: https://evil.example\r\n",
        "Origin: https://front.example\r\nSec-Fetch-Mode: navigate\r\n",
        "Origin: https://front.example\r\nSec-Fetch-Mode: no-cors\r\n",
    ] {
        for path in ["/.embedgate/session", "/start-session"] {
            let fields = format!("{fields}Content-Type: application/json\r\n");
            let answer = desk.post_as(path, "localhost", &fields, &body).await?;
            ensure!(matches!(answer.status(), 400 | 403) && !answer.has("Set-Cookie"), "{path} {fields}: {answer:?}");
            let readable = answer.field("Access-Control-Allow-Origin") == Some(FRONT);
            ensure!(!readable || fields.starts_with("Origin: https://front.example\r\nSec"), "{answer:?}");
            ensure!(answer.status() == 400 || answer.field("Vary") == Some("Origin"), "{answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn preflights_are_answered_for_front_ends_alone() -> Result<()> {
    let desk = Desk::open().await?;
    for (path, status, methods) in
        [("/.embedgate/session", 204, "POST, DELETE, OPTIONS"), ("/start-session", 200, "POST, OPTIONS")]
    {
        let ask = |origin: &str| {
            format!(
                "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\r\n"
            )
        };
        let answer = desk.send(ask(FRONT)).await?;
        ensure!(answer.status() == status && answer.text().is_empty(), "{answer:?}");
        for (name, value) in [
            ("Access-Control-Allow-Origin", FRONT),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", "Content-Type"),
            ("Vary", "Origin"),
        ] {
            ensure!(answer.field(name) == Some(value), "{name}: {answer:?}");
        }
        let other = desk.send(ask("https://evil.example")).await?;
        ensure!(other.status() == status && other.field("Vary") == Some("Origin"), "{other:?}");
        ensure!(!other.has("Access-Control-Allow-Origin") && !other.has("Access-Control-Allow-Methods"), "{other:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_may_begin_right_after_the_users_sessions_were_ended() -> Result<()> {
    let desk = Desk::open().await?;
    let first = cookie(&desk.start("acme", "editor", |_| {}).await?)?;
    desk.gateway.put_up(Bar::Revoked(Subject::User("user-1".into())))?;
    let open = |cookie: &str| format!("GET /app-proxy/editor/ HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n");
    ensure!(desk.send(open(&first)).await?.status() == 401);
    let second = cookie(&desk.start("acme", "editor", |_| {}).await?)?;
    let mut client = desk.gateway.connect().await?;
    client.send(open(&second)).await?;
    desk.upstream.accept().await?.request().await?;
    Ok(())
}

#[tokio::test]
async fn a_jwt_may_have_to_name_the_organisation() -> Result<()> {
    let desk = Desk::with(&[("session.jwt.org_claim", "orgs")]).await?;
    let with = |orgs: Value| move |claims: &mut Value| claims["orgs"] = orgs;
    for (org, orgs, status, expected) in [
        ("open", json!("open"), 200, ""),
        ("open", json!(["acme", "open"]), 200, ""),
        ("open", json!(["acme"]), 403, "not_member"),
        // Being named does not make a member.
        ("acme", json!(["acme"]), 200, ""),
        ("reserved", json!([]), 403, "not_member"),
        ("open", json!(7), 401, "jwt_invalid"),
    ] {
        let answer = desk.start(org, "editor", with(orgs.clone())).await?;
        ensure!(answer.status() == status && reason(&answer) == expected, "{org} {orgs}: {answer:?}");
    }
    let stranger = |claims: &mut Value| (claims["orgs"], claims["sub"]) = (json!("acme"), json!("user-9"));
    ensure!(reason(&desk.start("acme", "editor", stranger).await?) == "not_member");
    Ok(())
}

#[tokio::test]
async fn a_jwt_may_be_good_for_one_session_alone() -> Result<()> {
    let desk = Desk::with(&[("session.jwt.single_use", "true")]).await?;
    let with_id = |claims: &mut Value| claims["jti"] = json!("id-1");
    ensure!(desk.start("acme", "nothing", with_id).await?.status() == 404, "a refusal uses nothing up");
    ensure!(desk.start("acme", "editor", with_id).await?.status() == 200);
    let again = desk.start("acme", "editor", with_id).await?;
    ensure!(again.status() == 401 && reason(&again) == "jwt_used", "{again:?}");
    let without = desk.start("acme", "editor", |_| {}).await?;
    ensure!(without.status() == 401 && reason(&without) == "jwt_invalid", "{without:?}");
    Ok(())
}

#[tokio::test]
async fn without_keys_the_page_is_told_to_come_again() -> Result<()> {
    let desk = Desk::open().await?;
    ensure!(desk.start("acme", "editor", |_| {}).await?.status() == 200);
    desk.signer.set(Publishes::Answer(500, &[], "no"));
    let known = desk.start("acme", "editor", |_| {}).await?;
    ensure!(known.status() == 200, "keys that are known stay in use: {known:?}");
    let silent = Signer::start().await?;
    silent.set(Publishes::Nothing);
    let gateway = Builder::new(org("open", &[("editor", desk.upstream.address())]))
        .set("embedding.frontend_origins", &format!("[\"{FRONT}\"]"))
        .set("session.jwt.issuer", ISSUER)
        .set("session.jwt.audience", AUDIENCE)
        .set("session.jwt.jwks_url", &silent.url())
        .start()
        .await?;
    let desk = Desk { gateway, signer: silent, upstream: desk.upstream };
    let answer = desk.start("open", "editor", |_| {}).await?;
    ensure!(answer.status() == 503 && reason(&answer) == "jwt_keys" && answer.has("Retry-After"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn fireflys_front_end_is_answered_in_its_own_words() -> Result<()> {
    let desk = Desk::open().await?;
    let now = desk.gateway.clock.now();
    let order =
        |jwt: &str, tool: &str, org: &str| json!({ "jwt": jwt, "toolId": tool, "orgId": org, "x": 1 }).to_string();
    let good = desk.jwt(|_| {})?;
    let started = desk.post("/start-session", &order(&good, "editor", "acme")).await?;
    ensure!(started.status() == 200 && started.text() == "{\"ok\":true}", "{started:?}");
    ensure!(started.field("Content-Type") == Some("application/json"));
    ensure!(cookie(&started)?.starts_with("embedgate-editor=~1."), "{started:?}");
    let jwt = |change: (&'static str, Value)| desk.jwt(|claims| claims[change.0] = change.1);
    for (body, status, text) in [
        ("{".to_owned(), 400, "invalid request body"),
        (order(&good, "", "acme"), 400, "invalid or missing \"toolId\""),
        (order(&good, "a.b", "acme"), 400, "invalid or missing \"toolId\""),
        (order(&good, "editor", ""), 400, "invalid or missing \"orgId\""),
        (order("", "editor", "acme"), 400, "missing jwt"),
        (order("x", "editor", "acme"), 401, "unauthorized: invalid JWT"),
        (order(&jwt(("exp", json!(now - 60)))?, "editor", "acme"), 401, "unauthorized: invalid JWT"),
        (order(&jwt(("sub", json!("")))?, "editor", "acme"), 401, "unauthorized: JWT missing sub claim"),
        (order(&jwt(("email", json!("")))?, "editor", "acme"), 401, "unauthorized: JWT missing email claim"),
        (
            order(&jwt(("sub", json!("user-9")))?, "editor", "acme"),
            403,
            "forbidden: user is not a member of organization \"acme\"",
        ),
        (order(&good, "nothing", "acme"), 403, "forbidden: tool \"nothing\" not found in org \"acme\""),
        (order(&good, "editor", "reserved"), 403, "forbidden: no SPN credentials found for user \"ann@acme.example\""),
    ] {
        let answer = desk.post("/start-session", &body).await?;
        ensure!(answer.status() == status && answer.text() == format!("{text}\n"), "{body:.60}: {answer:?}");
        ensure!(answer.field("Content-Type") == Some("text/plain; charset=utf-8"), "{answer:?}");
    }
    let get = desk.send(format!("GET /start-session HTTP/1.1\r\nHost: localhost\r\nOrigin: {FRONT}\r\n\r\n")).await?;
    ensure!(get.status() == 405 && get.text() == "method not allowed\n", "{get:?}");
    Ok(())
}

#[tokio::test]
async fn without_a_front_end_nobody_starts_sessions() -> Result<()> {
    let upstream = Upstream::start()?;
    let gateway = Builder::new(org("acme", &[("editor", upstream.address())])).start().await?;
    for path in ["/.embedgate/session", "/start-session"] {
        let mut wire = gateway.connect().await?;
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}")).await?;
        ensure!(wire.answer().await?.status() == 404, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_of_front_ends_can_read_why_nothing_comes_of_it() -> Result<()> {
    let upstream = Upstream::start()?;
    let builder = Builder::new(org("acme", &[("editor", upstream.address())]));
    let gateway = builder.set("embedding.frontend_origins", &format!("[\"{FRONT}\"]")).start().await?;
    for (request, origin, status, readable) in [
        ("POST /.embedgate/session", FRONT, 404, true),
        ("POST /start-session", FRONT, 404, true),
        ("DELETE /.embedgate/session", "https://evil.example", 403, false),
        ("GET /app-proxy/editor/", FRONT, 401, false),
    ] {
        let mut wire = gateway.connect().await?;
        let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n");
        wire.send(head).await?;
        let answer = wire.answer().await?;
        ensure!(answer.status() == status, "{request}: {answer:?}");
        ensure!(answer.field("Access-Control-Allow-Origin") == readable.then_some(FRONT), "{request}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_may_come_in_pieces_and_the_connection_goes_on() -> Result<()> {
    let desk = Desk::open().await?;
    let body = json!({ "jwt": desk.jwt(|_| {})?, "app": "editor", "org": "acme" }).to_string();
    let mut wire = desk.gateway.connect().await?;
    let head = format!(
        "POST /.embedgate/session HTTP/1.1\r\nHost: localhost\r\nOrigin: {FRONT}\r\nContent-Type: application/json\r\n"
    );
    wire.send(format!("{head}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")).await?;
    ensure!(wire.head().await?.status() == 100);
    let (one, two) = body.split_at(100);
    for part in [one, two] {
        wire.send(format!("{:x}\r\n{part}\r\n", part.len())).await?;
    }
    wire.send("0\r\n\r\n").await?;
    ensure!(wire.answer().await?.status() == 200);
    wire.send("GET /.embedgate/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    ensure!(wire.answer().await?.status() == 200, "the connection goes on");
    Ok(())
}
