//! Which protocol is spoken, agreed on in the TLS handshake.

use super::{HOST, Site};
use crate::harness::PATIENCE;
use crate::harness::h2::{over, request};
use crate::harness::tls::Authority;
use anyhow::{Context as _, Result, ensure};
use http::Method;
use rustls::{ALL_VERSIONS, ClientConfig};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A gateway that speaks TLS, and who has signed its certificate.
async fn site(http2: &str) -> Result<(Site, Authority)> {
    let authority = Authority::new()?;
    authority.issue("tls", &format!("DNS:{HOST}"), 2)?;
    let settings = [
        ("server.tls.cert", &*authority.toml("tls.crt")),
        ("server.tls.key", &*authority.toml("tls.key")),
        ("server.http2", http2),
    ];
    Ok((Site::with(&settings).await?, authority))
}

/// A TLS connection of a client that offers these protocols.
async fn connect(site: &Site, authority: &Authority, offer: &[&str]) -> Result<TlsStream<TcpStream>> {
    let mut config = ClientConfig::clone(&*authority.client(ALL_VERSIONS)?);
    config.alpn_protocols = offer.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(site.gateway.address).await?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST)?, tcp);
    Ok(timeout(PATIENCE, connecting).await.context("no handshake")??)
}

/// The first line of the answer to a request of HTTP/1.1.
async fn ask_http11(mut tls: TlsStream<TcpStream>) -> Result<String> {
    tls.write_all(format!("GET /.embedgate/healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    timeout(PATIENCE, tls.read_to_string(&mut answer)).await.context("no answer")??;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn clients_get_the_best_protocol_that_they_offer() -> Result<()> {
    let (site, authority) = site("true").await?;
    let tls = connect(&site, &authority, &["h2", "http/1.1"]).await?;
    ensure!(tls.get_ref().1.alpn_protocol() == Some(&b"h2"[..]));
    let (mut client, _driver) = over(tls).await?;
    let mut health = client.ask(request(Method::GET, HOST, "/.embedgate/healthz").body(())?).await?;
    ensure!(health.status == 200, "{health:?}");
    health.rest().await?;
    let asked = client.begin(site.ask_for("/")?, true).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send(crate::harness::raw::ok("served")).await?;
    ensure!(asked.answer().await?.text().await? == "served");

    for offer in [&["http/1.1"][..], &["http/1.0"], &[]] {
        let tls = connect(&site, &authority, offer).await?;
        ensure!(tls.get_ref().1.alpn_protocol() == offer.first().map(|name| name.as_bytes()));
        ensure!(ask_http11(tls).await? == "HTTP/1.1 200 OK", "{offer:?}");
    }
    ensure!(connect(&site, &authority, &["h3"]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn http_2_is_not_spoken_where_it_was_not_agreed_on() -> Result<()> {
    let (site, authority) = site("true").await?;
    let mut tls = connect(&site, &authority, &["http/1.1"]).await?;
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(PATIENCE, tls.read_to_string(&mut answer)).await.context("no answer")??;
    ensure!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    Ok(())
}

#[tokio::test]
async fn it_can_be_switched_off() -> Result<()> {
    let (site, authority) = site("false").await?;
    let tls = connect(&site, &authority, &["h2", "http/1.1"]).await?;
    ensure!(tls.get_ref().1.alpn_protocol() == Some(&b"http/1.1"[..]));
    ensure!(ask_http11(tls).await? == "HTTP/1.1 200 OK");
    Ok(())
}
