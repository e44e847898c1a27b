//! A client of HTTP/2: several streams at once on each connection, each of which sends its next request when it has the
//! answer to the one before.

use crate::connection::{Connection, Opener};
use crate::drive::Exchange;
use anyhow::{bail, ensure};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;

/// Above what all streams of a connection ask for at once.
const WINDOW: u32 = 16 << 20;

pub(crate) struct Stream {
    sender: SendRequest<Bytes>,
    request: Request<()>,
}

impl Stream {
    /// So many streams of one new connection.
    pub(crate) async fn open(opener: &Opener, streams: usize, request: &Request<()>) -> anyhow::Result<Vec<Self>> {
        let sender = match opener.open().await? {
            Connection::Plain(stream) => begin(stream).await?,
            Connection::Tls(stream) => begin(stream).await?,
        };
        Ok((0..streams).map(|_| Self { sender: sender.clone(), request: request.clone() }).collect())
    }
}

async fn begin<S>(stream: S) -> anyhow::Result<SendRequest<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut settings = Builder::new();
    settings.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (sender, connection) = settings.handshake(stream).await?;
    // How it ended is told by the requests on it.
    spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

impl Exchange for Stream {
    async fn exchange(&mut self) -> anyhow::Result<usize> {
        let mut sender = self.sender.clone().ready().await?;
        let (answer, _) = sender.send_request(self.request.clone(), true)?;
        let answer = answer.await?;
        ensure!(answer.status() == 200, "status {}", answer.status());
        let (mut body, mut length) = (answer.into_body(), 0);
        while let Some(data) = body.data().await {
            let read = data?.len();
            body.flow_control().release_capacity(read)?;
            length += read;
        }
        Ok(length)
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        // The connection is all streams' own, and a proxy that ends it in so short a time fails.
        bail!("the connection of HTTP/2 has ended")
    }
}
