//! Base URLs of upstreams, and the policy of which hosts the gateway may talk to.

mod authority;

pub use authority::{is_authority, is_host, split_authority};

use http::uri::PathAndQuery;
use std::fmt;
use std::net::IpAddr;

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The scheme as written in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port a URL of this scheme means when it names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The origin of an upstream or of a front end: scheme, host and port, and nothing else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    scheme: Scheme,
    /// Lower case; an IPv6 address without its brackets.
    host: String,
    port: u16,
    /// `host` or `host:port`, as it stands in a Host field (RFC 9110 7.2).
    authority: String,
}

/// Why a text is not a base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Not an absolute URL.
    #[error("{0:?} is not a URL such as https://host or http://127.0.0.1:8501")]
    Malformed(String),
    /// Neither http nor https.
    #[error("{0:?} is neither http nor https")]
    Scheme(String),
    /// User name or password before the host.
    #[error("a URL here must not hold a user name or password, nor any other '@'")]
    UserInfo,
    /// More than scheme, host and port.
    #[error("{0:?} has a path, query or fragment; only scheme, host and port belong here")]
    Path(String),
    /// A path or query that cannot stand in a request line.
    #[error("must not hold spaces, '#' or letters beyond ASCII")]
    Target,
    /// A host that is no DNS name and no IP address.
    #[error("{0:?} is not a host name")]
    Host(String),
}

impl BaseUrl {
    /// Parses `scheme://host[:port][/]`.
    ///
    /// # Errors
    /// [`InvalidUrl`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        // First of all, because the other errors show the text, and it may hold a password.
        if text.contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        let malformed = || InvalidUrl::Malformed(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let scheme = match scheme {
            s if s.eq_ignore_ascii_case("http") => Scheme::Http,
            s if s.eq_ignore_ascii_case("https") => Scheme::Https,
            other => return Err(InvalidUrl::Scheme(other.to_owned())),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(InvalidUrl::Path(text.to_owned()));
        }
        let (host, port) = split_authority(rest).ok_or_else(malformed)?;
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err(InvalidUrl::Host(host));
        }
        Ok(Self::from_parts(scheme, host, port.unwrap_or(scheme.default_port())))
    }

    /// `http://localhost` at a port: how this machine reaches itself.
    #[must_use]
    pub fn localhost(port: u16) -> Self {
        Self::from_parts(Scheme::Http, "localhost".to_owned(), port)
    }

    fn from_parts(scheme: Scheme, host: String, port: u16) -> Self {
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == scheme.default_port() { shown } else { format!("{shown}:{port}") };
        Self { scheme, host, port, authority }
    }

    /// A page of this host, by its path and query.
    ///
    /// # Errors
    /// [`InvalidUrl::Target`].
    pub fn at(&self, target: &str) -> Result<Endpoint, InvalidUrl> {
        let target = target.parse().map_err(|_| InvalidUrl::Target)?;
        Ok(Endpoint { base: self.clone(), target })
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, in lower case; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own when none was written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host` or `host:port`, as a Host field has it.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the host is an IP address written out.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether the host is this machine: `localhost`, a name below it (RFC 6761 6.3) or a loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback_name(&self.host)
    }
}

/// The origin as browsers write it (RFC 6454 6.2).
/// A page of a host: its origin, and what is asked for there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: BaseUrl,
    target: PathAndQuery,
}

impl Endpoint {
    /// Parses `scheme://host[:port][/path][?query]`.
    ///
    /// # Errors
    /// [`InvalidUrl`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let path = text.find("://").and_then(|at| text[at + 3..].find('/').map(|slash| at + 3 + slash));
        let (base, target) = text.split_at(path.unwrap_or(text.len()));
        let base = BaseUrl::parse(base)?;
        let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        match target.parse() {
            Ok(target) if is_plain => Ok(Self { base, target }),
            _ if target.is_empty() => Ok(base.into()),
            _ => Err(InvalidUrl::Target),
        }
    }

    /// Its origin.
    #[must_use]
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Path and query, as they stand in a request line.
    #[must_use]
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }
}

impl From<BaseUrl> for Endpoint {
    fn from(base: BaseUrl) -> Self {
        Self { base, target: PathAndQuery::from_static("/") }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.base, self.target)
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whether `host` is `localhost`, below `.localhost`, or a loopback address.
#[must_use]
pub fn is_loopback_name(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Which hosts the gateway may send requests and credentials to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    /// Apex domains in lower case: the domain itself and every name below it. IP addresses and `localhost` may stand here
    /// only when `private` is set.
    pub domains: Vec<String>,
    /// Whether private, loopback and link-local addresses, and plain http, are allowed.
    pub private: bool,
}

/// Why an upstream's URL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The host is outside `upstreams.allowed_domains`.
    #[error("host {0} is not in upstreams.allowed_domains")]
    Domain(String),
    /// An IP address or loopback name without permission.
    #[error("host {0} is an address or a local name, which needs upstreams.allow_private_addresses = true")]
    Literal(String),
    /// Plain http without permission.
    #[error("{0} is plain http, which needs upstreams.allow_private_addresses = true")]
    Plain(String),
}

impl AllowedHosts {
    /// Checks a URL against the policy. What a name resolves to is checked again for each connection.
    ///
    /// # Errors
    /// [`Forbidden`] names the rule that refuses it.
    pub fn permits(&self, url: &BaseUrl) -> Result<(), Forbidden> {
        if !self.private {
            if url.ip().is_some() || url.is_loopback() {
                return Err(Forbidden::Literal(url.host().to_owned()));
            }
            if url.scheme() == Scheme::Http {
                return Err(Forbidden::Plain(url.to_string()));
            }
        }
        // An address has no names below it, so only a whole match counts: "0.0.1" must not admit "127.0.0.1".
        let listed =
            |apex: &String| if url.ip().is_some() { url.host() == apex } else { is_at_or_below(url.host(), apex) };
        if self.domains.iter().any(listed) { Ok(()) } else { Err(Forbidden::Domain(url.host().to_owned())) }
    }
}

/// Whether `host` is `apex` or a name below it, compared label by label.
fn is_at_or_below(host: &str, apex: &str) -> bool {
    host.strip_suffix(apex).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> BaseUrl {
        BaseUrl::parse(text).unwrap()
    }

    #[test]
    fn parses_and_prints_origins() {
        for (text, authority, port) in [
            ("https://App.example.com", "app.example.com", 443),
            ("https://app.example.com:443/", "app.example.com", 443),
            ("http://127.0.0.1:8501", "127.0.0.1:8501", 8501),
            ("http://[::1]:80", "[::1]", 80),
            ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", 8443),
        ] {
            let url = url(text);
            assert_eq!((url.authority(), url.port()), (authority, port), "{text}");
            assert_eq!(BaseUrl::parse(&url.to_string()).unwrap(), url);
        }
        assert_eq!(BaseUrl::localhost(8080), url("http://localhost:8080"));
    }

    #[test]
    fn refuses_everything_that_is_not_an_origin() {
        for text in [
            "",
            "app.example.com",
            "ftp://a",
            "https://",
            "https://u:p@a",
            "https://a/b",
            "https://a?x",
            "https://a#x",
            "https://a:",
            "https://a:+1",
            "https://a:99999",
            "https://a b",
            "https://-a.com",
            "https://a..b",
            "https://[::1",
            "https://a\\b",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn passwords_in_urls_are_not_shown() {
        for text in ["https://u:p@a", "https://u:p@a/b", "u:p@a", "ftp:p@://a", "https://u:p@a:x"] {
            assert_eq!(BaseUrl::parse(text), Err(InvalidUrl::UserInfo), "{text:?}");
        }
    }

    #[test]
    fn allow_list_compares_whole_labels() {
        let allowed = AllowedHosts { domains: vec!["apps.com".into()], private: false };
        assert_eq!(allowed.permits(&url("https://apps.com")), Ok(()));
        assert_eq!(allowed.permits(&url("https://a.b.apps.com")), Ok(()));
        assert_eq!(allowed.permits(&url("https://evilapps.com")), Err(Forbidden::Domain("evilapps.com".into())));
        assert_eq!(
            allowed.permits(&url("https://apps.com.evil.com")),
            Err(Forbidden::Domain("apps.com.evil.com".into()))
        );
        assert_eq!(allowed.permits(&url("http://apps.com")), Err(Forbidden::Plain("http://apps.com".into())));
    }

    #[test]
    fn addresses_need_both_the_list_and_the_switch() {
        let mut allowed = AllowedHosts { domains: vec!["127.0.0.1".into(), "localhost".into()], private: false };
        assert_eq!(allowed.permits(&url("http://127.0.0.1:1")), Err(Forbidden::Literal("127.0.0.1".into())));
        allowed.private = true;
        assert_eq!(allowed.permits(&url("http://127.0.0.1:1")), Ok(()));
        assert_eq!(allowed.permits(&url("http://app.localhost:1")), Ok(()));
        assert_eq!(allowed.permits(&url("http://127.0.0.2")), Err(Forbidden::Domain("127.0.0.2".into())));
        let short = AllowedHosts { domains: vec!["0.0.1".into()], private: true };
        assert_eq!(short.permits(&url("http://127.0.0.1")), Err(Forbidden::Domain("127.0.0.1".into())));
    }
}
