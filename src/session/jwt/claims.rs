//! What a JWT claims (RFC 7519 4), once its signature is known to be good.

use super::{Claims, JwtError, SKEW, object};
use crate::clock::UnixSeconds;
use crate::config::Jwt;
use crate::session::MAX_TEXT;
use serde_json::{Map, Value};
use std::time::Duration;

/// What is demanded of the claims.
pub(super) struct Rules {
    issuer: String,
    audience: String,
    single_use: bool,
    max_lifetime: u64,
    org_claim: Option<String>,
}

impl Rules {
    pub(super) fn new(config: &Jwt) -> Self {
        Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            single_use: config.single_use,
            max_lifetime: config.max_lifetime.as_secs(),
            org_claim: config.org_claim.clone(),
        }
    }

    /// Reads and checks the payload of a token at a time.
    pub(super) fn read(&self, payload: &str, now: UnixSeconds) -> Result<Claims, JwtError> {
        let claims = object(payload)?;
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(JwtError::Issuer);
        }
        if !self.is_for_us(claims.get("aud")) {
            return Err(JwtError::Audience);
        }
        let (expires, issued) = check_times(&claims, now)?;
        if expires.saturating_sub(issued.unwrap_or(now)) > self.max_lifetime {
            return Err(JwtError::TooLongLived);
        }
        let id = text(&claims, "jti")?;
        if self.single_use && id.is_none() {
            return Err(JwtError::NoId);
        }
        Ok(Claims {
            subject: text(&claims, "sub")?.ok_or(JwtError::NoSubject)?,
            email: text(&claims, "email")?.ok_or(JwtError::NoEmail)?,
            id,
            orgs: self.orgs(&claims)?,
            expires,
            issued,
        })
    }

    /// The organisations that the user may enter, where the token has to say so.
    fn orgs(&self, claims: &Map<String, Value>) -> Result<Option<Vec<String>>, JwtError> {
        let Some(name) = &self.org_claim else { return Ok(None) };
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(JwtError::Claim("of session.jwt.org_claim"));
        match claims.get(name) {
            Some(Value::Array(some)) => some.iter().map(text).collect::<Result<_, _>>().map(Some),
            Some(one) => Ok(Some(vec![text(one)?])),
            None => Err(JwtError::Claim("of session.jwt.org_claim")),
        }
    }

    /// `aud` is one name or a list of them (RFC 7519 4.1.3).
    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        match audience {
            Some(Value::String(one)) => *one == self.audience,
            Some(Value::Array(some)) => some.iter().any(|one| one.as_str() == Some(&self.audience)),
            _ => false,
        }
    }
}

/// `exp` and `iat` of a token that is valid now.
fn check_times(claims: &Map<String, Value>, now: UnixSeconds) -> Result<(UnixSeconds, Option<UnixSeconds>), JwtError> {
    let expires = time(claims, "exp")?.ok_or(JwtError::Claim("exp"))?;
    if now >= expires.saturating_add(SKEW) {
        return Err(JwtError::Expired);
    }
    let issued = time(claims, "iat")?;
    let begins = time(claims, "nbf")?.max(issued);
    if begins.is_some_and(|begins| begins > now.saturating_add(SKEW)) {
        return Err(JwtError::NotYetValid);
    }
    Ok((expires, issued))
}

/// A number of seconds, which may have a fraction (RFC 7519 2). The wrong type is an error, not a lack.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<UnixSeconds>, JwtError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let fraction = || Duration::try_from_secs_f64(value.as_f64()?).ok().map(|time| time.as_secs());
    let whole = value.as_u64().or_else(fraction);
    // Larger ones than JSON carries exactly (RFC 8259 6) are slips, such as nanoseconds.
    whole.filter(|seconds| *seconds < 1 << 53).map(Some).ok_or(JwtError::Claim(name))
}

/// A text that fits into a session: visible ASCII. An empty one is as good as none.
fn text(claims: &Map<String, Value>, name: &'static str) -> Result<Option<String>, JwtError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_TEXT && text.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(JwtError::Claim(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    const NOW: UnixSeconds = 1_800_000_000;

    /// Reads good claims with one of them replaced; null takes it away.
    fn with(name: &str, value: Value) -> Result<Claims, JwtError> {
        read(name, value, false)
    }

    fn read(name: &str, value: Value, single_use: bool) -> Result<Claims, JwtError> {
        let mut claims = json!({
            "iss": "https://front.example", "aud": "https://gate.example", "sub": "u1", "email": "Ann@Acme.example",
            "iat": NOW, "exp": NOW + 300, "name": "Ann", "emailVerified": true,
        });
        claims[name] = value;
        let claims: Map<_, _> =
            claims.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap());
        rules(single_use).read(&payload, NOW)
    }

    fn rules(single_use: bool) -> Rules {
        let (issuer, audience) = ("https://front.example".to_owned(), "https://gate.example".to_owned());
        Rules { issuer, audience, single_use, max_lifetime: 3600, org_claim: None }
    }

    #[test]
    fn good_claims_are_given_as_they_were_written() {
        let claims = with("jti", json!("id-1")).unwrap();
        assert_eq!((claims.subject.as_str(), claims.email.as_str()), ("u1", "Ann@Acme.example"));
        assert_eq!((claims.id.as_deref(), claims.expires, claims.issued), (Some("id-1"), NOW + 300, Some(NOW)));
        let others = with("aud", json!(["https://other.example", "https://gate.example"])).unwrap();
        assert_eq!((others.id, others.issued), (None, Some(NOW)));
        assert_eq!(with("iat", Value::Null).unwrap().issued, None);
    }

    #[test]
    fn claims_that_are_missing_or_wrong_are_told_apart() {
        for (name, value, wrong) in [
            ("iss", Value::Null, JwtError::Issuer),
            ("iss", json!("https://front.example/"), JwtError::Issuer),
            ("iss", json!(["https://front.example"]), JwtError::Issuer),
            ("aud", Value::Null, JwtError::Audience),
            ("aud", json!("https://other.example"), JwtError::Audience),
            ("aud", json!([]), JwtError::Audience),
            ("aud", json!([["https://gate.example"], 1]), JwtError::Audience),
            ("aud", json!({"https://gate.example": 1}), JwtError::Audience),
            ("exp", Value::Null, JwtError::Claim("exp")),
            ("exp", json!("1900000000"), JwtError::Claim("exp")),
            ("exp", json!(-1), JwtError::Claim("exp")),
            ("exp", json!(1e300), JwtError::Claim("exp")),
            ("exp", json!(u64::MAX), JwtError::Claim("exp")),
            ("nbf", json!([0]), JwtError::Claim("nbf")),
            ("iat", json!("now"), JwtError::Claim("iat")),
            ("sub", Value::Null, JwtError::NoSubject),
            ("sub", json!(""), JwtError::NoSubject),
            ("sub", json!(7), JwtError::Claim("sub")),
            ("sub", json!("a\r\nb"), JwtError::Claim("sub")),
            ("sub", json!("u".repeat(MAX_TEXT + 1)), JwtError::Claim("sub")),
            ("email", Value::Null, JwtError::NoEmail),
            ("email", json!("ann smith@acme.example"), JwtError::Claim("email")),
            ("email", json!("\u{e4}nn@acme.example"), JwtError::Claim("email")),
            ("jti", json!(1), JwtError::Claim("jti")),
        ] {
            assert_eq!(with(name, value.clone()), Err(wrong), "{name} = {value}");
        }
    }

    #[test]
    fn times_have_ten_seconds_of_grace_on_either_side() {
        for (name, value, verdict) in [
            ("exp", json!(NOW - 9), None),
            ("exp", json!(NOW - 10), Some(JwtError::Expired)),
            ("exp", json!(NOW as f64 - 9.5), Some(JwtError::Expired)),
            ("exp", json!(0), Some(JwtError::Expired)),
            ("nbf", json!(NOW + 10), None),
            ("nbf", json!(NOW as f64 + 0.5), None),
            ("nbf", json!(NOW + 11), Some(JwtError::NotYetValid)),
            ("iat", json!(NOW + 10), None),
            ("iat", json!(NOW + 11), Some(JwtError::NotYetValid)),
        ] {
            assert_eq!(with(name, value.clone()).err(), verdict, "{name} = {value}");
        }
    }

    #[test]
    fn a_life_has_a_limit_with_or_without_a_beginning() {
        let life = |claims: Value| rules(false).read(&URL_SAFE_NO_PAD.encode(claims.to_string()), NOW).err();
        let claims = |exp: u64, iat: Option<u64>| {
            let mut claims = json!({
                "iss": "https://front.example", "aud": "https://gate.example", "sub": "u", "email": "a@b", "exp": exp,
            });
            claims.as_object_mut().unwrap().extend(iat.map(|iat| ("iat".to_owned(), json!(iat))));
            claims
        };
        assert_eq!(life(claims(NOW + 3600, Some(NOW))), None);
        assert_eq!(life(claims(NOW + 3600, None)), None);
        assert_eq!(life(claims(NOW + 3601, None)), Some(JwtError::TooLongLived));
        assert_eq!(life(claims(NOW + 5, Some(NOW - 3600))), Some(JwtError::TooLongLived));
    }

    #[test]
    fn a_token_may_have_to_say_which_organisations_are_its_users() {
        let orgs = |claim: Value| {
            let claims = json!({
                "iss": "https://front.example", "aud": "https://gate.example", "sub": "u", "email": "a@b",
                "exp": NOW + 60, "orgs": claim,
            });
            let rules = Rules { org_claim: Some("orgs".to_owned()), ..rules(false) };
            rules.read(&URL_SAFE_NO_PAD.encode(claims.to_string()), NOW).map(|claims| claims.orgs)
        };
        assert_eq!(orgs(json!("acme")), Ok(Some(vec!["acme".to_owned()])));
        assert_eq!(orgs(json!(["acme", "other"])), Ok(Some(vec!["acme".to_owned(), "other".to_owned()])));
        assert_eq!(orgs(json!([])), Ok(Some(vec![])));
        for wrong in [Value::Null, json!(7), json!(["acme", 7]), json!({ "acme": true })] {
            assert_eq!(orgs(wrong.clone()), Err(JwtError::Claim("of session.jwt.org_claim")), "{wrong}");
        }
    }

    #[test]
    fn single_use_needs_an_id() {
        assert_eq!(read("jti", Value::Null, true), Err(JwtError::NoId));
        assert_eq!(read("jti", json!(""), true), Err(JwtError::NoId));
        assert_eq!(read("jti", json!("id-1"), true).unwrap().id.as_deref(), Some("id-1"));
    }
}
