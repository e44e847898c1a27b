//! The table of known field names. A name is found by its length, its first and its last two bytes, and then compared once
//! with whatever case it came in, so that a known one needs no other proof that it is a token.

use super::Name;
use crate::wire::scan;

/// How many bytes from its first one on a name is looked for in; no known one is longer.
pub(in crate::wire) const LONGEST: usize = 32;

/// Names as they are written in lower case. Those that are not special stand here because most heads have them.
const NAMES: &[(&str, Name)] = &[
    ("host", Name::Host),
    ("connection", Name::Connection),
    ("keep-alive", Name::HopByHop),
    ("proxy-connection", Name::HopByHop),
    ("proxy-authorization", Name::HopByHop),
    ("proxy-authenticate", Name::HopByHop),
    ("http2-settings", Name::HopByHop),
    ("trailer", Name::Trailer),
    ("content-length", Name::ContentLength),
    ("transfer-encoding", Name::TransferEncoding),
    ("te", Name::Te),
    ("upgrade", Name::Upgrade),
    ("expect", Name::Expect),
    ("content-type", Name::ContentType),
    ("content-encoding", Name::ContentEncoding),
    ("etag", Name::Validator),
    ("last-modified", Name::Validator),
    ("accept-ranges", Name::Validator),
    ("content-md5", Name::Validator),
    ("digest", Name::Validator),
    ("content-digest", Name::Validator),
    ("repr-digest", Name::Validator),
    ("cookie", Name::Cookie),
    ("authorization", Name::Authorization),
    ("origin", Name::Origin),
    ("referer", Name::Referer),
    ("accept", Name::Accept),
    ("accept-encoding", Name::AcceptEncoding),
    ("access-control-request-method", Name::AccessControlRequestMethod),
    ("access-control-request-headers", Name::AccessControlRequestHeaders),
    ("sec-fetch-site", Name::SecFetchSite),
    ("sec-fetch-mode", Name::SecFetchMode),
    ("sec-fetch-dest", Name::SecFetchDest),
    ("x-forwarded-for", Name::XForwardedFor),
    ("x-forwarded-proto", Name::XForwardedProto),
    ("x-request-id", Name::XRequestId),
    ("set-cookie", Name::SetCookie),
    ("location", Name::Location),
    ("refresh", Name::Refresh),
    ("service-worker-allowed", Name::ServiceWorkerAllowed),
    ("clear-site-data", Name::ClearSiteData),
    ("strict-transport-security", Name::OwnHostPolicy),
    ("alt-svc", Name::OwnHostPolicy),
    ("public-key-pins", Name::OwnHostPolicy),
    ("www-authenticate", Name::WwwAuthenticate),
    ("content-security-policy", Name::ContentSecurityPolicy),
    ("referrer-policy", Name::ReferrerPolicy),
    ("x-frame-options", Name::FrameOptions),
    ("cache-control", Name::CacheControl),
    ("expires", Name::Expires),
    ("age", Name::SharedCache),
    ("cdn-cache-control", Name::SharedCache),
    ("cloudflare-cdn-cache-control", Name::SharedCache),
    ("surrogate-control", Name::SharedCache),
    ("x-accel-expires", Name::SharedCache),
    ("forwarded", Name::Identity),
    ("x-real-ip", Name::Identity),
    ("x-original-url", Name::Identity),
    ("x-original-host", Name::Identity),
    ("x-rewrite-url", Name::Identity),
    ("true-client-ip", Name::Identity),
    ("cf-connecting-ip", Name::Identity),
    ("x-client-ip", Name::Identity),
    ("x-cluster-client-ip", Name::Identity),
    ("proxy", Name::Identity),
    ("remote-user", Name::Identity),
    ("x-remote-user", Name::Identity),
    ("user-agent", Name::Other),
    ("accept-language", Name::Other),
    ("date", Name::Other),
    ("server", Name::Other),
    ("vary", Name::Other),
    ("pragma", Name::Other),
    ("priority", Name::Other),
    ("range", Name::Other),
    ("if-range", Name::Other),
    ("if-none-match", Name::Other),
    ("if-modified-since", Name::Other),
    ("content-range", Name::Other),
    ("content-language", Name::Other),
    ("content-disposition", Name::Other),
    ("content-location", Name::Other),
    ("sec-ch-ua", Name::Other),
    ("sec-ch-ua-mobile", Name::Other),
    ("sec-ch-ua-platform", Name::Other),
    ("sec-fetch-user", Name::Other),
    ("upgrade-insecure-requests", Name::Other),
    ("sec-websocket-key", Name::Other),
    ("sec-websocket-version", Name::Other),
    ("sec-websocket-accept", Name::Other),
    ("sec-websocket-extensions", Name::Other),
    ("sec-websocket-protocol", Name::Other),
    ("x-requested-with", Name::Other),
    ("x-content-type-options", Name::Other),
    ("access-control-allow-origin", Name::Other),
    ("access-control-allow-credentials", Name::Other),
    ("link", Name::Other),
    ("via", Name::Other),
    ("traceparent", Name::Other),
    ("tracestate", Name::Other),
    ("dnt", Name::Other),
];

/// How many places the table has. With the factors of [`place`] no two names have the same.
const PLACES: usize = 512;
/// Words of a name.
const WORDS: usize = LONGEST / 8;
/// A place without a name.
const NONE: u8 = u8::MAX;

static TABLE: Table = Table::new();

struct Table {
    /// Which name is at each place.
    places: [u8; PLACES],
    names: [Known; NAMES.len()],
}

/// One name, in a form that is compared a word at a time.
#[derive(Clone, Copy)]
struct Known {
    kind: Name,
    length: u8,
    /// The name, with all bits set in what lies behind it.
    lower: [u64; WORDS],
    /// The bits in which another name may differ: the case of letters, and everything behind the name.
    open: [u64; WORDS],
}

impl Table {
    const fn new() -> Self {
        let empty = Known { kind: Name::Other, length: 0, lower: [0; WORDS], open: [0; WORDS] };
        let mut table = Self { places: [NONE; PLACES], names: [empty; NAMES.len()] };
        let mut number = 0;
        while number < NAMES.len() {
            let (name, kind) = (NAMES[number].0.as_bytes(), NAMES[number].1);
            let place = place(name.len(), name[0], name[name.len() - 2], name[name.len() - 1]);
            assert!(table.places[place] == NONE, "other factors are needed");
            table.names[number] = Known::new(name, kind);
            table.places[place] = number as u8;
            number += 1;
        }
        table
    }
}

impl Known {
    const fn new(name: &[u8], kind: Name) -> Self {
        let (mut lower, mut open) = ([u64::MAX; WORDS], [u64::MAX; WORDS]);
        let mut at = 0;
        while at < name.len() {
            let (word, shift) = (at / 8, at % 8 * 8);
            // A letter has one bit for its case; a hyphen or a digit is itself alone (RFC 9110 5.1).
            let case: u8 = if name[at].is_ascii_lowercase() { 0x20 } else { 0 };
            lower[word] ^= ((name[at] ^ 0xff) as u64) << shift;
            open[word] ^= ((case ^ 0xff) as u64) << shift;
            at += 1;
        }
        Self { kind, length: name.len() as u8, lower, open }
    }

    /// Whether the name with which `words` begin is this one.
    #[inline]
    fn is(&self, words: &[u64; WORDS], length: usize) -> bool {
        let differing = (0..WORDS).fold(0, |bits, i| bits | ((words[i] | self.open[i]) ^ self.lower[i]));
        usize::from(self.length) == length && differing == 0
    }
}

/// Where a name of a length is, in whatever case its first and last bytes are.
#[inline]
const fn place(length: usize, first: u8, last_but_one: u8, last: u8) -> usize {
    let (first, last_but_one, last) = (first | 0x20, last_but_one | 0x20, last | 0x20);
    (length * 395 + first as usize * 10 + last_but_one as usize * 13 + last as usize * 21) % PLACES
}

/// What is known about the name of so many bytes with which `window` begins.
#[inline]
pub(super) fn find(window: &[u8; LONGEST], length: usize) -> Option<Name> {
    let [.., last_but_one, last] = *window.get(..length)? else { return None };
    let number = TABLE.places[place(length, window[0], last_but_one, last)];
    let known = TABLE.names.get(usize::from(number))?;
    known.is(&words(window), length).then_some(known.kind)
}

/// The known name with which `window` begins, when a colon follows it, and its length.
#[inline]
pub(in crate::wire) fn at_start_of(window: &[u8; LONGEST]) -> Option<(Name, usize)> {
    let words = words(window);
    let (word, marks) = words.iter().map(|word| scan::colons(*word)).enumerate().find(|(_, marks)| *marks != 0)?;
    let length = word * 8 + scan::first_marked(marks);
    find(window, length).map(|kind| (kind, length))
}

#[inline]
fn words(window: &[u8; LONGEST]) -> [u64; WORDS] {
    let (words, _) = window.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_in_any_case_and_no_near_one() {
        for (name, kind) in NAMES {
            assert_eq!(Name::of(name.as_bytes()), *kind, "{name}");
            assert_eq!(Name::of(name.to_ascii_uppercase().as_bytes()), *kind, "{name}");
            let at = |name: &[u8]| find(&super::super::padded(name), name.len());
            assert_eq!(at(name.as_bytes()), Some(*kind), "{name}");
            for (place, bit) in (0..name.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
                let mut other = name.as_bytes().to_vec();
                other[place] ^= 1 << bit;
                let listed = NAMES.iter().find(|(name, _)| other.eq_ignore_ascii_case(name.as_bytes()));
                assert_eq!(at(&other), listed.map(|(_, kind)| *kind), "{:?}", other.escape_ascii().to_string());
            }
            assert_eq!(at(&name.as_bytes()[1..]), listed(&name[1..]), "{name} without its first byte");
            assert_eq!(at(format!("{name}:").as_bytes()), None, "{name} with a colon");
        }
    }

    fn listed(name: &str) -> Option<Name> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    #[test]
    fn names_are_written_once_and_in_lower_case() {
        for (at, (name, _)) in NAMES.iter().enumerate() {
            assert!(
                name.len() <= LONGEST && name.bytes().all(|b| scan::is_token(b) && !b.is_ascii_uppercase()),
                "{name}"
            );
            assert!(!name.contains('_') && NAMES[..at].iter().all(|(other, _)| other != name), "{name}");
        }
        assert!(NAMES.len() < usize::from(NONE));
    }
}
