//! Which warehouse a JSON body names: a tokenizer (RFC 8259) that is given the body as it comes, keeps nothing of it but a
//! short name, and takes no body that another reader could understand differently.

use crate::model::ids::{MAX_ID_LEN, is_valid_id};
use crate::model::reject::{Class, Reject};

mod marks;
#[cfg(test)]
mod tests;

use marks::Mark;
pub(super) use marks::{Marks, Place};

/// What the body has to name.
const KEY: &[u8] = b"warehouse_id";
/// Values within values; statements have three.
const MAX_DEPTH: u32 = 64;

/// Why a body is refused. The texts are for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanError {
    #[error("The body is not a JSON object in UTF-8.")]
    NotJson,
    #[error("The body holds values within values, deeper than is read here.")]
    TooDeep,
    #[error("The body has a key that could be read as warehouse_id and is not written so. Write \"warehouse_id\".")]
    Disguised,
    #[error("The body has warehouse_id more than once.")]
    Twice,
    #[error("The value of warehouse_id is not the id of a warehouse, in quotes and without escapes.")]
    NotAnId,
    #[error("The body has no warehouse_id. Add it.")]
    Missing,
}

impl ScanError {
    pub(super) fn reject(self) -> Reject {
        Reject::new(Class::BadBody, self.to_string())
    }
}

/// Reads a body piece by piece.
pub(super) struct Scanner {
    state: State,
    /// How many objects and arrays are open.
    depth: u32,
    /// Which of those are objects, the innermost in the lowest bit.
    objects: u64,
    /// What the string means that is being read.
    meaning: Meaning,
    /// The key or id that is being read: no more than could matter.
    word: Vec<u8>,
    has_escape: bool,
    utf8: Utf8,
    /// The warehouse, once it has been read.
    warehouse: Option<String>,
    /// What the value that follows is.
    awaits: Awaits,
    /// Where the byte is that is being read.
    at: usize,
    marks: Marks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the object.
    Start,
    Value,
    /// After `[`.
    ValueOrEnd,
    Key,
    /// After `{`.
    KeyOrEnd,
    Colon,
    AfterValue,
    Text,
    Escape,
    /// So many digits of `\uXXXX` are missing.
    Unicode(u8),
    Number(Number),
    /// What is missing of `true`, `false` or `null`.
    Word(&'static [u8]),
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

/// What a value is, as its key says.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Awaits {
    #[default]
    Anything,
    Id,
    /// Something that has a mark.
    Marked(Mark),
}

/// What a string is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// A key of the outermost object.
    Key,
    /// Any other key.
    InnerKey,
    /// The warehouse's id.
    Id,
    Value,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            state: State::Start,
            depth: 0,
            objects: 0,
            meaning: Meaning::Value,
            word: Vec::new(),
            has_escape: false,
            utf8: Utf8::default(),
            warehouse: None,
            awaits: Awaits::Anything,
            at: 0,
            marks: Marks::default(),
        }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// [`ScanError`], as soon as it is known.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ScanError> {
        loop {
            if self.state == State::Text && self.meaning == Meaning::Value && self.utf8.is_whole() {
                // Most of a body is the text of its statement.
                let plain = |byte: &u8| matches!(byte, 0x20..=0x7f) && *byte != b'"' && *byte != b'\\';
                let count = bytes.iter().take_while(|byte| plain(byte)).count();
                (bytes, self.at) = (&bytes[count..], self.at + count);
            }
            let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
            self.step(*byte)?;
            (bytes, self.at) = (rest, self.at + 1);
        }
    }

    /// The warehouse that the whole body names, and where in it something may be added.
    ///
    /// # Errors
    /// [`ScanError`] when the body is not at its end, or names none.
    pub(super) fn finish(self) -> Result<(String, Marks), ScanError> {
        if self.state != State::End {
            return Err(ScanError::NotJson);
        }
        self.warehouse.map(|warehouse| (warehouse, self.marks)).ok_or(ScanError::Missing)
    }

    fn step(&mut self, byte: u8) -> Result<(), ScanError> {
        match self.state {
            State::Text | State::Escape | State::Unicode(_) => return self.text(byte),
            State::Number(number) => match number.step(byte) {
                Some(next) => {
                    self.state = State::Number(next);
                    return Ok(());
                }
                None if number.is_whole() => self.state = State::AfterValue,
                None => return Err(ScanError::NotJson),
            },
            State::Word([expected, rest @ ..]) if *expected == byte => {
                self.state = if rest.is_empty() { State::AfterValue } else { State::Word(rest) };
                return Ok(());
            }
            State::Word(_) => return Err(ScanError::NotJson),
            _ => {}
        }
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') { Ok(()) } else { self.structure(byte) }
    }

    /// A byte outside of strings, numbers and words that is no white space.
    fn structure(&mut self, byte: u8) -> Result<(), ScanError> {
        self.state = match (self.state, byte) {
            (State::Start, b'{') => self.open(true)?,
            (State::Value | State::ValueOrEnd, _) if byte != b']' => self.value(byte)?,
            (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => self.close(),
            (State::Key | State::KeyOrEnd, b'"') => {
                self.begin_text(if self.depth == 1 { Meaning::Key } else { Meaning::InnerKey })
            }
            (State::AfterValue, b',') if self.is_in_object() => State::Key,
            (State::Colon, b':') | (State::AfterValue, b',') => State::Value,
            (State::AfterValue, b'}') if self.is_in_object() => self.close(),
            (State::AfterValue, b']') if !self.is_in_object() => self.close(),
            _ => return Err(ScanError::NotJson),
        };
        Ok(())
    }

    /// The first byte of a value.
    fn value(&mut self, byte: u8) -> Result<State, ScanError> {
        match std::mem::take(&mut self.awaits) {
            Awaits::Anything => {}
            Awaits::Id if byte == b'"' => return Ok(self.begin_text(Meaning::Id)),
            Awaits::Id => return Err(ScanError::NotAnId),
            Awaits::Marked(mark) => self.marks.begin(mark, byte, self.at),
        }
        Ok(match byte {
            b'{' => self.open(true)?,
            b'[' => self.open(false)?,
            b'"' => self.begin_text(Meaning::Value),
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            _ => State::Number(Number::first(byte).ok_or(ScanError::NotJson)?),
        })
    }

    fn is_in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn open(&mut self, is_object: bool) -> Result<State, ScanError> {
        if self.depth == MAX_DEPTH {
            return Err(ScanError::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(is_object);
        Ok(if is_object { State::KeyOrEnd } else { State::ValueOrEnd })
    }

    fn close(&mut self) -> State {
        self.depth -= 1;
        self.objects >>= 1;
        self.marks.close(self.depth, self.at);
        if self.depth == 0 { State::End } else { State::AfterValue }
    }

    fn begin_text(&mut self, meaning: Meaning) -> State {
        self.word.clear();
        (self.meaning, self.has_escape) = (meaning, false);
        State::Text
    }

    fn text(&mut self, byte: u8) -> Result<(), ScanError> {
        self.state = match (self.state, byte) {
            (State::Escape, b'u') => State::Unicode(4),
            (State::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => State::Text,
            (State::Unicode(1), _) if byte.is_ascii_hexdigit() => State::Text,
            (State::Unicode(left), _) if byte.is_ascii_hexdigit() => State::Unicode(left - 1),
            (State::Text, b'"') if self.utf8.is_whole() => self.end_text()?,
            (State::Text, b'\\') if self.utf8.is_whole() => {
                self.has_escape = true;
                State::Escape
            }
            (State::Text, 0x20..) => {
                self.utf8.step(byte)?;
                // One byte too many tells that it is too long.
                if matches!(self.meaning, Meaning::Key | Meaning::Id) && self.word.len() <= MAX_ID_LEN {
                    self.word.push(byte);
                }
                State::Text
            }
            _ => return Err(ScanError::NotJson),
        };
        Ok(())
    }

    fn end_text(&mut self) -> Result<State, ScanError> {
        match self.meaning {
            Meaning::Key => self.end_key().map(|()| State::Colon),
            Meaning::InnerKey => Ok(State::Colon),
            Meaning::Id => {
                let id = std::str::from_utf8(&self.word).ok().filter(|id| is_valid_id(id) && !self.has_escape);
                self.warehouse = Some(id.ok_or(ScanError::NotAnId)?.to_owned());
                Ok(State::AfterValue)
            }
            Meaning::Value => Ok(State::AfterValue),
        }
    }

    /// Some readers take warehouseId, or any case, for the key that matters; escapes can spell every key, and letters beyond
    /// ASCII have cases within it. No key that statements have needs any of that.
    fn end_key(&mut self) -> Result<(), ScanError> {
        if self.has_escape || !self.word.is_ascii() || self.word != KEY && is_alike(&self.word, KEY) {
            return Err(ScanError::Disguised);
        }
        if self.word == KEY {
            self.awaits = Awaits::Id;
            return if self.warehouse.is_some() { Err(ScanError::Twice) } else { Ok(()) };
        }
        self.awaits = self.marks.key(&self.word).map_or(Awaits::Anything, Awaits::Marked);
        Ok(())
    }
}

/// Whether a key has the letters of another one.
fn is_alike(key: &[u8], other: &[u8]) -> bool {
    fn letters(key: &[u8]) -> impl Iterator<Item = u8> {
        key.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase)
    }
    letters(key).eq(letters(other))
}

impl Number {
    fn first(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Integer),
            _ => None,
        }
    }

    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, b'0'..=b'9') => Self::Power,
            _ => return None,
        })
    }

    fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::Power)
    }
}

/// Where in a character of UTF-8 (RFC 3629 4) a text is.
#[derive(Default)]
struct Utf8 {
    /// Bytes that are missing.
    left: u8,
    /// What the next one may be: some first bytes allow less than others.
    low: u8,
    high: u8,
}

impl Utf8 {
    fn is_whole(&self) -> bool {
        self.left == 0
    }

    fn step(&mut self, byte: u8) -> Result<(), ScanError> {
        if self.left > 0 {
            if !(self.low..=self.high).contains(&byte) {
                return Err(ScanError::NotJson);
            }
            *self = Self { left: self.left - 1, low: 0x80, high: 0xbf };
            return Ok(());
        }
        let (left, low, high) = match byte {
            0..0x80 => (0, 0, 0),
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return Err(ScanError::NotJson),
        };
        *self = Self { left, low, high };
        Ok(())
    }
}
