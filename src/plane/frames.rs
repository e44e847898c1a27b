//! Follows the frame headers of a WebSocket (RFC 6455 5.2), never the payload, so that the gateway knows where a frame of
//! its own may go in, and which frames and messages are larger than allowed.

use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, OpCode};

/// How much a peer may send at once, as it is sent; 0 for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Largest {
    /// The payload of a frame.
    pub(super) frame: u64,
    /// The payloads of all frames of a message.
    pub(super) message: u64,
}

impl Largest {
    fn is_limit(self) -> bool {
        self.frame > 0 || self.message > 0
    }
}

/// Why a frame does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its payload is larger than allowed.
    TooLarge,
    /// With it, its message is larger than allowed.
    MessageTooLarge,
    /// It is no frame, so nobody knows how large it is.
    Malformed,
}

impl Refusal {
    /// The status code for its sender (RFC 6455 7.4.1).
    pub(super) fn code(self) -> u16 {
        match self {
            Self::TooLarge | Self::MessageTooLarge => 1009,
            Self::Malformed => 1002,
        }
    }

    /// What it is called in the log and in close frames.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::TooLarge => "frame too large",
            Self::MessageTooLarge => "message too large",
            Self::Malformed => "frame malformed",
        }
    }
}

/// The longest header of a frame: two bytes, a length of eight and a mask of four.
const MAX_HEADER: usize = 14;

/// Follows one direction of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The header being read.
    header: [u8; MAX_HEADER],
    have: u8,
    /// Payload bytes of the current frame that are still to come.
    left: u64,
    /// Payload bytes of the message under way, as the headers so far announce them.
    message: u64,
    closed: bool,
    broken: bool,
    max: Largest,
    refused: Option<Refused>,
}

/// A frame that does not go on, nor does anything behind it.
#[derive(Debug, Clone, Copy)]
struct Refused {
    why: Refusal,
    /// Length of its header, as far as it was read.
    header: usize,
    /// Whether the stream had been closed before it.
    closed: bool,
}

impl Follower {
    /// One that refuses what is larger than `max`.
    pub(super) fn new(max: Largest) -> Self {
        Self { max, ..Self::default() }
    }

    /// The follower of what a peer still sends when its stream was ended by a close frame of ours.
    pub(super) fn told(self) -> Self {
        Self { max: Largest::default(), refused: None, closed: false, ..self }
    }

    /// Why a frame was refused, if one was.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refused.map(|refused| refused.why)
    }

    /// Whether a frame may go in here: between frames of a stream that is well-formed and not closed. What was refused has
    /// not gone on, so the place before it is such a one.
    pub(super) fn may_insert(&self) -> bool {
        self.refused.map_or(self.at_boundary() && !self.closed && !self.broken, |refused| !refused.closed)
    }

    /// Whether no boundary will be told any more.
    pub(super) fn is_over(&self) -> bool {
        self.closed || self.broken
    }

    fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// The header that has begun and, where frames may be refused, has not gone on yet.
    pub(super) fn held(&self) -> ([u8; MAX_HEADER], usize) {
        (self.header, if self.max.is_limit() { usize::from(self.have) } else { 0 })
    }

    /// Follows `bytes`; says how many of them go on, behind what was held before. That is all, but for a header that is
    /// not complete, and what is refused. `to_boundary` stops where a frame may go in, and the rest does not go on.
    pub(super) fn follow(&mut self, bytes: &[u8], to_boundary: bool) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.refused.is_none() {
            at += self.feed_frame(&bytes[at..]);
            if to_boundary && self.may_insert() {
                break;
            }
        }
        let Some(refused) = self.refused else { return at - self.held().1.min(at) };
        self.feed(&bytes[at..]);
        at.saturating_sub(refused.header)
    }

    /// Follows all of `bytes`.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.feed_frame(bytes)..];
        }
    }

    /// Follows `bytes` up to the end of the frame they begin in or with; says how many that were. All of them, when they are
    /// of no frame.
    fn feed_frame(&mut self, bytes: &[u8]) -> usize {
        if self.broken {
            return bytes.len();
        }
        let mut at = 0;
        let fresh = self.refused.is_none();
        while at < bytes.len() {
            if self.left > 0 {
                let here = self.left.min((bytes.len() - at) as u64);
                self.left -= here;
                at += here as usize;
            } else {
                self.feed_header(bytes[at]);
                at += 1;
            }
            if fresh && self.refused.is_some() {
                return at;
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
                self.judge(&header, length);
                self.closed |= header.opcode == OpCode::Control(Control::Close);
                self.left = length;
                self.have = 0;
            }
            Ok(None) if usize::from(self.have) < self.header.len() => {}
            Ok(None) | Err(_) => {
                self.broken = true;
                if self.max.is_limit() {
                    self.refuse(Refusal::Malformed);
                }
            }
        }
    }

    /// Refuses a frame that is too large, or makes its message so. A control frame within a message is none of it.
    fn judge(&mut self, header: &FrameHeader, length: u64) {
        if matches!(header.opcode, OpCode::Data(_)) {
            // A message that begins before the one before has ended is an error, and no way to begin counting anew.
            self.message = self.message.saturating_add(length);
        }
        if self.max.frame > 0 && length > self.max.frame {
            self.refuse(Refusal::TooLarge);
        } else if self.max.message > 0 && self.message > self.max.message {
            self.refuse(Refusal::MessageTooLarge);
        }
        if matches!(header.opcode, OpCode::Data(_)) && header.is_final {
            self.message = 0;
        }
    }

    /// Refuses the frame whose header has just been read.
    fn refuse(&mut self, why: Refusal) {
        let header = usize::from(self.have);
        self.refused.get_or_insert(Refused { why, header, closed: self.closed });
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

    /// What goes on of `all`, arriving in parts of `step` bytes.
    fn passed(all: &[u8], frame: u64, step: usize) -> (Vec<u8>, Follower) {
        passed_of(all, Largest { frame, message: 0 }, step)
    }

    fn passed_of(all: &[u8], max: Largest, step: usize) -> (Vec<u8>, Follower) {
        let (mut follower, mut out) = (Follower::new(max), Vec::new());
        for part in all.chunks(step) {
            if follower.refusal().is_none() {
                let (header, held) = follower.held();
                let n = follower.follow(part, false);
                if n > 0 {
                    out.extend_from_slice(&header[..held]);
                    out.extend_from_slice(&part[..n]);
                }
            }
        }
        (out, follower)
    }

    #[test]
    fn large_frames_do_not_go_on_and_nothing_behind_them_does() {
        let frames = frames();
        let all = frames.concat();
        for step in [1, 2, 3, 7, 1000, all.len()] {
            let (out, follower) = passed(&all, 70_000, step);
            assert!(out == all && follower.refusal().is_none() && follower.may_insert(), "at the limit, step {step}");
            let (out, follower) = passed(&[&all[..], &frames[0]].concat(), 69_999, step);
            let before = all.len() - frames[4].len();
            assert!(out == all[..before] && follower.may_insert(), "over the limit, step {step}: {}", out.len());
            assert_eq!(follower.refusal(), Some(Refusal::TooLarge), "step {step}");
            let (out, follower) = passed(&all, 0, step);
            assert!(out == all && follower.refusal().is_none(), "no limit, step {step}");
        }
    }

    #[test]
    fn the_frames_of_a_message_are_counted_together_without_what_is_between_them() {
        let text = |first: u8, length: u8| [&[first, length][..], &vec![b'x'; usize::from(length)]].concat();
        let message = [text(0x01, 40), text(0x89, 9), text(0x00, 40), text(0x8a, 90), text(0x80, 20)].concat();
        let large = [text(0x01, 60), text(0x00, 30), text(0x89, 0)].concat();
        let all = [&message[..], &message, &text(0x82, 100), &large].concat();
        let max = Largest { frame: 0, message: 100 };
        for step in [1, 2, 5, 1000] {
            let (out, follower) = passed_of(&all, max, step);
            assert!(out == all && follower.refusal().is_none(), "step {step}");
            // Whether it is the end of the message, or a new one that must not begin yet.
            for last in [0x80, 0x00, 0x02, 0x82] {
                let (out, follower) = passed_of(&[&all[..], &text(last, 11), &message].concat(), max, step);
                assert_eq!((out == all, follower.refusal()), (true, Some(Refusal::MessageTooLarge)), "{last} {step}");
                assert!(follower.may_insert(), "between two frames of a message");
            }
        }
        let endless = [&[0x02, 1, b'x'][..], &[0x00, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat();
        assert!(passed_of(&endless, max, 1).1.refusal().is_some(), "no sum is beyond counting");
    }

    #[test]
    fn what_is_no_frame_goes_on_in_however_many_pieces() {
        let text = [&[0x83, 0x05][..], &[b'x'; 40]].concat();
        for step in [1, 2, 3, 50] {
            let (out, follower) = passed(&text, 0, step);
            assert!(out == text && follower.is_over() && !follower.may_insert(), "step {step}");
        }
    }

    #[test]
    fn where_frames_are_limited_nothing_else_goes_on() {
        for step in [1, 9] {
            let (out, follower) = passed(&[0x81, 1, b'x', 0x83, 0x05, 1, 2, 3, 4], 10, step);
            assert_eq!((&out[..], follower.refusal()), (&[0x81, 1, b'x'][..], Some(Refusal::Malformed)), "{step}");
            assert!(follower.may_insert() && follower.told().is_over());
        }
        assert_eq!(passed(&[0x83, 5, 1], 0, 3).0, [0x83, 5, 1], "without a limit it is the app's business");
    }

    #[test]
    fn the_answer_to_a_close_is_found_behind_a_refused_frame() {
        let large = [&[0x82, 126, 0x01, 0x00][..], &[0x88; 256]].concat();
        for first in [4, 5, 100, 260] {
            let (out, follower) = passed(&large[..first], 255, first);
            assert!(out.is_empty(), "{first}");
            let mut told = follower.told();
            told.feed(&large[first..]);
            assert!(!told.is_over(), "{first}");
            told.feed(&close_frame(1009, "", Some([1, 2, 3, 4])));
            assert!(told.is_over(), "{first}");
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
