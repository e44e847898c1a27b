//! One timer for all the deadlines of a connection. It is armed again only when it fires or when an earlier deadline
//! comes, so that a request which ends in time touches no timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of a connection.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    /// A timer that will first fire after `first`.
    pub(super) fn new(first: Duration) -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now() + first)) }
    }

    /// Ready once `deadline` has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
