//! Pages of an app behind a path get a `<base>`, and everything else arrives as it was sent.

use super::{HOST, Site};
use crate::harness::raw::{End, Message, Wire, chunked};
use anyhow::{Result, ensure};

const TAG: &str = "<base href=\"/app-proxy/editor/\">";
const PAGE: &str = "<!doctype html><html><head><title>x</title></head><body>hello</body></html>";
const NAVIGATE: &str = "Accept: text/html\r\nAccept-Encoding: gzip, br\r\n";

async fn site() -> Result<Site> {
    Site::of_app("base_tag = true", &[]).await
}

fn with_base(page: &str) -> String {
    page.replacen("<head>", &format!("<head>{TAG}"), 1)
}

fn get(site: &Site, line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{}{fields}\r\n", site.bearer())
}

/// What becomes of an answer to a navigation below the path.
async fn answered(site: &Site, answer: impl AsRef<[u8]>) -> Result<Message> {
    let (_, answer) = site.exchange(get(site, "GET /app-proxy/editor/a/b", NAVIGATE), answer).await?;
    ensure!(answer.complete, "{answer:?}");
    Ok(answer)
}

fn page(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_page_behind_a_path_gets_a_base() -> Result<()> {
    let site = site().await?;
    let validators = "ETag: W/\"1\"\r\nLast-Modified: Wed, 01 Jul 2026 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n";
    let answer = answered(&site, page(validators, PAGE)).await?;
    ensure!(answer.text() == with_base(PAGE), "{answer:?}");
    ensure!(answer.field("Content-Length") == Some(&with_base(PAGE).len().to_string()), "{answer:?}");
    ensure!(!["ETag", "Last-Modified", "Accept-Ranges"].iter().any(|name| answer.has(name)), "{answer:?}");
    for size in [1, 7, 1000] {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
        let long = PAGE.replace("hello", &"hello ".repeat(50_000));
        let answer = answered(&site, [head.as_bytes(), &chunked(long.as_bytes(), size)].concat()).await?;
        ensure!(answer.body == with_base(&long).as_bytes(), "chunks of {size}: {answer:?}");
    }
    let until_close = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{PAGE}");
    let answer = answered(&site, until_close).await?;
    ensure!(answer.text() == with_base(PAGE), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_page_is_asked_for_without_compression() -> Result<()> {
    let site = site().await?;
    for (line, fields, coding) in [
        ("GET /app-proxy/editor/", NAVIGATE, "identity"),
        ("GET /app-proxy/editor/", "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", "identity"),
        ("GET /app-proxy/editor/x.js", "Accept: */*\r\nAccept-Encoding: gzip, br\r\n", "gzip, br"),
    ] {
        let (request, _) = site.exchange(get(&site, line, fields), page("", PAGE)).await?;
        ensure!(request.field("Accept-Encoding") == Some(coding), "{fields}: {request:?}");
    }
    let (request, answer) = site.exchange(site.head("GET /", NAVIGATE), page("", PAGE)).await?;
    ensure!(request.field("Accept-Encoding") == Some("gzip, br"), "at its own host {HOST}: {request:?}");
    ensure!(answer.text() == PAGE, "{answer:?}");
    let usual = Site::open().await?;
    let answer = answered(&usual, page("", PAGE)).await?;
    ensure!(answer.text() == PAGE, "nobody asked for it: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn what_needs_no_base_arrives_as_it_was_sent() -> Result<()> {
    let site = site().await?;
    let own = PAGE.replace("<title>", "<base href=/x/><title>");
    let long = format!("<!-- {} -->{PAGE}", "x".repeat(70_000));
    for (fields, body) in [
        ("ETag: \"1\"\r\n", own.as_str()),
        ("ETag: \"1\"\r\n", "no page"),
        ("ETag: \"1\"\r\n", "<html"),
        ("ETag: \"1\"\r\n", long.as_str()),
        ("ETag: \"1\"\r\nContent-Security-Policy: base-uri 'none'\r\n", PAGE),
        ("ETag: \"1\"\r\nContent-Encoding: gzip\r\n", PAGE),
    ] {
        let answer = answered(&site, page(fields, body)).await?;
        ensure!(answer.text() == body && answer.has("ETag"), "{fields}: {answer:?}");
        ensure!(answer.field("Content-Length") == Some(&body.len().to_string()), "{fields}: {answer:?}");
    }
    let partial =
        page("ETag: \"1\"\r\nContent-Range: bytes 0-1/9\r\n", PAGE).replacen("200 OK", "206 Partial Content", 1);
    let answer = answered(&site, partial).await?;
    ensure!(answer.text() == PAGE && answer.has("ETag"), "{answer:?}");
    let unchanged = "HTTP/1.1 304 Not Modified\r\nContent-Type: text/html\r\nETag: \"1\"\r\n\r\n";
    let answer = answered(&site, unchanged).await?;
    ensure!(answer.status() == 304 && answer.has("ETag"), "{answer:?}");
    Ok(())
}

/// A client and an app that has sent the head of a page of 100 bytes and this much of it.
async fn begun(site: &Site, body: &str) -> Result<(Wire, Wire)> {
    let mut client = site.gateway.connect().await?;
    client.send(get(site, "GET /app-proxy/editor/", NAVIGATE)).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\n{body}")).await?;
    Ok((client, app))
}

#[tokio::test]
async fn a_page_in_pieces_is_passed_on_as_soon_as_its_head_is_known() -> Result<()> {
    let site = site().await?;
    let (mut client, mut app) = begun(&site, "<html><he").await?;
    client.expect_silence()?;
    app.send("ad></head>").await?;
    let head = client.head().await?;
    ensure!(head.field("Content-Length") == Some(&(100 + TAG.len()).to_string()), "{head:?}");
    let expected = format!("<html><head>{TAG}</head>");
    ensure!(client.exactly(expected.len()).await? == expected.as_bytes());
    drop(app);
    ensure!(client.expect_end().await? == End::Reset, "what breaks off looks broken");

    let (mut client, _app) = begun(&site, "<html>").await?;
    let head = client.head().await?;
    ensure!(head.field("Content-Length") == Some("100"), "nobody waits for long: {head:?}");
    ensure!(client.exactly(6).await? == b"<html>");
    Ok(())
}

#[tokio::test]
async fn a_page_that_breaks_off_before_its_head_is_a_502() -> Result<()> {
    let site = site().await?;
    for how in [End::Closed, End::Reset] {
        let (mut client, app) = begun(&site, "<html>").await?;
        app.end(how)?;
        let answer = client.answer().await?;
        ensure!(answer.status() == 502, "{how:?}: {answer:?}");
    }
    Ok(())
}
