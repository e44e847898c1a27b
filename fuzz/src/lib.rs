//! What several targets check: that nothing depends on how bytes are cut on their way, and that fields are the same when
//! they are written again.

use embedgate::wire::fields::{Field, Fields, KindSet, Name};
use embedgate::wire::request::HeadEnd;

/// How many bytes of an input say how the rest is cut.
const CUTS: usize = 4;

/// Bytes of the wire, and how they arrive.
pub struct Arrival<'a> {
    /// One less than the lengths of the pieces, which take turns.
    cuts: [u8; CUTS],
    /// All that arrives.
    pub bytes: &'a [u8],
}

impl<'a> Arrival<'a> {
    /// Takes the cuts off the beginning of an input; `None` when it is too short for them.
    pub fn of(input: &'a [u8]) -> Option<Self> {
        input.split_first_chunk().map(|(cuts, bytes)| Self { cuts: *cuts, bytes })
    }

    /// Where the pieces end, in order.
    pub fn ends(&self) -> impl Iterator<Item = usize> {
        let (cuts, length) = (self.cuts.into_iter().cycle(), self.bytes.len());
        cuts.scan(0, move |at, cut| {
            let begin = std::mem::replace(at, length.min(*at + 1 + usize::from(cut)));
            (begin < length).then_some(*at)
        })
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        self.ends().scan(0, move |begin, end| Some(&bytes[std::mem::replace(begin, end)..end]))
    }
}

/// The head with which the bytes begin. Asserts that it is found as it arrives where it is found at once, or that it is
/// refused: what only one of both finds must not parse.
pub fn find_head<'a>(
    end: HeadEnd,
    arrival: &Arrival<'a>,
    limit: usize,
    parses: impl Fn(&[u8]) -> bool,
) -> Option<&'a [u8]> {
    let (mut once, mut growing) = (end, end);
    let at_once = once.find(arrival.bytes, limit);
    let mut found = arrival.ends().map(|end| growing.find(&arrival.bytes[..end], limit));
    let arriving = found.find(|found| !matches!(found, Ok(None))).unwrap_or(Ok(None));
    match (at_once, arriving) {
        (Err(_), Err(_)) => {}
        (Ok(Some(length)), Err(_)) => assert!(!parses(&arrival.bytes[..length]), "refused while it arrives"),
        (at_once, arriving) => assert_eq!(at_once, arriving, "at once and as it arrives"),
    }
    at_once.ok().flatten().map(|length| &arrival.bytes[..length])
}

/// Asserts of a head that parsed that it is one: whole, with nothing behind it, and without bare line feeds.
pub fn assert_is_head(mut end: HeadEnd, head: &[u8]) {
    assert_eq!(end.find(head, head.len()), Ok(Some(head.len())), "it does not end where its empty line is");
    let is_bare = |at: usize| head[at] == b'\n' && (at == 0 || head[at - 1] != b'\r');
    assert!(!(0..head.len()).any(is_bare), "it has a bare line feed");
}

/// Kinds that are left out in one of the ways to write fields.
const LEFT_OUT: &[Name] = &[Name::Host, Name::Cookie, Name::Identity, Name::Other];

/// The fields as lines, each written by itself. Asserts that they are the same written together, whichever kinds pass
/// untouched, and that a judge who leaves fields out leaves out those and no other.
pub fn lines(fields: Fields<'_>) -> Vec<u8> {
    let all = lines_of(fields.iter());
    let some = KindSet::all_but(LEFT_OUT);
    for untouched in [KindSet::NONE, some, KindSet::all_but(&[])] {
        let mut out = Vec::new();
        fields.write(untouched, &mut out, |field, out| field.write(out));
        assert_eq!(out, all, "with {untouched:?}");
    }
    let mut out = Vec::new();
    fields.write(some, &mut out, |field, out| {
        if some.contains(field.kind) {
            field.write(out);
        }
    });
    assert_eq!(out, lines_of(fields.iter().filter(|field| some.contains(field.kind))));
    all
}

fn lines_of<'a>(fields: impl Iterator<Item = Field<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    fields.for_each(|field| field.write(&mut out));
    out
}

/// What fields are, to be compared.
pub fn parts(fields: Fields<'_>) -> Vec<(Name, &[u8], &[u8])> {
    fields.iter().map(|field| (field.kind, field.name, field.value)).collect()
}
