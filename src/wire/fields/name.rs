//! Field names: what the gateway knows about each.

mod known;

pub(in crate::wire) use known::{LONGEST, at_start_of};

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

impl Name {
    /// Classifies a field name, in any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        known::find(&padded(name), name.len()).unwrap_or_else(|| Self::of_unknown(name))
    }

    /// Classifies a name that is not in the table as it stands.
    pub(in crate::wire) fn of_unknown(name: &[u8]) -> Self {
        let hyphens = if name.contains(&b'_') { Self::of_hyphen_form(name) } else { None };
        match hyphens {
            Some(kind @ (Self::Other | Self::Identity)) => kind,
            Some(_) => Self::Disguised,
            None if starts_with_identity(name) => Self::Identity,
            None => Self::Other,
        }
    }

    /// What a name with hyphens in place of its underscores is in the table.
    fn of_hyphen_form(name: &[u8]) -> Option<Self> {
        let mut hyphens = padded(name);
        for byte in hyphens.iter_mut().filter(|byte| **byte == b'_') {
            *byte = b'-';
        }
        known::find(&hyphens, name.len())
    }
}

/// The beginning of a name, with nothing behind it.
fn padded(name: &[u8]) -> [u8; LONGEST] {
    let (mut padded, length) = ([0; LONGEST], name.len().min(LONGEST));
    padded[..length].copy_from_slice(&name[..length]);
    padded
}

/// Whether a name begins with a prefix that is the gateway's own, hyphens and underscores alike.
fn starts_with_identity(name: &[u8]) -> bool {
    [&b"x-forwarded-"[..], b"x-embedgate-"].iter().any(|prefix| {
        name.len() >= prefix.len()
            && name.iter().zip(*prefix).all(|(n, p)| n.eq_ignore_ascii_case(p) || (*n == b'_' && *p == b'-'))
    })
}
