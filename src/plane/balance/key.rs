//! What makes requests go to the same node. Read only where something wants it.

use crate::model::balance::{HashOn, Strategy, hash};
use crate::model::engine::{Dialect, Engine};
use crate::model::upstream::Upstream;
use crate::session::Session;
use crate::wire::request::Head;

/// The parameter by which clients of Firebolt name a transaction, which lives on one cluster.
const TRANSACTION: &str = "transaction_id";

/// The key of a request; none where its node does not depend on one.
pub(super) fn of(
    upstream: &Upstream,
    engine: Option<&Engine>,
    session: &Session,
    head: Option<&Head<'_>>,
) -> Option<u64> {
    let is_firebolt = engine.is_some_and(|engine| engine.manner.dialect == Dialect::Firebolt);
    if is_firebolt && let Some(transaction) = head.and_then(|head| parameter(head.query(), TRANSACTION)) {
        return Some(hash(transaction.as_bytes()));
    }
    let balance = &upstream.balance;
    let is_hashed = balance.strategy == Strategy::Hash;
    if is_hashed
        && let HashOn::Header(name) = &balance.hash_on
        && let Some(value) = head.and_then(|head| field(head, name))
    {
        return Some(hash(value));
    }
    // A session that is nowhere yet is sent by hash as well: its first requests may come at once, before an answer has
    // told the browser where it is. So are programs, which cannot be told.
    (is_hashed || balance.affinity).then(|| hash(&session.id))
}

/// The value of a parameter as it was sent; none for an empty one.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).find(|value| !value.is_empty())
}

/// The value of the first field with this name.
fn field<'a>(head: &Head<'a>, name: &str) -> Option<&'a [u8]> {
    let mut fields = head.fields.iter();
    fields.find(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
}
