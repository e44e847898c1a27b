//! Statements whose clients have gone before the first answer. That answer is waited for without them, because only it tells
//! the statement's id, and a statement that has not ended by then is cancelled, as the principal that began it.

use super::peek::{Known, Peek};
use crate::live::autostart::Waiting;
use crate::live::place::Place;
use crate::live::quota::Charge;
use crate::live::token::Token;
use crate::metrics::Abandoned;
use crate::model::upstream::{Node, ServicePrincipal};
use crate::net::http::{Limits, call};
use crate::net::io::ReadInto as _;
use crate::plane::account::{Account, Lease, RequestId};
use crate::plane::admission::Permits;
use crate::plane::multiplexed::UpstreamIo;
use crate::plane::trip::{Credential, Trip};
use crate::plane::worker::{HEAD_READ, Worker};
use crate::wire::body::{Decoder, Framing, Piece};
use crate::wire::fields::Name;
use crate::wire::request::HeadEnd;
use crate::wire::response;
use http::Request;
use http_body_util::Full;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::time::timeout;

/// How many statements of a worker's are waited for at once. Each has a connection; of those beyond, nobody learns the id.
const MOST: u32 = 64;
/// For the call that cancels, and how much is read of its answer.
const CANCEL: Limits = Limits { time: Duration::from_secs(30), answer: 64 * 1024 };

/// Waits for the answer in the background. `input` is what has come of it.
pub(in crate::plane) fn take_over(
    worker: &Rc<Worker>,
    (io, input): (UpstreamIo, Vec<u8>),
    trip: &Trip,
    account: &mut Account,
) {
    let (Some(asked), Credential::Principal(principal, token)) = (&trip.wishes.begins, &trip.credential) else {
        return;
    };
    let Some(place) = Waiting::take(&worker.abandoned, MOST) else {
        return worker.plane.metrics.sql.abandoned(Abandoned::Dropped);
    };
    let left = Left {
        worker: Rc::clone(worker),
        node: Arc::clone(&trip.node),
        principal: Arc::clone(principal),
        token: token.clone(),
        workspace: asked.workspace.clone(),
        request: account.request_id,
        _kept: Kept {
            _lease: account.lease.take(),
            _connection: account.connection.take(),
            _permits: std::mem::take(&mut account.permits),
            _charge: account.charge.take(),
        },
    };
    tokio::task::spawn_local(async move {
        let outcome = left.finish(io, input).await;
        left.worker.plane.metrics.sql.abandoned(outcome);
        drop(place);
    });
}

/// A statement that was left to itself.
struct Left {
    worker: Rc<Worker>,
    node: Arc<Node>,
    principal: Arc<ServicePrincipal>,
    token: Option<Arc<Token>>,
    /// The workspace that the client named.
    workspace: Option<Box<str>>,
    request: RequestId,
    _kept: Kept,
}

/// What the request counts for until its statement is settled: whoever leaves has no more under way for that.
struct Kept {
    _lease: Option<Lease>,
    _connection: Option<Place>,
    _permits: Permits,
    _charge: Option<Charge>,
}

impl Left {
    async fn finish(&self, mut io: UpstreamIo, input: Vec<u8>) -> Abandoned {
        let patience = self.worker.plane.settings.first_byte_timeout;
        let Ok(Some(known)) = timeout(patience, learn(&self.worker, &mut io, input)).await else {
            return Abandoned::Unknown;
        };
        drop(io);
        match (known.id, known.state) {
            (Some(id), Some(state)) if state.is_open() => self.cancel(&id).await,
            (_, Some(_)) => Abandoned::Ended,
            (_, None) => Abandoned::Unknown,
        }
    }

    async fn cancel(&self, id: &str) -> Abandoned {
        let plane = &self.worker.plane;
        // The wait may have outlived the token.
        let token = match self.principal.token.get(plane.clock.now()) {
            None if self.token.is_some() => {
                let _ = plane.minter.token(&self.principal).await;
                self.principal.token.get(plane.clock.now())
            }
            current => current,
        };
        let mut request = Request::post(format!("/api/2.0/sql/statements/{id}/cancel"));
        for (name, value) in token.iter().flat_map(|token| token.fields()) {
            request = request.header(name, value);
        }
        if let Some(workspace) = &self.workspace {
            request = request.header("x-databricks-org-id", &**workspace);
        }
        let Ok(request) = request.header("x-request-id", &self.request[..]).body(Full::default()) else {
            return Abandoned::Failed;
        };
        match call(&plane.dialer, &self.node.url, request, CANCEL).await {
            Ok(answer) if answer.status().is_success() => {
                tracing::info!(org = %self.principal.org, statement_id = id, "a statement was cancelled: its client has gone");
                Abandoned::Canceled
            }
            Ok(answer) => self.failed(id, &format!("the workspace answered {}", answer.status())),
            Err(error) => self.failed(id, &error.to_string()),
        }
    }

    fn failed(&self, id: &str, cause: &str) -> Abandoned {
        tracing::warn!(org = %self.principal.org, statement_id = id, cause, "a statement without a client could not be cancelled");
        Abandoned::Failed
    }
}

/// What the answer says; none if it is none, or says nothing.
async fn learn(worker: &Worker, io: &mut UpstreamIo, mut input: Vec<u8>) -> Option<Known> {
    let (framing, mut bytes) = head(worker, io, &mut input).await?;
    let (mut decoder, mut peek) = (Decoder::new(framing), Peek::default());
    loop {
        let mut used = 0;
        loop {
            match decoder.next(&bytes[used..]).ok()? {
                Piece::Data(range) => {
                    peek.push(&bytes[used..][range.clone()]);
                    used += range.end;
                }
                Piece::More => break,
                Piece::End(_) => return Some(peek.known().clone()),
            }
        }
        let Known { id, state, .. } = peek.known();
        if peek.is_over() || id.is_some() && state.is_some() {
            return Some(peek.known().clone());
        }
        bytes.clear();
        more(worker, io, &mut bytes).await?;
    }
}

/// How the body of the answer is framed, and what of it has come with the head; none unless it can be read.
async fn head(worker: &Worker, io: &mut UpstreamIo, input: &mut Vec<u8>) -> Option<(Framing, Vec<u8>)> {
    let limits = worker.plane.settings.answer_limits;
    let (mut end, mut positions) = (HeadEnd::of_answer(), Vec::new());
    loop {
        let found = if input.is_empty() { None } else { end.find(input, limits.bytes).ok()? };
        let Some(length) = found else {
            more(worker, io, input).await?;
            continue;
        };
        let head = response::Head::parse(&input[..length], &mut positions, limits, false).ok()?;
        let is_plain = head.status == 200 && head.fields.first(Name::ContentEncoding).is_none();
        match (head.is_interim(), is_plain) {
            (true, _) => {
                input.drain(..length);
                end = HeadEnd::of_answer();
            }
            (false, true) => return Some((head.framing, input.split_off(length))),
            (false, false) => return None,
        }
    }
}

/// Reads more; none at the end.
async fn more(worker: &Worker, io: &mut UpstreamIo, input: &mut Vec<u8>) -> Option<()> {
    poll_fn(|cx| {
        let mut scratch = worker.scratch.borrow_mut();
        Poll::Ready(match ready!(io.poll_read_into(cx, &mut scratch[..HEAD_READ])) {
            Ok(n) if n > 0 => {
                input.extend_from_slice(&scratch[..n]);
                Some(())
            }
            Ok(_) | Err(_) => None,
        })
    })
    .await
}
