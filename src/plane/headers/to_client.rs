//! The heads of answers: what the app says is passed on, but for what only the gateway may say to browsers.

use super::{Named, content_length, line, media_type};
use crate::plane::cookie::is_private;
use crate::plane::engine::Leads;
use crate::plane::outside::Outside;
use crate::plane::trailers;
use crate::wire::body::Framing;
use crate::wire::fields::{Field, KindSet, Name};
use crate::wire::response;
use std::io::Write;
use std::time::Duration;

/// What an answer's head becomes on the way to the client.
pub(in crate::plane) struct ToClient<'a> {
    pub(in crate::plane) head: &'a response::Head<'a>,
    /// Whether the credential upstream is ours, and so a challenge is not for the client.
    pub(in crate::plane) ours: bool,
    /// A cookie of ours to set, which makes the answer this user's own.
    pub(in crate::plane) cookie: Option<&'a str>,
    /// The `frame-ancestors` directive for pages; none leaves the app's own rules for frames alone.
    pub(in crate::plane) frames: Option<&'a str>,
    /// Where the app is, from outside.
    pub(in crate::plane) outside: Outside<'a>,
    /// Where the answer leads a client of an engine.
    pub(in crate::plane) leads: &'a Leads,
    /// Whether the body is another than the app's.
    pub(in crate::plane) changed: bool,
    /// How the body is framed for the client.
    pub(in crate::plane) framing: Framing,
    /// Whether trailers may follow the body.
    pub(in crate::plane) trailers: bool,
    /// How long the request waited for the app to start.
    pub(in crate::plane) held: Option<Duration>,
    /// What to say of the connection; none for interim answers.
    pub(in crate::plane) connection: Option<&'static str>,
}

/// What the fields of an answer that have been passed on say.
#[derive(Default)]
struct Said {
    /// Who may frame it.
    frames: bool,
    /// That it is a page.
    html: bool,
    /// That shared caches may not keep it.
    private: bool,
}

/// The fields of an answer that are not judged, unless by their names.
const PASSED_TO_CLIENT: KindSet = KindSet::all_but(&[
    Name::FrameOptions,
    Name::ContentSecurityPolicy,
    Name::Connection,
    Name::HopByHop,
    Name::Te,
    Name::Trailer,
    Name::ContentLength,
    Name::TransferEncoding,
    Name::Upgrade,
    Name::WwwAuthenticate,
    Name::SetCookie,
    Name::Location,
    Name::Refresh,
    Name::ServiceWorkerAllowed,
    Name::ReferrerPolicy,
    Name::ClearSiteData,
    Name::OwnHostPolicy,
]);

impl ToClient<'_> {
    /// Writes the head.
    pub(in crate::plane) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa::Buffer::new().format(self.head.status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.head.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        let named = Named::of(self.head.fields);
        let mut said = Said::default();
        self.head.fields.write(self.untouched(named), out, |field, out| self.pass(field, named, &mut said, out));
        self.add(&said, out);
        match self.framing {
            Framing::Length(length) => content_length(length, out),
            Framing::Chunked => {
                line(out, b"Transfer-Encoding", b"chunked");
                if self.trailers {
                    trailers::announce(self.head.fields, None, out);
                }
            }
            Framing::Empty => self.told_length(out),
            Framing::UntilClose => {}
        }
        if let Some(connection) = self.connection {
            line(out, b"Connection", connection.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The fields that [`Self::pass`] passes on whatever their names and values, and that say nothing it would have to
    /// remember.
    fn untouched(&self, named: Named<'_>) -> KindSet {
        if named.any || *self.leads != Leads::AsTold {
            return KindSet::NONE;
        }
        let is_linked = !self.outside.link.is_empty();
        PASSED_TO_CLIENT
            .without_if(self.changed, Name::Validator)
            .without_if(is_linked, Name::ContentType)
            .without_if(self.cookie.is_some(), Name::CacheControl)
    }

    /// Passes on a field of the app's, or does not.
    fn pass(&self, field: Field<'_>, named: Named<'_>, said: &mut Said, out: &mut Vec<u8>) {
        match (field.kind, self.frames) {
            (Name::FrameOptions, Some(_)) => return,
            (Name::ContentSecurityPolicy, Some(ancestors)) => {
                said.frames |= policy(field, ancestors, out);
                return;
            }
            _ => {}
        }
        match field.kind {
            Name::Connection
            | Name::HopByHop
            | Name::Te
            | Name::Trailer
            | Name::ContentLength
            | Name::TransferEncoding => {}
            Name::Upgrade if self.head.status != 101 => {}
            Name::WwwAuthenticate if self.ours => {}
            Name::Validator if self.changed => {}
            _ if self.leads.replaces(field.name) => {
                if let Leads::To(host) = self.leads {
                    line(out, field.name, host.as_bytes());
                }
            }
            _ if named.contains(field.name) || self.outside.pass(field, out) => {}
            kind => {
                said.html |= kind == Name::ContentType && is_html(field.value);
                said.private |= kind == Name::CacheControl && self.cookie.is_some() && is_private(field.value);
                field.write(out);
            }
        }
    }

    /// Adds what is ours and has not been said yet.
    fn add(&self, said: &Said, out: &mut Vec<u8>) {
        if let Some(ancestors) = self.frames.filter(|_| !said.frames) {
            line(out, b"Content-Security-Policy", ancestors.as_bytes());
        }
        if let Some(cookie) = self.cookie {
            line(out, b"Set-Cookie", cookie.as_bytes());
            if !said.private {
                // Beside what the app has said: directives in several fields are one list (RFC 9110 5.3).
                line(out, b"Cache-Control", b"private");
            }
        }
        if let Some(held) = self.held {
            // Writing to a vector cannot fail.
            let _ = write!(out, "X-Embedgate-Cold-Start: {:.3}\r\n", held.as_secs_f64());
        }
        if !self.outside.link.is_empty() {
            // Not no-referrer, which would take the Origin of forms away as well (Fetch, 3.1 "Origin header").
            line(out, b"Referrer-Policy", b"same-origin");
            if said.html {
                line(out, b"Cache-Control", b"no-store");
            }
        }
    }

    /// An answer to HEAD and a 304 tell the length of a body that does not come (RFC 9110 8.6).
    fn told_length(&self, out: &mut Vec<u8>) {
        if let Some(length) = self.head.fields.first(Name::ContentLength)
            && self.head.status >= 200
            && self.head.status != 204
        {
            line(out, b"Content-Length", length);
        }
    }
}

/// Passes on a policy with another `frame-ancestors`, everything else byte for byte; says whether it had one. A field may
/// hold several policies with commas between them, all of which count (CSP 3, 2.2.1).
fn policy(field: Field<'_>, ancestors: &str, out: &mut Vec<u8>) -> bool {
    let mut framed = false;
    out.extend_from_slice(field.name);
    out.extend_from_slice(b": ");
    for (at, policy) in field.value.split(|b| *b == b',').enumerate() {
        if at > 0 {
            out.push(b',');
        }
        for (at, directive) in policy.split(|b| *b == b';').enumerate() {
            if at > 0 {
                out.push(b';');
            }
            let name = directive.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
            if name.eq_ignore_ascii_case(b"frame-ancestors") {
                framed = true;
                out.extend_from_slice(&directive[..directive.len() - directive.trim_ascii_start().len()]);
                out.extend_from_slice(ancestors.as_bytes());
            } else {
                out.extend_from_slice(directive);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    framed
}

/// Whether a `Content-Type` is that of a page.
fn is_html(content_type: &[u8]) -> bool {
    let kind = media_type(content_type);
    kind.eq_ignore_ascii_case(b"text/html") || kind.eq_ignore_ascii_case(b"application/xhtml+xml")
}
