//! What the account of a call tells of the statement that it is about: observed while it passes by, never steered.

use super::peek::{Known, Peek};
use crate::metrics::{Api, SqlMetrics, StatementCall, StatementState};
use crate::model::api::{Call, Operation};
use crate::wire::fields::Name;
use crate::wire::response;
use std::time::Duration;

/// Where statements are begun, and their ids stand behind.
const STATEMENTS: &str = "/api/2.0/sql/statements";

/// What a call does with a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Begins it.
    Execute,
    /// Asks where it is.
    Poll,
    /// Anything else with it: gets a part of its result, or ends it.
    Other,
    /// It is Thrift, which is not read.
    Thrift,
}

/// A statement as far as one call shows it.
#[derive(Debug)]
pub(in crate::plane) struct Statement {
    sort: Sort,
    peek: Peek,
    /// The id in the call's path.
    named: Option<Box<str>>,
    answer: Answer,
}

/// What became of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It was never answered by the workspace.
    Missing,
    /// With an error.
    Refused,
    /// In a form that cannot be read in passing.
    Opaque,
    /// With something that can.
    Plain,
}

/// When things happened, counted from the head of the call.
#[derive(Debug, Clone, Copy)]
pub(in crate::plane) struct Moments {
    /// It was sent on.
    pub(in crate::plane) forwarded: Duration,
    /// The head of its answer came.
    pub(in crate::plane) answered: Option<Duration>,
}

/// Whether a call begins a statement.
pub(super) fn is_begun_by(call: &Call<'_>) -> bool {
    call.operation == Operation::Execute && call.path.trim_end_matches('/') == STATEMENTS
}

impl Statement {
    /// The statement that a call is about.
    pub(super) fn of(call: &Call<'_>) -> Option<Self> {
        let below = call.path.strip_prefix(STATEMENTS);
        let sort = match (below, call.statement) {
            _ if is_begun_by(call) => Sort::Execute,
            (Some(below), Some(id)) if call.method == "GET" && below.strip_prefix('/') == Some(id) => Sort::Poll,
            (Some(_), Some(_)) => Sort::Other,
            _ if call.path.starts_with("/sql/") => Sort::Thrift,
            _ => return None,
        };
        let named = call.statement.filter(|id| id.len() <= 64).map(Into::into);
        Some(Self { sort, peek: Peek::default(), named, answer: Answer::Missing })
    }

    /// Takes note of the head of the workspace's answer.
    pub(in crate::plane) fn answered(&mut self, head: &response::Head<'_>) {
        self.answer = match head.status {
            200 if head.fields.first(Name::ContentEncoding).is_some() => Answer::Opaque,
            200 => Answer::Plain,
            _ => Answer::Refused,
        };
    }

    /// Looks at what passes of its body.
    pub(in crate::plane) fn pass(&mut self, bytes: &[u8]) {
        if self.tells_state() && self.answer == Answer::Plain && !self.peek.is_over() {
            self.peek.push(bytes);
        }
    }

    /// Its id, if the call or the answer tells one.
    pub(in crate::plane) fn id(&self) -> Option<&str> {
        self.known().id.as_deref().or(self.named.as_deref())
    }

    /// How many rows its result has, if the answer tells.
    pub(in crate::plane) fn rows(&self) -> Option<u64> {
        self.known().rows
    }

    /// Where it is; none for calls whose answers do not tell.
    pub(in crate::plane) fn state(&self) -> Option<StatementState> {
        self.call()?;
        Some(match self.answer {
            Answer::Missing | Answer::Opaque => StatementState::Unknown,
            Answer::Refused => StatementState::Refused,
            Answer::Plain => self.known().state.unwrap_or(StatementState::Unknown),
        })
    }

    /// Whether an answer to the call tells where the statement is.
    pub(super) fn tells_state(&self) -> bool {
        self.call().is_some()
    }

    /// Whether the call named its warehouse.
    pub(in crate::plane) fn names_warehouse(&self) -> bool {
        matches!(self.sort, Sort::Execute | Sort::Thrift)
    }

    /// Measures a call that was sent on, and of whose answer so many bytes went to the client.
    pub(in crate::plane) fn measure(&self, metrics: &SqlMetrics, moments: Moments, sent: u64) {
        let api = if self.sort == Sort::Thrift { Api::Thrift } else { Api::Statements };
        if let (Some(call), Some(state)) = (self.call(), self.state()) {
            metrics.count(call, state);
        }
        metrics.queue(api).record(moments.forwarded);
        if let Some(answered) = moments.answered {
            metrics.first_byte(api).record(answered);
        }
        if matches!(self.answer, Answer::Plain | Answer::Opaque) {
            metrics.result_bytes(api).increment(sent);
        }
    }

    fn known(&self) -> &Known {
        self.peek.known()
    }

    fn call(&self) -> Option<StatementCall> {
        match self.sort {
            Sort::Execute => Some(StatementCall::Execute),
            Sort::Poll => Some(StatementCall::Poll),
            Sort::Other | Sort::Thrift => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_what_is_done_with_a_statement() {
        for (method, path, expected) in [
            ("POST", "/api/2.0/sql/statements", Some((Sort::Execute, None))),
            ("POST", "/api/2.0/sql/statements/", Some((Sort::Execute, None))),
            ("GET", "/api/2.0/sql/statements/01ef", Some((Sort::Poll, Some("01ef")))),
            ("DELETE", "/api/2.0/sql/statements/01ef", Some((Sort::Other, Some("01ef")))),
            ("POST", "/api/2.0/sql/statements/01ef/cancel", Some((Sort::Other, Some("01ef")))),
            ("GET", "/api/2.0/sql/statements/1/result/chunks/1", Some((Sort::Other, Some("1")))),
            ("POST", "/sql/1.0/warehouses/wh1", Some((Sort::Thrift, None))),
            ("POST", "/api/2.0/sql/sessions", None),
            ("DELETE", "/api/2.0/sql/sessions/01ef", None),
            ("GET", "/api/2.0/sql/warehouses/wh1", None),
        ] {
            let call = Call::of(method, path).unwrap().unwrap();
            let statement = Statement::of(&call);
            let told = statement.as_ref().map(|one| (one.sort, one.named.as_deref()));
            assert_eq!(told, expected, "{method} {path}");
        }
    }
}
