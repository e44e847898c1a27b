//! Heads on their way through: what came is judged field by field, what is ours is set last, so that nothing a client
//! sends can replace it.

mod to_client;

pub(super) use to_client::ToClient;

use super::account::RequestId;
use super::attribution::{Author, TRINO_TAGS};
use super::engine::impersonates;
use super::guard::Origin;
use super::trailers;
use crate::clock::UnixSeconds;
use crate::credential::sigv4::Body;
use crate::live::token::Token;
use crate::model::engine::{Dialect, Manner};
use crate::model::ids::MAX_ID_LEN;
use crate::model::policy::HostSeen;
use crate::model::principal::SigV4;
use crate::model::upstream::Node;
use crate::model::url::Scheme;
use crate::net::Peer;
use crate::session::Session;
use crate::session::carrier::{session_in, strip_cookies};
use crate::session::seal::PREFIX;
use crate::wire::body::Framing;
use crate::wire::fields::{Field, Fields, KindSet, Name, list};
use crate::wire::request;

/// What signs a head when nothing changes in it any more.
#[derive(Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) keys: &'a SigV4,
    pub(super) now: UnixSeconds,
}

impl Signer<'_> {
    /// Adds a signature to the head that begins at `start`.
    fn sign(self, framing: Framing, held: Option<&[u8]>, start: usize, out: &mut Vec<u8>) {
        let body = match held {
            Some(body) => Body::Whole(body),
            None if framing == Framing::Empty => Body::Whole(b""),
            None => Body::Unsigned,
        };
        let lines = self.keys.sign(&out[start..], body, self.now);
        out.extend_from_slice(lines.as_bytes());
    }
}

/// What a request's head becomes on the way to the upstream.
#[allow(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub(super) struct ToUpstream<'a> {
    pub(super) head: &'a request::Head<'a>,
    pub(super) node: &'a Node,
    /// How much of the target the upstream does not see.
    pub(super) prefix: usize,
    /// What is said to an engine, and how; none for what is none.
    pub(super) manner: Option<&'a Manner>,
    /// Whose host the upstream sees.
    pub(super) host: HostSeen,
    /// Whether the answer is to come without compression.
    pub(super) uncompressed: bool,
    /// Whether backends are told whose a statement is.
    pub(super) attributes: bool,
    /// The whole body, where it has been held back; it goes out with the head.
    pub(super) held: Option<&'a [u8]>,
    /// What signs the head when all of it is written.
    pub(super) signer: Option<Signer<'a>>,
    /// The credential; none leaves the client's own fields alone.
    pub(super) token: Option<&'a Token>,
    /// Whether the client's own `Authorization` is not for the upstream: it carried the session, or a credential of
    /// ours takes its place.
    pub(super) drop_authorization: bool,
    /// Whether the page's address may hold a session and so must not go on.
    pub(super) drop_referer: bool,
    pub(super) origin: Origin,
    /// The protocol asked for, when it is one that is passed on.
    pub(super) upgrade: Option<&'a str>,
    pub(super) session: Option<&'a Session>,
    pub(super) peer: &'a Peer,
    /// Whether `peer` may say whom it speaks for.
    pub(super) trusted: bool,
    pub(super) scheme: Scheme,
    pub(super) request_id: &'a RequestId,
}

/// The fields of a request that are not judged, unless by their names.
const PASSED_TO_UPSTREAM: KindSet = KindSet::all_but(&[
    Name::Host,
    Name::Connection,
    Name::HopByHop,
    Name::Te,
    Name::Trailer,
    Name::ContentLength,
    Name::TransferEncoding,
    Name::Upgrade,
    Name::Identity,
    Name::Disguised,
    Name::XForwardedFor,
    Name::XForwardedProto,
    Name::XRequestId,
    Name::Expect,
    Name::Authorization,
    Name::Referer,
    Name::Origin,
    Name::Cookie,
]);

impl ToUpstream<'_> {
    /// Writes the head.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.head.method.as_bytes());
        let target = &self.head.target[self.prefix..];
        let base = self.manner.map_or("", |manner| &*manner.base);
        out.push(b' ');
        out.extend_from_slice(base.as_bytes());
        out.extend_from_slice(if target.starts_with('/') || !base.is_empty() { b"" } else { b"/" });
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        line(out, b"Host", self.outside_host().unwrap_or(self.node.url.authority()).as_bytes());
        let named = Named::of(self.head.fields);
        self.head.fields.write(self.untouched(named), out, |field, out| self.pass(field, named, out));
        self.framing(out);
        self.identity(out);
        if self.uncompressed {
            line(out, b"Accept-Encoding", b"identity");
        }
        self.connection(out);
        if let Some(signer) = &self.signer {
            signer.sign(self.head.framing, self.held, start, out);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.held.unwrap_or_default());
    }

    /// The host that the client asks for, where the upstream sees it.
    fn outside_host(&self) -> Option<&str> {
        // HTTP/1.0 may name none.
        Some(self.head.authority).filter(|host| self.host == HostSeen::Outside && !host.is_empty())
    }

    /// The fields that [`Self::pass`] passes on whatever their names and values.
    fn untouched(&self, named: Named<'_>) -> KindSet {
        let token_has_names = self.token.is_some_and(Token::has_names);
        if named.any || token_has_names || self.manner.is_some() {
            return KindSet::NONE;
        }
        PASSED_TO_UPSTREAM.without_if(self.uncompressed, Name::AcceptEncoding)
    }

    /// Passes on a field of the client's, or does not.
    fn pass(&self, field: Field<'_>, named: Named<'_>, out: &mut Vec<u8>) {
        match field.kind {
            Name::Host
            | Name::Connection
            | Name::HopByHop
            | Name::Te
            | Name::Trailer
            | Name::ContentLength
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::Identity
            | Name::Disguised
            | Name::XForwardedFor
            | Name::XForwardedProto
            | Name::XRequestId => {}
            // What was asked for has been given: the body is here already, or there is none.
            Name::Expect if !self.head.expects_continue => {}
            // The session never goes on, even where the request came by a cookie.
            Name::Authorization if self.drop_authorization || session_in(field.value).is_some() => {}
            Name::Referer if self.drop_referer || leads_to_session(field.value) => {}
            Name::Origin if self.host == HostSeen::Own && matches!(self.origin, Origin::Own | Origin::Frontend) => {
                self.own_origin(out);
            }
            Name::Cookie => cookies(field, out),
            Name::AcceptEncoding if self.uncompressed => {}
            _ if named.contains(field.name) || self.token.is_some_and(|token| token.is_own(field.name)) => {}
            _ if self.manner.is_some_and(|manner| impersonates(manner, field.name)) => {}
            _ if self.author().is_some() && is_named(field.name, &TRINO_TAGS) => {}
            _ => field.write(out),
        }
    }

    /// To the app, its own page asked: the gateway has already told apart who did.
    fn own_origin(&self, out: &mut Vec<u8>) {
        let url = &self.node.url;
        for part in ["Origin: ", url.scheme().as_str(), "://", url.authority(), "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// What concerns the connection to the upstream alone.
    fn connection(&self, out: &mut Vec<u8>) {
        if let Some(protocol) = self.upgrade {
            line(out, b"Connection", b"Upgrade");
            line(out, b"Upgrade", protocol.as_bytes());
        } else if self.head.takes_trailers() {
            // `TE` has to be named by `Connection` (RFC 9110 10.1.4).
            line(out, b"Connection", b"TE");
            line(out, b"TE", b"trailers");
        }
    }

    fn framing(&self, out: &mut Vec<u8>) {
        let framing = self.held.map_or(self.head.framing, |body| Framing::Length(body.len() as u64));
        match framing {
            Framing::Length(length) => content_length(length, out),
            Framing::Empty if self.head.fields.first(Name::ContentLength).is_some() => content_length(0, out),
            Framing::Chunked => {
                line(out, b"Transfer-Encoding", b"chunked");
                trailers::announce(self.head.fields, self.token, out);
            }
            Framing::Empty | Framing::UntilClose => {}
        }
    }

    fn identity(&self, out: &mut Vec<u8>) {
        if let Some(token) = self.token {
            out.extend_from_slice(token.lines());
        }
        if let Some(user) = self.manner.and_then(|manner| manner.user.as_deref()) {
            line(out, b"X-Trino-User", user.as_bytes());
        }
        if let Some(author) = self.author() {
            let own = self.head.fields.iter().filter(|field| is_named(field.name, &TRINO_TAGS));
            author.trino_tags(own.map(|field| field.value), out);
        }
        self.forwarded(out);
        if let Some(session) = self.session {
            out.extend_from_slice(session.lines());
        }
        line(out, b"X-Request-Id", self.request_id);
    }

    /// Whose a statement is, where one may begin whose engine asks for that in a field.
    fn author(&self) -> Option<Author<'_>> {
        let is_trino = self.manner.is_some_and(|manner| manner.dialect == Dialect::Trino);
        let session = self.session.filter(|_| self.attributes && is_trino && self.head.method == "POST")?;
        Some(Author::new(session, self.request_id))
    }

    fn forwarded(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if self.trusted {
            for before in self.head.fields.all(Name::XForwardedFor).flat_map(list) {
                out.extend_from_slice(before);
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(self.peer.text());
        out.extend_from_slice(b"\r\n");
        let told = if self.trusted { self.head.fields.first(Name::XForwardedProto) } else { None };
        let scheme = match told {
            Some(told) if told.eq_ignore_ascii_case(b"https") => Scheme::Https,
            Some(told) if told.eq_ignore_ascii_case(b"http") => Scheme::Http,
            _ => self.scheme,
        };
        line(out, b"X-Forwarded-Proto", scheme.as_str().as_bytes());
        if let Some(host) = self.outside_host() {
            line(out, b"X-Forwarded-Host", host.as_bytes());
        }
    }
}

/// The media type of a `Content-Type`, without its parameters.
pub(super) fn media_type(content_type: &[u8]) -> &[u8] {
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether the address of a page has a session in it.
fn leads_to_session(referer: &[u8]) -> bool {
    holds_token(referer) || memchr::memmem::find(referer, b"/.embedgate/").is_some()
}

/// Whether a field has one of these names, which are in lower case. Some servers read underscores as hyphens.
pub(super) fn is_named(name: &[u8], known: &[&[u8]]) -> bool {
    let is_same = |one: &u8, other: &u8| one.eq_ignore_ascii_case(other) || (*one == b'_' && *other == b'-');
    known
        .iter()
        .any(|known| name.len() == known.len() && name.iter().zip(*known).all(|(one, other)| is_same(one, other)))
}

/// Whether an address holds a sealed token: one of ours, or one of FireFly's, which are longer than any id.
fn holds_token(address: &[u8]) -> bool {
    let apps = b"/app-proxy/";
    let long = |at: usize| {
        let rest = &address[at + apps.len()..];
        rest.iter().position(|b| *b == b'/').unwrap_or(rest.len()) > MAX_ID_LEN
    };
    memchr::memmem::find(address, PREFIX.as_bytes()).is_some() || memchr::memmem::find(address, apps).is_some_and(long)
}

fn cookies(field: Field<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"Cookie: ");
    let empty = out.len();
    strip_cookies(field.value, out);
    if out.len() == empty {
        out.truncate(start);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

/// The fields that `Connection` names besides the usual options: they concern one hop only (RFC 9110 7.6.1).
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    fields: Fields<'a>,
    any: bool,
}

impl<'a> Named<'a> {
    pub(super) fn of(fields: Fields<'a>) -> Self {
        let usual = |option: &[u8]| {
            [&b"close"[..], b"keep-alive", b"upgrade"].iter().any(|usual| option.eq_ignore_ascii_case(usual))
        };
        let any = fields.all(Name::Connection).flat_map(list).any(|option| !usual(option));
        Self { fields, any }
    }

    pub(super) fn contains(self, name: &[u8]) -> bool {
        self.any && self.fields.all(Name::Connection).flat_map(list).any(|option| option.eq_ignore_ascii_case(name))
    }
}

fn content_length(length: u64, out: &mut Vec<u8>) {
    line(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
}

pub(super) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
