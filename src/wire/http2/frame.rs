//! Frames (RFC 9113 4 and 6).

use super::reason::Reason;
use super::window;

/// Bytes of a frame's head.
pub const HEAD: usize = 9;

/// Kinds of frames.
pub mod kind {
    /// A part of a body.
    pub const DATA: u8 = 0;
    /// The fields of a message, or of its trailers.
    pub const HEADERS: u8 = 1;
    /// An order of streams, which nobody follows any more (RFC 9113 5.3).
    pub const PRIORITY: u8 = 2;
    /// The end of a stream before its time.
    pub const RST_STREAM: u8 = 3;
    /// What the peer may do.
    pub const SETTINGS: u8 = 4;
    /// A request that is answered before it is asked.
    pub const PUSH_PROMISE: u8 = 5;
    /// A question whether the peer still is there.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// More bytes for a window.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of the fields before it.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Of SETTINGS and PING: it is an answer.
    pub const ACK: u8 = 0x1;
    /// Of DATA and HEADERS: nothing comes after it.
    pub const END_STREAM: u8 = 0x1;
    /// Of HEADERS and CONTINUATION: the fields are complete.
    pub const END_HEADERS: u8 = 0x4;
    /// Of DATA and HEADERS: it has padding.
    pub const PADDED: u8 = 0x8;
    /// Of HEADERS: an order of streams stands before the fields.
    pub const PRIORITY: u8 = 0x20;
}

/// Bytes that say where in the order of streams one stands (RFC 7540 6.2).
const PRIORITY: usize = 5;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes behind the head.
    pub length: usize,
    /// One of [`kind`], or an unknown one.
    pub kind: u8,
    /// Those of [`flag`] that are set.
    pub flags: u8,
    /// The stream that it concerns; 0 for the connection.
    pub stream: u32,
}

impl Head {
    /// Reads a head. The reserved bit is not looked at (RFC 9113 4.1).
    #[must_use]
    pub fn read(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Self { length, kind, flags, stream: id(stream) }
    }

    /// The head as bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..3].copy_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        (bytes[3], bytes[4]) = (self.kind, self.flags);
        bytes[5..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What of the payload of DATA or HEADERS is left without padding and order.
    ///
    /// # Errors
    /// The reason to end the connection for: there is more padding than payload (RFC 9113 6.1), or too little of either.
    pub fn content(self, payload: &[u8]) -> Result<&[u8], Reason> {
        let (padding, payload) = if self.has(flag::PADDED) {
            let (padding, rest) = payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
            (usize::from(*padding), rest)
        } else {
            (0, payload)
        };
        let skip = if self.kind == kind::HEADERS && self.has(flag::PRIORITY) { PRIORITY } else { 0 };
        let payload = payload.get(skip..).ok_or(Reason::FRAME_SIZE_ERROR)?;
        let end = payload.len().checked_sub(padding).ok_or(Reason::PROTOCOL_ERROR)?;
        Ok(&payload[..end])
    }
}

/// Reads a number of 31 bits.
fn id(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & window::MAX
}

/// The payload of `RST_STREAM` or `WINDOW_UPDATE` as a number.
///
/// # Errors
/// The reason to end the connection for: it has another size.
pub fn number(payload: &[u8]) -> Result<u32, Reason> {
    <[u8; 4]>::try_from(payload).map(id).map_err(|_| Reason::FRAME_SIZE_ERROR)
}

/// Writes a frame.
pub fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head { length: payload.len(), kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

/// Writes `RST_STREAM`.
pub fn reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    write(out, kind::RST_STREAM, 0, stream, &reason.0.to_be_bytes());
}

/// Writes `WINDOW_UPDATE`; the stream 0 is the connection.
pub fn more_window(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    write(out, kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

/// Writes GOAWAY: streams after `last` are not looked at.
pub fn go_away(out: &mut Vec<u8>, last: u32, reason: Reason) {
    let payload = u64::from(last) << 32 | u64::from(reason.0);
    write(out, kind::GOAWAY, 0, 0, &payload.to_be_bytes());
}

/// Puts the head before the payload for which [`HEAD`] bytes were left free at `at`. HEADERS that are longer than `most` go
/// on in CONTINUATION.
pub fn close(out: &mut Vec<u8>, at: usize, head: Head, most: usize) {
    let length = out.len() - at - HEAD;
    if length <= most {
        out[at..at + HEAD].copy_from_slice(&Head { length, ..head }.bytes());
        return;
    }
    let block = out.split_off(at + HEAD);
    out.truncate(at);
    let (parts, mut kind, mut flags) = (block.chunks(most), head.kind, head.flags & !flag::END_HEADERS);
    let last = parts.len() - 1;
    for (number, part) in parts.enumerate() {
        let end = if number == last { flag::END_HEADERS } else { 0 };
        write(out, kind, flags | end, head.stream, part);
        (kind, flags) = (kind::CONTINUATION, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        let head = Head { length: 0x01_02_03, kind: 9, flags: 0x2c, stream: 0x7fff_fffe };
        let mut bytes = head.bytes();
        assert_eq!(Head::read(&bytes), head);
        bytes[5] |= 0x80;
        assert_eq!(Head::read(&bytes), head, "the reserved bit");
    }

    #[test]
    fn padding_is_within_its_frame() {
        let content = |kind, flags, payload| Head { length: 0, kind, flags, stream: 1 }.content(payload);
        assert_eq!(content(kind::DATA, 0, b"ab"), Ok(&b"ab"[..]));
        assert_eq!(content(kind::DATA, flag::PADDED, b"\x01ab"), Ok(&b"a"[..]));
        assert_eq!(content(kind::DATA, flag::PADDED, b"\x02ab"), Ok(&b""[..]));
        assert_eq!(content(kind::DATA, flag::PADDED, b"\x03ab"), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(content(kind::DATA, flag::PADDED, b""), Err(Reason::FRAME_SIZE_ERROR));
        assert_eq!(content(kind::DATA, flag::PRIORITY, b"123456"), Ok(&b"123456"[..]));
        let both = flag::PADDED | flag::PRIORITY;
        assert_eq!(content(kind::HEADERS, both, b"\x0112345ab"), Ok(&b"a"[..]));
        assert_eq!(content(kind::HEADERS, both, b"\x0312345ab"), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(content(kind::HEADERS, flag::PRIORITY, b"1234"), Err(Reason::FRAME_SIZE_ERROR));
    }

    #[test]
    fn long_heads_go_on_in_further_frames() {
        for (length, frames) in [(0, 1), (10, 1), (11, 2), (20, 2), (25, 3)] {
            let block: Vec<u8> = (0..length).collect();
            let mut out = [&b"before"[..], &[0; HEAD], &block].concat();
            let head = Head { length: 0, kind: kind::HEADERS, flags: flag::END_HEADERS | flag::END_STREAM, stream: 3 };
            close(&mut out, 6, head, 10);
            let (mut rest, mut joined, mut seen) = (&out[6..], Vec::new(), 0);
            while let Some((bytes, after)) = rest.split_first_chunk() {
                let head = Head::read(bytes);
                let last = after.len() == head.length;
                assert_eq!((head.kind == kind::HEADERS, head.has(flag::END_STREAM)), (seen == 0, seen == 0));
                assert_eq!((head.stream, head.has(flag::END_HEADERS)), (3, last));
                joined.extend_from_slice(&after[..head.length]);
                (rest, seen) = (&after[head.length..], seen + 1);
            }
            assert_eq!((joined, seen), (block, frames), "{length}");
        }
    }
}
