//! Heads of answers. An input is a byte that chooses the limits and whether HEAD was asked, the cuts, and what arrives.
#![no_main]

use embedgate::wire::request::{HeadEnd, Limits};
use embedgate::wire::response::Head;
use embedgate_fuzz::{Arrival, assert_is_head, find_head, lines, parts};
use libfuzzer_sys::fuzz_target;

const WIDE: Limits = Limits { bytes: 2048, fields: 100 };
const TIGHT: Limits = Limits { bytes: 64, fields: 3 };

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let limits = if choice & 1 == 0 { WIDE } else { TIGHT };
    let to_head = choice & 2 != 0;
    let Some(arrival) = Arrival::of(rest) else { return };
    try_parse(arrival.bytes, limits, to_head);
    let parses = |head: &[u8]| Head::parse(head, &mut Vec::new(), limits, to_head).is_ok();
    if let Some(head) = find_head(HeadEnd::of_answer(), &arrival, limits.bytes, parses) {
        try_parse(head, limits, to_head);
    }
});

/// Parses what may be a head. One that is must say the same when it has been written again.
fn try_parse(bytes: &[u8], limits: Limits, to_head: bool) {
    let mut positions = Vec::new();
    let Ok(head) = Head::parse(bytes, &mut positions, limits, to_head) else { return };
    assert_is_head(HeadEnd::of_answer(), bytes);
    let fields = lines(head.fields);
    let written = write(&head, bytes, &fields);
    let mut positions = Vec::new();
    let again = Head::parse(&written, &mut positions, limits, to_head).expect("what was written is no head");
    assert_eq!(what_it_says(&again), what_it_says(&head));
    assert_eq!(parts(again.fields), parts(head.fields));
    assert_eq!(lines(again.fields), fields);
}

/// The head with the version that `bytes`, of which it was parsed, begin with: it does not tell that itself.
fn write(head: &Head<'_>, bytes: &[u8], fields: &[u8]) -> Vec<u8> {
    let line = format!("{} {}\r\n", head.status, head.reason);
    [&bytes[.."HTTP/1.1 ".len()], line.as_bytes(), fields, b"\r\n"].concat()
}

/// All of a head but its fields.
fn what_it_says(head: &Head<'_>) -> String {
    let Head { status, reason, framing, keep_alive, fields: _ } = head;
    format!("{:?}", (status, reason, framing, keep_alive, head.is_interim()))
}
