//! Heads of requests. An input is a byte that chooses the limits, the cuts, and what arrives.
#![no_main]

use embedgate::wire::request::{Head, HeadEnd, Limits};
use embedgate_fuzz::{Arrival, assert_is_head, find_head, lines, parts};
use libfuzzer_sys::fuzz_target;

const WIDE: Limits = Limits { bytes: 2048, fields: 100 };
const TIGHT: Limits = Limits { bytes: 64, fields: 3 };

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let limits = if choice & 1 == 0 { WIDE } else { TIGHT };
    let Some(arrival) = Arrival::of(rest) else { return };
    try_parse(arrival.bytes, limits);
    let parses = |head: &[u8]| Head::parse(head, &mut Vec::new(), limits).is_ok();
    if let Some(head) = find_head(HeadEnd::default(), &arrival, limits.bytes, parses) {
        try_parse(head, limits);
    }
});

/// Parses what may be a head. One that is must say the same when it has been written again.
fn try_parse(bytes: &[u8], limits: Limits) {
    let mut positions = Vec::new();
    let Ok(head) = Head::parse(bytes, &mut positions, limits) else { return };
    assert_is_head(HeadEnd::default(), bytes);
    let fields = lines(head.fields);
    let written = write(&head, &fields);
    let mut positions = Vec::new();
    let again = Head::parse(&written, &mut positions, limits).expect("what was written is no head");
    assert_eq!(what_it_says(&again), what_it_says(&head));
    assert_eq!(parts(again.fields), parts(head.fields));
    assert_eq!(lines(again.fields), fields);
}

fn write(head: &Head<'_>, fields: &[u8]) -> Vec<u8> {
    let line = format!("{} {} HTTP/1.{}\r\n", head.method, head.target, u8::from(head.http11));
    [line.as_bytes(), fields, b"\r\n"].concat()
}

/// All of a head but its fields.
fn what_it_says(head: &Head<'_>) -> String {
    let Head { method, target, authority, http11, keep_alive, framing, upgrade, expects_continue, fields: _ } = head;
    let line = (method, target, head.path(), head.query(), authority, http11);
    let rest = (keep_alive, framing, upgrade, expects_continue, head.is_replayable(), head.takes_trailers());
    format!("{line:?} {rest:?}")
}
