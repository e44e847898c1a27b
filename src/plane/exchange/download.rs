//! The body of an answer on its way to the client.

use crate::plane::databricks::Statement;
use crate::plane::outbox::Outbox;
use crate::wire::body::{self, CHUNK_HEAD, Decoder, Framing};
use crate::wire::fields::Fields;
use std::io;
use std::task::Context;
use tokio::io::AsyncWrite;

/// How the body of an answer goes through.
pub(in crate::plane) struct Passage<'a> {
    /// How the upstream frames it.
    pub(in crate::plane) from: Framing,
    /// How the client gets it.
    pub(in crate::plane) to: Framing,
    /// What came before it, where trailers may follow it.
    pub(in crate::plane) trailers: Option<Fields<'a>>,
}

/// The answer's body.
pub(super) struct Download<'a> {
    pub(super) decoder: Decoder,
    pub(super) chunked: bool,
    pub(super) trailers: Option<Fields<'a>>,
    pub(super) done: bool,
    pub(super) clean: bool,
    pub(super) sent: u64,
    /// The statement that it is about, which is told by what passes.
    pub(super) statement: Option<&'a mut Statement>,
}

impl<'a> Download<'a> {
    /// Nothing of it has come.
    pub(super) fn new(passage: &Passage<'a>, statement: Option<&'a mut Statement>) -> Self {
        Self {
            decoder: Decoder::new(passage.from),
            chunked: passage.to == Framing::Chunked,
            trailers: passage.trailers,
            done: false,
            clean: true,
            sent: 0,
            statement,
        }
    }
}

/// Sends body bytes, as a chunk of their own where the body is chunked.
pub(super) fn send<T: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    outbox: &mut Outbox,
    io: &mut T,
    data: &[u8],
    chunked: bool,
) -> io::Result<()> {
    if !chunked {
        return outbox.send(cx, io, [data, b"", b""]);
    }
    let mut head = [0u8; CHUNK_HEAD];
    let n = body::write_chunk_head(data.len(), &mut head);
    outbox.send(cx, io, [&head[..n], data, b"\r\n"])
}
