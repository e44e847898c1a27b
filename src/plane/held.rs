//! A request's body that is held until it is known where it goes, or can be signed. Of all bodies together only so much is held, and of each
//! only what has come.

use super::Plane;
use super::client::Client;
use super::worker::Worker;
use crate::model::reject::{Class, Reject};
use crate::wire::body::Framing;
use crate::wire::request::Head;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// A body has to have come after this time, however steadily it drips: it takes room from others.
const LONGEST: Duration = Duration::from_secs(300);
/// A body begins with room for this much.
const FIRST_ROOM: usize = 8 * 1024;

/// A body, and its share of what may be held.
pub(super) struct Held {
    bytes: Vec<u8>,
    plane: Arc<Plane>,
    share: usize,
}

impl Held {
    /// Reads a body of at most `limit` bytes to its end. What `look` has against a piece is said at the end: a client that
    /// is still sending would not hear it.
    ///
    /// # Errors
    /// [`Reject`] when the body is too long, breaks off, or finds no room.
    pub(super) async fn read(
        worker: &Worker,
        client: &mut Client,
        head: &Head<'_>,
        limit: usize,
        mut look: impl FnMut(&[u8]) -> Result<(), Reject>,
    ) -> Result<Self, Reject> {
        let too_large =
            || Reject::new(Class::BodyTooLarge, "the body is larger than is held, or than limits.body_bytes");
        let limit = match worker.plane.settings.body_bytes {
            0 => limit,
            all => limit.min(usize::try_from(all).unwrap_or(limit)),
        };
        if matches!(head.framing, Framing::Length(length) if length > limit as u64) {
            return Err(too_large());
        }
        let mut body = Self { bytes: Vec::new(), plane: Arc::clone(&worker.plane), share: 0 };
        let (mut length, mut fault) = (0, None);
        let end = Instant::now() + LONGEST;
        let deadline = || end.min(Instant::now() + worker.plane.settings.body_idle_timeout);
        let take = |piece: &[u8]| {
            length += piece.len();
            if length > limit {
                return Err(too_large());
            }
            if fault.is_none() {
                fault = look(piece).and_then(|()| body.keep(piece, limit)).err();
            }
            if fault.is_some() {
                body.forget();
            }
            Ok(())
        };
        client.read_pieces(worker, head, deadline, take).await?;
        fault.map_or(Ok(body), Err)
    }

    fn keep(&mut self, piece: &[u8], limit: usize) -> Result<(), Reject> {
        let needed = self.bytes.len() + piece.len();
        if needed > self.share {
            let more = needed.max(2 * self.share).max(FIRST_ROOM).min(limit) - self.share;
            let before = self.plane.held_bytes.fetch_add(more, Ordering::Relaxed);
            self.plane.metrics.held_bytes.increment(more as f64);
            self.share += more;
            if before + more > self.plane.settings.held_bytes {
                return Err(Reject::new(Class::Overloaded, "the bodies that are held fill limits.held_bytes"));
            }
            self.bytes.reserve_exact(self.share - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts the body where the next exchange reads it from, and gives the head that goes with it: its length is known now.
    /// It is kept for another time when it `may_be_needed`.
    pub(super) fn offer<'h>(&mut self, client: &mut Client, head: &Head<'h>, may_be_needed: bool) -> Head<'h> {
        let bytes = if may_be_needed { self.bytes.clone() } else { std::mem::take(&mut self.bytes) };
        let framing = if bytes.is_empty() { Framing::Empty } else { Framing::Length(bytes.len() as u64) };
        let behind = std::mem::replace(&mut client.unread, bytes);
        client.unread.extend_from_slice(&behind);
        Head { framing, expects_continue: false, ..*head }
    }

    fn forget(&mut self) {
        self.bytes = Vec::new();
        let share = std::mem::take(&mut self.share);
        self.plane.held_bytes.fetch_sub(share, Ordering::Relaxed);
        self.plane.metrics.held_bytes.decrement(share as f64);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.forget();
    }
}
