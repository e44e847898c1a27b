//! Trailers: what follows a body goes through where the receiver takes it, and nothing that matters can come late.

use super::Site;
use crate::harness::raw::{Message, ok};
use anyhow::{Context as _, Result, ensure};

/// Trailers as they arrive, one after the other.
fn trailers(message: &Message) -> Vec<String> {
    message.trailers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

/// Trailers that must not pass: each would change what was decided by the head.
const TOO_LATE: &str = "Content-Length: 3\r\nTransfer-Encoding: gzip\r\nHost: evil\r\nAuthorization: Bearer x\r\n\
                        Cookie: embedgate=x\r\nSet-Cookie: embedgate=x\r\nX-Forwarded-User: root\r\nX_Embedgate_Org: other\r\n\
                        X-Request-Id: mine\r\nExpect: x\r\nRange: bytes=0-1\r\nContent-Type: text/html\r\n\
                        content_encoding: gzip\r\nIf-Match: a\r\nAccept-Language: de\r\nTrailer: X\r\nX-Mine: 1\r\n";

#[tokio::test]
async fn trailers_of_a_request_follow_its_body() -> Result<()> {
    let site = Site::open().await?;
    for (fields, announced) in
        [("", None), ("Trailer: X-Sum, Host, X_Mine\r\nTrailer: Digest\r\n", Some("X-Sum, X_Mine, Digest"))]
    {
        let head = site.head("POST /", &format!("Transfer-Encoding: chunked\r\nConnection: x-mine\r\n{fields}"));
        let body = format!("5\r\nhello\r\n0\r\nX-Sum: 1\r\n{TOO_LATE}Digest:\t2 \r\n\r\n");
        let (request, answer) = site.exchange(head + &body, ok("fine")).await?;
        ensure!(request.complete && request.text() == "hello", "{request:?}");
        ensure!(trailers(&request) == ["X-Sum: 1", "Digest: 2"], "{request:?}");
        ensure!(request.field("Trailer") == announced && !request.has("X-Sum"), "{request:?}");
        ensure!(answer.text() == "fine");
    }
    Ok(())
}

#[tokio::test]
async fn trailers_arrive_whole_however_they_come() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Transfer-Encoding: chunked\r\n")).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    for part in ["1\r\na\r\n", "0\r\nX-", "Sum", ": 1\r", "\n", "\r"] {
        client.send(part).await?;
    }
    ensure!(app.exactly(6).await? == b"1\r\na\r\n");
    app.expect_silence().context("an end before the end")?;
    client.send("\n").await?;
    ensure!(app.exactly(15).await? == b"0\r\nX-Sum: 1\r\n\r\n");
    Ok(())
}

/// A GET with these fields, answered with trailers.
async fn get(site: &Site, fields: &str, answer: &str) -> Result<(Message, Message)> {
    let trailing = format!("2\r\nhi\r\n0\r\ngrpc-status: 0\r\n{TOO_LATE}Server-Timing: db;dur=5\r\n\r\n");
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Mine\r\n{answer}\r\n");
    site.exchange(site.head("GET /", fields), head + &trailing).await
}

#[tokio::test]
async fn trailers_of_an_answer_follow_it_when_the_client_takes_them() -> Result<()> {
    let site = Site::open().await?;
    let announce = "Trailer: grpc-status, Content-Length, server-timing\r\n";
    for (te, answer, announced) in [
        ("TE: trailers\r\n", announce, Some("grpc-status, server-timing")),
        ("Connection: TE\r\nTE: deflate;q=0.5, Trailers\r\n", "", None),
        ("TE: trailers\r\n", "Trailer: Host\r\n", None),
    ] {
        let (request, answer) = get(&site, te, answer).await?;
        ensure!(request.field("TE") == Some("trailers") && request.field("Connection") == Some("TE"), "{request:?}");
        ensure!(answer.text() == "hi" && answer.field("Trailer") == announced, "{answer:?}");
        ensure!(trailers(&answer) == ["grpc-status: 0", "Server-Timing: db;dur=5"], "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_gets_trailers_who_does_not_take_them() -> Result<()> {
    let site = Site::open().await?;
    for te in ["", "TE: deflate\r\n", "TE:\r\n", "TE: x-trailers\r\n"] {
        let (request, answer) = get(&site, te, "Trailer: grpc-status\r\n").await?;
        ensure!(!request.has("TE") && !request.has("Connection"), "{te:?}: {request:?}");
        ensure!(answer.complete && answer.text() == "hi", "{te:?}: {answer:?}");
        ensure!(!answer.has("Trailer") && answer.trailers.is_empty(), "{te:?}: {answer:?}");
    }
    let old = site.head("GET /", "TE: trailers\r\n").replace("HTTP/1.1", "HTTP/1.0");
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n";
    let (request, answer) = site.exchange(old, answer).await?;
    ensure!(!request.has("TE") && !answer.has("Trailer") && answer.text() == "hi", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_answer_with_broken_trailers_never_looks_complete() -> Result<()> {
    let site = Site::open().await?;
    for te in ["TE: trailers\r\n", ""] {
        for broken in ["nonsense\r\n\r\n", "X : y\r\n\r\n", "X: y\n\r\n", &"X: y\r\n".repeat(3000)] {
            let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{broken}");
            let (_, answer) = site.exchange(site.head("GET /", te), answer).await?;
            ensure!(answer.text() == "hi" && !answer.complete, "{broken:.20?}: {answer:?}");
        }
    }
    let line = site.gateway.log_line(|line| line.contains("cut_by")).await?;
    ensure!(line.contains("gateway: malformed answer"), "{line}");
    Ok(())
}

#[tokio::test]
async fn connections_go_on_behind_trailers() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    let chunks = "Transfer-Encoding: chunked\r\nTE: trailers\r\n";
    client.send(site.head("POST /1", chunks) + "1\r\na\r\n0\r\nX: 1\r\n\r\n" + &site.get("/2")).await?;
    let mut app = site.upstream.accept().await?;
    ensure!(trailers(&app.request().await?) == ["X: 1"]);
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nY: 2\r\n\r\n").await?;
    ensure!(trailers(&client.answer().await?) == ["Y: 2"]);
    ensure!(app.request().await?.target() == "/2");
    app.send(ok("next")).await?;
    ensure!(client.answer().await?.text() == "next");
    site.upstream.expect_untouched()
}
