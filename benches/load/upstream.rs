//! The app behind the proxies: HTTP/1.1 with connections that are kept. Whoever does not show its bearer is refused, so
//! that a proxy that puts it in for everybody is found out, and one that puts in nothing as well.

use crate::{options, websocket};
use anyhow::{Context, bail, ensure};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tungstenite::handshake::derive_accept_key;

const SMALL: usize = 1024;
const LARGE: usize = 1 << 20;
const MAX_BODY: usize = 64 << 20;
const BUFFER: usize = 4096;
const MAX_FIELDS: usize = 64;
/// The field says that it is not the proxy that refuses.
const REFUSED: &[u8] =
    b"HTTP/1.1 401 Unauthorized\r\nX-Refused-By: upstream\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const UNKNOWN: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

struct App {
    /// The value of `Authorization` that is not refused.
    credential: Vec<u8>,
    small: Vec<u8>,
    large: Vec<u8>,
}

pub(crate) async fn serve(options: options::Upstream) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    println!("{}", listener.local_addr()?);
    let credential = format!("Bearer {}", options.bearer).into_bytes();
    let (mut small, mut large) = (Vec::new(), Vec::new());
    answer(&[b'x'; SMALL], &mut small);
    answer(&vec![b'x'; LARGE], &mut large);
    let app = Rc::new(App { credential, small, large });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let app = Rc::clone(&app);
        // What goes wrong on a connection is seen by who sent the requests.
        spawn_local(async move { drop(app.serve(stream).await) });
    }
}

/// Adds a whole answer.
fn answer(body: &[u8], out: &mut Vec<u8>) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: app\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nCache-Control: no-cache\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

impl App {
    async fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let (mut buffer, mut filled, mut echo) = (vec![0; BUFFER], 0, Vec::new());
        loop {
            let ask = loop {
                if let Some(ask) = Ask::parse(&buffer[..filled], &self.credential)? {
                    break ask;
                }
                if fill(&mut stream, &mut buffer, &mut filled).await? == 0 {
                    return Ok(());
                }
            };
            let end = ask.head + ask.body;
            while filled < end {
                buffer.resize(buffer.len().max(end), 0);
                ensure!(fill(&mut stream, &mut buffer, &mut filled).await? > 0, "a body breaks off");
            }
            match ask.route {
                Route::Small => stream.write_all(&self.small).await?,
                Route::Large => stream.write_all(&self.large).await?,
                Route::Echo => {
                    echo.clear();
                    answer(&buffer[ask.head..end], &mut echo);
                    stream.write_all(&echo).await?;
                }
                Route::WebSocket(agreed) => {
                    stream.write_all(&agreed).await?;
                    return Ok(websocket::echo(&mut stream, &buffer[end..filled]).await?);
                }
                Route::Never => while fill(&mut stream, &mut buffer, &mut filled).await? > 0 {},
                Route::End(last) => return Ok(stream.write_all(last).await?),
            }
            buffer.copy_within(end..filled, 0);
            filled -= end;
        }
    }
}

/// Reads once more into the buffer.
async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>, filled: &mut usize) -> anyhow::Result<usize> {
    if *filled == buffer.len() {
        buffer.resize(2 * buffer.len(), 0);
    }
    let read = stream.read(&mut buffer[*filled..]).await?;
    *filled += read;
    Ok(read)
}

/// What is asked for.
struct Ask {
    route: Route,
    /// Bytes of the head, and of the body behind it.
    head: usize,
    body: usize,
}

enum Route {
    Small,
    Large,
    Echo,
    /// With what agrees to it.
    WebSocket(Vec<u8>),
    /// No answer, however long the client waits.
    Never,
    /// The answer with which the connection ends.
    End(&'static [u8]),
}

impl Ask {
    /// None while the head is not complete.
    fn parse(bytes: &[u8], credential: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(head) = request.parse(bytes)? else { return Ok(None) };
        let (mut body, mut is_authorised, mut key) = (0, false, None);
        for field in &*request.headers {
            match field.name {
                name if name.eq_ignore_ascii_case("authorization") => is_authorised = field.value == credential,
                name if name.eq_ignore_ascii_case("content-length") => {
                    body = std::str::from_utf8(field.value)?.trim().parse()?;
                    ensure!(body <= MAX_BODY, "a body is too large");
                }
                name if name.eq_ignore_ascii_case("sec-websocket-key") => key = Some(field.value),
                name if name.eq_ignore_ascii_case("transfer-encoding") => bail!("a body came in chunks"),
                _ => {}
            }
        }
        let path = request.path.context("no path")?;
        let route = if is_authorised { Route::of(path, key) } else { Route::End(REFUSED) };
        Ok(Some(Self { route, head, body }))
    }
}

impl Route {
    fn of(path: &str, key: Option<&[u8]>) -> Self {
        match (path, key) {
            ("/small", _) => Self::Small,
            ("/large", _) => Self::Large,
            ("/echo", _) => Self::Echo,
            ("/never", _) => Self::Never,
            ("/ws", Some(key)) => Self::WebSocket(
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {}\r\n\r\n",
                    derive_accept_key(key)
                )
                .into_bytes(),
            ),
            _ => Self::End(UNKNOWN),
        }
    }
}
