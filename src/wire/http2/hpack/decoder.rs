//! Reading compressed fields (RFC 7541 3 and 6).

use super::table::Table;
use super::{Broken, fixed, huffman, number};
use crate::wire::http2::field::{COLON, Field, Kind, LINE_END, Text};
use crate::wire::http2::settings::USUAL_TABLE;

/// What has to be known of all fields before to read the next ones.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
}

/// The bit that says that a string is in Huffman's code (RFC 7541 5.2).
const CODED: u8 = 0x80;

impl Default for Decoder {
    /// For a peer who was told nothing of the table's size.
    fn default() -> Self {
        Self { table: Table::new(USUAL_TABLE as usize) }
    }
}

impl Decoder {
    /// Reads the fields of a block and gives them to `take` in order. `scratch` is room for one of them.
    ///
    /// # Errors
    /// [`Broken`]; nothing can be read after it.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        scratch: &mut Vec<u8>,
        mut take: impl FnMut(Field<'_>),
    ) -> Result<(), Broken> {
        self.sizes(&mut block)?;
        while let Some(first) = block.first() {
            match first {
                0x80.. => take(self.indexed(number(&mut block, 7)?)?),
                0x40.. => {
                    let field = self.literal(&mut block, 6, scratch)?.of(scratch);
                    take(field);
                    self.table.insert(field);
                }
                // A size after the first field (RFC 7541 4.2).
                0x20.. => return Err(Broken),
                _ => take(self.literal(&mut block, 4, scratch)?.of(scratch)),
            }
        }
        Ok(())
    }

    /// Reads new sizes of the table, which stand before the fields (RFC 7541 4.2 and 6.3).
    fn sizes(&mut self, block: &mut &[u8]) -> Result<(), Broken> {
        while block.first().is_some_and(|first| first & 0xe0 == 0x20) {
            let most = number(block, 5)?;
            if most > USUAL_TABLE as usize {
                return Err(Broken);
            }
            self.table.set_most(most);
        }
        Ok(())
    }

    fn indexed(&self, index: usize) -> Result<Field<'_>, Broken> {
        match fixed::field(index) {
            Some(field) => Ok(field),
            None => self.table.field(index.checked_sub(fixed::COUNT + 1).ok_or(Broken)?),
        }
    }

    /// Reads a field of which at most the name is in a table, and writes it into `line`.
    fn literal(&self, block: &mut &[u8], prefix: u32, line: &mut Vec<u8>) -> Result<Literal, Broken> {
        line.clear();
        let kind = match number(block, prefix)? {
            0 => {
                string(block, line)?;
                Kind::of(line)
            }
            index => {
                let (name, kind) = match fixed::name(index) {
                    Some(fixed) => fixed,
                    None => self.indexed(index).map(|field| (field.name, field.kind))?,
                };
                line.extend_from_slice(name);
                kind
            }
        };
        let name = line.len();
        line.extend_from_slice(COLON);
        string(block, line)?;
        let text = Text::of(&line[name + COLON.len()..]);
        line.extend_from_slice(LINE_END);
        Ok(Literal { name, kind, text })
    }
}

/// What is known of a field that was written out.
struct Literal {
    /// The length of its name.
    name: usize,
    kind: Kind,
    text: Text,
}

impl Literal {
    /// The field, written so.
    fn of(self, line: &[u8]) -> Field<'_> {
        Field::of_line(line, self.name, self.kind, self.text)
    }
}

/// Takes a string off the beginning of `block` and appends it to `out`.
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let is_coded = block.first().is_some_and(|first| first & CODED != 0);
    let length = number(block, 7)?;
    let (string, rest) = block.split_at_checked(length).ok_or(Broken)?;
    *block = rest;
    if is_coded {
        return huffman::decode(string, out);
    }
    out.extend_from_slice(string);
    Ok(())
}

#[cfg(test)]
impl Decoder {
    /// How many bytes the fields of the table count, and how many it has in memory.
    pub(super) fn sizes_of_table(&self) -> (usize, usize) {
        self.table.sizes()
    }
}
