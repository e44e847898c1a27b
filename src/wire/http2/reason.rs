//! Why a stream or a connection ends (RFC 9113 7).

/// An error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

impl Reason {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The peer does what is not allowed.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// Something is wrong on this side.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// The peer sends more than its windows allow.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// A frame came for a stream that is over.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame has a size that it may not have.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was not looked at, and may be asked again.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Compressed fields cannot be read, and with them nothing that follows.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer uses too much of what costs it nothing.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}
