//! curl against an app, straight and through the gateway, by every protocol on either side: the answers are the same to the
//! byte, and so is what the app says that it was asked. Where a client has to send what curl cannot, `matrix.rs` has it.

use super::HOST;
use super::bodies::noise;
use crate::harness::curl::{Got, curl};
use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::origin::{Asked, Field, Framing, Origin, Said};
use crate::harness::tls::Authority;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// How the gateway speaks to the app: what that is called, whether over TLS, more keys of the app in the directory, and the
/// protocol that the app then sees.
const UPSTREAMS: &[(&str, bool, &str, &str)] = &[
    ("as by default", false, "", "HTTP/1.1"),
    ("in HTTP/2 by prior knowledge", false, "protocol = \"http2\"\n", "HTTP/2"),
    ("as agreed on in the handshake", true, "", "HTTP/2"),
    ("in HTTP/1.1 over TLS", true, "protocol = \"http1\"\n", "HTTP/1.1"),
];

/// How curl speaks: its option, whether over TLS, and the version that it then says.
type Client = (&'static str, bool, &'static str);

const CLIENTS: &[Client] = &[
    ("--http1.0", false, "1.0"),
    ("--http1.1", false, "1.1"),
    ("--http2-prior-knowledge", false, "2"),
    ("--http1.0", true, "1.0"),
    ("--http1.1", true, "1.1"),
    ("--http2", true, "2"),
];

/// Most curls at once.
const AT_ONCE: usize = 6;

const LARGE: usize = 1_000_000;

/// "hello, " four times and a line's end, as three programs write it: whoever decodes it on the way changes it.
const CODED: [(&str, &[u8]); 3] = [
    (
        "gzip",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\xd7\x51\xc8\xc0\xa4\xb8\x00\x4b\x21\xa1\x29\x1b\x00\x00\x00",
    ),
    ("br", b"\x1b\x1a\x00\xf8\x8d\x94\x6e\xde\x44\x09\x52\x86\xd6\x0a\x2c\x6c\x6f\x4a\x91\x79\x22\x81\xbb\x5a\x00"),
    ("zstd", b"\x28\xb5\x2f\xfd\x04\x58\x75\x00\x00\x40\x68\x65\x6c\x6c\x6f\x2c\x20\x0a\x01\x00\x4a\x8a\x11\xf0\x97\x7b\x2a"),
];

/// What curl asks: a name, the target, its arguments, and whether only clients that can do it are asked to.
struct Row {
    name: &'static str,
    target: &'static str,
    arguments: Vec<String>,
    needs: Needs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Chunks, interim answers or trailers, which HTTP/1.0 has not.
    Modern,
    /// What curl sends over HTTP/1.1 alone.
    Http11,
}

/// All rows. `files` is where the uploads are.
fn rows(files: &Path) -> Vec<Row> {
    let file = |name: &str| format!("@{}", files.join(name).display());
    let row = |name, target, arguments: &[&str]| Row {
        name,
        target,
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        needs: Needs::Nothing,
    };
    let needing = |needs, row: Row| Row { needs, ..row };
    let gzip = file("gzip");
    let (small, large) = (file("small"), file("large"));
    // As a file that curl knows no length of.
    let stream = |name, of: &str| row(name, "/echo", &["--request", "POST", "--upload-file", &of[1..]]);
    let unknown = |streamed: Row| {
        let mut arguments = vec!["--header".to_owned(), "Transfer-Encoding: chunked".to_owned()];
        arguments.extend(streamed.arguments);
        needing(Needs::Modern, Row { arguments, ..streamed })
    };
    vec![
        row("GET", "/echo", &[]),
        row("a target with everything", "/echo/a%2Fb;c=d/~e,f:@g?h=i&&j=%20&k=[l]|?/", &[]),
        row("204", "/status/204", &[]),
        row("length 0", "/nothing", &[]),
        row("known length", "/file", &[]),
        row("in chunks", "/chunks", &[]),
        row("in chunks, and empty", "/chunks/none", &[]),
        row("until close", "/close", &[]),
        row("large", "/large", &[]),
        row("large, in chunks", "/chunks/large", &[]),
        row("events", "/events", &["--no-buffer", "--header", "Accept: text/event-stream"]),
        row("HEAD", "/file", &["--head"]),
        row("HEAD of nothing", "/nothing", &["--head"]),
        row("HEAD of chunks", "/chunks", &["--head"]),
        row("HEAD of something gone", "/status/404", &["--head"]),
        row("OPTIONS", "/echo", &["--request", "OPTIONS"]),
        row("DELETE", "/echo", &["--request", "DELETE"]),
        row("a method of one's own", "/echo", &["--request", "PROPFIND", "--header", "Depth: 1"]),
        row("a range", "/file", &["--range", "2-5"]),
        row("the end", "/file", &["--range", "-3"]),
        row("a range that is not there", "/file", &["--range", "99-"]),
        row("two ranges", "/file", &["--range", "0-1,4-5"]),
        row("a range of the same", "/file", &["--range", "2-5", "--header", "If-Range: \"a\""]),
        row("a range of something else", "/file", &["--range", "2-5", "--header", "If-Range: \"b\""]),
        row("the same", "/file", &["--header", "If-None-Match: W/\"z\", \"a\""]),
        row("HEAD of the same", "/file", &["--head", "--header", "If-None-Match: \"a\""]),
        row("something else", "/file", &["--header", "If-None-Match: \"b\""]),
        row("only if it is something else", "/file", &["--header", "If-Match: \"b\""]),
        row("gzip", "/gzip", &["--header", "Accept-Encoding: gzip"]),
        row("br", "/br", &["--header", "Accept-Encoding: gzip;q=0.5, br"]),
        row("zstd", "/zstd", &["--header", "Accept-Encoding: zstd"]),
        row("many fields", "/fields", &["--header", "X-A: 1", "--header", "X-A: 2", "--header", "X-Empty;"]),
        row("cookies", "/cookies", &["--header", "Cookie: a=b; c=\"d\"; a=e"]),
        row("a redirect", "/redirect", &[]),
        row("403", "/status/403", &[]),
        row("429", "/status/429", &[]),
        row("500", "/status/500", &[]),
        row("503", "/status/503", &[]),
        row("an empty POST", "/echo", &["--data", ""]),
        row("POST without a body", "/echo", &["--request", "POST"]),
        row("a form", "/echo", &["--data", "a=b&c=d%20e"]),
        row("a form with a file", "/parts", &["--form", "a=b", "--form", &format!("f={small}")]),
        row("PUT of a file", "/echo", &["--upload-file", &small[1..]]),
        row("PATCH", "/echo", &["--request", "PATCH", "--data-binary", &small]),
        row("gzip up", "/echo", &["--header", "Content-Encoding: gzip", "--data-binary", &gzip]),
        row("a large PUT", "/echo", &["--upload-file", &large[1..]]),
        row("an echo of something large", "/back", &["--data-binary", &large]),
        unknown(stream("POST in chunks", &small)),
        unknown(stream("a large POST in chunks", &large)),
        needing(Needs::Modern, row("early hints", "/hints", &[])),
        needing(Needs::Modern, row("early hints before nothing", "/hints/none", &[])),
        needing(Needs::Modern, row("trailers", "/trailers", &["--header", "TE: trailers"])),
        needing(Needs::Modern, row("trailers of nothing", "/trailers/none", &["--header", "TE: trailers"])),
        needing(
            Needs::Http11,
            row("a go-ahead", "/echo", &["--header", "Expect: 100-continue", "--data-binary", &small]),
        ),
    ]
}

/// What the app says; `large` is something large.
fn respond(asked: &Asked, large: &Bytes) -> Said {
    let path = asked.target.split('?').next().unwrap_or_default();
    let text = |text: &str| said(200, &[("content-type", "text/plain")], text.as_bytes());
    let framed = |framing, body: &[u8]| Said { framing, ..said(200, &[], body) };
    match path {
        "/file" => file(asked),
        "/nothing" => said(200, &[], b""),
        "/chunks" => framed(Framing::Chunks(3), b"something in chunks"),
        "/chunks/none" => framed(Framing::Chunks(3), b""),
        "/chunks/large" => Said { framing: Framing::Chunks(70_001), body: large.clone(), ..text("") },
        "/close" => framed(Framing::UntilClose, b"until the end"),
        "/large" => Said { body: large.clone(), ..text("") },
        "/events" => {
            let events = (0..50).fold(String::new(), |events, number| events + &format!("data: {number}\n\n"));
            let fields = [("content-type", "text/event-stream"), ("cache-control", "no-store")];
            Said { framing: Framing::Chunks(9), ..said(200, &fields, events.as_bytes()) }
        }
        "/hints" => Said { hints: vec!["</a.css>; rel=preload", "</b.js>"], ..text("a page") },
        "/hints/none" => Said { hints: vec!["</a.css>"], framing: Framing::None, ..said(204, &[], b"") },
        "/trailers" => Said { framing: Framing::Chunks(4), trailers: trailers(), ..text("before the trailers") },
        "/trailers/none" => Said { framing: Framing::Chunks(4), trailers: trailers(), ..text("") },
        "/fields" => fields(asked),
        "/cookies" => {
            let cookies = [("set-cookie", "a=b; Path=/; HttpOnly"), ("set-cookie", "c=d; Max-Age=5; SameSite=Lax")];
            said(200, &cookies, asked.field("cookie").as_bytes())
        }
        "/redirect" => said(302, &[("location", "a/b?c#d")], b"elsewhere"),
        "/parts" => {
            text(&format!("{} parts", String::from_utf8_lossy(&asked.body).matches("form-data; name=").count()))
        }
        "/back" => said(200, &[], &asked.body),
        _ => match (path.strip_prefix("/status/"), CODED.iter().find(|(name, _)| path.strip_prefix('/') == Some(name)))
        {
            (Some(status), _) => status_only(status.parse().unwrap_or(500)),
            (_, Some((name, body))) => said(200, &[("content-encoding", name), ("vary", "Accept-Encoding")], body),
            _ => text(&echo(asked)),
        },
    }
}

fn said(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Said {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Said { status, fields, body: Bytes::copy_from_slice(body), ..Said::default() }
}

fn status_only(status: u16) -> Said {
    match status {
        204 => Said { framing: Framing::None, ..said(204, &[("x-what", "nothing")], b"") },
        503 | 429 => said(status, &[("retry-after", "7")], b"later"),
        _ => said(status, &[("x-request-id", "the-apps-own")], b"the app says no"),
    }
}

fn trailers() -> Vec<Field> {
    vec![("grpc-status".to_owned(), "0".to_owned()), ("x-sum".to_owned(), "ü, a: b".to_owned())]
}

/// Something with a tag and ranges.
fn file(asked: &Asked) -> Said {
    const FILE: &[u8] = b"012345678";
    let tag = |value: &str| value.split(", ").any(|tag| tag == "\"a\"");
    let same = ("etag", "\"a\"");
    if tag(asked.field("if-none-match")) {
        return Said { framing: Framing::None, ..said(304, &[same, ("cache-control", "max-age=60")], b"") };
    }
    if !asked.field("if-match").is_empty() && !tag(asked.field("if-match")) {
        return said(412, &[], b"");
    }
    let is_same = asked.field("if-range").is_empty() || tag(asked.field("if-range"));
    match asked.field("range") {
        "bytes=2-5" if is_same => said(206, &[same, ("content-range", "bytes 2-5/9")], &FILE[2..=5]),
        "bytes=-3" => said(206, &[same, ("content-range", "bytes 6-8/9")], &FILE[6..]),
        "bytes=99-" => said(416, &[("content-range", "bytes */9")], b"there is no more"),
        "bytes=0-1,4-5" => {
            let body =
                b"--x\r\nContent-Range: bytes 0-1/9\r\n\r\n01\r\n--x\r\nContent-Range: bytes 4-5/9\r\n\r\n45\r\n--x--";
            said(206, &[same, ("content-type", "multipart/byteranges; boundary=x")], body)
        }
        _ => said(200, &[same, ("last-modified", "Wed, 01 Jul 2026 00:00:00 GMT"), ("accept-ranges", "bytes")], FILE),
    }
}

/// Fields that are easily lost, joined or mistaken, and those of the request as the body.
fn fields(asked: &Asked) -> Said {
    let long = "v".repeat(8000);
    let fields = [
        ("x-many", "1"),
        ("x-other", ""),
        ("x-many", "2, 3"),
        ("x-long", &*long),
        ("x-latin", "gr\u{fc}n"),
        ("date", "Wed, 01 Jul 2026 00:00:00 GMT"),
        ("server", "an app"),
        ("via", "1.0 somebody"),
        ("link", "</>; rel=next, </x>; rel=prev"),
        ("content-security-policy", "default-src 'self'; frame-ancestors 'none'"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("content-disposition", "attachment; filename=\"a b.txt\""),
    ];
    said(200, &fields, echo(asked).as_bytes())
}

/// What the app was asked, but for what concerns the connection to it, or is the gateway's to say.
fn echo(asked: &Asked) -> String {
    let left_out = ["host", "authorization", "connection", "te", "transfer-encoding", "x-request-id"];
    let ours = |name: &str| name.starts_with("x-forwarded-") || name.starts_with("x-embedgate-");
    let mut text = format!("{} {}\n", asked.method, asked.target);
    let mut fields: Vec<_> =
        asked.fields.iter().filter(|(name, _)| !left_out.contains(&&**name) && !ours(name)).collect();
    // Those of one name stay in order.
    fields.sort_by_key(|(name, _)| name);
    for (name, value) in fields {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    }
    for (name, value) in &asked.trailers {
        let _ = writeln!(text, "behind the body: {name}: {value}");
    }
    text + &format!("{} bytes: {:x?}\n", asked.body.len(), &Sha256::digest(&asked.body)[..8])
}

/// The files that curl uploads.
fn uploads(large: &[u8]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for (name, bytes) in [("small", &b"a small body"[..]), ("gzip", CODED[0].1), ("large", large)] {
        std::fs::write(folder.path().join(name), bytes)?;
    }
    Ok(folder)
}

/// A gateway with TLS, one without, and the app behind both.
struct Rig {
    authority: Authority,
    origin: Origin,
    files: tempfile::TempDir,
}

impl Rig {
    async fn set_up() -> Result<Self> {
        let authority = Authority::new()?;
        authority.issue("gate", &format!("DNS:{HOST}"), 2)?;
        let large = Bytes::from(noise(LARGE));
        let files = uploads(&large)?;
        let origin = Origin::start(&authority, move |asked| respond(asked, &large)).await?;
        Ok(Self { authority, origin, files })
    }

    /// A gateway, by its own and the app's protocols.
    async fn gateway(&self, has_tls: bool, to_tls: bool, keys: &str) -> Result<Gateway> {
        let at = if to_tls { self.origin.tls } else { self.origin.plain };
        let mut directory = org("acme", &[("editor", at)]) + keys;
        if to_tls {
            directory = directory.replace("http://", "https://");
        }
        let mut builder = Builder::new(directory).set("upstreams.ca_file", &self.authority.toml("ca.crt"));
        if has_tls {
            builder = builder.set("server.tls.cert", &self.authority.toml("gate.crt"));
            builder = builder.set("server.tls.key", &self.authority.toml("gate.key"));
        }
        builder.start().await
    }

    /// The arguments with which curl connects to an address by the name of the app.
    fn connect(&self, option: &str, has_tls: bool, to: SocketAddr) -> Vec<String> {
        let ca = self.authority.path("ca.crt").display().to_string();
        let (to, option) = (format!("::{to}"), option.to_owned());
        let trust = if has_tls { vec!["--cacert".to_owned(), ca] } else { Vec::new() };
        [vec![option, "--connect-to".to_owned(), to], trust].concat()
    }
}

/// Asks a row of curl.
async fn ask(row: &Row, connect: &[String], has_tls: bool, token: &str) -> Result<Got> {
    let scheme = if has_tls { "https" } else { "http" };
    let expects = row.arguments.iter().any(|argument| argument.starts_with("Expect: "));
    // Left to itself, curl asks for a go-ahead over HTTP/1.1 only, and only for what is large.
    let expect = if expects { &[][..] } else { &["--header", "Expect:"] };
    let bearer = format!("Authorization: Bearer {token}");
    let own = ["--header", &*bearer].into_iter().chain(expect.iter().copied()).map(str::to_owned);
    let url = format!("{scheme}://{HOST}{}", row.target);
    curl(connect.iter().cloned().chain(own).chain(row.arguments.iter().cloned()).chain([url]).collect()).await
}

/// What goes from end to end: without the fields of one hop, and those of one name in their order.
fn end_to_end(got: &Got) -> Got {
    let hop = ["connection: ", "transfer-encoding: ", "keep-alive: "];
    let heads = got.heads.iter().map(|(status, fields)| {
        let passes = |field: &&String| !hop.iter().any(|hop| field.starts_with(hop));
        let mut fields: Vec<_> = fields.iter().filter(passes).cloned().collect();
        fields.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
        (*status, fields)
    });
    let (body, trailers) = (got.body.clone(), got.trailers.clone());
    Got { version: String::new(), heads: heads.collect(), body, trailers }
}

fn describe(got: &Got) -> String {
    let start = String::from_utf8_lossy(&got.body[..got.body.len().min(600)]);
    format!("HTTP/{} {:?} {} bytes {start:?} {:?}", got.version, got.heads, got.body.len(), got.trailers)
}

/// What a row gets without the gateway: over HTTP/1.1, and over HTTP/1.0. Which protocol else is spoken makes no difference.
async fn straight(row: &Row, rig: &Rig) -> Result<[Got; 2]> {
    let ask = async |option| ask(row, &rig.connect(option, false, rig.origin.plain), false, "none").await;
    let new = ask("--http1.1").await?;
    let old = if row.needs == Needs::Nothing { ask("--http1.0").await? } else { new.clone() };
    Ok([new, old])
}

/// What a row gets through the gateway is what it gets without.
async fn compare(row: &Row, direct: &[Got; 2], rig: &Rig, client: &Client, through: &Gateway) -> Result<()> {
    let &(option, has_tls, version) = client;
    let direct = &direct[usize::from(version == "1.0")];
    let token = through.session("acme")?;
    let got = ask(row, &rig.connect(option, has_tls, through.address), has_tls, &token).await?;
    // What curl says is the version of the answer, which to HTTP/1.0 is 1.1 as well (RFC 9110 6.2).
    ensure!(got.version == version || version == "1.0", "spoken: {}", got.version);
    let same = end_to_end(direct) == end_to_end(&got);
    ensure!(same, "straight:\n  {}\n through:\n  {}", describe(direct), describe(&got));
    Ok(())
}

fn is_for(row: &Row, version: &str) -> bool {
    match row.needs {
        Needs::Nothing => true,
        Needs::Modern => version != "1.0",
        Needs::Http11 => version == "1.1",
    }
}

#[tokio::test]
async fn curl_cannot_tell_the_gateway_from_the_app() -> Result<()> {
    let rig = Rig::set_up().await?;
    let rows = rows(rig.files.path());
    let direct: Vec<_> = stream::iter(&rows).map(|row| straight(row, &rig)).buffered(AT_ONCE).try_collect().await?;
    let (rig, mut failed) = (&rig, Vec::new());
    for &(upstream, to_tls, keys, protocol) in UPSTREAMS {
        let (plain, tls) = (rig.gateway(false, to_tls, keys).await?, rig.gateway(true, to_tls, keys).await?);
        for client in CLIENTS {
            let gateway = if client.1 { &tls } else { &plain };
            let both = rows.iter().zip(&direct).filter(|(row, _)| is_for(row, client.2));
            let asked = both.map(|(row, direct)| async move {
                let name = || {
                    format!(
                        "the app is spoken to {upstream}, curl {} over {}: {}",
                        client.0,
                        if client.1 { "TLS" } else { "TCP" },
                        row.name
                    )
                };
                compare(row, direct, rig, client, gateway).await.with_context(name)
            });
            let done: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
            failed.extend(done.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")));
        }
        ensure!(rig.origin.spoken_through() == [protocol], "{upstream}");
    }
    ensure!(failed.is_empty(), "{} rows differ:\n\n{}", failed.len(), failed.join("\n\n"));
    Ok(())
}

#[tokio::test]
async fn the_app_says_the_same_in_every_protocol() -> Result<()> {
    let rig = Rig::set_up().await?;
    let mut failed = Vec::new();
    for row in rows(rig.files.path()).iter().filter(|row| row.needs != Needs::Http11) {
        let ask = async |option, has_tls| {
            let to = if has_tls { rig.origin.tls } else { rig.origin.plain };
            ask(row, &rig.connect(option, has_tls, to), has_tls, "none").await.map(|got| end_to_end(&got))
        };
        let first = ask("--http1.1", false).await?;
        for (option, has_tls) in [("--http2-prior-knowledge", false), ("--http1.1", true), ("--http2", true)] {
            let got = ask(option, has_tls).await.with_context(|| format!("{option}: {}", row.name))?;
            if got != first {
                failed.push(format!("{option}: {}:\n {}\n {}", row.name, describe(&first), describe(&got)));
            }
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}
