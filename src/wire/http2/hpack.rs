//! Compression of fields (RFC 7541).

mod decoder;
mod encoder;
mod fixed;
mod huffman;
mod table;

#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// What cannot be decoded. Nothing that follows can be either, so the connection ends with `COMPRESSION_ERROR`
/// (RFC 9113 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Bytes of a number behind its prefix at most: it is below 2 to the 28th then, and nothing here is as large.
const MAX_NUMBER: usize = 4;

/// Takes a number off the beginning of `bytes`, whose first byte has it in its lowest `prefix` bits (RFC 7541 5.1).
fn number(bytes: &mut &[u8], prefix: u32) -> Result<usize, Broken> {
    let (first, mut rest) = bytes.split_first().ok_or(Broken)?;
    let full = (1 << prefix) - 1;
    let mut number = usize::from(*first) & full;
    if number == full {
        let more = rest.iter().take(MAX_NUMBER).position(|byte| byte & 0x80 == 0).ok_or(Broken)?;
        for (place, byte) in rest[..=more].iter().enumerate() {
            number += usize::from(byte & 0x7f) << (7 * place);
        }
        rest = &rest[more + 1..];
    }
    *bytes = rest;
    Ok(number)
}

/// Writes a number with the bits of `first` before its prefix.
fn write_number(out: &mut Vec<u8>, first: u8, prefix: u32, number: usize) {
    let full = (1usize << prefix) - 1;
    if number < full {
        out.push(first | number as u8);
        return;
    }
    out.push(first | full as u8);
    let mut rest = number - full;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
