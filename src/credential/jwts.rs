//! JWTs that principals prove themselves with: signed with a key of their own, to be the token or to be exchanged for one
//! (RFC 7523), or signed by the gateway and exchanged (RFC 8693).

use super::assertions::Assertions;
use super::clients::{ALL_APIS, of_workspace};
use super::endpoint::{Form, Minted};
use super::mint::{Call, Unmade};
use crate::clock::UnixSeconds;
use crate::model::ids::OrgId;
use crate::model::principal::{JwtClaims, JwtKey, TokenExchange};
use crate::model::url::{BaseUrl, Endpoint};
use crate::secret::Secret;
use crate::signing::SigningKey;
use serde_json::{Value, json};

/// The life of a JWT that is only shown to a token endpoint, once.
const ASSERTION_LIFE: u64 = 300;
/// JWTs are dated back by this, for a clock of the other side that is late.
const SKEW: u64 = 30;

/// A JWT of a principal's own.
fn jwt(
    key: &JwtKey,
    claims: &JwtClaims,
    audience: Option<&str>,
    life: u64,
    now: UnixSeconds,
) -> Result<Secret, Unmade> {
    let JwtKey { private_key, algorithm, key_id } = key;
    let signer = SigningKey::from_pem(*algorithm, private_key)?;
    let issuer = if claims.issuer.contains(FINGERPRINT) {
        claims.issuer.replace(FINGERPRINT, &signer.fingerprint()?)
    } else {
        claims.issuer.clone()
    };
    let from = now.saturating_sub(SKEW);
    let mut all = json!({ "iss": issuer, "iat": from, "exp": from + life });
    let others = [("sub", claims.subject.as_deref()), ("aud", audience), ("scope", claims.scope.as_deref())];
    for (name, value) in others {
        if let Some(value) = value {
            all[name] = value.into();
        }
    }
    Ok(signer.jwt(key_id.as_deref(), &all)?)
}

/// Stands in `issuer` for the public key's own fingerprint.
const FINGERPRINT: &str = "{fingerprint}";

/// A JWT that is the token.
pub(super) fn self_signed(key: &JwtKey, claims: &JwtClaims, lifetime: u64, now: UnixSeconds) -> Result<Minted, Unmade> {
    let access_token = jwt(key, claims, claims.audience.as_deref(), lifetime, now)?;
    Ok(Minted { access_token, life: lifetime - SKEW })
}

/// A JWT that is exchanged for a token. Google reads the scope in the JWT, others in the form.
pub(super) fn bearer(token_url: &Endpoint, key: &JwtKey, claims: &JwtClaims, now: UnixSeconds) -> Result<Call, Unmade> {
    let itself = token_url.to_string();
    let audience = claims.audience.as_deref().unwrap_or(&itself);
    let assertion = jwt(key, claims, Some(audience), ASSERTION_LIFE, now)?;
    let form = Form::new([
        ("grant_type", Some("urn:ietf:params:oauth:grant-type:jwt-bearer")),
        ("assertion", Some(assertion.expose())),
        ("scope", claims.scope.as_deref()),
    ]);
    Ok(Call { endpoint: token_url.clone(), authorization: None, form })
}

/// A JWT of the gateway's that is exchanged for a token. It tells the organisation, too, so that an issuer can hold to it.
pub(super) fn exchange(
    exchange: &TokenExchange,
    org: &OrgId,
    workspace: &BaseUrl,
    assertions: &Assertions,
    now: UnixSeconds,
) -> Result<Call, Unmade> {
    let (endpoint, usual_scope) = match &exchange.token_url {
        Some(endpoint) => (endpoint.clone(), None),
        None => (of_workspace(workspace)?, Some(ALL_APIS)),
    };
    let from = now.saturating_sub(SKEW);
    let claims = json!({
        "iss": exchange.issuer.as_deref().unwrap_or(assertions.issuer()),
        "sub": exchange.subject,
        "aud": exchange.audience.clone().unwrap_or_else(|| endpoint.to_string()),
        "iat": from,
        "exp": from + ASSERTION_LIFE,
        "jti": unique()?,
        "org": org.as_str(),
    });
    let assertion = assertions.sign(&claims)?;
    let own = [
        ("grant_type", Some("urn:ietf:params:oauth:grant-type:token-exchange")),
        ("subject_token", Some(assertion.expose())),
        ("subject_token_type", Some("urn:ietf:params:oauth:token-type:jwt")),
        ("client_id", exchange.client_id.as_deref()),
        ("scope", exchange.scope.as_deref().or(usual_scope)),
    ];
    let more = exchange.params.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
    let form = Form::new(own.into_iter().chain(more));
    Ok(Call { endpoint, authorization: None, form })
}

/// A name that no other JWT has.
fn unique() -> Result<Value, Unmade> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)).into())
}
