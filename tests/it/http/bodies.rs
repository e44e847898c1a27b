//! Bodies both ways: every byte arrives, framed as the receiver needs it, bounded in time and size.

use super::Site;
use crate::harness::gateway::outlast;
use crate::harness::raw::{End, chunked, ok};
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Bytes without a pattern that a mistake could hide in (xorshift, Marsaglia 2003).
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

const LARGE: usize = 20_000_000;

/// Uploads noise framed by `fields` and `encode`; the app must get it byte for byte.
async fn upload(fields: &str, encode: impl Fn(&[u8]) -> Vec<u8>) -> Result<()> {
    let site = Site::open().await?;
    let body = noise(LARGE);
    let mut client = site.gateway.connect().await?;
    let wire = [site.head("POST /", fields).into_bytes(), encode(&body)].concat();
    let app = async {
        let mut app = site.upstream.accept().await?;
        let request = app.request().await?;
        app.send(ok("stored")).await?;
        anyhow::Ok(request)
    };
    let (uploaded, request) = tokio::join!(client.send(&wire), app);
    uploaded?;
    let request = request?;
    ensure!(request.complete && Sha256::digest(&request.body) == Sha256::digest(&body), "the upload was changed");
    ensure!(request.has("Content-Length") == fields.starts_with("Content-Length"), "the framing was changed");
    ensure!(client.answer().await?.text() == "stored");
    Ok(())
}

#[tokio::test]
async fn large_uploads_of_known_length_arrive_byte_for_byte() -> Result<()> {
    upload(&format!("Content-Length: {LARGE}\r\n"), <[u8]>::to_vec).await
}

#[tokio::test]
async fn large_uploads_in_chunks_arrive_byte_for_byte() -> Result<()> {
    upload("Transfer-Encoding: chunked\r\n", |body| chunked(body, 70_001)).await
}

/// Lets the app answer with noise; the client must get it byte for byte.
async fn download(fields: &str, encode: impl Fn(&[u8]) -> Vec<u8>) -> Result<()> {
    let site = Site::open().await?;
    let body = noise(LARGE);
    let (mut client, mut app) = site.join().await?;
    let wire = [format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes(), encode(&body)].concat();
    let send = async {
        app.send(&wire).await?;
        drop(app);
        anyhow::Ok(())
    };
    let (done, answer) = tokio::join!(send, client.answer());
    done?;
    let answer = answer?;
    ensure!(answer.complete && Sha256::digest(&answer.body) == Sha256::digest(&body), "the download was changed");
    ensure!(answer.has("Content-Length") == fields.starts_with("Content-Length"), "the framing was changed");
    Ok(())
}

#[tokio::test]
async fn large_downloads_of_known_length_arrive_byte_for_byte() -> Result<()> {
    download(&format!("Content-Length: {LARGE}\r\n"), <[u8]>::to_vec).await
}

#[tokio::test]
async fn large_downloads_in_chunks_arrive_byte_for_byte() -> Result<()> {
    download("Transfer-Encoding: chunked\r\n", |body| chunked(body, 70_001)).await
}

#[tokio::test]
async fn large_downloads_until_close_arrive_byte_for_byte() -> Result<()> {
    download("", <[u8]>::to_vec).await
}

#[tokio::test]
async fn bodies_are_told_apart_from_none() -> Result<()> {
    let site = Site::open().await?;
    for (fields, told) in [("", None), ("Content-Length: 0\r\n", Some("0"))] {
        let (request, _) = site.exchange(site.head("POST /", fields), ok("")).await?;
        ensure!(request.field("Content-Length") == told && !request.has("Transfer-Encoding"), "{request:?}");
    }
    let head = site.head("POST /", "Transfer-Encoding: chunked\r\n");
    let (request, _) = site.exchange(head + "0\r\n\r\n", ok("")).await?;
    ensure!(request.field("Transfer-Encoding") == Some("chunked") && request.body.is_empty(), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn answers_without_a_body_have_none() -> Result<()> {
    let site = Site::open().await?;
    for (answer, length) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n", Some("5")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ] {
        let (mut client, mut app) = site.join().await?;
        app.send(answer).await?;
        let got = client.answer().await?;
        ensure!(got.field("Content-Length") == length && !got.has("Transfer-Encoding"), "{answer:?}: {got:?}");
        // The next answer begins right behind.
        client.send(site.get("/next")).await?;
        ensure!(app.request().await?.target() == "/next");
        app.send(ok("next")).await?;
        ensure!(client.answer().await?.text() == "next", "{answer:?}");
        drop(app);
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_to_head_tells_a_length_and_has_no_body() -> Result<()> {
    for (fields, length) in
        [("Content-Length: 5000\r\n", Some("5000")), ("Transfer-Encoding: chunked\r\n", None), ("", None)]
    {
        let site = Site::open().await?;
        let mut client = site.gateway.connect().await?;
        client.send(site.head("HEAD /", "")).await?;
        let mut app = site.upstream.accept().await?;
        ensure!(app.request().await?.start == "HEAD / HTTP/1.1");
        app.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).await?;
        let answer = client.answer_to_head().await?;
        ensure!(answer.field("Content-Length") == length, "{fields:?}: {answer:?}");
        client.send(site.get("/next")).await?;
        ensure!(app.request().await?.target() == "/next");
        app.send(ok("next")).await?;
        ensure!(client.answer().await?.text() == "next", "{fields:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_a_body_that_ends_with_the_connection() -> Result<()> {
    let site = Site::open().await?;
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    ] {
        let old = site.head("GET /", "Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0");
        let (request, answer) = site.exchange(old, answer).await?;
        ensure!(request.start == "GET / HTTP/1.1", "{request:?}");
        ensure!(answer.text() == "hello" && answer.complete, "{answer:?}");
        ensure!(!answer.has("Transfer-Encoding") && answer.field("Connection") == Some("close"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_of_http_1_0_keeps_its_connection_only_if_it_asks() -> Result<()> {
    let site = Site::open().await?;
    for (fields, connection) in [("", "close"), ("Connection: keep-alive\r\n", "keep-alive")] {
        let old = site.head("GET /", fields).replace("HTTP/1.1", "HTTP/1.0");
        let (_, answer) = site.exchange(old, ok("hello")).await?;
        ensure!(answer.text() == "hello" && answer.field("Connection") == Some(connection), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_go_ahead_for_a_body_comes_from_the_app() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Content-Length: 5\r\nExpect: 100-continue\r\n")).await?;
    let mut app = site.upstream.accept().await?;
    ensure!(app.head().await?.field("Expect") == Some("100-continue"));
    client.expect_silence().context("a go-ahead before the app's")?;
    app.send("HTTP/1.1 100 Continue\r\n\r\n").await?;
    ensure!(client.answer().await?.status() == 100);
    client.send("hello").await?;
    ensure!(app.exactly(5).await? == b"hello");
    app.send(ok("done")).await?;
    ensure!(client.answer().await?.text() == "done");
    Ok(())
}

#[tokio::test]
async fn an_app_may_refuse_a_body_before_it_is_sent() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Content-Length: 5\r\nExpect: 100-continue\r\n")).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    app.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 413 && answer.text() == "no", "{answer:?}");
    // Whether the body still comes is open, so nobody may use either connection again.
    ensure!(answer.field("Connection") == Some("close"), "{answer:?}");
    client.expect_end().await?;
    app.expect_end().await?;
    Ok(())
}

#[tokio::test]
async fn early_hints_pass_in_order() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: y\r\n\r\n").await?;
    let hints = client.answer().await?;
    ensure!(hints.status() == 103 && hints.field("Link") == Some("</a.css>"), "{hints:?}");
    ensure!(!hints.has("X") && !hints.has("Connection"), "{hints:?}");
    app.send([b"HTTP/1.1 102 Processing\r\n\r\n", &ok("page")[..]].concat()).await?;
    ensure!(client.answer().await?.status() == 102);
    ensure!(client.answer().await?.text() == "page");
    Ok(())
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_interim_answers() -> Result<()> {
    let site = Site::open().await?;
    let old = site.get("/").replace("HTTP/1.1", "HTTP/1.0");
    let (_, answer) = site.exchange(old, [b"HTTP/1.1 103 Early Hints\r\n\r\n", &ok("page")[..]].concat()).await?;
    ensure!(answer.status() == 200 && answer.text() == "page", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_answer_may_come_before_the_upload_ends() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Content-Length: 1000000\r\n") + "part").await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    app.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nearly").await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 401 && answer.text() == "early", "{answer:?}");
    ensure!(answer.field("Connection") == Some("close"), "{answer:?}");
    client.send(site.get("/smuggled")).await?;
    client.expect_end().await?;
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn an_upload_and_its_answer_may_run_at_the_same_time() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Transfer-Encoding: chunked\r\n")).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    client.head().await?;
    for word in ["one", "two"] {
        let chunk = format!("3\r\n{word}\r\n");
        client.send(&chunk).await?;
        ensure!(app.exactly(8).await? == chunk.as_bytes());
        app.send(&chunk).await?;
        ensure!(client.exactly(8).await? == chunk.as_bytes());
    }
    client.send("0\r\n\r\n").await?;
    ensure!(app.exactly(5).await? == b"0\r\n\r\n");
    app.send("0\r\n\r\n").await?;
    ensure!(client.exactly(5).await? == b"0\r\n\r\n");
    Ok(())
}

#[tokio::test]
async fn an_upload_that_nobody_reads_is_not_taken_in() -> Result<()> {
    let site = Site::with(&[("limits.body_idle_timeout", "1s"), ("upstreams.first_byte_timeout", "1s")]).await?;
    let mut client = site.gateway.connect().await?;
    let all = 256 << 20;
    client.send(site.head("POST /", &format!("Content-Length: {all}\r\n"))).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    let sent = client.send_until_answered(&vec![0; 65536], all).await?;
    ensure!(sent < all / 2, "{sent} bytes were taken, and nobody read them");
    ensure!(client.answer().await?.status() == 504);
    Ok(())
}

#[tokio::test]
async fn a_download_that_nobody_reads_is_not_taken_in() -> Result<()> {
    let site = Site::with(&[("upstreams.idle_timeout", "1s")]).await?;
    let (_client, mut app) = site.join().await?;
    let all = 256 << 20;
    app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {all}\r\n\r\n")).await?;
    let sent = app.send_until_answered(&vec![0; 65536], all).await.unwrap_or(0);
    ensure!(sent < all / 2, "{sent} bytes were taken, and nobody read them");
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413() -> Result<()> {
    let site = Site::with(&[("limits.body_bytes", "1000")]).await?;
    let answer = site.refused(site.head("POST /", "Content-Length: 1001\r\n") + &"x".repeat(1001)).await?;
    ensure!(answer.status() == 413, "{answer:?}");

    let mut client = site.gateway.connect().await?;
    let head = site.head("POST /", "Transfer-Encoding: chunked\r\n").into_bytes();
    client.send([head, chunked(&[b'x'; 1001], 400)].concat()).await?;
    let mut app = site.upstream.accept().await?;
    ensure!(!app.request().await?.complete, "a body beyond the limit is complete");
    ensure!(client.answer().await?.status() == 413);
    client.expect_end().await?;
    Ok(())
}

#[tokio::test]
async fn a_body_at_the_limit_passes() -> Result<()> {
    let site = Site::with(&[("limits.body_bytes", "1000")]).await?;
    let body = [b'x'; 1000];
    for (fields, wire) in
        [("Content-Length: 1000\r\n", body.to_vec()), ("Transfer-Encoding: chunked\r\n", chunked(&body, 400))]
    {
        let request = [site.head("POST /", fields).into_bytes(), wire].concat();
        let (request, answer) = site.exchange(request, ok("")).await?;
        ensure!(request.complete && request.body == body && answer.status() == 200, "{fields:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_stops_coming_is_408() -> Result<()> {
    let site = Site::with(&[("limits.body_idle_timeout", "300ms")]).await?;
    for (fields, part) in [("Content-Length: 10\r\n", "hello"), ("Transfer-Encoding: chunked\r\n", "5\r\nhel")] {
        let mut client = site.gateway.connect().await?;
        client.send(site.head("POST /", fields) + part).await?;
        let mut app = site.upstream.accept().await?;
        ensure!(!app.request().await?.complete);
        ensure!(client.answer().await?.status() == 408);
        client.expect_end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_body_may_take_longer_than_the_limit_on_a_pause() -> Result<()> {
    let site = Site::with(&[("limits.body_idle_timeout", "2s"), ("limits.header_timeout", "1s")]).await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Content-Length: 5\r\n")).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    for byte in b"hello" {
        outlast(Duration::from_millis(300)).await;
        client.send([*byte]).await?;
        ensure!(app.exactly(1).await? == [*byte]);
    }
    app.send(ok("done")).await?;
    ensure!(client.answer().await?.text() == "done");
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_leaves_no_complete_request() -> Result<()> {
    let site = Site::open().await?;
    for (fields, part) in [("Content-Length: 10\r\n", "hello"), ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")] {
        for how in [End::Closed, End::Reset] {
            let mut client = site.gateway.connect().await?;
            client.send(site.head("POST /", fields) + part).await?;
            let mut app = site.upstream.accept().await?;
            app.head().await?;
            client.end(how)?;
            let rest = app.rest().await?;
            ensure!(!rest.bytes.ends_with(b"0\r\n\r\n"), "a clean end");
        }
    }
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn a_head_that_stops_coming_is_408() -> Result<()> {
    let site = Site::with(&[("limits.header_timeout", "300ms")]).await?;
    let mut client = site.gateway.connect().await?;
    client.send("GET / HTTP/1.1\r\nHos").await?;
    ensure!(client.answer().await?.status() == 408);
    client.expect_end().await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_a_word() -> Result<()> {
    let site = Site::with(&[("limits.header_timeout", "300ms"), ("limits.keep_alive_timeout", "300ms")]).await?;
    site.gateway.connect().await?.expect_end().await?;
    let (mut client, mut app) = site.join().await?;
    app.send(ok("first")).await?;
    ensure!(client.answer().await?.text() == "first");
    client.expect_end().await?;
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_504() -> Result<()> {
    let site = Site::with(&[("upstreams.first_byte_timeout", "300ms")]).await?;
    let (mut client, mut app) = site.join().await?;
    ensure!(client.answer().await?.status() == 504);
    app.rest().await.context("the connection is kept")?;
    Ok(())
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut() -> Result<()> {
    let site = Site::with(&[("upstreams.idle_timeout", "300ms")]).await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await?;
    let answer = client.answer().await?;
    ensure!(answer.text() == "hello" && !answer.complete, "{answer:?}");
    let line = site.gateway.log_line(|line| line.contains("cut_by")).await?;
    ensure!(line.contains("gateway: idle 300ms"), "{line}");
    Ok(())
}
