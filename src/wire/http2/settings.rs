//! SETTINGS (RFC 9113 6.5).

use super::reason::Reason;
use super::window;

/// Largest frame that everybody may send without asking, in bytes.
pub const LEAST_FRAME: u32 = 1 << 14;
/// Largest frame that anybody may allow, in bytes.
const MOST_FRAME: u32 = (1 << 24) - 1;
/// The window of a stream that nobody has said anything about, in bytes (RFC 9113 6.9.2).
pub const USUAL_WINDOW: u32 = 65_535;
/// Size of a table that nobody has said anything about, in bytes (RFC 7541 4.2).
pub const USUAL_TABLE: u32 = 4096;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// RFC 8441 3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What of a client's settings concerns a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The largest table that fields may be compressed with, in bytes.
    pub table: u32,
    /// What may be sent on a new stream, in bytes.
    pub window: u32,
    /// The largest frame that it takes, in bytes.
    pub frame: u32,
}

impl Default for Client {
    fn default() -> Self {
        Self { table: USUAL_TABLE, window: USUAL_WINDOW, frame: LEAST_FRAME }
    }
}

impl Client {
    /// Applies the payload of a frame. Settings that are unknown are passed over (RFC 9113 6.5.2).
    ///
    /// # Errors
    /// The reason to end the connection for.
    pub fn apply(&mut self, payload: &[u8]) -> Result<(), Reason> {
        let (settings, []) = payload.as_chunks::<6>() else { return Err(Reason::FRAME_SIZE_ERROR) };
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                HEADER_TABLE_SIZE => self.table = value,
                INITIAL_WINDOW_SIZE if value > window::MAX => return Err(Reason::FLOW_CONTROL_ERROR),
                INITIAL_WINDOW_SIZE => self.window = value,
                MAX_FRAME_SIZE if !(LEAST_FRAME..=MOST_FRAME).contains(&value) => return Err(Reason::PROTOCOL_ERROR),
                MAX_FRAME_SIZE => self.frame = value,
                ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(Reason::PROTOCOL_ERROR),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a server tells its client.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Streams that may be open at once.
    pub streams: u32,
    /// What may be sent on a new stream, in bytes.
    pub window: u32,
    /// Largest list of fields, in bytes, with 32 more for each (RFC 9113 6.5.2).
    pub fields: u32,
    /// Whether WebSockets may be begun (RFC 8441 3).
    pub connects: bool,
}

impl Server {
    /// The payload of the frame. What is not in it has the value that it has without a word.
    #[must_use]
    pub fn payload(self) -> Vec<u8> {
        let settings = [
            (MAX_CONCURRENT_STREAMS, self.streams),
            (INITIAL_WINDOW_SIZE, self.window),
            (MAX_HEADER_LIST_SIZE, self.fields),
            (ENABLE_CONNECT_PROTOCOL, 1),
        ];
        let told = if self.connects { &settings[..] } else { &settings[..3] };
        told.iter().flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(settings: &[(u16, u32)]) -> Result<Client, Reason> {
        let bytes = settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let mut client = Client::default();
        client.apply(&bytes.collect::<Vec<_>>()).map(|()| client)
    }

    #[test]
    fn settings_are_taken_within_their_bounds() {
        assert_eq!(applied(&[]), Ok(Client::default()));
        assert_eq!(
            applied(&[(1, 0), (4, 5), (4, 7), (5, 16_384), (2, 0), (99, 1)]),
            Ok(Client { table: 0, window: 7, frame: 16_384 })
        );
        for (setting, reason) in [
            ((4, 1 << 31), Reason::FLOW_CONTROL_ERROR),
            ((5, 16_383), Reason::PROTOCOL_ERROR),
            ((5, 1 << 24), Reason::PROTOCOL_ERROR),
            ((2, 2), Reason::PROTOCOL_ERROR),
            ((8, 2), Reason::PROTOCOL_ERROR),
        ] {
            assert_eq!(applied(&[setting]), Err(reason), "{setting:?}");
        }
        assert_eq!(Client::default().apply(&[0; 5]), Err(Reason::FRAME_SIZE_ERROR));
    }

    #[test]
    fn what_is_told_can_be_read() {
        let server = Server { streams: 100, window: 70_000, fields: 9, connects: true };
        assert_eq!(server.payload().len(), 24);
        let mut client = Client::default();
        client.apply(&server.payload()).unwrap();
        assert_eq!(client.window, 70_000);
        assert_eq!(Server { connects: false, ..server }.payload().len(), 18);
    }
}
