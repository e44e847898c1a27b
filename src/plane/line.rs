//! How lines of the access log are written: by hand and in few pieces, because that is a good part of what a request costs.

use crate::config::LogFormat;
use crate::log::Stamp;
use std::io::Write;

/// Room for a line without what may be long in it.
pub(super) const ROOM: usize = 512;

/// A field's name with what stands around it, in JSON and in text; see [`name!`].
pub(super) type Name = [&'static str; 2];

/// The name of a field whose value stands without quotes.
macro_rules! name {
    ($name:literal) => {
        [concat!(",\"", $name, "\":"), concat!(" ", $name, "=")]
    };
}

/// The name of a field and the quote before its value.
macro_rules! quoted {
    ($name:literal) => {
        [concat!(",\"", $name, "\":\""), concat!(" ", $name, "=\"")]
    };
}

pub(super) use {name, quoted};

/// Begins a line at a time.
pub(super) fn begin(out: &mut Vec<u8>, format: LogFormat, time: &Stamp) {
    match format {
        LogFormat::Json => {
            out.extend_from_slice(b"{\"timestamp\":\"");
            out.extend_from_slice(time.text());
            out.extend_from_slice(b"\",\"level\":\"INFO\",\"message\":\"request\"");
        }
        LogFormat::Text => {
            out.extend_from_slice(time.text());
            out.extend_from_slice(b"  INFO request");
        }
    }
}

/// Ends a line.
pub(super) fn end(out: &mut Vec<u8>, format: LogFormat) {
    out.extend_from_slice(match format {
        LogFormat::Json => b"}\n",
        LogFormat::Text => b"\n",
    });
}

/// Writes fields of a line after its beginning.
pub(super) struct Fields<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) format: LogFormat,
}

impl Fields<'_> {
    #[allow(clippy::inline_always, reason = "the length of a name is known only where it is written")]
    #[inline(always)]
    fn name(&mut self, [json, text]: Name) {
        match self.format {
            LogFormat::Json => self.out.extend_from_slice(json.as_bytes()),
            LogFormat::Text => self.out.extend_from_slice(text.as_bytes()),
        }
    }

    /// A text between quotes; `write` must write nothing that needs escaping.
    #[allow(clippy::inline_always, reason = "as for names")]
    #[inline(always)]
    pub(super) fn quoted(&mut self, name: Name, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        write(self.out);
        self.out.push(b'"');
    }

    /// Any text between quotes.
    #[allow(clippy::inline_always, reason = "as for names")]
    #[inline(always)]
    pub(super) fn text(&mut self, name: Name, text: &[u8]) {
        self.quoted(name, |out| write_text(text, out));
    }

    /// A whole number.
    #[allow(clippy::inline_always, reason = "as for names")]
    #[inline(always)]
    pub(super) fn number(&mut self, name: Name, value: u64) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A span of time in nanoseconds, as milliseconds.
    #[allow(clippy::inline_always, reason = "as for names")]
    #[inline(always)]
    pub(super) fn millis(&mut self, name: Name, nanos: u64) {
        self.name(name);
        crate::log::write_millis(nanos / 1000, self.out);
    }
}

/// Writes text as it stands between quotes.
fn write_text(text: &[u8], out: &mut Vec<u8>) {
    if is_plain(text) {
        return out.extend_from_slice(text);
    }
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            // Everything else, UTF-8 included, byte by byte: a log line stays ASCII whatever a client sends.
            _ => {
                let _ = write!(out, "\\u00{byte:02x}");
            }
        }
    }
}

/// Whether text is printable ASCII without a quote or a backslash: eight bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    let (chunks, rest) = text.as_chunks::<8>();
    let special = chunks.iter().fold(0, |special, chunk| special | special_in(u64::from_ne_bytes(*chunk)));
    let rest = rest.iter().fold(SPACES, |rest, byte| rest << 8 | u64::from(*byte));
    special | special_in(rest) == 0
}

/// The same byte eight times.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

const SPACES: u64 = eight(b' ');
const HIGHEST_BITS: u64 = eight(0x80);

/// Not 0 if one of eight bytes needs escaping. A subtraction or addition goes over from one byte to the next only where the
/// byte that it leaves needs escaping itself, so the next one may say what it likes.
fn special_in(bytes: u64) -> u64 {
    let zero = |bytes: u64| bytes.wrapping_sub(eight(1)) & !bytes;
    let control = bytes.wrapping_sub(SPACES) & !bytes;
    let above = bytes | bytes.wrapping_add(eight(1));
    (control | above | zero(bytes ^ eight(b'"')) | zero(bytes ^ eight(b'\\'))) & HIGHEST_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_wherever_it_needs_to_be() {
        for byte in 0..=255_u8 {
            let expected = matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\';
            for length in [1, 7, 8, 9, 16, 23] {
                for at in 0..length {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), expected, "{text:?}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn fields_have_the_form_of_their_format() {
        for (format, expected) in [
            (LogFormat::Json, r#","path":"/a\"\\\u00c3\u00b6\u000a","status":200,"took_ms":1.234"#),
            (LogFormat::Text, r#" path="/a\"\\\u00c3\u00b6\u000a" status=200 took_ms=1.234"#),
        ] {
            let mut out = Vec::new();
            let mut fields = Fields { out: &mut out, format };
            fields.text(quoted!("path"), "/a\"\\ö\n".as_bytes());
            fields.number(name!("status"), 200);
            fields.millis(name!("took_ms"), 1_234_999);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
