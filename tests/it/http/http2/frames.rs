//! Requests that no proper client sends, frame by frame: none may reach an app, and none may end another's request.

use super::{HOST, Site};
use crate::harness::h2::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, RST_STREAM, block};
use crate::harness::raw::ok;
use anyhow::{Result, ensure};

/// `PROTOCOL_ERROR` (RFC 9113 7).
const PROTOCOL_ERROR: u32 = 1;

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// The fields of a proper request, with the bearer in `bearer`.
fn proper(bearer: &str) -> Fields<'_> {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/")];
    [&pseudo[..], &[("authorization", bearer)]].concat()
}

/// The same with one pseudo-header field changed.
fn with<'a>(bearer: &'a str, name: &str, value: &'a str) -> Fields<'a> {
    let set = |(known, old)| if known == name { (known, value) } else { (known, old) };
    proper(bearer).into_iter().map(set).collect()
}

/// The same with more at the end.
fn and<'a>(bearer: &'a str, more: &[(&'a str, &'a str)]) -> Fields<'a> {
    [&proper(bearer), more].concat()
}

#[tokio::test]
async fn what_is_malformed_never_reaches_an_app() -> Result<()> {
    let site = Site::open().await?;
    let bearer = format!("Bearer {}", site.token);
    let bearer = bearer.as_str();
    let mut corpus: Vec<Fields<'_>> = [
        ("X-Upper", "1"),
        ("x-a", "b\r\nx-smuggled: 1"),
        ("x-a", "b\nc"),
        ("x-a", "b\0c"),
        ("x-a", " b"),
        ("x a", "b"),
        ("x-a:b", "c"),
        ("", "b"),
        ("connection", "close"),
        ("connection", "x-forwarded-for"),
        ("keep-alive", "5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("content-length", "5"),
        ("content-length", "x"),
        ("content-length", "-1"),
        ("host", "other.apps.localhost"),
        (":path", "/again"),
        (":unknown", "x"),
        (":status", "200"),
        ("authorization", "Basic x"),
    ]
    .map(|more| and(bearer, &[more]))
    .to_vec();
    for (name, value) in [
        (":method", "GET /x HTTP/1.1\r\nx: y"),
        (":method", ""),
        (":method", "G T"),
        (":method", "CONNECT"),
        (":method", "TRACE"),
        (":scheme", "ht tp"),
        (":authority", ""),
        (":authority", "user@editor--acme.apps.localhost"),
        (":authority", "editor--acme.apps.localhost/x"),
        (":authority", "a b"),
        (":path", ""),
        (":path", "*"),
        (":path", "relative"),
        (":path", "http://other.example/"),
        (":path", "/a b"),
        (":path", "/a HTTP/1.1\r\nx: y\r\n\r\n"),
        (":path", "/é"),
    ] {
        corpus.push(with(bearer, name, value));
    }
    for name in [":method", ":scheme", ":authority", ":path"] {
        corpus.push(proper(bearer).into_iter().filter(|(known, _)| *known != name).collect());
        let twice = proper(bearer).into_iter().find(|(known, _)| *known == name);
        corpus.push(twice.into_iter().chain(proper(bearer)).collect());
    }
    // A pseudo-header field behind a regular one.
    corpus.push(proper(bearer).into_iter().rev().collect());
    for fields in corpus {
        let mut client = Frames::connect(site.gateway.address).await?;
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)).await?;
        let outcome = client.outcome(1).await?;
        ensure!(!matches!(outcome, Outcome::Status(200..=399)), "{fields:?}: {outcome:?}");
        ensure!(outcome != Outcome::End, "{fields:?}: no answer at all");
        site.upstream.expect_untouched()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_malformed_stream_ends_alone() -> Result<()> {
    let site = Site::open().await?;
    let bearer = format!("Bearer {}", site.token);
    let mut client = Frames::connect(site.gateway.address).await?;
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&proper(&bearer))).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    let bad = and(&bearer, &[("connection", "close")]);
    client.send(HEADERS, END_HEADERS | END_STREAM, 3, &block(&bad)).await?;
    ensure!(client.outcome(3).await? == Outcome::Reset(PROTOCOL_ERROR));
    let other_host = and(&bearer, &[("host", "other.example")]);
    client.send(HEADERS, END_HEADERS | END_STREAM, 5, &block(&other_host)).await?;
    ensure!(client.outcome(5).await? == Outcome::Status(400));
    app.send(ok("served")).await?;
    ensure!(client.outcome(1).await? == Outcome::Status(200));
    Ok(())
}

#[tokio::test]
async fn a_body_of_another_length_than_told_is_no_complete_request() -> Result<()> {
    let site = Site::open().await?;
    let bearer = format!("Bearer {}", site.token);
    for (told, body) in [("10", "short"), ("3", "longer")] {
        let fields: Fields<'_> = [&with(&bearer, ":method", "POST")[..], &[("content-length", told)]].concat();
        let mut client = Frames::connect(site.gateway.address).await?;
        client.send(HEADERS, END_HEADERS, 1, &block(&fields)).await?;
        let mut app = site.upstream.accept().await?;
        app.head().await?;
        client.send(DATA, END_STREAM, 1, body.as_bytes()).await?;
        ensure!(client.outcome(1).await? == Outcome::Reset(PROTOCOL_ERROR), "{told}");
        let rest = app.rest().await?.bytes;
        ensure!(rest.len() < told.parse()?, "a complete request: {rest:?}");
    }
    Ok(())
}

#[tokio::test]
async fn trailers_end_a_body_and_go_nowhere() -> Result<()> {
    let site = Site::open().await?;
    let bearer = format!("Bearer {}", site.token);
    let mut client = Frames::connect(site.gateway.address).await?;
    client.send(HEADERS, END_HEADERS, 1, &block(&with(&bearer, ":method", "POST"))).await?;
    client.send(DATA, 0, 1, b"body").await?;
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("authorization", "Bearer other")])).await?;
    let mut app = site.upstream.accept().await?;
    let seen = app.request().await?;
    ensure!(seen.complete && seen.text() == "body", "{seen:?}");
    app.send(ok("")).await?;
    ensure!(client.outcome(1).await? == Outcome::Status(200));
    Ok(())
}

#[tokio::test]
async fn a_head_may_come_in_many_frames() -> Result<()> {
    let site = Site::open().await?;
    let bearer = format!("Bearer {}", site.token);
    let head = block(&proper(&bearer));
    let mut client = Frames::connect(site.gateway.address).await?;
    let parts: Vec<_> = head.chunks(head.len().div_ceil(5)).collect();
    client.send(HEADERS, END_STREAM, 1, parts[0]).await?;
    for part in &parts[1..parts.len() - 1] {
        client.send(CONTINUATION, 0, 1, part).await?;
    }
    client.send(CONTINUATION, END_HEADERS, 1, parts[parts.len() - 1]).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send(ok("")).await?;
    ensure!(client.outcome(1).await? == Outcome::Status(200));
    Ok(())
}

#[tokio::test]
async fn a_stream_that_was_reset_may_not_be_asked_on() -> Result<()> {
    let site = Site::open().await?;
    let bearer = format!("Bearer {}", site.token);
    let mut client = Frames::connect(site.gateway.address).await?;
    client.send(HEADERS, END_HEADERS, 1, &block(&with(&bearer, ":method", "POST"))).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    client.send(RST_STREAM, 0, 1, &8u32.to_be_bytes()).await?;
    let rest = app.rest().await?.bytes;
    ensure!(!rest.ends_with(b"0\r\n\r\n"), "a complete request: {rest:?}");
    client.send(DATA, END_STREAM, 1, b"late").await?;
    // What still comes for it is an error of the stream or the connection (RFC 9113 5.1), never a request.
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&proper(&bearer))).await?;
    ensure!(!matches!(client.outcome(1).await?, Outcome::Status(_)));
    site.upstream.expect_untouched()
}
