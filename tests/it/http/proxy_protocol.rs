//! The PROXY protocol: whom a connection belongs to when a load balancer says so, and who may say it.

use super::Site;
use crate::harness::raw::ok;
use crate::harness::tls::{Authority, ask};
use anyhow::{Context as _, Result, ensure};
use rustls::ALL_VERSIONS;

const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const ERRORS: &str = "embedgate_proxy_protocol_errors_total";

/// A header of version 2.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &length, block].concat()
}

/// The addresses of a client and of a load balancer, and their ports.
const V4: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 1, 0xbb];

/// What adds a checksum to a header with these addresses, and nothing else.
const CHECKSUM: [u8; 7] = [3, 0, 4, 0x81, 0xfc, 0x94, 0x8f];

fn v6() -> [u8; 36] {
    let mut block = [0; 36];
    block[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    block[15] = 7;
    block[31] = 1;
    block
}

/// A gateway that takes PROXY headers from this machine.
async fn site(more: &[(&str, &str)]) -> Result<Site> {
    let mut settings = vec![("server.proxy_protocol", "true"), ("server.trusted_proxies", "['127.0.0.1']")];
    settings.extend(more);
    Site::with(&settings).await
}

#[tokio::test]
async fn the_client_is_who_the_header_says() -> Result<()> {
    let site = site(&[]).await?;
    let with_tlvs = [&V4[..], &[0xea, 0, 3, 1, 2, 3], &[4, 0x01, 0x29], &[4; 0x129]].concat();
    let cases = [
        (LINE.to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:203.0.113.8 ::1 1 2\r\n".to_vec(), "203.0.113.8"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &V4), "203.0.113.9"),
        (v2(0x21, 0x11, &with_tlvs), "203.0.113.9"),
        (v2(0x21, 0x11, &[&V4[..], &CHECKSUM].concat()), "203.0.113.9"),
        (v2(0x21, 0x21, &v6()), "2001:db8::7"),
        (v2(0x20, 0x11, &V4), "127.0.0.1"),
        (v2(0x20, 0, &[]), "127.0.0.1"),
    ];
    for (number, (header, expected)) in cases.into_iter().enumerate() {
        let target = format!("/{number}");
        let (request, answer) = site.exchange([header, site.get(&target).into()].concat(), ok("hi")).await?;
        ensure!(answer.text() == "hi", "{answer:?}");
        ensure!(request.field("X-Forwarded-For") == Some(expected), "{expected}: {request:?}");
        let line = site.gateway.log_line(|line| line.contains(&format!("\"{target}\""))).await?;
        ensure!(line.contains(&format!("\"{expected}\"")), "{expected}: {line}");
    }
    for reason in ["untrusted", "malformed", "slow"] {
        ensure!(site.gateway.metric(&format!("{ERRORS}{{reason=\"{reason}\"}}")).await? == 0.0, "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn the_client_may_not_forge_what_only_proxies_say() -> Result<()> {
    let site = site(&[]).await?;
    let forged = site.head("GET /", "X-Forwarded-For: 192.0.2.66\r\n");
    let (request, _) = site.exchange([LINE, forged.as_bytes()].concat(), ok("hi")).await?;
    ensure!(request.field("X-Forwarded-For") == Some("203.0.113.7"), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn a_header_may_come_in_pieces() -> Result<()> {
    let site = site(&[]).await?;
    for header in [LINE.to_vec(), v2(0x21, 0x11, &V4)] {
        let mut client = site.gateway.connect().await?;
        for byte in header {
            client.send([byte]).await?;
            tokio::task::yield_now().await;
        }
        client.send(site.get("/")).await?;
        let mut app = site.upstream.accept().await?;
        ensure!(app.request().await?.field("X-Forwarded-For").is_some_and(|from| from.starts_with("203.0.113.")));
        app.send(ok("hi")).await?;
        ensure!(client.answer().await?.text() == "hi");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_header_ends_the_connection() -> Result<()> {
    let site = site(&[]).await?;
    let request = site.get("/");
    let mut huge = v2(0x21, 0x11, &V4);
    huge[14..16].copy_from_slice(&[0xff, 0xff]);
    let mut changed = v2(0x21, 0x11, &[&V4[..], &CHECKSUM].concat());
    changed[19] ^= 1;
    let mut wrong = v2(0x21, 0x11, &V4);
    wrong[11] = b'\r';
    let cases = [
        request.clone().into_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PROXY TCP4 203.0.113.7 10.0.0.1 1\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\n".to_vec(),
        [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
        huge,
        wrong,
        changed,
        v2(0x11, 0x11, &V4),
        v2(0x2f, 0x11, &V4),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x12, &V4),
        v2(0x21, 0x31, &[0; 216]),
        v2(0x21, 0x11, &V4[..8]),
        v2(0x21, 0x11, &[0; 600]),
    ];
    let count = cases.len();
    for case in cases {
        let mut client = site.gateway.connect().await?;
        client.send([&case, request.as_bytes()].concat()).await?;
        client.expect_end().await.with_context(|| case.escape_ascii().to_string())?;
    }
    // Those that end too early.
    let header = v2(0x21, 0x11, &V4);
    let pieces = [&LINE[..5], &LINE[..40], &header[..3], &header[..12], &header[..15], &header[..20]];
    for piece in pieces {
        let mut client = site.gateway.connect().await?;
        client.send(piece).await?;
        client.finish().await?;
        client.expect_end().await.with_context(|| piece.escape_ascii().to_string())?;
    }
    site.upstream.expect_untouched()?;
    let malformed = format!("{ERRORS}{{reason=\"malformed\"}}");
    site.gateway.expect_metric(&malformed, (count + pieces.len()) as f64).await?;
    // A look at the port alone is no error.
    let mut silent = site.gateway.connect().await?;
    silent.finish().await?;
    silent.expect_end().await?;
    site.gateway.expect_metric("embedgate_connections_active", 0.0).await?;
    site.gateway.expect_metric(&malformed, (count + pieces.len()) as f64).await
}

#[tokio::test]
async fn only_trusted_proxies_may_connect() -> Result<()> {
    let site = site(&[("server.trusted_proxies", "['10.0.0.0/8']")]).await?;
    let mut client = site.gateway.connect().await?;
    // It may have ended before all is sent.
    let _ = client.send([LINE, site.get("/").as_bytes()].concat()).await;
    client.expect_end().await?;
    site.upstream.expect_untouched()?;
    site.gateway.expect_metric(&format!("{ERRORS}{{reason=\"untrusted\"}}"), 1.0).await
}

#[tokio::test]
async fn a_header_has_to_come_in_time() -> Result<()> {
    let site = site(&[("limits.header_timeout", "200ms")]).await?;
    for piece in [&b""[..], b"PROXY TCP4 ", &SIGNATURE[..12]] {
        let mut client = site.gateway.connect().await?;
        client.send(piece).await?;
        client.expect_end().await?;
    }
    site.gateway.expect_metric(&format!("{ERRORS}{{reason=\"slow\"}}"), 3.0).await
}

#[tokio::test]
async fn without_the_switch_a_header_is_no_request() -> Result<()> {
    let site = Site::with(&[("server.trusted_proxies", "['127.0.0.1']")]).await?;
    let answer = site.refused([LINE, site.get("/").as_bytes()].concat()).await?;
    ensure!(answer.status() == 400, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn the_header_stands_before_tls() -> Result<()> {
    let authority = Authority::new()?;
    authority.issue("gate", "DNS:gate.example", 2)?;
    let (cert, key) = (authority.toml("gate.crt"), authority.toml("gate.key"));
    let site = site(&[("server.tls.cert", &cert), ("server.tls.key", &key)]).await?;
    let answering = async {
        let mut app = site.upstream.accept().await?;
        let request = app.request().await?;
        app.send(ok("hi")).await?;
        anyhow::Ok(request)
    };
    let client = authority.client(ALL_VERSIONS)?;
    let request = site.head("GET /", "Connection: close\r\n");
    let header = v2(0x21, 0x11, &V4);
    let asking = ask(site.gateway.address, &client, "gate.example", &header, &request);
    let (seen, request) = tokio::try_join!(asking, answering)?;
    ensure!(seen.answer.ends_with("hi") && request.field("X-Forwarded-For") == Some("203.0.113.9"), "{request:?}");
    Ok(())
}
