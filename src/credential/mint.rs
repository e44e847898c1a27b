//! One token for one principal, in the way of its kind.

use super::endpoint::{self, Form, Minted};
use super::{MintError, Shared, clients, jwts};
use crate::clock::UnixSeconds;
use crate::model::ids::{OrgId, PrincipalId};
use crate::model::principal::{Extras, PrincipalKind};
use crate::model::upstream::ServicePrincipal;
use crate::model::url::{BaseUrl, Endpoint, InvalidUrl};
use crate::secret::Secret;
use crate::signing::{SigningFailed, SigningKeyError};

/// Whose token.
pub(super) struct Whose {
    pub(super) org: OrgId,
    pub(super) id: PrincipalId,
    pub(super) kind: PrincipalKind,
    pub(super) extras: Extras,
    /// The workspace, or what issues tokens in its place.
    pub(super) issuer: BaseUrl,
}

/// What a token endpoint is sent.
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    pub(super) authorization: Option<Secret>,
    pub(super) form: Form,
}

/// Why there is nothing to send.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmade {
    #[error("its address cannot be made: {0}")]
    Url(#[from] InvalidUrl),
    #[error("its private key {0}")]
    Key(#[from] SigningKeyError),
    #[error("{0}")]
    Signing(#[from] SigningFailed),
    #[error("{0}")]
    Random(#[from] getrandom::Error),
    #[error("credentials.assertion_keys names no key to sign with; add one")]
    NoAssertionKey,
    #[error("this kind of principal has no issuer")]
    NotMinted,
}

impl From<Unmade> for MintError {
    fn from(unmade: Unmade) -> Self {
        Self::Refused(unmade.to_string())
    }
}

impl Whose {
    pub(super) fn of(principal: &ServicePrincipal) -> Self {
        Self {
            org: principal.org.clone(),
            id: principal.id.clone(),
            kind: principal.kind.clone(),
            extras: principal.extras.clone(),
            issuer: principal.issuer.clone(),
        }
    }

    /// A new token.
    ///
    /// # Errors
    /// [`MintError`].
    pub(super) async fn mint(&self, shared: &Shared) -> Result<Minted, MintError> {
        let now = shared.clock.now();
        if let PrincipalKind::SelfSignedJwt { key, claims, lifetime } = &self.kind {
            return Ok(jwts::self_signed(key, claims, lifetime.as_secs(), now)?);
        }
        let Call { endpoint, authorization, form } = self.call(shared, now)?;
        // The semaphores are never closed.
        let turns = shared.turns(endpoint.base());
        let _turn = turns.acquire().await;
        let _permit = shared.permits.acquire().await;
        let limit = shared.settings.timeout;
        endpoint::ask(&shared.dialer, &endpoint, authorization.as_ref(), &form, limit, now).await
    }

    fn call(&self, shared: &Shared, now: UnixSeconds) -> Result<Call, Unmade> {
        Ok(match &self.kind {
            PrincipalKind::Databricks { client_id, client_secret, account } => {
                clients::databricks(&self.issuer, account.as_ref(), client_id, client_secret)?
            }
            PrincipalKind::OAuth2(oauth2) => clients::oauth2(oauth2),
            PrincipalKind::Entra(entra) => clients::entra(entra)?,
            PrincipalKind::JwtBearer { token_url, key, claims } => jwts::bearer(token_url, key, claims, now)?,
            PrincipalKind::TokenExchange(exchange) => {
                jwts::exchange(exchange, &self.org, &self.issuer, &shared.assertions, now)?
            }
            PrincipalKind::SelfSignedJwt { .. }
            | PrincipalKind::Basic { .. }
            | PrincipalKind::Bearer { .. }
            | PrincipalKind::Header { .. }
            | PrincipalKind::SigV4(_)
            | PrincipalKind::Mtls
            | PrincipalKind::None
            | PrincipalKind::Unusable => return Err(Unmade::NotMinted),
        })
    }

    /// The share of a token's life, from its end, in which it is renewed ahead: issuers of tokens may be away for a while,
    /// and a key at hand is not.
    pub(super) fn lead(&self) -> f64 {
        if matches!(self.kind, PrincipalKind::SelfSignedJwt { .. }) { 0.2 } else { 0.5 }
    }
}
