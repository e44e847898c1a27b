//! OAuth 2.0 client credentials (RFC 6749 4.4) as Databricks workspaces issue them.

use super::MintError;
use crate::model::url::BaseUrl;
use crate::net::dial::Dialer;
use crate::net::http::{self as client, CallError, Limits};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use std::time::Duration;

/// A token fresh from its issuer.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub access_token: Secret,
    /// Its life from now.
    pub expires_in: Duration,
}

/// The longest answer of an issuer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// The life of a token whose issuer does not say, as Databricks has it.
const DEFAULT_LIFE_SECONDS: u64 = 3600;
/// Longer lives are cut to this, so that a mistaken number does not keep a token for ever.
const MAX_LIFE_SECONDS: u64 = 24 * 3600;

/// Asks the workspace at `issuer` for a token: `POST /oidc/v1/token`, credentials by HTTP Basic, scope `all-apis`.
/// Redirects are not followed, and after `limit` nothing is waited for.
///
/// # Errors
/// [`MintError`]; its text holds neither the secret nor a token.
pub async fn client_credentials(
    dialer: &Dialer,
    issuer: &BaseUrl,
    client_id: &str,
    client_secret: &Secret,
    limit: Duration,
) -> Result<Minted, MintError> {
    let basic = STANDARD.encode(format!("{client_id}:{}", client_secret.expose()));
    let request = Request::post("/oidc/v1/token")
        .header(AUTHORIZATION, format!("Basic {basic}"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(Full::new(Bytes::from_static(b"grant_type=client_credentials&scope=all-apis")))
        .map_err(|error| MintError::Refused(format!("the client id cannot be sent: {error}")))?;
    let limits = Limits { time: limit, answer: MAX_ANSWER };
    let response = client::call(dialer, issuer, request, limits).await?;
    let (status, body) = (response.status(), response.body());
    if status == StatusCode::OK {
        return parse(body).ok_or_else(|| unavailable(format!("{issuer} answered 200 without a token")));
    }
    let said = format!("{issuer} answered {}{}", status.as_u16(), reason(body));
    match status.as_u16() {
        429 | 500.. => Err(MintError::Unavailable { cause: said, retry_after: retry_after(&response) }),
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

fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    // An hour at most: an issuer's slip must not lock an organisation out for a day.
    Some(Duration::from_secs(seconds.min(3600)))
}

fn parse(body: &[u8]) -> Option<Minted> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let token = answer.get("access_token")?.as_str()?;
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let life = answer.get("expires_in").and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok()));
    let life = life.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_LIFE_SECONDS).min(MAX_LIFE_SECONDS);
    Some(Minted { access_token: Secret::new(token.to_owned()), expires_in: Duration::from_secs(life) })
}

/// The error code of RFC 6749 5.2, which is a fixed word; descriptions may repeat what was sent and are left out.
fn reason(body: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let code = answer.get("error").or_else(|| answer.get("errorCode")).and_then(|code| code.as_str());
    match code {
        Some(code) if code.len() <= 64 && code.bytes().all(|b| b.is_ascii_graphic()) => format!(" ({code})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_care() {
        let life = |text: &str| parse(text.as_bytes()).map(|minted| minted.expires_in.as_secs());
        assert_eq!(life(r#"{"access_token":"t","expires_in":60}"#), Some(60));
        assert_eq!(life(r#"{"access_token":"t","expires_in":"60"}"#), Some(60));
        assert_eq!(life(r#"{"access_token":"t"}"#), Some(3600));
        assert_eq!(life(r#"{"access_token":"t","expires_in":-1}"#), Some(3600));
        assert_eq!(life(r#"{"access_token":"t","expires_in":99999999}"#), Some(86_400));
        for bad in
            ["", "[]", r#"{"access_token":""}"#, r#"{"access_token":"a\r\nb"}"#, r#"{"access_token":7}"#, "<html>"]
        {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert_eq!(reason(br#"{"error":"invalid_client","error_description":"secret x"}"#), " (invalid_client)");
        assert_eq!(reason(b"<html>"), "");
    }
}
