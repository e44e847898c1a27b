//! Why connections of HTTP/2 are ended: a label.

/// Why a connection of HTTP/2 was ended for what the client did; a label of few values (RFC 9113 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2Refusal {
    /// Frames that are not allowed, or not there.
    Protocol,
    /// More than the windows allow.
    FlowControl,
    /// Frames on a stream that is over.
    StreamClosed,
    /// A frame of a wrong size.
    FrameSize,
    /// Heads that cannot be decoded.
    Compression,
    /// Too much of what costs the client nothing.
    Calm,
    /// Anything else.
    Other,
}

impl Http2Refusal {
    pub(super) const ALL: [Self; 7] = [
        Self::Protocol,
        Self::FlowControl,
        Self::StreamClosed,
        Self::FrameSize,
        Self::Compression,
        Self::Calm,
        Self::Other,
    ];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Protocol => "protocol_error",
            Self::FlowControl => "flow_control_error",
            Self::StreamClosed => "stream_closed",
            Self::FrameSize => "frame_size_error",
            Self::Compression => "compression_error",
            Self::Calm => "enhance_your_calm",
            Self::Other => "other",
        }
    }
}
