//! A request's body that is held until it is known where it goes, or can be signed. Of all bodies together only so much is held, and of each
//! only what has come.

use super::Plane;
use super::account::Account;
use super::client::Client;
use super::worker::Worker;
use crate::live::held::HeldShare;
use crate::model::reject::{Class, Reject};
use crate::wire::body::Framing;
use crate::wire::request::Head;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A body has to have come after this time, however steadily it drips: it takes room from others.
const LONGEST: Duration = Duration::from_secs(300);
/// A body begins with room for this much.
const FIRST_ROOM: usize = 8 * 1024;

/// What has no room for more.
#[derive(Clone, Copy)]
enum Full {
    /// The organisation's share.
    Organisation,
    All,
}

/// A body, and its share of what may be held: of its organisation's, and of all.
pub(super) struct Held {
    bytes: Vec<u8>,
    plane: Arc<Plane>,
    own: HeldShare,
    all: HeldShare,
}

impl Held {
    /// Reads a body of at most `limit` bytes to its end, on the account of the session's organisation. What `look` has
    /// against a piece is said at the end: a client that is still sending would not hear it.
    ///
    /// # Errors
    /// [`Reject`] when the body is too long, breaks off, or finds no room.
    pub(super) async fn read(
        worker: &Worker,
        client: &mut Client,
        head: &Head<'_>,
        limit: usize,
        account: &Account,
        mut look: impl FnMut(&[u8]) -> Result<(), Reject>,
    ) -> Result<Self, Reject> {
        let too_large =
            || Reject::new(Class::BodyTooLarge, "the body is larger than is held, or than limits.body_bytes");
        let limit = shorter(limit, worker.plane.settings.body_bytes);
        if matches!(head.framing, Framing::Length(length) if length > limit as u64) {
            return Err(too_large());
        }
        let mut body = Self::empty(&worker.plane, account);
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

    fn empty(plane: &Arc<Plane>, account: &Account) -> Self {
        let snapshot = plane.directory.snapshot();
        let session = account.session.as_ref();
        let org = session.and_then(|session| Some(Arc::clone(&snapshot.as_ref()?.org(session.org())?.held)));
        // Who is in no organisation any more is refused as soon as it is asked where the request goes.
        let own = org.unwrap_or_default().share();
        Self { bytes: Vec::new(), plane: Arc::clone(plane), own, all: plane.held.share() }
    }

    fn keep(&mut self, piece: &[u8], limit: usize) -> Result<(), Reject> {
        let (needed, room) = (self.bytes.len() + piece.len(), self.all.bytes());
        if needed > room {
            let room = needed.max(2 * room).max(FIRST_ROOM).min(limit);
            self.make_room(room).map_err(|full| self.refuse(full))?;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Makes room for so many bytes in all.
    fn make_room(&mut self, room: usize) -> Result<(), Full> {
        let settings = &self.plane.settings;
        let more = room - self.all.bytes();
        if !self.own.grow(more, settings.held_bytes_per_org) {
            return Err(Full::Organisation);
        }
        if !self.all.grow(more, settings.held_bytes) {
            return Err(Full::All);
        }
        self.plane.metrics.held_bytes.increment(more as f64);
        self.bytes.reserve_exact(room - self.bytes.len());
        Ok(())
    }

    fn refuse(&self, full: Full) -> Reject {
        let metrics = &self.plane.metrics;
        let (counter, cause) = match full {
            Full::Organisation => (
                &metrics.held_full_for_org,
                "the bodies of the organisation that are held fill limits.held_bytes_per_org",
            ),
            Full::All => (&metrics.held_full, "the bodies that are held fill limits.held_bytes"),
        };
        counter.increment(1);
        Reject::new(Class::Overloaded, cause)
    }

    /// Puts `text` in the place of a part of the body; false, and nothing is changed, if that makes it longer than `limit` or
    /// finds no room.
    pub(super) fn replace(&mut self, part: Range<usize>, text: &str, limit: usize) -> bool {
        let limit = shorter(limit, self.plane.settings.body_bytes);
        let length = self.bytes.len() - part.len() + text.len();
        let fits = length <= limit && (length <= self.all.bytes() || self.make_room(length).is_ok());
        if fits {
            self.bytes.splice(part, text.bytes());
        }
        fits
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
        self.plane.metrics.held_bytes.decrement(self.all.bytes() as f64);
        self.all.give_back();
        self.own.give_back();
    }
}

/// The shorter of a limit and `limits.body_bytes`, of which 0 is none.
fn shorter(limit: usize, body_bytes: u64) -> usize {
    match body_bytes {
        0 => limit,
        most => limit.min(usize::try_from(most).unwrap_or(limit)),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.forget();
    }
}
