use super::*;
use crate::wire::http2::field::{Kind, Text};

type Fields = Vec<(String, String)>;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Broken> {
    let (mut fields, mut scratch) = (Vec::new(), Vec::new());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.decode(block, &mut scratch, |field| {
        assert_eq!((field.kind, field.text), (Kind::of(field.name), Text::of(field.value)));
        let mut line = Vec::new();
        field.write(&mut line);
        assert_eq!(line, [field.name, b": ", field.value, b"\r\n"].concat());
        fields.push((text(field.name), text(field.value)));
    })?;
    Ok(fields)
}

fn fields(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn numbers_are_those_of_the_standard() {
    // RFC 7541 C.1.
    for (bytes, prefix, expected) in [(&[0x0a][..], 5, 10), (&[0x1f, 0x9a, 0x0a], 5, 1337), (&[0x2a], 8, 42)] {
        let (mut rest, mut out) = (bytes, Vec::new());
        assert_eq!((number(&mut rest, prefix), rest), (Ok(expected), &[][..]));
        write_number(&mut out, 0, prefix, expected);
        assert_eq!(out, bytes);
    }
    for bad in [&[][..], &[0x1f], &[0x1f, 0x80], &[0x1f, 0xff, 0xff, 0xff, 0xff, 0x01]] {
        assert_eq!(number(&mut &bad[..], 5), Err(Broken), "{bad:?}");
    }
}

#[test]
fn single_fields_are_those_of_the_standard() {
    // RFC 7541 C.2.
    for (block, name, value, size) in [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key", "custom-header", 55),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path", "/sample/path", 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password", "secret", 0),
        ("82", ":method", "GET", 0),
    ] {
        let mut decoder = Decoder::default();
        assert_eq!(decode(&mut decoder, &hex(block)), Ok(fields(&[(name, value)])));
        assert_eq!(decoder.sizes_of_table().0, size);
    }
}

#[test]
fn requests_are_those_of_the_standard() {
    // RFC 7541 C.3 and C.4: the same without and with Huffman's code.
    let blocks = [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ];
    let authority = (":authority", "www.example.com");
    let expected = [
        fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), authority]),
        fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), authority, ("cache-control", "no-cache")]),
        fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            authority,
            ("custom-key", "custom-value"),
        ]),
    ];
    for blocks in blocks {
        let mut decoder = Decoder::default();
        for ((block, expected), size) in blocks.iter().zip(&expected).zip([57, 110, 164]) {
            assert_eq!(decode(&mut decoder, &hex(block)).as_ref(), Ok(expected));
            assert_eq!(decoder.sizes_of_table().0, size);
        }
    }
}

#[test]
fn answers_are_those_of_the_standard() {
    // RFC 7541 C.5 and C.6: a table of 256 bytes, out of which older fields fall.
    let blocks = [
        [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e \
             1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d \
             4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 \
             7369 6f6e 3d31",
        ],
        [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b \
             97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf \
             cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ],
    ];
    let (private, date) = (("cache-control", "private"), ("date", "Mon, 21 Oct 2013 20:13:21 GMT"));
    let location = ("location", "https://www.example.com");
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let expected = [
        fields(&[(":status", "302"), private, date, location]),
        fields(&[(":status", "307"), private, date, location]),
        fields(&[(":status", "200"), private, later, location, ("content-encoding", "gzip"), cookie]),
    ];
    for blocks in blocks {
        let mut decoder = Decoder::default();
        // 256: a size before the first field.
        assert_eq!(decode(&mut decoder, &[0x3f, 0xe1, 0x01]), Ok(vec![]));
        for ((block, expected), size) in blocks.iter().zip(&expected).zip([222, 222, 215]) {
            assert_eq!(decode(&mut decoder, &hex(block)).as_ref(), Ok(expected));
            assert_eq!(decoder.sizes_of_table().0, size);
        }
    }
}

#[test]
fn what_is_broken_is_not_read() {
    for block in [
        "80",                   // No index.
        "be",                   // Nothing is in the table yet.
        "7f 80",                // A number without an end.
        "ff ff ff ff ff 0f",    // One that is too large.
        "40",                   // No name.
        "40 01",                // A name that is cut off.
        "40 01 61",             // No value.
        "41 05 61",             // A value that is cut off.
        "82 20",                // A size behind a field.
        "3f e2 1f",             // A table larger than allowed: 4097.
        "41 81 00",             // Huffman's code without its padding.
        "00 00 84 ff ff ff ff", // EOS.
    ] {
        assert_eq!(decode(&mut Decoder::default(), &hex(block)), Err(Broken), "{block}");
    }
    assert_eq!(decode(&mut Decoder::default(), &hex("20 3f e1 1f 82")), Ok(fields(&[(":method", "GET")])));
}

#[test]
fn the_table_stays_within_its_size() {
    let mut decoder = Decoder::default();
    for length in (0..5000).step_by(7).chain([4000, 4100, 10, 0]) {
        let mut block = vec![0x40];
        write_number(&mut block, 0, 7, 1);
        block.push(b'x');
        write_number(&mut block, 0, 7, length);
        block.resize(block.len() + length, b'y');
        assert_eq!(decode(&mut decoder, &block).unwrap()[0].1.len(), length);
        let (size, bytes) = decoder.sizes_of_table();
        assert!(size <= 4096 && bytes <= 3 * 4096, "{size} {bytes}");
        // The newest one is there, unless it is too large for any table.
        let newest = decode(&mut decoder, &[0xbe]);
        assert_eq!(newest.is_ok(), length + 33 <= 4096, "{length}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let (mut encoder, mut decoder, long) = (Encoder::default(), Decoder::default(), "v".repeat(1000));
    for status in [200, 204, 206, 304, 400, 404, 500, 101, 431, 999] {
        let mut block = Vec::new();
        encoder.status(&mut block, status);
        for (name, value) in [("Content-Type", "text/html"), ("X-Long", &long), ("via", ""), ("ETag", "\"1\"")] {
            encoder.field(&mut block, name.as_bytes(), value.as_bytes());
        }
        let expected = [
            (":status", &*status.to_string()),
            ("content-type", "text/html"),
            ("x-long", &long),
            ("via", ""),
            ("etag", "\"1\""),
        ];
        assert_eq!(decode(&mut decoder, &block), Ok(fields(&expected)));
    }
}

#[test]
fn a_peer_who_wants_a_smaller_table_is_told_once() {
    let mut encoder = Encoder::default();
    let begun = |encoder: &mut Encoder| {
        let mut block = Vec::new();
        encoder.status(&mut block, 200);
        block
    };
    encoder.allow(65_536);
    assert_eq!(begun(&mut encoder), [0x88]);
    encoder.allow(4095);
    assert_eq!(begun(&mut encoder), [0x20, 0x88]);
    encoder.allow(10);
    assert_eq!(begun(&mut encoder), [0x88]);
}

#[test]
fn nothing_that_comes_breaks_the_decoder() {
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let proper = hex(
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf 84be bf 3f 11",
    );
    for round in 0..20_000 {
        let mut decoder = Decoder::default();
        for _ in 0..4 {
            let mut block = proper.clone();
            if round % 2 == 0 {
                block = (0..random() % 80).map(|_| random() as u8).collect();
            }
            for _ in 0..random() % 4 {
                let at = random() % block.len().max(1);
                if let Some(byte) = block.get_mut(at) {
                    *byte ^= 1 << (random() % 8);
                }
            }
            block.truncate(random() % (block.len() + 20));
            let mut seen = 0;
            let read = decoder.decode(&block, &mut Vec::new(), |field| seen += field.name.len() + field.value.len());
            // What an index means is at most a table, and what is written out at most eight fifths of itself.
            assert!(seen <= block.len() * 4096);
            let (size, bytes) = decoder.sizes_of_table();
            assert!(size <= 4096 && bytes <= 3 * 4096);
            if read.is_err() {
                break;
            }
        }
    }
}
