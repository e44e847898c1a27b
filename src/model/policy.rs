//! How the requests of an app are treated: what it sees of the address it is reached at, and how long it may be silent.

use std::time::Duration;

/// What an app needs that others do not. The default suits most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whose host the app sees.
    pub host: HostSeen,
    /// Whether, where apps share a host, the app does not see the path that leads to it; an app that is told its base
    /// path has to see it.
    pub strip_prefix: bool,
    /// Whether its pages get a `<base>` where it is not at the root of a host.
    pub base_tag: bool,
    /// Which HTTP it is spoken to in.
    pub protocol: Protocol,
    /// How long nothing may move on a WebSocket before its client is pinged, zero for never; none as for all.
    pub ping_interval: Option<Duration>,
    /// How long an answer or a tunnel may be silent; none as for all.
    pub idle_timeout: Option<Duration>,
}

/// Whose host an app sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostSeen {
    /// Its own, in `Host` and `Origin`.
    #[default]
    Own,
    /// The one that browsers ask for, with their `Origin` and `Referer`.
    Outside,
}

impl HostSeen {
    /// All of them with their names in the directory.
    pub const NAMES: [(&'static str, Self); 2] = [("rewrite", Self::Own), ("keep", Self::Outside)];

    /// Its name in the directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, seen)| *seen == self).map_or("", |(name, _)| name)
    }
}

/// Which HTTP an upstream is spoken to in. WebSockets always begin in HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What it chooses in the TLS handshake (RFC 7301); without TLS, HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge (RFC 9113 3.3).
    Http2,
}

impl Protocol {
    /// All of them with their names in the directory.
    pub const NAMES: [(&'static str, Self); 3] = [("auto", Self::Auto), ("http1", Self::Http1), ("http2", Self::Http2)];

    /// Its name in the directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, protocol)| *protocol == self).map_or("", |(name, _)| name)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            host: HostSeen::default(),
            strip_prefix: true,
            base_tag: false,
            protocol: Protocol::default(),
            ping_interval: None,
            idle_timeout: None,
        }
    }
}
