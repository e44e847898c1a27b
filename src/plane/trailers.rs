//! Trailers on their way through (RFC 9110 6.5): what may stand behind a body goes on, and what has its meaning only
//! before one stays behind.

use super::headers::{Named, line};
use crate::live::token::Token;
use crate::wire::body::LAST_CHUNK;
use crate::wire::fields::{Fields, Name, list};

/// Names that must not come late (RFC 9110 6.5.1), besides those that the gateway treats specially: request modifiers,
/// content negotiation, authentication, response controls and the format of the content.
const TOO_LATE: &[&[u8]] = &[
    b"age",
    b"authentication-info",
    b"content-encoding",
    b"content-language",
    b"content-location",
    b"content-range",
    b"content-security-policy-report-only",
    b"date",
    b"last-event-id",
    b"max-forwards",
    b"pragma",
    b"prefer",
    b"range",
    b"retry-after",
    b"vary",
    b"warning",
    b"x-method-override",
];

/// Beginnings of such names: negotiation, conditions, what browsers enforce, and the disguises of a method.
const TOO_LATE_PREFIXES: &[&[u8]] =
    &[b"accept-", b"access-control-", b"cross-origin-", b"if-", b"proxy-", b"sec-", b"x-http-method"];

/// Ends a chunked body, with those of its trailers that may go on. `head` holds the fields that came before the body,
/// and `token` the credential that went with them.
pub(super) fn end(trailers: Fields<'_>, head: Fields<'_>, token: Option<&Token>, out: &mut Vec<u8>) {
    let (last, end) = LAST_CHUNK.split_at(LAST_CHUNK.len() - 2);
    out.extend_from_slice(last);
    let named = Named::of(head);
    for field in trailers.iter().filter(|field| may_follow(field.name, token) && !named.contains(field.name)) {
        line(out, field.name, field.value);
    }
    out.extend_from_slice(end);
}

/// Announces the trailers that may go on, where some were announced (RFC 9110 6.6.2).
pub(super) fn announce(head: Fields<'_>, token: Option<&Token>, out: &mut Vec<u8>) {
    let named = Named::of(head);
    if named.contains(b"trailer") {
        return;
    }
    let mut before: &[u8] = b"Trailer: ";
    let announced = head.all(Name::Trailer).flat_map(list);
    for name in announced.filter(|name| may_follow(name, token) && !named.contains(name)) {
        out.extend_from_slice(before);
        out.extend_from_slice(name);
        before = b", ";
    }
    if before == b", " {
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a field may stand behind a body. What the gateway judges or sets in a head never may: it was judged and set
/// before the trailers came.
fn may_follow(name: &[u8], token: Option<&Token>) -> bool {
    // Some servers read an underscore as the hyphen that it is not.
    let is = |byte: &u8, known: &u8| byte.eq_ignore_ascii_case(known) || (*byte == b'_' && *known == b'-');
    let begins = |known: &&[u8]| name.len() >= known.len() && name.iter().zip(*known).all(|(a, b)| is(a, b));
    matches!(Name::of(name), Name::Other | Name::Validator)
        && !TOO_LATE.iter().any(|known| known.len() == name.len() && begins(known))
        && !TOO_LATE_PREFIXES.iter().any(begins)
        && !token.is_some_and(|token| token.is_own(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_judges_or_others_need_before_a_body_cannot_follow_it() {
        for name in [
            "Transfer-Encoding",
            "content-length",
            "Content_Length",
            "Trailer",
            "TE",
            "Host",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "Authorization",
            "Cookie",
            "Set-Cookie",
            "set_cookie",
            "WWW-Authenticate",
            "Proxy-Authorization",
            "Proxy-Status",
            "X-Forwarded-User",
            "X-Forwarded-Anything",
            "X-Embedgate-Org",
            "X_Embedgate_Org",
            "X-Request-Id",
            "Expect",
            "Cache-Control",
            "Content-Type",
            "Content-Encoding",
            "CONTENT_ENCODING",
            "Content-Range",
            "Range",
            "If-None-Match",
            "if_match",
            "Accept",
            "Accept-Encoding",
            "Sec-Fetch-Site",
            "Origin",
            "Location",
            "Content-Security-Policy-Report-Only",
            "Access-Control-Allow-Origin",
            "X-HTTP-Method-Override",
            "X-HTTP-Method",
            "Vary",
            "Date",
        ] {
            assert!(!may_follow(name.as_bytes(), None), "{name}");
        }
        for name in
            ["Digest", "Content-Digest", "ETag", "Server-Timing", "grpc-status", "grpc-message", "X-Sum", "dates"]
        {
            assert!(may_follow(name.as_bytes(), None), "{name}");
        }
    }

    #[test]
    fn what_the_credential_says_cannot_be_said_again_behind_the_body() {
        let token = Token::new(None, &[("X-Trino-User".to_owned(), "svc".to_owned())]);
        assert!(may_follow(b"x-checksum", Some(&token)) && may_follow(b"x-trino-user", None));
        assert!(!may_follow(b"x-trino-user", Some(&token)) && !may_follow(b"X_Trino_User", Some(&token)));
    }
}
