//! Where a head ends, in bytes that are still coming.

use super::request::HeadError::{self, Malformed};
use super::scan::{BLOCK, equal, first_marked};
use memchr::memmem::Finder;
use std::ops::Range;
use std::sync::LazyLock;

/// The end of a head that came at once, as most do.
static EMPTY_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Finds the end of a head in a buffer that grows, reading each byte twice at most. Bare line feeds are refused while the
/// end has not come; in a head that is there the parser refuses them.
#[derive(Debug, Default, Clone, Copy)]
pub struct HeadEnd {
    /// Everything before this has been looked at.
    seen: usize,
    /// Where the first line begins that is not one of the empty ones before a request.
    begin: usize,
    is_answer: bool,
}

impl HeadEnd {
    /// For the head of an answer, before which no empty lines may stand: who skips them and who does not would read
    /// different answers.
    #[must_use]
    pub fn of_answer() -> Self {
        Self { is_answer: true, ..Self::default() }
    }

    /// The length of the head once `buffer`, which holds what was passed before and more, contains all of it.
    ///
    /// # Errors
    /// [`HeadError`] for a line feed without its carriage return, or once `limit` bytes hold no end.
    pub fn find(&mut self, buffer: &[u8], limit: usize) -> Result<Option<usize>, HeadError> {
        if self.seen == 0
            && !buffer.starts_with(b"\r")
            && let Some(at) = EMPTY_LINE.find(buffer)
        {
            let length = at + EMPTY_LINE.needle().len();
            return if length > limit { Err(HeadError::TooLong) } else { Ok(Some(length)) };
        }
        while let Some(at) = self.next(buffer) {
            if at == 0 || buffer[at - 1] != b'\r' {
                return Err(Malformed("a line does not end with CR LF"));
            }
            self.seen = at + 1;
            if self.is_answer || at - 1 != self.begin {
                return if self.seen > limit { Err(HeadError::TooLong) } else { Ok(Some(self.seen)) };
            }
            // Empty lines before the request line are skipped (RFC 9112 2.2).
            self.begin = self.seen;
        }
        self.seen = buffer.len();
        if buffer.len() >= limit { Err(HeadError::TooLong) } else { Ok(None) }
    }

    /// The next line feed that [`is_notable`]. The last byte is looked at by itself: most requests come whole and alone, and
    /// end there.
    fn next(&self, buffer: &[u8]) -> Option<usize> {
        let last = buffer.len().saturating_sub(1);
        let notable_in = |mut range: Range<usize>| range.find(|at| is_notable(buffer, *at));
        let (mut at, first) = (self.seen, last.min(2));
        while at < last {
            // A last window that is not full begins earlier, with bytes that have been looked at.
            let start = at.min(last.saturating_sub(BLOCK));
            let window = start.checked_sub(2).and_then(|start| buffer[start..].first_chunk());
            let end = if at < first { first } else { last.min(at + BLOCK) };
            let found = match window {
                Some(window) if !has_notable(window) => None,
                Some(window) => notable_from(window, at - start).map(|place| start + place),
                None => notable_in(at..end),
            };
            if found.is_some() {
                return found;
            }
            at = end;
        }
        notable_in(at..buffer.len())
    }
}

/// Whether at `at` a line feed ends an empty line, or is without its carriage return.
#[inline]
fn is_notable(buffer: &[u8], at: usize) -> bool {
    buffer[at] == b'\n' && (at < 2 || buffer[at - 1] != b'\r' || buffer[at - 2] == b'\n')
}

/// Whether one of the bytes behind the first two is such a line feed.
#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "without branches the compiler does it with vectors")]
fn has_notable(window: &[u8; BLOCK + 2]) -> bool {
    (2..BLOCK + 2).fold(false, |any, at| {
        let (is_bare, is_empty) = (window[at - 1] != b'\r', window[at - 2] == b'\n');
        any | ((window[at] == b'\n') & (is_bare | is_empty))
    })
}

/// Where the first such line feed is at or behind `from`, both counted without the first two bytes.
fn notable_from(window: &[u8; BLOCK + 2], from: usize) -> Option<usize> {
    let word = |at: usize| window[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    (0..BLOCK).step_by(8).find_map(|at| {
        let (is_bare, is_empty) = (!equal(word(at + 1), b'\r'), equal(word(at), b'\n'));
        let behind = u64::MAX.checked_shl(8 * from.saturating_sub(at) as u32).unwrap_or(0);
        let notable = equal(word(at + 2), b'\n') & (is_bare | is_empty) & behind;
        (notable != 0).then(|| at + first_marked(notable))
    })
}
