//! Fields of requests over HTTP/2, in one block after the other as a connection brings them. An input is for each block a
//! byte with its length and one that says whether a body follows, and the block.
#![no_main]

use embedgate::wire::body::Framing;
use embedgate::wire::http2::hpack::Decoder;
use embedgate::wire::http2::request::{Asked, Content, Terms, Writer};
use embedgate::wire::request::{Head, HeadEnd, Limits};
use embedgate_fuzz::assert_is_head;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { bytes: 1024, fields: 50 };
const TERMS: Terms = Terms { bytes: LIMITS.bytes, connects: true };

fuzz_target!(|input: &[u8]| {
    let (mut decoder, mut rest) = (Decoder::default(), input);
    while let [length, ended, after @ ..] = rest {
        let (block, after) = after.split_at(after.len().min(usize::from(*length)));
        let mut writer = Writer::new(TERMS, Vec::new(), Vec::new());
        // Nothing can be read after a block that cannot.
        if decoder.decode(block, &mut Vec::new(), |field| writer.take(field)).is_err() {
            return;
        }
        let asked = writer.finish(ended & 1 == 1, || *b"sixteen key byte");
        if let Ok(asked) = asked {
            try_head(&asked, &writer.into_parts().0);
        }
        rest = after;
    }
});

/// Parses the head that fields became: whatever they hold, it is one head and has the body that was told.
fn try_head(asked: &Asked, head: &[u8]) {
    assert!(head.len() <= TERMS.bytes, "it is longer than allowed");
    assert_is_head(HeadEnd::default(), head);
    let mut positions = Vec::new();
    let Ok(head) = Head::parse(head, &mut positions, LIMITS) else { return };
    let framing = match asked.content {
        Content::None | Content::Tunnel => Framing::Empty,
        Content::Length(0) => Framing::Empty,
        Content::Length(length) => Framing::Length(length),
        Content::Chunks => Framing::Chunked,
    };
    assert_eq!((head.framing, head.method == "HEAD"), (framing, asked.to_head));
    assert!(!head.keep_alive, "a stream has one request");
    assert_eq!(head.upgrade.is_some(), asked.content == Content::Tunnel);
}
