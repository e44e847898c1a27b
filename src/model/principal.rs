//! Service principals as rows: whom they are for and how they prove themselves.

use super::ids::{PrincipalId, WorkspaceId};
use super::url::{BaseUrl, Endpoint};
use crate::live::token::Token;
use crate::secret::Secret;
use crate::signing::Algorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// An identity used upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalRow {
    /// Unique within the organisation.
    pub id: PrincipalId,
    /// How it proves itself.
    pub kind: PrincipalKind,
    /// What goes with any kind.
    pub extras: Extras,
    /// The workspace whose upstreams it is used for.
    pub workspace: WorkspaceId,
    /// The account that issues its tokens, where it is another than the workspace.
    pub issuer: Option<BaseUrl>,
    /// E-mail addresses, lower case, it is reserved for; empty means every user of the organisation.
    pub users: Vec<String>,
    /// Whether it only starts and stops things, and acts for nobody.
    pub control: bool,
}

/// What goes with any kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Header fields for every request, in the order of their names.
    pub headers: Vec<(String, String)>,
    /// What it shows upstreams in TLS handshakes.
    pub certificate: Option<ClientCertificate>,
}

/// A certificate with its key, both in PEM. They have been found to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by its intermediates.
    pub chain: String,
    /// The private key.
    pub key: Secret,
}

/// How a principal proves itself to the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalKind {
    /// OAuth client credentials at the workspace or its account, HTTP Basic, scope `all-apis`.
    Databricks {
        /// OAuth client id.
        client_id: String,
        /// OAuth client secret.
        client_secret: Secret,
        /// The account that is asked; without one, the workspace is.
        account: Option<Account>,
    },
    /// OAuth client credentials (RFC 6749 4.4).
    OAuth2(OAuth2),
    /// OAuth client credentials of Microsoft Entra.
    Entra(Entra),
    /// A JWT of its own, exchanged for a token (RFC 7523 2.1).
    JwtBearer {
        /// Where tokens are.
        token_url: Endpoint,
        /// What signs.
        key: JwtKey,
        /// What is signed.
        claims: JwtClaims,
    },
    /// A JWT of its own, which is the token.
    SelfSignedJwt {
        /// What signs.
        key: JwtKey,
        /// What is signed.
        claims: JwtClaims,
        /// How long each JWT lives.
        lifetime: Duration,
    },
    /// A JWT of the gateway, exchanged for a token (RFC 8693).
    TokenExchange(TokenExchange),
    /// User name and password (RFC 7617).
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A fixed bearer token.
    Bearer {
        /// The token, without the word Bearer.
        token: Secret,
    },
    /// A header field of its own.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// Requests are signed with a secret of AWS.
    SigV4(SigV4),
    /// By its certificate alone.
    Mtls,
    /// Nothing is sent.
    None,
    /// In a way that cannot be read, such as by a secret sealed with a key that is gone. Whoever it is for is refused and
    /// never falls to another principal.
    Unusable,
}

/// An account at Databricks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: String,
    /// Where accounts are.
    pub url: BaseUrl,
}

/// OAuth client credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// Where tokens are.
    pub token_url: Endpoint,
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret.
    pub client_secret: Secret,
    /// Where id and secret are sent.
    pub auth: ClientAuth,
    /// What the token is asked for.
    pub scope: Option<String>,
    /// More of the form, in the order of their names.
    pub params: Vec<(String, String)>,
}

/// How a client shows its id and secret (RFC 6749 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// By HTTP Basic.
    #[default]
    Basic,
    /// In the form.
    Body,
}

impl ClientAuth {
    /// By their names.
    pub const NAMES: [(&'static str, Self); 2] = [("basic", Self::Basic), ("body", Self::Body)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Body => "body",
        }
    }
}

/// OAuth client credentials of Microsoft Entra.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entra {
    /// Where Entra is.
    pub authority: BaseUrl,
    /// The tenant's id or domain.
    pub tenant: String,
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret.
    pub client_secret: Secret,
    /// What the token is asked for.
    pub scope: String,
}

/// What signs JWTs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtKey {
    /// In PEM; it has been found to fit the algorithm.
    pub private_key: Secret,
    /// How it signs.
    pub algorithm: Algorithm,
    /// What JWTs call it.
    pub key_id: Option<String>,
}

/// What a JWT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtClaims {
    /// `iss`; `{fingerprint}` in it stands for that of the public key.
    pub issuer: String,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`; for an exchange the token endpoint, where it is not said.
    pub audience: Option<String>,
    /// What the token is asked for.
    pub scope: Option<String>,
}

/// A JWT of the gateway, exchanged for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenExchange {
    /// Where tokens are; without it at the workspace.
    pub token_url: Option<Endpoint>,
    /// Whose token is asked for, where the issuer wants to know.
    pub client_id: Option<String>,
    /// `iss`; without it the gateway's public URL.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: String,
    /// `aud`; without it the token endpoint.
    pub audience: Option<String>,
    /// What the token is asked for.
    pub scope: Option<String>,
    /// More of the form, in the order of their names.
    pub params: Vec<(String, String)>,
}

/// A secret of AWS, and what it signs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigV4 {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Of temporary ones.
    pub session_token: Option<Secret>,
    /// Such as `eu-central-1`.
    pub region: String,
    /// Such as `execute-api`.
    pub service: String,
    /// Whether bodies are signed.
    pub payload: Payload,
}

/// Whether the body of a request is signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Payload {
    /// It is, and held back until all of it is there.
    #[default]
    Signed,
    /// It is not, where the service takes that.
    Unsigned,
}

impl Payload {
    /// By their names.
    pub const NAMES: [(&'static str, Self); 2] = [("signed", Self::Signed), ("unsigned", Self::Unsigned)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Unsigned => "unsigned",
        }
    }
}

/// Fields that a signature stands on or in, which nobody else may set.
pub const SIGNED_FIELDS: [&str; 3] = ["X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256"];

impl PrincipalKind {
    /// Whether its credential is made anew from time to time, and may be replaced by another.
    #[must_use]
    pub fn is_minted(&self) -> bool {
        match self {
            Self::Databricks { .. }
            | Self::OAuth2(_)
            | Self::Entra(_)
            | Self::JwtBearer { .. }
            | Self::SelfSignedJwt { .. }
            | Self::TokenExchange(_) => true,
            Self::Basic { .. }
            | Self::Bearer { .. }
            | Self::Header { .. }
            | Self::SigV4(_)
            | Self::Mtls
            | Self::None
            | Self::Unusable => false,
        }
    }

    /// Whether its requests need no header field.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Mtls | Self::None)
    }

    /// What goes upstream for ever; none where that has to be made, or where there is nothing.
    #[must_use]
    pub fn fixed_token(&self, extras: &Extras) -> Option<Token> {
        let fixed = &*extras.headers;
        Some(match self {
            Self::Basic { user, password } => {
                let pair = Secret::new(format!("{user}:{}", password.expose()));
                Token::authorization(&Secret::new(format!("Basic {}", STANDARD.encode(pair.expose()))), fixed)
            }
            Self::Bearer { token } => Token::authorization(&Secret::new(format!("Bearer {}", token.expose())), fixed),
            Self::Header { name, value } => Token::new(Some((name, value.expose())), fixed),
            Self::SigV4(_) => Token::new(None, fixed).reserving(&SIGNED_FIELDS),
            Self::Mtls => Token::new(None, fixed),
            Self::None if !fixed.is_empty() => Token::new(None, fixed).beside_authorization(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_credentials_are_written_out() {
        let extras = Extras { headers: vec![("X-Requested-By".into(), "gateway".into())], certificate: None };
        let secret = |text: &str| Secret::new(text.to_owned());
        let lines = |kind: PrincipalKind| {
            let token = kind.fixed_token(&extras).unwrap();
            (String::from_utf8(token.lines().to_vec()).unwrap(), token.replaces_authorization())
        };
        let ends = "X-Requested-By: gateway\r\n";
        for (kind, first, replaces) in [
            (
                PrincipalKind::Basic { user: "Aladdin".into(), password: secret("open sesame") },
                "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n",
                true,
            ),
            (PrincipalKind::Bearer { token: secret("t") }, "Authorization: Bearer t\r\n", true),
            (PrincipalKind::Header { name: "X-Key".into(), value: secret("k") }, "X-Key: k\r\n", true),
            (PrincipalKind::Mtls, "", true),
            (PrincipalKind::None, "", false),
        ] {
            assert_eq!(lines(kind), (format!("{first}{ends}"), replaces));
        }
        assert!(PrincipalKind::None.fixed_token(&Extras::default()).is_none());
        assert!(PrincipalKind::Unusable.fixed_token(&extras).is_none());
    }
}
