//! The table that never changes (RFC 7541 appendix A).

use crate::wire::http2::field::{Field, Kind};

/// Names and values; the first one has the index 1.
const FIELDS: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// How many fields it has.
pub(super) const COUNT: usize = FIELDS.len();

/// The field of an index from 1 to [`COUNT`].
pub(super) fn field(index: usize) -> Option<Field<'static>> {
    let (name, value) = FIELDS.get(index.checked_sub(1)?)?;
    Some(Field::of_parts(kind(index), name, value))
}

/// A name of an index from 1 to [`COUNT`].
pub(super) fn name(index: usize) -> Option<(&'static [u8], Kind)> {
    let (name, _) = FIELDS.get(index.checked_sub(1)?)?;
    Some((name, kind(index)))
}

/// What the name of an index means.
fn kind(index: usize) -> Kind {
    match index {
        1 => Kind::Authority,
        2 | 3 => Kind::Method,
        4 | 5 => Kind::Path,
        6 | 7 => Kind::Scheme,
        8..REGULAR => Kind::Malformed,
        28 => Kind::ContentLength,
        32 => Kind::Cookie,
        38 => Kind::Host,
        57 => Kind::OfConnections,
        _ => Kind::Regular,
    }
}

/// Where the names of regular fields begin.
const REGULAR: usize = 15;
/// Longer than every name in the table.
const LONGEST: usize = 28;

/// For each length, the first index of a regular name that has it, in [`BY_LENGTH`].
const STARTS: [u8; LONGEST + 1] = sorted().0;
/// The indices of regular names, shorter ones first.
const BY_LENGTH: [u8; COUNT + 1 - REGULAR] = sorted().1;

const fn sorted() -> ([u8; LONGEST + 1], [u8; COUNT + 1 - REGULAR]) {
    let (mut starts, mut indices) = ([0; LONGEST + 1], [0; COUNT + 1 - REGULAR]);
    let (mut length, mut at) = (0, 0);
    while length <= LONGEST {
        starts[length] = at as u8;
        let mut index = REGULAR;
        while index <= COUNT {
            if FIELDS[index - 1].0.len() == length {
                indices[at] = index as u8;
                at += 1;
            }
            index += 1;
        }
        length += 1;
    }
    (starts, indices)
}

/// The index of a regular field's name in whatever case, if it has one.
pub(super) fn index_of(name: &[u8]) -> Option<u8> {
    let (start, end) = (STARTS.get(name.len())?, STARTS.get(name.len() + 1)?);
    let indices = &BY_LENGTH[usize::from(*start)..usize::from(*end)];
    indices.iter().copied().find(|index| is_same(FIELDS[usize::from(*index) - 1].0, name))
}

/// Whether a name of the table is this one, which is a token, in whatever case. No token but a letter becomes a letter with
/// that bit, and none but a hyphen a hyphen; so nothing has to be asked of each byte.
fn is_same(known: &[u8], name: &[u8]) -> bool {
    known[0] == name[0] | 0x20
        && known.iter().zip(name).fold(0, |other, (known, byte)| other | (known ^ (byte | 0x20))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_regular_name_is_found_and_no_other() {
        for index in REGULAR..=COUNT {
            let (name, _) = name(index).unwrap();
            assert_eq!(index_of(&name.to_ascii_uppercase()), Some(index as u8));
        }
        for name in [&b""[..], b":path", b"x", b"hosts", &[b'x'; 100], &[b'x'; LONGEST]] {
            assert_eq!(index_of(name), None, "{name:?}");
        }
        assert!(FIELDS.iter().all(|(name, _)| name.len() < LONGEST));
        assert!((1..=COUNT).all(|index| field(index) == Some(Field::new(FIELDS[index - 1].0, FIELDS[index - 1].1))));
        assert!(field(0).is_none() && field(COUNT + 1).is_none());
    }
}
