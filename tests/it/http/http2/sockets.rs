//! WebSockets as streams of HTTP/2 (RFC 8441).

use super::super::websocket::frame_head;
use super::{HOST, Site};
use crate::harness::gateway::org;
use crate::harness::h2::{Answer, Driver, Shared, request};
use crate::harness::raw::Wire;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use embedgate::model::access::{Bar, Subject};
use h2::ext::Protocol;
use h2::{Reason, SendStream};
use http::{Method, Request};

const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// A client's end of a WebSocket.
struct Socket {
    from: Answer,
    to: SendStream<Bytes>,
    _client: Shared,
    driver: Driver,
}

impl Site {
    fn connect_request(&self, protocol: &'static str) -> Result<Request<()>> {
        let mut request = self
            .request(Method::CONNECT, "/ws?x=y")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat")
            .body(())?;
        request.extensions_mut().insert(Protocol::from_static(protocol));
        Ok(request)
    }

    /// An open WebSocket and the app's end of it.
    async fn socket(&self) -> Result<(Socket, Wire)> {
        let (mut client, driver) = self.http2().await?;
        client.expect_extended_connect().await?;
        let asked = client.begin(self.connect_request("websocket")?, false).await?;
        let mut app = self.upstream.accept().await?;
        let seen = app.request().await?;
        ensure!(seen.start == "GET /ws?x=y HTTP/1.1", "{seen:?}");
        for (name, value) in [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")] {
            ensure!(seen.field(name) == Some(value), "{name}: {seen:?}");
        }
        ensure!(seen.field("Sec-WebSocket-Key").is_some_and(|key| key.len() == 24), "{seen:?}");
        app.send(AGREE).await?;
        let (from, to) = asked.open().await?;
        ensure!(from.status == 200 && from.field("sec-websocket-protocol") == Some("chat"), "{from:?}");
        ensure!(!from.fields.contains_key("upgrade") && !from.fields.contains_key("sec-websocket-accept"), "{from:?}");
        Ok((Socket { from, to, _client: client, driver }, app))
    }
}

impl Socket {
    fn send(&mut self, bytes: impl Into<Vec<u8>>) -> Result<()> {
        Ok(self.to.send_data(Bytes::from(bytes.into()), false)?)
    }

    /// Reads a close frame of the gateway's and gives its code and its reason.
    async fn close(&mut self) -> Result<(u16, String)> {
        let frame = self.from.part().await?.context("no close frame")?;
        ensure!(frame[0] == 0x88 && frame.len() == 2 + usize::from(frame[1]), "not a close frame: {frame:?}");
        Ok((u16::from_be_bytes([frame[2], frame[3]]), String::from_utf8(frame[4..].to_vec())?))
    }
}

/// Reads a masked close frame of the gateway's at the app and gives its code.
async fn close_code(app: &mut Wire) -> Result<u16> {
    super::super::websocket::close_code(app, true).await
}

#[tokio::test]
async fn bytes_flow_both_ways_and_ends_too() -> Result<()> {
    let site = Site::open().await?;
    let (mut socket, mut app) = site.socket().await?;
    for length in [0, 1, 125, 126, 60_000] {
        let frame = [frame_head(0x82, length, true), vec![7; length]].concat();
        socket.send(frame.clone())?;
        ensure!(app.exactly(frame.len()).await? == frame, "length {length}");
        let frame = [frame_head(0x82, length, false), vec![8; length]].concat();
        app.send(&frame).await?;
        ensure!(socket.from.exactly(frame.len()).await? == frame, "length {length}");
    }
    site.gateway.expect_metric("embedgate_tunnels_active", 1.0).await?;
    app.finish().await?;
    ensure!(socket.from.rest().await?.is_empty(), "the app's end");
    socket.send("last words")?;
    ensure!(app.exactly(10).await? == b"last words");
    socket.to.send_data(Bytes::new(), true)?;
    app.expect_end().await?;
    site.gateway.expect_metric("embedgate_tunnels_active", 0.0).await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn a_socket_that_is_given_up_ends_at_the_app() -> Result<()> {
    let site = Site::open().await?;
    let (mut socket, mut app) = site.socket().await?;
    socket.to.send_reset(Reason::CANCEL);
    app.rest().await?;
    site.gateway.expect_metric("embedgate_tunnels_active", 0.0).await?;
    let (socket, mut app) = site.socket().await?;
    socket.driver.cut();
    app.rest().await?;
    site.gateway.expect_metric("embedgate_tunnels_active", 0.0).await
}

#[tokio::test]
async fn an_app_that_breaks_off_is_told_from_one_that_ends() -> Result<()> {
    let site = Site::open().await?;
    let (mut socket, app) = site.socket().await?;
    app.reset()?;
    ensure!(socket.from.reset().await? == Some(Reason::INTERNAL_ERROR));
    Ok(())
}

#[tokio::test]
async fn whoever_is_shut_out_is_told() -> Result<()> {
    let site = Site::open().await?;
    let (mut socket, mut app) = site.socket().await?;
    site.gateway.put_up(Bar::Revoked(Subject::User("ann".into())))?;
    ensure!(socket.close().await? == (1008, "the sessions of the user were ended".to_owned()));
    ensure!(close_code(&mut app).await? == 1001);
    socket.send([frame_head(0x88, 2, true), vec![0x03, 0xf0]].concat())?;
    app.send([frame_head(0x88, 2, false), vec![0x03, 0xe9]].concat()).await?;
    ensure!(socket.from.rest().await?.is_empty());
    app.expect_end().await?;
    site.gateway.expect_metric("embedgate_streams_revoked_total", 1.0).await
}

#[tokio::test]
async fn a_socket_is_told_before_the_gateway_leaves() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut socket, mut app) = site.socket().await?;
    let leaving = site.gateway.leave()?;
    ensure!(socket.close().await?.0 == 1012);
    ensure!(close_code(&mut app).await? == 1001);
    socket.send([frame_head(0x88, 2, true), vec![0x03, 0xf4]].concat())?;
    app.send([frame_head(0x88, 2, false), vec![0x03, 0xe9]].concat()).await?;
    ensure!(socket.from.rest().await?.is_empty());
    app.expect_end().await?;
    drop((socket.to, socket.from));
    ensure!(socket.driver.ended().await?.is_none(), "the connection does not end properly");
    leaving.ended().await
}

#[tokio::test]
async fn an_app_may_refuse() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, _driver) = site.http2().await?;
    client.expect_extended_connect().await?;
    let asked = client.begin(site.connect_request("websocket")?, false).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await?;
    let (mut answer, _open) = asked.open().await?;
    ensure!(answer.status == 403 && answer.text().await? == "no", "{answer:?}");
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn other_sites_and_other_protocols_are_refused() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, _driver) = site.http2().await?;
    client.expect_extended_connect().await?;
    let answer = client.begin(site.connect_request("connect-udp")?, false).await?.answer().await?;
    ensure!(answer.status == 405, "{answer:?}");
    let mut foreign = request(Method::CONNECT, HOST, "/ws")
        .header("cookie", format!("embedgate={}", site.token))
        .header("origin", "https://evil.example")
        .body(())?;
    foreign.extensions_mut().insert(Protocol::from_static("websocket"));
    let answer = client.begin(foreign, false).await?.answer().await?;
    ensure!(answer.status == 403, "{answer:?}");
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn they_are_offered_only_where_they_are_allowed() -> Result<()> {
    let site = Site::with(&[("upstreams.upgrades", "[]")]).await?;
    let (mut client, _driver) = site.http2().await?;
    let answer = client.ask(request(Method::GET, "x", "/.embedgate/healthz").body(())?).await?;
    ensure!(answer.status == 200 && !client.has_extended_connect());
    Ok(())
}

#[tokio::test]
async fn an_app_that_goes_takes_its_sockets_along() -> Result<()> {
    let site = Site::open().await?;
    let (mut socket, _app) = site.socket().await?;
    site.gateway.publish(&org("acme", &[("other", site.upstream.address())]))?;
    ensure!(socket.close().await?.0 == 1008);
    Ok(())
}
