//! The two directions of a pipe.

use crate::config::Http2Limits;
use crate::plane::http2::shared::is_due;
use crate::wire::body::{CHUNK_HEAD, LAST_CHUNK, write_chunk_head};
use crate::wire::http2::request::Content;
use std::io::{self, ErrorKind, IoSlice};
use tokio::io::ReadBuf;

/// Bytes that wait for the client at most: four frames of the size that everybody takes.
pub(super) const CAPACITY: usize = 64 * 1024;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::plane::http2) enum End {
    /// More may come.
    #[default]
    Open,
    /// What is there is all.
    Closed,
    /// An end is gone; what is there is not all.
    Broken,
}

impl End {
    fn become_one(&mut self, end: Self) {
        if *self == Self::Open || end == Self::Broken {
            *self = end;
        }
    }
}

/// From the client: bytes of its DATA. A body whose length is not known gets its chunks when it is read.
#[derive(Default)]
pub(super) struct Up {
    bytes: Vec<u8>,
    /// How many of them were read.
    read: usize,
    in_chunks: bool,
    /// What comes behind them and was framed already.
    tail: Vec<u8>,
    end: End,
    /// Bytes that were read, or that nobody has to read, and whose window the client has not got back.
    pub(super) taken: usize,
}

impl Up {
    pub(super) fn begin(&mut self, content: Content) {
        self.in_chunks = content == Content::Chunks;
    }

    pub(super) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    pub(super) fn is_closed(&self) -> bool {
        self.end == End::Closed
    }

    pub(super) fn is_broken(&self) -> bool {
        self.end == End::Broken
    }

    pub(super) fn end(&mut self, end: End) {
        self.end.become_one(end);
    }

    /// How many bytes of DATA nobody has read yet.
    pub(super) fn held(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Whether it is time to give the stream's window back.
    pub(super) fn is_due(&self, limits: &Http2Limits) -> bool {
        is_due(self.taken, limits.stream_window)
    }

    pub(super) fn put(&mut self, bytes: &[u8], buffer: impl FnOnce() -> Vec<u8>) {
        if self.bytes.capacity() == 0 && !bytes.is_empty() {
            self.bytes = buffer();
        }
        // What was read makes room before more is asked for.
        if self.read > self.held() {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Nothing more comes but the end of the chunks, with their trailers.
    pub(super) fn finish(&mut self, tail: Vec<u8>) {
        self.tail = tail;
    }

    /// Reads what is there; how many bytes of DATA that took, and none when there is nothing.
    pub(super) fn read(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<Option<usize>> {
        let rest = &self.bytes[self.read..];
        if rest.is_empty() {
            let part = self.tail.len().min(buffer.remaining());
            buffer.put_slice(&self.tail[..part]);
            self.tail.drain(..part);
            return Ok((part > 0).then_some(0));
        }
        let framing = if self.in_chunks { CHUNK_HEAD + 2 } else { 0 };
        let part = rest.len().min(buffer.remaining().saturating_sub(framing));
        if part == 0 {
            return Err(ErrorKind::InvalidInput.into());
        }
        if self.in_chunks {
            let mut head = [0; CHUNK_HEAD];
            let length = write_chunk_head(part, &mut head);
            buffer.put_slice(&head[..length]);
            buffer.put_slice(&rest[..part]);
            // The line end behind a chunk is the one with which its last line ends.
            buffer.put_slice(&LAST_CHUNK[3..]);
        } else {
            buffer.put_slice(&rest[..part]);
        }
        self.read += part;
        self.taken += part;
        Ok(Some(part))
    }

    /// The buffer, if all that was in it has been read.
    pub(super) fn spare(&mut self) -> Option<Vec<u8>> {
        if self.held() > 0 || self.bytes.capacity() == 0 {
            return None;
        }
        self.read = 0;
        Some(std::mem::take(&mut self.bytes))
    }

    /// Throws away what is there and what still comes, because nobody reads it; how many bytes of DATA that were.
    pub(super) fn abandon(&mut self) -> usize {
        let held = self.held();
        self.taken += held;
        self.read += held;
        self.end = End::Broken;
        held
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// To the client: its answer in HTTP/1.1.
#[derive(Default)]
pub(in crate::plane::http2) struct Down {
    bytes: Vec<u8>,
    /// How many of them were taken.
    sent: usize,
    end: End,
    /// Whether the request's way waits for room.
    pub(super) waits: bool,
}

impl Down {
    /// Whether more may come.
    pub(in crate::plane::http2) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// Whether what is there is all.
    pub(in crate::plane::http2) fn is_closed(&self) -> bool {
        self.end == End::Closed
    }

    /// Whether the other end is gone without having been shut.
    pub(in crate::plane::http2) fn is_broken(&self) -> bool {
        self.end == End::Broken
    }

    pub(super) fn end(&mut self, end: End) {
        // What was shut is complete, whoever leaves then.
        if self.end == End::Open {
            self.end = end;
        }
    }

    /// Breaks off, even if what is there is all.
    pub(super) fn cut(&mut self) {
        self.end = End::Broken;
    }

    /// How many bytes may be written now.
    pub(super) fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.bytes.len() - self.sent)
    }

    pub(super) fn lend(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffer();
        }
    }

    /// Takes as much as has room; how much that is.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> usize {
        if self.sent >= CAPACITY / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        let before = self.bytes.len();
        self.bytes.reserve(slices.iter().map(|slice| slice.len()).sum::<usize>().min(self.room()));
        for slice in slices {
            let part = slice.len().min(self.room());
            self.bytes.extend_from_slice(&slice[..part]);
        }
        self.bytes.len() - before
    }

    /// What is there.
    pub(in crate::plane::http2) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes so many bytes out, which must be there.
    pub(in crate::plane::http2) fn take(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Whether the request's way, which waits, is to be told that there is room. Not for each frame.
    pub(super) fn frees_writer(&mut self) -> bool {
        self.waits && self.room() >= CAPACITY / 2 && std::mem::take(&mut self.waits)
    }

    /// The buffer, if all that was in it has been taken.
    pub(super) fn spare(&mut self) -> Option<Vec<u8>> {
        if self.sent < self.bytes.len() || self.bytes.capacity() == 0 {
            return None;
        }
        self.sent = 0;
        Some(std::mem::take(&mut self.bytes))
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}
