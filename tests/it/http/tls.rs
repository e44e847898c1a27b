//! TLS on the data listener: which certificate is shown to whom, what happens when files change, and resumption.

use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::installation::{Installation, LOCAL};
use crate::harness::tls::{Authority, Seen, ask};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, bail, ensure};
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, HandshakeKind};
use std::net::SocketAddr;

const HEALTH: &str = "GET /.embedgate/healthz HTTP/1.1\r\nHost: gate.example\r\nConnection: close\r\n\r\n";

/// A default certificate, one for two names, one with a wildcard, and one that has a name of both and no other.
fn authority() -> Result<Authority> {
    let authority = Authority::new()?;
    authority.issue("default", "DNS:gate.example,IP:127.0.0.1", 2)?;
    authority.issue("two", "DNS:One.example,DNS:two.example", 2)?;
    authority.issue("wild", "DNS:*.apps.example", 2)?;
    authority.issue("exact", "DNS:special.apps.example,DNS:two.example", 2)?;
    Ok(authority)
}

/// The keys that name all of these.
fn keys(authority: &Authority) -> [(&'static str, String); 3] {
    let pair = |name: &str| {
        let file = |end: &str| authority.toml(&format!("{name}.{end}"));
        format!("{{ cert = {}, key = {} }}", file("crt"), file("key"))
    };
    [
        ("server.tls.cert", authority.toml("default.crt")),
        ("server.tls.key", authority.toml("default.key")),
        ("server.tls.certificates", format!("[{}, {}, {}]", pair("two"), pair("wild"), pair("exact"))),
    ]
}

async fn gateway(authority: &Authority, more: &[(&str, &str)]) -> Result<Gateway> {
    let builder = Builder::new(org("acme", &[]));
    let builder = keys(authority).iter().fold(builder, |builder, (key, value)| builder.set(key, value));
    more.iter().fold(builder, |builder, (key, value)| builder.set(key, value)).start().await
}

/// Asks whether the gateway is healthy, over a connection for this name.
async fn health(authority: &Authority, address: SocketAddr, name: &str) -> Result<Seen> {
    let seen = ask(address, &authority.client(ALL_VERSIONS)?, name, b"", HEALTH).await?;
    ensure!(seen.answer.starts_with("HTTP/1.1 200 "), "{seen:?}");
    Ok(seen)
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() -> Result<()> {
    let authority = authority()?;
    let gateway = gateway(&authority, &[]).await?;
    for (name, expected) in [
        ("gate.example", "default"),
        ("one.example", "two"),
        ("TWO.example", "two"),
        ("editor--acme.apps.example", "wild"),
        ("Special.apps.example", "exact"),
        ("a.b.apps.example", "default"),
        ("apps.example", "default"),
        ("unknown.example", "default"),
        // No name at all.
        ("127.0.0.1", "default"),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = authority.client(&[version])?;
            let seen = ask(gateway.address, &client, name, b"", HEALTH).await.with_context(|| name.to_owned())?;
            ensure!(seen.certificate == authority.certificate(expected)?, "{name} is not shown {expected}");
            ensure!(seen.answer.starts_with("HTTP/1.1 200 "), "{seen:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn strict_refuses_names_that_no_certificate_has() -> Result<()> {
    let authority = authority()?;
    let gateway = gateway(&authority, &[("server.tls.strict_sni", "true")]).await?;
    for (name, expected) in [("gate.example", "default"), ("x.apps.example", "wild")] {
        let seen = health(&authority, gateway.address, name).await?;
        ensure!(seen.certificate == authority.certificate(expected)?, "{name} is not shown {expected}");
    }
    for name in ["unknown.example", "a.b.apps.example", "127.0.0.1"] {
        for version in [&TLS12, &TLS13] {
            let refused = ask(gateway.address, &authority.client(&[version])?, name, b"", HEALTH).await;
            let Err(error) = refused else { bail!("{name} is served") };
            ensure!(format!("{error:?}").contains("UnrecognisedName"), "{name}: {error:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn sessions_are_resumed_by_every_instance_that_has_the_key() -> Result<()> {
    let authority = authority()?;
    let (old, new) = ("ab".repeat(32), "cd".repeat(32));
    for (name, key) in [("old", &old), ("new", &new), ("changing", &old)] {
        std::fs::write(authority.path(name), key)?;
    }
    let with = async |names: &[&str]| {
        let keys: Vec<_> = names.iter().map(|name| format!("{{ file = {} }}", authority.toml(name))).collect();
        gateway(&authority, &[("server.tls.ticket_keys", &format!("[{}]", keys.join(", ")))]).await
    };
    let (first, both, other, changing) =
        (with(&["old"]).await?, with(&["new", "old"]).await?, with(&["new"]).await?, with(&["changing"]).await?);
    for version in [&TLS12, &TLS13] {
        // Each of them begins with what `first` has given it alone.
        for (second, expected) in
            [(&first, HandshakeKind::Resumed), (&both, HandshakeKind::Resumed), (&other, HandshakeKind::Full)]
        {
            let client = authority.client(&[version])?;
            ensure!(ask(first.address, &client, "one.example", b"", HEALTH).await?.kind == HandshakeKind::Full);
            let seen = ask(second.address, &client, "one.example", b"", HEALTH).await?;
            ensure!(seen.kind == expected, "{version:?}: {seen:?}");
        }
    }
    // A key that is taken away opens nothing any more.
    std::fs::write(authority.path("changing"), &new)?;
    let gone = until(PATIENCE, async || {
        let client = authority.client(&[&TLS13])?;
        ask(first.address, &client, "one.example", b"", HEALTH).await?;
        let seen = ask(changing.address, &client, "one.example", b"", HEALTH).await?;
        Ok((seen.kind == HandshakeKind::Full).then_some(()))
    });
    gone.await?.context("the key stays")
}

#[tokio::test]
async fn sessions_are_resumed_on_any_worker() -> Result<()> {
    let authority = authority()?;
    let gateway = gateway(&authority, &[("server.workers", "2")]).await?;
    for version in [&TLS12, &TLS13] {
        let client = authority.client(&[version])?;
        let mut kinds = Vec::new();
        for _ in 0..8 {
            kinds.push(ask(gateway.address, &client, "one.example", b"", HEALTH).await?.kind);
        }
        let (first, others) = kinds.split_first().context("none")?;
        ensure!(*first == HandshakeKind::Full, "{kinds:?}");
        ensure!(others.iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
        // Not for another name, which may have another certificate.
        let other = ask(gateway.address, &client, "gate.example", b"", HEALTH).await?;
        ensure!(other.kind == HandshakeKind::Full, "{other:?}");
    }
    Ok(())
}

/// Waits until the gateway shows the certificate that is in the files of `expected` to who asks for `name`.
async fn shows(authority: &Authority, address: SocketAddr, name: &str, expected: &str) -> Result<()> {
    let expected = authority.certificate(expected)?;
    let shown = async || {
        let seen = health(authority, address, name).await?;
        Ok((seen.certificate == expected).then_some(()))
    };
    until(PATIENCE, shown).await?.with_context(|| format!("the new certificate is never shown for {name}"))
}

#[tokio::test]
async fn changed_files_are_taken_over_one_by_one() -> Result<()> {
    let authority = authority()?;
    let [(_, cert), (_, key), (_, certificates)] = keys(&authority);
    let tls = format!("[server.tls]\ncert = {cert}\nkey = {key}\ncertificates = {certificates}\n");
    let installation = Installation::new(&format!("{LOCAL}{tls}"), "")?;
    let mut gateway = installation.serve().await?;
    let before = health(&authority, gateway.data, "x.apps.example").await?.certificate;

    // Bad, and one that is good and has another name.
    std::fs::write(authority.path("wild.crt"), "no certificate")?;
    authority.issue("two", "DNS:three.example", 2)?;
    shows(&authority, gateway.data, "three.example", "two").await?;
    shows(&authority, gateway.data, "one.example", "default").await?;
    let line = gateway.wait_for_log("a certificate is refused; the one before stays in use").await?;
    ensure!(line.contains("wild.crt") && line.contains("\"level\":\"ERROR\""), "{line}");
    ensure!(health(&authority, gateway.data, "x.apps.example").await?.certificate == before);

    // Good again, but with another's key; then with its own.
    authority.issue("wild", "DNS:*.apps.example", 2)?;
    let own = std::fs::read(authority.path("wild.key"))?;
    std::fs::copy(authority.path("exact.key"), authority.path("wild.key"))?;
    gateway.wait_for_log("KeyMismatch").await?;
    std::fs::write(authority.path("wild.key"), own)?;
    shows(&authority, gateway.data, "x.apps.example", "wild").await?;

    authority.issue("default", "DNS:gate.example", 2)?;
    shows(&authority, gateway.data, "unknown.example", "default").await?;
    let output = gateway.stop().await?;
    ensure!(!output.contains("PRIVATE"), "a key in the log");
    Ok(())
}

#[tokio::test]
async fn the_end_of_certificates_is_told() -> Result<()> {
    let authority = Authority::new()?;
    authority.issue("default", "DNS:gate.example", 30)?;
    authority.issue("two", "DNS:two.example", 13)?;
    authority.issue("wild", "DNS:*.apps.example", -1)?;
    authority.issue("exact", "DNS:exact.example", 15)?;
    let [(_, cert), (_, key), (_, certificates)] = keys(&authority);
    let tls = format!("[server.tls]\ncert = {cert}\nkey = {key}\ncertificates = {certificates}\n");
    let installation = Installation::new(&format!("{LOCAL}{tls}"), "")?;
    let mut gateway = installation.serve().await?;
    let soon = gateway.wait_for_log("a certificate ends soon").await?;
    ensure!(soon.contains("two.crt") && soon.contains("\"level\":\"WARN\""), "{soon}");
    let ended = gateway.wait_for_log("a certificate has ended").await?;
    ensure!(ended.contains("wild.crt"), "{ended}");
    gateway.wait_for_metric("embedgate_certificate_expiry_seconds{shown_to=\"clients\"}", -100_000.0).await?;
    let left = gateway.metric("embedgate_certificate_expiry_seconds{shown_to=\"clients\"}").await?;
    ensure!((-87_000.0..=-86_000.0).contains(&left), "{left}");
    let output = gateway.stop().await?;
    ensure!(!output.contains("exact.crt") && output.matches("a certificate ends soon").count() == 1, "{output}");
    Ok(())
}

#[tokio::test]
async fn the_first_end_counts_as_time_goes_on() -> Result<()> {
    let authority = authority()?;
    let gateway = gateway(&authority, &[]).await?;
    let left = async || gateway.metric("embedgate_certificate_expiry_seconds{shown_to=\"clients\"}").await;
    let is_between = async |low: f64, high: f64| {
        let reached = until(PATIENCE, async || Ok((low..high).contains(&left().await?).then_some(()))).await?;
        reached.with_context(|| format!("not between {low} and {high}"))
    };
    is_between(100_000.0, 172_801.0).await?;
    gateway.clock.turn(3 * 86_400);
    is_between(-87_000.0, -1.0).await
}
