//! WebSockets: agreed by the app, then bytes both ways, and a proper goodbye when the gateway leaves.

use super::{HOST, Site};
use crate::harness::gateway::outlast;
use crate::harness::raw::{End, Wire, ok};
use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message as Frame, http::Request};
use tokio_tungstenite::{accept_async, client_async};

pub(crate) const ASK: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
pub(crate) const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// A client and an upstream's end with a tunnel between them.
pub(super) async fn tunnel(site: &Site) -> Result<(Wire, Wire)> {
    let mut client = site.gateway.connect().await?;
    client.send(site.head("GET /ws", ASK)).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send(AGREE).await?;
    ensure!(client.head().await?.status() == 101);
    Ok((client, app))
}

/// The header of a frame: its first byte and how long its payload is. The mask, where there is one, is all zeros, so
/// that the payload reads as it is.
pub(super) fn frame_head(first: u8, length: usize, masked: bool) -> Vec<u8> {
    let mask = u8::from(masked) << 7;
    let mut head = match length {
        0..=125 => vec![first, mask + length as u8],
        126..=0xffff => [&[first, mask + 126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, mask + 127][..], &(length as u64).to_be_bytes()].concat(),
    };
    head.extend(vec![0; if masked { 4 } else { 0 }]);
    head
}

/// Reads a close frame of the gateway's and gives its code.
pub(crate) async fn close_code(wire: &mut Wire, masked: bool) -> Result<u16> {
    Ok(close(wire, masked).await?.0)
}

/// Reads a close frame of the gateway's and gives its code and its reason.
pub(super) async fn close(wire: &mut Wire, masked: bool) -> Result<(u16, String)> {
    let head = wire.exactly(2).await?;
    ensure!(head[0] == 0x88 && (head[1] & 0x80 != 0) == masked, "not a close frame: {head:?}");
    let mask = if masked { wire.exactly(4).await? } else { vec![0; 4] };
    let payload = wire.exactly(usize::from(head[1] & 0x7f)).await?;
    ensure!(payload.len() >= 2, "a close frame without a code");
    let payload: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok((u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].to_vec())?))
}

#[tokio::test]
async fn messages_echo_through_a_real_client_and_server() -> Result<()> {
    let site = Site::open().await?;
    let server = async {
        let mut app = accept_async(site.upstream.accept().await?.into_tcp()?).await?;
        while let Some(frame) = app.next().await {
            let frame = frame?;
            if frame.is_text() || frame.is_binary() {
                app.send(frame).await?;
            }
        }
        anyhow::Ok(())
    };
    let client = async {
        let mut request: Request<()> = format!("ws://{HOST}/ws").into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", site.token).parse()?);
        let (mut client, _) = client_async(request, site.gateway.connect().await?.into_tcp()?).await?;
        for length in [0, 1, 125, 126, 70_000, 1_000_000] {
            for frame in [Frame::text("é".repeat(length)), Frame::binary(vec![7; length])] {
                client.send(frame.clone()).await?;
                ensure!(client.next().await.context("no echo")?? == frame, "length {length}");
            }
        }
        client.close(Some(CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() })).await?;
        let last = client.next().await.context("no close")??;
        let Frame::Close(Some(close)) = last else { anyhow::bail!("{last:?} instead of a close") };
        ensure!(close.code == CloseCode::Library(4321) && close.reason == "enough", "{close:?}");
        Ok(())
    };
    let (server, client) = tokio::join!(server, client);
    client.and(server)
}

#[tokio::test]
async fn the_handshake_is_between_client_and_app() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    let offer = "Sec-WebSocket-Protocol: graphql-ws, chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    client.send(site.head("GET /ws?x=y", &format!("{ASK}{offer}"))).await?;
    let mut app = site.upstream.accept().await?;
    let request = app.request().await?;
    ensure!(request.start == "GET /ws?x=y HTTP/1.1", "{request:?}");
    for (name, value) in [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "graphql-ws, chat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Authorization", "Bearer acme-bearer"),
        ("X-Forwarded-Email", "ann@acme.example"),
    ] {
        ensure!(request.field(name) == Some(value), "{name}: {request:?}");
    }
    let accept = derive_accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
    app.send(format!(
        "HTTP/1.1 101 Go on\r\nupgrade: WebSocket\r\nconnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n"
    ))
    .await?;
    let answer = client.head().await?;
    ensure!(answer.start == "HTTP/1.1 101 Go on", "{answer:?}");
    for (name, value) in [
        ("Upgrade", "WebSocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", &*accept),
        ("Sec-WebSocket-Protocol", "chat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover"),
    ] {
        ensure!(answer.field(name) == Some(value), "{name}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cookie_and_the_apps_own_origin_open_a_socket() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    let cookie = format!("Cookie: embedgate={}\r\nOrigin: http://{HOST}\r\n", site.token);
    client.send(format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\n{cookie}{ASK}\r\n")).await?;
    let mut app = site.upstream.accept().await?;
    let request = app.request().await?;
    ensure!(request.field("Origin") == Some(&format!("http://{}", site.upstream.address())), "{request:?}");
    app.send(AGREE).await?;
    ensure!(client.head().await?.status() == 101);
    Ok(())
}

#[tokio::test]
async fn bytes_that_come_with_the_heads_are_not_lost() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.gateway.connect().await?;
    let (up, down) = (frame_head(0x82, 5, true), frame_head(0x82, 5, false));
    client.send([site.head("GET /ws", ASK).as_bytes(), &up, b"early"].concat()).await?;
    let mut app = site.upstream.accept().await?;
    app.request().await?;
    app.send([AGREE.as_bytes(), &down, b"first"].concat()).await?;
    ensure!(client.head().await?.status() == 101);
    ensure!(client.exactly(down.len() + 5).await? == [&down[..], b"first"].concat());
    ensure!(app.exactly(up.len() + 5).await? == [&up[..], b"early"].concat());
    client.send("more").await?;
    ensure!(app.exactly(4).await? == b"more");
    Ok(())
}

#[tokio::test]
async fn without_the_apps_agreement_there_is_no_tunnel() -> Result<()> {
    let site = Site::open().await?;
    for answer in [
        "HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nnope",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nnope",
        "HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n0\r\n\r\n",
    ] {
        let mut client = site.gateway.connect().await?;
        // The second request comes before the answer to the first: as tunnel bytes it would reach the app unseen.
        let behind = format!("GET /admin HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        client.send(site.head("GET /ws", ASK) + &behind).await?;
        let mut app = site.upstream.accept().await?;
        app.request().await?;
        app.send(answer).await?;
        let refusal = client.answer().await?;
        ensure!(answer.starts_with(&refusal.start) && refusal.text() == "nope", "{refusal:?}");
        ensure!(!refusal.has("Upgrade"), "{refusal:?}");
        app.expect_end().await.context("the connection is kept, or something was sent through it")?;
        ensure!(client.answer().await?.status() == 401, "the second request was not read as one");
    }
    Ok(())
}

#[tokio::test]
async fn only_websockets_are_passed_on() -> Result<()> {
    let site = Site::open().await?;
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
    ] {
        let (request, answer) = site.exchange(site.head("GET /", fields), ok("plain")).await.context(fields)?;
        for name in ["Upgrade", "Connection", "HTTP2-Settings"] {
            ensure!(!request.has(name), "{fields:?}: {request:?}");
        }
        ensure!(answer.text() == "plain");
    }
    Ok(())
}

#[tokio::test]
async fn websockets_can_be_forbidden() -> Result<()> {
    let site = Site::with(&[("upstreams.upgrades", "[]")]).await?;
    let (request, _) = site.exchange(site.head("GET /", ASK), ok("plain")).await?;
    ensure!(!request.has("Upgrade") && !request.has("Connection"), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_tunnel() -> Result<()> {
    let site = Site::open().await?;
    let old = site.head("GET /ws", ASK).replace("HTTP/1.1", "HTTP/1.0");
    let (request, answer) = site.exchange(old, AGREE).await?;
    ensure!(!request.has("Upgrade") && answer.status() == 502, "{request:?} {answer:?}");
    Ok(())
}

#[tokio::test]
async fn the_end_of_one_direction_passes_and_the_other_goes_on() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    client.finish().await?;
    ensure!(app.expect_end().await? == End::Closed);
    app.send("last words").await?;
    ensure!(client.exactly(10).await? == b"last words");
    app.finish().await?;
    ensure!(client.expect_end().await? == End::Closed);

    let (mut client, mut app) = tunnel(&site).await?;
    app.finish().await?;
    ensure!(client.expect_end().await? == End::Closed);
    client.send("last words").await?;
    ensure!(app.exactly(10).await? == b"last words");
    drop(client);
    app.expect_end().await?;
    site.gateway.expect_metric("embedgate_tunnels_active", 0.0).await
}

#[tokio::test]
async fn a_reset_on_one_side_ends_the_other() -> Result<()> {
    let site = Site::open().await?;
    let (client, mut app) = tunnel(&site).await?;
    site.gateway.expect_metric("embedgate_tunnels_active", 1.0).await?;
    client.reset()?;
    app.expect_end().await?;
    let (mut client, app) = tunnel(&site).await?;
    app.reset()?;
    client.expect_end().await?;
    site.gateway.expect_metric("embedgate_tunnels_active", 0.0).await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn a_tunnel_holds_back_what_nobody_reads() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let part = [frame_head(0x82, 65_000, true), vec![7; 65_000]].concat();
    // The client writes as long as it is let; once the app speaks, it stops.
    let all = 256 << 20;
    let talk = async {
        outlast(Duration::from_millis(500)).await;
        app.send("x").await
    };
    let (sent, talked) = tokio::join!(client.send_until_answered(&part, all), talk);
    talked?;
    let sent = sent?;
    ensure!(sent < all, "all of it was taken, and nobody read it");
    ensure!(app.exactly(sent).await?.len() == sent, "something is missing");
    Ok(())
}

#[tokio::test]
async fn a_socket_outlives_the_limits_on_requests() -> Result<()> {
    let keys = [
        "limits.header_timeout",
        "limits.keep_alive_timeout",
        "limits.body_idle_timeout",
        "upstreams.first_byte_timeout",
    ];
    let site = Site::with(&keys.map(|key| (key, "800ms"))).await?;
    let (mut client, mut app) = tunnel(&site).await?;
    outlast(Duration::from_millis(800)).await;
    client.send("still there").await?;
    ensure!(app.exactly(11).await? == b"still there");
    Ok(())
}

#[tokio::test]
async fn a_silent_socket_is_cut_at_the_idle_limit_and_a_busy_one_is_not() -> Result<()> {
    let site = Site::with(&[("upstreams.idle_timeout", "1s")]).await?;
    let (mut client, mut app) = tunnel(&site).await?;
    for _ in 0..4 {
        outlast(Duration::from_millis(250)).await;
        app.send("x").await?;
        ensure!(client.exactly(1).await? == b"x");
    }
    client.rest().await.context("the silent socket stays open")?;
    app.rest().await?;
    site.gateway.expect_metric("embedgate_tunnels_active", 0.0).await
}

#[tokio::test]
async fn a_socket_is_told_before_the_gateway_leaves() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let leaving = site.gateway.leave()?;
    ensure!(close_code(&mut client, false).await? == 1012);
    ensure!(close_code(&mut app, true).await? == 1001);
    client.send([frame_head(0x88, 2, true), vec![0x03, 0xf4]].concat()).await?;
    app.send([frame_head(0x88, 2, false), vec![0x03, 0xe9]].concat()).await?;
    client.expect_end().await?;
    app.expect_end().await?;
    leaving.ended().await
}

/// The gateway leaves while the app's frame is under way: it arrives whole, and the goodbye behind it.
async fn leave_within(first: u8, payload: usize, sent: usize) -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let frame = [frame_head(first, payload, false), vec![b'x'; payload]].concat();
    let (before, after) = frame.split_at(sent);
    app.send(before).await?;
    ensure!(client.exactly(before.len()).await? == before);
    let leaving = site.gateway.leave()?;
    // The other direction stands between two frames, so its goodbye shows that the gateway is on its way out.
    ensure!(close_code(&mut app, true).await? == 1001);
    client.expect_silence().context("something within a frame")?;
    // A frame more than the rest: it begins behind the boundary and must not follow the goodbye.
    app.send([after, &frame_head(0x81, 1, false), b"!"].concat()).await?;
    ensure!(client.exactly(after.len()).await? == after, "the frame is broken");
    ensure!(close_code(&mut client, false).await? == 1012);
    app.send([frame_head(0x88, 2, false), vec![0x03, 0xe9]].concat()).await?;
    client.send([frame_head(0x88, 2, true), vec![0x03, 0xf4]].concat()).await?;
    client.expect_end().await?;
    leaving.ended().await
}

#[tokio::test]
async fn the_goodbye_waits_for_the_end_of_a_long_frame() -> Result<()> {
    leave_within(0x82, 100_000, 40_000).await
}

#[tokio::test]
async fn the_goodbye_waits_for_the_end_of_a_frame_header() -> Result<()> {
    leave_within(0x82, 100_000, 5).await
}

#[tokio::test]
async fn the_goodbye_may_come_between_the_frames_of_a_fragmented_message() -> Result<()> {
    // A first fragment: text, and not the last of its message.
    leave_within(0x01, 1000, 500).await
}

#[tokio::test]
async fn the_goodbye_waits_for_the_end_of_the_clients_frame_too() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let frame = [frame_head(0x82, 1000, true), vec![b'x'; 1000]].concat();
    client.send(&frame[..300]).await?;
    ensure!(app.exactly(300).await? == frame[..300]);
    let leaving = site.gateway.leave()?;
    ensure!(close_code(&mut client, false).await? == 1012);
    app.expect_silence().context("something within a frame")?;
    client.send(&frame[300..]).await?;
    ensure!(app.exactly(frame.len() - 300).await? == frame[300..], "the frame is broken");
    ensure!(close_code(&mut app, true).await? == 1001);
    drop((client, app));
    leaving.ended().await
}

#[tokio::test]
async fn nothing_follows_a_close_frame_of_the_app() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let close = [frame_head(0x88, 2, false), vec![0x03, 0xe8]].concat();
    app.send(&close).await?;
    ensure!(client.exactly(close.len()).await? == close);
    let leaving = site.gateway.leave()?;
    ensure!(close_code(&mut app, true).await? == 1001);
    client.expect_silence().context("a second close")?;
    drop((client, app));
    leaving.ended().await
}

#[tokio::test]
async fn a_socket_that_does_not_answer_the_goodbye_does_not_hold_the_gateway() -> Result<()> {
    let mut site = Site::with(&[("server.drain_timeout", "500ms")]).await?;
    let (mut client, mut app) = tunnel(&site).await?;
    site.gateway.leave()?.ended().await?;
    ensure!(close_code(&mut client, false).await? == 1012);
    ensure!(close_code(&mut app, true).await? == 1001);
    client.expect_end().await?;
    Ok(())
}
