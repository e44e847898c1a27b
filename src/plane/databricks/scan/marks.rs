//! Where in the body of a statement something may be added: found while its warehouse is looked for, and of use only where
//! statements are attributed.

use super::is_alike;

/// A value of the outermost object that may be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plane::databricks) enum Mark {
    /// `statement`.
    Text,
    /// `query_tags`.
    Tags,
}

/// Where a value is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::plane::databricks) enum Place {
    /// There is none.
    #[default]
    Missing,
    /// A string, whose text begins here.
    Text(usize),
    /// A list, between its brackets; the end is not known while it is read.
    List { start: usize, end: Option<usize> },
    /// `null`, which begins here.
    Null(usize),
    /// Anything else.
    Other,
    /// Its key stands there twice, or in a way in which only some readers take it for the key.
    Ambiguous,
}

/// Where everything is that may be added to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::plane::databricks) struct Marks {
    pub(in crate::plane::databricks) text: Place,
    pub(in crate::plane::databricks) tags: Place,
    /// The last brace.
    pub(in crate::plane::databricks) end: usize,
}

impl Marks {
    /// What a key of the outermost object leads to.
    pub(super) fn key(&mut self, key: &[u8]) -> Option<Mark> {
        let known = [(&b"statement"[..], Mark::Text), (b"query_tags", Mark::Tags)];
        let (name, mark) = known.into_iter().find(|(name, _)| is_alike(key, name))?;
        let place = self.place(mark);
        if key == name && *place == Place::Missing {
            return Some(mark);
        }
        *place = Place::Ambiguous;
        None
    }

    /// Takes note of the first byte of a value.
    pub(super) fn begin(&mut self, mark: Mark, byte: u8, at: usize) {
        *self.place(mark) = match byte {
            b'"' => Place::Text(at + 1),
            b'[' => Place::List { start: at + 1, end: None },
            b'n' => Place::Null(at),
            _ => Place::Other,
        };
    }

    /// Takes note of the end of a value within so many others.
    pub(super) fn close(&mut self, depth: u32, at: usize) {
        match depth {
            0 => self.end = at,
            1 => {
                for place in [&mut self.text, &mut self.tags] {
                    if let Place::List { end: end @ None, .. } = place {
                        *end = Some(at);
                    }
                }
            }
            _ => {}
        }
    }

    fn place(&mut self, mark: Mark) -> &mut Place {
        match mark {
            Mark::Text => &mut self.text,
            Mark::Tags => &mut self.tags,
        }
    }
}
