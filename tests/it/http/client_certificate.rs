//! TLS to upstreams: what the gateway proves itself with, to whom it does not, and whom it trusts.

use crate::harness::gateway::{Builder, Gateway, org, org_with};
use crate::harness::installation::{Installation, KEY, LOCAL, org as installed, session};
use crate::harness::raw::{Message, ok};
use crate::harness::tls::{Authority, TlsUpstream};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;

/// An authority with certificates for an upstream and for the gateway.
fn authority() -> Result<Authority> {
    let authority = Authority::new()?;
    authority.issue("upstream", "IP:127.0.0.1", 2)?;
    authority.issue("client", "DNS:embedgate.example", 2)?;
    Ok(authority)
}

/// A gateway before it runs, with this directory of https upstreams.
fn builder(authority: &Authority, directory: &str) -> Builder {
    Builder::new(directory.replace("http://", "https://")).set("upstreams.ca_file", &authority.toml("ca.crt"))
}

/// The same with a certificate of its own.
fn proving(authority: &Authority, directory: &str) -> Builder {
    builder(authority, directory)
        .set("upstreams.client_cert", &authority.toml("client.crt"))
        .set("upstreams.client_key", &authority.toml("client.key"))
}

/// Asks acme's app for a path, without a connection that stays.
async fn get(gateway: &Gateway, path: &str) -> Result<Message> {
    let mut client = gateway.connect().await?;
    let token = gateway.session("acme")?;
    let host = "editor--acme.apps.localhost";
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
    client.answer().await
}

/// An answer after which the upstream's connection is not used again.
fn last(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn an_upstream_that_demands_a_certificate_is_shown_ours() -> Result<()> {
    let authority = authority()?;
    let upstream = TlsUpstream::start(&authority, "upstream", true, |_| ok("you are known")).await?;
    let directory = org("acme", &[("editor", upstream.address)]);
    let without = builder(&authority, &directory).start().await?;
    let refused = get(&without, "/").await?;
    ensure!(refused.status() == 502 && upstream.seen().is_empty(), "{refused:?}");

    let gateway = proving(&authority, &directory).start().await?;
    let answer = get(&gateway, "/").await?;
    ensure!(answer.text() == "you are known", "{answer:?}");
    let shown = upstream.seen().pop().context("no request")?;
    ensure!(shown.certificate == Some(authority.certificate("client")?));
    let left = async || gateway.metric("embedgate_certificate_expiry_seconds{shown_to=\"upstreams\"}").await;
    let two_days = async || Ok((170_000.0..=172_800.0).contains(&left().await?).then_some(()));
    until(PATIENCE, two_days).await?.context("its end is not told")
}

#[tokio::test]
async fn a_changed_certificate_is_shown_on_new_connections() -> Result<()> {
    let authority = authority()?;
    let upstream = TlsUpstream::start(&authority, "upstream", true, |_| last("hi")).await?;
    let gateway = proving(&authority, &org("acme", &[("editor", upstream.address)])).start().await?;
    let shown = async || {
        let answer = get(&gateway, "/").await?;
        ensure!(answer.text() == "hi", "{answer:?}");
        upstream.seen().pop().and_then(|shown| shown.certificate).context("no certificate")
    };
    ensure!(shown().await? == authority.certificate("client")?);
    authority.issue("client", "DNS:embedgate.example", 3)?;
    let new = authority.certificate("client")?;
    until(PATIENCE, async || Ok((shown().await? == new).then_some(()))).await?.context("the old one stays")
}

#[tokio::test]
async fn issuers_of_tokens_are_never_shown_it() -> Result<()> {
    let authority = authority()?;
    let token = r#"{"access_token":"minted","token_type":"Bearer","expires_in":3600}"#;
    let respond = move |request: &Message| match request.start.as_str() {
        start if start.starts_with("POST ") => ok(token),
        _ => ok(request.field("Authorization").unwrap_or("nobody")),
    };
    // It asks everybody and lets in those without, too.
    let upstream = TlsUpstream::start(&authority, "upstream", false, respond).await?;
    let principal = "kind = \"databricks\"\nclient_id = \"c\"\nclient_secret = \"s\"";
    let directory = org_with("acme", &[("editor", upstream.address)], principal);
    let gateway = proving(&authority, &directory).start().await?;
    let answer = get(&gateway, "/app").await?;
    ensure!(answer.text() == "Bearer minted", "{answer:?}");
    let seen = upstream.seen();
    let by_kind = |is_app: bool| seen.iter().filter(move |shown| (shown.target == "/app") == is_app);
    ensure!(by_kind(true).count() == 1 && by_kind(true).all(|shown| shown.certificate.is_some()), "{seen:?}");
    ensure!(by_kind(false).count() == 1 && by_kind(false).all(|shown| shown.certificate.is_none()), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn roots_are_read_again_and_bad_ones_refused() -> Result<()> {
    let (authority, other) = (authority()?, Authority::new()?);
    let upstream = TlsUpstream::start(&authority, "upstream", false, |_| last("hi")).await?;
    let mut installation = Installation::new(LOCAL, &installed("acme", &format!("https://{}", upstream.address)))?;
    installation.set("EMBEDGATE__UPSTREAMS__CA_FILE", "roots.pem");
    let pem = |authority: &Authority| std::fs::read_to_string(authority.path("ca.crt"));
    installation.write("roots.pem", &pem(&other)?)?;
    let mut gateway = installation.serve().await?;
    let session = session(KEY, "acme", None, 0)?;
    let path = "/app-proxy/studio/";
    ensure!(gateway.get(path, &session).await?.status == 502, "nobody has vouched for it");
    installation.replace("roots.pem", &pem(&authority)?)?;
    gateway.get_until(200, path, &session).await?;
    installation.replace("roots.pem", "-----BEGIN CERTIFICATE-----\nYmFk\n-----END CERTIFICATE-----\n")?;
    let line = gateway.wait_for_log("the roots are refused; the ones before stay in use").await?;
    ensure!(line.contains("roots.pem") && line.contains("\"key\":\"upstreams.ca_file\""), "{line}");
    ensure!(gateway.get(path, &session).await?.status == 200, "the ones before are gone");
    installation.replace("roots.pem", &pem(&other)?)?;
    gateway.get_until(502, path, &session).await.context("who is not trusted any more still is").map(drop)
}

/// Principals with certificates of their own: ann's, bob's, and the one of everybody else, who has none.
fn principals(authority: &Authority, upstream: SocketAddr) -> String {
    let own = |id: &str, kind: &str| {
        format!(
            "[[org.principal]]\nid = \"{id}\"\n{kind}\nusers = [\"{id}@x\"]\nclient_cert = {{ file = {} }}\n\
             client_key = {{ file = {} }}\n",
            authority.toml(&format!("{id}.crt")),
            authority.toml(&format!("{id}.key")),
        )
    };
    let directory = org_with("acme", &[("editor", upstream)], "kind = \"none\"");
    let (head, app) = directory.split_once("[[org.app]]").expect("there is an app");
    let (ann, bob) = (own("ann", "kind = \"mtls\""), own("bob", "kind = \"bearer\"\ntoken = \"bobs\""));
    format!("{head}{ann}{bob}[[org.app]]{app}")
}

#[tokio::test]
async fn principals_show_certificates_of_their_own_on_connections_of_their_own() -> Result<()> {
    let authority = authority()?;
    for name in ["ann", "bob"] {
        authority.issue(name, &format!("DNS:{name}.example"), 2)?;
    }
    let respond = |request: &Message| ok(request.field("Authorization").unwrap_or("nothing"));
    let upstream = TlsUpstream::start(&authority, "upstream", false, respond).await?;
    let gateway = proving(&authority, &principals(&authority, upstream.address)).start().await?;
    let get = async |user: &str, index: usize| {
        let mut client = gateway.connect().await?;
        let cookie = gateway.token("acme", user, &format!("{user}@x"), None, 60)?;
        let head = format!("GET /{user} HTTP/1.1\r\nHost: editor--acme.apps.localhost\r\nX-Index: {index}");
        client.send(format!("{head}\r\nCookie: embedgate={cookie}\r\nAuthorization: own\r\n\r\n")).await?;
        let answer = client.answer().await?;
        // A certificate is a credential, beside which the client's own does not go on.
        let expected = match user {
            "ann" => "nothing",
            "bob" => "Bearer bobs",
            _ => "own",
        };
        ensure!(answer.text() == expected, "{user}: {answer:?}");
        Ok(())
    };
    // In turns, so that each finds connections of the others.
    for round in 0..4 {
        for user in ["ann", "bob", "eve"] {
            get(user, round).await?;
        }
    }
    let seen = upstream.seen();
    ensure!(seen.len() == 12, "{seen:?}");
    for shown in seen {
        let name = if shown.target == "/eve" { "client" } else { &shown.target[1..] };
        ensure!(shown.certificate == Some(authority.certificate(name)?), "{} is shown another's", shown.target);
    }
    // The connections were kept: each identity needed one.
    gateway.expect_metric("embedgate_upstream_connections_total{result=\"opened\"}", 3.0).await?;

    // A certificate that is replaced is shown on a new connection.
    authority.issue("ann", "DNS:ann.example", 3)?;
    gateway.publish(&principals(&authority, upstream.address).replace("http://", "https://"))?;
    get("ann", 9).await?;
    let shown = upstream.seen().pop().and_then(|shown| shown.certificate);
    ensure!(shown == Some(authority.certificate("ann")?), "the certificate before is shown");
    Ok(())
}

#[tokio::test]
async fn a_principal_with_a_certificate_is_not_sent_in_the_clear() -> Result<()> {
    let authority = authority()?;
    authority.issue("ann", "DNS:ann.example", 2)?;
    authority.issue("bob", "DNS:bob.example", 2)?;
    let upstream = TlsUpstream::start(&authority, "upstream", false, |_| ok("hi")).await?;
    let gateway = Builder::new(principals(&authority, upstream.address)).start().await?;
    let mut client = gateway.connect().await?;
    let token = gateway.token("acme", "ann", "ann@x", None, 60)?;
    let host = "editor--acme.apps.localhost";
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 502 && upstream.seen().is_empty(), "{answer:?}");
    gateway.log_line(|line| line.contains("the upstream's address is plain http")).await?;
    Ok(())
}
