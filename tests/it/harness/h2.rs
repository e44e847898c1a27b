//! Clients of HTTP/2: one over a library, which does everything properly, and one that sends whatever frames it is told.

use super::PATIENCE;
use super::raw::{End, Wire};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use std::future::poll_fn;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A connection that keeps to the rules. Clones share it.
#[derive(Clone)]
pub(crate) struct Shared {
    sender: SendRequest<Bytes>,
}

/// The end of a connection.
pub(crate) struct Driver(JoinHandle<Result<(), h2::Error>>);

/// A request under way.
pub(crate) struct Asked {
    answer: h2::client::ResponseFuture,
    /// What of the request is still to be sent.
    pub(crate) upload: SendStream<Bytes>,
}

/// An answer under way.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: RecvStream,
}

/// Connects without TLS, by prior knowledge.
pub(crate) async fn connect(address: SocketAddr) -> Result<(Shared, Driver)> {
    over(TcpStream::connect(address).await?).await
}

/// Speaks HTTP/2 on a connection that is there.
pub(crate) async fn over<T>(io: T) -> Result<(Shared, Driver)>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // One stream that is not read must leave room for the others.
    let mut builder = Builder::new();
    builder.enable_push(false).max_send_buffer_size(64 * 1024).initial_connection_window_size(1 << 20);
    let handshake = builder.handshake(io);
    let (sender, connection) = timeout(PATIENCE, handshake).await.context("no handshake")??;
    Ok((Shared { sender }, Driver(tokio::spawn(connection))))
}

impl Shared {
    /// Begins a request; `ended` says that it has no body.
    pub(crate) async fn begin(&mut self, request: Request<()>, ended: bool) -> Result<Asked> {
        timeout(PATIENCE, poll_fn(|cx| self.sender.poll_ready(cx))).await.context("no room for a stream")??;
        let (answer, upload) = self.sender.send_request(request, ended)?;
        Ok(Asked { answer, upload })
    }

    /// Sends a request without a body and reads the head of its answer.
    pub(crate) async fn ask(&mut self, request: Request<()>) -> Result<Answer> {
        self.begin(request, true).await?.answer().await
    }

    /// Waits until the server has said that it takes extended CONNECT (RFC 8441 3).
    pub(crate) async fn expect_extended_connect(&mut self) -> Result<()> {
        let told =
            super::until(PATIENCE, async || Ok(self.sender.is_extended_connect_protocol_enabled().then_some(())));
        told.await?.context("the server does not take extended CONNECT")
    }

    /// Whether the server takes extended CONNECT, as far as it has said.
    pub(crate) fn has_extended_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }
}

impl Driver {
    /// Waits until the connection has ended, and gives the server's reason if it was not the usual one.
    pub(crate) async fn ended(self) -> Result<Option<Reason>> {
        match timeout(PATIENCE, self.0).await.context("the connection stays open")?? {
            Ok(()) => Ok(None),
            Err(error) => Ok(error.reason()),
        }
    }

    /// Ends the connection without a word.
    pub(crate) fn cut(self) {
        self.0.abort();
    }
}

impl Asked {
    /// Sends a part of the body as far as the server lets it; fails when it does not for long.
    pub(crate) async fn send(&mut self, mut part: Bytes, last: bool) -> Result<()> {
        if part.is_empty() {
            self.upload.send_data(part.clone(), last)?;
        }
        while !part.is_empty() {
            let room = self.room(part.len()).await?;
            self.upload.send_data(part.split_to(room), last && part.is_empty())?;
        }
        Ok(())
    }

    async fn room(&mut self, wanted: usize) -> Result<usize> {
        self.upload.reserve_capacity(wanted);
        while self.upload.capacity() == 0 {
            let room = timeout(PATIENCE, poll_fn(|cx| self.upload.poll_capacity(cx))).await;
            room.context("the server takes nothing")?.context("the stream is over")??;
        }
        Ok(self.upload.capacity().min(wanted))
    }

    /// The final answer.
    pub(crate) async fn answer(self) -> Result<Answer> {
        Ok(self.open().await?.0)
    }

    /// The final answer, and what the request's body is still sent with.
    pub(crate) async fn open(self) -> Result<(Answer, SendStream<Bytes>)> {
        let answer = timeout(PATIENCE, self.answer).await.context("no answer")??;
        let (head, body) = answer.into_parts();
        Ok((Answer { status: head.status.as_u16(), fields: head.headers, body }, self.upload))
    }

    /// The next interim answer.
    pub(crate) async fn interim(&mut self) -> Result<Response<()>> {
        let interim = timeout(PATIENCE, poll_fn(|cx| self.answer.poll_informational(cx))).await;
        interim.context("no interim answer")?.context("a final answer came first")?.map_err(Into::into)
    }
}

impl Answer {
    /// The value of a field that stands once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.get_all(name).iter();
        let first = values.next()?.to_str().ok();
        if values.next().is_some() { None } else { first }
    }

    /// The next part of the body; none at its proper end.
    pub(crate) async fn part(&mut self) -> Result<Option<Bytes>> {
        let part = timeout(PATIENCE, self.body.data()).await.context("the body stops coming")?.transpose()?;
        if let Some(part) = &part {
            self.body.flow_control().release_capacity(part.len())?;
        }
        Ok(part)
    }

    /// The next `count` bytes of the body.
    pub(crate) async fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            bytes.extend_from_slice(&self.part().await?.context("the body ends too early")?);
        }
        ensure!(bytes.len() == count, "more than {count} bytes: {:?}", String::from_utf8_lossy(&bytes));
        Ok(bytes)
    }

    /// The rest of the body up to its proper end.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(part) = self.part().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    /// The rest of the body as text.
    pub(crate) async fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.rest().await?)?)
    }

    /// The reason of the reset that the body must end with.
    pub(crate) async fn reset(&mut self) -> Result<Option<Reason>> {
        loop {
            match timeout(PATIENCE, self.body.data()).await.context("the body stays open")? {
                Some(Ok(part)) => self.body.flow_control().release_capacity(part.len())?,
                Some(Err(error)) => return Ok(error.reason()),
                None => bail!("a proper end"),
            }
        }
    }
}

/// A request of this method for a path of a host.
pub(crate) fn request(method: Method, host: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://{host}{path}"))
}

/// Kinds of frames (RFC 9113 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 0x20;

/// A frame of the server's.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection that sends any frames.
pub(crate) struct Frames {
    wire: Wire,
}

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered with this status.
    Status(u16),
    /// It was reset with this code.
    Reset(u32),
    /// The connection was ended with this code.
    GoAway(u32),
    /// The connection ended without a word.
    End,
}

impl Frames {
    /// Connects and sends the preface with settings that change nothing.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let mut frames = Self { wire: Wire::connect(address).await? };
        frames.wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        frames.send(SETTINGS, 0, 0, &[]).await?;
        Ok(frames)
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        self.wire.send(frame(kind, flags, stream, payload)).await
    }

    /// Sends bytes.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.send(bytes).await
    }

    /// The next frame; none at the end of the connection.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>> {
        let Some(head) = self.wire.up_to_end(9).await? else { return Ok(None) };
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some(payload) = self.wire.up_to_end(length).await? else { return Ok(None) };
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Ok(Some(Frame { kind: head[3], stream, payload }))
    }

    /// The next frame of a kind. Whatever else comes is passed over.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Result<Frame> {
        loop {
            let frame = self.next().await?.context("the connection has ended")?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// What becomes of a stream. Whatever else comes is passed over.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Result<Outcome> {
        while let Some(frame) = self.next().await? {
            match frame.kind {
                HEADERS if frame.stream == stream => return Ok(Outcome::Status(status(&frame.payload)?)),
                RST_STREAM if frame.stream == stream => return Ok(Outcome::Reset(code(&frame.payload)?)),
                GOAWAY if code(&frame.payload[4..])? != 0 => return Ok(Outcome::GoAway(code(&frame.payload[4..])?)),
                _ => {}
            }
        }
        Ok(Outcome::End)
    }

    /// Waits until the server has ended the connection.
    pub(crate) async fn ended(&mut self) -> Result<End> {
        Ok(self.wire.rest().await?.end)
    }
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A block of fields, none of them compressed (RFC 7541 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // A length of seven bits, and beyond that the rest in groups of seven (RFC 7541 5.1).
            let mut rest = text.len();
            if rest < 127 {
                block.push(rest as u8);
            } else {
                block.push(127);
                rest -= 127;
                while rest >= 128 {
                    block.push((rest % 128) as u8 | 0x80);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn code(payload: &[u8]) -> Result<u32> {
    let code = payload.first_chunk().context("a frame without a code")?;
    Ok(u32::from_be_bytes(*code))
}

/// The status at the beginning of an answer's block: one of the static table (RFC 7541 appendix A), or its name from there
/// and three digits, plain or in Huffman's code, in which a digit has five or six bits.
fn status(block: &[u8]) -> Result<u16> {
    match *block {
        [first @ 0x88..=0x8e, ..] => Ok([200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)]),
        [0x08 | 0x48, 3, a, b, c, ..] => Ok(std::str::from_utf8(&[a, b, c])?.parse()?),
        [0x08 | 0x48, length, ref text @ ..] if length & 0x80 != 0 => digits(&text[..usize::from(length & 0x7f)]),
        _ => bail!("no status in {block:?}"),
    }
}

/// Three digits in Huffman's code (RFC 7541 appendix B): five bits up to 2, six from 3 on.
fn digits(text: &[u8]) -> Result<u16> {
    let bits = text.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let (mut left, mut number) = (text.len() * 8, 0);
    for _ in 0..3 {
        let six = left.checked_sub(6).map(|below| bits >> below & 0x3f).context("no digit")?;
        let digit = if six < 0b00_0110 { six >> 1 } else { six - 0b01_1001 + 3 };
        left -= if digit < 3 { 5 } else { 6 };
        number = number * 10 + u16::try_from(digit)?;
    }
    Ok(number)
}
