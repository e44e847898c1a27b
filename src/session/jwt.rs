//! The JWTs (RFC 7519) with which a front end vouches for its users: whether one is good, and what it says.
//!
//! What is accepted never depends on the token alone (RFC 8725 3.1): the algorithm has to be in the configured list and
//! fit the key, and the key comes from the configured address. Keys that a token brings along or points to (`jwk`,
//! `jku`, `x5c`, `x5u`) are not looked at.

mod claims;
mod jwks;
mod keyset;

use crate::clock::{Clock, UnixSeconds};
use crate::config::Jwt;
use crate::metrics::Metrics;
use crate::net::dial::Dialer;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claims::Rules;
use jsonwebtoken::Algorithm;
use jwks::Jwks;
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::runtime::Handle;

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: the user, as the front end names it. Visible ASCII.
    pub subject: String,
    /// `email`, as it was written. Visible ASCII.
    pub email: String,
    /// `jti`: the token's own id. There is one when `session.jwt.single_use` is on.
    pub id: Option<String>,
    /// The organisations that the user may enter, where `session.jwt.org_claim` says that the token names them.
    pub orgs: Option<Vec<String>>,
    /// `exp`: when the token ends. Until [`SKEW`] seconds later it is taken.
    pub expires: UnixSeconds,
    /// `iat`: when it was made.
    pub issued: Option<UnixSeconds>,
}

/// Why a token is not taken. The texts are for the log: they never hold anything of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Longer than is read.
    #[error("the JWT is longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// Not three parts of base64url with JSON in them.
    #[error("the JWT is malformed")]
    Malformed,
    /// It demands an extension (`crit`, RFC 7515 4.1.11). None is known here.
    #[error("the JWT demands an extension (crit)")]
    Critical,
    /// Its algorithm is not configured, or does not fit the key.
    #[error("the JWT's algorithm is not in session.jwt.algorithms, or does not fit its key")]
    Algorithm,
    /// It names no key, and there is not exactly one.
    #[error("the JWT names no key (kid)")]
    NoKeyId,
    /// It names a key that the front end does not publish.
    #[error("the JWT names a key (kid) that is not at session.jwt.jwks_url")]
    UnknownKey,
    /// Somebody else signed it, or it was changed.
    #[error("the JWT's signature is wrong")]
    Signature,
    /// Another issuer, or none.
    #[error("the JWT's iss is not session.jwt.issuer")]
    Issuer,
    /// For somebody else, or for nobody.
    #[error("the JWT's aud is not session.jwt.audience")]
    Audience,
    /// It has ended.
    #[error("the JWT has expired")]
    Expired,
    /// It has not begun, or was made in the future.
    #[error("the JWT is not valid yet; do the clocks agree?")]
    NotYetValid,
    /// It was made for longer than is allowed.
    #[error("the JWT lives longer than session.jwt.max_lifetime")]
    TooLongLived,
    /// It names no user.
    #[error("the JWT names no user (sub)")]
    NoSubject,
    /// It names no e-mail address.
    #[error("the JWT holds no e-mail address (email)")]
    NoEmail,
    /// It has no id, which single use needs.
    #[error("the JWT has no id (jti), which session.jwt.single_use demands")]
    NoId,
    /// A claim is missing, of the wrong type or too long.
    #[error("the JWT's claim {0} is missing or not as it should be")]
    Claim(&'static str),
    /// There are no keys to check it with: the only case that is not the token's fault.
    #[error("there are no keys to check JWTs with: {cause}")]
    KeysUnavailable {
        /// Why the last fetch came to nothing.
        cause: Arc<str>,
    },
}

/// Longest token that is read, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;
/// How far the clocks of front end and gateway may be apart, in seconds.
pub const SKEW: UnixSeconds = 10;
/// Longest id of a key, in bytes.
const MAX_KEY_ID: usize = 256;
/// A token waits for no more fetches than this: one that was under way when it came and may have begun too early, and one
/// for its own sake.
const MAX_WAITS: usize = 2;

/// Checks JWTs against the configuration and the front end's keys.
pub struct Verifier {
    rules: Rules,
    algorithms: Arc<[Algorithm]>,
    clock: Clock,
    jwks: Arc<Jwks>,
}

impl Verifier {
    /// A verifier without keys; [`Self::spawn`] fetches them. The keys' address is the operator's word and not the
    /// directory's, so the dialler should allow private addresses.
    #[must_use]
    pub fn new(config: &Jwt, dialer: Dialer, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let algorithms: Arc<[_]> = config.algorithms.iter().filter_map(|name| algorithm(name)).collect();
        let jwks = Arc::new(Jwks::new(config, Arc::clone(&algorithms), dialer, metrics));
        Self { rules: Rules::new(config), algorithms, clock, jwks }
    }

    /// Fetches the keys, now and again and again, for as long as the runtime lasts. To be called once; until then, and
    /// until the first fetch has ended, tokens wait.
    pub fn spawn(&self, runtime: &Handle) {
        runtime.spawn(Arc::clone(&self.jwks).run());
    }

    /// Checks a token. Waits only when its key is not known: for a fetch that is under way, or for one that it causes.
    ///
    /// # Errors
    /// [`JwtError`] says what is wrong, for the log; a client may know whether it was
    /// [`KeysUnavailable`](JwtError::KeysUnavailable), and no more.
    pub async fn verify(&self, token: &str) -> Result<Claims, JwtError> {
        let token = Token::parse(token, &self.algorithms)?;
        let mut signed = self.check_signature(&token);
        for _ in 0..MAX_WAITS {
            if !matches!(signed, Err(JwtError::UnknownKey | JwtError::KeysUnavailable { .. })) {
                break;
            }
            let has_news = self.jwks.fetched_anew().await;
            signed = self.check_signature(&token);
            if !has_news {
                break;
            }
        }
        signed?;
        self.rules.read(token.payload, self.clock.now())
    }

    fn check_signature(&self, token: &Token<'_>) -> Result<(), JwtError> {
        let keys = self.jwks.keys()?;
        let key = keys.find(token.key_id.as_deref(), token.algorithm)?;
        match jsonwebtoken::crypto::verify(token.signature, token.signed.as_bytes(), key, token.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(JwtError::Signature),
        }
    }
}

/// The parts of a token (RFC 7515 7.1), of which nothing is proved yet.
struct Token<'a> {
    /// Header and payload, as they were signed.
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// One of those that are configured.
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl<'a> Token<'a> {
    fn parse(text: &'a str, algorithms: &[Algorithm]) -> Result<Self, JwtError> {
        if text.len() > MAX_TOKEN {
            return Err(JwtError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header = object(header)?;
        if header.contains_key("crit") {
            return Err(JwtError::Critical);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(JwtError::Malformed)?;
        let algorithm = algorithm(name).filter(|known| algorithms.contains(known)).ok_or(JwtError::Algorithm)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= MAX_KEY_ID => Some(id.clone()),
            Some(_) => return Err(JwtError::Malformed),
        };
        Ok(Self { signed, payload, signature, algorithm, key_id })
    }
}

/// A JSON object in base64url without padding.
fn object(part: &str) -> Result<Map<String, Value>, JwtError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| JwtError::Malformed)
}

/// An algorithm of [`JWT_ALGORITHMS`](crate::config::JWT_ALGORITHMS) by its name. `none` and HMAC have no name here.
fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "EdDSA" => Algorithm::EdDSA,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::JWT_ALGORITHMS;

    fn parse(header: &str, rest: &str) -> Result<Option<String>, JwtError> {
        let text = format!("{}{rest}", URL_SAFE_NO_PAD.encode(header));
        Token::parse(&text, &[Algorithm::EdDSA, Algorithm::RS256]).map(|token| token.key_id)
    }

    #[test]
    fn every_configurable_algorithm_is_known_and_no_other() {
        assert!(JWT_ALGORITHMS.iter().all(|name| algorithm(name).is_some()));
        for other in ["none", "None", "", "HS256", "HS384", "HS512", "ES512", "eddsa", "RSA-OAEP"] {
            assert_eq!(algorithm(other), None, "{other}");
        }
    }

    #[test]
    fn only_three_parts_with_a_plain_header_are_a_token() {
        assert_eq!(parse(r#"{"alg":"EdDSA","kid":"k","typ":"JWT","x":[1]}"#, ".e30.AA"), Ok(Some("k".into())));
        assert_eq!(parse(r#"{"alg":"RS256"}"#, ".e30.AA"), Ok(None));
        for (header, rest, wrong) in [
            (r#"{"alg":"EdDSA"}"#, "", JwtError::Malformed),
            (r#"{"alg":"EdDSA"}"#, ".e30", JwtError::Malformed),
            (r#"{"alg":"EdDSA"}"#, "=.e30.AA", JwtError::Malformed),
            (r#"["EdDSA"]"#, ".e30.AA", JwtError::Malformed),
            (r#"{"alg":1}"#, ".e30.AA", JwtError::Malformed),
            (r#"{"typ":"JWT"}"#, ".e30.AA", JwtError::Malformed),
            (r#"{"alg":"EdDSA","kid":7}"#, ".e30.AA", JwtError::Malformed),
            (r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#, ".e30.AA", JwtError::Critical),
            (r#"{"alg":"EdDSA","crit":[]}"#, ".e30.AA", JwtError::Critical),
            (r#"{"alg":"none"}"#, ".e30.", JwtError::Algorithm),
            (r#"{"alg":"HS256"}"#, ".e30.AA", JwtError::Algorithm),
            (r#"{"alg":"ES256"}"#, ".e30.AA", JwtError::Algorithm),
        ] {
            assert_eq!(parse(header, rest), Err(wrong), "{header}{rest}");
        }
        let long_id = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, "k".repeat(MAX_KEY_ID + 1));
        assert_eq!(parse(&long_id, ".e30.AA"), Err(JwtError::Malformed));
        assert_eq!(parse("{}", &"a".repeat(MAX_TOKEN)), Err(JwtError::TooLong));
        for nothing in ["", ".", "..", "...", "a.b.c", "\u{1f512}.\u{1f512}.\u{1f512}"] {
            assert_eq!(Token::parse(nothing, &[Algorithm::EdDSA]).err(), Some(JwtError::Malformed), "{nothing}");
        }
    }
}
