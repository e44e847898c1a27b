//! Connecting to upstreams and issuers. The address that was checked is the address that is dialled, so a name that
//! changes its mind between check and use (DNS rebinding) gains nothing.

use super::io::{self as stream, Io};
use super::resolve::Resolver;
use super::tls::{ClientTls, HTTP1, HTTP2};
use crate::model::url::{BaseUrl, Scheme};
use rustls_pki_types::{IpAddr as TlsIpAddr, ServerName};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("cannot resolve {host}: {cause}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: io::Error,
    },
    /// The name resolves to addresses that are not allowed.
    #[error("{host} resolves to {address}, a private address; set upstreams.allow_private_addresses if that is meant")]
    Prohibited {
        /// The name.
        host: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// Nothing accepts connections there.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// The TLS handshake failed.
    #[error("TLS with {0} failed: {1}")]
    Tls(String, io::Error),
    /// It does not speak what it has to.
    #[error("{0} does not agree to HTTP/2 in the TLS handshake; see whether it speaks it, or set another protocol")]
    Protocol(String),
    /// It took too long.
    #[error("{0} did not accept a connection within {1:?}")]
    Timeout(String, Duration),
}

impl DialError {
    /// The error type for `Proxy-Status` (RFC 9209 2.3).
    #[must_use]
    pub fn proxy_error(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "dns_error",
            Self::Prohibited { .. } => "destination_ip_prohibited",
            Self::Connect(_, error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "connection_refused",
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => "connection_terminated",
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "destination_ip_unroutable",
                _ => "destination_unavailable",
            },
            Self::Tls(_, error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(_)) => "tls_certificate_error",
                Some(rustls::Error::AlertReceived(_)) => "tls_alert_received",
                _ => "tls_protocol_error",
            },
            Self::Protocol(_) => "tls_protocol_error",
            Self::Timeout(..) => "connection_timeout",
        }
    }
}

/// What may be spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, if the server agrees to it in the TLS handshake (RFC 7301); else HTTP/1.1.
    Either,
    /// HTTP/2; where there is no handshake, without asking (RFC 9113 3.3).
    Http2,
}

impl Speech {
    /// What is offered in a TLS handshake.
    fn offer(self) -> Vec<Vec<u8>> {
        let offer: &[&[u8]] = match self {
            Self::Http1 => &[HTTP1],
            Self::Either => &[HTTP2, HTTP1],
            Self::Http2 => &[HTTP2],
        };
        offer.iter().map(|name| name.to_vec()).collect()
    }
}

/// Dials upstreams.
#[derive(Clone)]
pub struct Dialer {
    tls: Arc<ClientTls>,
    resolver: Arc<Resolver>,
    private: bool,
    timeout: Duration,
}

impl Dialer {
    /// A dialler that gives each connection, TLS handshake included, so much time. `private` allows addresses that are
    /// not on the public internet.
    #[must_use]
    pub fn new(tls: Arc<ClientTls>, private: bool, timeout: Duration) -> Self {
        Self { tls, resolver: Arc::default(), private, timeout }
    }

    /// The same with another TLS.
    #[must_use]
    pub fn with_tls(&self, tls: Arc<ClientTls>) -> Self {
        Self { tls, ..self.clone() }
    }

    /// The same with another time for a connection.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The TLS that connections are made with.
    #[must_use]
    pub fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// How long a connection may take to come about.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Connects to the host of `url`.
    ///
    /// # Errors
    /// [`DialError`]; nothing has been sent that could matter.
    pub async fn dial(&self, url: &BaseUrl, speech: Speech) -> Result<Io, DialError> {
        self.dial_with(url, speech, self.tls.connector()).await
    }

    /// The same with handshakes of somebody's own.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub async fn dial_with(&self, url: &BaseUrl, speech: Speech, tls: TlsConnector) -> Result<Io, DialError> {
        match tokio::time::timeout(self.timeout, self.connect(url, speech, tls)).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout(url.to_string(), self.timeout)),
        }
    }

    async fn connect(&self, url: &BaseUrl, speech: Speech, tls: TlsConnector) -> Result<Io, DialError> {
        let tcp = self.tcp(url).await?;
        stream::tune(&tcp);
        if url.scheme() == Scheme::Http {
            return Ok(Io::Plain(tcp));
        }
        let failed = |cause| DialError::Tls(url.to_string(), cause);
        let name = server_name(url).map_err(failed)?;
        let tls = tls.with_alpn(speech.offer()).connect(name, tcp).await.map_err(failed)?;
        let io = Io::Tls(Box::new(TlsStream::Client(tls)));
        if speech == Speech::Http2 && !io.has_agreed_on(HTTP2) {
            return Err(DialError::Protocol(url.to_string()));
        }
        Ok(io)
    }

    async fn tcp(&self, url: &BaseUrl) -> Result<TcpStream, DialError> {
        let mut refused = None;
        for address in self.resolver.addresses(url).await? {
            if !self.private && !is_public(address.ip()) {
                let host = url.host().to_owned();
                refused.get_or_insert(DialError::Prohibited { host, address: address.ip() });
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(cause) => refused = Some(DialError::Connect(url.to_string(), cause)),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let cause = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            DialError::Resolve { host: url.host().to_owned(), cause }
        }))
    }
}

fn server_name(url: &BaseUrl) -> io::Result<ServerName<'static>> {
    if let Some(ip) = url.ip() {
        return Ok(ServerName::IpAddress(TlsIpAddr::from(ip)));
    }
    ServerName::try_from(url.host().to_owned()).map_err(|bad| io::Error::new(io::ErrorKind::InvalidInput, bad))
}

/// Whether an address is on the public internet: not loopback, private, link-local, shared, reserved, multicast, nor an
/// IPv6 form that carries such an IPv4 address.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = a == 192 && b == 0 && c == 0;
    !(a == 0
        || a >= 240
        || shared
        || benchmark
        || protocol
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        // Mapped (RFC 4291), NAT64 (RFC 6052) and 6to4 (RFC 3056) addresses carry an IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        // Teredo (RFC 4380), which carries an IPv4 address in disguise; documentation (RFC 3849, RFC 9637).
        [0x2001, 0 | 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // Of the rest only what is assigned as global unicast (RFC 4291 2.4).
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.0.1",
            "2606:4700::1",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fec0::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "::ffff:0:127.0.0.1",
            "2001::1",
            "::7f00:1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[tokio::test]
    async fn private_addresses_need_the_switch() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BaseUrl::parse(&format!("http://app.localhost:{}", listener.local_addr().unwrap().port())).unwrap();
        let tls = crate::net::tls::client_config(None).unwrap();
        let closed = Dialer::new(Arc::clone(&tls), false, Duration::from_secs(5));
        assert!(matches!(closed.dial(&url, Speech::Http1).await, Err(DialError::Prohibited { .. })));
        let open = Dialer::new(tls, true, Duration::from_secs(5));
        assert!(open.dial(&url, Speech::Http1).await.is_ok());
    }
}
