//! Nothing secret is ever written: not to the log at any level, not to standard output, not into the head of an answer.

use crate::harness::ask::{Answer, request};
use crate::harness::h2::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, block, frame};
use crate::harness::installation::{Installation, KEY, LOCAL, session};
use crate::harness::issuer::{App, Issuer, Mood, Refusal};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// The key of v1 tokens, and a token that it seals, with the bearer in it.
const V1_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const V1_TOKEN: &str = "oKGio6SlpqeoqaqrgnkMRGiuet4PFeu2Kg6vtRXCdCCjhXFYqTgRvka35yj3VRuxkjfPOn5Mf0Hx";
const V1_BEARER: &str = "dapi-example-token-0123456789";
/// Where a person comes from is nobody's business, least of all with what the query holds.
const REFERER: &str = "referer";

/// What must not be found, with a name for messages.
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, name: &str, secret: &str) {
        self.0.push((name.to_owned(), secret.to_owned()));
    }

    /// An error that names a secret which the text holds.
    fn check(&self, place: &str, text: &str) -> Result<()> {
        for (name, secret) in &self.0 {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            ensure!(line.is_none(), "{name} is in {place}: {}", line.unwrap_or_default());
        }
        Ok(())
    }

    /// The same for the head of an answer. The cookie that starts a session is the one place where a session belongs; and
    /// a redirect to what was asked for, with a slash behind it, cannot but repeat what was asked for.
    fn check_head(&self, place: &str, answer: &Answer) -> Result<()> {
        let is_exempt = |name: &str| name == "set-cookie" || (answer.status == 308 && name == "location");
        for (name, value) in answer.headers.iter().filter(|(name, _)| !is_exempt(name.as_str())) {
            self.check(place, &format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))?;
        }
        Ok(())
    }
}

fn with(mut request: Request<Full<Bytes>>, fields: &[(&str, &str)]) -> Result<Request<Full<Bytes>>> {
    for (name, value) in fields {
        request.headers_mut().insert(HeaderName::try_from(*name)?, HeaderValue::try_from(*value)?);
    }
    Ok(request)
}

/// Paths of v1 links, good and broken.
fn v1_paths() -> Vec<String> {
    let changed = format!("B{}", &V1_TOKEN[1..]);
    let paths = [
        format!("/app-proxy/{V1_TOKEN}/databricksapps/aws/app-1/"),
        format!("/app-proxy/{V1_TOKEN}/databricksapps/aws/app-1/deeper?token={V1_TOKEN}"),
        format!("/app-proxy/{V1_TOKEN}/evil/example/app/"),
        format!("/app-proxy/{V1_TOKEN}/databricksapps/aws"),
        format!("/app-proxy/{V1_TOKEN}//aws/app-1/"),
        format!("/app-proxy/{V1_TOKEN}/"),
        format!("/app-proxy/{V1_TOKEN}"),
        format!("/app-proxy/{changed}/databricksapps/aws/app-1/"),
    ];
    paths.to_vec()
}

/// An organisation with a principal of each kind that has a secret.
fn directory(issuer: &str, app: &str) -> String {
    format!(
        r#"
        [[org]]
        id = "acme"
        [[org.workspace]]
        id = "main"
        url = "{issuer}"
        [[org.principal]]
        id = "spn"
        kind = "databricks"
        client_id = "acme-client"
        client_secret = {{ env = "ACME_SECRET" }}
        [[org.principal]]
        id = "fixed"
        kind = "bearer"
        users = ["bob@example.com"]
        token = {{ file = "bearer" }}
        [[org.app]]
        id = "studio"
        url = "{app}"
        [[org.warehouse]]
        id = "w1"
        "#,
    )
}

/// Requests of all kinds, each with all these sessions, of which the first is good.
fn requests(sessions: &[(&str, &String)]) -> Result<Vec<Request<Full<Bytes>>>> {
    let mut requests = Vec::new();
    for (name, token) in sessions {
        for path in ["/app-proxy/studio/a?b=c", "/app-proxy/nothing/", "/sql/1.0/warehouses/w1", "/nowhere"] {
            requests.push(request("GET", path, token, ""));
            requests.push(with(request("GET", path, "", ""), &[("cookie", &format!("embedgate={token}"))])?);
            requests
                .push(with(request("GET", path, "", ""), &[("cookie", &format!("embedgate-studio={token}; a=b"))])?);
        }
        requests.push(request("POST", "/app-proxy/studio/form", token, &format!("token={token}")));
        requests.push(request("GET", &format!("/.embedgate/session?token={token}&next=/app-proxy/studio/"), "", ""));
        requests.push(request("GET", &format!("/.embedgate/session?token={token}&next=//evil.example"), "", ""));
        // Where people paste tokens that do not belong there.
        for path in
            ["/", "/app-proxy/", "/app-proxy/studio/", "/.embedgate/", "/.embedgate/session/", "/sql/1.0/warehouses/"]
        {
            requests.push(request("GET", &format!("{path}{token}"), "", ""));
            requests.push(request("GET", &format!("{path}{token}/x"), token, ""));
            requests.push(request("GET", &format!("{path}?token={token}"), token, ""));
        }
        let from = format!("http://localhost/.embedgate/session?token={token}");
        requests.push(with(request("GET", "/app-proxy/studio/", token, ""), &[(REFERER, &from)])?);
        requests.push(with(request("GET", "/app-proxy/studio/", token, ""), &[("x-request-id", token)])?);
        requests.push(with(request("GET", "/app-proxy/studio/", token, ""), &[("origin", token)])?);
        // Signing out ends a session, and the good one is needed again.
        if *name != "session" {
            requests.push(request("DELETE", "/.embedgate/session", token, ""));
        }
    }
    for path in v1_paths() {
        requests.push(request("GET", &path, "", ""));
        requests.push(request("GET", &path, sessions[0].1, ""));
    }
    Ok(requests)
}

/// Sends what is no HTTP with a session in it; a secret in the answers is an error.
fn check_nonsense(data: SocketAddr, session: &str, secrets: &Secrets) -> Result<()> {
    for line in [
        format!("GET /{session} HTTP/1.1 nonsense\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {session}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization : Bearer {session}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {session}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {session}\r\n\r\n"),
    ] {
        let mut tcp = TcpStream::connect(data)?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        tcp.write_all(line.as_bytes())?;
        let mut answer = Vec::new();
        // The end may come as a reset; what was read until then counts.
        let _ = tcp.read_to_end(&mut answer);
        ensure!(answer.starts_with(b"HTTP/1.1 4"), "no refusal of {line:?}");
        secrets.check("the answer to nonsense", &String::from_utf8_lossy(&answer))?;
    }
    check_nonsense_of_http2(data, session, secrets)
}

/// Sends requests of HTTP/2 with a session in what is wrong with them, one that is answered and one whose stream is reset, and
/// waits until the connection has ended; a secret in what comes back is an error.
fn check_nonsense_of_http2(data: SocketAddr, session: &str, secrets: &Secrets) -> Result<()> {
    let path = format!("/.embedgate/session?token={session} x");
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", &path)];
    let refused = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields));
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/"), ("X", session)];
    let malformed = frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&fields));
    let mut tcp = TcpStream::connect(data)?;
    tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
    let all = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &[]), &refused, &malformed].concat();
    tcp.write_all(&all)?;
    let (mut frames, mut part) = (Vec::new(), [0; 1024]);
    let has = |frames: &[u8], end: &[u8]| frames.windows(end.len()).any(|part| part == end);
    // Before our end is closed: a connection that has ended need not say any more what it thought of its streams.
    while !has(&frames, &[DATA, END_STREAM, 0, 0, 0, 1]) || !has(&frames, &[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 3]) {
        let read = tcp.read(&mut part)?;
        ensure!(read > 0, "no end of both streams: {frames:?}");
        frames.extend_from_slice(&part[..read]);
    }
    tcp.shutdown(Shutdown::Write)?;
    tcp.read_to_end(&mut frames)?;
    secrets.check("the answer to nonsense of HTTP/2", &String::from_utf8_lossy(&frames))
}

/// Drives everything that requests can be, and looks for secrets in all that comes out.
async fn nothing_leaks(level: &str, firefly: bool) -> Result<()> {
    let (issuer, app) = (Issuer::start(Mood::REFUSES).await?, App::start("welcome").await?);
    let directory = directory(&issuer.url(), &app.url());
    let mut config = LOCAL.replace(r#"level = "trace""#, &format!("level = {level:?}"));
    config.push_str("[routing]\nbase_domain = \"apps.localhost\"\n");
    if firefly {
        config.push_str("[firefly]\nv1 = true\nencryption_key = { env = \"V1_KEY\" }\ndomain_suffix = \"test\"\n");
    }
    let mut installation = Installation::new(&config, &directory)?;
    installation.write("bearer", "pat-5d41402abc4b2a76b9719d911017c592")?;
    installation.set("ACME_SECRET", "dose7d793037a0760186574b0282f2f435e7");
    installation.set("V1_KEY", V1_KEY);
    let gateway = installation.serve().await?;

    let good = session(KEY, "acme", None, 0)?;
    let narrow = session(KEY, "acme", Some("other"), 0)?;
    let expired = session(KEY, "acme", None, 7200)?;
    let stranger = session(KEY, "umbrella", None, 0)?;
    let forged = session(&KEY.replace('c', "d"), "acme", None, 0)?;
    let mut secrets = Secrets(Vec::new());
    let sessions = [
        ("session", &good),
        ("narrow session", &narrow),
        ("expired session", &expired),
        ("foreign session", &stranger),
        ("forged session", &forged),
    ];
    for (name, token) in sessions {
        // The sealed part alone would be as good.
        secrets.add(name, token.rsplit('.').next().context("no dots in a token")?);
    }
    secrets.add("client secret", "dose7d793037a0760186574b0282f2f435e7");
    secrets.add("fixed token", "pat-5d41402abc4b2a76b9719d911017c592");
    secrets.add("session key", KEY);
    secrets.add("v1 key", V1_KEY);
    // Also with its first letter changed.
    secrets.add("v1 token", &V1_TOKEN[1..]);
    secrets.add("v1 bearer", V1_BEARER);

    let requests = requests(&sessions)?;
    // First no token is to be had, then there is one, then the app does not take it.
    for round in ["refusing", "issuing", "unwelcome", "signing in"] {
        match round {
            "issuing" => issuer.set(Mood::Issues(3600)),
            "unwelcome" => app.refuse_all(Refusal::Unauthorized),
            "signing in" => app.refuse_all(Refusal::SignIn(format!("{}/oidc/authorize", issuer.url()))),
            _ => {}
        }
        if round == "issuing" {
            gateway.get_until(200, "/app-proxy/studio/", &good).await?;
        }
        for request in &requests {
            let what = format!("{} {} when {round}", request.method(), request.uri());
            let answer = gateway.ask(request.clone()).await?;
            for token in issuer.tokens() {
                secrets.0.retain(|(_, known)| *known != token);
                secrets.add("principal's token", &token);
            }
            secrets.check_head(&format!("the answer to {what}"), &answer)?;
        }
    }
    check_nonsense(gateway.data, &good, &secrets)?;
    ensure!(!issuer.tokens().is_empty() && !app.seen("/").is_empty(), "the good ones never got through");
    // Reloading reads all of it again.
    gateway.process.signal("HUP")?;
    gateway.wait_for_metric(r#"embedgate_directory_loads_total{result="ok"}"#, 2.0).await?;
    secrets.check("the metrics", &gateway.metrics().await?)?;
    let output = gateway.stop().await?;
    ensure!(output.contains("/app-proxy/studio/a"), "no line for requests in the log:\n{output}");
    secrets.check("the output", &output)
}

#[tokio::test]
async fn nothing_leaks_at_the_level_trace() -> Result<()> {
    nothing_leaks("trace", false).await
}

#[tokio::test]
async fn nothing_leaks_at_the_level_debug_with_v1_links() -> Result<()> {
    nothing_leaks("debug", true).await
}
