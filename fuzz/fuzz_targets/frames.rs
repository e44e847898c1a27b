//! Frames of a WebSocket. An input is the largest frame and the largest message, each a byte and 0 for no limit, the cuts,
//! and what arrives. The follower is compared with a reader that always has everything before it.
#![no_main]

use embedgate::plane::bench::Frames;
use embedgate_fuzz::Arrival;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([frame, message], rest)) = input.split_first_chunk() else { return };
    let Some(arrival) = Arrival::of(rest) else { return };
    let max = Max { frame: u64::from(*frame), message: u64::from(*message) };
    let mut frames = Frames::new(max.frame, max.message);
    let mut goes_on = 0;
    for (piece, end) in arrival.pieces().zip(arrival.ends()) {
        let passed = frames.follow(piece);
        if passed > 0 {
            // Everything before it, too: a header that was held goes on with what follows it.
            goes_on = end - piece.len() + passed;
        }
        let state = State { goes_on, may_insert: frames.may_insert() };
        assert_eq!(state, State::after(&arrival.bytes[..end], max), "after {end} bytes");
    }
});

/// The limits; 0 is none.
#[derive(Clone, Copy)]
struct Max {
    frame: u64,
    message: u64,
}

impl Max {
    fn is_limit(self) -> bool {
        self.frame > 0 || self.message > 0
    }

    fn is_exceeded(self, frame: u64, message: u64) -> bool {
        (self.frame > 0 && frame > self.frame) || (self.message > 0 && message > self.message)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct State {
    /// How many of the bytes have gone on.
    goes_on: usize,
    /// Whether a frame of ours may go in behind them.
    may_insert: bool,
}

impl State {
    /// What has to be so when `bytes` have come, and nothing before.
    fn after(bytes: &[u8], max: Max) -> Self {
        let (mut at, mut message, mut closed) = (0, 0u64, false);
        while at < bytes.len() {
            let Some(header) = Header::read(&bytes[at..]) else {
                return Self { goes_on: if max.is_limit() { at } else { bytes.len() }, may_insert: false };
            };
            if header.is_data() {
                message = message.saturating_add(header.payload);
            }
            if max.is_limit() && (header.is_reserved() || max.is_exceeded(header.payload, message)) {
                return Self { goes_on: at, may_insert: !closed };
            }
            let end = (at as u64 + header.length as u64).saturating_add(header.payload);
            if header.is_reserved() || end > bytes.len() as u64 {
                return Self { goes_on: bytes.len(), may_insert: false };
            }
            at = end as usize;
            closed |= header.opcode == 8;
            if header.is_data() && header.is_final {
                message = 0;
            }
        }
        Self { goes_on: bytes.len(), may_insert: !closed }
    }
}

/// The header of a frame (RFC 6455 5.2).
struct Header {
    is_final: bool,
    opcode: u8,
    /// Of itself.
    length: usize,
    payload: u64,
}

impl Header {
    /// Reads one once it is complete.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let number = rest.get(..extended + mask)?[..extended].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let payload = if extended == 0 { u64::from(second & 0x7f) } else { number };
        Some(Self { is_final: first & 0x80 != 0, opcode: first & 0x0f, length: 2 + extended + mask, payload })
    }

    fn is_data(&self) -> bool {
        self.opcode <= 2
    }

    fn is_reserved(&self) -> bool {
        !matches!(self.opcode, 0..=2 | 8..=10)
    }
}
