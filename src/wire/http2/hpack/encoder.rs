//! Writing compressed fields (RFC 7541 6). Whatever is in the fixed table is an index into it; the rest is written as it is,
//! and no table of what was said before is kept: to look things up there costs more than to send them.

use super::{fixed, write_number};
use crate::wire::http2::settings::USUAL_TABLE;

/// What the peer knows of our table, which is always empty.
#[derive(Debug, Clone, Copy)]
pub struct Encoder {
    /// The size that the peer takes the table to have.
    table: u32,
    /// Whether it waits for us to say that it is smaller.
    owes_size: bool,
}

/// The index of `:status`, of whatever value.
const STATUS: u8 = 8;
/// Beginning of a field that is in a table with its value (RFC 7541 6.1).
const INDEXED: u8 = 0x80;

impl Default for Encoder {
    fn default() -> Self {
        Self { table: USUAL_TABLE, owes_size: false }
    }
}

impl Encoder {
    /// The peer allows a table of so many bytes.
    pub fn allow(&mut self, table: u32) {
        // A peer who makes it smaller has to be told (RFC 7541 4.2), and is told once: it is never larger again.
        self.owes_size |= table < self.table;
        if self.owes_size {
            self.table = 0;
        }
    }

    /// Begins a block of fields with the status of an answer, 100 to 999.
    pub fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        self.begin(out);
        let known = match status {
            200 => STATUS,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |place: u16| b'0' + (status / place % 10) as u8;
                out.extend_from_slice(&[STATUS, 3, digit(100), digit(10), digit(1)]);
                return;
            }
        };
        out.push(INDEXED | known);
    }

    /// Begins a block of fields.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.owes_size) {
            write_number(out, 0x20, 5, 0);
        }
    }

    /// Writes a field of a block, its name in lower case, as one that is not kept (RFC 7541 6.2.2).
    pub fn field(&self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        if let Some(index) = fixed::index_of(name) {
            write_number(out, 0, 4, usize::from(index));
        } else {
            out.push(0);
            write_number(out, 0, 7, name.len());
            let at = out.len();
            out.extend_from_slice(name);
            out[at..].make_ascii_lowercase();
        }
        write_number(out, 0, 7, value.len());
        out.extend_from_slice(value);
    }
}
