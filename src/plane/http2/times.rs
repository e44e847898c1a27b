//! When something is due on a connection: its end, or a ping.

use super::{ALIVE, Connection, LAST_CALL};
use crate::plane::account::NEVER;
use crate::wire::http2::frame::{self, kind};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long a client may take to close a connection on which nothing runs any more.
const FAREWELL: Duration = Duration::from_secs(10);

impl Connection {
    /// Does what is due; ready when the connection is to be cut.
    pub(super) fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (now, idle) = (Instant::now(), self.shared.live() == 0);
            let end = self.end(now, idle);
            if now >= end {
                if self.leaving.is_some() || self.farewell.is_some() || !self.input.has_begun() {
                    return Poll::Ready(());
                }
                self.leave();
                // It is to go out.
                cx.waker().wake_by_ref();
                continue;
            }
            let next = if idle { end } else { end.min(self.ping(cx, now)) };
            if now >= next {
                return Poll::Ready(());
            }
            if self.timer.poll(cx, next).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// When the client is asked to leave, or, once it was, when the connection is cut.
    fn end(&self, now: Instant, idle: bool) -> Instant {
        let since = self.shared.since();
        match (self.farewell, self.leaving) {
            (Some((until, _)), _) => until,
            _ if !self.input.has_begun() => self.end_of_beginning(),
            (None, Some(told)) if idle => told.max(since) + self.patience(),
            // What runs has limits of its own.
            (None, Some(_)) => now + NEVER,
            (None, None) if idle => self.aged.min(since + self.patience()),
            (None, None) => self.aged,
        }
    }

    /// Until when a client has to have begun; sooner when the worker drains.
    fn end_of_beginning(&self) -> Instant {
        let end = self.begun + self.shared.worker.plane.settings.header_timeout;
        self.leaving.map_or(end, |leaving| end.min(leaving + LAST_CALL))
    }

    /// How long nothing may run: a client is expected to ask at once, and then has the time of any other connection. Ends
    /// of answers that it has not taken wait as long as any answer does.
    fn patience(&self) -> Duration {
        let settings = &self.shared.worker.plane.settings;
        match self.leaving {
            _ if !self.output.is_empty() => settings.idle_timeout,
            Some(_) => FAREWELL,
            None if self.requests == 0 => settings.header_timeout,
            None => settings.keep_alive_timeout,
        }
    }

    /// Pings a client with open streams that is silent, so that load balancers do not cut the connection and one that is
    /// gone is found out. Says when there is something to do again, or when its silence is the end: as late as for any
    /// stream that stands still, because who reads slowly sees the ping late.
    fn ping(&mut self, cx: &mut Context<'_>, now: Instant) -> Instant {
        let settings = &self.shared.worker.plane.settings;
        let (interval, limit) = (settings.ping_interval, settings.idle_timeout);
        if interval.is_zero() {
            return now + NEVER;
        }
        // Whatever is heard is an answer.
        if let Some(pinged) = self.pinged.filter(|pinged| self.heard < *pinged) {
            return pinged + limit;
        }
        self.pinged = None;
        if now < self.heard + interval {
            return self.heard + interval;
        }
        frame::write(self.output.buffer(), kind::PING, 0, 0, ALIVE);
        self.pinged = Some(now);
        cx.waker().wake_by_ref();
        now + limit
    }
}
