use super::*;

/// Decodes `input` arriving in parts of `step` bytes: the body, and how much of the input it took.
fn decode(framing: Framing, input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut decoder = Decoder::new(framing);
    let (mut body, mut used) = (Vec::new(), 0);
    for part in input.chunks(step) {
        let mut rest = part;
        loop {
            match decoder.next(rest)? {
                Piece::Data(range) => {
                    body.extend_from_slice(&rest[range.clone()]);
                    used += range.end;
                    rest = &rest[range.end..];
                }
                Piece::More => {
                    used += rest.len();
                    break;
                }
                Piece::End(n) => return Ok((body, used + n, true)),
            }
        }
    }
    Ok((body, used, decoder.is_done()))
}

#[test]
fn chunks_come_out_whole_however_they_arrive() {
    let input = b"5;a=b\r\nhello\r\n1 \r\n \r\n00A\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\nnext";
    for step in 1..input.len() {
        let (body, used, done) = decode(Framing::Chunked, input, step).unwrap();
        assert_eq!((&body[..], used, done), (&b"hello 0123456789"[..], input.len() - 4, true), "{step}");
    }
}

#[test]
fn lengths_end_exactly() {
    for step in 1..8 {
        assert_eq!(decode(Framing::Length(5), b"helloGET", step), Ok((b"hello".to_vec(), 5, true)), "{step}");
    }
    assert_eq!(decode(Framing::Length(9), b"hello", 2), Ok((b"hello".to_vec(), 5, false)));
    assert_eq!(decode(Framing::Empty, b"GET", 3), Ok((vec![], 0, true)));
    assert_eq!(decode(Framing::UntilClose, b"all of it", 4).map(|d| d.0), Ok(b"all of it".to_vec()));
}

#[test]
fn broken_chunks_are_refused() {
    for bad in [
        "g\r\n",
        "0x5\r\nhello",
        "+5\r\nhello",
        "5\nhello",
        "5\r\nhelloX",
        "5\r\nhello\n",
        "\r\n",
        " 5\r\n",
        "-1\r\n",
        "5_0\r\n",
        "11111111111111111\r\n",
        "00000000000000001\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n\n",
        "5;a\nb\r\n",
        "5\r\r\n",
        "5;\0\r\n",
    ] {
        assert!(decode(Framing::Chunked, bad.as_bytes(), 64).is_err(), "{bad:?}");
    }
    let long = format!("5;{}\r\n", "a".repeat(MAX_IGNORED + 1));
    assert!(decode(Framing::Chunked, long.as_bytes(), 999).is_err());
    let long = format!("0\r\n{}", "a: b\r\n".repeat(crate::wire::trailers::MAX_BYTES / 6 + 1));
    assert!(decode(Framing::Chunked, long.as_bytes(), 999).is_err());
}

/// The trailers of a body without chunks, arriving in parts of `step` bytes.
fn trailers(lines: &str, step: usize) -> Result<Vec<(String, String)>, BodyError> {
    let input = format!("0\r\n{lines}\r\n");
    let mut decoder = Decoder::new(Framing::Chunked);
    for part in input.as_bytes().chunks(step) {
        decoder.next(part)?;
    }
    assert!(decoder.is_done(), "{lines:?}");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ok(decoder.trailers().iter().map(|field| (text(field.name), text(field.value))).collect())
}

#[test]
fn trailers_are_kept_however_they_arrive() {
    let lines = "Digest: sha-256=x\r\nX:\t y \r\nEmpty:\r\nX: z\r\n";
    let expected = [("Digest", "sha-256=x"), ("X", "y"), ("Empty", ""), ("X", "z")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for step in 1..lines.len() {
        assert_eq!(trailers(lines, step).unwrap(), expected, "{step}");
    }
    assert!(trailers("", 2).unwrap().is_empty());
    assert_eq!(trailers(&"a: b\r\n".repeat(64), 99).unwrap().len(), 64);
}

#[test]
fn broken_trailers_are_refused() {
    for bad in [
        "nonsense\r\n",
        ": y\r\n",
        "X : y\r\n",
        "X\t: y\r\n",
        " X: y\r\n",
        "X: y\r\n folded\r\n",
        "X(Y): z\r\n",
        "X\u{e9}: z\r\n",
        "X: \u{1}\r\n",
        "X: a\rb\r\n",
        "X: a\r\r\n",
        "X: y\nZ: w\r\n",
    ] {
        assert!(trailers(bad, 64).is_err(), "{bad:?}");
    }
    assert!(trailers(&"a: b\r\n".repeat(65), 99).is_err(), "too many");
}

#[test]
fn chunk_heads_are_what_the_decoder_reads() {
    for length in [1usize, 9, 15, 16, 255, 256, 65_535, 1 << 20, usize::MAX] {
        let mut head = [0; CHUNK_HEAD];
        let n = write_chunk_head(length, &mut head);
        assert_eq!(&head[..n], format!("{length:x}\r\n").as_bytes());
    }
}
