//! The trailer section of a chunked body (RFC 9112 7.1.2): kept until it is complete, then held to the reading of a head.

use super::body::BodyError;
use super::field_lines;
use super::fields::{Fields, Kinds, Position};
use super::request::HeadError;

/// Longest trailer section in bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// Most trailer fields. Real ones are a handful: checksums, timings, gRPC's status.
const MAX_FIELDS: usize = 64;

/// The trailers of a body. Nothing is allocated for a body that has none.
#[derive(Debug, Clone, Default)]
pub struct Trailers {
    /// The field lines as they came, each with CR LF.
    lines: Vec<u8>,
    positions: Vec<Position>,
    kinds: Kinds,
}

impl Trailers {
    /// Keeps the next byte of the section.
    pub(super) fn push(&mut self, byte: u8) -> Result<(), BodyError> {
        if self.lines.len() == MAX_BYTES {
            return Err(BodyError("trailers are too long"));
        }
        self.lines.push(byte);
        Ok(())
    }

    /// Reads the section once all of it is there.
    pub(super) fn finish(&mut self) -> Result<(), BodyError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        self.lines.extend_from_slice(b"\r\n");
        self.kinds =
            field_lines::parse(&self.lines, 0, &mut self.positions, MAX_FIELDS).map_err(|error| match error {
                HeadError::TooManyFields => BodyError("too many trailers"),
                _ => BodyError("a trailer is malformed"),
            })?;
        Ok(())
    }

    /// The fields, in the order they came; none before the section is complete.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.lines, &self.positions, self.kinds)
    }
}
