//! HTTP/2 for clients: the same requests, answers, refusals and ends as over HTTP/1.1, many of them on one connection.

mod bounds;
mod frames;
mod leaving;
mod limits;
mod protocol;
mod sockets;
mod tls;

use super::{HOST, Site};
use crate::harness::PATIENCE;
use crate::harness::gateway::{Builder, org};
use crate::harness::h2::{Asked, Driver, Shared, connect, request};
use crate::harness::raw::{Upstream, Wire, chunked, ok};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method, Request};
use std::future::poll_fn;
use tokio::time::timeout;

impl Site {
    /// A connection of HTTP/2.
    pub(super) async fn http2(&self) -> Result<(Shared, Driver)> {
        connect(self.gateway.address).await
    }

    /// A request with the session.
    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        request(method, HOST, path).header("authorization", format!("Bearer {}", self.token))
    }

    /// A GET with the session.
    pub(super) fn ask_for(&self, path: &str) -> Result<Request<()>> {
        Ok(self.request(Method::GET, path).body(())?)
    }

    /// A GET that the upstream has received and not answered, and its connection.
    async fn join_http2(&self) -> Result<(Shared, Driver, Asked, Wire)> {
        let (mut client, driver) = self.http2().await?;
        let asked = client.begin(self.ask_for("/")?, true).await?;
        let mut app = self.upstream.accept().await?;
        app.request().await?;
        Ok((client, driver, asked, app))
    }
}

#[tokio::test]
async fn the_app_sees_a_request_of_http_1_1() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, _driver) = site.http2().await?;
    let crumbs = ["a=b", "embedgate=x", "c=d; e=f"];
    let request = crumbs
        .iter()
        .fold(site.request(Method::GET, "/p?q=1"), |request, crumb| request.header("cookie", *crumb))
        .header("te", "trailers")
        .header("x-custom", "1")
        .header("x-forwarded-user", "eve");
    let asked = client.begin(request.body(())?, true).await?;
    let mut app = site.upstream.accept().await?;
    let seen = app.request().await?;
    ensure!(seen.start == "GET /p?q=1 HTTP/1.1", "{seen:?}");
    for (name, value) in [
        ("Host", &*site.upstream.address().to_string()),
        ("Cookie", "a=b; c=d; e=f"),
        ("X-Custom", "1"),
        ("X-Forwarded-User", "ann"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "http"),
        ("Authorization", "Bearer acme-bearer"),
        ("Connection", "TE"),
        ("TE", "trailers"),
    ] {
        ensure!(seen.field(name) == Some(value), "{name}: {seen:?}");
    }
    for name in ["Transfer-Encoding", "Content-Length", "Upgrade"] {
        ensure!(!seen.has(name), "{name}: {seen:?}");
    }
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\nhi").await?;
    let mut answer = asked.answer().await?;
    ensure!(answer.status == 200 && answer.field("content-length") == Some("2"), "{answer:?}");
    ensure!(answer.fields.get_all("x-a").iter().count() == 2, "{answer:?}");
    ensure!(!answer.fields.contains_key("connection") && !answer.fields.contains_key("keep-alive"), "{answer:?}");
    ensure!(answer.text().await? == "hi");

    site.gateway.expect_metric("embedgate_http2_streams_total", 1.0).await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await?;
    let line = site.gateway.log_line(|line| line.contains("\"status\":200")).await?;
    ensure!(line.contains("\"protocol\":\"HTTP/2\"") && line.contains("\"peer\":\"127.0.0.1\""), "{line}");
    Ok(())
}

#[tokio::test]
async fn trailers_pass_both_ways() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, _driver) = site.http2().await?;
    for body in ["", "some"] {
        let request = site.request(Method::POST, "/").header("te", "trailers").header("trailer", "x-sum");
        let mut asked = client.begin(request.body(())?, false).await?;
        asked.send(Bytes::from_static(b"body"), false).await?;
        let mut trailers = HeaderMap::new();
        for (name, value) in [("x-sum", "1"), ("authorization", "Bearer other")] {
            trailers.append(name, value.parse()?);
        }
        asked.upload.send_trailers(trailers)?;
        let mut app = site.upstream.accept().await?;
        app.head().await?;
        let whole = b"4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n";
        ensure!(app.exactly(whole.len()).await? == whole, "what may not follow a body has followed it");
        let chunk = if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n";
        app.send(format!("{head}{chunk}0\r\ngrpc-status: 0\r\nSet-Cookie: a=b\r\n\r\n")).await?;
        let mut answer = asked.answer().await?;
        ensure!(answer.text().await? == body);
        let trailers = timeout(PATIENCE, answer.body.trailers()).await??.context("no trailers")?;
        ensure!(trailers.len() == 1 && trailers["grpc-status"] == "0", "{trailers:?}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_have_the_bodies_that_they_have() -> Result<()> {
    let site = Site::open().await?;
    let _app =
        std::mem::replace(&mut { site.upstream }, Upstream::start()?).answering(|request| match request.target() {
            "/empty" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            "/same" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".to_vec(),
            "/chunks" => {
                [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunked(b"in chunks", 2)[..]].concat()
            }
            "/close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nuntil".to_vec(),
            _ if request.start.starts_with("HEAD") => b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".to_vec(),
            _ => ok(&format!("{} {}", request.start, request.text())),
        });
    let (mut client, _driver) = connect(site.gateway.address).await?;
    let bearer = format!("Bearer {}", site.token);
    let with = |method, path| request(method, HOST, path).header("authorization", &bearer).body(());
    for (method, path, status, length, body) in [
        (Method::GET, "/empty", 204, None, ""),
        (Method::GET, "/same", 304, Some("9"), ""),
        (Method::HEAD, "/", 200, Some("7"), ""),
        (Method::GET, "/chunks", 200, None, "in chunks"),
        (Method::GET, "/close", 200, Some("5"), "until"),
        (Method::GET, "/", 200, Some("15"), "GET / HTTP/1.1 "),
    ] {
        let mut answer = client.ask(with(method, path)?).await?;
        ensure!(answer.status == status && answer.field("content-length") == length, "{path}: {answer:?}");
        ensure!(answer.text().await? == body, "{path}");
    }
    let mut asked = client.begin(with(Method::POST, "/form")?, false).await?;
    asked.send(Bytes::from("a body"), true).await?;
    ensure!(asked.answer().await?.text().await? == "POST /form HTTP/1.1 a body");
    Ok(())
}

#[tokio::test]
async fn large_bodies_arrive_byte_for_byte_both_ways() -> Result<()> {
    let site = Site::open().await?;
    let data: Vec<u8> = (0..20_000_000u32).map(|n| (n ^ (n >> 11)) as u8).collect();
    for known in [true, false] {
        let (mut client, _driver) = site.http2().await?;
        let request = site.request(Method::POST, "/");
        let request = if known { request.header("content-length", data.len()) } else { request };
        let mut asked = client.begin(request.body(())?, false).await?;
        let upload = async {
            for part in data.chunks(100_000) {
                asked.send(Bytes::copy_from_slice(part), false).await?;
            }
            asked.upload.send_data(Bytes::new(), true)?;
            asked.answer().await
        };
        let app = async {
            let mut app = site.upstream.accept().await?;
            let seen = app.request().await?;
            ensure!(seen.has("Content-Length") == known && seen.has("Transfer-Encoding") != known, "{}", seen.start);
            ensure!(seen.body == data, "the upload is another one");
            if known {
                app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", data.len())).await?;
                app.send(&data).await?;
            } else {
                app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                app.send(chunked(&data, 70_001)).await?;
            }
            Ok(app)
        };
        let download = async {
            let mut answer = upload.await?;
            answer.rest().await
        };
        let (app, body) = tokio::join!(app, download);
        app?;
        ensure!(body? == data, "the download is another one");
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_that_nobody_reads_is_not_taken_in() -> Result<()> {
    let site = Site::with(&[("limits.body_idle_timeout", "1s"), ("upstreams.first_byte_timeout", "1s")]).await?;
    let (mut client, _driver) = site.http2().await?;
    let mut asked = client.begin(site.request(Method::POST, "/").body(())?, false).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    let (all, mut sent) = (256 << 20, 0);
    while sent < all && asked.send(Bytes::from(vec![0; 65536]), false).await.is_ok() {
        sent += 65536;
    }
    ensure!(sent < all / 2, "{sent} bytes were taken, and nobody read them");
    ensure!(asked.answer().await?.status == 504);
    Ok(())
}

#[tokio::test]
async fn a_download_that_nobody_reads_is_not_taken_in_and_stops_nobody_else() -> Result<()> {
    let site = Site::with(&[("upstreams.idle_timeout", "3s")]).await?;
    let (mut client, _driver, asked, mut app) = site.join_http2().await?;
    let all = 256 << 20;
    app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {all}\r\n\r\n")).await?;
    let part = vec![0; 65536];
    let mut stuck = asked.answer().await?;
    let reading = async {
        let asked = client.begin(site.ask_for("/other")?, true).await?;
        let mut other = site.upstream.accept().await?;
        other.request().await?;
        // Within what the connection's window leaves beside the stuck stream.
        other.send(ok("served")).await?;
        ensure!(asked.answer().await?.text().await? == "served");
        anyhow::Ok(())
    };
    let (sent, other) = tokio::join!(app.send_until_answered(&part, all), reading);
    other.context("the other stream")?;
    let sent = sent.unwrap_or(0);
    ensure!(sent < all / 2, "{sent} bytes were taken, and nobody read them");
    stuck.reset().await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn streams_of_many_organisations_do_not_mix() -> Result<()> {
    const ORGS: usize = 12;
    const ROUNDS: usize = 40;
    let name = |number: usize| format!("org{number}");
    let (mut directory, mut apps) = (String::new(), Vec::new());
    for number in 0..ORGS {
        let upstream = Upstream::start()?;
        directory += &org(&name(number), &[("editor", upstream.address())]);
        let own = name(number);
        apps.push(upstream.answering(move |request| {
            let body = format!("{own} {} {}", request.target(), request.text());
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            if request.target().len() % 2 == 0 {
                ok(&body)
            } else {
                [head.as_bytes(), &chunked(body.as_bytes(), 7)].concat()
            }
        }));
    }
    let gateway = Builder::new(directory).start().await?;
    let (client, _driver) = connect(gateway.address).await?;
    let mut asking = Vec::new();
    for number in 0..ORGS {
        let (mut client, token) = (client.clone(), gateway.session(&name(number))?);
        asking.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let path = format!("/{number}-{}", "x".repeat(round));
                let host = format!("editor--org{number}.apps.localhost");
                let request = request(Method::POST, &host, &path).header("authorization", format!("Bearer {token}"));
                let mut asked = client.begin(request.body(())?, false).await?;
                let mark = path.repeat(round * 20);
                asked.send(Bytes::from(mark.clone()), true).await?;
                let mut answer = asked.answer().await?;
                ensure!(answer.status == 200, "{answer:?}");
                let body = answer.text().await?;
                ensure!(body == format!("org{number} {path} {mark}"), "somebody else's answer: {body}");
            }
            anyhow::Ok(())
        }));
    }
    for asked in asking {
        asked.await??;
    }
    for (number, app) in apps.iter().enumerate() {
        let seen = app.seen();
        ensure!(
            seen.len() == ROUNDS && seen.iter().all(|request| request.target().starts_with(&format!("/{number}-")))
        );
    }
    gateway.expect_metric("embedgate_http2_streams_total", (ORGS * ROUNDS) as f64).await
}

#[tokio::test]
async fn every_event_arrives_before_the_next_is_sent() -> Result<()> {
    let site = Site::open().await?;
    let (_client, _driver, asked, mut app) = site.join_http2().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    let mut answer = asked.answer().await?;
    for number in 0..20 {
        let event = format!("data: {number}\n\n");
        app.send(chunked(event.as_bytes(), 100).strip_suffix(b"0\r\n\r\n").context("no end")?).await?;
        ensure!(answer.exactly(event.len()).await? == event.as_bytes(), "event {number}");
    }
    app.send("0\r\n\r\n").await?;
    ensure!(answer.rest().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_upload_and_its_answer_may_run_at_the_same_time() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, _driver) = site.http2().await?;
    let asked = client.begin(site.request(Method::POST, "/").body(())?, false).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    let (mut answer, mut upload) = asked.open().await?;
    for word in ["one", "two"] {
        upload.send_data(Bytes::from(word), false)?;
        let chunk = format!("3\r\n{word}\r\n");
        ensure!(app.exactly(8).await? == chunk.as_bytes());
        app.send(&chunk).await?;
        ensure!(answer.exactly(3).await? == word.as_bytes());
    }
    upload.send_data(Bytes::new(), true)?;
    ensure!(app.exactly(5).await? == b"0\r\n\r\n");
    app.send("0\r\n\r\n").await?;
    ensure!(answer.rest().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_answer_may_come_before_the_upload_ends() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, _driver) = site.http2().await?;
    let mut asked = client.begin(site.request(Method::POST, "/").body(())?, false).await?;
    asked.send(Bytes::from("part"), false).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    app.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nearly").await?;
    let (mut answer, mut upload) = asked.open().await?;
    ensure!(answer.status == 401 && answer.text().await? == "early", "{answer:?}");
    // RFC 9113 8.1: the client is asked to stop, and told that nothing went wrong.
    let reset = timeout(PATIENCE, poll_fn(|cx| upload.poll_reset(cx))).await;
    ensure!(reset.context("the client is not asked to stop")?? == Reason::NO_ERROR);
    app.rest().await?;
    ensure!(client.ask(request(Method::GET, HOST, "/.embedgate/healthz").body(())?).await?.status == 200);
    Ok(())
}

#[tokio::test]
async fn interim_answers_pass_in_order() -> Result<()> {
    let site = Site::open().await?;
    let (_client, _driver, mut asked, mut app) = site.join_http2().await?;
    app.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n")
        .await?;
    for link in ["</a.css>", "</b.css>"] {
        let interim = asked.interim().await?;
        ensure!(interim.status() == 103 && interim.headers()["link"] == link, "{interim:?}");
    }
    app.send(ok("page")).await?;
    ensure!(asked.answer().await?.text().await? == "page");
    Ok(())
}

#[tokio::test]
async fn a_broken_answer_looks_broken() -> Result<()> {
    let site = Site::open().await?;
    for head in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let (_client, _driver, asked, mut app) = site.join_http2().await?;
        app.send(format!("HTTP/1.1 200 OK\r\n{head}")).await?;
        let mut answer = asked.answer().await?;
        ensure!(answer.exactly(4).await? == b"half");
        drop(app);
        ensure!(answer.reset().await? == Some(Reason::INTERNAL_ERROR), "{head}");
    }
    Ok(())
}

#[tokio::test]
async fn refusals_are_the_same() -> Result<()> {
    let site = Site::with(&[("limits.body_bytes", "1000")]).await?;
    let (mut client, _driver) = site.http2().await?;
    let large = site.request(Method::POST, "/").header("content-length", 1001).body(())?;
    for (request, status, reason) in [
        (request(Method::GET, HOST, "/").body(())?, 401, "session"),
        (request(Method::GET, "nobody.example", "/").body(())?, 404, "not_found"),
        (large, 413, "body_too_large"),
        (site.request(Method::TRACE, "/").body(())?, 405, "method"),
        (site.request(Method::GET, "/").header("expect", "more").body(())?, 417, "expectation"),
        (site.request(Method::GET, "/").header("host", "other.example").body(())?, 400, "malformed"),
        (site.request(Method::GET, "/").header("x-a", "padded ").body(())?, 400, "malformed"),
    ] {
        let mut answer = client.begin(request, status != 413).await?.answer().await?;
        ensure!(answer.status == status, "{reason}: {answer:?}");
        ensure!(answer.field("content-type") == Some("application/problem+json"), "{answer:?}");
        ensure!(answer.field("x-request-id").is_some() && !answer.fields.contains_key("connection"), "{answer:?}");
        let text = answer.text().await?;
        ensure!(text.contains(&format!("\"reason\":\"{reason}\"")), "{text}");
    }
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_requests_at_the_app() -> Result<()> {
    let site = Site::open().await?;
    let (_client, driver, _asked, mut app) = site.join_http2().await?;
    driver.cut();
    app.expect_end().await.context("the app is not told")?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await?;
    site.gateway.expect_metric("embedgate_connections_active", 0.0).await
}

#[tokio::test]
async fn a_stream_that_is_given_up_ends_alone() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, _driver, mut first, mut app) = site.join_http2().await?;
    let second = client.begin(site.ask_for("/second")?, true).await?;
    let mut other = site.upstream.accept().await?;
    other.request().await?;
    first.upload.send_reset(Reason::CANCEL);
    app.expect_end().await.context("the app is not told")?;
    site.gateway.expect_metric("embedgate_requests_active", 1.0).await?;
    let line = site.gateway.log_line(|line| line.contains("\"cut_by\":\"client\"")).await?;
    ensure!(line.contains("\"status\":499"), "{line}");

    other.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await?;
    let mut answer = second.answer().await?;
    ensure!(answer.exactly(1).await? == b"a");
    drop(answer);
    other.expect_end().await.context("the app is not told in the middle of its answer")?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn it_can_be_switched_off() -> Result<()> {
    let site = Site::with(&[("server.http2", "false")]).await?;
    let answer = site.refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    ensure!(answer.status() == 400, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_preface_may_come_in_pieces() -> Result<()> {
    let site = Site::open().await?;
    let mut wire = site.gateway.connect().await?;
    for part in ["PRI * HTT", "P/2.0\r\n\r", "\nSM", "\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        wire.send(part).await?;
        // An answer on another connection of the only worker: by then it has read this part.
        let mut other = site.gateway.connect().await?;
        other.send("GET /.embedgate/healthz HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        ensure!(other.answer().await?.status() == 200);
    }
    // The server's own settings.
    ensure!(wire.exactly(9).await?[3] == 4);
    Ok(())
}
