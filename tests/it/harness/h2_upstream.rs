//! An upstream that speaks HTTP/2 and does exactly as told.

use super::PATIENCE;
use super::h2::Answer;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// It listens; connections are taken one by one.
pub(crate) struct Http2Upstream {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    streams: u32,
}

/// One connection to it, until it is dropped.
pub(crate) struct Trunk {
    requests: UnboundedReceiver<(Request<RecvStream>, SendResponse<Bytes>)>,
    orders: UnboundedSender<Order>,
}

enum Order {
    /// Take no more streams, and serve those that have begun.
    Leave,
    /// Tell that nothing after the first stream was looked at, and end.
    Abandon,
}

/// A request under way.
pub(crate) struct Received {
    pub(crate) head: Parts,
    /// What of it comes after the head.
    pub(crate) upload: Answer,
    respond: SendResponse<Bytes>,
}

impl Http2Upstream {
    /// Without TLS, or with it as told.
    pub(crate) async fn start(tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self { listener, acceptor: tls.map(TlsAcceptor::from), streams: 100 })
    }

    /// It takes only so many streams at once on a connection.
    pub(crate) fn with_streams(self, streams: u32) -> Self {
        Self { streams, ..self }
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Result<Trunk> {
        let (tcp, _) = timeout(PATIENCE, self.listener.accept()).await.context("nobody connects")??;
        match &self.acceptor {
            None => Trunk::over(tcp, self.streams).await,
            Some(acceptor) => {
                let tls = timeout(PATIENCE, acceptor.accept(tcp)).await.context("no TLS handshake")??;
                ensure!(tls.get_ref().1.alpn_protocol() == Some(b"h2"), "HTTP/2 was not agreed on");
                Trunk::over(tls, self.streams).await
            }
        }
    }

    /// The next connection, whose client wants HTTP/1.1: what it says up to the end of its head.
    pub(crate) async fn accept_http1(&self) -> Result<super::raw::Wire> {
        let (tcp, _) = timeout(PATIENCE, self.listener.accept()).await.context("nobody connects")??;
        let acceptor = self.acceptor.clone().context("only with TLS is the protocol agreed on")?;
        let mut tls = timeout(PATIENCE, acceptor.accept(tcp)).await.context("no TLS handshake")??;
        ensure!(tls.get_ref().1.alpn_protocol() == Some(b"http/1.1"), "HTTP/1.1 was not agreed on");
        // A wire reads plain bytes, so they are passed on to one.
        let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let wire = super::raw::Wire::connect(plain.local_addr()?).await?;
        let mut other = plain.accept().await?.0;
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tls, &mut other).await });
        Ok(wire)
    }

    /// Whether nobody has connected since.
    pub(crate) async fn expect_untouched(&self) -> Result<()> {
        let waiting = std::future::poll_fn(|cx| std::task::Poll::Ready(self.listener.poll_accept(cx).is_ready())).await;
        ensure!(!waiting, "somebody has connected");
        Ok(())
    }
}

impl Trunk {
    async fn over<T>(io: T, streams: u32) -> Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(streams);
        let connection = timeout(PATIENCE, builder.handshake(io)).await.context("no preface")??;
        let (heard, requests) = unbounded_channel();
        let (orders, ordered) = unbounded_channel();
        tokio::spawn(drive(connection, heard, ordered));
        Ok(Self { requests, orders })
    }

    /// The next request.
    pub(crate) async fn request(&mut self) -> Result<Received> {
        let next = timeout(PATIENCE, self.requests.recv()).await.context("no request")?;
        let (request, respond) = next.context("the connection is over")?;
        let (head, body) = request.into_parts();
        let upload = Answer { status: 0, fields: head.headers.clone(), body };
        Ok(Received { head, upload, respond })
    }

    /// Takes no more streams, and serves those that have begun.
    pub(crate) fn leave(&self) -> Result<()> {
        self.orders.send(Order::Leave).ok().context("the connection is over")
    }

    /// Goes away at once, whatever is under way.
    pub(crate) fn abandon(&self) -> Result<()> {
        self.orders.send(Order::Abandon).ok().context("the connection is over")
    }

    /// Waits until the client has closed the connection.
    pub(crate) async fn ended(mut self) -> Result<()> {
        let next = timeout(PATIENCE, self.requests.recv()).await.context("the connection stays open")?;
        ensure!(next.is_none(), "a request instead of the end");
        Ok(())
    }
}

/// Runs a connection until it ends or nobody is interested in it any more.
async fn drive<T>(
    mut connection: Connection<T, Bytes>,
    heard: UnboundedSender<(Request<RecvStream>, SendResponse<Bytes>)>,
    mut orders: UnboundedReceiver<Order>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        tokio::select! {
            next = connection.accept() => {
                let Some(Ok(request)) = next else { return };
                // Nobody may be interested in it: then it waits for ever.
                let _ = heard.send(request);
            }
            order = orders.recv() => match order {
                Some(Order::Leave) => connection.graceful_shutdown(),
                Some(Order::Abandon) => connection.abrupt_shutdown(Reason::NO_ERROR),
                None => return,
            },
        }
    }
}

impl Received {
    /// Answers with a head alone, or opens a body.
    pub(crate) fn open(&mut self, status: u16, fields: &[(&str, &str)], ended: bool) -> Result<SendStream<Bytes>> {
        let mut answer = Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        Ok(self.respond.send_response(answer.body(())?, ended)?)
    }

    /// Answers in one go, whatever the client's window says.
    pub(crate) fn answer(&mut self, status: u16, fields: &[(&str, &str)], body: &str) -> Result<()> {
        let mut out = self.open(status, fields, body.is_empty())?;
        if !body.is_empty() {
            out.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        Ok(())
    }

    /// Sends an interim answer.
    pub(crate) fn interim(&mut self, status: u16, fields: &[(&str, &str)]) -> Result<()> {
        let mut answer = Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        Ok(self.respond.send_informational(answer.body(())?)?)
    }

    /// Resets the stream.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    /// Waits until the client has reset the stream.
    pub(crate) async fn given_up(&mut self) -> Result<Reason> {
        let reset = std::future::poll_fn(|cx| self.respond.poll_reset(cx));
        Ok(timeout(PATIENCE, reset).await.context("the stream stays open")??)
    }
}

/// Fields with these names and values.
pub(crate) fn fields(of: &[(&'static str, &str)]) -> Result<HeaderMap> {
    of.iter().map(|(name, value)| Ok((http::HeaderName::from_static(name), value.parse()?))).collect()
}
