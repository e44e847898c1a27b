//! Follows the frame headers of a WebSocket (RFC 6455 5.2), never the payload, so that the gateway knows where a frame of
//! its own may go in.

use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, OpCode};

/// Follows one direction of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The header being read. The longest is two bytes, a length of eight and a mask of four.
    header: [u8; 14],
    have: u8,
    /// Payload bytes of the current frame that are still to come.
    left: u64,
    closed: bool,
    broken: bool,
}

impl Follower {
    /// Whether a frame may go in here: between frames of a stream that is well-formed and not closed.
    pub(super) fn may_insert(&self) -> bool {
        self.at_boundary() && !self.closed && !self.broken
    }

    /// Whether no boundary will be told any more.
    pub(super) fn is_over(&self) -> bool {
        self.closed || self.broken
    }

    fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Follows all of `bytes`.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.broken {
            bytes = &bytes[self.feed_frame(bytes)..];
        }
    }

    /// Follows `bytes` up to the end of the frame they begin in or with; says how many that were.
    pub(super) fn feed_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let here = self.left.min((bytes.len() - at) as u64);
                self.left -= here;
                at += here as usize;
            } else {
                self.feed_header(bytes[at]);
                at += 1;
            }
            if self.broken {
                return bytes.len();
            }
            if self.at_boundary() {
                return at;
            }
        }
        at
    }

    fn feed_header(&mut self, byte: u8) {
        self.header[usize::from(self.have)] = byte;
        self.have += 1;
        let read = &self.header[..usize::from(self.have)];
        match FrameHeader::parse(&mut Cursor::new(read)) {
            Ok(Some((header, length))) => {
                self.closed |= header.opcode == OpCode::Control(Control::Close);
                self.left = length;
                self.have = 0;
            }
            Ok(None) if usize::from(self.have) < self.header.len() => {}
            Ok(None) | Err(_) => self.broken = true,
        }
    }
}

/// A close frame with a status code (RFC 6455 7.4), masked when it goes to a server (RFC 6455 5.3).
pub(super) fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    debug_assert!(payload.len() <= 125, "a control frame's payload is short");
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x88, mask_bit | payload.len() as u8];
    if let Some(mask) = mask {
        frame.extend_from_slice(&mask);
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
    frame.extend_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of every length format, masked and not.
    fn frames() -> Vec<Vec<u8>> {
        let mut frames = vec![vec![0x81, 0x02, b'h', b'i'], vec![0x89, 0x00], vec![0x82, 0x83, 1, 2, 3, 4, 9, 9, 9]];
        let mut medium = vec![0x01, 126, 0x01, 0x00];
        medium.extend([0x81; 256]);
        frames.push(medium);
        let mut long = vec![0x80, 255, 0, 0, 0, 0, 0, 1, 0x11, 0x70, 1, 2, 3, 4];
        long.resize(long.len() + 70_000, 0x88);
        frames.push(long);
        frames
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_arrive() {
        let frames = frames();
        let all = frames.concat();
        for step in [1, 2, 3, 7, 1000, all.len()] {
            let mut follower = Follower::default();
            let (mut ends, mut at) = (Vec::new(), 0);
            for part in all.chunks(step) {
                let mut rest = part;
                while !rest.is_empty() {
                    let n = follower.feed_frame(rest);
                    at += n;
                    rest = &rest[n..];
                    if follower.may_insert() {
                        ends.push(at);
                    }
                }
            }
            let expected: Vec<_> = frames
                .iter()
                .scan(0, |sum, f| {
                    *sum += f.len();
                    Some(*sum)
                })
                .collect();
            assert_eq!(ends, expected, "step {step}");
        }
    }

    #[test]
    fn nothing_goes_in_after_a_close_or_into_a_broken_stream() {
        let mut follower = Follower::default();
        assert!(follower.may_insert());
        follower.feed(&[0x81, 0x05, b'h']);
        assert!(!follower.may_insert() && !follower.is_over());
        follower.feed(b"ello");
        assert!(follower.may_insert());
        follower.feed(&close_frame(1000, "", None));
        assert!(!follower.may_insert() && follower.is_over());
        let mut follower = Follower::default();
        follower.feed(&[0x83, 0x00]);
        assert!(!follower.may_insert() && follower.is_over(), "a reserved opcode");
    }

    #[test]
    fn close_frames_are_well_formed() {
        assert_eq!(close_frame(1012, "bye", None), [0x88, 5, 0x03, 0xf4, b'b', b'y', b'e']);
        let masked = close_frame(1001, "", Some([1, 2, 3, 4]));
        assert_eq!(masked, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
    }
}
