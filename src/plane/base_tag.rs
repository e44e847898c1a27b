//! A `<base>` in the pages of apps that are reached by a path and take themselves to be at the root: relative links in pages
//! further down then begin where the app does. The only thing that is ever changed in a body.

use super::exchange::Exchange;
use super::failure::Failure;
use super::headers::media_type;
use crate::net::io::ReadInto as _;
use crate::wire::body::{Decoder, Framing, Piece};
use crate::wire::fields::{Name, list};
use crate::wire::request::Head;
use crate::wire::response;
use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// How much of a page is looked at; its head begins long before.
const MAX_LOOK: usize = 64 * 1024;
/// How long a page is waited for that comes in pieces. What has come until then goes on as it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The beginning of an answer's body, and what goes into it.
pub(super) struct Page {
    /// What has come of the body, framed as it came.
    pub(super) raw: Vec<u8>,
    /// What goes in; none leaves the page as it is.
    pub(super) insertion: Option<Insertion>,
}

/// A text that goes into a body.
pub(super) struct Insertion {
    /// How many bytes of the body stand before it.
    pub(super) at: u64,
    pub(super) text: String,
}

impl Insertion {
    /// The framing of a body with it.
    pub(super) fn framing(&self, framing: Framing) -> Framing {
        match framing {
            Framing::Length(length) => Framing::Length(length + self.text.len() as u64),
            other => other,
        }
    }
}

/// Whether an answer is a page that may be changed.
pub(super) fn may_change(head: &Head<'_>, answer: &response::Head<'_>) -> bool {
    let fields = answer.fields;
    let is_plain = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity");
    let mut directives = fields.all(Name::CacheControl).flat_map(list);
    head.method == "GET"
        && !matches!(answer.status, 206 | 304)
        && answer.framing != Framing::Empty
        && fields.single(Name::ContentType).is_ok_and(|kind| kind.is_some_and(is_html))
        && fields.all(Name::ContentEncoding).flat_map(list).all(is_plain)
        // RFC 9110 7.7.
        && !directives.any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
        && fields.all(Name::ContentSecurityPolicy).all(allows_base)
}

fn is_html(content_type: &[u8]) -> bool {
    media_type(content_type).eq_ignore_ascii_case(b"text/html")
}

/// Whether policies let a page have a base of its own origin (CSP 3, 6.3.1).
fn allows_base(policies: &[u8]) -> bool {
    let allows = |directive: &[u8]| {
        let mut words = directive.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let is_other = !words.next().unwrap_or_default().eq_ignore_ascii_case(b"base-uri");
        is_other || words.any(|source| source == b"*" || source.eq_ignore_ascii_case(b"'self'"))
    };
    policies.split(|byte| matches!(byte, b',' | b';')).all(allows)
}

impl Exchange<'_> {
    /// Reads on until it is known where a base belongs. `first` is what has come of the body.
    ///
    /// # Errors
    /// [`Failure`] when the upstream breaks off.
    pub(super) async fn read_page(&mut self, framing: Framing, first: &[u8], base: &str) -> Result<Page, Failure> {
        let (mut raw, mut html, mut decoder) = (first.to_vec(), Vec::new(), Decoder::new(framing));
        let (mut seen, mut ended) = (0, false);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // What is no body is found again when it is passed on.
            let Ok(end) = decode(&mut decoder, &raw[seen..], &mut html) else {
                return Ok(Page { raw, insertion: None });
            };
            seen = raw.len();
            let seen_enough = html.len() >= MAX_LOOK;
            html.truncate(MAX_LOOK);
            match place(&html, ended || end || seen_enough) {
                Place::At(at) => {
                    let insertion = Insertion { at: at as u64, text: format!("<base href=\"{base}\">") };
                    return Ok(Page { raw, insertion: Some(insertion) });
                }
                Place::Nowhere => return Ok(Page { raw, insertion: None }),
                Place::Unknown => {}
            }
            match poll_fn(|cx| self.poll_more(cx, &mut raw, deadline)).await? {
                More::Bytes => {}
                More::Late => return Ok(Page { raw, insertion: None }),
                More::End if decoder.may_end_here() => ended = true,
                More::End => return Err(Failure::UpstreamClosed),
            }
        }
    }

    fn poll_more(
        &mut self,
        cx: &mut std::task::Context<'_>,
        raw: &mut Vec<u8>,
        deadline: Instant,
    ) -> Poll<Result<More, Failure>> {
        let mut scratch = self.worker.scratch.borrow_mut();
        match self.io.poll_read_into(cx, &mut scratch[..MAX_LOOK]) {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(More::End)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::of_upstream(&error))),
            Poll::Ready(Ok(n)) => {
                raw.extend_from_slice(&scratch[..n]);
                Poll::Ready(Ok(More::Bytes))
            }
            Poll::Pending => {
                ready!(self.client.timer.poll(cx, deadline));
                Poll::Ready(Ok(More::Late))
            }
        }
    }
}

/// What came of waiting for more of a page.
enum More {
    Bytes,
    End,
    Late,
}

/// Adds what of `raw` is body to `html`; says whether that was all.
fn decode(decoder: &mut Decoder, raw: &[u8], html: &mut Vec<u8>) -> Result<bool, ()> {
    let mut used = 0;
    loop {
        match decoder.next(&raw[used..]).map_err(drop)? {
            Piece::More => return Ok(false),
            Piece::End(_) => return Ok(true),
            Piece::Data(range) => {
                html.extend_from_slice(&raw[used..][range.clone()]);
                used += range.end;
            }
        }
    }
}

/// Where a base belongs.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// After so many bytes.
    At(usize),
    /// There is one, it is not wanted, or there is no head to put it into.
    Nowhere,
    /// More of the page has to be seen.
    Unknown,
}

/// Looks for the place: behind the start tag of the head, before which stand only comments, a doctype and `<html>` (HTML,
/// 13.1). `is_all` says that no more will be seen.
fn place(html: &[u8], is_all: bool) -> Place {
    let unknown = if is_all { Place::Nowhere } else { Place::Unknown };
    let mut at = if html.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    loop {
        at += html[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let rest = &html[at..];
        let length = if rest.starts_with(b"<!--") {
            memchr::memmem::find(rest, b"-->").map(|end| end + 3)
        } else if begins(rest, b"<head") {
            let Some(length) = tag_length(rest) else { return unknown };
            return within_head(&html[at + length..], at + length, is_all);
        } else if begins(rest, b"<html") || rest.starts_with(b"<!") || rest.starts_with(b"<?") {
            tag_length(rest)
        } else if rest.len() < b"<head>".len() {
            None
        } else {
            return Place::Nowhere;
        };
        match length {
            Some(length) => at += length,
            None => return unknown,
        }
    }
}

/// Looks through what follows the start tag of a head, for the `<base>` of the page's own or a policy about one.
fn within_head(rest: &[u8], at: usize, is_all: bool) -> Place {
    let mut tags = memchr::memchr_iter(b'<', rest).map(|start| &rest[start..]);
    let ends = |tag: &[u8]| begins(tag, b"</head") || begins(tag, b"<body");
    let end = tags.find_map(|tag| ends(tag).then(|| rest.len() - tag.len()));
    let head = &rest[..end.unwrap_or(rest.len())];
    let has_base = memchr::memchr_iter(b'<', head).any(|start| begins(&head[start..], b"<base"));
    let has_policy = head.windows(8).any(|word| word.eq_ignore_ascii_case(b"base-uri"));
    match end {
        _ if has_base || has_policy => Place::Nowhere,
        None if !is_all => Place::Unknown,
        _ => Place::At(at),
    }
}

/// Whether a text begins with a tag of this name.
fn begins(text: &[u8], tag: &[u8]) -> bool {
    let Some((start, rest)) = text.split_at_checked(tag.len()) else { return false };
    start.eq_ignore_ascii_case(tag)
        && rest.first().is_some_and(|next| matches!(next, b'>' | b'/' | b' ' | b'\t'..=b'\r'))
}

/// The length of the tag that a text begins with, quoted values passed over.
fn tag_length(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    text.iter()
        .position(|byte| {
            match (quote, byte) {
                (Some(open), byte) if open == *byte => quote = None,
                (None, b'"' | b'\'') => quote = Some(*byte),
                _ => {}
            }
            quote.is_none() && *byte == b'>'
        })
        .map(|end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::Limits;

    #[test]
    fn the_base_goes_right_behind_the_start_of_the_head() {
        for before in [
            "<head>",
            "<!DOCTYPE html><html><head>",
            "\u{feff} <!doctype html PUBLIC \"a>b\">\n<!-- <head> --><HTML lang='>'>\r\n<HEAD data-x=\"</head>\">",
            "<?xml version=\"1.0\"?><html><head\n>",
        ] {
            for after in
                ["</head>", "<title>x</title><body>", "<link href='x'></HEAD ><base href=/>", "<basefont></head>"]
            {
                let page = format!("{before}{after}");
                assert_eq!(place(page.as_bytes(), false), Place::At(before.len()), "{page}");
                // However it comes, the answer is not another one.
                for end in 0..page.len() {
                    let found = place(&page.as_bytes()[..end], false);
                    assert!(found == Place::Unknown || found == Place::At(before.len()), "{end} of {page}: {found:?}");
                }
            }
        }
        assert_eq!(place(b"<head><title>", true), Place::At(6), "what is not seen any more is not waited for");
    }

    #[test]
    fn pages_that_need_none_stay_as_they_are() {
        for page in [
            "<html><head><meta charset=utf-8><base href='/x/'></head>",
            "<head><BASE\n></head>",
            "<head><meta http-equiv=Content-Security-Policy content=\"Base-URI 'none'\"></head>",
            "<html><body><head></head>",
            "just some text that is no page",
            "<header><head></head>",
            "<title>x</title><head></head>",
            "<\0h\0t\0m\0l\0>\0",
        ] {
            assert_eq!(place(page.as_bytes(), false), Place::Nowhere, "{page}");
        }
        for cut in ["", "<", "<he", "<!-- ", "<html lang=\"", "<!doctype"] {
            assert_eq!(place(cut.as_bytes(), false), Place::Unknown, "{cut}");
            assert_eq!(place(cut.as_bytes(), true), Place::Nowhere, "{cut}");
        }
    }

    fn changes(method: &str, lines: &str) -> bool {
        let request = format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n");
        let (mut positions, mut others) = (Vec::new(), Vec::new());
        let limits = Limits { bytes: 9999, fields: 50 };
        let head = Head::parse(request.as_bytes(), &mut positions, limits).unwrap();
        let answer = format!("HTTP/1.1 {lines}\r\n\r\n");
        let answer = response::Head::parse(answer.as_bytes(), &mut others, limits, method == "HEAD").unwrap();
        may_change(&head, &answer)
    }

    #[test]
    fn only_plain_pages_are_changed() {
        for lines in [
            "200 OK\r\nContent-Type: text/html",
            "404 Not Found\r\nContent-Type: Text/HTML ; charset=utf-8\r\nContent-Length: 5",
            "200 OK\r\nContent-Type: text/html\r\nContent-Encoding: identity\r\nTransfer-Encoding: chunked",
            "200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: default-src 'none'; base-uri 'self' x.example",
            "200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: base-uri *",
        ] {
            assert!(changes("GET", lines), "{lines}");
            assert!(!changes("HEAD", lines) && !changes("POST", lines), "{lines}");
        }
        for lines in [
            "200 OK",
            "200 OK\r\nContent-Type: text/plain",
            "200 OK\r\nContent-Type: text/html\r\nContent-Type: text/html",
            "200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\nContent-Encoding: gzip",
            "200 OK\r\nContent-Type: text/html\r\nContent-Encoding: identity, br",
            "200 OK\r\nContent-Type: text/html\r\nCache-Control: no-cache, No-Transform",
            "200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: base-uri 'none'",
            "200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: base-uri",
            "200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: x, BASE-URI https://x.example",
            "206 Partial Content\r\nContent-Type: text/html",
            "304 Not Modified\r\nContent-Type: text/html",
            "204 No Content\r\nContent-Type: text/html",
        ] {
            assert!(!changes("GET", lines), "{lines}");
        }
    }
}
