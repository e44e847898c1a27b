//! Connections of HTTP/2 that end because of what the client does there: counted, and told in the log as far as one can
//! read it. They never became requests, so nothing else tells of them.

use crate::metrics::Http2Refusal;
use crate::plane::worker::Worker;
use crate::wire::http2::reason::Reason;
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Most lines of a worker within a window: whoever floods the gateway does not flood its log.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Notes that a connection was ended for this reason. What the client or the network has ended is nobody's fault.
pub(super) fn note(worker: &Worker, peer: IpAddr, reason: Reason) {
    let refusal = refusal(reason);
    worker.plane.metrics.count_http2_refusal(refusal);
    if let Some(left_out) = worker.complaints.admit(Instant::now()) {
        let reason = refusal.label();
        tracing::info!(%peer, reason, left_out, "a connection of HTTP/2 is refused for what the client does");
    }
}

fn refusal(reason: Reason) -> Http2Refusal {
    match reason {
        Reason::PROTOCOL_ERROR => Http2Refusal::Protocol,
        Reason::FLOW_CONTROL_ERROR => Http2Refusal::FlowControl,
        Reason::STREAM_CLOSED => Http2Refusal::StreamClosed,
        Reason::FRAME_SIZE_ERROR => Http2Refusal::FrameSize,
        Reason::COMPRESSION_ERROR => Http2Refusal::Compression,
        Reason::ENHANCE_YOUR_CALM => Http2Refusal::Calm,
        _ => Http2Refusal::Other,
    }
}

/// How much a worker has said of refused connections lately.
#[derive(Default)]
pub(in crate::plane) struct Complaints {
    /// When the window began.
    began: Cell<Option<Instant>>,
    lines: Cell<u32>,
    left_out: Cell<u64>,
}

impl Complaints {
    /// Whether one more line may be written now; with how many were left out since the last one.
    fn admit(&self, now: Instant) -> Option<u64> {
        if self.began.get().is_none_or(|began| now >= began + WINDOW) {
            self.began.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() == LINES {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.lines.set(self.lines.get() + 1);
        Some(self.left_out.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let admitted = (0..1000).filter(|_| complaints.admit(start) == Some(0)).count();
        assert_eq!(admitted, LINES as usize);
        assert_eq!(complaints.admit(start + WINDOW), Some(1000 - u64::from(LINES)));
        assert_eq!(complaints.admit(start + WINDOW), Some(0));
    }
}
