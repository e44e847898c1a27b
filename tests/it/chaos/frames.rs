//! Frames of WebSockets with short payloads (RFC 6455 5.2).

use crate::harness::raw::Wire;
use anyhow::{Result, ensure};

pub(super) const TEXT: u8 = 0x81;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

/// The next frame: its first byte and its payload.
pub(super) async fn read(wire: &mut Wire) -> Result<(u8, Vec<u8>)> {
    let head = wire.exactly(2).await?;
    let length = usize::from(head[1] & 0x7f);
    ensure!(length < 126, "a frame that is longer than any that was sent");
    let mask = if head[1] & 0x80 != 0 { wire.exactly(4).await? } else { vec![0; 4] };
    let payload = wire.exactly(length).await?;
    Ok((head[0], payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()))
}

/// A frame, masked with zeros where it is a client's.
pub(super) fn write(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask = if masked { &[0; 4][..] } else { &[] };
    [&[first, u8::from(masked) << 7 | payload.len() as u8], mask, payload].concat()
}
