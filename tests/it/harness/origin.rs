//! An upstream that speaks what it is spoken to in, HTTP/1.0, HTTP/1.1 or HTTP/2, with TLS or without, and says the same in
//! each.

use super::gateway::BASE_DOMAIN;
use super::raw::{Message, Wire, chunked};
use super::tls::{Authority, terminate};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A field by its name in lower case.
pub(crate) type Field = (String, String);

/// A request, as all protocols tell it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Field>,
}

impl Asked {
    /// The value of the first field of this name; empty where there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// The values of `Link` in interim answers before it.
    pub(crate) hints: Vec<&'static str>,
    pub(crate) status: u16,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Bytes,
    pub(crate) framing: Framing,
    pub(crate) trailers: Vec<Field>,
}

/// How a body is delimited. HTTP/2 knows but whether a length is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length.
    #[default]
    Length,
    /// By chunks of at most this size.
    Chunks(usize),
    /// By the end of the connection.
    UntilClose,
    /// There is no body, and no word about one.
    None,
}

type Respond = dyn Fn(&Asked) -> Said + Send + Sync;

/// A running upstream. Dropping it ends it.
pub(crate) struct Origin {
    /// Where it speaks without TLS.
    pub(crate) plain: SocketAddr,
    /// Where it speaks with TLS.
    pub(crate) tls: SocketAddr,
    desk: Arc<Desk>,
    _servers: JoinSet<()>,
}

struct Desk {
    respond: Box<Respond>,
    spoken: Mutex<BTreeSet<&'static str>>,
}

impl Origin {
    /// Starts it with a certificate of the authority for `127.0.0.1` and the hosts of apps.
    pub(crate) async fn start(
        authority: &Authority,
        respond: impl Fn(&Asked) -> Said + Send + Sync + 'static,
    ) -> Result<Self> {
        authority.issue("origin", &format!("IP:127.0.0.1,DNS:*.{BASE_DOMAIN}"), 2)?;
        let acceptor = TlsAcceptor::from(authority.server("origin", &["h2", "http/1.1", "http/1.0"])?);
        let desk = Arc::new(Desk { respond: Box::new(respond), spoken: Mutex::default() });
        let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let tls = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (at, tls_at) = (plain.local_addr()?, tls.local_addr()?);
        let mut servers = JoinSet::new();
        servers.spawn(serve(plain, Arc::clone(&desk)));
        servers.spawn(terminate(tls, acceptor, at));
        Ok(Self { plain: at, tls: tls_at, desk, _servers: servers })
    }

    /// The protocols that gateways have spoken to it in since this was asked last.
    pub(crate) fn spoken_through(&self) -> Vec<&'static str> {
        let mut spoken = self.desk.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *spoken).into_iter().collect()
    }
}

impl Desk {
    fn answer(&self, protocol: &'static str, asked: &Asked) -> Said {
        if !asked.field("x-embedgate-org").is_empty() {
            self.spoken.lock().unwrap_or_else(PoisonError::into_inner).insert(protocol);
        }
        (self.respond)(asked)
    }
}

async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let desk = Arc::clone(&desk);
        // What is wrong with a connection ends it, and shows where the answer is missing.
        connections.spawn(async move {
            let _ = serve_one(tcp, desk).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_one(tcp: TcpStream, desk: Arc<Desk>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut first = [0; 3];
    // No other method begins like the preface of HTTP/2 (RFC 9113 3.4).
    while tcp.peek(&mut first).await? < first.len() {
        ensure!(tcp.peek(&mut first).await? > 0, "nothing is said");
        tokio::task::yield_now().await;
    }
    if &first == b"PRI" { http2(tcp, desk).await } else { http1(Wire::over(tcp), &desk).await }
}

async fn http1(mut wire: Wire, desk: &Desk) -> Result<()> {
    loop {
        let head = wire.head().await?;
        if head.field("Expect").is_some() {
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let asked = wire.body(head, true).await?;
        let is_old = asked.start.ends_with("HTTP/1.0");
        let asked = of_http1(asked)?;
        let said = desk.answer(if is_old { "HTTP/1.0" } else { "HTTP/1.1" }, &asked);
        wire.send(to_http1(&said, asked.method == "HEAD", is_old)).await?;
        if is_old || said.framing == Framing::UntilClose || asked.field("connection") == "close" {
            return Ok(());
        }
    }
}

fn of_http1(message: Message) -> Result<Asked> {
    let lower = |fields: Vec<Field>| fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let mut words = message.start.split(' ').map(str::to_owned);
    let (method, target) = (words.next().context("no method")?, words.next().context("no target")?);
    let (fields, trailers) = (lower(message.fields).collect(), lower(message.trailers).collect());
    Ok(Asked { method, target, fields, body: message.body, trailers })
}

/// The bytes of an answer to HEAD or another method, of HTTP/1.0 or HTTP/1.1.
fn to_http1(said: &Said, to_head: bool, is_old: bool) -> Vec<u8> {
    let hint = |link: &&str| format!("HTTP/1.1 103 Early Hints\r\nlink: {link}\r\n\r\n");
    let mut text: String = said.hints.iter().filter(|_| !is_old).map(hint).collect();
    // Writing to a string cannot fail.
    let _ = write!(text, "HTTP/1.1 {} Status\r\n", said.status);
    for (name, value) in &said.fields {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let (framing, body) = match said.framing {
        Framing::Length => (format!("content-length: {}\r\n", said.body.len()), said.body.to_vec()),
        Framing::Chunks(size) if !is_old => ("transfer-encoding: chunked\r\n".to_owned(), chunks(said, size)),
        Framing::Chunks(_) | Framing::UntilClose => ("connection: close\r\n".to_owned(), said.body.to_vec()),
        Framing::None => (String::new(), Vec::new()),
    };
    text += &framing;
    text += "\r\n";
    // Bytes beyond ASCII stand in texts as characters of the same number.
    let head = text.chars().map(|c| c as u8).collect();
    if to_head { head } else { [head, body].concat() }
}

/// The body in chunks, with its trailers.
fn chunks(said: &Said, size: usize) -> Vec<u8> {
    let mut body = chunked(&said.body, size);
    body.truncate(body.len() - 2);
    for (name, value) in &said.trailers {
        body.extend(format!("{name}: {value}\r\n").chars().map(|c| c as u8));
    }
    body.extend_from_slice(b"\r\n");
    body
}

async fn http2(tcp: TcpStream, desk: Arc<Desk>) -> Result<()> {
    let mut connection = h2::server::handshake(tcp).await?;
    let mut streams = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let desk = Arc::clone(&desk);
        streams.spawn(async move {
            let _ = http2_stream(request, respond, &desk).await;
        });
        while streams.try_join_next().is_some() {}
    }
    Ok(())
}

async fn http2_stream(request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>, desk: &Desk) -> Result<()> {
    let (head, mut stream) = request.into_parts();
    if head.headers.contains_key("expect") {
        respond.send_informational(Response::builder().status(100).body(())?)?;
    }
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    let trailers = stream.trailers().await?.map(|trailers| texts(&trailers)).unwrap_or_default();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let asked = Asked { method: head.method.to_string(), target, fields: texts(&head.headers), body, trailers };
    let said = desk.answer("HTTP/2", &asked);
    for link in &said.hints {
        respond.send_informational(Response::builder().status(103).header("link", *link).body(())?)?;
    }
    let mut answer = Response::builder().status(said.status).body(())?;
    *answer.headers_mut() = fields(&said.fields)?;
    if said.framing == Framing::Length {
        answer.headers_mut().insert("content-length", said.body.len().into());
    }
    let body = if head.method == "HEAD" || said.framing == Framing::None { Bytes::new() } else { said.body };
    // Whoever sends in chunks does not know yet that there are none.
    let is_streamed = head.method != "HEAD" && matches!(said.framing, Framing::Chunks(_) | Framing::UntilClose);
    let is_over = body.is_empty() && said.trailers.is_empty() && !is_streamed;
    let mut stream = respond.send_response(answer, is_over)?;
    if !body.is_empty() || (is_streamed && said.trailers.is_empty()) {
        stream.send_data(body, said.trailers.is_empty())?;
    }
    if !said.trailers.is_empty() {
        stream.send_trailers(fields(&said.trailers)?)?;
    }
    Ok(())
}

fn texts(fields: &HeaderMap) -> Vec<Field> {
    let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn fields(texts: &[Field]) -> Result<HeaderMap> {
    let mut fields = HeaderMap::new();
    for (name, value) in texts {
        let value: Vec<u8> = value.chars().map(|c| c as u8).collect();
        fields.append(HeaderName::try_from(name.as_str())?, HeaderValue::from_bytes(&value)?);
    }
    Ok(fields)
}
