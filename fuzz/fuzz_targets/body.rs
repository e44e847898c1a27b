//! Bodies. An input is a byte that chooses the framing, the cuts, and what arrives.
#![no_main]

use embedgate::wire::body::{BodyError, CHUNK_HEAD, Decoder, Framing, Piece, write_chunk_head};
use embedgate_fuzz::{Arrival, lines};
use libfuzzer_sys::fuzz_target;
use std::iter;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let Some(arrival) = Arrival::of(rest) else { return };
    let framing = framing(*choice);
    let at_once = decode(framing, iter::once(arrival.bytes));
    assert_eq!(decode(framing, arrival.pieces()), at_once, "as it arrives and at once");
    assert!(at_once.data.len() <= arrival.bytes.len());
    if let Framing::Length(length) = framing {
        let expected = &arrival.bytes[..arrival.bytes.len().min(length as usize)];
        assert_eq!(at_once.data, expected);
    }
    if framing == Framing::Chunked && matches!(at_once.end, End::After(_)) {
        assert_is_same_in_one_chunk(&at_once);
    }
});

fn framing(choice: u8) -> Framing {
    match choice % 4 {
        0 => Framing::Chunked,
        1 => Framing::Length(u64::from(choice)),
        2 => Framing::UntilClose,
        _ => Framing::Empty,
    }
}

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    data: Vec<u8>,
    end: End,
    /// The trailers as lines; none before the end.
    trailers: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// After so many bytes.
    After(usize),
    /// Nowhere yet, and whether the connection might end there.
    Open(bool),
    Broken(BodyError),
}

fn decode<'a>(framing: Framing, pieces: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let (mut decoder, mut data, mut before) = (Decoder::new(framing), Vec::new(), 0);
    for piece in pieces {
        match feed(&mut decoder, piece, &mut data) {
            Ok(Some(length)) => {
                assert!(decoder.is_done());
                return Decoded { data, end: End::After(before + length), trailers: lines(decoder.trailers()) };
            }
            Ok(None) => before += piece.len(),
            Err(error) => return Decoded { data, end: End::Broken(error), trailers: Vec::new() },
        }
    }
    // A body may end with its last byte, and say so when it is asked for more.
    let end = if decoder.is_done() { End::After(before) } else { End::Open(decoder.may_end_here()) };
    Decoded { data, end, trailers: lines(decoder.trailers()) }
}

/// Takes the data out of a piece; where the body ended in it, if it did.
fn feed(decoder: &mut Decoder, piece: &[u8], data: &mut Vec<u8>) -> Result<Option<usize>, BodyError> {
    let mut at = 0;
    loop {
        match decoder.next(&piece[at..])? {
            Piece::Data(range) => {
                assert!(!range.is_empty(), "a piece of no data");
                data.extend_from_slice(&piece[at..][range.clone()]);
                at += range.end;
            }
            Piece::More => return Ok(None),
            Piece::End(length) => return Ok(Some(at + length)),
        }
    }
}

/// Asserts that the same data and trailers come out of one chunk of all.
fn assert_is_same_in_one_chunk(decoded: &Decoded) {
    let mut written = Vec::new();
    if !decoded.data.is_empty() {
        let mut head = [0; CHUNK_HEAD];
        let length = write_chunk_head(decoded.data.len(), &mut head);
        written = [&head[..length], &decoded.data, b"\r\n"].concat();
    }
    written.extend([b"0\r\n", &decoded.trailers[..], b"\r\n"].concat());
    let again = decode(Framing::Chunked, iter::once(&written[..]));
    assert_eq!((again.data, again.trailers), (decoded.data.clone(), decoded.trailers.clone()));
    assert_eq!(again.end, End::After(written.len()));
}
