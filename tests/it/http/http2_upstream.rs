//! HTTP/2 to upstreams: agreed on in the TLS handshake or set, many requests on one connection, and whatever an upstream may
//! do to a stream. Clients cannot tell.

use super::HOST;
use super::websocket::{AGREE, ASK};
use crate::harness::PATIENCE;
use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::h2::{Shared, connect, request};
use crate::harness::h2_upstream::{Http2Upstream, Received, Trunk, fields};
use crate::harness::raw::{Wire, chunked, ok};
use crate::harness::tls::Authority;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::Reason;
use http::Method;
use std::net::SocketAddr;
use tokio::time::timeout;

/// A gateway before an app that speaks HTTP/2.
struct Site {
    gateway: Gateway,
    upstream: Http2Upstream,
    token: String,
    _authority: Option<Authority>,
}

impl Site {
    /// Without TLS, by prior knowledge.
    async fn open() -> Result<Self> {
        Self::with(Http2Upstream::start(None).await?).await
    }

    async fn with(upstream: Http2Upstream) -> Result<Self> {
        let directory = org("acme", &[("editor", upstream.address()?)]) + "protocol = 'http2'\n";
        let gateway = Builder::new(directory).start().await?;
        let token = gateway.session("acme")?;
        Ok(Self { gateway, upstream, token, _authority: None })
    }

    /// With TLS, in whose handshake the app offers `protocols`. `keys` are more of the app's in the directory.
    async fn secure(protocols: &[&str], keys: &str) -> Result<Self> {
        let authority = Authority::new()?;
        authority.issue("upstream", "IP:127.0.0.1", 2)?;
        let upstream = Http2Upstream::start(Some(authority.server("upstream", protocols)?)).await?;
        let directory = org("acme", &[("editor", upstream.address()?)]).replace("http://", "https://") + keys;
        let builder = Builder::new(directory).set("upstreams.ca_file", &authority.toml("ca.crt"));
        let gateway = builder.start().await?;
        let token = gateway.session("acme")?;
        Ok(Self { gateway, upstream, token, _authority: Some(authority) })
    }

    fn head(&self, line: &str, fields: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\n{fields}\r\n", self.token)
    }

    /// A client that has sent a request.
    async fn ask(&self, line: &str, fields: &str, body: &[u8]) -> Result<Wire> {
        let mut client = self.gateway.connect().await?;
        client.send([self.head(line, fields).as_bytes(), body].concat()).await?;
        Ok(client)
    }

    /// The same over HTTP/2, with what is still to be sent of it.
    async fn http2(&self) -> Result<Shared> {
        Ok(connect(self.gateway.address).await?.0)
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        request(method, HOST, path).header("authorization", format!("Bearer {}", self.token))
    }

    /// A client whose GET the app has received.
    async fn join(&self) -> Result<(Wire, Trunk, Received)> {
        let client = self.ask("GET /", "", b"").await?;
        let mut trunk = self.upstream.accept().await?;
        let received = trunk.request().await?;
        Ok((client, trunk, received))
    }
}

#[tokio::test]
async fn the_upstream_chooses_in_the_handshake() -> Result<()> {
    for (protocols, keys) in [(&["h2", "http/1.1"][..], ""), (&["h2"], "protocol = 'http2'\n")] {
        let site = Site::secure(protocols, keys).await?;
        let mut client =
            site.ask("GET /p?q=1", "Cookie: a=b\r\nX-Custom: 1\r\nConnection: X-Gone\r\nX-Gone: 1\r\n", b"").await?;
        let mut trunk = site.upstream.accept().await?;
        let mut seen = trunk.request().await?;
        let address: SocketAddr = site.upstream.address()?;
        ensure!(
            seen.head.method == Method::GET && seen.head.uri == *format!("https://{address}/p?q=1"),
            "{:?}",
            seen.head
        );
        let field = |name: &str| seen.head.headers.get(name).and_then(|value| value.to_str().ok());
        for (name, value) in [("authorization", "Bearer acme-bearer"), ("cookie", "a=b"), ("x-custom", "1")] {
            ensure!(field(name) == Some(value), "{name}: {:?}", seen.head);
        }
        for name in ["connection", "host", "x-gone", "content-length", "transfer-encoding"] {
            ensure!(field(name).is_none(), "{name}: {:?}", seen.head);
        }
        seen.answer(200, &[("content-length", "2"), ("x-a", "1")], "hi")?;
        let answer = client.answer().await?;
        ensure!(answer.status() == 200 && answer.text() == "hi" && answer.field("x-a") == Some("1"), "{answer:?}");
    }
    for (protocols, keys) in [(&["http/1.1"][..], ""), (&["h2", "http/1.1"], "protocol = 'http1'\n")] {
        let site = Site::secure(protocols, keys).await?;
        let mut client = site.ask("GET /", "", b"").await?;
        let mut app = site.upstream.accept_http1().await?;
        app.request().await?;
        app.send(ok("in the old way")).await?;
        ensure!(client.answer().await?.text() == "in the old way");
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_does_not_agree_to_what_is_set_is_not_reached() -> Result<()> {
    let site = Site::secure(&[], "protocol = 'http2'\n").await?;
    let mut client = site.ask("GET /", "", b"").await?;
    ensure!(site.upstream.accept().await.is_err());
    let answer = client.answer().await?;
    let status = answer.field("Proxy-Status").unwrap_or_default();
    ensure!(answer.status() == 502 && status.contains("tls_protocol_error"), "{answer:?}");
    let line = site.gateway.log_line(|line| line.contains("\"status\":502")).await?;
    ensure!(line.contains("does not agree to HTTP/2"), "{line}");
    Ok(())
}

#[tokio::test]
async fn requests_share_a_connection_as_long_as_it_takes_them() -> Result<()> {
    let site = Site::with(Http2Upstream::start(None).await?.with_streams(2)).await?;
    let (mut first, mut trunk, mut one) = site.join().await?;
    let mut second = site.ask("GET /2", "", b"").await?;
    let mut two = trunk.request().await?;
    // The third one finds no room, and gets a connection of its own.
    let mut third = site.ask("GET /3", "", b"").await?;
    let mut other = site.upstream.accept().await?;
    let mut three = other.request().await?;
    for (received, client, text) in
        [(&mut three, &mut third, "c"), (&mut two, &mut second, "b"), (&mut one, &mut first, "a")]
    {
        received.answer(200, &[], text)?;
        ensure!(client.answer().await?.text() == text);
    }
    second.send(site.head("GET /4", "")).await?;
    let mut four = trunk.request().await?;
    four.answer(200, &[], "d")?;
    ensure!(second.answer().await?.text() == "d");
    site.upstream.expect_untouched().await?;
    site.gateway.expect_metric("embedgate_upstream_connections_total{result=\"opened\"}", 2.0).await?;
    site.gateway.expect_metric("embedgate_upstream_http2_streams_total", 4.0).await
}

#[tokio::test]
async fn bodies_are_what_they_were() -> Result<()> {
    let site = Site::open().await?;
    let large = super::bodies::noise(3 << 20);
    let length = |length: usize| format!("Content-Length: {length}\r\n");
    let chunks = "Transfer-Encoding: chunked\r\n".to_owned();
    let mut trunk = None;
    for (fields, body, sent) in [
        (String::new(), &b""[..], Vec::new()),
        (length(0), b"", Vec::new()),
        (length(5), b"hello", b"hello".to_vec()),
        (chunks.clone(), b"hello", chunked(b"hello", 2)),
        (chunks.clone(), b"", chunked(b"", 1)),
        (length(large.len()), &large, large.clone()),
        (chunks, &large, chunked(&large, 70_001)),
    ] {
        let mut client = site.gateway.connect().await?;
        let head = site.head("POST /", &fields);
        let talk = async {
            client.send([head.as_bytes(), &sent].concat()).await?;
            client.answer().await
        };
        let serve = async {
            if trunk.is_none() {
                trunk = Some(site.upstream.accept().await?);
            }
            let mut seen = trunk.as_mut().context("no connection")?.request().await?;
            let told = seen.head.headers.contains_key("content-length");
            ensure!(told == fields.starts_with("Content-Length"), "{:?}", seen.head);
            let got = seen.upload.rest().await?;
            ensure!(got == body, "{} bytes of {}", got.len(), body.len());
            // And back again, as fast as the client takes it.
            let out = seen.open(200, &[], false)?;
            tokio::spawn(send(out, Bytes::from(got)));
            anyhow::Ok(())
        };
        let (answer, ()) = tokio::try_join!(talk, serve)?;
        ensure!(
            answer.status() == 200 && answer.body == body && answer.complete,
            "{} of {}",
            answer.body.len(),
            body.len()
        );
    }
    Ok(())
}

/// Sends all of a body, as fast as the client takes it.
async fn send(mut out: h2::SendStream<Bytes>, mut body: Bytes) -> Result<()> {
    while !body.is_empty() {
        out.reserve_capacity(body.len());
        while out.capacity() == 0 {
            std::future::poll_fn(|cx| out.poll_capacity(cx)).await.context("the stream is over")??;
        }
        let room = out.capacity().min(body.len());
        out.send_data(body.split_to(room), false)?;
    }
    Ok(out.send_data(Bytes::new(), true)?)
}

#[tokio::test]
async fn answers_without_a_body_have_none() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut trunk, mut received) = site.join().await?;
    received.answer(204, &[("x-a", "1")], "")?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 204 && !answer.has("Content-Length") && !answer.has("Transfer-Encoding"), "{answer:?}");
    client.send(site.head("HEAD /", "")).await?;
    trunk.request().await?.answer(200, &[("content-length", "7")], "")?;
    let answer = client.answer_to_head().await?;
    ensure!(answer.status() == 200 && answer.field("Content-Length") == Some("7"), "{answer:?}");
    client.send(site.head("GET /", "If-None-Match: \"a\"\r\n")).await?;
    trunk.request().await?.answer(304, &[("etag", "\"a\"")], "")?;
    ensure!(client.answer().await?.status() == 304);
    client.send(site.head("GET /", "")).await?;
    trunk.request().await?.answer(200, &[], "")?;
    let answer = client.answer().await?;
    ensure!(answer.field("Content-Length") == Some("0"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn interim_answers_come_first() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.ask("POST /", "Content-Length: 4\r\nExpect: 100-continue\r\n", b"").await?;
    let mut trunk = site.upstream.accept().await?;
    let mut seen = trunk.request().await?;
    ensure!(seen.head.headers["expect"] == "100-continue", "{:?}", seen.head);
    seen.interim(100, &[])?;
    ensure!(client.head().await?.status() == 100);
    client.send("body").await?;
    ensure!(seen.upload.text().await? == "body");
    seen.interim(103, &[("link", "</a.css>")])?;
    let hints = client.head().await?;
    ensure!(hints.status() == 103 && hints.field("Link") == Some("</a.css>"), "{hints:?}");
    seen.answer(200, &[], "page")?;
    ensure!(client.answer().await?.text() == "page");
    Ok(())
}

#[tokio::test]
async fn a_call_of_grpc_goes_both_ways_at_once() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.http2().await?;
    let call = site.request(Method::POST, "/greeter.Greeter/Chat");
    let call = call.header("content-type", "application/grpc").header("te", "trailers");
    let mut asked = client.begin(call.body(())?, false).await?;
    let mut trunk = site.upstream.accept().await?;
    let mut seen = trunk.request().await?;
    ensure!(seen.head.headers["te"] == "trailers", "{:?}", seen.head);
    let mut out = seen.open(200, &[("content-type", "application/grpc")], false)?;
    // Both sides talk in turn, so none may wait for the other's end.
    asked.send(Bytes::from_static(b"message 0"), false).await?;
    let (mut answer, mut upload) = asked.open().await?;
    for turn in 0..5 {
        let message = format!("message {turn}");
        ensure!(seen.upload.exactly(message.len()).await? == message.as_bytes());
        out.send_data(Bytes::from(format!("reply {turn}")), false)?;
        ensure!(answer.exactly(7).await? == format!("reply {turn}").as_bytes());
        upload.send_data(Bytes::from(format!("message {}", turn + 1)), false)?;
    }
    upload.send_data(Bytes::new(), true)?;
    seen.upload.exactly(9).await?;
    ensure!(seen.upload.rest().await?.is_empty(), "more than the client has sent");
    out.send_trailers(fields(&[("grpc-status", "0"), ("grpc-message", "fine"), ("set-cookie", "a=b")])?)?;
    ensure!(answer.part().await?.is_none());
    let trailers = timeout(PATIENCE, answer.body.trailers()).await??.context("no trailers")?;
    ensure!(
        trailers.len() == 2 && trailers["grpc-status"] == "0" && trailers["grpc-message"] == "fine",
        "{trailers:?}"
    );

    // An error is told in a head that is all there is.
    let call = site.request(Method::POST, "/greeter.Greeter/None").header("te", "trailers").body(())?;
    let asked = client.begin(call, true).await?;
    trunk.request().await?.answer(200, &[("grpc-status", "12")], "")?;
    let answer = asked.answer().await?;
    ensure!(answer.field("grpc-status") == Some("12") && answer.body.is_end_stream(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn trailers_of_a_request_pass() -> Result<()> {
    let site = Site::open().await?;
    let body = b"4\r\nbody\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer other\r\n\r\n";
    let mut client = site.ask("POST /", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", body).await?;
    let mut trunk = site.upstream.accept().await?;
    let mut seen = trunk.request().await?;
    ensure!(seen.upload.text().await? == "body");
    let trailers = timeout(PATIENCE, seen.upload.body.trailers()).await??.context("no trailers")?;
    ensure!(trailers.len() == 1 && trailers["x-sum"] == "1", "{trailers:?}");
    seen.answer(200, &[], "")?;
    ensure!(client.answer().await?.status() == 200);
    Ok(())
}

#[tokio::test]
async fn what_was_refused_is_sent_once_more() -> Result<()> {
    let site = Site::open().await?;
    // Whatever the request is for: the upstream has promised that it has done nothing.
    for method in ["GET", "POST"] {
        let mut client = site.ask(&format!("{method} /"), "Content-Length: 0\r\n", b"").await?;
        let mut trunk = site.upstream.accept().await?;
        trunk.request().await?.reset(Reason::REFUSED_STREAM);
        let mut again = site.upstream.accept().await?;
        let mut seen = again.request().await?;
        ensure!(seen.head.method == method);
        seen.answer(200, &[], "at last")?;
        ensure!(client.answer().await?.text() == "at last");
        for trunk in [trunk, again] {
            trunk.leave()?;
            trunk.ended().await?;
        }
    }
    // Only once, and not when a part of its body has gone.
    let mut client = site.ask("GET /", "", b"").await?;
    let mut trunks = Vec::new();
    for _ in 0..2 {
        let mut trunk = site.upstream.accept().await?;
        trunk.request().await?.reset(Reason::REFUSED_STREAM);
        trunks.push(trunk);
    }
    ensure!(client.answer().await?.status() == 502);
    let mut client = site.ask("POST /", "Content-Length: 4\r\n", b"body").await?;
    let mut seen = trunks[0].request().await?;
    seen.upload.part().await?;
    seen.reset(Reason::REFUSED_STREAM);
    ensure!(client.answer().await?.status() == 502);
    site.upstream.expect_untouched().await
}

#[tokio::test]
async fn a_post_that_may_have_been_done_is_never_sent_twice() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut trunk, mut received) = site.join().await?;
    received.answer(200, &[], "")?;
    client.answer().await?;
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::NO_ERROR] {
        let mut client = site.ask("POST /", "Content-Length: 0\r\n", b"").await?;
        trunk.request().await?.reset(reason);
        let answer = client.answer().await?;
        let status = answer.field("Proxy-Status").unwrap_or_default();
        ensure!(answer.status() == 502 && status.contains("connection_terminated"), "{answer:?}");
    }
    let mut client = site.ask("POST /", "Content-Length: 0\r\n", b"").await?;
    trunk.request().await?;
    drop(trunk);
    ensure!(client.answer().await?.status() == 502);
    site.upstream.expect_untouched().await
}

#[tokio::test]
async fn a_connection_that_leaves_serves_what_it_has() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut trunk, mut received) = site.join().await?;
    let mut out = received.open(200, &[], false)?;
    out.send_data(Bytes::from_static(b"half"), false)?;
    ensure!(client.head().await?.status() == 200);
    trunk.leave()?;
    // Until the client knows, requests may still come here; then they go elsewhere, and none is lost.
    let mut next = site.gateway.connect().await?;
    let mut other = loop {
        next.send(site.head("POST /next", "Content-Length: 0\r\n")).await?;
        tokio::select! {
            seen = trunk.request() => {
                seen?.answer(200, &[], "here")?;
                ensure!(next.answer().await?.text() == "here");
            }
            other = site.upstream.accept() => break other?,
        }
    };
    other.request().await?.answer(200, &[], "elsewhere")?;
    ensure!(next.answer().await?.text() == "elsewhere");
    out.send_data(Bytes::from_static(b" and half"), true)?;
    ensure!(client.exactly(b"4\r\nhalf\r\n9\r\n and half\r\n0\r\n\r\n".len()).await?.ends_with(b"0\r\n\r\n"));
    trunk.ended().await
}

#[tokio::test]
async fn a_broken_answer_looks_broken() -> Result<()> {
    let site = Site::open().await?;
    let mut trunk = None;
    for abandon in [false, true] {
        let mut client = site.ask("GET /", "", b"").await?;
        if trunk.is_none() {
            trunk = Some(site.upstream.accept().await?);
        }
        let connection = trunk.as_mut().context("no connection")?;
        let mut received = connection.request().await?;
        let mut out = received.open(200, &[], false)?;
        out.send_data(Bytes::from_static(b"half"), false)?;
        client.head().await?;
        client.exactly(b"4\r\nhalf\r\n".len()).await?;
        if abandon {
            connection.abandon()?;
        } else {
            received.reset(Reason::INTERNAL_ERROR);
        }
        let rest = client.rest().await?;
        ensure!(rest.bytes.is_empty(), "an end that looks proper: {:?}", String::from_utf8_lossy(&rest.bytes));
    }
    let line = site.gateway.log_line(|line| line.contains("upstream reset")).await?;
    ensure!(line.contains("\"status\":200"), "{line}");
    Ok(())
}

#[tokio::test]
async fn an_upstream_may_want_http_1_1() -> Result<()> {
    let site = Site::secure(&["h2", "http/1.1"], "").await?;
    let mut client = site.ask("POST /", "Content-Length: 0\r\n", b"").await?;
    let mut trunk = site.upstream.accept().await?;
    trunk.request().await?.reset(Reason::HTTP_1_1_REQUIRED);
    for (target, body) in [("/", "so be it"), ("/next", "at once")] {
        let mut app = site.upstream.accept_http1().await?;
        ensure!(app.request().await?.target() == target);
        app.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .await?;
        ensure!(client.answer().await?.text() == body);
        if target == "/" {
            client.send(site.head("GET /next", "")).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_begins_in_http_1_1() -> Result<()> {
    let site = Site::secure(&["h2", "http/1.1"], "").await?;
    let mut page = site.ask("GET /", "", b"").await?;
    let mut trunk = site.upstream.accept().await?;
    trunk.request().await?.answer(200, &[], "page")?;
    ensure!(page.answer().await?.text() == "page");
    let mut client = site.ask("GET /ws", ASK, b"").await?;
    let mut app = site.upstream.accept_http1().await?;
    ensure!(app.request().await?.field("Upgrade") == Some("websocket"));
    app.send(AGREE).await?;
    ensure!(client.head().await?.status() == 101);
    client.send(b"\x81\x80\0\0\0\0").await?;
    ensure!(app.exactly(6).await? == b"\x81\x80\0\0\0\0");
    Ok(())
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_else() -> Result<()> {
    let site = Site::open().await?;
    let (_sleeper, mut trunk, mut received) = site.join().await?;
    let out = received.open(200, &[], false)?;
    let endless = tokio::spawn(send(out, Bytes::from(vec![0; 64 << 20])));
    let mut other = site.ask("GET /other", "", b"").await?;
    let mut seen = trunk.request().await?;
    let body = super::bodies::noise(2 << 20);
    let out = seen.open(200, &[], false)?;
    let sent = tokio::spawn(send(out, Bytes::from(body.clone())));
    ensure!(other.answer().await?.body == body);
    sent.await??;
    ensure!(!endless.is_finished(), "64 MiB were taken for a client that reads nothing");
    endless.abort();
    Ok(())
}

#[tokio::test]
async fn an_upstream_hears_that_the_client_has_gone() -> Result<()> {
    let site = Site::open().await?;
    let (client, _trunk, mut received) = site.join().await?;
    client.reset()?;
    let reason = received.given_up().await?;
    ensure!(reason == Reason::CANCEL, "{reason:?}");
    Ok(())
}

#[tokio::test]
async fn connections_are_closed_when_nobody_needs_them() -> Result<()> {
    let upstream = Http2Upstream::start(None).await?;
    let directory = org("acme", &[("editor", upstream.address()?)]) + "protocol = 'http2'\n";
    let gateway = Builder::new(directory).set("upstreams.pool_idle_timeout", "\"200ms\"").start().await?;
    let token = gateway.session("acme")?;
    let site = Site { gateway, upstream, token, _authority: None };
    let (mut client, trunk, mut received) = site.join().await?;
    received.answer(200, &[], "done")?;
    client.answer().await?;
    trunk.ended().await
}

#[tokio::test]
async fn a_target_that_http_2_cannot_say_goes_in_http_1_1() -> Result<()> {
    let site = Site::secure(&["h2", "http/1.1"], "").await?;
    let mut client = site.ask("GET /a`b", "", b"").await?;
    site.upstream.accept().await.err();
    let mut app = site.upstream.accept_http1().await?;
    ensure!(app.request().await?.target() == "/a`b");
    app.send(ok("said")).await?;
    ensure!(client.answer().await?.text() == "said");
    Ok(())
}
