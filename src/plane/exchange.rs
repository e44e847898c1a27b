//! One request and its answer on one upstream connection: both bodies move at the same time, each only as fast as the
//! other side takes it, and none is ever held whole.

mod download;

pub(super) use download::Passage;

use super::account::Account;
use super::base_tag::Insertion;
use super::client::Client;
use super::engine::Leads;
use super::failure::Failure;
use super::headers::ToClient;
use super::multiplexed::UpstreamIo;
use super::outbox::Outbox;
use super::outside::Outside;
use super::trailers;
use super::trip::Pace;
use super::worker::{HEAD_READ, Worker};
use crate::live::token::Token;
use crate::net::io::ReadInto as _;
use crate::wire::body::{Decoder, Framing, LAST_CHUNK, Piece};
use crate::wire::fields::Fields;
use crate::wire::request::{Head, HeadEnd};
use crate::wire::response;
use download::{Download, send};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// A request under way.
pub(super) struct Exchange<'a> {
    pub(super) worker: &'a Worker,
    pub(super) client: &'a mut Client,
    /// The upstream.
    pub(super) io: UpstreamIo,
    /// The request on its way out.
    pub(super) outbox: Outbox,
    /// What has come from the upstream and has not been looked at.
    pub(super) input: Vec<u8>,
    upload: Upload,
    /// What came from the client before the body.
    fields: Fields<'a>,
    /// Whether the client understands interim answers.
    takes_interim: bool,
    /// Whether the answer is on its way to the client.
    answering: bool,
    /// When patience with the upstream's answer ends; moved on by progress.
    deadline: Instant,
    /// When the session ends, and with it the answer, however alive it is.
    session_end: Instant,
    /// How long the upstream may be silent.
    pub(super) pace: Pace,
    /// What goes into the answer's body.
    pub(super) insertion: Option<Insertion>,
    /// The credential, if it has names that no trailer may have.
    pub(super) token: Option<Arc<Token>>,
    /// Whether all of it is over, and the upstream's connection is fit for another request.
    pub(super) is_clean: bool,
}

/// The request's body.
struct Upload {
    decoder: Decoder,
    chunked: bool,
    state: Sending,
    /// Whether nothing of it has been taken from the client.
    whole: bool,
    received: u64,
    /// When patience with the body ends; moved on by progress.
    deadline: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Body,
    Done,
    /// The upstream takes no more; it may still answer.
    Refused,
}

/// Interim answers to one request. Apps may send one now and then to say that they are still at it.
const MAX_INTERIM: usize = 100;

impl<'a> Exchange<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        client: &'a mut Client,
        (io, outbox): (UpstreamIo, Outbox),
        head: &Head<'a>,
        (now, session_end): (Instant, Instant),
        pace: Pace,
    ) -> Self {
        let decoder = Decoder::new(head.framing);
        let state = if decoder.is_done() { Sending::Done } else { Sending::Body };
        let settings = &worker.plane.settings;
        let chunked = head.framing == Framing::Chunked;
        Self {
            worker,
            io,
            outbox,
            input: worker.buffers.take(),
            client,
            upload: Upload {
                decoder,
                chunked,
                state,
                whole: true,
                received: 0,
                deadline: now + settings.body_idle_timeout,
            },
            fields: head.fields,
            takes_interim: head.http11,
            answering: false,
            deadline: now + pace.first_byte_timeout,
            session_end,
            pace,
            insertion: None,
            token: None,
            is_clean: false,
        }
    }

    /// Whether the upstream has said nothing at all.
    pub(super) fn is_silent(&self) -> bool {
        self.input.is_empty()
    }

    /// Whether the request could be sent again as it came.
    pub(super) fn is_whole(&self) -> bool {
        self.upload.whole
    }

    /// Whether the whole request has been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.upload.state == Sending::Done && self.outbox.is_empty()
    }

    /// Sends the request until the head of the final answer is in `input`; its length. Interim answers are passed on.
    ///
    /// # Errors
    /// [`Failure`]; nothing but interim answers has been sent to the client.
    pub(super) async fn answer(&mut self) -> Result<usize, Failure> {
        for _ in 0..=MAX_INTERIM {
            let mut end = HeadEnd::of_answer();
            let length = poll_fn(|cx| self.poll_answer(cx, &mut end)).await?;
            if !self.pass_interim(length)? {
                return Ok(length);
            }
        }
        Err(Failure::UpstreamFraming("too many interim answers"))
    }

    /// Passes an interim answer (RFC 9110 15.2) on; false when the answer is final.
    fn pass_interim(&mut self, length: usize) -> Result<bool, Failure> {
        let mut positions = Vec::new();
        let limits = self.worker.plane.settings.answer_limits;
        // Cheap for the usual case: the status is in the first line.
        if self.input.get(9) != Some(&b'1') || self.input.get(9..12) == Some(b"101") {
            return Ok(false);
        }
        let head = response::Head::parse(&self.input[..length], &mut positions, limits, false)
            .map_err(|_| Failure::UpstreamFraming("an interim answer is malformed"))?;
        if !head.is_interim() {
            return Ok(false);
        }
        if self.takes_interim {
            let (cookie, frames, framing, connection) = (None, None, Framing::Empty, None);
            let (ours, trailers, outside, changed) = (false, false, Outside::default(), false);
            // Where it leads is told by the answer itself.
            let leads = &Leads::Away;
            ToClient {
                head: &head,
                ours,
                cookie,
                frames,
                outside,
                leads,
                changed,
                framing,
                trailers,
                held: None,
                connection,
            }
            .write(self.client.outbox.buffer());
        }
        self.input.drain(..length);
        Ok(true)
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, end: &mut HeadEnd) -> Poll<Result<usize, Failure>> {
        if let Poll::Ready(why) = self.client.registration.poll_ended(cx) {
            return Poll::Ready(Err(Failure::Revoked(why)));
        }
        if self.client.registration.is_late() {
            return Poll::Ready(Err(Failure::Leaving));
        }
        // An interim answer must be gone before more is read, or an app could fill the memory with them.
        match self.client.outbox.poll_flush(cx, &mut self.client.io) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::ClientGone)),
            Poll::Pending => {
                ready!(self.client.timer.poll(cx, self.deadline));
                return Poll::Ready(Err(Failure::ClientSlow));
            }
        }
        let sent = match self.poll_upload(cx) {
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        let limit = self.worker.plane.settings.answer_limits.bytes;
        let mut scratch = self.worker.scratch.borrow_mut();
        loop {
            if !self.input.is_empty() {
                match end.find(&self.input, limit) {
                    Ok(Some(length)) => return Poll::Ready(Ok(length)),
                    Ok(None) => {}
                    Err(_) => {
                        return Poll::Ready(Err(Failure::UpstreamFraming("the answer's head is not HTTP or too long")));
                    }
                }
            }
            match self.io.poll_read_into(cx, &mut scratch[..HEAD_READ]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Failure::UpstreamClosed)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::of_upstream(&error))),
                Poll::Ready(Ok(n)) => self.input.extend_from_slice(&scratch[..n]),
                Poll::Pending => break,
            }
        }
        if sent && self.client.poll_gone(cx, &mut scratch).is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        let deadline = if sent { self.deadline } else { self.upload.deadline };
        ready!(self.client.timer.poll(cx, deadline));
        Poll::Ready(Err(match (sent, self.outbox.is_empty()) {
            (true, _) => Failure::NoAnswer,
            (false, true) => Failure::ClientSlow,
            (false, false) => Failure::UpstreamSlow,
        }))
    }

    /// Moves the request's body; ready when it is sent or the upstream takes no more.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            let kept = self.outbox.len();
            match self.outbox.poll_flush(cx, &mut self.io) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.refused(),
                Poll::Pending => {
                    if self.outbox.len() < kept {
                        self.upload.deadline = self.body_deadline();
                    }
                    return Poll::Pending;
                }
            }
            if self.upload.state != Sending::Body {
                return Poll::Ready(Ok(()));
            }
            if self.client.unread.is_empty() {
                let mut scratch = self.worker.scratch.borrow_mut();
                let n = match ready!(self.client.io.poll_read_into(cx, &mut scratch)) {
                    Ok(n) if n > 0 => n,
                    Ok(_) | Err(_) => return Poll::Ready(Err(Failure::ClientGone)),
                };
                let used = self.send_body(cx, &scratch[..n])?;
                self.client.unread.extend_from_slice(&scratch[used..n]);
            } else {
                let unread = std::mem::take(&mut self.client.unread);
                let used = self.send_body(cx, &unread)?;
                self.client.unread.extend_from_slice(&unread[used..]);
            }
            self.upload.deadline = self.body_deadline();
            if self.upload.state != Sending::Body && !self.answering {
                self.deadline = Instant::now() + self.pace.first_byte_timeout;
            }
        }
    }

    fn body_deadline(&self) -> Instant {
        Instant::now() + self.worker.plane.settings.body_idle_timeout
    }

    /// The upstream does not read on. What it has to say may be on its way all the same.
    fn refused(&mut self) {
        self.outbox.clear();
        self.upload.state = Sending::Refused;
    }

    /// Sends what of `bytes` is body; says how many bytes that took.
    fn send_body(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        self.upload.whole = false;
        loop {
            match self.upload.decoder.next(&bytes[used..]).map_err(|error| Failure::ClientFraming(error.0))? {
                Piece::More => return Ok(bytes.len()),
                Piece::End(n) => {
                    if self.upload.chunked {
                        // Announced or not: to forward them is allowed either way (RFC 9110 6.5.2).
                        let (trailers, token) = (self.upload.decoder.trailers(), self.token.as_deref());
                        trailers::end(trailers, self.fields, token, self.outbox.buffer());
                    }
                    self.upload.state = Sending::Done;
                    return Ok(used + n);
                }
                Piece::Data(range) => {
                    let data = &bytes[used..][range.clone()];
                    used += range.end;
                    self.count_upload(data.len())?;
                    if send(cx, &mut self.outbox, &mut self.io, data, self.upload.chunked).is_err() {
                        self.refused();
                        return Ok(used);
                    }
                }
            }
        }
    }

    fn count_upload(&mut self, bytes: usize) -> Result<(), Failure> {
        self.upload.received += bytes as u64;
        let limit = self.worker.plane.settings.body_bytes;
        if limit > 0 && self.upload.received > limit { Err(Failure::TooLarge) } else { Ok(()) }
    }

    /// Passes the body of the answer on, after the head that is in the client's outbox.
    ///
    /// # Errors
    /// [`Failure`]; the client's connection will be reset when it is closed.
    pub(super) async fn deliver(
        &mut self,
        passage: Passage<'_>,
        rest: &[u8],
        account: &mut Account,
    ) -> Result<(), Failure> {
        let mut download = Download::new(&passage, account.statement.as_deref_mut());
        self.answering = true;
        self.deadline = account.answered.unwrap_or_else(Instant::now) + self.pace.idle_timeout;
        let by_close = passage.to == Framing::UntilClose;
        if by_close {
            // Only the close tells this body's end, and whatever ends this future early, a drain too, closes.
            self.client.io.reset_on_close();
        }
        let mut rest = rest;
        let delivered = poll_fn(|cx| {
            let polled = self.poll_download(cx, &mut download, std::mem::take(&mut rest));
            if account.replied.is_none() {
                account.replied = Some(Instant::now());
                account.ended = account.replied.filter(|_| polled.is_ready());
            }
            polled
        })
        .await;
        account.received += self.upload.received;
        account.sent += download.sent;
        match delivered {
            Ok(()) if by_close => self.client.io.close_in_order(),
            Ok(()) => {}
            Err(_) => self.client.io.reset_on_close(),
        }
        self.is_clean = download.clean && self.is_sent();
        self.outbox.clear();
        self.worker.buffers.give(self.outbox.give_up());
        delivered
    }

    fn poll_download(
        &mut self,
        cx: &mut Context<'_>,
        download: &mut Download<'_>,
        first: &[u8],
    ) -> Poll<Result<(), Failure>> {
        if let Poll::Ready(why) = self.client.registration.poll_ended(cx) {
            return Poll::Ready(Err(Failure::Revoked(why)));
        }
        if let Poll::Ready(Err(failure)) = self.poll_upload(cx) {
            return Poll::Ready(Err(failure));
        }
        if !download.done {
            self.pass(cx, download, first)?;
        }
        loop {
            match self.client.outbox.poll_flush(cx, &mut self.client.io) {
                Poll::Ready(Ok(())) if download.done => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::ClientGone)),
                Poll::Pending => {
                    ready!(self.client.timer.poll(cx, self.deadline.min(self.session_end)));
                    return Poll::Ready(Err(self.out_of_time(Failure::ClientSlow)));
                }
            }
            let worker = self.worker;
            let mut scratch = worker.scratch.borrow_mut();
            match self.io.poll_read_into(cx, &mut scratch) {
                Poll::Ready(Ok(0)) if download.decoder.may_end_here() => self.pass_end(download),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Failure::UpstreamClosed)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::of_upstream(&error))),
                Poll::Ready(Ok(n)) => self.pass(cx, download, &scratch[..n])?,
                Poll::Pending => {
                    if self.is_sent() && self.client.poll_gone(cx, &mut scratch).is_ready() {
                        return Poll::Ready(Err(Failure::ClientGone));
                    }
                    ready!(self.client.timer.poll(cx, self.deadline.min(self.session_end)));
                    return Poll::Ready(Err(self.out_of_time(Failure::UpstreamSlow)));
                }
            }
            self.deadline = Instant::now() + self.pace.idle_timeout;
        }
    }

    /// What ended when the timer did.
    fn out_of_time(&self, slow: Failure) -> Failure {
        if Instant::now() >= self.session_end { Failure::SessionEnd } else { slow }
    }

    /// Passes on what of `bytes` is body.
    fn pass(&mut self, cx: &mut Context<'_>, download: &mut Download<'_>, bytes: &[u8]) -> Result<(), Failure> {
        let mut used = 0;
        loop {
            match download.decoder.next(&bytes[used..]).map_err(|error| Failure::UpstreamFraming(error.0))? {
                Piece::More => return Ok(()),
                Piece::End(n) => {
                    // Bytes after the end of an answer were not asked for: nobody may be given them.
                    download.clean = used + n == bytes.len();
                    self.pass_end(download);
                    return Ok(());
                }
                Piece::Data(range) => {
                    let data = &bytes[used..][range.clone()];
                    used += range.end;
                    self.pass_data(cx, download, data)?;
                }
            }
        }
    }

    /// Passes on body bytes, and what goes in among them.
    fn pass_data(&mut self, cx: &mut Context<'_>, download: &mut Download<'_>, data: &[u8]) -> Result<(), Failure> {
        if let Some(statement) = &mut download.statement {
            statement.pass(data);
        }
        let insertion = self.insertion.take_if(|insertion| insertion.at <= download.sent + data.len() as u64);
        let (before, text, after) = match &insertion {
            None => (data, "", &[][..]),
            Some(Insertion { at, text }) => {
                let (before, after) = data.split_at((at - download.sent) as usize);
                (before, text.as_str(), after)
            }
        };
        let client = &mut *self.client;
        // An empty chunk would end the body.
        for part in [before, text.as_bytes(), after].into_iter().filter(|part| !part.is_empty()) {
            download.sent += part.len() as u64;
            send(cx, &mut client.outbox, &mut client.io, part, download.chunked).map_err(|_| Failure::ClientGone)?;
        }
        Ok(())
    }

    fn pass_end(&mut self, download: &mut Download<'_>) {
        if download.chunked && !download.done {
            let out = self.client.outbox.buffer();
            match download.trailers {
                Some(head) => trailers::end(download.decoder.trailers(), head, None, out),
                None => out.extend_from_slice(LAST_CHUNK),
            }
        }
        download.done = true;
    }
}
