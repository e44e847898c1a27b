//! The table of fields that a connection has seen (RFC 7541 2.3.2): the newest first, and the oldest gone when it is full.

use super::Broken;
use crate::wire::http2::field::{Field, Kind, Text};
use std::collections::VecDeque;

/// The table. Its fields are kept as lines of HTTP/1.1, one behind the other: what a client sends again is written with one
/// copy.
#[derive(Debug, Default)]
pub(super) struct Table {
    lines: Vec<u8>,
    /// Where `lines` begins, counted from the first line that ever was there.
    begin: usize,
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// What its fields count together, in bytes.
    size: usize,
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its line begins, counted as `begin` is.
    at: usize,
    line: usize,
    name: usize,
    kind: Kind,
    text: Text,
}

impl Table {
    /// A table of so many bytes at most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// How many bytes its fields may count.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
        self.make_room(0);
    }

    /// The field of an index, of which 0 is the newest.
    pub(super) fn field(&self, index: usize) -> Result<Field<'_>, Broken> {
        let place = self.entries.len().checked_sub(index + 1).ok_or(Broken)?;
        Ok(self.read(self.entries[place]))
    }

    fn read(&self, entry: Entry) -> Field<'_> {
        let at = entry.at - self.begin;
        Field::of_line(&self.lines[at..at + entry.line], entry.name, entry.kind, entry.text)
    }

    /// Adds a field. One that is larger than the table empties it (RFC 7541 4.4).
    pub(super) fn insert(&mut self, field: Field<'_>) {
        let size = field.size();
        self.make_room(size);
        if size > self.most {
            return;
        }
        let at = self.lines.len();
        field.write(&mut self.lines);
        let (name, line) = (field.name.len(), self.lines.len() - at);
        let entry = Entry { at: self.begin + at, line, name, kind: field.kind, text: field.text };
        self.entries.push_back(entry);
        self.size += size;
    }

    /// Drops the oldest fields until one of this size has room.
    fn make_room(&mut self, size: usize) {
        while self.size + size > self.most
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size -= self.read(oldest).size();
        }
        let gone = self.entries.front().map_or(self.lines.len(), |oldest| oldest.at - self.begin);
        // Not each time, or each time all the others would be moved.
        if gone > self.most {
            self.lines.drain(..gone);
            self.begin += gone;
        }
    }

    /// What it holds, for tests: how many bytes its fields count, and how many there are in memory.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.size, self.lines.len())
    }
}
