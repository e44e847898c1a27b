//! Every refusal of the gateway, in one place: what the client may read, what the log says, how it is counted.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The class of a refusal. Clients see the class only; its cause goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request is malformed or ambiguous.
    Malformed,
    /// The body of a call is not what it has to be. The client learns the cause, which therefore is a sentence of ours and
    /// holds nothing that came.
    BadBody,
    /// No session, or one that does not open, has expired or was revoked.
    Session,
    /// The organisation has it, this user may not.
    Forbidden,
    /// A request that another site may not make in the user's name.
    CrossSite,
    /// No such route; also another organisation's.
    NotFound,
    /// A method that is never allowed.
    Method,
    /// The organisation or the user has used up a quota.
    Quota,
    /// The client was too slow.
    ClientTimeout,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The head is larger than allowed.
    HeadTooLarge,
    /// An expectation nobody can meet.
    Expectation,
    /// The gateway's own fault.
    Internal,
    /// The upstream could not be reached.
    Unreachable,
    /// The upstream's name or address is not allowed or not known.
    BadDestination,
    /// The upstream broke the connection or the protocol.
    UpstreamBroke,
    /// The upstream refuses the principal's credential.
    CredentialRefused,
    /// The token issuer refuses the principal.
    IssuerRefused,
    /// The token issuer cannot be reached.
    IssuerUnreachable,
    /// Something that has to be recorded for the whole fleet could not be.
    NotRecorded,
    /// The directory has not been loaded yet.
    NotReady,
    /// No cluster of the upstream is running.
    NoRunningCluster,
    /// The upstream has as much to do as it may.
    CircuitOpen,
    /// The upstream is on its way up.
    Starting,
    /// The upstream could not be started.
    StartFailed,
    /// As many requests wait as may.
    QueueFull,
    /// The request waited for its turn as long as it may.
    QueueTimeout,
    /// This instance is full.
    Overloaded,
    /// This instance is going away.
    Draining,
    /// The upstream did not answer in time.
    UpstreamTimeout,
}

/// A refusal: its class and, for the log, its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// What the client learns.
    pub class: Class,
    /// What the log learns: never a secret, never shown to the client.
    pub cause: Cow<'static, str>,
    /// What the client learns of the hop that failed, where the class does not say it all.
    pub hop: Option<Hop>,
    /// After how many seconds the client may try again, where that is known better than the class says.
    pub retry_after: Option<u32>,
}

/// What `Proxy-Status` says of a hop that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The error type (RFC 9209 2.3).
    pub error: &'static str,
    /// The words of the log for who cut the request off (RFC 9209 2.1.5): ASCII without quotes, never an address.
    pub details: Option<String>,
}

impl Reject {
    /// A refusal of `class` because of `cause`.
    pub fn new(class: Class, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { class, cause: cause.into(), hop: None, retry_after: None }
    }

    /// The same, with more about the hop that failed.
    #[must_use]
    pub fn at(self, error: &'static str, details: Option<String>) -> Self {
        Self { hop: Some(Hop { error, details }), ..self }
    }

    /// The same, with the time after which another try makes sense: whole seconds, and never at once.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        Self { retry_after: Some(seconds.max(1)), ..self }
    }

    /// Seconds after which the client may try again, when that makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after.or_else(|| self.class.retry_after())
    }

    /// The value of `Proxy-Status` (RFC 9209 2).
    #[must_use]
    pub fn proxy_status(&self) -> String {
        match &self.hop {
            None => format!("embedgate; error={}", self.class.proxy_error()),
            Some(Hop { error, details: None }) => format!("embedgate; error={error}"),
            Some(Hop { error, details: Some(details) }) => format!("embedgate; error={error}; details=\"{details}\""),
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.label(), self.cause)
    }
}

/// The public face of a [`Class`].
struct Face {
    status: u16,
    label: &'static str,
    title: &'static str,
    detail: &'static str,
    /// The error type of RFC 9209 2.3.
    proxy_error: &'static str,
    retry_after: Option<u32>,
}

impl Class {
    /// Every class, for tables of metrics.
    pub const ALL: [Self; 30] = [
        Self::Malformed,
        Self::BadBody,
        Self::Session,
        Self::Forbidden,
        Self::CrossSite,
        Self::NotFound,
        Self::Method,
        Self::Quota,
        Self::ClientTimeout,
        Self::BodyTooLarge,
        Self::HeadTooLarge,
        Self::Expectation,
        Self::Internal,
        Self::Unreachable,
        Self::BadDestination,
        Self::UpstreamBroke,
        Self::CredentialRefused,
        Self::IssuerRefused,
        Self::IssuerUnreachable,
        Self::NotRecorded,
        Self::NotReady,
        Self::NoRunningCluster,
        Self::CircuitOpen,
        Self::Starting,
        Self::StartFailed,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Overloaded,
        Self::Draining,
        Self::UpstreamTimeout,
    ];

    /// The status code of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        self.face().status
    }

    /// The word for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.face().label
    }

    /// The heading of the answer.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.face().title
    }

    /// The sentence of the answer: what happened and what to do next.
    #[must_use]
    pub fn detail(self) -> &'static str {
        self.face().detail
    }

    /// The error type for `Proxy-Status` (RFC 9209 2.3).
    #[must_use]
    pub fn proxy_error(self) -> &'static str {
        self.face().proxy_error
    }

    /// Seconds after which the client may try again, when that makes sense.
    #[must_use]
    pub fn retry_after(self) -> Option<u32> {
        self.face().retry_after
    }

    #[allow(clippy::too_many_lines, reason = "a table, one row a class")]
    fn face(self) -> Face {
        let face = |status, label, proxy_error, title, detail| Face {
            status,
            label,
            title,
            detail,
            proxy_error,
            retry_after: match status {
                429 => Some(1),
                503 => Some(5),
                _ => None,
            },
        };
        match self {
            Self::Malformed => face(
                400,
                "malformed",
                "http_request_error",
                "Malformed request",
                "The request is not valid HTTP or can be read in more than one way. Correct it and send it again.",
            ),
            Self::BadBody => face(
                400,
                "bad_body",
                "http_request_error",
                "Malformed body",
                "The body of the request is not what it has to be here.",
            ),
            Self::Session => face(
                401,
                "session",
                "http_request_denied",
                "Sign in again",
                "There is no valid session with this request. Open the app from your product again.",
            ),
            Self::Forbidden => face(
                403,
                "forbidden",
                "http_request_denied",
                "Not allowed",
                "Your account may not use this. Ask your administrator for access.",
            ),
            Self::CrossSite => face(
                403,
                "cross_site",
                "http_request_denied",
                "Not allowed from another site",
                "Another site made this request in your name, and it was refused.",
            ),
            Self::NotFound => {
                face(404, "not_found", "http_request_denied", "Not found", "There is nothing here. Check the address.")
            }
            Self::Method => {
                face(405, "method", "http_request_denied", "Method not allowed", "This method is not allowed here.")
            }
            Self::Quota => face(
                429,
                "quota",
                "http_request_denied",
                "Too many requests",
                "Your organisation, or you, have as much under way or began as much as the quota allows. Try again in a moment.",
            ),
            Self::ClientTimeout => face(
                408,
                "client_timeout",
                "http_request_error",
                "Request took too long",
                "The request did not arrive in time. Send it again.",
            ),
            Self::BodyTooLarge => face(
                413,
                "body_too_large",
                "http_request_error",
                "Body too large",
                "The body of the request is larger than is allowed here.",
            ),
            Self::HeadTooLarge => face(
                431,
                "head_too_large",
                "http_request_error",
                "Header fields too large",
                "The header fields of the request are larger than is allowed. Clearing this site's cookies may help.",
            ),
            Self::Expectation => face(
                417,
                "expectation",
                "http_request_error",
                "Expectation failed",
                "The only expectation known here is 100-continue.",
            ),
            Self::Internal => face(
                500,
                "internal",
                "proxy_internal_error",
                "Internal error",
                "Something went wrong in the gateway. Try again, and report the request id if it happens again.",
            ),
            Self::Unreachable => face(
                502,
                "unreachable",
                "connection_refused",
                "App not reachable",
                "The app did not accept a connection. Try again in a moment.",
            ),
            Self::BadDestination => face(
                502,
                "bad_destination",
                "destination_ip_prohibited",
                "App not reachable",
                "The app's address is not known or not allowed. Report the request id to your administrator.",
            ),
            Self::UpstreamBroke => face(
                502,
                "upstream_broke",
                "connection_terminated",
                "App gave no proper answer",
                "The app ended the connection before its answer was complete. Try again in a moment.",
            ),
            Self::CredentialRefused => face(
                502,
                "credential_refused",
                "proxy_configuration_error",
                "App refused the gateway",
                "The app does not accept the credential of your organisation. Report the request id to your administrator.",
            ),
            Self::IssuerRefused => face(
                502,
                "issuer_refused",
                "proxy_internal_response",
                "Sign-in at the app failed",
                "The credential of your organisation was refused. Report the request id to your administrator.",
            ),
            Self::IssuerUnreachable => face(
                503,
                "issuer_unreachable",
                "destination_unavailable",
                "Sign-in at the app failed",
                "The service that issues credentials cannot be reached. Try again in a moment.",
            ),
            Self::NotRecorded => face(
                503,
                "not_recorded",
                "proxy_internal_error",
                "Try again",
                "What you asked for could not be recorded everywhere at the moment. Try again in a moment.",
            ),
            Self::NotReady => face(
                503,
                "not_ready",
                "proxy_internal_error",
                "Starting",
                "The gateway is starting. Try again in a moment.",
            ),
            Self::NoRunningCluster => face(
                503,
                "no_running_cluster",
                "destination_unavailable",
                "App not running",
                "The app is not running at the moment. Try again in a moment.",
            ),
            Self::CircuitOpen => face(
                503,
                "circuit_open",
                "connection_limit_reached",
                "App is busy",
                "The app has as much to do as it may. Try again in a moment.",
            ),
            Self::Starting => face(
                503,
                "starting",
                "destination_unavailable",
                "Starting",
                "It was not running and is being started. Try again in a moment.",
            ),
            Self::StartFailed => face(
                503,
                "start_failed",
                "destination_unavailable",
                "Could not be started",
                "It is not running and could not be started. Report the request id to your administrator.",
            ),
            Self::QueueFull => face(
                503,
                "queue_full",
                "destination_unavailable",
                "Too many are waiting",
                "Too many requests wait for it already. Try again in a moment.",
            ),
            Self::QueueTimeout => face(
                503,
                "queue_timeout",
                "destination_unavailable",
                "Busy",
                "So much is under way that the request waited in vain. Nothing was done; try again in a moment.",
            ),
            Self::Overloaded => face(
                503,
                "overloaded",
                "proxy_internal_error",
                "Busy",
                "The gateway is full at the moment. Try again in a moment.",
            ),
            Self::Draining => face(
                503,
                "draining",
                "proxy_internal_error",
                "Restarting",
                "This instance of the gateway is going away. Try again.",
            ),
            Self::UpstreamTimeout => face(
                504,
                "upstream_timeout",
                "http_response_timeout",
                "App did not answer in time",
                "The app did not answer in time. Try again in a moment.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_class_has_its_own_label_and_an_error_status() {
        let labels: HashSet<_> = Class::ALL.iter().map(|class| class.label()).collect();
        assert_eq!(labels.len(), Class::ALL.len());
        for class in Class::ALL {
            assert!((400..600).contains(&class.status()), "{class:?}");
            assert_eq!(class.retry_after().is_some(), matches!(class.status(), 429 | 503), "{class:?}");
        }
    }
}
