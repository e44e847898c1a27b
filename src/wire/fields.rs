//! Header fields as positions in the head they came in, each name classified once.

/// What the gateway knows about a field name. Every later pass compares this, not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Not special: passed on as it is.
    Other,
    /// Target host (RFC 9110 7.2).
    Host,
    /// Connection options (RFC 9110 7.6.1).
    Connection,
    /// Concerns one hop only and is never passed on (RFC 9110 7.6.1).
    HopByHop,
    /// Body length (RFC 9110 8.6).
    ContentLength,
    /// Body coding (RFC 9112 6.1).
    TransferEncoding,
    /// Which transfer codings the sender takes; passed on only as `trailers`.
    Te,
    /// Announces trailers (RFC 9110 6.6.2); passed on only where they may follow.
    Trailer,
    /// Asks for another protocol (RFC 9110 7.8).
    Upgrade,
    /// Asks for a go-ahead before the body (RFC 9110 10.1.1).
    Expect,
    /// What a body is (RFC 9110 8.3).
    ContentType,
    /// How a body is coded (RFC 9110 8.4).
    ContentEncoding,
    /// Says which bytes an answer consists of, or that parts of it may be asked for: validators and digests (RFC 9110 8.8
    /// and 14.3, RFC 9530).
    Validator,
    /// Cookies of the client.
    Cookie,
    /// Credentials of the client.
    Authorization,
    /// Origin of the page that made the request (RFC 6454 7).
    Origin,
    /// Address of the page that made the request.
    Referer,
    /// What the client takes as an answer.
    Accept,
    /// In which codings the client takes an answer.
    AcceptEncoding,
    /// In a preflight: the method that a page wants to use (Fetch, 3.2.2).
    AccessControlRequestMethod,
    /// In a preflight: the fields that a page wants to send.
    AccessControlRequestHeaders,
    /// Fetch metadata: relation of the requesting page to the target.
    SecFetchSite,
    /// Fetch metadata: how the request was made.
    SecFetchMode,
    /// Fetch metadata: what the answer is for.
    SecFetchDest,
    /// Addresses a request passed through.
    XForwardedFor,
    /// Scheme of the first hop.
    XForwardedProto,
    /// Name of a request, for logs.
    XRequestId,
    /// Claims who the client is or how it came; only the gateway may say that.
    Identity,
    /// An underscore form of a name that matters: some servers read it as the hyphen form.
    Disguised,
    /// A cookie the server sets.
    SetCookie,
    /// Where a redirect leads.
    Location,
    /// Where a page leads after a while (HTML, "shared declarative refresh steps").
    Refresh,
    /// How far a service worker may reach (Service Workers, 3.4.1).
    ServiceWorkerAllowed,
    /// What a browser has to forget of a host.
    ClearSiteData,
    /// What holds for the whole host of whoever says it: HSTS (RFC 6797), alternative services (RFC 7838), key pins.
    OwnHostPolicy,
    /// Asks the client for a credential.
    WwwAuthenticate,
    /// What a page may do, and who may frame it.
    ContentSecurityPolicy,
    /// What of its address a page tells others.
    ReferrerPolicy,
    /// Who may frame a page, in the form that `frame-ancestors` has replaced.
    FrameOptions,
    /// What caches may do with an answer (RFC 9111 5.2).
    CacheControl,
    /// Until when an answer may be kept (RFC 9111 5.3).
    Expires,
    /// Says that an answer comes out of a cache, or tells one kind of shared caches what to do with it (RFC 9213).
    SharedCache,
}

// Each kind has a bit in a word.
const _: () = assert!((Name::SharedCache as u32) < u64::BITS);

/// Longest name that can be special.
const LONGEST: usize = 32;

impl Name {
    /// Classifies a field name, in any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        if name.len() > LONGEST {
            return if starts_with_identity(name) { Self::Identity } else { Self::Other };
        }
        let mut lower = [0u8; LONGEST];
        let mut underscore = false;
        for (to, from) in lower.iter_mut().zip(name) {
            underscore |= *from == b'_';
            *to = if *from == b'_' { b'-' } else { from.to_ascii_lowercase() };
        }
        match Self::of_lower(&lower[..name.len()]) {
            Self::Other => Self::Other,
            Self::Identity => Self::Identity,
            _ if underscore => Self::Disguised,
            known => known,
        }
    }

    /// A bit of its own for each kind.
    fn bit(self) -> u64 {
        1 << self as u32
    }

    fn of_lower(name: &[u8]) -> Self {
        match name {
            b"host" => Self::Host,
            b"connection" => Self::Connection,
            b"keep-alive"
            | b"proxy-connection"
            | b"proxy-authorization"
            | b"proxy-authenticate"
            | b"http2-settings" => Self::HopByHop,
            b"trailer" => Self::Trailer,
            b"content-length" => Self::ContentLength,
            b"transfer-encoding" => Self::TransferEncoding,
            b"te" => Self::Te,
            b"upgrade" => Self::Upgrade,
            b"expect" => Self::Expect,
            b"content-type" => Self::ContentType,
            b"content-encoding" => Self::ContentEncoding,
            b"etag" | b"last-modified" | b"accept-ranges" | b"content-md5" | b"digest" | b"content-digest"
            | b"repr-digest" => Self::Validator,
            b"cookie" => Self::Cookie,
            b"authorization" => Self::Authorization,
            b"origin" => Self::Origin,
            b"referer" => Self::Referer,
            b"accept" => Self::Accept,
            b"accept-encoding" => Self::AcceptEncoding,
            b"access-control-request-method" => Self::AccessControlRequestMethod,
            b"access-control-request-headers" => Self::AccessControlRequestHeaders,
            b"sec-fetch-site" => Self::SecFetchSite,
            b"sec-fetch-mode" => Self::SecFetchMode,
            b"sec-fetch-dest" => Self::SecFetchDest,
            b"x-forwarded-for" => Self::XForwardedFor,
            b"x-forwarded-proto" => Self::XForwardedProto,
            b"x-request-id" => Self::XRequestId,
            b"set-cookie" => Self::SetCookie,
            b"location" => Self::Location,
            b"refresh" => Self::Refresh,
            b"service-worker-allowed" => Self::ServiceWorkerAllowed,
            b"clear-site-data" => Self::ClearSiteData,
            b"strict-transport-security" | b"alt-svc" | b"public-key-pins" => Self::OwnHostPolicy,
            b"www-authenticate" => Self::WwwAuthenticate,
            b"content-security-policy" => Self::ContentSecurityPolicy,
            b"referrer-policy" => Self::ReferrerPolicy,
            b"x-frame-options" => Self::FrameOptions,
            b"cache-control" => Self::CacheControl,
            b"expires" => Self::Expires,
            b"age"
            | b"cdn-cache-control"
            | b"cloudflare-cdn-cache-control"
            | b"surrogate-control"
            | b"x-accel-expires" => Self::SharedCache,
            b"forwarded"
            | b"x-real-ip"
            | b"x-original-url"
            | b"x-original-host"
            | b"x-rewrite-url"
            | b"true-client-ip"
            | b"cf-connecting-ip"
            | b"x-client-ip"
            | b"x-cluster-client-ip"
            | b"proxy"
            | b"remote-user"
            | b"x-remote-user" => Self::Identity,
            _ if starts_with_identity(name) => Self::Identity,
            _ => Self::Other,
        }
    }
}

/// Whether a name begins with a prefix that is the gateway's own, hyphens and underscores alike.
fn starts_with_identity(name: &[u8]) -> bool {
    [&b"x-forwarded-"[..], b"x-embedgate-"].iter().any(|prefix| {
        name.len() >= prefix.len()
            && name.iter().zip(*prefix).all(|(n, p)| n.eq_ignore_ascii_case(p) || (*n == b'_' && *p == b'-'))
    })
}

/// Where one field is in the head it came in.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    kind: Name,
    name: (u32, u32),
    value: (u32, u32),
}

impl Position {
    /// The position of a name and a value that are parts of `head`.
    pub(super) fn of(head: &[u8], name: &str, value: &[u8]) -> Self {
        let range = |part: &[u8]| {
            let start = part.as_ptr() as usize - head.as_ptr() as usize;
            (start as u32, (start + part.len()) as u32)
        };
        Self { kind: Name::of(name.as_bytes()), name: range(name.as_bytes()), value: range(value) }
    }
}

/// A header field.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// What is known about the name.
    pub kind: Name,
    /// The name as sent.
    pub name: &'a [u8],
    /// The value without the white space around it.
    pub value: &'a [u8],
}

/// The header fields of one head, in the order they came.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    head: &'a [u8],
    positions: &'a [Position],
    /// A bit for each kind that there is: most of what is asked for is not there.
    kinds: u64,
}

impl<'a> Fields<'a> {
    /// The fields of `head` at `positions`.
    pub(super) fn new(head: &'a [u8], positions: &'a [Position]) -> Self {
        let kinds = positions.iter().fold(0, |kinds, position| kinds | position.kind.bit());
        Self { head, positions, kinds }
    }

    /// Whether there is a field of a kind.
    fn has(self, kind: Name) -> bool {
        self.kinds & kind.bit() != 0
    }

    /// All fields, in order.
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> {
        let slice = move |(start, end): (u32, u32)| &self.head[start as usize..end as usize];
        self.positions.iter().map(move |p| Field { kind: p.kind, name: slice(p.name), value: slice(p.value) })
    }

    /// The values of all fields of one kind.
    pub fn all(self, kind: Name) -> impl Iterator<Item = &'a [u8]> {
        let positions = if self.has(kind) { self.positions } else { &[] };
        Self { positions, ..self }.iter().filter(move |field| field.kind == kind).map(|field| field.value)
    }

    /// The value of the first field of a kind.
    #[must_use]
    pub fn first(self, kind: Name) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    /// The value of a field that must not be repeated; `Err` when it is.
    pub fn single(self, kind: Name) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.all(kind);
        let first = values.next();
        if values.next().is_some() { Err(Repeated) } else { Ok(first) }
    }
}

/// A field that may stand once only stands twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

/// The members of a comma-separated list (RFC 9110 5.6.1), without the white space around them and without empty ones.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified_in_any_case() {
        assert_eq!(Name::of(b"HOST"), Name::Host);
        assert_eq!(Name::of(b"Content-Length"), Name::ContentLength);
        assert_eq!(Name::of(b"x-custom"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }

    #[test]
    fn identity_is_recognised_in_every_disguise() {
        for name in [
            "X-Forwarded-User",
            "x_forwarded_user",
            "X-Forwarded_Email",
            "X_EMBEDGATE_ORG",
            "x-embedgate-anything-at-all-that-is-long",
            "Forwarded",
            "X_Real_IP",
            "True-Client-Ip",
        ] {
            assert_eq!(Name::of(name.as_bytes()), Name::Identity, "{name}");
        }
        assert_eq!(Name::of(b"x-forwardedness"), Name::Other);
    }

    #[test]
    fn underscore_forms_of_names_that_matter_are_told_apart() {
        for name in ["Content_Length", "TRANSFER_ENCODING", "authorization_", "X_Request_Id"] {
            let expected = if name == "authorization_" { Name::Other } else { Name::Disguised };
            assert_eq!(Name::of(name.as_bytes()), expected, "{name}");
        }
        assert_eq!(Name::of(b"my_header"), Name::Other);
    }

    #[test]
    fn lists_skip_empty_members() {
        assert_eq!(list(b" a, ,b ,").collect::<Vec<_>>(), [b"a", b"b"]);
    }
}
