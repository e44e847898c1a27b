//! Every kind of request and answer, once straight to the app and once through the gateway: but for what concerns one hop,
//! client and app cannot tell the difference.

use super::bodies::noise;
use super::{HOST, Site};
use crate::harness::raw::{Message, Wire, chunked};
use anyhow::{Context as _, Result, ensure};

/// A request: its name, method, fields and the bytes behind its head.
struct Request {
    name: &'static str,
    method: &'static str,
    fields: String,
    body: Vec<u8>,
}

/// An answer: its name, its bytes, and whether they answer HEAD.
struct Answer {
    name: &'static str,
    bytes: Vec<u8>,
    to_head: bool,
}

const LARGE: usize = 1 << 20;

/// "hello, " four times and a line's end, as gzip writes it: whoever decodes it on the way changes it.
const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\xd7\x51\xc8\xc0\xa4\xb8\x00\x4b\x21\xa1\x29\x1b\x00\x00\x00";

fn requests() -> Vec<Request> {
    let large = noise(LARGE);
    let request = |name, method, fields: &str, body: &[u8]| Request {
        name,
        method,
        fields: fields.to_owned(),
        body: body.to_vec(),
    };
    let length = |length| format!("Content-Length: {length}\r\n");
    let chunks = "Transfer-Encoding: chunked\r\n";
    vec![
        request("nothing", "GET", "", b""),
        request("a range", "GET", "Range: bytes=2-5\r\nIf-Range: \"a\"\r\n", b""),
        request("POST without a body", "POST", "", b""),
        request("length 0", "POST", &length(0), b""),
        request("known length", "POST", &length(5), b"hello"),
        request("1 MiB", "PUT", &length(LARGE), &large),
        request("gzip", "POST", &(length(GZIP.len()) + "Content-Encoding: gzip\r\n"), GZIP),
        request("chunks", "POST", chunks, &chunked(b"hello", 2)),
        request("no chunks", "POST", chunks, &chunked(b"", 1)),
        request("1 MiB in chunks", "PATCH", chunks, &chunked(&large, 70_001)),
        request("HEAD", "HEAD", "", b""),
    ]
}

fn answers() -> Vec<Answer> {
    let large = noise(LARGE);
    let answer = |name, head: &str, body: &[u8]| {
        let bytes = [format!("HTTP/1.1 {head}\r\n").as_bytes(), body].concat();
        Answer { name, bytes, to_head: false }
    };
    let to_head = |name, head: &str| Answer { to_head: true, ..answer(name, head, b"") };
    let length = |length: usize| format!("200 OK\r\nContent-Length: {length}\r\n");
    let chunks = "200 OK\r\nTransfer-Encoding: chunked\r\n";
    let hints = "103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-After: y\r\n";
    vec![
        answer("204", "204 No Content\r\nX: y\r\n", b""),
        answer("304", "304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n", b""),
        answer("length 0", &length(0), b""),
        answer("known length", &length(5), b"hello"),
        answer("1 MiB", &length(LARGE), &large),
        answer("gzip", &(length(GZIP.len()) + "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"), GZIP),
        answer("chunks", chunks, &chunked(b"hello", 2)),
        answer("no chunks", chunks, &chunked(b"", 1)),
        answer("1 MiB in chunks", chunks, &chunked(&large, 70_001)),
        answer("gzip in chunks", &format!("{chunks}Content-Encoding: gzip\r\n"), &chunked(GZIP, 7)),
        answer("until close", "200 OK\r\nContent-Type: text/plain\r\n", b"hello"),
        answer("1 MiB until close", "200 OK\r\n", &large),
        answer("early hints", hints, b"page"),
        answer("206", "206 Partial Content\r\nContent-Range: bytes 2-5/9\r\nContent-Length: 4\r\n", b"cdef"),
        answer("416", "416 Range Not Satisfiable\r\nContent-Range: bytes */9\r\nContent-Length: 0\r\n", b""),
        answer("an error of the app's", "500 Oh no\r\nContent-Length: 4\r\nX-Request-Id: app\r\n", b"oops"),
        to_head("HEAD with a length", &length(5000)),
        to_head("HEAD with length 0", &length(0)),
        to_head("HEAD with chunks", chunks),
        to_head("HEAD without a length", "200 OK\r\nETag: \"a\"\r\n"),
    ]
}

/// What the two sides got of each other.
struct Talk {
    request: Message,
    interim: Vec<Message>,
    answer: Message,
}

/// Sends a request over `client`, lets the app answer, and reads to the end of the connection.
async fn talk(site: &Site, mut client: Wire, version: &str, request: &Request, answer: &Answer) -> Result<Talk> {
    let fields = format!("Host: {HOST}\r\n{}Connection: close\r\n{}", site.bearer(), request.fields);
    let head = format!("{} /a?b {version}\r\n{fields}\r\n", request.method);
    let app = async {
        let mut app = site.upstream.accept().await?;
        let request = app.request().await?;
        app.send(&answer.bytes).await?;
        anyhow::Ok(request)
    };
    let ask = async {
        client.send([head.as_bytes(), &request.body].concat()).await?;
        read_answers(&mut client, answer.to_head).await
    };
    let (request, (interim, answer)) = tokio::try_join!(app, ask)?;
    Ok(Talk { request, interim, answer })
}

async fn read_answers(client: &mut Wire, to_head: bool) -> Result<(Vec<Message>, Message)> {
    let mut interim = Vec::new();
    loop {
        let answer = if to_head { client.answer_to_head().await? } else { client.answer().await? };
        if answer.status() >= 200 {
            client.expect_end().await.context("bytes behind the answer")?;
            return Ok((interim, answer));
        }
        interim.push(answer);
    }
}

/// The fields that go from end to end: not those of one hop, nor those in which the gateway says who asks.
fn end_to_end(message: &Message) -> Vec<String> {
    let hop = ["connection", "transfer-encoding", "host", "authorization"];
    let ours = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-user", "x-forwarded-email", "x-embedgate-org"];
    let is_request = !message.start.starts_with("HTTP/");
    let passes =
        |name: &str| !(hop.contains(&name) || (is_request && (ours.contains(&name) || name == "x-request-id")));
    let lower = message.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let mut fields: Vec<_> = lower.filter(|(name, _)| passes(name)).map(|(n, v)| format!("{n}: {v}")).collect();
    // The length is written last.
    fields.sort_by_key(|field| field.starts_with("content-length"));
    fields
}

fn same(what: &str, direct: &Message, through: &Message) -> Result<()> {
    ensure!(direct.complete && through.complete, "{what}: {direct:?} {through:?}");
    ensure!(direct.body == through.body, "{what}: another body: {direct:?} {through:?}");
    let (before, after) = (end_to_end(direct), end_to_end(through));
    ensure!(before == after, "{what}: {before:?} and {after:?}");
    Ok(())
}

fn compare(version: &str, direct: &Talk, through: &Talk) -> Result<()> {
    same("the request", &direct.request, &through.request)?;
    let start = direct.request.start.replace("HTTP/1.0", "HTTP/1.1");
    ensure!(through.request.start == start, "{}", through.request.start);
    let chunks = |talk: &Talk| talk.request.has("Transfer-Encoding");
    ensure!(chunks(direct) == chunks(through), "the request is framed in another way: {:?}", through.request);
    same("the answer", &direct.answer, &through.answer)?;
    ensure!(direct.answer.start == through.answer.start, "{}", through.answer.start);
    if version == "HTTP/1.0" {
        ensure!(through.interim.is_empty() && !through.answer.has("Transfer-Encoding"), "{:?}", through.answer);
        return Ok(());
    }
    ensure!(direct.interim.len() == through.interim.len(), "{:?}", through.interim);
    direct.interim.iter().zip(&through.interim).try_for_each(|(d, t)| same("an interim answer", d, t))
}

/// Goes through all requests of a version with one answer, and all answers with one request of either method.
async fn all(version: &str) -> Result<()> {
    let site = Site::open().await?;
    let (requests, answers) = (requests(), answers());
    for request in &requests {
        for answer in answers.iter().filter(|answer| answer.to_head == (request.method == "HEAD")) {
            let plain = ["nothing", "HEAD", "chunks"].contains(&request.name);
            let wanted = plain || ["known length", "chunks"].contains(&answer.name);
            if !wanted || (version == "HTTP/1.0" && request.fields.starts_with("Transfer-Encoding")) {
                continue;
            }
            let name = || format!("{version}, {}, answered with {}", request.name, answer.name);
            let direct = Wire::connect(site.upstream.address()).await?;
            let direct = talk(&site, direct, version, request, answer).await.with_context(name)?;
            let through =
                talk(&site, site.gateway.connect().await?, version, request, answer).await.with_context(name)?;
            compare(version, &direct, &through).with_context(name)?;
        }
    }
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn a_client_of_http_1_1_gets_what_the_app_says() -> Result<()> {
    all("HTTP/1.1").await
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_what_the_app_says() -> Result<()> {
    all("HTTP/1.0").await
}

/// Asks for a go-ahead, which the app gives or does not.
async fn expecting(site: &Site, mut client: Wire, goes_ahead: bool) -> Result<Talk> {
    let fields = format!("{}Connection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", site.bearer());
    client.send(format!("POST /a?b HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).await?;
    let mut app = site.upstream.accept().await?;
    let mut request = app.head().await?;
    if goes_ahead {
        app.send("HTTP/1.1 100 Continue\r\nX: y\r\n\r\n").await?;
        let interim = client.answer().await?;
        client.send("hello").await?;
        request.body = app.exactly(5).await?;
        request.complete = true;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await?;
        drop(app);
        let (more, answer) = read_answers(&mut client, false).await?;
        ensure!(more.is_empty(), "{more:?}");
        return Ok(Talk { request, interim: vec![interim], answer });
    }
    request.complete = true;
    app.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nX: y\r\n\r\nno").await?;
    drop(app);
    let (interim, answer) = read_answers(&mut client, false).await?;
    Ok(Talk { request, interim, answer })
}

#[tokio::test]
async fn the_go_ahead_is_the_apps_to_give_or_to_refuse() -> Result<()> {
    let site = Site::open().await?;
    for goes_ahead in [true, false] {
        let direct = expecting(&site, Wire::connect(site.upstream.address()).await?, goes_ahead).await?;
        let through = expecting(&site, site.gateway.connect().await?, goes_ahead).await?;
        compare("HTTP/1.1", &direct, &through).with_context(|| format!("goes ahead: {goes_ahead}"))?;
        ensure!(through.answer.status() == if goes_ahead { 200 } else { 417 });
    }
    Ok(())
}
