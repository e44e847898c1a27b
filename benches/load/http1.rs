//! A client of HTTP/1.1 that sends one and the same request again and again over a kept connection.

use crate::connection::{Connection, Opener};
use crate::drive::Exchange;
use anyhow::{Context, bail, ensure};
use std::rc::Rc;

const BUFFER: usize = 16 * 1024;
/// For bodies that do not fit in the other.
const LARGE_BUFFER: usize = 256 * 1024;
const MAX_FIELDS: usize = 64;

pub(crate) struct Http1 {
    opener: Opener,
    request: Rc<[u8]>,
    connection: Connection,
    buffer: Vec<u8>,
}

impl Http1 {
    pub(crate) async fn open(opener: Opener, request: Rc<[u8]>) -> anyhow::Result<Self> {
        let connection = opener.open().await.context("cannot connect")?;
        Ok(Self { opener, request, connection, buffer: vec![0; BUFFER] })
    }

    /// Reads a head, and says how much of the buffer is filled.
    async fn head(&mut self) -> anyhow::Result<(Answer, usize)> {
        let mut filled = 0;
        loop {
            filled += self.connection.read(&mut self.buffer[filled..]).await?;
            if let Some(answer) = Answer::parse(&self.buffer[..filled])? {
                return Ok((answer, filled));
            }
            ensure!(filled < self.buffer.len(), "the head of an answer is too long");
        }
    }

    async fn skip(&mut self, mut left: usize) -> anyhow::Result<()> {
        if left > self.buffer.len() {
            self.buffer.resize(LARGE_BUFFER, 0);
        }
        while left > 0 {
            let most = left.min(self.buffer.len());
            left -= self.connection.read(&mut self.buffer[..most]).await?;
        }
        Ok(())
    }
}

impl Exchange for Http1 {
    async fn exchange(&mut self) -> anyhow::Result<usize> {
        self.connection.write(&self.request).await?;
        let (answer, filled) = self.head().await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        let end = answer.head + answer.length;
        self.skip(end.checked_sub(filled).context("more than the answer came")?).await?;
        if answer.closes {
            self.renew().await?;
        }
        Ok(answer.length)
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        self.connection = self.opener.open().await.context("cannot connect")?;
        Ok(())
    }
}

/// What the head of an answer says.
struct Answer {
    status: u16,
    /// How many bytes the head has.
    head: usize,
    /// How many bytes follow it.
    length: usize,
    closes: bool,
}

impl Answer {
    /// None while the head is not complete.
    fn parse(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(head) = answer.parse(bytes)? else { return Ok(None) };
        let mut parsed = Self { status: answer.code.unwrap_or(0), head, length: 0, closes: false };
        for field in &*answer.headers {
            match field.name {
                name if name.eq_ignore_ascii_case("content-length") => {
                    parsed.length = std::str::from_utf8(field.value)?.trim().parse()?;
                }
                name if name.eq_ignore_ascii_case("connection") => {
                    parsed.closes |= field.value.eq_ignore_ascii_case(b"close");
                }
                name if name.eq_ignore_ascii_case("transfer-encoding") => bail!("an answer came in chunks"),
                _ => {}
            }
        }
        Ok(Some(parsed))
    }
}
