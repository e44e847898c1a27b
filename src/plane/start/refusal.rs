//! Why no session is started: every case, with what a front end may read of it.

use crate::directory::postgres::Error;
use crate::model::reject::{Class, Reject};
use crate::session::jwt::JwtError;

/// Why no session is started.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Only POST starts a session.
    Method,
    /// The page that asks is not a front end's.
    Origin,
    /// The body does not come, or is no JSON object.
    Body(Reject),
    /// Not `application/json`.
    ContentType,
    /// The app is missing or not an id.
    App,
    /// The organisation is missing or not an id.
    Org,
    /// There is no JWT.
    NoJwt,
    /// The JWT is not taken.
    Jwt(JwtError),
    /// The JWT started a session before, and may do so once.
    Used,
    /// Whether the JWT was used cannot be asked.
    UseUnknown(Error),
    /// Too many used JWTs are remembered.
    TooManyUses,
    /// The directory is not there yet.
    NotReady,
    /// The user may do nothing.
    Banned,
    /// The user is not of the organisation; also when there is no such organisation.
    NotMember,
    /// The organisation has no such app.
    UnknownApp,
    /// The app is known not to work.
    AppFailed,
    /// The request came to the host of another app.
    WrongHost,
    /// Sessions in addresses are off.
    NoCookieless,
    /// Nobody acts for the user at the app.
    NoPrincipal,
    /// The one who does is given no token.
    NoToken(Reject),
    /// User and e-mail address do not fit into a session.
    User(String),
    /// The session cannot be sealed.
    Internal(Reject),
}

/// What is said about a refusal.
pub(super) struct Face {
    pub(super) class: Class,
    /// The word for programs.
    pub(super) reason: &'static str,
    /// The sentence for people.
    pub(super) detail: &'static str,
}

impl Refusal {
    /// What may be said about it. Nothing here tells of other users or organisations.
    pub(super) fn face(&self) -> Face {
        let face = |class, reason, detail| Face { class, reason, detail };
        match self {
            Self::Method => face(Class::Method, "method", "Start sessions with POST."),
            Self::Origin => {
                face(Class::CrossSite, "origin", "Only pages of the organisation's front ends may start sessions.")
            }
            Self::Body(reject) => match reject.class {
                Class::Malformed => face(Class::Malformed, "body", "The body is not a JSON object. Send one."),
                class => face(class, class.label(), class.detail()),
            },
            Self::ContentType => face(Class::Malformed, "content_type", "Send the body as application/json."),
            Self::App => face(Class::Malformed, "app", "The app is missing or not an id. Name one."),
            Self::Org => face(Class::Malformed, "org", "The organisation is missing or not an id. Name one."),
            Self::NoJwt => face(Class::Malformed, "jwt", "There is no JWT in the body. Send one as \"jwt\"."),
            Self::Jwt(JwtError::KeysUnavailable { .. }) => face(
                Class::IssuerUnreachable,
                "jwt_keys",
                "The keys that JWTs are checked with cannot be had at the moment. Try again in a moment.",
            ),
            Self::Jwt(JwtError::Expired) => {
                face(Class::Session, "jwt_expired", "The JWT has expired. Get a new one and try again.")
            }
            Self::Jwt(JwtError::NoSubject) => face(Class::Session, "jwt_subject", "The JWT names no user (sub)."),
            Self::Jwt(JwtError::NoEmail) => {
                face(Class::Session, "jwt_email", "The JWT holds no e-mail address (email).")
            }
            Self::Jwt(_) => {
                face(Class::Session, "jwt_invalid", "The JWT is not accepted. Get a new one and try again.")
            }
            Self::Used => {
                face(Class::Session, "jwt_used", "The JWT has been used before. Get a new one and try again.")
            }
            Self::UseUnknown(_) | Self::TooManyUses => face(
                Class::NotRecorded,
                "jwt_use_unknown",
                "Whether the JWT has been used cannot be told at the moment. Try again in a moment.",
            ),
            Self::NotReady => face(Class::NotReady, "not_ready", Class::NotReady.detail()),
            Self::Banned => face(Class::Forbidden, "banned", "The user is banned."),
            Self::NotMember => face(Class::Forbidden, "not_member", "The user is not a member of the organisation."),
            Self::UnknownApp => face(Class::NotFound, "unknown_app", "The organisation has no such app."),
            Self::AppFailed => face(Class::NoRunningCluster, "app_failed", "The app does not work at the moment."),
            Self::WrongHost => face(Class::Forbidden, "wrong_host", "This is the host of another app."),
            Self::NoCookieless => {
                face(Class::Forbidden, "cookieless", "Sessions without cookies need embedding.cookieless = true.")
            }
            Self::NoPrincipal => {
                face(Class::Forbidden, "no_principal", "No service principal acts for the user at this app.")
            }
            Self::User(_) => {
                face(Class::Session, "jwt_user", "The user or the e-mail address of the JWT is malformed or too long.")
            }
            Self::NoToken(reject) | Self::Internal(reject) => {
                face(reject.class, reject.class.label(), reject.class.detail())
            }
        }
    }

    /// What `FireFly`'s proxy says, in its words where it has some.
    pub(super) fn firefly(&self, app: &str, org: &str, email: &str) -> (u16, String) {
        let text = match self {
            Self::Method => "method not allowed".to_owned(),
            Self::Origin => "forbidden: invalid origin".to_owned(),
            Self::Body(reject) if reject.class == Class::Malformed => "invalid request body".to_owned(),
            Self::App => "invalid or missing \"toolId\"".to_owned(),
            Self::Org => "invalid or missing \"orgId\"".to_owned(),
            Self::NoJwt => "missing jwt".to_owned(),
            Self::Jwt(JwtError::NoSubject) => "unauthorized: JWT missing sub claim".to_owned(),
            Self::Jwt(JwtError::NoEmail) => "unauthorized: JWT missing email claim".to_owned(),
            Self::Jwt(JwtError::KeysUnavailable { .. }) => "unavailable: no keys to check JWTs with".to_owned(),
            Self::Jwt(_) | Self::User(_) => "unauthorized: invalid JWT".to_owned(),
            Self::Banned => "forbidden: user is banned".to_owned(),
            Self::NotMember => format!("forbidden: user is not a member of organization \"{org}\""),
            Self::UnknownApp => return (403, format!("forbidden: tool \"{app}\" not found in org \"{org}\"")),
            Self::AppFailed => return (403, format!("forbidden: tool \"{app}\" is not available")),
            Self::NoPrincipal => format!("forbidden: no SPN credentials found for user \"{email}\""),
            Self::NoToken(_) => return (500, "failed to obtain Databricks token".to_owned()),
            other => other.face().detail.to_owned(),
        };
        (self.face().class.status(), text)
    }

    /// The refusal for the log and the metrics.
    pub(super) fn reject(&self) -> Reject {
        let class = self.face().class;
        match self {
            Self::Body(reject) | Self::NoToken(reject) | Self::Internal(reject) => reject.clone(),
            Self::Jwt(error) => Reject::new(class, error.to_string()),
            Self::UseUnknown(error) => Reject::new(class, error.to_string()),
            Self::User(cause) => Reject::new(class, cause.clone()),
            other => Reject::new(class, other.face().detail),
        }
    }
}
