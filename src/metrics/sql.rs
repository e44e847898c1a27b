//! What is counted of SQL: statements by what became of them, their results, and how long they waited.

use super::counter_with;
use super::histogram::Histogram;
use super::registry::Registry;
use metrics::{Counter, Key, Label, Recorder as _, Unit};
use std::sync::Arc;

/// How SQL is asked; a label of few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// The Statement Execution API.
    Statements,
    /// Thrift, as drivers speak it.
    Thrift,
}

impl Api {
    const ALL: [Self; 2] = [Self::Statements, Self::Thrift];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Statements => "statements",
            Self::Thrift => "thrift",
        }
    }
}

/// What told the state of a statement; a label of few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementCall {
    /// The call that began it.
    Execute,
    /// One that asked for it later.
    Poll,
}

impl StatementCall {
    const ALL: [Self; 2] = [Self::Execute, Self::Poll];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Execute => "execute",
            Self::Poll => "poll",
        }
    }
}

/// Where a statement is, as the answer to a call says; a label of few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementState {
    /// It waits for the warehouse.
    Pending,
    /// It runs.
    Running,
    /// It is done.
    Succeeded,
    /// It came to nothing.
    Failed,
    /// Somebody has ended it.
    Canceled,
    /// It is done, and its result is gone.
    Closed,
    /// The workspace took no statement, or knows none: the answer is an error.
    Refused,
    /// The answer does not say, or never came.
    Unknown,
}

impl StatementState {
    const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::Closed,
        Self::Refused,
        Self::Unknown,
    ];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the statement has not ended yet.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// What became of a statement whose client went before the answer; a label of few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It was cancelled.
    Canceled,
    /// It had ended when the answer came.
    Ended,
    /// The answer did not come, or says nothing.
    Unknown,
    /// The workspace did not take the call that cancels.
    Failed,
    /// Too many were waited for.
    Dropped,
}

impl Abandoned {
    const ALL: [Self; 5] = [Self::Canceled, Self::Ended, Self::Unknown, Self::Failed, Self::Dropped];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// The handles of SQL.
pub struct SqlMetrics {
    statements: [[Counter; 8]; 2],
    result_bytes: [Counter; 2],
    first_byte: [Arc<Histogram>; 2],
    queue: [Arc<Histogram>; 2],
    abandoned: [Counter; 5],
    /// Statements that were passed on without saying whose they are, though they should.
    pub unattributed: Counter,
}

impl SqlMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        describe(registry);
        let label = Label::from_static_parts;
        let api = |api: Api| vec![label("api", api.label())];
        let histogram = |name: &'static str, labels| registry.histogram(&Key::from_parts(name, labels));
        let statements = |call: StatementCall, state: StatementState| {
            let labels = vec![label("call", call.label()), label("state", state.label())];
            counter_with(registry, "embedgate_sql_statements_total", labels)
        };
        Self {
            statements: StatementCall::ALL.map(|call| StatementState::ALL.map(|state| statements(call, state))),
            result_bytes: Api::ALL.map(|of| counter_with(registry, "embedgate_sql_result_bytes_total", api(of))),
            first_byte: Api::ALL.map(|of| histogram("embedgate_sql_first_byte_seconds", api(of))),
            abandoned: Abandoned::ALL.map(|outcome| {
                counter_with(registry, "embedgate_sql_abandoned_total", vec![label("outcome", outcome.label())])
            }),
            unattributed: counter_with(registry, "embedgate_sql_unattributed_total", Vec::new()),
            queue: Api::ALL.map(|of| histogram("embedgate_sql_queue_seconds", api(of))),
        }
    }

    /// Counts an answer that says, or should say, where a statement is.
    pub fn count(&self, call: StatementCall, state: StatementState) {
        self.statements[call as usize][state as usize].increment(1);
    }

    /// Counts a statement whose client went before the answer.
    pub fn abandoned(&self, outcome: Abandoned) {
        self.abandoned[outcome as usize].increment(1);
    }

    /// Bytes of answers that went to clients.
    pub fn result_bytes(&self, api: Api) -> &Counter {
        &self.result_bytes[api as usize]
    }

    /// From the head of a call to the head of its answer.
    pub fn first_byte(&self, api: Api) -> &Histogram {
        &self.first_byte[api as usize]
    }

    /// From the head of a call to its being sent on: while its body came, the warehouse was started or a token was issued.
    pub fn queue(&self, api: Api) -> &Histogram {
        &self.queue[api as usize]
    }
}

fn describe(registry: &Registry) {
    for (name, help) in [
        ("embedgate_sql_statements_total", "Answers about statements by the call and by the state that they told."),
        ("embedgate_sql_result_bytes_total", "Body bytes of answers to SQL calls, sent to clients."),
        ("embedgate_sql_abandoned_total", "Statements whose clients went before the answer, by what became of them."),
        ("embedgate_sql_unattributed_total", "Statements that could not be changed to say whose they are."),
    ] {
        registry.describe_counter(name.into(), None, help.into());
    }
    for (name, help) in [
        ("embedgate_sql_first_byte_seconds", "From the head of a SQL call to the head of its answer."),
        ("embedgate_sql_queue_seconds", "From the head of a SQL call to its being sent on."),
    ] {
        registry.describe_histogram(name.into(), Some(Unit::Seconds), help.into());
    }
}
