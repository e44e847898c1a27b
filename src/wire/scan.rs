//! Which bytes may stand where in a head, and where a run of them ends.

/// Which bytes may stand in a token (RFC 9110 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(b, b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// Whether a byte may stand in a token.
#[inline]
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether a byte may stand in a field value or a reason phrase: HTAB, SP, VCHAR or obs-text (RFC 9110 5.5).
#[inline]
pub(super) fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Where the token that begins at `from` ends, which is at `from` when none does.
#[inline]
pub(super) fn token_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while bytes.get(at).is_some_and(|byte| is_token(*byte)) {
        at += 1;
    }
    at
}

/// Where the text of a value that begins at `from` ends: at the first byte that [`is_text`] refuses.
#[inline]
pub(super) fn text_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        at = run_end(bytes, at, controls, |byte| byte < b' ' || byte == 0x7f);
        // A tabulator inside a value is rare enough to be looked at by itself.
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

/// Where the bytes that may stand in a request target end (RFC 3986 2): at the first that is not visible ASCII, or is `#`.
#[inline]
pub(super) fn target_end(bytes: &[u8], from: usize) -> usize {
    run_end(bytes, from, foreign_to_targets, |byte| byte <= b' ' || byte >= 0x7f || byte == b'#')
}

/// How much of the long part of a run is read at once: two registers of the smallest machine.
pub(super) const BLOCK: usize = 32;

/// Where the run of bytes that begins at `from` ends. `stops` says which bytes end it, and `marks` marks the first of them
/// in a word of eight.
///
/// Most runs are short and end within the first words. What is longer goes in blocks, all bytes of which are looked at
/// without a branch, so that the compiler does it with vectors.
#[inline]
fn run_end(bytes: &[u8], from: usize, marks: impl Fn(u64) -> u64, stops: impl Fn(u8) -> bool) -> usize {
    let mut rest = bytes.get(from..).unwrap_or_default();
    let in_words = |rest: &mut &[u8], most: usize| {
        for _ in 0..most {
            let (word, after) = rest.split_first_chunk()?;
            let marked = marks(u64::from_le_bytes(*word));
            if marked != 0 {
                return Some(bytes.len() - rest.len() + first_marked(marked));
            }
            *rest = after;
        }
        None
    };
    if let Some(end) = in_words(&mut rest, 2) {
        return end;
    }
    while let Some((block, after)) = rest.split_first_chunk::<BLOCK>()
        && !block.iter().fold(false, |any, byte| any | stops(*byte))
    {
        rest = after;
    }
    in_words(&mut rest, BLOCK / 8).unwrap_or_else(|| {
        let length = rest.iter().position(|byte| stops(*byte)).unwrap_or(rest.len());
        bytes.len() - rest.len() + length
    })
}

/// Eight times the same byte.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Of each byte of a word the highest bit, set where the byte is below `limit`, which is at most 0x80. What lies above
/// 0x7f may be marked too, and so may everything behind the first mark: the subtraction borrows.
#[inline]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(eight(limit))
}

/// Marks all bytes that are this one, and no others.
#[inline]
pub(super) const fn equal(word: u64, byte: u8) -> u64 {
    let differing = word ^ eight(byte);
    !((differing & eight(0x7f)).wrapping_add(eight(0x7f)) | differing) & eight(0x80)
}

/// Marks the first control character.
#[inline]
fn controls(word: u64) -> u64 {
    (below(word, b' ') | below(word ^ eight(0x7f), 1)) & !word & eight(0x80)
}

/// Marks the first byte that may not stand in a request target.
#[inline]
fn foreign_to_targets(word: u64) -> u64 {
    (word | below(word, b'!') | below(word ^ eight(0x7f), 1) | below(word ^ eight(b'#'), 1)) & eight(0x80)
}

/// Marks the first colon.
#[inline]
pub(super) fn colons(word: u64) -> u64 {
    below(word ^ eight(b':'), 1) & !word & eight(0x80)
}

/// The first byte that is marked, counted from the lowest of a word read as little-endian.
#[inline]
pub(super) fn first_marked(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte at each place of a run that is long enough for words and the rest.
    fn stops(end: fn(&[u8], usize) -> usize, belongs: impl Fn(u8) -> bool) {
        for (byte, place) in (0..=255).flat_map(|byte| (0..69).map(move |place| (byte, place))) {
            for fill in *b"a~!" {
                let mut run = [fill; 70];
                run[place] = byte;
                let expected = if belongs(byte) { 70 } else { place };
                assert_eq!(end(&run, 0), expected, "{byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn runs_end_at_the_first_byte_that_does_not_belong() {
        stops(token_end, is_token);
        stops(text_end, is_text);
        stops(target_end, |byte| byte.is_ascii_graphic() && byte != b'#');
        assert_eq!(text_end(b"a\t\xff\xfe\x7f\x80\t", 0), 4);
        assert_eq!(text_end(b"", 0), 0);
    }

    #[test]
    fn tokens_are_those_of_the_standard() {
        let tokens: Vec<u8> = (0..=255).filter(|byte| is_token(*byte)).collect();
        assert_eq!(tokens, b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~");
    }
}
