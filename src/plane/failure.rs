//! What a failure on the way to an upstream and back means: to the client, as long as nothing of an answer was sent, and to
//! the account.

use super::account::Account;
use super::cut::Cut;
use super::forward::Forwarded;
use super::multiplexed::Trouble;
use super::trip::Pace;
use super::worker::Worker;
use crate::model::reject::{Class, Reject};
use crate::net::dial::DialError;
use std::borrow::Cow;
use std::io;

/// Why an exchange ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    ClientGone,
    ClientSlow,
    /// The answer did not begin in time.
    NoAnswer,
    ClientFraming(&'static str),
    TooLarge,
    /// The session ended meanwhile.
    SessionEnd,
    /// Access was taken away meanwhile.
    Revoked(&'static str),
    /// The gateway is about to be gone.
    Leaving,
    UpstreamSlow,
    UpstreamClosed,
    UpstreamReset,
    UpstreamFraming(&'static str),
    /// The upstream has done nothing with the request, and said so.
    UpstreamUntouched,
    /// The request cannot be sent on in HTTP/2; true when none can.
    NeedsHttp1 {
        always: bool,
    },
}

impl Failure {
    /// What it means that an upstream cannot be read.
    pub(super) fn of_upstream(error: &io::Error) -> Self {
        match Trouble::of(error) {
            None | Some(Trouble::Reset) => Self::UpstreamReset,
            Some(Trouble::Untouched) => Self::UpstreamUntouched,
            Some(Trouble::Unsayable) => Self::NeedsHttp1 { always: false },
            Some(Trouble::WantsHttp1) => Self::NeedsHttp1 { always: true },
            Some(Trouble::Malformed) => Self::UpstreamFraming("the answer is not what HTTP/2 allows"),
        }
    }
}

impl Failure {
    /// Whether it says something of the node that the request was on. That a connection which was used before ends does
    /// not: nodes close those that are idle.
    pub(super) fn tells_of_node(self, reused: bool) -> bool {
        match self {
            Self::NoAnswer | Self::UpstreamSlow | Self::UpstreamUntouched => true,
            Self::UpstreamClosed | Self::UpstreamReset => !reused,
            _ => false,
        }
    }

    /// What it means to the client before anything of an answer was sent, and the words for the log.
    fn meaning(self) -> (Class, &'static str) {
        match self {
            // Nobody is told.
            Self::ClientGone => (Class::ClientTimeout, "the client left"),
            Self::ClientSlow => (Class::ClientTimeout, "the body stopped coming"),
            Self::ClientFraming(what) => (Class::Malformed, what),
            Self::TooLarge => (Class::BodyTooLarge, "the body is larger than limits.body_bytes"),
            Self::SessionEnd => (Class::Session, "the session ended while the answer was waited for"),
            Self::Revoked(why) => (Class::Session, why),
            Self::NoAnswer => (Class::UpstreamTimeout, "no answer within upstreams.first_byte_timeout"),
            Self::UpstreamSlow => (Class::UpstreamTimeout, "the upstream stopped taking the body"),
            // Not 503, which would promise that nothing was sent.
            Self::Leaving => (Class::UpstreamTimeout, "no answer within server.drain_timeout, and the gateway leaves"),
            Self::UpstreamClosed => (Class::UpstreamBroke, "upstream closed before response"),
            Self::UpstreamReset => (Class::UpstreamBroke, "upstream reset before response"),
            Self::UpstreamFraming(what) => (Class::UpstreamBroke, what),
            Self::UpstreamUntouched => (Class::UpstreamBroke, "upstream did not take the request"),
            Self::NeedsHttp1 { .. } => {
                (Class::UpstreamBroke, "upstream wants the request in HTTP/1.1, and its body has gone")
            }
        }
    }

    /// The words for the log.
    pub(super) fn cause(self) -> &'static str {
        self.meaning().1
    }
}

/// No connection to the upstream came about.
pub(super) fn dial_failed(error: &DialError) -> Reject {
    let class = match error {
        DialError::Prohibited { .. } | DialError::Resolve { .. } => Class::BadDestination,
        DialError::Connect(..) | DialError::Tls(..) | DialError::Protocol(_) => Class::Unreachable,
        DialError::Timeout(..) => Class::UpstreamTimeout,
    };
    Reject::new(class, error.to_string()).at(error.proxy_error(), None)
}

/// The upstream's answer is not what HTTP allows.
pub(super) fn broke(cause: impl Into<Cow<'static, str>>) -> Reject {
    Reject::new(Class::UpstreamBroke, cause).at("http_protocol_error", None)
}

/// A failure before anything of an answer was sent. `silent` says that the upstream has sent nothing at all.
pub(super) fn fail(
    worker: &Worker,
    failure: Failure,
    silent: bool,
    pace: Pace,
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    if failure == Failure::ClientGone {
        account.cut(Cut::Client);
        return Ok(Forwarded::Cut);
    }
    Err(refusal(worker, failure, silent, pace, account))
}

/// What the client is told of such a failure; who cut the request off goes to the account.
pub(super) fn refusal(worker: &Worker, failure: Failure, silent: bool, pace: Pace, account: &mut Account) -> Reject {
    let (class, cause) = failure.meaning();
    let cut = match failure {
        Failure::UpstreamClosed if silent => Cut::UpstreamSilent,
        Failure::UpstreamSlow => Cut::UpstreamIdle(worker.plane.settings.body_idle_timeout),
        _ => cut(worker, failure, pace),
    };
    if class != Class::Malformed && class != Class::BodyTooLarge {
        account.cut(cut);
    }
    let reject = Reject::new(class, cause);
    match cut.proxy_error() {
        // It was not the answer that was waited for.
        Some(_) if failure == Failure::UpstreamSlow => reject.at("connection_write_timeout", Some(cut.text())),
        Some(error) => reject.at(error, Some(cut.text())),
        None => reject,
    }
}

/// Who ended the request.
pub(super) fn cut(worker: &Worker, failure: Failure, pace: Pace) -> Cut {
    let settings = &worker.plane.settings;
    match failure {
        Failure::ClientGone => Cut::Client,
        Failure::ClientSlow => Cut::ClientIdle(settings.body_idle_timeout),
        Failure::ClientFraming(_) | Failure::TooLarge => Cut::ClientFraming,
        Failure::SessionEnd => Cut::SessionEnd,
        Failure::Revoked(why) => Cut::Revoked(why),
        Failure::Leaving => Cut::Drain,
        Failure::NoAnswer => Cut::UpstreamIdle(pace.first_byte_timeout),
        Failure::UpstreamSlow => Cut::UpstreamIdle(pace.idle_timeout),
        Failure::UpstreamClosed => Cut::UpstreamClosed,
        Failure::UpstreamReset | Failure::UpstreamUntouched | Failure::NeedsHttp1 { .. } => Cut::UpstreamReset,
        Failure::UpstreamFraming(_) => Cut::UpstreamFraming,
    }
}
