//! HTTP/1.1 at the level of bytes: a connection that hides nothing, and an upstream that does exactly as told.
//!
//! Nothing here shares code with the gateway: what it writes is read by another reader.

use super::PATIENCE;
use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, SockRef, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// One end of a connection, client's or upstream's. Every wait has a deadline.
pub(crate) struct Wire {
    tcp: TcpStream,
    /// What has come and has not been asked for.
    unread: Vec<u8>,
    /// How the peer ended its stream, once it has.
    ended: Option<End>,
}

/// How a peer ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Properly.
    Closed,
    /// By a reset.
    Reset,
}

/// A request or an answer. Bytes beyond ASCII stand in the texts as the characters of the same number (Latin-1).
#[derive(Clone)]
pub(crate) struct Message {
    /// The request or status line.
    pub(crate) start: String,
    /// Names as sent, values without the space after the colon.
    pub(crate) fields: Vec<(String, String)>,
    /// The body, without its framing.
    pub(crate) body: Vec<u8>,
    /// The fields behind a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body came to its proper end.
    pub(crate) complete: bool,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.start)?;
        self.fields.iter().try_for_each(|(name, value)| writeln!(f, "  {name}: {value}"))?;
        let end = if self.complete { "" } else { " (incomplete)" };
        self.trailers.iter().try_for_each(|(name, value)| writeln!(f, "  behind the body: {name}: {value}"))?;
        write!(f, "  {} bytes{end}: {:?}", self.body.len(), show(&self.body))
    }
}

impl Message {
    fn parse(head: &[u8]) -> Result<Self> {
        let text: String = head.iter().copied().map(char::from).collect();
        let (start, lines) = text.split_once("\r\n").context("no first line")?;
        let (start, fields) = (start.to_owned(), fields(lines)?);
        Ok(Self { start, fields, body: Vec::new(), trailers: Vec::new(), complete: false })
    }

    /// The status of an answer; 0 when there is none.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that stands once; none where it is missing or repeated.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        match self.all(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// Whether a field is there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let tcp = timeout(PATIENCE, TcpStream::connect(address)).await.context("connecting takes too long")??;
        Ok(Self::over(tcp))
    }

    /// A connection that is there.
    pub(crate) fn over(tcp: TcpStream) -> Self {
        Self { tcp, unread: Vec::new(), ended: None }
    }

    /// The socket, for a library that takes over. What was read too much is lost, so there must be none.
    pub(crate) fn into_tcp(self) -> Result<TcpStream> {
        ensure!(self.unread.is_empty(), "{} bytes were read already", self.unread.len());
        Ok(self.tcp)
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let sent = timeout(PATIENCE, self.tcp.write_all(bytes.as_ref())).await;
        Ok(sent.context("the peer takes no bytes")??)
    }

    /// Sends the same bytes again and again until `limit` bytes went out, or the peer stops taking them for so long that
    /// it speaks instead. Says how many bytes it took.
    pub(crate) async fn send_until_answered(&mut self, part: &[u8], limit: usize) -> Result<usize> {
        let (mut reader, mut writer) = self.tcp.split();
        let mut buffer = vec![0; 64 * 1024];
        let mut sent = 0;
        while sent < limit {
            tokio::select! {
                written = writer.write(&part[sent % part.len()..]) => match written {
                    Ok(written) => sent += written,
                    Err(_) => return Ok(sent),
                },
                read = reader.read(&mut buffer) => {
                    self.unread.extend_from_slice(&buffer[..read.unwrap_or(0)]);
                    return Ok(sent);
                }
                () = tokio::time::sleep(PATIENCE) => bail!("the peer neither takes bytes nor answers"),
            }
        }
        Ok(sent)
    }

    /// Ends our stream; the peer's may go on.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        Ok(self.tcp.shutdown().await?)
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) -> Result<()> {
        Ok(SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO))?)
    }

    /// Ends the connection one way or the other.
    pub(crate) fn end(self, how: End) -> Result<()> {
        match how {
            End::Closed => Ok(()),
            End::Reset => self.reset(),
        }
    }

    /// Reads more; none once the peer has ended.
    async fn fill(&mut self) -> Result<Option<()>> {
        if self.ended.is_some() {
            return Ok(None);
        }
        self.unread.reserve(64 * 1024);
        let read = timeout(PATIENCE, self.tcp.read_buf(&mut self.unread)).await;
        let read = read.with_context(|| format!("the peer is silent after {:?}", show(&self.unread)))?;
        self.ended = match read {
            Ok(0) => Some(End::Closed),
            Ok(_) => return Ok(Some(())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(End::Reset),
            Err(error) => return Err(error.into()),
        };
        Ok(None)
    }

    /// The next `count` bytes; fewer when the peer ended before.
    async fn up_to(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.unread.len() < count && self.fill().await?.is_some() {}
        let rest = self.unread.split_off(count.min(self.unread.len()));
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    /// The next `count` bytes; none when the peer ended before all of them.
    pub(crate) async fn up_to_end(&mut self, count: usize) -> Result<Option<Vec<u8>>> {
        Ok(Some(self.up_to(count).await?).filter(|bytes| bytes.len() == count))
    }

    /// The next `count` bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let bytes = self.up_to(count).await?;
        ensure!(bytes.len() == count, "only {:?} of {count} bytes ({:?})", show(&bytes), self.ended);
        Ok(bytes)
    }

    /// Everything up to and with `pattern`; none when the peer ended before.
    async fn through(&mut self, pattern: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut from = 0;
        loop {
            if let Some(at) = find(&self.unread[from..], pattern) {
                return self.up_to(from + at + pattern.len()).await.map(Some);
            }
            from = self.unread.len().saturating_sub(pattern.len());
            if self.fill().await?.is_none() {
                return Ok(None);
            }
        }
    }

    /// The next head, without a body.
    pub(crate) async fn head(&mut self) -> Result<Message> {
        match self.through(b"\r\n\r\n").await? {
            Some(head) => Message::parse(&head),
            None => bail!("no head but {:?}, then {:?}", show(&self.unread), self.ended),
        }
    }

    /// The next request with its body.
    pub(crate) async fn request(&mut self) -> Result<Message> {
        let head = self.head().await?;
        self.body(head, true).await
    }

    /// The next answer with its body. Interim answers are answers too.
    pub(crate) async fn answer(&mut self) -> Result<Message> {
        let head = self.head().await?;
        let empty = matches!(head.status(), 100..200 | 204 | 304);
        self.body(head, empty).await
    }

    /// The next answer, which is one to a HEAD request.
    pub(crate) async fn answer_to_head(&mut self) -> Result<Message> {
        let head = self.head().await?;
        Ok(Message { complete: true, ..head })
    }

    /// The body that belongs to a head. `empty` says that there is none, or none without fields that announce it.
    pub(crate) async fn body(&mut self, head: Message, empty: bool) -> Result<Message> {
        let is_answer = head.start.starts_with("HTTP/");
        let mut trailers = Vec::new();
        let (body, complete) = match (head.field("Transfer-Encoding"), head.field("Content-Length")) {
            _ if empty && is_answer => (Vec::new(), true),
            (Some("chunked"), None) => self.chunks(&mut trailers).await?,
            (None, Some(length)) => {
                let length = length.parse()?;
                let body = self.up_to(length).await?;
                let complete = body.len() == length;
                (body, complete)
            }
            (None, None) if empty => (Vec::new(), true),
            (None, None) => {
                let rest = self.rest().await?;
                (rest.bytes, rest.end == End::Closed)
            }
            framing => bail!("a message framed by {framing:?}"),
        };
        Ok(Message { body, trailers, complete, ..head })
    }

    /// A chunked body, and whether its end came.
    async fn chunks(&mut self, trailers: &mut Vec<(String, String)>) -> Result<(Vec<u8>, bool)> {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.through(b"\r\n").await? else { return Ok((body, false)) };
            let size = usize::from_str_radix(std::str::from_utf8(&line)?.trim_end(), 16)?;
            if size == 0 {
                let complete = self.trailers(trailers).await?;
                return Ok((body, complete));
            }
            let chunk = self.up_to(size).await?;
            let whole = chunk.len() == size;
            body.extend_from_slice(&chunk);
            let Some(end) = self.through(b"\r\n").await?.filter(|_| whole) else { return Ok((body, false)) };
            ensure!(end == b"\r\n", "a chunk is longer than it says: {:?}", show(&end));
        }
    }

    /// The lines behind the last chunk; whether their end came.
    async fn trailers(&mut self, trailers: &mut Vec<(String, String)>) -> Result<bool> {
        loop {
            let Some(line) = self.through(b"\r\n").await? else { return Ok(false) };
            if line == b"\r\n" {
                return Ok(true);
            }
            trailers.append(&mut fields(&line.iter().copied().map(char::from).collect::<String>())?);
        }
    }

    /// Everything until the peer ends its stream.
    pub(crate) async fn rest(&mut self) -> Result<Rest> {
        while self.fill().await?.is_some() {}
        let end = self.ended.context("the stream has an end")?;
        Ok(Rest { bytes: std::mem::take(&mut self.unread), end })
    }

    /// An error unless the peer ends its stream without another byte.
    pub(crate) async fn expect_end(&mut self) -> Result<End> {
        let rest = self.rest().await?;
        ensure!(rest.bytes.is_empty(), "bytes where nothing was expected: {:?}", show(&rest.bytes));
        Ok(rest.end)
    }

    /// An error if there is anything to read now.
    pub(crate) fn expect_silence(&mut self) -> Result<()> {
        let mut byte = [0];
        match self.tcp.try_read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.unread.is_empty() => Ok(()),
            other => bail!("{other:?} and {:?} where nothing was expected", show(&self.unread)),
        }
    }
}

/// What came until the end of a stream.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
}

/// Field lines, each with CR LF.
fn fields(lines: &str) -> Result<Vec<(String, String)>> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').with_context(|| format!("a field without a colon: {line:?}"))?;
        Ok((name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()))
    };
    lines.split("\r\n").filter(|line| !line.is_empty()).map(field).collect()
}

/// Bytes for an error message.
fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned()
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// An upstream that is not there yet: its port is taken, and refuses connections.
pub(crate) struct Absent(Socket);

impl Absent {
    pub(crate) fn new() -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        Ok(Self(socket))
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.0.local_addr()?.as_socket().context("an address of the internet")
    }

    /// It listens from now on.
    pub(crate) fn arrive(self) -> Result<Upstream> {
        self.0.listen(128)?;
        Upstream::on(self.0.into())
    }
}

/// An upstream that accepts connections and leaves the rest to the test.
pub(crate) struct Upstream {
    listener: TcpListener,
    /// The same socket, to ask without waiting.
    probe: std::net::TcpListener,
    address: SocketAddr,
}

impl Upstream {
    /// Listens on a free port.
    pub(crate) fn start() -> Result<Self> {
        Self::on(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
    }

    fn on(probe: std::net::TcpListener) -> Result<Self> {
        probe.set_nonblocking(true)?;
        let listener = TcpListener::from_std(probe.try_clone()?)?;
        Ok(Self { address: probe.local_addr()?, listener, probe })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Result<Wire> {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let (tcp, _) = accepted.context("nobody connects to the upstream")??;
        tcp.set_nodelay(true)?;
        Ok(Wire::over(tcp))
    }

    /// An error if somebody has connected and was not accepted.
    pub(crate) fn expect_untouched(&self) -> Result<()> {
        match self.probe.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => bail!("a connection to the upstream where none was expected: {other:?}"),
        }
    }

    /// Answers every request of every connection from now on, and keeps what it was asked.
    pub(crate) fn answering(self, respond: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Answering {
        let seen = Arc::<Mutex<Vec<Message>>>::default();
        let (log, respond) = (Arc::clone(&seen), Arc::new(respond));
        let task = tokio::spawn(async move {
            while let Ok(wire) = self.accept_for_ever().await {
                tokio::spawn(answer_all(wire, Arc::clone(&log), Arc::clone(&respond)));
            }
        });
        Answering { seen, task }
    }

    async fn accept_for_ever(&self) -> io::Result<Wire> {
        let (tcp, _) = self.listener.accept().await?;
        tcp.set_nodelay(true)?;
        Ok(Wire::over(tcp))
    }
}

/// An upstream that answers by itself until it is dropped.
pub(crate) struct Answering {
    seen: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
}

impl Answering {
    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection until it ends; whatever is wrong with a request ends it too.
async fn answer_all(mut wire: Wire, seen: Arc<Mutex<Vec<Message>>>, respond: Arc<impl Fn(&Message) -> Vec<u8>>) {
    while let Ok(request) = wire.request().await {
        let answer = respond(&request);
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        if wire.send(answer).await.is_err() {
            return;
        }
    }
}

/// A complete answer with a body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A body in chunks of at most `size` bytes.
pub(crate) fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / size * 12 + 16);
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
