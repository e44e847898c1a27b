//! The parser against another one: heads that are nearly good are read by both. What ours takes the other takes too, with
//! the same parts; what only ours refuses, it refuses for a rule of its own.

use super::fields::Fields;
use super::request::{self, HeadEnd, HeadError, Limits};
use super::response;

const LIMITS: Limits = Limits { bytes: 4096, fields: 12 };
/// Unoptimised, as many as take a second.
const CASES: u64 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };

const REQUESTS: &[&str] = &[
    "GET /a/b.js?v=17 HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: Mozilla/5.0 (X11)\r\nAccept: */*\r\n\r\n",
    "POST /start HTTP/1.1\r\nHost: localhost:8080\r\nContent-Type: text/plain\r\nContent-Length: 12\r\nX-Odd_name: \t b \t\r\n\r\n",
    "\r\nPUT http://h/x HTTP/1.1\r\naccept:\r\nHOST: h\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nConnection: close, x\r\n\r\n",
    "M-SEARCH / HTTP/1.0\r\nx-forwarded-for: 10.0.0.1\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz0123456789.-_~+/==\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: [::1]:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nExpect: \r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: 6\r\ng: 7\r\nh: 8\r\ni: 9\r\nj: 10\r\nk: 11\r\n\r\n",
];

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nServer: app\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Length: 3\r\nETag: \"5f-1\"\r\n\r\n",
    "HTTP/1.0 404\r\nConnection: keep-alive\r\nContent-Type: text/html; charset=utf-8\r\nSet-Cookie: a=b; Path=/\r\n\r\n",
    "HTTP/1.1 500 It is \t broken\r\nTransfer-Encoding: chunked\r\nx-Very-Long-Name-That-Is-In-No-Table: caf\u{e9}\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "HTTP/1.1 204 \r\nA:b\r\nCACHE-CONTROL:   no-store   \r\nstrict-transport-security: max-age=1\r\n\r\n",
];

/// Why a head is refused that is good as far as the grammar goes.
const RULES: &[&str] = &[
    "more than one Host field",
    "no Host field",
    "the Host field is not a host",
    "the target holds a character that must be encoded",
    "the target is neither a path nor an absolute URL",
    "the target names another host than the Host field",
    "too many connection options",
    "more than one Authorization field",
    "Content-Length is not a number",
    "Content-Length is too large",
    "two different Content-Length fields",
    "more than one Transfer-Encoding field",
    "both Content-Length and Transfer-Encoding",
    "Transfer-Encoding in HTTP/1.0",
    "a Transfer-Encoding other than chunked",
    "more than one Upgrade field",
    "the Upgrade field is not a token",
    "a request to upgrade must not have a body",
    "the status code is below 100",
];

/// `SplitMix64`: every case has a seed of its own, which is all that is needed to see it again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Any byte, and mostly one that means something in a head.
    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\r\n \t:\0\x01\x7f\x80\xff/#?,;=\"_-.@[]aZ09{}()<>\\";
        if self.below(4) == 0 { self.next() as u8 } else { TELLING[self.below(TELLING.len())] }
    }
}

/// A good head with a few faults, or with none that matters.
fn nearly_good(heads: &[&str], random: &mut Random) -> Vec<u8> {
    let mut head = heads[random.below(heads.len())].as_bytes().to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(head.len());
        let other = random.below(head.len());
        match random.below(8) {
            0 | 1 => head[at] = random.byte(),
            2 => head.insert(at, random.byte()),
            3 => {
                head.remove(at);
            }
            4 => head.swap(at, other),
            5 => repeat_line(&mut head, at, other),
            6 => {
                let at = beside_colon(&head, at);
                head.splice(at..at, *b" \t");
            }
            _ => head[at] ^= 0x20,
        }
    }
    head
}

/// The line in which `from` is once more, before the line in which `to` is.
fn repeat_line(head: &mut Vec<u8>, from: usize, to: usize) {
    let begin = |at: usize| head[..at].iter().rposition(|b| *b == b'\n').map_or(0, |lf| lf + 1);
    let end = head[from..].iter().position(|b| *b == b'\n').map_or(head.len(), |lf| from + lf + 1);
    let (line, to) = (head[begin(from)..end].to_vec(), begin(to));
    head.splice(to..to, line);
}

/// Before or behind the first colon or line end after `at`.
fn beside_colon(head: &[u8], at: usize) -> usize {
    let found = head[at..].iter().position(|b| matches!(b, b':' | b'\r')).unwrap_or(0);
    (at + found + usize::from(head[at + found] == b':' && at.is_multiple_of(2))).min(head.len())
}

/// Gives each case that has an end to `compare`, which says whether ours took it, or what is wrong with how it was read.
fn try_all(heads: &[&str], end: HeadEnd, compare: fn(&[u8]) -> Result<bool, String>) {
    let (mut taken, mut ended) = (0u64, 0u64);
    for seed in 0..CASES {
        let bytes = nearly_good(heads, &mut Random(seed));
        let shown = || format!("seed {seed}: {}", bytes.escape_ascii());
        let mut end = end;
        match end.find(&bytes, LIMITS.bytes) {
            Ok(Some(length)) => {
                ended += 1;
                taken += u64::from(compare(&bytes[..length]).unwrap_or_else(|fault| panic!("{fault} at {}", shown())));
            }
            Ok(None) => assert!(!has_end(&bytes), "no end at {}", shown()),
            Err(_) => assert!(has_bare_line_feed(&bytes), "no bare line feed at {}", shown()),
        }
    }
    // Else it would compare nothing.
    assert!(ended > CASES / 2 && taken > CASES / 4, "{taken} of {ended} taken");
}

/// Whether there is an empty line behind the ones that may stand before a request.
fn has_end(mut bytes: &[u8]) -> bool {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes.windows(4).any(|end| end == b"\r\n\r\n")
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r'))
}

/// Whether a head that the other parser reads so is refused by ours for a reason.
fn has_reason(error: HeadError) -> bool {
    match error {
        HeadError::Malformed(text) => RULES.contains(&text),
        HeadError::Method | HeadError::Expectation => true,
        HeadError::TooLong | HeadError::TooManyFields => false,
    }
}

/// The error that ours has to have where the other has this one.
fn is_same_fault(ours: HeadError, theirs: httparse::Error, is_answer: bool) -> bool {
    let text = match theirs {
        httparse::Error::TooManyHeaders => return ours == HeadError::TooManyFields,
        httparse::Error::HeaderName => "a field name is not a token",
        httparse::Error::HeaderValue => "a field value holds a control character",
        httparse::Error::Version if !is_answer => "the version is not HTTP/1.0 or HTTP/1.1",
        _ => return matches!(ours, HeadError::Malformed(text) if !RULES.contains(&text)),
    };
    ours == HeadError::Malformed(text)
}

fn same_fields(ours: Fields<'_>, theirs: &[httparse::Header<'_>]) -> bool {
    let theirs = theirs.iter().map(|field| (field.name.as_bytes(), field.value));
    ours.iter().map(|field| (field.name, field.value)).eq(theirs)
}

/// Whether ours took the request.
fn compare_requests(bytes: &[u8]) -> Result<bool, String> {
    let (mut slots, mut positions) = ([httparse::EMPTY_HEADER; LIMITS.fields], Vec::new());
    let mut theirs = httparse::Request::new(&mut slots);
    let read = theirs.parse(bytes);
    match (request::Head::parse(bytes, &mut positions, LIMITS), read) {
        // The other parser takes it for the end of a line.
        (Err(HeadError::Malformed(_)), _) if has_bare_line_feed(bytes) => Ok(false),
        (Ok(ours), Ok(httparse::Status::Complete(length))) if length == bytes.len() && !has_bare_line_feed(bytes) => {
            let target = theirs.path.unwrap_or("");
            let same = Some(ours.method) == theirs.method
                && (target.ends_with(ours.target) || (ours.target == "/" && !target.starts_with('/')))
                && (target == ours.target || !target.starts_with('/'))
                && Some(u8::from(ours.http11)) == theirs.version
                && same_fields(ours.fields, theirs.headers);
            if same { Ok(true) } else { Err(format!("{ours:?} is not {theirs:?}")) }
        }
        (Err(error), Ok(httparse::Status::Complete(length))) if length == bytes.len() && has_reason(error) => Ok(false),
        (Err(error), Err(fault)) if is_same_fault(error, fault, false) => Ok(false),
        (ours, read) => Err(format!("{ours:?} against {read:?}")),
    }
}

/// Whether ours took the answer.
fn compare_answers(bytes: &[u8]) -> Result<bool, String> {
    let (mut slots, mut positions) = ([httparse::EMPTY_HEADER; LIMITS.fields], Vec::new());
    let mut theirs = httparse::Response::new(&mut slots);
    let read = theirs.parse(bytes);
    match (response::Head::parse(bytes, &mut positions, LIMITS, false), read) {
        // The other parser takes it for the end of a line.
        (Err(HeadError::Malformed(_)), _) if has_bare_line_feed(bytes) => Ok(false),
        (Ok(ours), Ok(httparse::Status::Complete(length))) if length == bytes.len() && !has_bare_line_feed(bytes) => {
            let same = Some(ours.status) == theirs.code
                && Some(ours.reason) == theirs.reason
                && same_fields(ours.fields, theirs.headers);
            if same { Ok(true) } else { Err(format!("{ours:?} is not {theirs:?}")) }
        }
        (Err(error), Ok(httparse::Status::Complete(length))) if length == bytes.len() && has_reason(error) => Ok(false),
        (Err(error), Err(fault)) if is_same_fault(error, fault, true) => Ok(false),
        // What begins with empty lines, or ends with its first line.
        (Err(HeadError::Malformed("the head does not begin with the version")), Ok(httparse::Status::Partial)) => {
            Ok(false)
        }
        (ours, read) => Err(format!("{ours:?} against {read:?}")),
    }
}

#[test]
fn requests_are_read_as_another_parser_reads_them() {
    try_all(REQUESTS, HeadEnd::default(), compare_requests);
}

#[test]
fn answers_are_read_as_another_parser_reads_them() {
    try_all(ANSWERS, HeadEnd::of_answer(), compare_answers);
}
