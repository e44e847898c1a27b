//! What a client's requests come over: a connection of its own, or one stream of a connection that many share.

use crate::net::io::{Io, one_of_two};
use crate::plane::http2::pipe::Near;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's end. Upstreams are always reached by an [`Io`], so only this one has a third form.
pub(crate) enum ClientIo {
    /// A connection of its own, for HTTP/1.1.
    Socket(Io),
    /// A stream of an HTTP/2 connection, written as HTTP/1.1 in memory.
    Stream(Near),
}

impl ClientIo {
    /// Whether it is a stream of an HTTP/2 connection.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Makes the close a reset, so that the peer cannot take a broken message for a complete one. A stream that is dropped
    /// before it was shut is always reset.
    pub(crate) fn reset_on_close(&self) {
        if let Self::Socket(io) = self {
            io.reset_on_close();
        }
    }

    /// Makes the close an ordinary one again.
    pub(crate) fn close_in_order(&self) {
        if let Self::Socket(io) = self {
            io.close_in_order();
        }
    }
}

one_of_two!(ClientIo, Socket, Stream);
