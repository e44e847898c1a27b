//! The stub workspace: the token endpoint, and behind its tokens the SQL API of [`super::warehouse`].

use super::{
    State, random_name,
    server::{Reply, Site, api_error, credentials, json_reply, read_body, unauthenticated},
    warehouse,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// The largest body the token endpoint reads.
const TOKEN_BODY_LIMIT: usize = 64 * 1024;
/// How many tokens are remembered; beyond that the oldest are forgotten.
const TOKEN_LIMIT: usize = 10_000;

/// The workspace's listener.
pub(super) struct Workspace {
    state: Arc<State>,
}

impl Workspace {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    async fn token(&self, request: Request<Incoming>) -> Reply {
        if request.method() != Method::POST {
            let text = "The token endpoint takes POST.";
            return oauth_error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", text);
        }
        let client = self.client(request.headers());
        let body = match read_body(request.into_body(), TOKEN_BODY_LIMIT).await {
            Ok(body) => body,
            Err(status) => return oauth_error(status, "invalid_request", "The request's body could not be read."),
        };
        let Some(org) = client else {
            let text = "Client authentication failed.";
            let mut reply = oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", text);
            reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            return reply;
        };
        if let Err((code, text)) = check_form(&body) {
            return oauth_error(StatusCode::BAD_REQUEST, code, text);
        }
        let life = self.state.token_life;
        let Ok(token) = random_name("demo-") else {
            let text = "No random numbers to be had.";
            return oauth_error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", text);
        };
        self.state.tokens().issue(token.clone(), org, Instant::now(), life);
        let answer = json!({
            "access_token": token, "token_type": "Bearer", "expires_in": life.as_secs(), "scope": "all-apis",
        });
        json_reply(StatusCode::OK, &answer)
    }

    /// The organisation whose id and secret the request carries. An unknown id and a wrong secret look the same.
    fn client(&self, headers: &HeaderMap) -> Option<usize> {
        let pair = BASE64_STANDARD.decode(credentials(headers, "Basic")?).ok()?;
        let (id, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        let org = self.state.index_of(id)?;
        (self.state.orgs[org].given.client_secret.expose() == secret).then_some(org)
    }

    fn mints(&self) -> Reply {
        let tokens = self.state.tokens();
        let by_client = self.state.orgs.iter().enumerate();
        let counts = by_client.map(|(index, org)| (org.given.client_id.clone(), Value::from(tokens.mints(index))));
        json_reply(StatusCode::OK, &Value::Object(counts.collect::<Map<_, _>>()))
    }
}

impl Site for Workspace {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        match request.uri().path() {
            "/oidc/v1/token" => return self.token(request).await,
            "/oidc/v1/mints" if request.method() == Method::GET => return self.mints(),
            _ => {}
        }
        let Some(org) = self.state.caller(request.headers()) else { return unauthenticated() };
        let text = format!("No API found for '{} {}'", request.method(), request.uri().path());
        let reply = warehouse::answer(&self.state, org, request).await;
        reply.unwrap_or_else(|| api_error(StatusCode::NOT_FOUND, "ENDPOINT_NOT_FOUND", &text))
    }
}

/// A refusal in the shape of RFC 6749.
fn oauth_error(status: StatusCode, code: &str, description: &str) -> Reply {
    json_reply(status, &json!({ "error": code, "error_description": description }))
}

/// Checks the form of a token request. The two values wanted are spelled with unreserved characters, which no client
/// escapes, so nothing is unescaped here.
fn check_form(body: &[u8]) -> Result<(), (&'static str, &'static str)> {
    let body = std::str::from_utf8(body).map_err(|_| ("invalid_request", "The body is no form."))?;
    let value_of = |name: &str| {
        let mut values = body.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
        let first = values.next().map(|(_, value)| value);
        if values.next().is_some() { None } else { first }
    };
    match value_of("grant_type") {
        Some("client_credentials") => {}
        Some(_) => return Err(("unsupported_grant_type", "Only client_credentials is supported.")),
        None => return Err(("invalid_request", "The parameter grant_type must be given once.")),
    }
    match value_of("scope") {
        Some("all-apis") => Ok(()),
        _ => Err(("invalid_scope", "The scope must be all-apis.")),
    }
}

/// The tokens issued, and how many.
pub(super) struct Tokens {
    owners: HashMap<String, Issued>,
    oldest_first: VecDeque<String>,
    mints: Vec<u64>,
}

struct Issued {
    org: usize,
    expires: Instant,
}

impl Tokens {
    pub(super) fn new(orgs: usize) -> Self {
        Self { owners: HashMap::new(), oldest_first: VecDeque::new(), mints: vec![0; orgs] }
    }

    /// Remembers a token of an organisation's principal.
    pub(super) fn issue(&mut self, token: String, org: usize, now: Instant, life: Duration) {
        while self.oldest_first.len() >= TOKEN_LIMIT {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.owners.remove(&oldest);
            }
        }
        self.mints[org] += 1;
        self.oldest_first.push_back(token.clone());
        self.owners.insert(token, Issued { org, expires: now + life });
    }

    /// The organisation a token belongs to, unless it has expired.
    pub(super) fn owner(&self, token: &str, now: Instant) -> Option<usize> {
        self.owners.get(token).filter(|issued| now < issued.expires).map(|issued| issued.org)
    }

    /// How many tokens an organisation got so far.
    pub(super) fn mints(&self, org: usize) -> u64 {
        self.mints[org]
    }

    /// Forgets all tokens, but not that they were issued.
    pub(super) fn clear(&mut self) {
        self.owners.clear();
        self.oldest_first.clear();
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("known", &self.owners.len()).field("mints", &self.mints).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_expire_and_the_oldest_make_room() {
        let (mut tokens, start, life) = (Tokens::new(2), Instant::now(), Duration::from_secs(5));
        tokens.issue("first".to_owned(), 1, start, life);
        assert!(!format!("{tokens:?}").contains("first"));
        assert_eq!(tokens.owner("first", start + Duration::from_millis(4999)), Some(1));
        assert_eq!(tokens.owner("first", start + life), None);
        assert_eq!(tokens.owner("other", start), None);
        for number in 0..TOKEN_LIMIT {
            tokens.issue(number.to_string(), 0, start, life);
        }
        assert_eq!(tokens.owner("first", start), None);
        assert_eq!(tokens.owner("0", start), Some(0));
        assert_eq!((tokens.owners.len(), tokens.mints(0), tokens.mints(1)), (TOKEN_LIMIT, TOKEN_LIMIT as u64, 1));
    }

    #[test]
    fn forms() {
        assert!(check_form(b"grant_type=client_credentials&scope=all-apis").is_ok());
        assert!(check_form(b"scope=all-apis&grant_type=client_credentials").is_ok());
        let code = |body: &[u8]| check_form(body).expect_err("refused").0;
        assert_eq!(code(b""), "invalid_request");
        assert_eq!(code(b"grant_type=client_credentials&grant_type=client_credentials"), "invalid_request");
        assert_eq!(code(b"grant_type=password&scope=all-apis"), "unsupported_grant_type");
        assert_eq!(code(b"grant_type=client_credentials&scope=sql"), "invalid_scope");
        assert_eq!(code(b"\xff"), "invalid_request");
    }
}
