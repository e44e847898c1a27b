//! What each frame of the client's means (RFC 9113 6).

use super::stream::Answer;
use super::{Connection, LEAVING};
use crate::wire::http2::frame::{self, Head, flag, kind};
use crate::wire::http2::reason::Reason;

/// Frames without any meaning that may come one after the other. Real ones are a few at a time: orders of streams, kinds
/// that are unknown here.
const MAX_NOISE: u32 = 1000;
/// Streams that were ended here before the client had ended them, of which frames may still be on their way.
const MAX_CUT: usize = 256;

/// What is wrong with a frame.
pub(super) enum Fault {
    /// Its stream is reset.
    Stream(u32, Reason),
    /// The connection ends.
    Connection(Reason),
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Connection(reason)
    }
}

impl Connection {
    /// Takes a frame.
    ///
    /// # Errors
    /// The reason to end the connection for.
    pub(super) fn take(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        let is_of_stream = head.stream != 0;
        let may_be = match head.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => is_of_stream,
            kind::SETTINGS | kind::PING | kind::GOAWAY => !is_of_stream,
            // Servers are not promised anything (RFC 9113 8.4).
            kind::PUSH_PROMISE => false,
            _ => true,
        };
        if !may_be {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let taken = match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => self.reset_by_client(head.stream, payload),
            kind::WINDOW_UPDATE => self.window(head.stream, payload),
            kind::SETTINGS => self.settings(head, payload).map_err(Fault::Connection),
            kind::PING => self.pinged(head, payload).map_err(Fault::Connection),
            kind::GOAWAY if payload.len() < 8 => Err(Reason::FRAME_SIZE_ERROR.into()),
            kind::PRIORITY if payload.len() != 5 => Err(Fault::Stream(head.stream, Reason::FRAME_SIZE_ERROR)),
            _ => self.noise().map_err(Fault::Connection),
        };
        match taken {
            Ok(()) => Ok(()),
            Err(Fault::Connection(reason)) => Err(reason),
            Err(Fault::Stream(stream, reason)) => self.fault(stream, reason),
        }
    }

    /// Resets a stream for what the client has done there. Clients could have much work done and thrown away that way
    /// (CVE-2025-8671), so there are only so many.
    pub(super) fn fault(&mut self, stream: u32, reason: Reason) -> Result<(), Reason> {
        self.faults += 1;
        if self.faults > self.limits().faults {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        self.output.answer(|out| frame::reset(out, stream, reason));
        self.cut(stream);
        Ok(())
    }

    /// Forgets a stream that the client may still send frames of.
    pub(super) fn cut(&mut self, number: u32) {
        if self.open.place(number).and_then(|place| self.open.remove(place)).is_none_or(|stream| !stream.has_ended) {
            if self.cut.len() == MAX_CUT {
                self.cut.pop_front();
            }
            self.cut.push_back(number);
        }
    }

    /// Counts a frame that moves nothing.
    fn noise(&mut self) -> Result<(), Reason> {
        self.noise += 1;
        if self.noise > MAX_NOISE { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }

    /// A part of a body. All of it counts against the windows, its padding too (RFC 9113 6.1).
    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        self.receive.take(payload.len()).map_err(|_| Reason::FLOW_CONTROL_ERROR)?;
        let (data, ends) = (head.content(payload)?, head.has(flag::END_STREAM));
        if data.is_empty() && !ends {
            self.noise()?;
        } else {
            self.noise = 0;
        }
        let Some(place) = self.open.place(head.stream) else {
            self.shared.count_taken(payload.len());
            return self.late(head.stream);
        };
        let Some(stream) = self.open.at(place) else { return Ok(()) };
        stream.receive.take(payload.len()).map_err(|_| Reason::FLOW_CONTROL_ERROR)?;
        let received = if stream.has_ended { Err(Reason::STREAM_CLOSED) } else { stream.receive(data, ends) };
        if let Err(reason) = received {
            self.shared.count_taken(payload.len());
            return Err(Fault::Stream(head.stream, reason));
        }
        stream.far.skip(payload.len() - data.len());
        self.after_upload(place);
        Ok(())
    }

    /// Ends a stream of which nothing is left, and gives the client its window back.
    pub(super) fn after_upload(&mut self, place: usize) {
        let Some(stream) = self.open.at(place) else { return };
        if stream.has_ended && matches!(stream.answer, Answer::Over) {
            self.open.remove(place);
        } else {
            self.give_back(place);
        }
    }

    /// Gives a stream's window back as far as it is time.
    pub(super) fn give_back(&mut self, place: usize) {
        let Some(stream) = self.open.at(place).filter(|stream| !stream.has_ended) else { return };
        let bytes = stream.far.give_back();
        if bytes > 0 {
            // Never more than was taken from it.
            let _ = stream.receive.grow(bytes as u32);
            frame::more_window(self.output.buffer(), stream.number, bytes as u32);
        }
    }

    /// A frame for a stream that is not open. What is on its way for one that was ended here is nobody's fault.
    pub(super) fn late(&self, stream: u32) -> Result<(), Fault> {
        if self.is_idle(stream) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        if self.cut.contains(&stream) || self.is_beyond_end(stream) {
            return Ok(());
        }
        Err(Fault::Stream(stream, Reason::STREAM_CLOSED))
    }

    /// Whether nobody has opened a stream yet. Those of even numbers would be ours (RFC 9113 5.1.1).
    fn is_idle(&self, stream: u32) -> bool {
        stream > self.last || stream.is_multiple_of(2)
    }

    /// Whether the client was told that a stream is not looked at any more.
    pub(super) fn is_beyond_end(&self, stream: u32) -> bool {
        self.told_last.is_some_and(|last| stream > last)
    }

    fn reset_by_client(&mut self, stream: u32, payload: &[u8]) -> Result<(), Fault> {
        frame::number(payload)?;
        if self.is_idle(stream) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        let Some(removed) = self.open.place(stream).and_then(|place| self.open.remove(place)) else {
            return Ok(self.noise()?);
        };
        if removed.is_early() {
            self.given_up += 1;
        }
        drop(removed);
        let (limits, given_up) = (self.limits(), self.given_up);
        let is_restless = given_up >= limits.resets && given_up >= self.requests / 2;
        // CVE-2023-44487.
        if is_restless || self.shared.unseen.get() > limits.early_resets {
            return Err(Reason::ENHANCE_YOUR_CALM.into());
        }
        Ok(())
    }

    fn window(&mut self, stream: u32, payload: &[u8]) -> Result<(), Fault> {
        let bytes = frame::number(payload)?;
        if stream == 0 {
            if bytes == 0 {
                return Err(Reason::PROTOCOL_ERROR.into());
            }
            self.send.grow(bytes).map_err(|_| Reason::FLOW_CONTROL_ERROR)?;
            return Ok(());
        }
        let Some(place) = self.open.place(stream) else {
            return if self.is_idle(stream) { Err(Reason::PROTOCOL_ERROR.into()) } else { Ok(()) };
        };
        if bytes == 0 {
            return Err(Fault::Stream(stream, Reason::PROTOCOL_ERROR));
        }
        if let Some(found) = self.open.at(place) {
            found.send.grow(bytes).map_err(|_| Fault::Stream(stream, Reason::FLOW_CONTROL_ERROR))?;
        }
        self.queue(place);
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if head.has(flag::ACK) {
            return if payload.is_empty() { self.noise() } else { Err(Reason::FRAME_SIZE_ERROR) };
        }
        let before = self.client.window;
        self.client.apply(payload)?;
        self.encoder.allow(self.client.table);
        if self.client.window != before {
            for (_, stream) in self.open.iter_mut() {
                stream.send.change(before, self.client.window).map_err(|_| Reason::FLOW_CONTROL_ERROR)?;
            }
            self.queue_all();
        }
        self.output.answer(|out| frame::write(out, kind::SETTINGS, flag::ACK, 0, &[]));
        Ok(())
    }

    fn pinged(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if payload.len() != LEAVING.len() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if !head.has(flag::ACK) {
            self.output.answer(|out| frame::write(out, kind::PING, flag::ACK, 0, payload));
        } else if payload == LEAVING && self.leaving.is_some() {
            self.tell_last();
        } else {
            self.noise()?;
        }
        Ok(())
    }
}
