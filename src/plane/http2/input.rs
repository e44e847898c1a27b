//! What comes from the client: read into the worker's buffer, cut into frames, and each of them taken at once. Nothing is
//! kept but a frame of which a part is still to come.

use super::{Connection, Gone};
use crate::net::io::ReadInto as _;
use crate::wire::http2::frame::{self, Head, flag, kind};
use crate::wire::http2::reason::Reason;
use crate::wire::http2::settings::LEAST_FRAME;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// How a client begins (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What of that looks like a head of HTTP/1.1.
pub(in crate::plane) const LIKE_A_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Bytes that are read at once.
const READ: usize = 64 * 1024;

/// What was read and not taken yet.
#[derive(Default)]
pub(super) struct Input {
    /// The beginning of something whose rest has not come.
    rest: Vec<u8>,
    /// How far the client has begun.
    stage: Stage,
    /// Fields of which more is to come in the next frame.
    pub(super) block: Option<Block>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Preface,
    /// Settings come first (RFC 9113 3.4).
    Settings,
    Frames,
}

/// Fields that come in several frames.
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) ends: bool,
    pub(super) fields: Vec<u8>,
    /// How many frames more they came in.
    pub(super) frames: usize,
}

impl Input {
    /// Begins with what was read already.
    pub(super) fn new(before: Vec<u8>) -> Self {
        Self { rest: before, ..Self::default() }
    }

    /// Whether the client has said that it speaks HTTP/2.
    pub(super) fn has_begun(&self) -> bool {
        self.stage == Stage::Frames
    }
}

impl Connection {
    /// Reads once and takes what came; pending when there is nothing.
    ///
    /// # Errors
    /// The reason to end the connection for, or that the client has ended it.
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let worker = Rc::clone(&self.shared.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let before = self.input.rest.len();
        scratch[..before].copy_from_slice(&self.input.rest);
        let n = match self.io.poll_read_into(cx, &mut scratch[before..before + READ]) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(n)) if n > 0 => n,
            Poll::Ready(Ok(_) | Err(_)) => return Poll::Ready(Err(Gone::Closed)),
        };
        self.heard = Instant::now();
        self.take_all(&scratch[..before + n]).map_err(Gone::Refused)?;
        Poll::Ready(Ok(()))
    }

    /// Takes what was read before the protocol was known.
    ///
    /// # Errors
    /// The reason to end the connection for.
    pub(super) fn take_first(&mut self) -> Result<(), Reason> {
        let first = std::mem::take(&mut self.input.rest);
        self.take_all(&first)
    }

    /// Takes all frames that are complete, and keeps the rest.
    fn take_all(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        if self.input.stage == Stage::Preface {
            let part = bytes.len().min(PREFACE.len());
            if bytes[..part] != PREFACE[..part] {
                return Err(Reason::PROTOCOL_ERROR);
            }
            if part == PREFACE.len() {
                bytes = &bytes[part..];
                self.input.stage = Stage::Settings;
            }
        }
        while self.input.stage != Stage::Preface
            && let Some((head, rest)) = bytes.split_first_chunk()
        {
            let head = Head::read(head);
            if head.length > LEAST_FRAME as usize {
                return Err(Reason::FRAME_SIZE_ERROR);
            }
            let Some((payload, rest)) = rest.split_at_checked(head.length) else { break };
            self.check_order(head)?;
            self.take(head, payload)?;
            bytes = rest;
        }
        self.keep(bytes);
        Ok(())
    }

    /// Keeps what is not complete. Nothing is held while there is nothing.
    fn keep(&mut self, bytes: &[u8]) {
        let (rest, buffers) = (&mut self.input.rest, &self.shared.worker.buffers);
        if bytes.is_empty() {
            if rest.capacity() > 0 {
                buffers.give(std::mem::take(rest));
            }
            return;
        }
        if rest.capacity() == 0 {
            *rest = buffers.take();
        }
        rest.clear();
        rest.extend_from_slice(bytes);
    }

    /// Settings come first, and nothing comes between the frames of one head (RFC 9113 3.4 and 6.10).
    fn check_order(&mut self, head: Head) -> Result<(), Reason> {
        let is_first = self.input.stage == Stage::Settings;
        let is_in_order = match &self.input.block {
            _ if is_first => head.kind == kind::SETTINGS && !head.has(flag::ACK),
            Some(block) => head.kind == kind::CONTINUATION && head.stream == block.stream,
            None => head.kind != kind::CONTINUATION,
        };
        self.input.stage = Stage::Frames;
        if is_in_order { Ok(()) } else { Err(Reason::PROTOCOL_ERROR) }
    }
}

// What is read at once and a frame before it fit into the worker's buffer.
const _: () = assert!(READ + frame::HEAD + LEAST_FRAME as usize + PREFACE.len() <= crate::plane::worker::SCRATCH);
