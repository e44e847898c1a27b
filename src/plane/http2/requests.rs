//! Fields of the client's: a new request, or the trailers of one.

use super::input::Block;
use super::lane::Job;
use super::pipe::Far;
use super::receive::Fault;
use super::shared::Alive;
use super::stream::{Answer, Stream};
use super::{Connection, FIELDS_BEYOND};
use crate::wire::http2::frame::{self, Head, flag};
use crate::wire::http2::reason::Reason;
use crate::wire::http2::request::{Asked, Content, Refusal, Trailers, Writer};
use crate::wire::http2::settings::LEAST_FRAME;
use crate::wire::http2::window::Window;
use crate::wire::request::{HeadEnd, HeadError};
use std::rc::Rc;

/// Frames that the fields of a request may come in beyond those that they need.
const MORE_FRAMES: usize = 8;

impl Connection {
    /// A request, or the trailers of one (RFC 9113 6.2).
    pub(super) fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let (fields, ends) = (head.content(payload)?, head.has(flag::END_STREAM));
        if head.stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        if head.has(flag::END_HEADERS) {
            return self.fields(head.stream, ends, fields);
        }
        self.input.block = Some(Block { stream: head.stream, ends, fields: fields.to_vec(), frames: 0 });
        Ok(())
    }

    /// More fields. They are put together before they are read, so how many they are and in how many frames is bounded.
    pub(super) fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let most = self.max_fields();
        let Some(block) = &mut self.input.block else { return Err(Reason::PROTOCOL_ERROR.into()) };
        block.fields.extend_from_slice(payload);
        block.frames += 1;
        if block.fields.len() > most || block.frames > most / LEAST_FRAME as usize + MORE_FRAMES {
            return Err(Reason::ENHANCE_YOUR_CALM.into());
        }
        if !head.has(flag::END_HEADERS) {
            return Ok(());
        }
        let Some(block) = self.input.block.take() else { return Ok(()) };
        self.fields(block.stream, block.ends, &block.fields)
    }

    /// Most bytes of fields that are read at all. Beyond the limit on heads they are read, because what follows could not be
    /// understood otherwise, and answered with 431.
    fn max_fields(&self) -> usize {
        FIELDS_BEYOND * self.shared.worker.plane.settings.head_limits.bytes.max(LEAST_FRAME as usize)
    }

    fn fields(&mut self, number: u32, ends: bool, fields: &[u8]) -> Result<(), Fault> {
        self.noise = 0;
        if number > self.last {
            self.last = number;
            return if self.is_beyond_end(number) {
                Ok(self.skip(fields)?)
            } else {
                self.request(number, ends, fields)
            };
        }
        if let Some(place) = self.open.place(number) {
            return self.trailers(place, ends, fields);
        }
        self.skip(fields)?;
        // Never a stream once more (RFC 9113 5.1.1).
        self.late(number).map_err(|_| Fault::Connection(Reason::STREAM_CLOSED))
    }

    /// Reads fields that nobody wants, because those of later ones refer to them.
    fn skip(&mut self, fields: &[u8]) -> Result<(), Reason> {
        let mut scratch = self.shared.worker.buffers.take();
        let skipped = self.decoder.decode(fields, &mut scratch, |_| ());
        self.shared.worker.buffers.give(scratch);
        skipped.map_err(|_| Reason::COMPRESSION_ERROR)
    }

    /// A new stream.
    fn request(&mut self, number: u32, ends: bool, fields: &[u8]) -> Result<(), Fault> {
        let limit = self.limits().streams as usize;
        // Requests that the client has given up count until they have ended.
        if self.open.len() >= limit || self.shared.live() >= limit {
            self.skip(fields)?;
            self.output.answer(|out| frame::reset(out, number, Reason::REFUSED_STREAM));
            self.cut(number);
            return Ok(());
        }
        let (asked, head) = self.read_request(ends, fields)?;
        match asked {
            Ok(asked) => self.begin(number, ends, &asked, Ok(head)),
            Err(Refusal::Head(error)) => {
                self.shared.worker.buffers.give(head);
                self.begin(number, ends, &Asked { content: Content::None, to_head: false }, Err(error));
            }
            Err(Refusal::Malformed) => {
                self.shared.worker.buffers.give(head);
                return Err(Fault::Stream(number, Reason::PROTOCOL_ERROR));
            }
        }
        Ok(())
    }

    /// Reads a request's fields, and writes them as a head of HTTP/1.1.
    fn read_request(&mut self, ends: bool, fields: &[u8]) -> Result<(Result<Asked, Refusal>, Vec<u8>), Reason> {
        let (worker, terms) = (&self.shared.worker, self.terms);
        let (mut scratch, random) = (worker.buffers.take(), || worker.random());
        let mut writer = Writer::new(terms, worker.buffers.take(), worker.buffers.take());
        let read = self.decoder.decode(fields, &mut scratch, |field| writer.take(field));
        worker.buffers.give(scratch);
        read.map_err(|_| Reason::COMPRESSION_ERROR)?;
        if writer.size() > FIELDS_BEYOND * terms.bytes {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        let asked = writer.finish(ends, || (u128::from(random()) << 64 | u128::from(random())).to_be_bytes());
        let (head, aside) = writer.into_parts();
        worker.buffers.give(aside);
        Ok((asked, head))
    }

    /// Has a request served.
    fn begin(&mut self, number: u32, ends: bool, asked: &Asked, head: Result<Vec<u8>, HeadError>) {
        let worker = Rc::clone(&self.shared.worker);
        self.requests += 1;
        if self.requests == self.limits().max_requests || worker.streams.is_leaving() {
            self.leave();
        }
        worker.plane.metrics.http2_streams.increment(1);
        let alive = Alive::new(&self.shared);
        let job = Job { head, peer: self.peer, registration: worker.streams.register(), full: alive.full };
        let place = (&self.shared, self.open.next_place());
        let mut stream = Stream {
            number,
            far: Far::open(worker.lanes.take(&worker), place, job, asked.content, alive),
            content: asked.content,
            to_head: asked.to_head,
            send: Window::new(self.client.window),
            receive: Window::new(self.limits().stream_window),
            has_ended: ends,
            is_queued: false,
            answer: Answer::Head(HeadEnd::of_answer()),
        };
        if ends && asked.content == Content::Tunnel {
            stream.end(Vec::new());
        }
        self.open.insert(stream);
    }

    /// The trailers of a body, which end it (RFC 9113 8.1).
    fn trailers(&mut self, place: usize, ends: bool, fields: &[u8]) -> Result<(), Fault> {
        let worker = &self.shared.worker;
        let (mut scratch, mut trailers) = (worker.buffers.take(), Trailers::new(self.terms.bytes));
        let read = self.decoder.decode(fields, &mut scratch, |field| trailers.take(field));
        worker.buffers.give(scratch);
        read.map_err(|_| Reason::COMPRESSION_ERROR)?;
        let Some(stream) = self.open.at(place) else { return Ok(()) };
        let malformed = Err(Fault::Stream(stream.number, Reason::PROTOCOL_ERROR));
        if stream.has_ended {
            return Err(Fault::Stream(stream.number, Reason::STREAM_CLOSED));
        }
        match trailers.finish() {
            Some(tail) if ends && !matches!(stream.content, Content::Length(1..)) => stream.end(tail),
            _ => return malformed,
        }
        self.after_upload(place);
        Ok(())
    }
}
