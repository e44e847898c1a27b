//! What RFC 9113 forbids, frame by frame: what it ends, with which code, and that nothing else suffers.

use super::Site;
use super::bounds::HEALTH;
use crate::harness::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Outcome, PADDED, PING, PRIORITIZED,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};
use crate::harness::raw::{Wire, ok};
use anyhow::{Result, ensure};

/// Error codes (RFC 9113 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const CALM: u32 = 11;

const MAX_WINDOW: u32 = (1 << 31) - 1;

fn update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// A request for the gateway itself.
fn health(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&HEALTH))
}

#[tokio::test]
async fn faults_of_a_connection_end_it_with_their_code() -> Result<()> {
    let site = Site::open().await?;
    let post = frame(HEADERS, END_HEADERS, 1, &site.block("POST", &[]));
    let after_post = |more: &[u8]| [&post[..], more].concat();
    let half_a_head = frame(HEADERS, END_STREAM, 1, &block(&HEALTH));
    for (what, bytes, code) in [
        ("DATA before HEADERS", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        ("RST_STREAM before HEADERS", frame(RST_STREAM, 0, 1, &[0; 4]), PROTOCOL_ERROR),
        ("WINDOW_UPDATE before HEADERS", update(1, 5), PROTOCOL_ERROR),
        ("a head of the connection", frame(HEADERS, END_HEADERS, 0, &block(&HEALTH)), PROTOCOL_ERROR),
        ("a stream of ours", frame(HEADERS, END_HEADERS, 2, &block(&HEALTH)), PROTOCOL_ERROR),
        ("numbers that go down", [health(5), health(3)].concat(), STREAM_CLOSED),
        ("a promise", after_post(&frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])), PROTOCOL_ERROR),
        ("PING of seven bytes", frame(PING, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
        ("PING of a stream", frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR),
        ("an answer to SETTINGS with more", frame(SETTINGS, ACK, 0, &[0; 6]), FRAME_SIZE_ERROR),
        ("a window that is none", setting(4, 1 << 31), FLOW_CONTROL_ERROR),
        ("a frame size that is none", setting(5, 100), PROTOCOL_ERROR),
        ("no more window", update(0, 0), PROTOCOL_ERROR),
        ("too much window", update(0, MAX_WINDOW), FLOW_CONTROL_ERROR),
        ("WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), FRAME_SIZE_ERROR),
        ("a short GOAWAY", frame(GOAWAY, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &[]), PROTOCOL_ERROR),
        ("something inside a head", [half_a_head.clone(), frame(PING, 0, 0, b"12345678")].concat(), PROTOCOL_ERROR),
        ("another stream inside a head", [half_a_head, frame(CONTINUATION, 4, 3, &[])].concat(), PROTOCOL_ERROR),
        ("more padding than frame", after_post(&frame(DATA, PADDED, 1, &[5, 1, 2, 3, 4])), PROTOCOL_ERROR),
        ("padding of no length", after_post(&frame(DATA, PADDED, 1, &[])), FRAME_SIZE_ERROR),
        ("fields that cannot be read", frame(HEADERS, END_HEADERS, 1, &[0xff; 9]), COMPRESSION_ERROR),
        ("trailers that cannot be read", after_post(&frame(HEADERS, 5, 1, &[0x80])), COMPRESSION_ERROR),
        ("windows made too large", after_post(&[update(1, MAX_WINDOW - 65_535), setting(4, 65_536)].concat()), 3),
    ] {
        let mut client = Frames::connect(site.gateway.address).await?;
        client.bytes(&bytes).await?;
        let outcome = client.outcome(999).await?;
        ensure!(outcome == Outcome::GoAway(code), "{what}: {outcome:?}");
        client.ended().await?;
    }
    // The connection of a client who begins with something else than its settings.
    let mut wire = Wire::connect(site.gateway.address).await?;
    wire.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &health(1)].concat()).await?;
    wire.rest().await?;
    site.gateway.expect_metric("embedgate_connections_active", 0.0).await
}

#[tokio::test]
async fn faults_of_a_stream_end_it_alone() -> Result<()> {
    let site = Site::open().await?;
    let get = frame(HEADERS, END_HEADERS | END_STREAM, 1, &site.block("GET", &[]));
    let post = frame(HEADERS, END_HEADERS, 1, &site.block("POST", &[]));
    for (what, head, fault, code) in [
        ("no more window", &post, update(1, 0), PROTOCOL_ERROR),
        ("too much window", &post, update(1, MAX_WINDOW), FLOW_CONTROL_ERROR),
        ("DATA behind the end", &get, frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
        ("trailers behind the end", &get, frame(HEADERS, 5, 1, &block(&[("a", "b")])), STREAM_CLOSED),
        ("trailers that are not the end", &post, frame(HEADERS, 4, 1, &block(&[("a", "b")])), PROTOCOL_ERROR),
        ("pseudo-header fields as trailers", &post, frame(HEADERS, 5, 1, &block(&[(":path", "/")])), PROTOCOL_ERROR),
        ("an order of three bytes", &post, frame(PRIORITY, 0, 1, &[0; 3]), FRAME_SIZE_ERROR),
    ] {
        let mut client = Frames::connect(site.gateway.address).await?;
        client.bytes(head).await?;
        let mut app = site.upstream.accept().await?;
        app.head().await?;
        client.bytes(&[fault, health(3)].concat()).await?;
        let outcome = client.outcome(1).await?;
        ensure!(outcome == Outcome::Reset(code), "{what}: {outcome:?}");
        ensure!(client.outcome(3).await? == Outcome::Status(200), "{what}: the connection suffers");
        app.rest().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_odd_and_allowed_does_no_harm() -> Result<()> {
    let site = Site::open().await?;
    let head = site.block("POST", &[]);
    let padded = [&[3, 0, 0, 0, 1, 9][..], &head, &[0; 3]].concat();
    let mut client = Frames::connect(site.gateway.address).await?;
    // An unknown kind, an order of a stream behind itself, and one that is in the head (RFC 9113 5.3 and 5.5).
    client.send(0x77, 0xff, 7, b"whatever").await?;
    client.send(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]).await?;
    client.send(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, &padded).await?;
    let mut app = site.upstream.accept().await?;
    app.head().await?;
    // Padding uses the windows up, and they are given back: this is more than they hold.
    for _ in 0..2000 {
        client.send(DATA, PADDED, 1, &[&[255, b'x'][..], &[0; 255]].concat()).await?;
    }
    client.send(DATA, END_STREAM | PADDED, 1, b"\x02last\0\0").await?;
    let body = app.exactly(2000).await?;
    ensure!(body.contains(&b'x'));
    app.send(ok("served")).await?;
    ensure!(client.outcome(1).await? == Outcome::Status(200));
    Ok(())
}

#[tokio::test]
async fn frames_that_move_nothing_are_not_taken_for_ever() -> Result<()> {
    let site = Site::open().await?;
    for flood in [
        frame(0x77, 0, 1, b""),
        frame(PRIORITY, 0, 1, &[0; 5]),
        frame(SETTINGS, ACK, 0, &[]),
        frame(PING, ACK, 0, b"12345678"),
        frame(GOAWAY, 0, 0, &[0; 8]),
    ] {
        let mut client = Frames::connect(site.gateway.address).await?;
        client.bytes(&flood.repeat(1500)).await?;
        let outcome = client.outcome(1).await?;
        ensure!(outcome == Outcome::GoAway(CALM), "{flood:?}: {outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn few_bytes_do_not_become_many_fields() -> Result<()> {
    let site = Site::with(&[("limits.header_bytes", "8192")]).await?;
    // A field of 3 KB that is kept, and then one byte each time it is meant (RFC 7541 6.1).
    let value = "y".repeat(3000);
    let mut large = block(&[("x-a", &value)]);
    large[0] = 0x40;
    for (times, outcome) in [(5, Outcome::Status(431)), (12_000, Outcome::GoAway(CALM))] {
        let mut client = Frames::connect(site.gateway.address).await?;
        let fields = [block(&HEALTH), large.clone(), vec![0xbe; times]].concat();
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields).await?;
        let seen = client.outcome(1).await?;
        ensure!(seen == outcome, "{times}: {seen:?}");
        if times == 5 {
            // What came is known all the same: the fields of the next request may refer to it.
            client.send(HEADERS, END_HEADERS | END_STREAM, 3, &[block(&HEALTH), vec![0xbe]].concat()).await?;
            ensure!(client.outcome(3).await? == Outcome::Status(200));
        }
    }
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn streams_with_mistakes_are_counted_up_to_the_limit() -> Result<()> {
    let site = Site::with(&[("limits.http2_faults", "5")]).await?;
    let head = site.block("GET", &[("connection", "close")]);
    // Mistakes in the head, and such on a stream that is being served (CVE-2025-8671).
    let malformed = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
    let begun = |stream| [health(stream), update(stream, 0)].concat();
    for mistake in [&malformed as &dyn Fn(u32) -> Vec<u8>, &begun] {
        let mut client = Frames::connect(site.gateway.address).await?;
        let mistakes: Vec<u8> = (1..).step_by(2).take(6).flat_map(mistake).collect();
        client.bytes(&mistakes).await?;
        ensure!(client.outcome(999).await? == Outcome::GoAway(CALM));
    }
    site.upstream.expect_untouched()
}

#[tokio::test]
async fn nothing_that_comes_breaks_the_gateway() -> Result<()> {
    let site = Site::open().await?;
    let mut state = 11u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..150 {
        let mut bytes = Vec::new();
        for stream in (1..60).step_by(2) {
            let mut next = health(stream);
            for _ in 0..random(3) {
                let at = random(next.len());
                next[at] ^= 1 << random(8);
            }
            bytes.extend(next);
            let payload: Vec<u8> = (0..random(40)).map(|_| random(256) as u8).collect();
            bytes.extend(frame(random(11) as u8, random(256) as u8, random(70) as u32, &payload));
        }
        let mut client = Frames::connect(site.gateway.address).await?;
        // The connection may end before all of it is sent.
        let _ = client.bytes(&bytes).await;
    }
    site.gateway.expect_metric("embedgate_connections_active", 0.0).await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await?;
    site.gateway.expect_metric("embedgate_panics_total", 0.0).await
}
