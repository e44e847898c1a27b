//! Header fields as positions in the head they came in, each name classified once.

mod name;

pub use name::Name;
pub(super) use name::{LONGEST, at_start_of};

use std::ops::Range;

/// Where one field is in the head it came in.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    pub(super) kind: Name,
    /// Whether its line was sent as [`Field::write`] writes it.
    pub(super) is_plain: bool,
    pub(super) name: (u32, u32),
    pub(super) value: (u32, u32),
}

/// The length of what ends a line.
const LINE_END: u32 = 2;

/// Which kinds of fields a head has: most of what is asked for is not there, and hardly anything twice.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kinds {
    present: u64,
    repeated: u64,
}

// Each kind has a bit in a word.
const _: () = assert!((Name::SharedCache as u32) < u64::BITS);

impl Kinds {
    #[inline]
    pub(super) fn add(&mut self, kind: Name) {
        self.repeated |= self.present & Self::bit(kind);
        self.present |= Self::bit(kind);
    }

    #[inline]
    fn bit(kind: Name) -> u64 {
        1 << kind as u32
    }
}

/// A set of kinds of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindSet(u64);

impl KindSet {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// All kinds but these.
    #[must_use]
    pub const fn all_but(kinds: &[Name]) -> Self {
        let (mut set, mut at) = (u64::MAX, 0);
        while at < kinds.len() {
            set &= !(1 << kinds[at] as u32);
            at += 1;
        }
        Self(set)
    }

    /// The set without a kind, if so.
    #[inline]
    #[must_use]
    pub fn without_if(self, leaves: bool, kind: Name) -> Self {
        Self(self.0 & !(u64::from(leaves) << kind as u32))
    }

    /// Whether a kind is in it.
    #[inline]
    #[must_use]
    pub fn contains(self, kind: Name) -> bool {
        self.0 & Kinds::bit(kind) != 0
    }
}

/// A header field.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// What is known about the name.
    pub kind: Name,
    /// The name as sent.
    pub name: &'a [u8],
    /// The value without the white space around it.
    pub value: &'a [u8],
    /// The line of it, if that was sent as [`Self::write`] writes it.
    line: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    /// A field of this name and value.
    #[must_use]
    pub fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        Self { kind: Name::of(name), name, value, line: None }
    }

    /// Writes the field as a line (RFC 9112 5). What a parser has taken apart is the same in this form, however it was sent;
    /// most fields are sent so, and then it is one piece that is written.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some(line) = self.line {
            out.extend_from_slice(line);
        } else {
            out.reserve(self.name.len() + self.value.len() + 4);
            for part in [self.name, b": ", self.value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// The header fields of one head, in the order they came.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    head: &'a [u8],
    positions: &'a [Position],
    kinds: Kinds,
}

impl<'a> Fields<'a> {
    /// The fields of `head` at `positions`, which are of these kinds.
    pub(super) fn new(head: &'a [u8], positions: &'a [Position], kinds: Kinds) -> Self {
        Self { head, positions, kinds }
    }

    /// Whether there is a field of a kind.
    #[inline]
    pub(super) fn has(self, kind: Name) -> bool {
        self.kinds.present & Kinds::bit(kind) != 0
    }

    /// All fields, in order.
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> {
        self.positions.iter().map(move |position| self.field(*position))
    }

    #[inline]
    fn field(self, Position { kind, is_plain, name, value }: Position) -> Field<'a> {
        let line = if is_plain { Some(self.part((name.0, value.1 + LINE_END))) } else { None };
        Field { kind, name: self.part(name), value: self.part(value), line }
    }

    /// Writes the fields in order: those of the kinds in `untouched` as they are, as many as stand together in one piece,
    /// and those that `judge` writes.
    #[inline]
    pub fn write(self, untouched: KindSet, out: &mut Vec<u8>, mut judge: impl FnMut(Field<'a>, &mut Vec<u8>)) {
        let mut lines = (0, 0);
        for position in self.positions {
            if position.is_plain && untouched.contains(position.kind) {
                if lines.1 != position.name.0 {
                    out.extend_from_slice(self.part(lines));
                    lines.0 = position.name.0;
                }
                lines.1 = position.value.1 + LINE_END;
            } else {
                out.extend_from_slice(self.part(std::mem::take(&mut lines)));
                judge(self.field(*position), out);
            }
        }
        out.extend_from_slice(self.part(lines));
    }

    #[inline]
    fn part(self, (start, end): (u32, u32)) -> &'a [u8] {
        &self.head[start as usize..end as usize]
    }

    /// The values of all fields of one kind.
    #[inline]
    pub fn all(self, kind: Name) -> impl Iterator<Item = &'a [u8]> {
        let positions = if self.has(kind) { self.positions } else { &[] };
        positions.iter().filter(move |position| position.kind == kind).map(move |position| self.part(position.value))
    }

    /// The value of the first field of a kind.
    #[inline]
    #[must_use]
    pub fn first(self, kind: Name) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    /// The value of a field that must not be repeated; `Err` when it is.
    #[inline]
    pub fn single(self, kind: Name) -> Result<Option<&'a [u8]>, Repeated> {
        if self.kinds.repeated & Kinds::bit(kind) == 0 { Ok(self.first(kind)) } else { Err(Repeated) }
    }

    /// Where in the head the value of such a field is.
    pub(super) fn single_range(self, kind: Name) -> Result<Option<Range<usize>>, Repeated> {
        if self.kinds.repeated & Kinds::bit(kind) != 0 {
            return Err(Repeated);
        }
        let position = self.positions.iter().find(|position| position.kind == kind);
        Ok(position.map(|position| position.value.0 as usize..position.value.1 as usize))
    }
}

/// A field that may stand once only stands twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

/// The members of a comma-separated list (RFC 9110 5.6.1), without the white space around them and without empty ones.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified_in_any_case() {
        assert_eq!(Name::of(b"HOST"), Name::Host);
        assert_eq!(Name::of(b"Content-Length"), Name::ContentLength);
        assert_eq!(Name::of(b"x-custom"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }

    #[test]
    fn identity_is_recognised_in_every_disguise() {
        for name in [
            "X-Forwarded-User",
            "x_forwarded_user",
            "X-Forwarded_Email",
            "X_EMBEDGATE_ORG",
            "x-embedgate-anything-at-all-that-is-long",
            "Forwarded",
            "X_Real_IP",
            "True-Client-Ip",
        ] {
            assert_eq!(Name::of(name.as_bytes()), Name::Identity, "{name}");
        }
        assert_eq!(Name::of(b"x-forwardedness"), Name::Other);
    }

    #[test]
    fn underscore_forms_of_names_that_matter_are_told_apart() {
        for name in ["Content_Length", "TRANSFER_ENCODING", "authorization_", "X_Request_Id"] {
            let expected = if name == "authorization_" { Name::Other } else { Name::Disguised };
            assert_eq!(Name::of(name.as_bytes()), expected, "{name}");
        }
        assert_eq!(Name::of(b"my_header"), Name::Other);
    }

    #[test]
    fn however_a_field_was_sent_it_is_written_in_one_form() {
        use crate::wire::request::{Head, Limits};
        let head = b"GET / HTTP/1.1\r\nHost: h\r\nA:b\r\nC:  d\r\nE: f \r\nG:\th\r\nI:\r\nJ: \r\nK: l m\r\n\r\n";
        let (mut positions, mut out) = (Vec::new(), Vec::new());
        let head = Head::parse(head, &mut positions, Limits { bytes: 999, fields: 20 }).unwrap();
        head.fields.iter().for_each(|field| field.write(&mut out));
        assert_eq!(out, b"Host: h\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\nI: \r\nJ: \r\nK: l m\r\n");
        out.clear();
        Field::new(b"Host", b"h").write(&mut out);
        assert_eq!(out, b"Host: h\r\n");
    }

    #[test]
    fn untouched_fields_go_on_together_and_the_others_are_judged() {
        use crate::wire::request::{Head, Limits};
        let head = b"GET / HTTP/1.1\r\nA: 1\r\nHost: h\r\nB: 2\r\nC: 3\r\nD:4\r\nCookie: c\r\nE: 5\r\n\r\n";
        let (mut positions, mut out, mut judged) = (Vec::new(), Vec::new(), Vec::new());
        let head = Head::parse(head, &mut positions, Limits { bytes: 999, fields: 20 }).unwrap();
        let untouched = KindSet::all_but(&[Name::Host]).without_if(true, Name::Cookie).without_if(false, Name::Other);
        head.fields.write(untouched, &mut out, |field, out| {
            judged.push(field.name);
            if field.kind != Name::Host {
                field.write(out);
            }
        });
        // One that is not in the usual form is judged as well.
        assert_eq!(judged, [&b"Host"[..], b"D", b"Cookie"]);
        assert_eq!(out, b"A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nCookie: c\r\nE: 5\r\n");
        out.clear();
        head.fields.write(KindSet::NONE, &mut out, |_, _| {});
        assert!(out.is_empty());
    }

    #[test]
    fn lists_skip_empty_members() {
        assert_eq!(list(b" a, ,b ,").collect::<Vec<_>>(), [b"a", b"b"]);
    }
}
