//! Answers that break the rules: the client gets a clear refusal or a visibly broken answer, never somebody else's bytes.

use super::Site;
use crate::harness::raw::{End, ok};
use anyhow::{Context as _, Result, ensure};

/// Heads that no upstream may send, and the client never sees.
const BAD_HEADS: &[(&str, &str)] = &[
    ("CL then TE", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE then CL", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    ("length with a plus", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    ("length with a minus", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
    ("empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello"),
    ("length of 2^64", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhello"),
    ("list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
    ("TE gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
    ("TE gzip, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("two TE fields", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("no HTTP", "220 mail.example ESMTP\r\n\r\n"),
    ("HTTP/2", "HTTP/2 200\r\n\r\n"),
    ("status of two digits", "HTTP/1.1 99 OK\r\n\r\n"),
    ("status below 100", "HTTP/1.1 099 OK\r\n\r\n"),
    (
        "101 that nobody asked for",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
    ("CR in a value", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n"),
    ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    ("space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
    ("empty field name", "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n"),
    (
        "malformed interim answer",
        "HTTP/1.1 103 Early Hints\r\nX\0: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
];

#[tokio::test]
async fn malformed_answers_are_502_and_cost_the_upstream_its_connection() -> Result<()> {
    let site = Site::open().await?;
    for (name, answer) in BAD_HEADS {
        let (mut client, mut app) = site.join().await?;
        app.send(answer).await?;
        let refusal = client.answer().await.context(*name)?;
        ensure!(refusal.status() == 502, "{name}: {}", refusal.start);
        app.rest().await.with_context(|| format!("{name}: the connection is kept"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_stays_connected_after_the_upstreams_mistake() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    app.send("nonsense\r\n\r\n").await?;
    ensure!(client.answer().await?.status() == 502);
    client.send(site.get("/next")).await?;
    let mut app = site.upstream.accept().await?;
    ensure!(app.request().await?.target() == "/next");
    app.send(ok("next")).await?;
    ensure!(client.answer().await?.text() == "next");
    Ok(())
}

#[tokio::test]
async fn an_endless_head_is_502() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\n").await?;
    let sent = app.send_until_answered(&[b'A'; 4096], 256 << 20).await?;
    ensure!(sent < 256 << 20, "all of it was taken");
    ensure!(client.answer().await?.status() == 502);
    Ok(())
}

#[tokio::test]
async fn interim_answers_without_end_are_502_and_not_taken_in() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n".repeat(100);
    let all = 256 << 20;
    let sent = app.send_until_answered(hints.as_bytes(), all).await?;
    ensure!(sent < all / 2, "{sent} bytes were taken, and nobody read them");
    let last = loop {
        let answer = client.answer().await?;
        if answer.status() != 103 {
            break answer;
        }
    };
    ensure!(last.status() == 502, "{last:?}");
    Ok(())
}

/// A request is answered with `first`; says what a second one on the client's connection is answered with. The second
/// request is answered only on a new connection of the gateway's.
async fn after(site: &Site, first: &str) -> Result<(String, String)> {
    let (mut client, mut app) = site.join().await?;
    app.send(first).await?;
    let before = client.answer().await?.text();
    client.send(site.get("/next")).await?;
    let mut fresh = site.upstream.accept().await?;
    ensure!(fresh.request().await?.target() == "/next");
    fresh.send(ok("next")).await?;
    Ok((before, client.answer().await?.text()))
}

#[tokio::test]
async fn bytes_after_an_answer_poison_no_later_one() -> Result<()> {
    let site = Site::open().await?;
    let extra = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for (name, answer, body) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", "good"),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n", "good"),
        ("no content", "HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("not modified", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", ""),
        ("empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
    ] {
        let outcome = after(&site, &format!("{answer}{extra}")).await.context(name)?;
        ensure!(outcome == (body.to_owned(), "next".to_owned()), "{name}: {outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_nobody_asked_for_reaches_nobody() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    app.send(ok("first")).await?;
    ensure!(client.answer().await?.text() == "first");
    app.send(ok("poison")).await?;
    client.send(site.get("/next")).await?;
    // Either the gateway has seen the stray answer by now and dials again, or it has not and cannot tell it from an
    // answer; loopback delivers in order, so it has.
    let mut fresh = site.upstream.accept().await?;
    fresh.request().await?;
    fresh.send(ok("next")).await?;
    ensure!(client.answer().await?.text() == "next");
    app.rest().await.context("the poisoned connection is kept")?;
    Ok(())
}

/// Answers that begin well and break off.
const BROKEN_BODIES: &[(&str, &str)] = &[
    ("short of its length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
    ("between two chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ("inside of a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello"),
    ("before the last empty line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
];

/// Broken chunk framing after a good chunk.
const GARBLED_BODIES: &[(&str, &str)] = &[
    ("size that is no number", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
    ("chunk longer than it says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n"),
    ("size of 2^64", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10000000000000000\r\n"),
    ("bare LF", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\n\n"),
];

#[tokio::test]
async fn an_answer_that_breaks_off_looks_broken() -> Result<()> {
    let site = Site::open().await?;
    for (name, bytes) in BROKEN_BODIES {
        let (mut client, mut app) = site.join().await?;
        app.send(bytes).await?;
        drop(app);
        let answer = client.answer().await.context(*name)?;
        ensure!(!answer.complete && "hello".starts_with(&answer.text()), "{name}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_reset_looks_broken() -> Result<()> {
    let site = Site::open().await?;
    for (name, bytes) in BROKEN_BODIES.iter().chain(&[("until close", "HTTP/1.1 200 OK\r\n\r\nhello")]) {
        let (mut client, mut app) = site.join().await?;
        app.send(bytes).await?;
        let head = client.head().await.context(*name)?;
        ensure!(head.status() == 200, "{name}: {}", head.start);
        app.reset()?;
        let rest = client.rest().await?;
        ensure!(!rest.bytes.ends_with(b"0\r\n\r\n"), "{name}: a clean end");
    }
    Ok(())
}

#[tokio::test]
async fn garbled_chunks_look_broken_and_end_the_upstreams_connection() -> Result<()> {
    let site = Site::open().await?;
    for (name, bytes) in GARBLED_BODIES {
        let (mut client, mut app) = site.join().await?;
        app.send(bytes).await?;
        let answer = client.answer().await.context(*name)?;
        ensure!(!answer.complete, "{name}: {answer:?}");
        app.rest().await.with_context(|| format!("{name}: the connection is kept"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_broken_answer_looks_broken_to_a_client_that_counts_on_the_close() -> Result<()> {
    let site = Site::open().await?;
    for (name, bytes) in GARBLED_BODIES.iter().chain(&BROKEN_BODIES[1..]) {
        let mut client = site.gateway.connect().await?;
        client.send(site.get("/").replace("HTTP/1.1", "HTTP/1.0")).await?;
        let mut app = site.upstream.accept().await?;
        app.request().await?;
        app.send(bytes).await?;
        drop(app);
        let rest = client.rest().await?;
        ensure!(rest.end == End::Reset, "{name}: a clean end after {:?}", String::from_utf8_lossy(&rest.bytes));
    }
    Ok(())
}

#[tokio::test]
async fn no_answer_at_all_is_502() -> Result<()> {
    let site = Site::open().await?;
    for (name, part) in [("nothing", ""), ("half a head", "HTTP/1.1 200 OK\r\nContent-")] {
        for how in [End::Closed, End::Reset] {
            let (mut client, mut app) = site.join().await?;
            app.send(part).await?;
            app.end(how)?;
            let answer = client.answer().await.context(name)?;
            ensure!(answer.status() == 502, "{name}, {how:?}: {}", answer.start);
        }
    }
    Ok(())
}
