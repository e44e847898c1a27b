//! One reading of every request: what two servers could read in two ways is refused and reaches no app.

use super::{HOST, Site};
use crate::harness::raw::{End, chunked, ok};
use anyhow::{Context as _, Result, ensure};

/// A request with a session that is refused: what it is, its bytes and the status. In the bytes, `{H}` stands for the
/// Host field, `{S}` for the field with the session and `{A}` for both.
type Attack = (&'static str, &'static str, u16);

const BODY_FRAMING: &[Attack] = &[
    ("CL then TE", "POST / HTTP/1.1\r\n{A}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("TE then CL", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    ("CL 0 and TE", "POST / HTTP/1.1\r\n{A}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("TE gzip, chunked", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("TE chunked, identity", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    ("TE chunked twice in a list", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("TE identity", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: identity\r\n\r\n", 400),
    ("TE xchunked", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("TE quoted", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
    ("TE with a parameter", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400),
    ("TE empty", "POST / HTTP/1.1\r\n{A}Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    ("TE with a vertical tab", "POST / HTTP/1.1\r\n{A}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    (
        "two TE fields",
        "POST / HTTP/1.1\r\n{A}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "two TE fields, one harmless",
        "POST / HTTP/1.1\r\n{A}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("TE in HTTP/1.0", "POST / HTTP/1.0\r\n{A}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("CL with a plus", "POST / HTTP/1.1\r\n{A}Content-Length: +5\r\n\r\nhello", 400),
    ("CL with a minus", "POST / HTTP/1.1\r\n{A}Content-Length: -5\r\n\r\nhello", 400),
    ("CL empty", "POST / HTTP/1.1\r\n{A}Content-Length:\r\n\r\nhello", 400),
    ("CL hexadecimal", "POST / HTTP/1.1\r\n{A}Content-Length: 0x5\r\n\r\nhello", 400),
    ("CL with an underscore", "POST / HTTP/1.1\r\n{A}Content-Length: 1_0\r\n\r\nhello", 400),
    ("CL with a fraction", "POST / HTTP/1.1\r\n{A}Content-Length: 5.0\r\n\r\nhello", 400),
    ("CL a list", "POST / HTTP/1.1\r\n{A}Content-Length: 5, 5\r\n\r\nhello", 400),
    ("CL with a space inside", "POST / HTTP/1.1\r\n{A}Content-Length: 5 5\r\n\r\nhello", 400),
    ("CL of 2^64", "POST / HTTP/1.1\r\n{A}Content-Length: 18446744073709551616\r\n\r\nhello", 400),
    ("CL twice and different", "POST / HTTP/1.1\r\n{A}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
    ("CL twice, one empty", "POST / HTTP/1.1\r\n{A}Content-Length: 5\r\nContent-Length:\r\n\r\nhello", 400),
];

const LINES: &[Attack] = &[
    ("bare LF after a field", "GET / HTTP/1.1\r\n{A}X: y\nZ: w\r\n\r\n", 400),
    ("bare LF after the request line", "GET / HTTP/1.1\n{A}\r\n", 400),
    ("bare LF for the empty line", "GET / HTTP/1.1\r\n{A}\n", 400),
    ("bare LF everywhere", "GET / HTTP/1.1\nHost: editor--acme.apps.localhost\n\n", 400),
    ("bare LF before the request line", "\nGET / HTTP/1.1\r\n{A}\r\n", 400),
    ("CR in a value", "GET / HTTP/1.1\r\n{A}X: a\rb\r\n\r\n", 400),
    ("CR in a name", "GET / HTTP/1.1\r\n{A}X\rY: a\r\n\r\n", 400),
    ("CR CR LF", "GET / HTTP/1.1\r\n{A}X: a\r\r\n\r\n", 400),
    ("NUL in a value", "GET / HTTP/1.1\r\n{A}X: a\0b\r\n\r\n", 400),
    ("NUL in a name", "GET / HTTP/1.1\r\n{A}X\0: a\r\n\r\n", 400),
    ("NUL in the target", "GET /\0 HTTP/1.1\r\n{A}\r\n", 400),
    ("another control character", "GET / HTTP/1.1\r\n{A}X: a\x01b\r\n\r\n", 400),
    ("folded line", "GET / HTTP/1.1\r\n{A}X: a\r\n b\r\n\r\n", 400),
    ("folded first line", "GET / HTTP/1.1\r\n X: a\r\n{A}\r\n", 400),
    ("folded Transfer-Encoding", "POST / HTTP/1.1\r\n{A}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    ("space before the colon", "POST / HTTP/1.1\r\n{A}Content-Length : 5\r\n\r\nhello", 400),
    ("tab before the colon", "POST / HTTP/1.1\r\n{A}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
    ("empty field name", "GET / HTTP/1.1\r\n{A}: a\r\n\r\n", 400),
    ("no colon", "GET / HTTP/1.1\r\n{A}nonsense\r\n\r\n", 400),
    ("name that is no token", "GET / HTTP/1.1\r\n{A}X(Y): a\r\n\r\n", 400),
    ("two Authorizations", "GET / HTTP/1.1\r\n{A}Authorization: Basic YTpi\r\n\r\n", 400),
    ("two Authorizations, the session last", "GET / HTTP/1.1\r\n{H}Authorization: Basic YTpi\r\n{S}\r\n", 400),
    ("the same Authorization twice", "GET / HTTP/1.1\r\n{A}{S}\r\n", 400),
    ("unknown expectation", "POST / HTTP/1.1\r\n{A}Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", 417),
];

const TARGETS: &[Attack] = &[
    ("no Host", "GET / HTTP/1.1\r\n{S}\r\n", 400),
    ("two Hosts", "GET / HTTP/1.1\r\n{A}Host: other\r\n\r\n", 400),
    ("two equal Hosts", "GET / HTTP/1.1\r\n{A}{H}\r\n", 400),
    ("empty Host", "GET / HTTP/1.1\r\nHost:\r\n{S}\r\n", 400),
    ("Host with a path", "GET / HTTP/1.1\r\nHost: editor--acme.apps.localhost/x\r\n{S}\r\n", 400),
    ("Host with a user", "GET / HTTP/1.1\r\nHost: u@editor--acme.apps.localhost\r\n{S}\r\n", 400),
    ("Host a list", "GET / HTTP/1.1\r\nHost: editor--acme.apps.localhost, x\r\n{S}\r\n", 400),
    ("Host with a bad port", "GET / HTTP/1.1\r\nHost: editor--acme.apps.localhost:+1\r\n{S}\r\n", 400),
    ("absolute form of another host", "GET http://other.apps.localhost/ HTTP/1.1\r\n{A}\r\n", 400),
    ("absolute form with a user", "GET http://u@editor--acme.apps.localhost/ HTTP/1.1\r\n{A}\r\n", 400),
    ("absolute form of another scheme", "GET ftp://editor--acme.apps.localhost/ HTTP/1.1\r\n{A}\r\n", 400),
    ("authority form", "GET editor--acme.apps.localhost:80 HTTP/1.1\r\n{A}\r\n", 400),
    ("asterisk form", "OPTIONS * HTTP/1.1\r\n{A}\r\n", 400),
    ("fragment in the target", "GET /a#b HTTP/1.1\r\n{A}\r\n", 400),
    ("letters beyond ASCII in the target", "GET /é HTTP/1.1\r\n{A}\r\n", 400),
    ("space in the target", "GET /a b HTTP/1.1\r\n{A}\r\n", 400),
    ("tab in the request line", "GET\t/ HTTP/1.1\r\n{A}\r\n", 400),
    ("relative target", "GET a HTTP/1.1\r\n{A}\r\n", 400),
    ("no version", "GET /\r\n{A}\r\n", 400),
    ("HTTP/2.0", "GET / HTTP/2.0\r\n{A}\r\n", 400),
    ("HTTP/1.2", "GET / HTTP/1.2\r\n{A}\r\n", 400),
    ("almost an HTTP/2 preface", "PRI * HTTP/2.0\r\n{A}\r\n", 400),
    ("no request at all", "\x16\x03\x01\x02\r\n\r\n", 400),
    ("CONNECT", "CONNECT editor--acme.apps.localhost:443 HTTP/1.1\r\n{A}\r\n", 405),
    ("TRACE", "TRACE / HTTP/1.1\r\n{A}\r\n", 405),
];

const UPGRADES: &[Attack] = &[
    (
        "upgrade with a Content-Length",
        "GET / HTTP/1.1\r\n{A}Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
        400,
    ),
    (
        "upgrade with chunks",
        "GET / HTTP/1.1\r\n{A}Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "two protocols to upgrade to",
        "GET / HTTP/1.1\r\n{A}Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
        400,
    ),
];

fn bytes(site: &Site, template: &str) -> String {
    let (host, session) = (format!("Host: {HOST}\r\n"), site.bearer());
    template.replace("{A}", "{H}{S}").replace("{H}", &host).replace("{S}", &session)
}

/// Sends the attacks, each on a connection of its own and with a complete second request behind it.
async fn refuse_all(attacks: &[Attack]) -> Result<()> {
    let site = Site::open().await?;
    for (name, template, status) in attacks {
        let mut client = site.gateway.connect().await?;
        client.send(bytes(&site, template) + &site.get("/smuggled")).await?;
        let answer = client.answer().await.context(*name)?;
        ensure!(answer.status() == *status, "{name}: {} instead of {status}", answer.start);
        client.expect_end().await.with_context(|| format!("{name}: more than one answer"))?;
        site.upstream.expect_untouched().with_context(|| format!("{name}: it reached the upstream"))?;
    }
    // The same session, host and upstream, without the attack: it was not for them that nothing came through.
    site.exchange(site.get("/"), ok("")).await.map(drop)
}

#[tokio::test]
async fn ambiguous_body_framing_is_refused() -> Result<()> {
    refuse_all(BODY_FRAMING).await
}

#[tokio::test]
async fn malformed_lines_are_refused() -> Result<()> {
    refuse_all(LINES).await
}

#[tokio::test]
async fn ambiguous_targets_and_hosts_are_refused() -> Result<()> {
    refuse_all(TARGETS).await
}

#[tokio::test]
async fn malformed_upgrades_are_refused() -> Result<()> {
    refuse_all(UPGRADES).await
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() -> Result<()> {
    let site = Site::with(&[("limits.header_bytes", "8192"), ("limits.header_count", "20")]).await?;
    let long = "x".repeat(8192);
    for (name, head) in [
        ("long target", site.get(&format!("/{long}"))),
        ("long value", site.head("GET /", &format!("X: {long}\r\n"))),
        ("long name", site.head("GET /", &format!("{long}: x\r\n"))),
        ("many fields", site.head("GET /", &"X: y\r\n".repeat(19))),
    ] {
        let answer = site.refused(head).await.context(name)?;
        ensure!(answer.status() == 431, "{name}: {}", answer.start);
    }
    let most = site.head("GET /", &"X: y\r\n".repeat(18));
    site.exchange(most, ok("")).await.map(drop)
}

#[tokio::test]
async fn a_head_without_an_end_is_refused_before_it_fills_memory() -> Result<()> {
    let site = Site::with(&[("limits.header_bytes", "8192")]).await?;
    let mut client = site.gateway.connect().await?;
    let sent = client.send_until_answered(&[b'A'; 4096], 64 << 20).await?;
    ensure!(sent < 64 << 20, "all of it was taken");
    ensure!(client.answer().await?.status() == 431);
    Ok(())
}

/// Broken chunked bodies. The head has been passed on by the time they break, but no app may take such a request for a
/// complete one.
const BROKEN_CHUNKS: &[(&str, &str)] = &[
    ("0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("plus", "+5\r\nhello\r\n0\r\n\r\n"),
    ("minus", "-5\r\nhello\r\n0\r\n\r\n"),
    ("underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
    ("space before", " 5\r\nhello\r\n0\r\n\r\n"),
    ("empty size", "\r\nhello\r\n0\r\n\r\n"),
    ("no hexadecimal digit", "g\r\nhello\r\n0\r\n\r\n"),
    ("size of 2^64", "10000000000000000\r\nhello\r\n0\r\n\r\n"),
    ("many leading zeros", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("LF after the size", "5\nhello\r\n0\r\n\r\n"),
    ("CR without LF after the size", "5\rXhello\r\n0\r\n\r\n"),
    ("LF after the data", "5\r\nhello\n0\r\n\r\n"),
    ("data longer than the size", "3\r\nhello\r\n0\r\n\r\n"),
    ("LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n"),
    ("LF after the last chunk", "5\r\nhello\r\n0\n\r\n"),
    ("LF for the end", "5\r\nhello\r\n0\r\n\n"),
    ("LF in a trailer", "5\r\nhello\r\n0\r\nX: y\n\r\n"),
    ("NUL in a trailer", "5\r\nhello\r\n0\r\nX: \0\r\n\r\n"),
    ("trailer without a colon", "5\r\nhello\r\n0\r\nnonsense\r\n\r\n"),
    ("space before a trailer's colon", "5\r\nhello\r\n0\r\nX : y\r\n\r\n"),
    ("folded trailer", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"),
    ("trailer that is no token", "5\r\nhello\r\n0\r\nX(Y): z\r\n\r\n"),
    ("control character in a trailer", "5\r\nhello\r\n0\r\nX: \x01\r\n\r\n"),
];

/// Sends a POST with this chunked body; says the status and whether the app got a complete request.
async fn post_chunks(site: &Site, body: &str) -> Result<(u16, bool)> {
    let mut client = site.gateway.connect().await?;
    let head = site.head("POST /", "Transfer-Encoding: chunked\r\n");
    client.send(head + body + &site.get("/smuggled")).await?;
    let mut app = site.upstream.accept().await?;
    let complete = app.request().await?.complete;
    let answer = client.answer().await?;
    client.expect_end().await.context("more than one answer")?;
    app.expect_end().await.context("more than one request")?;
    Ok((answer.status(), complete))
}

#[tokio::test]
async fn broken_chunks_never_make_a_complete_request() -> Result<()> {
    let site = Site::open().await?;
    for (name, body) in BROKEN_CHUNKS {
        let outcome = post_chunks(&site, body).await.context(*name)?;
        ensure!(outcome == (400, false), "{name}: status and completeness are {outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn endless_chunk_extensions_and_trailers_are_refused() -> Result<()> {
    let site = Site::open().await?;
    let long = "x".repeat(17 * 1024);
    for body in [
        format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
        format!("5\r\nhello\r\n0\r\nX: {long}\r\n\r\n"),
        format!("5\r\nhello\r\n0\r\n{}\r\n", "X: y\r\n".repeat(65)),
    ] {
        let outcome = post_chunks(&site, &body).await?;
        ensure!(outcome == (400, false), "{outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn chunk_extensions_stay_behind() -> Result<()> {
    let site = Site::open().await?;
    let head = site.head("POST /", "Transfer-Encoding: Chunked\r\n");
    let (request, answer) = site.exchange(head + "5;ext=\"v\"\r\nhello\r\n000 ; a\r\n\r\n", ok("fine")).await?;
    ensure!(request.complete && request.text() == "hello", "{request:?}");
    ensure!(answer.text() == "fine");
    Ok(())
}

#[tokio::test]
async fn what_is_unusual_but_clear_is_served() -> Result<()> {
    let site = Site::open().await?;
    for (name, template, target, body) in [
        ("equal lengths", "POST / HTTP/1.1\r\n{A}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "/", "hello"),
        ("leading zeros", "POST / HTTP/1.1\r\n{A}Content-Length: 005\r\n\r\nhello", "/", "hello"),
        ("absolute form", "GET http://editor--acme.apps.localhost/a?b HTTP/1.1\r\n{A}\r\n", "/a?b", ""),
        ("absolute form, no path", "GET HTTP://EDITOR--acme.apps.localhost HTTP/1.1\r\n{A}\r\n", "/", ""),
        ("empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n{A}\r\n", "/", ""),
        ("tabs around a value", "GET / HTTP/1.1\r\n{A}X:\t y \t\r\n\r\n", "/", ""),
        ("encoded oddities", "GET /%2e%2e/%00?%23 HTTP/1.1\r\n{A}\r\n", "/%2e%2e/%00?%23", ""),
    ] {
        let (request, answer) = site.exchange(bytes(&site, template), ok("")).await.context(name)?;
        ensure!(request.target() == target && request.text() == body, "{name}: {request:?}");
        ensure!(request.all("Host") == [site.upstream.address().to_string()], "{name}: {request:?}");
        ensure!(request.all("Content-Length").len() < 2 && answer.status() == 200, "{name}: {request:?}");
    }
    Ok(())
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    let (hello, later) = (chunked(b"hello", 2), site.get("/3"));
    let chunks = site.head("POST /1", "Transfer-Encoding: chunked\r\n");
    let length = site.head("POST /2", "Content-Length: 5\r\n");
    client.send([chunks.as_bytes(), &hello, length.as_bytes(), b"world", later.as_bytes()].concat()).await?;
    let app = site.upstream.answering(|request| ok(&format!("{} {}", request.target(), request.text())));
    for expected in ["/1 hello", "/2 world", "/3 "] {
        ensure!(client.answer().await?.text() == expected, "instead of {expected:?}");
    }
    ensure!(app.seen().len() == 3);
    Ok(())
}

#[tokio::test]
async fn nothing_is_read_after_a_request_that_ends_the_connection() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("GET /last", "Connection: x, Close\r\n") + &site.get("/smuggled")).await?;
    let app = site.upstream.answering(|request| ok(request.target()));
    let answer = client.answer().await?;
    ensure!(answer.text() == "/last" && answer.field("Connection") == Some("close"), "{answer:?}");
    client.expect_end().await?;
    ensure!(app.seen().len() == 1, "{:?}", app.seen());
    Ok(())
}

#[tokio::test]
async fn a_refused_body_is_never_read_as_the_next_request() -> Result<()> {
    let site = Site::open().await?;
    let hidden = site.get("/smuggled");
    let length = format!("Content-Length: {}\r\n", hidden.len());
    let chunks = "Transfer-Encoding: chunked\r\n";
    for (name, line, status) in [
        ("no session", "POST / HTTP/1.1\r\nHost: editor--acme.apps.localhost\r\n".to_owned(), 401),
        ("unknown host", format!("POST / HTTP/1.1\r\nHost: other\r\n{}", site.bearer()), 404),
        ("own endpoint", "GET /.embedgate/healthz HTTP/1.1\r\nHost: x\r\n".to_owned(), 200),
        ("redirect", "POST /app-proxy/editor HTTP/1.1\r\nHost: localhost\r\n".to_owned(), 308),
    ] {
        for framing in [&length, chunks] {
            let mut client = site.gateway.connect().await?;
            client.send(format!("{line}{framing}\r\n{hidden}")).await?;
            let answer = client.answer().await.context(name)?;
            ensure!(answer.status() == status, "{name}: {}", answer.start);
            ensure!(answer.field("Connection") == Some("close"), "{name}: {answer:?}");
            ensure!(client.expect_end().await.context(name)? == End::Closed, "{name}: the answer could be lost");
            site.upstream.expect_untouched().context(name)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_request_without_a_body_leaves_the_connection_usable() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n{}", site.get("/next"))).await?;
    ensure!(client.answer().await?.status() == 401);
    let mut app = site.upstream.accept().await?;
    ensure!(app.request().await?.target() == "/next");
    app.send(ok("next")).await?;
    ensure!(client.answer().await?.text() == "next");
    Ok(())
}
