//! Who ended a request before its time: the same words for the log, for the metric's label and for `Proxy-Status`.

use super::frames::Refusal;
use crate::metrics::CutBy;
use std::io::{self, Write};
use std::time::Duration;

/// Who ended a request before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client went away.
    Client,
    /// The client took or sent nothing for so long.
    ClientIdle(Duration),
    /// The client broke the framing of its body.
    ClientFraming,
    /// A frame of the client's WebSocket was refused.
    ClientFrame(Refusal),
    /// The upstream sent nothing for so long.
    UpstreamIdle(Duration),
    /// The upstream ended without a byte of an answer.
    UpstreamSilent,
    /// The upstream ended in the middle of its answer.
    UpstreamClosed,
    /// The upstream reset the connection.
    UpstreamReset,
    /// The upstream broke the framing of its answer.
    UpstreamFraming,
    /// A frame of the upstream's WebSocket was refused.
    UpstreamFrame(Refusal),
    /// The gateway is going away.
    Drain,
    /// The session ended while a stream or a tunnel was open.
    SessionEnd,
    /// The upstream's node is to go.
    ClusterDrain,
    /// Access was taken away meanwhile.
    Revoked(&'static str),
}

impl Cut {
    /// A client that did not take an answer within `limit`, or went away before.
    pub(super) fn of_client(error: &io::Error, limit: Duration) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::ClientIdle(limit) } else { Self::Client }
    }

    /// Writes what the log says, in ASCII and without quotes.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        let _ = match self {
            Self::Client => write!(out, "client"),
            Self::ClientIdle(limit) => write!(out, "gateway: client idle {}", crate::config::duration::format(limit)),
            Self::ClientFraming => write!(out, "gateway: malformed request body"),
            Self::ClientFrame(why) => write!(out, "gateway: client's {}", why.words()),
            Self::UpstreamIdle(limit) => write!(out, "gateway: idle {}", crate::config::duration::format(limit)),
            Self::UpstreamSilent => write!(out, "upstream closed before response"),
            Self::UpstreamClosed => write!(out, "upstream closed before the end"),
            Self::UpstreamReset => write!(out, "upstream reset"),
            Self::UpstreamFraming => write!(out, "gateway: malformed answer"),
            Self::UpstreamFrame(why) => write!(out, "gateway: upstream's {}", why.words()),
            Self::Drain => write!(out, "gateway: drain"),
            Self::SessionEnd => write!(out, "gateway: session ended"),
            Self::ClusterDrain => write!(out, "gateway: cluster drain"),
            Self::Revoked(why) => write!(out, "gateway: {why}"),
        };
    }

    /// What [`Cut::write`] writes.
    pub(super) fn text(self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// The metric's label.
    pub(super) fn by(self) -> CutBy {
        match self {
            Self::Client => CutBy::Client,
            Self::ClientIdle(_) => CutBy::ClientIdle,
            Self::ClientFraming => CutBy::ClientFraming,
            Self::ClientFrame(_) => CutBy::ClientFrame,
            Self::UpstreamIdle(_) => CutBy::UpstreamIdle,
            Self::UpstreamSilent | Self::UpstreamClosed => CutBy::UpstreamClosed,
            Self::UpstreamReset => CutBy::UpstreamReset,
            Self::UpstreamFraming => CutBy::UpstreamFraming,
            Self::UpstreamFrame(_) => CutBy::UpstreamFrame,
            Self::Drain => CutBy::GatewayDrain,
            Self::SessionEnd => CutBy::SessionEnd,
            Self::ClusterDrain => CutBy::ClusterDrain,
            Self::Revoked(_) => CutBy::Revoked,
        }
    }

    /// The error type that says it to the client (RFC 9209 2.3), where it is the upstream's doing.
    pub(super) fn proxy_error(self) -> Option<&'static str> {
        Some(match self {
            Self::UpstreamIdle(_) => "http_response_timeout",
            Self::UpstreamSilent | Self::UpstreamReset => "connection_terminated",
            Self::UpstreamClosed => "http_response_incomplete",
            Self::UpstreamFraming => "http_protocol_error",
            _ => return None,
        })
    }
}
