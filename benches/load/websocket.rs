//! Both sides of a WebSocket whose messages come back as they were sent.

use crate::connection::{Connection, Opener};
use crate::drive::Exchange;
use anyhow::{Context, bail, ensure};
use std::io;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
/// In place of a length: two bytes of it follow, or eight.
const TWO_BYTES: u8 = 0x7e;
const EIGHT_BYTES: u8 = 0x7f;

/// The client's side.
pub(crate) struct WebSocket {
    connection: Connection,
    message: Vec<u8>,
    /// Of the message that comes back, without a mask.
    echo: usize,
    buffer: Vec<u8>,
}

impl WebSocket {
    /// `request` asks for the upgrade.
    pub(crate) async fn open(opener: &Opener, request: Rc<[u8]>, size: usize) -> anyhow::Result<Self> {
        let mut connection = opener.open().await.context("cannot connect")?;
        connection.write(&request).await?;
        let (mut buffer, mut filled) = (vec![0; 1024.max(size + 16)], 0);
        while memchr::memmem::find(&buffer[..filled], b"\r\n\r\n").is_none() {
            filled += connection.read(&mut buffer[filled..]).await?;
        }
        let line = buffer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        ensure!(line.starts_with(b"HTTP/1.1 101"), "no WebSocket: {}", String::from_utf8_lossy(line));
        let mut message = Vec::new();
        header(BINARY, size, MASKED, &mut message);
        let echo = message.len() + size;
        // A mask of zeros: the payload is what it is.
        message.resize(echo + 4, 0);
        Ok(Self { connection, message, echo, buffer })
    }
}

impl Exchange for WebSocket {
    async fn exchange(&mut self) -> anyhow::Result<usize> {
        self.connection.write(&self.message).await?;
        let mut filled = 0;
        while filled < self.echo {
            filled += self.connection.read(&mut self.buffer[filled..]).await?;
        }
        ensure!(filled == self.echo && self.buffer[0] == BINARY, "another message came back");
        Ok(self.echo)
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        bail!("a WebSocket has ended")
    }
}

/// The upstream's side: answers frame by frame. `read` is what came behind the head already.
pub(crate) async fn echo(stream: &mut TcpStream, read: &[u8]) -> io::Result<()> {
    let (mut buffer, mut out) = (read.to_vec(), Vec::new());
    loop {
        let mut at = 0;
        while let Some(frame) = Frame::parse(&buffer[at..]) {
            at += frame.length;
            frame.answer(&buffer[..at], &mut out);
        }
        buffer.drain(..at);
        if !out.is_empty() {
            stream.write_all(&out).await?;
            if out.starts_with(&[CLOSE]) {
                return Ok(());
            }
            out.clear();
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

struct Frame {
    first: u8,
    mask: [u8; 4],
    payload: usize,
    /// Of the whole frame.
    length: usize,
}

impl Frame {
    /// The masked frame that the bytes begin with, if it is there whole.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, short) = (*bytes.first()?, bytes.get(1)? & !MASKED);
        let (payload, header) = match short {
            TWO_BYTES => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            EIGHT_BYTES => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
            short => (usize::from(short), 2),
        };
        let mask = bytes.get(header..header + 4)?.try_into().ok()?;
        let length = payload.checked_add(header + 4)?;
        (bytes.len() >= length).then_some(Self { first, mask, payload, length })
    }

    /// Adds what is answered to it, which is the end of `bytes`.
    fn answer(&self, bytes: &[u8], out: &mut Vec<u8>) {
        header(if self.first == PING { PONG } else { self.first }, self.payload, 0, out);
        let payload = bytes[bytes.len() - self.payload..].iter().zip(self.mask.iter().cycle());
        out.extend(payload.map(|(byte, mask)| byte ^ mask));
    }
}

fn header(first: u8, payload: usize, masked: u8, out: &mut Vec<u8>) {
    out.push(first);
    match payload {
        0..126 => out.push(masked | payload as u8),
        126..0x1_0000 => {
            out.push(masked | TWO_BYTES);
            out.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | EIGHT_BYTES);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
}
