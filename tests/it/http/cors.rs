//! Pages of front ends call an app's API: the preflight is answered for them, the rest is between them and the app.

use super::{HOST, Site};
use crate::harness::raw::{Message, ok};
use anyhow::{Result, ensure};

const FRONT: &str = "https://front.example";
const ASK: &str = "Access-Control-Request-Method: PUT\r\n";

async fn site() -> Result<Site> {
    Site::of_app("host = 'keep'", &[("embedding.frontend_origins", &format!("['{FRONT}']"))]).await
}

async fn ask(site: &Site, host: &str, target: &str, fields: &str) -> Result<Message> {
    site.refused(format!("OPTIONS {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await
}

#[tokio::test]
async fn a_front_ends_preflight_for_an_app_is_answered() -> Result<()> {
    let site = site().await?;
    for (host, target) in [(HOST, "/api/x?y"), ("localhost", "/app-proxy/editor/api"), ("localhost", "/app-proxy/no/")]
    {
        let names = "Access-Control-Request-Headers: content-type,x-mine\r\n";
        let answer = ask(&site, host, target, &format!("Origin: {FRONT}\r\n{ASK}{names}")).await?;
        ensure!(answer.status() == 204, "{target}: {answer:?}");
        for (name, value) in [
            ("Access-Control-Allow-Origin", FRONT),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", "PUT"),
            ("Access-Control-Allow-Headers", "content-type,x-mine"),
            ("Access-Control-Max-Age", "600"),
            ("Vary", "Origin"),
        ] {
            ensure!(answer.field(name) == Some(value), "{name}: {answer:?}");
        }
        let answer = ask(&site, host, target, &format!("Origin: {FRONT}\r\n{ASK}")).await?;
        ensure!(answer.status() == 204 && !answer.has("Access-Control-Allow-Headers"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_elses_preflight_is_and_nothing_but_preflights() -> Result<()> {
    let site = site().await?;
    for fields in [
        format!("Origin: https://evil.example\r\n{ASK}"),
        format!("Origin: {FRONT}\r\nOrigin: {FRONT}\r\n{ASK}"),
        format!("Origin: null\r\n{ASK}"),
        ASK.to_owned(),
        format!("Origin: {FRONT}\r\n"),
        format!("Origin: {FRONT}\r\n{ASK}{ASK}"),
        format!("Origin: {FRONT}\r\n{ASK}Access-Control-Request-Headers: a\u{e9}\r\n"),
    ] {
        let answer = ask(&site, HOST, "/", &fields).await?;
        ensure!(answer.status() == 401 && !answer.has("Access-Control-Allow-Origin"), "{fields}: {answer:?}");
    }
    let get = site.refused(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {FRONT}\r\n{ASK}\r\n")).await?;
    ensure!(get.status() == 401, "{get:?}");
    let sql = ask(&site, "localhost", "/api/2.0/sql/statements", &format!("Origin: {FRONT}\r\n{ASK}")).await?;
    ensure!(sql.status() == 401, "SQL is no app: {sql:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_page_may_read_of_an_app_the_app_says() -> Result<()> {
    let site = site().await?;
    let cookie = format!("Cookie: embedgate={}\r\nOrigin: {FRONT}\r\n", site.token);
    let put = format!("PUT /api HTTP/1.1\r\nHost: {HOST}\r\n{cookie}Content-Length: 0\r\n\r\n");
    let (request, answer) = site.exchange(&put, ok("")).await?;
    ensure!(request.field("Origin") == Some(FRONT), "{request:?}");
    ensure!(!answer.has("Access-Control-Allow-Origin"), "{answer:?}");
    let allows = format!("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: {FRONT}\r\nContent-Length: 0\r\n\r\n");
    let (_, answer) = site.exchange(&put, allows).await?;
    ensure!(answer.field("Access-Control-Allow-Origin") == Some(FRONT), "{answer:?}");
    // A program that has a session asks the app itself.
    let own = site.head("OPTIONS /", &format!("Origin: {FRONT}\r\n{ASK}"));
    let (request, _) = site.exchange(own, ok("")).await?;
    ensure!(request.start == "OPTIONS / HTTP/1.1" && request.has("Access-Control-Request-Method"), "{request:?}");
    Ok(())
}
