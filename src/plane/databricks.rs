//! Calls of a workspace's API on their way: whether the user may make them, which warehouse a statement is for, and which
//! workspace a statement's result is in.
//!
//! What is asked about here is a path, a method and, for statements, one name in the body. Everything else is the
//! workspace's business and goes through as it came, unless the configuration wants statements to say whose they are.

mod abandoned;
mod attribute;
mod discovery;
mod list;
mod peek;
mod places;
mod refusal;
mod scan;
mod statement;

pub(super) use abandoned::take_over;
pub(super) use discovery::discovery;
pub(super) use places::Places;
pub(super) use refusal::refusal;
pub(super) use statement::{Moments, Statement};

use super::account::Account;
use super::client::Client;
use super::decide::admit_call;
use super::engine::refuse_other_method;
use super::forward::Forwarded;
use super::headers::media_type;
use super::held::Held;
use super::miss;
use super::request::{Way, authenticate, enter, go_on};
use super::route::Target;
use super::worker::Worker;
use crate::model::api::{Call, Operation};
use crate::model::reject::{Class, Reject};
use crate::session::Session;
use crate::session::carrier::Via;
use crate::wire::fields::Name;
use crate::wire::request::Head;
use attribute::attribute;
use scan::{ScanError, Scanner};
use std::rc::Rc;

/// The longest statement of which a copy is kept while it is sent; the few that are longer are sent once.
const MAX_REPEATED: usize = 1024 * 1024;

/// Serves a call.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    call: Call<'_>,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    refuse_other_method(head)?;
    // Whatever was agreed on in its place, nobody would look at it.
    let head = &Head { upgrade: None, ..*head };
    let target = Target::Api(call);
    let (session, via) = authenticate(worker, head, &target, account.came())?;
    enter(worker, head, &session, via, account)?;
    // Before a body is read: who may not make the call need not send it.
    if let Err(reject) = admit(worker, &call, &session) {
        if reject.class != Class::NotFound || !Box::pin(miss::is_there_now(worker, &target, &session)).await {
            return Err(reject);
        }
        admit(worker, &call, &session)?;
    }
    account.statement = Statement::of(&call).map(Box::new);
    let caller = Caller { session, via };
    match call.operation {
        Operation::Execute => execute(worker, client, head, call, &caller, account).await,
        Operation::ListWarehouses => list::answer(worker, client, head, call, &caller.session, account).await,
        Operation::Other if call.statement.is_some() && call.workspace.is_none() => {
            places::find(worker, client, head, call, &caller, account).await
        }
        Operation::Other => go_on(worker, client, head, Way::new(&target, 0), &caller.session, via, account).await,
    }
}

/// Who makes a call, and how the session came.
struct Caller<'a> {
    session: Rc<Session>,
    via: Via<'a>,
}

fn admit(worker: &Worker, call: &Call<'_>, session: &Session) -> Result<(), Reject> {
    let not_ready = || Reject::new(Class::NotReady, "the directory has not been loaded yet");
    admit_call(&*worker.plane.directory.snapshot().ok_or_else(not_ready)?, call, session)
}

/// Runs a statement: in the warehouse that its body names, which is read for that and passed on as it came.
async fn execute(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    call: Call<'_>,
    caller: &Caller<'_>,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    has_one_reading(head)?;
    let mut scanner = Scanner::new();
    let limit = worker.plane.settings.statement_bytes;
    let look = |piece: &[u8]| scanner.push(piece).map_err(ScanError::reject);
    let mut body = Held::read(worker, client, head, limit, account, look).await?;
    let (warehouse, marks) = scanner.finish().map_err(ScanError::reject)?;
    if statement::is_begun_by(&call) {
        attribute(worker, &mut body, marks, account)?;
    }
    let target = Target::Api(Call { warehouse: Some(&warehouse), ..call });
    // Where the token was not taken, the statement has not run.
    let is_held = body.bytes().len() <= MAX_REPEATED;
    let way = Way { is_held, ..Way::new(&target, 0) };
    let first = body.offer(client, head, is_held);
    match go_on(worker, client, &first, way, &caller.session, caller.via, account).await? {
        Forwarded::Again => {}
        done => return Ok(done),
    }
    let again = body.offer(client, head, false);
    go_on(worker, client, &again, Way::new(&target, 0), &caller.session, caller.via, account).await
}

/// What is wanted of the answer to a call besides that it is passed on.
#[derive(Default)]
pub(super) struct Wishes {
    /// It comes without compression.
    pub(super) uncompressed: bool,
    /// It is waited for without the client too, for the statement that the call begins.
    begins: Option<Begins>,
}

/// A statement that is cancelled should its client go before the answer.
struct Begins {
    /// The workspace that the client named.
    workspace: Option<Box<str>>,
}

/// What the configuration wants of the answer to a call.
pub(super) fn wishes(worker: &Worker, target: &Target<'_>, account: &Account) -> Wishes {
    let (sql, Target::Api(call)) = (worker.plane.settings.sql, target) else { return Wishes::default() };
    let begins = sql.cancel_abandoned && statement::is_begun_by(call);
    let tells_state = || account.statement.as_ref().is_some_and(|one| one.tells_state());
    Wishes {
        uncompressed: begins || sql.plain_answers && tells_state(),
        begins: begins.then(|| Begins { workspace: call.workspace.map(Into::into) }),
    }
}

/// That the body means what its JSON says: nothing in the head gives it another form, or adds to it.
fn has_one_reading(head: &Head<'_>) -> Result<(), Reject> {
    let wrong = |cause| Err(Reject::new(Class::BadBody, cause));
    if head.fields.first(Name::ContentEncoding).is_some() {
        return wrong("The body is compressed. Send it as it is.");
    }
    let kind = head.fields.single(Name::ContentType);
    let is_json = |kind: &[u8]| {
        let parameters = kind.iter().position(|byte| *byte == b';').map_or(&[][..], |at| &kind[at + 1..]);
        let parameters = parameters.trim_ascii().to_ascii_lowercase();
        let is_utf8 = matches!(&parameters[..], b"" | b"charset=utf-8" | b"charset=\"utf-8\"");
        media_type(kind).eq_ignore_ascii_case(b"application/json") && is_utf8
    };
    if !kind.is_ok_and(|kind| kind.is_none_or(is_json)) {
        return wrong("The Content-Type of a statement is application/json, in UTF-8.");
    }
    if !head.query().split('&').all(|pair| pair.is_empty() || pair.starts_with("o=")) {
        return wrong("A statement has its parameters in the body alone.");
    }
    Ok(())
}
