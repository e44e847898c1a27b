//! A connection, plain or TLS.

use socket2::{SockRef, TcpKeepalive};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection to a client or to an upstream.
#[derive(Debug)]
pub enum Io {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP. Boxed: the state of a TLS session is large, and most connections inside a cluster are plain.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether client and server have agreed on a protocol in the TLS handshake (RFC 7301).
    #[must_use]
    pub fn has_agreed_on(&self, protocol: &[u8]) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(protocol),
        }
    }

    /// Makes the close a reset, so that the peer cannot take a broken message for a complete one.
    pub fn reset_on_close(&self) {
        // Best effort: where it cannot be set the peer sees an early end, which every framing but "until close" notices.
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }

    /// Makes the close an ordinary one again.
    pub fn close_in_order(&self) {
        // Best effort: where it cannot be set the peer may take a complete message for a broken one, never the reverse.
        let _ = SockRef::from(self.tcp()).set_linger(None);
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

/// Reading into a slice.
pub trait ReadInto: AsyncRead + Unpin {
    /// Reads into `buffer`: how many bytes came, 0 at the end of the stream.
    fn poll_read_into(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        Pin::new(self).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
    }
}

impl<T: AsyncRead + Unpin> ReadInto for T {}

/// Options for every socket: no delay for small writes, and probes that find a peer which vanished without a word.
pub fn tune(tcp: &TcpStream) {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    // Best effort: a socket without these options still works.
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}

/// Makes an enum of two connections a connection: each call goes to the one that it holds. Both must write several slices
/// at once (`is_write_vectored`).
macro_rules! one_of_two {
    ($either:ty, $first:ident, $second:ident) => {
        impl AsyncRead for $either {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::$first(io) => Pin::new(io).poll_read(cx, buffer),
                    Self::$second(io) => Pin::new(io).poll_read(cx, buffer),
                }
            }
        }

        impl AsyncWrite for $either {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::$first(io) => Pin::new(io).poll_write(cx, bytes),
                    Self::$second(io) => Pin::new(io).poll_write(cx, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::$first(io) => Pin::new(io).poll_write_vectored(cx, slices),
                    Self::$second(io) => Pin::new(io).poll_write_vectored(cx, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::$first(io) => Pin::new(io).poll_flush(cx),
                    Self::$second(io) => Pin::new(io).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::$first(io) => Pin::new(io).poll_shutdown(cx),
                    Self::$second(io) => Pin::new(io).poll_shutdown(cx),
                }
            }
        }
    };
}
pub(crate) use one_of_two;

one_of_two!(Io, Plain, Tls);
