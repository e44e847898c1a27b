//! Requests that are signed as a whole: what reaches the app carries the signature that AWS's own library makes of it.

use super::kinds::{installation, org};
use crate::harness::ask::{Answer, request};
use crate::harness::installation::{Installation, KEY, Serving, session};
use crate::harness::issuer::{App, Seen};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const SECRET: &str = "dose/KEY+of/aws";

/// A principal for a service.
fn lines(service: &str, payload: &str, token: &str) -> String {
    format!(
        "kind = 'sigv4'\naccess_key_id = 'AKIDEXAMPLE'\nsecret_access_key = {{ file = 'aws' }}\n{token}\
         region = 'eu-central-1'\nservice = '{service}'\npayload = '{payload}'\nheaders = {{ X-Requested-By = 'gate' }}"
    )
}

async fn world(app: &App) -> Result<(Installation, Serving)> {
    let token = "session_token = { file = 'aws-token' }\n";
    let directory = [
        org("glue", &lines("glue", "signed", token), "http://127.0.0.1:9", &app.url()),
        org("s3", &lines("s3", "unsigned", ""), "http://127.0.0.1:9", &app.url()),
    ];
    let (installation, _keys) = installation(&directory.concat())?;
    installation.write("aws", SECRET)?;
    installation.write("aws-token", "dose-token-of-aws")?;
    let config = std::fs::read_to_string(installation.path("embedgate.toml"))?;
    installation.write("embedgate.toml", &format!("{config}[limits]\nsigned_body_bytes = 1000\n"))?;
    let gateway = installation.serve().await?;
    Ok((installation, gateway))
}

/// Sends a request with more fields, and returns it as the app got it.
async fn send(
    gateway: &Serving,
    app: &App,
    org: &str,
    mut asked: Request<Full<Bytes>>,
    fields: &[(&str, &str)],
) -> Result<Seen> {
    let bearer = format!("Bearer {}", session(KEY, org, None, 0)?);
    for (name, value) in fields.iter().copied().chain([("authorization", &*bearer)]) {
        asked.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let before = app.seen("/").len();
    let answer = gateway.ask(asked).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let seen = app.seen("/");
    ensure!(seen.len() == before + 1, "the app got {} requests", seen.len() - before);
    seen.into_iter().next_back().context("nothing came")
}

/// What botocore makes of the requests, each with its service.
fn signatures(seen: &[(&str, Seen)]) -> Result<Vec<String>> {
    let given: Vec<Value> = seen
        .iter()
        .map(|(service, seen)| {
            let headers: serde_json::Map<_, _> = seen
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                .collect();
            let signed = part(seen, "SignedHeaders=").unwrap_or_default();
            json!({
                "id": "AKIDEXAMPLE", "secret": SECRET, "region": "eu-central-1", "service": service, "signed": signed,
                "method": seen.method, "target": seen.target, "headers": headers, "body": seen.body,
            })
        })
        .collect();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut python = Command::new(tests.join(".venv/bin/python"))
        .arg(tests.join("fixtures/sigv4.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("tests/.venv has no Python: run tests/setup")?;
    python.stdin.take().context("no standard input")?.write_all(json!(given).to_string().as_bytes())?;
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "the script failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What stands behind a word in `Authorization`.
fn part(seen: &Seen, word: &str) -> Option<String> {
    let authorization = seen.headers.get("authorization")?.to_str().ok()?;
    Some(authorization.split(word).nth(1)?.split(',').next()?.to_owned())
}

#[tokio::test]
async fn the_app_gets_what_awss_own_library_would_have_signed() -> Result<()> {
    let app = App::start("welcome").await?;
    let (_installation, gateway) = world(&app).await?;
    let mut seen = Vec::new();
    let get = |path: &str| request("GET", &format!("/app-proxy/studio{path}"), "", "");
    for path in ["/", "/a%20b/c?z=1&a=%2F&a=", "/livy//sessions/./7?q=%C3%BC", "/x?key-only&b=~_-."] {
        seen.push(("glue", send(&gateway, &app, "glue", get(path), &[]).await?));
        seen.push(("s3", send(&gateway, &app, "s3", get(path), &[]).await?));
    }
    let post = |body: &str| request("POST", "/app-proxy/studio/jobs", "", body);
    let target = [("x-amz-target", "AWSGlue.GetJobs"), ("content-type", "application/x-amz-json-1.1")];
    // What a client says of the signature itself does not count.
    let forged =
        [("x-amz-date", "20200101T000000Z"), ("x-amz-security-token", "theirs"), ("x-amz-content-sha256", "0")];
    let jobs =
        send(&gateway, &app, "glue", post("{\"MaxResults\": 7}"), &[target, [forged[0], forged[1]]].concat()).await?;
    assert_eq!(
        (&*jobs.body, jobs.headers["x-amz-security-token"].to_str()?),
        ("{\"MaxResults\": 7}", "dose-token-of-aws")
    );
    assert_eq!(jobs.headers["x-requested-by"], "gate");
    seen.push(("glue", jobs));
    let mut chunked = post("in pieces");
    chunked.headers_mut().insert("transfer-encoding", HeaderValue::from_static("chunked"));
    let chunked = send(&gateway, &app, "glue", chunked, &forged).await?;
    assert_eq!((&*chunked.body, chunked.headers["content-length"].to_str()?), ("in pieces", "9"));
    seen.push(("glue", chunked));
    let put = send(&gateway, &app, "s3", post(&"long ".repeat(1000)), &forged).await?;
    assert_eq!((put.body.len(), put.headers["x-amz-content-sha256"].to_str()?), (5000, "UNSIGNED-PAYLOAD"));
    seen.push(("s3", put));

    let expected = signatures(&seen)?;
    for ((service, seen), expected) in seen.iter().zip(expected) {
        let found = part(seen, "Signature=").context("not signed")?;
        ensure!(found == expected, "{service} {} {}: {found} in place of {expected}", seen.method, seen.target);
    }
    let log = gateway.stop().await?;
    ensure!(!log.contains("dose") && !log.contains("Signature="), "a secret is in the log:\n{log}");
    Ok(())
}

#[tokio::test]
async fn a_body_too_large_to_be_signed_is_a_413() -> Result<()> {
    let app = App::start("welcome").await?;
    let (_installation, mut gateway) = world(&app).await?;
    let post = async |chunked: bool| -> Result<Answer> {
        let mut asked = request("POST", "/app-proxy/studio/", &session(KEY, "glue", None, 0)?, &"x".repeat(1001));
        if chunked {
            asked.headers_mut().insert("transfer-encoding", HeaderValue::from_static("chunked"));
        }
        gateway.ask(asked).await
    };
    assert_eq!(post(false).await?.status, 413);
    assert_eq!(post(true).await?.status, 413);
    assert!(app.seen("/").is_empty(), "something went on");
    gateway.wait_for_log("larger than limits.signed_body_bytes").await?;
    gateway.stop().await?;
    Ok(())
}
