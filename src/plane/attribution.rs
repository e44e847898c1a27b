//! Whose a statement is, in the words of the backends that run it. What a session says of its user ends up beside or inside of
//! SQL here, so nothing of it is written as it came: every byte that could mean something to a reader is escaped.

use super::account::RequestId;
use crate::session::Session;
use crate::wire::fields::list;
use std::fmt::{self, Write as _};

/// The beginning of every name that is the gateway's to give.
pub(super) const RESERVED: &[u8] = b"embedgate_";
/// The field of client tags of Trino, in lower case.
pub(super) const TRINO_TAGS: [&[u8]; 1] = [b"x-trino-client-tags"];

/// Whose a statement is.
#[derive(Clone, Copy)]
pub(super) struct Author<'a> {
    session: &'a Session,
    request: &'a str,
}

impl<'a> Author<'a> {
    /// The user of a session, with a request.
    pub(super) fn new(session: &'a Session, request: &'a RequestId) -> Self {
        // Of digits, which are UTF-8.
        Self { session, request: std::str::from_utf8(request).unwrap_or_default() }
    }

    fn parts(self) -> [(&'static str, &'a str); 3] {
        [("user", self.session.email()), ("org", self.session.org()), ("request", self.request)]
    }

    /// The elements of a list of `query_tags`.
    pub(super) fn query_tags(self) -> String {
        let mut tags = String::new();
        for (name, value) in self.parts() {
            let comma = if tags.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(tags, r#"{comma}{{"key":"embedgate_{name}","value":"{}"}}"#, Escaped(value));
        }
        tags
    }

    /// A comment for the beginning of a statement's text, inside of a JSON string.
    pub(super) fn comment(self) -> String {
        let mut comment = String::from("/* embedgate");
        for (name, value) in self.parts() {
            let _ = write!(comment, " {name}={}", Escaped(value));
        }
        comment.push_str(" */ ");
        comment
    }

    /// Writes the field by which Trino is told client tags: the client's own with the gateway's behind them.
    pub(super) fn trino_tags<'f>(self, own: impl Iterator<Item = &'f [u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Trino-Client-Tags: ");
        for tag in own.flat_map(list).filter(|tag| !is_reserved(tag)) {
            out.extend_from_slice(tag);
            out.push(b',');
        }
        for (at, (name, value)) in self.parts().into_iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            out.extend_from_slice(format!("{comma}embedgate_{name}={}", Escaped(value)).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a tag of a client's is named as if the gateway had given it.
fn is_reserved(tag: &[u8]) -> bool {
    tag.get(..RESERVED.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(RESERVED))
}

/// A value in which nothing is left that could end a comment, a string, or an element of a list: percent-encoded (RFC 3986
/// 2.1), but for letters, digits and what addresses are made of.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'@' | b'.' | b'_' | b'+' | b'-' => {
                    f.write_char(byte.into())?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Parts;

    fn session(email: &str) -> Session {
        let (id, user, app) = ([0; 16], "u1", None);
        Session::new(Parts { id, issued: 0, expires: 9, org: "acme", user, email, app }).unwrap()
    }

    #[test]
    fn an_author_is_named_as_he_is() {
        let session = session("ann.o-neil+x@acme.example");
        let author = Author::new(&session, &[b'7'; 32]);
        let request = "7".repeat(32);
        assert_eq!(
            author.comment(),
            format!("/* embedgate user=ann.o-neil+x@acme.example org=acme request={request} */ ")
        );
        let tags: serde_json::Value = serde_json::from_str(&format!("[{}]", author.query_tags())).unwrap();
        assert_eq!(
            tags,
            serde_json::json!([
                { "key": "embedgate_user", "value": "ann.o-neil+x@acme.example" },
                { "key": "embedgate_org", "value": "acme" },
                { "key": "embedgate_request", "value": request },
            ])
        );
    }

    #[test]
    fn no_address_gets_out_of_its_place() {
        for email in [
            "*/select(1)/*@x",
            "\"},{\"key\":\"a@x",
            "\\\"@x",
            "'--@x",
            "a,embedgate_user=boss@x",
            "a=b;{}[]()`~%00@x",
            "/*+broadcast(t)*/@x",
        ] {
            let session = session(email);
            let author = Author::new(&session, &[b'7'; 32]);
            let comment = author.comment();
            assert!(comment.ends_with(" */ ") && comment.matches("*/").count() == 1, "{comment}");
            assert!(!comment.contains(['"', '\\', '\'', '\n']), "{comment}");
            let tags: serde_json::Value = serde_json::from_str(&format!("[{}]", author.query_tags())).unwrap();
            assert_eq!(tags.as_array().unwrap().len(), 3, "{tags}");
            let mut out = Vec::new();
            author.trino_tags([].into_iter(), &mut out);
            let line = String::from_utf8(out).unwrap();
            assert!(line.matches(',').count() == 2 && line.matches('=').count() == 3, "{line}");
        }
    }
}
