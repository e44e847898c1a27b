//! Principals whose credential is fixed: what reaches the app, and what of the client does not.

use super::kinds::{installation, org};
use crate::harness::ask::request;
use crate::harness::installation::{KEY, session};
use crate::harness::issuer::App;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use http::{HeaderName, HeaderValue};

const KINDS: [(&str, &str); 5] = [
    ("basic", "kind = 'basic'\nuser = 'svc'\npassword = { file = 'password' }\nheaders = { X-Requested-By = 'gate' }"),
    ("bearer", "kind = 'bearer'\ntoken = { file = 'token' }\nheaders = { X-Trino-User = 'svc' }"),
    (
        "header",
        "kind = 'header'\nname = 'X-ClickHouse-Key'\nvalue = { file = 'password' }\nheaders = { X-ClickHouse-User = 'svc' }",
    ),
    ("own-word", "kind = 'header'\nname = 'Authorization'\nvalue = { file = 'jupyter' }"),
    ("none", "kind = 'none'\nheaders = { X-Requested-By = 'gate' }"),
];

/// What clients try to say in place of the gateway.
const FORGED: [(&str, &str); 6] = [
    ("x-requested-by", "client"),
    ("X_Requested_By", "client"),
    ("x-trino-user", "client"),
    ("x-clickhouse-user", "client"),
    ("x-clickhouse-key", "client"),
    ("connection", "x-requested-by, x-clickhouse-key"),
];

#[tokio::test]
async fn fixed_credentials_reach_the_app_and_no_client_says_them() -> Result<()> {
    let app = App::start("welcome").await?;
    let directory: String = KINDS.map(|(id, lines)| org(id, lines, "http://127.0.0.1:9", &app.url())).concat();
    let (installation, _keys) = installation(&directory)?;
    installation.write("password", "dose word")?;
    installation.write("token", "dose-token")?;
    installation.write("jupyter", "token dose")?;
    let gateway = installation.serve().await?;
    for (id, expected) in [
        ("basic", [("authorization", "Basic c3ZjOmRvc2Ugd29yZA=="), ("x-requested-by", "gate")]),
        ("bearer", [("authorization", "Bearer dose-token"), ("x-trino-user", "svc")]),
        ("header", [("x-clickhouse-key", "dose word"), ("x-clickhouse-user", "svc")]),
        ("own-word", [("authorization", "token dose"), ("x-trino-user", "client")]),
        ("none", [("authorization", "token own"), ("x-requested-by", "gate")]),
    ] {
        let mut asked = request("GET", &format!("/app-proxy/studio/{id}"), "", "");
        // The session comes by cookie, so that the client's own credential could go on.
        let cookie = format!("embedgate={}", session(KEY, id, None, 0)?);
        for (name, value) in FORGED.into_iter().chain([("cookie", &*cookie), ("authorization", "token own")]) {
            asked.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        let answer = gateway.ask(asked).await?;
        ensure!(answer.status == 200, "{id}: {answer:?}");
        let seen = app.seen(&format!("/{id}")).pop().context("nothing came")?;
        for (name, value) in expected {
            let values: Vec<_> = seen.headers.get_all(name).iter().collect();
            assert_eq!(values, [value], "{id}: {name}");
        }
        let is_ours = expected.iter().any(|(name, _)| *name == "x-requested-by");
        ensure!(!(is_ours && seen.headers.contains_key("x_requested_by")), "{id}: the underscore form came through");
        ensure!(id != "header" || !seen.headers.contains_key("authorization"), "{id}: {seen:?}");
    }
    let log = gateway.stop().await?;
    ensure!(!log.contains("dose"), "a secret is in the log:\n{log}");
    Ok(())
}

#[tokio::test]
async fn secrets_in_files_are_read_again_when_they_change() -> Result<()> {
    let app = App::start("welcome").await?;
    let directory: String = KINDS.map(|(id, lines)| org(id, lines, "http://127.0.0.1:9", &app.url())).concat();
    let (installation, _keys) = installation(&directory)?;
    installation.write("password", "first")?;
    installation.write("token", "first")?;
    installation.write("jupyter", "first")?;
    let gateway = installation.serve().await?;
    let ask = async |org: &str| -> Result<Vec<String>> {
        gateway.get_until(200, &format!("/app-proxy/studio/{org}"), &session(KEY, org, None, 0)?).await?;
        let seen = app.seen(&format!("/{org}")).pop().context("nothing came")?;
        let texts = ["authorization", "x-clickhouse-key"].map(|name| seen.headers.get(name).cloned());
        Ok(texts.into_iter().flatten().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect())
    };
    assert_eq!(ask("bearer").await?, ["Bearer first"]);
    assert_eq!(ask("header").await?, ["first"]);
    // One in place, one by renaming as mounted secrets change.
    installation.write("token", "the-second")?;
    installation.replace("password", "other")?;
    for (org, value) in [("bearer", "Bearer the-second"), ("header", "other"), ("basic", "Basic c3ZjOm90aGVy")] {
        let changed = until(PATIENCE, async || Ok((ask(org).await? == [value]).then_some(())));
        changed.await?.with_context(|| format!("{org} keeps the old secret"))?;
    }
    gateway.stop().await?;
    Ok(())
}
