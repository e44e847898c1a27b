//! The lines of header and trailer fields (RFC 9112 5), read once.

use super::fields::{Kinds, LONGEST, Name, Position, at_start_of};
use super::request::HeadError::{self, Malformed};
use super::scan;

/// Reads the field lines of `head` from `from` up to the empty line, with which it has to end, into `positions`.
///
/// # Errors
/// [`HeadError::Malformed`] for whatever is no field, and [`HeadError::TooManyFields`] for more than `most`. White space
/// before the colon and continued lines are among the first, because readers differ about them (RFC 9112 5.1 and 5.2).
pub(super) fn parse(head: &[u8], from: usize, positions: &mut Vec<Position>, most: usize) -> Result<Kinds, HeadError> {
    positions.clear();
    let (mut at, mut kinds) = (from, Kinds::default());
    while head.get(at).is_some_and(|byte| *byte != b'\r') {
        let (position, next) = field(head, at)?;
        if positions.len() == most {
            return Err(HeadError::TooManyFields);
        }
        kinds.add(position.kind);
        positions.push(position);
        at = next;
    }
    match head.get(at..) {
        Some(b"\r\n") => Ok(kinds),
        None | Some([] | [b'\r'] | [b'\r', b'\n', ..]) => Err(Malformed("the head ends too early")),
        Some(_) => Err(Malformed("a line does not end with CR LF")),
    }
}

/// The field in the line that begins at `begin`, and where the next line begins.
#[inline]
fn field(head: &[u8], begin: usize) -> Result<(Position, usize), HeadError> {
    let (kind, colon) = name(head, begin)?;
    // Most lines have one space here, and none at their end.
    let usual = colon + 2;
    let mut start = if head.get(colon + 1) == Some(&b' ') { usual } else { colon + 1 };
    while head.get(start).is_some_and(|byte| is_space(*byte)) {
        start += 1;
    }
    let line_end = scan::text_end(head, start);
    if !head[line_end..].starts_with(b"\r\n") {
        return Err(Malformed("a field value holds a control character"));
    }
    // The white space around a value is not part of it (RFC 9110 5.5).
    let mut end = line_end;
    while end > start && is_space(head[end - 1]) {
        end -= 1;
    }
    let is_plain = start == usual && end == line_end && head[colon + 1] == b' ';
    let range = |start: usize, end: usize| (start as u32, end as u32);
    Ok((Position { kind, is_plain, name: range(begin, colon), value: range(start, end) }, line_end + 2))
}

/// What the name that begins at `begin` is, and where its colon stands.
#[inline]
fn name(head: &[u8], begin: usize) -> Result<(Name, usize), HeadError> {
    let (rest, padded) = (&head[begin..], &mut [0; LONGEST]);
    let window = rest.first_chunk().unwrap_or_else(|| {
        padded[..rest.len()].copy_from_slice(rest);
        padded
    });
    match at_start_of(window) {
        Some((kind, length)) => Ok((kind, begin + length)),
        None => unknown_name(head, begin),
    }
}

/// The same of a name that is in no table, or of none at all.
fn unknown_name(head: &[u8], begin: usize) -> Result<(Name, usize), HeadError> {
    let colon = scan::token_end(head, begin);
    if colon == begin || head.get(colon) != Some(&b':') {
        return Err(Malformed("a field name is not a token"));
    }
    Ok((Name::of_unknown(&head[begin..colon]), colon))
}

/// Optional white space (RFC 9110 5.6.3).
#[inline]
fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}
