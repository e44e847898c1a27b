//! Firebolt's answers name the host that the client goes to next, which has to stay behind the gateway.

use super::{HOST, Site, engine};
use crate::harness::gateway::{Builder, org};
use crate::harness::raw::{Message, Upstream};
use anyhow::{Result, ensure};

/// Two engines of the organisation, at hosts of their own. Requests go to the first one.
async fn two(id: &str, dialect: &str) -> Result<Site> {
    let upstream = Upstream::start()?;
    let at = upstream.address();
    let keys = format!("dialect = '{dialect}'");
    let other = format!("[[org.engine]]\nid = 'other'\nurl = 'http://other.localhost:1'\n{keys}\n");
    let theirs =
        org("globex", &[]) + "[[org.engine]]\nid = 'theirs'\nurl = 'http://theirs.localhost'\ndialect = 'firebolt'\n";
    let directory = org("acme", &[("editor", at), ("app", at)]) + &engine(id, at, "", &keys) + &other;
    let shared = "[[org.engine]]\nid = 'app'\nurl = 'http://shared.localhost'\ndialect = 'firebolt'\n";
    let allowed = r#"["127.0.0.1", "localhost"]"#;
    let gateway = Builder::new(directory + shared + &theirs).set("upstreams.allowed_domains", allowed).start().await?;
    Ok(Site { token: gateway.session("acme")?, gateway, engine: upstream })
}

/// What the client gets of an answer that leads to `endpoint`.
async fn led(site: &Site, host: &str, line: &str, endpoint: &str) -> Result<Message> {
    let fields = format!("Firebolt-Update-Endpoint: {endpoint}\r\nFirebolt-Update-Parameters: database=x\r\n");
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\n{{}}");
    let (_, answer) = site.exchange(site.call_at(host, line, "", "use engine x"), answer).await?;
    ensure!(answer.status() == 200 && answer.field("Firebolt-Update-Parameters") == Some("database=x"), "{answer:?}");
    Ok(answer)
}

#[tokio::test]
async fn the_next_engine_is_behind_the_gateway_too() -> Result<()> {
    let site = two("sql", "firebolt").await?;
    let port = site.engine.address().port();
    for (host, line) in [(HOST, "POST /"), ("localhost", "POST /engine/sql/")] {
        for (endpoint, outside) in [
            ("127.0.0.1?engine=x&database=y".to_owned(), "sql--acme.apps.localhost?engine=x&database=y"),
            (format!("https://127.0.0.1:{port}/?engine=x"), "sql--acme.apps.localhost/?engine=x"),
            ("Other.localhost".to_owned(), "other--acme.apps.localhost"),
            (
                "https://other.localhost/dynamic/query?engine=y".to_owned(),
                "other--acme.apps.localhost/dynamic/query?engine=y",
            ),
        ] {
            let answer = led(&site, host, line, &endpoint).await?;
            ensure!(answer.field("Firebolt-Update-Endpoint") == Some(outside), "{endpoint}: {answer:?}");
        }
    }
    let answer = led(&site, &format!("{HOST}:8443"), "POST /", "other.localhost?a=b").await?;
    ensure!(answer.field("Firebolt-Update-Endpoint") == Some("other--acme.apps.localhost:8443?a=b"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_is_never_led_away() -> Result<()> {
    let site = two("sql", "firebolt").await?;
    for endpoint in [
        "evil.example?engine=x",
        "https://evil.example",
        "//evil.example",
        "other.localhost.evil.example",
        "other.localhost@evil.example",
        "other.localhost:2",
        "other.localhost#x",
        "other.localhost\\x",
        // Another organisation's, and one whose host an app has.
        "theirs.localhost",
        "shared.localhost",
        "",
    ] {
        let answer = led(&site, HOST, "POST /", endpoint).await?;
        ensure!(!answer.has("Firebolt-Update-Endpoint"), "{endpoint}: {answer:?}");
    }
    let twice = "other.localhost\r\nFirebolt-Update-Endpoint: other.localhost";
    ensure!(!led(&site, HOST, "POST /", twice).await?.has("Firebolt-Update-Endpoint"), "two are one too many");
    // No host name has capitals, so this engine has none of its own.
    let site = two("SQL", "firebolt").await?;
    let answer = led(&site, "localhost", "POST /engine/SQL/", "127.0.0.1").await?;
    ensure!(!answer.has("Firebolt-Update-Endpoint"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn to_others_the_field_means_nothing() -> Result<()> {
    let site = two("sql", "generic").await?;
    let answer = led(&site, HOST, "POST /", "evil.example?engine=x").await?;
    ensure!(answer.field("Firebolt-Update-Endpoint") == Some("evil.example?engine=x"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn the_engine_of_an_account_is_found_behind_the_gateway() -> Result<()> {
    let site = two("sql", "firebolt").await?;
    let line = "GET /engine/sql/web/v3/account/acme/engineUrl?x=y";
    let json = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let told = json("200 OK", r#"{"engineUrl":"other.localhost/query?account_id=1","more":[1]}"#);
    let (request, answer) = site.exchange(site.call(line, "User-Agent: sdk/1\r\n", ""), told).await?;
    ensure!(request.target() == "/web/v3/account/acme/engineUrl?x=y", "{request:?}");
    ensure!(request.field("Authorization") == Some("Bearer acme-bearer"), "{request:?}");
    ensure!(request.field("User-Agent") == Some("sdk/1"), "{request:?}");
    let document: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let outside = "other--acme.apps.localhost/query?account_id=1";
    ensure!(document == serde_json::json!({"engineUrl": outside, "more": [1]}), "{answer:?}");

    let away = json("200 OK", r#"{"engineUrl":"evil.example"}"#);
    let (_, answer) = site.exchange(site.call(line, "", ""), away).await?;
    ensure!(answer.status() == 404 && !answer.text().contains("evil"), "{answer:?}");
    for (told, status) in [(json("404 Not Found", r#"{"error":"no account"}"#), 404), (json("200 OK", "[]"), 502)] {
        let (_, answer) = site.exchange(site.call(line, "", ""), told).await?;
        ensure!(answer.status() == status, "{answer:?}");
    }
    Ok(())
}
