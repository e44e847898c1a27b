//! Token endpoints (RFC 6749 3.2): one form is sent, and what comes back is read with care, for not everything that
//! answers there is an issuer of tokens.

use super::MintError;
use crate::clock::UnixSeconds;
use crate::model::url::Endpoint;
use crate::net::dial::Dialer;
use crate::net::http::{self as client, CallError, Limits};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// A token fresh from its issuer.
#[derive(Debug)]
pub(super) struct Minted {
    /// The token.
    pub(super) access_token: Secret,
    /// Its life from now, in seconds.
    pub(super) life: u64,
}

/// The longest answer of an issuer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// The life of a token whose issuer does not say, as Databricks has it.
const DEFAULT_LIFE_SECONDS: u64 = 3600;
/// Longer lives are cut to this, so that a mistaken number does not keep a token for ever.
const MAX_LIFE_SECONDS: u64 = 24 * 3600;
/// Issuers are left alone for no longer: a slip of theirs must not lock an organisation out for a day.
const MAX_RETRY_AFTER: u64 = 3600;

/// A form as it is sent (WHATWG URL, `application/x-www-form-urlencoded`).
pub(super) struct Form(Secret);

impl Form {
    /// A form of these fields, without those that have no value.
    pub(super) fn new<'a>(fields: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut form = String::new();
        for (name, value) in fields {
            let Some(value) = value else { continue };
            if !form.is_empty() {
                form.push('&');
            }
            encode(name, &mut form);
            form.push('=');
            encode(value, &mut form);
        }
        Self(Secret::new(form))
    }
}

fn encode(text: &str, form: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => form.push(byte.into()),
            b' ' => form.push('+'),
            other => {
                let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
                form.extend(['%', digit(other >> 4), digit(other & 15)]);
            }
        }
    }
}

/// What HTTP Basic has of an id and a secret as they are.
pub(super) fn basic(id: &str, secret: &Secret) -> Secret {
    let pair = Secret::new(format!("{id}:{}", secret.expose()));
    Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}

/// The same with both encoded as in a form first, as OAuth has it (RFC 6749 2.3.1).
pub(super) fn encoded_basic(id: &str, secret: &Secret) -> Secret {
    let [id, secret] = [id, secret.expose()].map(|text| {
        let mut encoded = String::new();
        encode(text, &mut encoded);
        Secret::new(encoded)
    });
    basic(id.expose(), &secret)
}

/// Asks a token endpoint. Redirects are not followed, and after `limit` nothing is waited for.
///
/// # Errors
/// [`MintError`]; its text holds neither a secret nor a token.
pub(super) async fn ask(
    dialer: &Dialer,
    endpoint: &Endpoint,
    authorization: Option<&Secret>,
    form: &Form,
    limit: Duration,
    now: UnixSeconds,
) -> Result<Minted, MintError> {
    let mut request = Request::post(endpoint.target().as_str())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json");
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization.expose());
    }
    let body = Full::new(Bytes::copy_from_slice(form.0.expose().as_bytes()));
    let request =
        request.body(body).map_err(|error| MintError::Refused(format!("the credential cannot be sent: {error}")))?;
    let limits = Limits { time: limit, answer: MAX_ANSWER };
    let response = client::call(dialer, endpoint.base(), request, limits).await?;
    judge(&endpoint.base().to_string(), &response, now)
}

/// What an issuer's answer means.
fn judge(issuer: &str, response: &Response<Bytes>, now: UnixSeconds) -> Result<Minted, MintError> {
    let status = response.status();
    let answer: Option<Value> = serde_json::from_slice(response.body()).ok();
    let code = answer.as_ref().and_then(error_code);
    let told = code.map(|code| format!(" ({code})")).unwrap_or_default();
    let said = format!("{issuer} answered {}{told}", status.as_u16());
    // Some say 200 and give an error in the body.
    let is_refusal = status != StatusCode::OK || answer.as_ref().is_some_and(|answer| answer.get("error").is_some());
    if !is_refusal {
        return answer.as_ref().and_then(token).ok_or_else(|| unavailable(format!("{said} without a bearer token")));
    }
    let is_passing = code.is_some_and(|code| ["temporarily_unavailable", "server_error", "slow_down"].contains(&code));
    match status.as_u16() {
        408 | 429 | 500.. => Err(MintError::Unavailable { cause: said, retry_after: retry_after(response, now) }),
        _ if is_passing => Err(MintError::Unavailable { cause: said, retry_after: retry_after(response, now) }),
        _ => Err(MintError::Refused(said)),
    }
}

fn unavailable(cause: String) -> MintError {
    MintError::Unavailable { cause, retry_after: None }
}

impl From<CallError> for MintError {
    fn from(error: CallError) -> Self {
        unavailable(error.to_string())
    }
}

/// How long the issuer asks to be left alone: in seconds, or until a date (RFC 9110 10.2.3), which is its own clock's.
fn retry_after(response: &Response<Bytes>, now: UnixSeconds) -> Option<Duration> {
    let field = |name: HeaderName| Some(response.headers().get(name)?.to_str().ok()?.trim());
    let date = |text: &str| httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok();
    let asked = field(RETRY_AFTER)?;
    let seconds = if let Ok(seconds) = asked.parse::<u64>() {
        seconds
    } else {
        let its_now = field(DATE).and_then(date).map_or(now, |date| date.as_secs());
        date(asked)?.as_secs().saturating_sub(its_now)
    };
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

fn token(answer: &Value) -> Option<Minted> {
    let text = answer.get("access_token")?.as_str()?;
    // Without a type it is what was asked for; one that needs a proof of possession is of no use.
    let is_bearer = answer.get("token_type").is_none_or(|kind| {
        kind.is_null() || kind.as_str().is_some_and(|kind| ["bearer", "n_a"].contains(&&*kind.to_ascii_lowercase()))
    });
    if !is_bearer || text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    Some(Minted { access_token: Secret::new(text.to_owned()), life: life(answer.get("expires_in")) })
}

/// A whole number, one with a fraction, or either as a text.
#[allow(clippy::cast_sign_loss, reason = "what is below zero becomes zero, which is no life")]
fn life(said: Option<&Value>) -> u64 {
    let said = said.and_then(|life| life.as_f64().or_else(|| life.as_str()?.trim().parse().ok()));
    let seconds = said.map_or(0, |seconds| seconds as u64);
    if seconds == 0 { DEFAULT_LIFE_SECONDS } else { seconds.min(MAX_LIFE_SECONDS) }
}

/// The error code of RFC 6749 5.2, which is a fixed word; descriptions may repeat what was sent and are left out.
fn error_code(answer: &Value) -> Option<&str> {
    let code = answer.get("error").or_else(|| answer.get("errorCode"))?.as_str()?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_graphic())).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Result<Minted, MintError> {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        judge("https://issuer", &response.body(Bytes::copy_from_slice(body.as_bytes())).unwrap(), 1_000_000_000)
    }

    #[test]
    fn tokens_are_read_with_care() {
        let life = |text: &str| answer(200, &[], text).ok().map(|minted| minted.life);
        assert_eq!(life(r#"{"access_token":"t","expires_in":60}"#), Some(60));
        assert_eq!(life(r#"{"access_token":"t","expires_in":"60"}"#), Some(60));
        assert_eq!(life(r#"{"access_token":"t","expires_in":59.9,"token_type":"bearer"}"#), Some(59));
        assert_eq!(life(r#"{"access_token":"t","token_type":null}"#), Some(3600));
        for odd in ["-1", "0", "\"soon\"", "null", "[]"] {
            assert_eq!(life(&format!(r#"{{"access_token":"t","expires_in":{odd}}}"#)), Some(3600), "{odd}");
        }
        assert_eq!(life(r#"{"access_token":"t","expires_in":99999999}"#), Some(86_400));
        for bad in [
            "",
            "[]",
            r#"{"access_token":""}"#,
            r#"{"access_token":"a\r\nb"}"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":"t","token_type":"DPoP"}"#,
            "<html>",
        ] {
            assert!(matches!(answer(200, &[], bad), Err(MintError::Unavailable { retry_after: None, .. })), "{bad}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let refused = |text: &str| Err(MintError::Refused(format!("https://issuer answered {text}")));
        let invalid = r#"{"error":"invalid_client","error_description":"secret x"}"#;
        for (status, body, text) in [
            (401, invalid, "401 (invalid_client)"),
            (200, invalid, "200 (invalid_client)"),
            (200, r#"{"error":{"code":7},"access_token":"t"}"#, "200"),
            (400, r#"{"errorCode":"E0000"}"#, "400 (E0000)"),
            (302, "", "302"),
            (403, "<html>", "403"),
        ] {
            assert_eq!(answer(status, &[], body).map(drop), refused(text));
        }
        for (status, body) in [(500, "oops"), (503, ""), (408, ""), (400, r#"{"error":"temporarily_unavailable"}"#)] {
            assert!(matches!(answer(status, &[], body), Err(MintError::Unavailable { .. })), "{status}");
        }
    }

    #[test]
    fn issuers_say_when_to_come_back() {
        let after = |fields: &[(&str, &str)]| match answer(429, fields, "") {
            Err(MintError::Unavailable { retry_after, .. }) => retry_after.map(|pause| pause.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[("retry-after", "7")]), Some(7));
        assert_eq!(after(&[("retry-after", "999999")]), Some(3600));
        assert_eq!(after(&[("retry-after", "soon")]), None);
        // By its own clock, which may be wrong.
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"), ("date", date)]), Some(10));
        assert_eq!(after(&[("retry-after", date)]), Some(0));
        assert_eq!(after(&[("retry-after", "Sun, 09 Sep 2001 01:46:45 GMT")]), Some(5));
    }

    #[test]
    fn forms_and_clients_are_encoded() {
        let form = Form::new([("grant_type", Some("a b")), ("none", None), ("k&", Some("ü=~"))]);
        assert_eq!(form.0.expose(), "grant_type=a+b&k%26=%C3%BC%3D%7E");
        let secret = Secret::new("p w:".to_owned());
        assert_eq!(STANDARD.decode(&basic("id", &secret).expose()[6..]).unwrap(), b"id:p w:");
        assert_eq!(STANDARD.decode(&encoded_basic("i:d", &secret).expose()[6..]).unwrap(), b"i%3Ad:p+w%3A");
    }
}
