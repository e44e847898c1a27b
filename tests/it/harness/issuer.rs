//! A token issuer and an app that do as they are told: they answer late, wrongly or not at all, and remember who asked.

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How an issuer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mood {
    /// With a new token that lives for so many seconds.
    Issues(u64),
    /// The same, to clients with this secret; others it refuses.
    IssuesTo(&'static str, u64),
    /// With a status, header fields and a body.
    Answers(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Not at all, until its mood changes; then as the new mood has it.
    Hangs,
    /// By closing the connection.
    HangsUp,
    /// With a token and a hundred thousand bytes more.
    Long,
}

impl Mood {
    /// A refusal of the client's id and secret.
    pub(crate) const REFUSES: Self =
        Self::Answers(401, &[("content-type", "application/json")], r#"{"error":"invalid_client"}"#);
    /// A failure of its own.
    pub(crate) const FAILS: Self = Self::Answers(500, &[], "oops");
}

/// A call for a token.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Path and query.
    pub(crate) path: String,
    /// Of HTTP Basic, else of the form, else of the JWT in it.
    pub(crate) client_id: String,
    pub(crate) secret: String,
    pub(crate) form: BTreeMap<String, String>,
    pub(crate) has_authorization: bool,
    pub(crate) at: Instant,
}

/// A workspace's token endpoint. Dropping it ends it.
pub(crate) struct Issuer {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    log: Arc<IssuerLog>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct IssuerLog {
    calls: Mutex<Vec<Call>>,
    tokens: Mutex<Vec<String>>,
}

impl Issuer {
    /// Starts one on a free port.
    pub(crate) async fn start(mood: Mood) -> Result<Self> {
        let (mood, moods) = watch::channel(mood);
        let log = Arc::new(IssuerLog::default());
        let noted = Arc::clone(&log);
        let (address, server) = serve(move |request| Arc::clone(&noted).answer(request, moods.clone())).await?;
        Ok(Self { address, mood, log, _server: server })
    }

    /// The workspace's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the mood, also for the calls that hang.
    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.log.calls).clone()
    }

    /// How many calls a client has made so far.
    pub(crate) fn calls_of(&self, client_id: &str) -> usize {
        lock(&self.log.calls).iter().filter(|call| call.client_id == client_id).count()
    }

    /// All tokens issued so far. Each begins with `tok-` and the id of the client it was issued to.
    pub(crate) fn tokens(&self) -> Vec<String> {
        lock(&self.log.tokens).clone()
    }
}

impl IssuerLog {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        mut moods: watch::Receiver<Mood>,
    ) -> io::Result<Response<Full<Bytes>>> {
        if !request.uri().path().ends_with("/token") {
            return Ok(answer(404, &[], "only tokens here"));
        }
        let call = Call::read(request).await?;
        let (client_id, secret) = (call.client_id.clone(), call.secret.clone());
        lock(&self.calls).push(call);
        // The sender is gone when the test is over, and with it this task.
        let mood = moods.wait_for(|mood| *mood != Mood::Hangs).await.map_err(io::Error::other)?.clone();
        match mood {
            Mood::Issues(life) => Ok(self.answer_with_token(&client_id, life)),
            Mood::IssuesTo(known, life) if secret == known => Ok(self.answer_with_token(&client_id, life)),
            Mood::IssuesTo(..) => Ok(answer(401, &[], r#"{"error":"invalid_client"}"#)),
            Mood::Answers(status, fields, body) => Ok(answer(status, fields, body)),
            Mood::Long => {
                let body = serde_json::json!({ "access_token": "tok", "more": "x".repeat(100_000) });
                Ok(answer(200, &[], &body.to_string()))
            }
            Mood::Hangs | Mood::HangsUp => Err(io::Error::other("hangs up")),
        }
    }

    fn answer_with_token(&self, client_id: &str, life: u64) -> Response<Full<Bytes>> {
        let token = self.issue(client_id);
        let body = serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": life });
        answer(200, &[("content-type", "application/json")], &body.to_string())
    }

    fn issue(&self, client_id: &str) -> String {
        let mut tokens = lock(&self.tokens);
        let token = format!("tok-{client_id}-{}", tokens.len() + 1);
        tokens.push(token.clone());
        token
    }
}

impl Call {
    async fn read(request: Request<Incoming>) -> io::Result<Self> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let form: BTreeMap<_, _> = form(&String::from_utf8_lossy(&body)).collect();
        let of_form = || {
            let subject = form.get("assertion").or(form.get("subject_token")).and_then(|jwt| subject(jwt));
            let id = form.get("client_id").cloned().or(subject)?;
            Some((id, form.get("client_secret").cloned().unwrap_or_default()))
        };
        let (client_id, secret) = client(&head.headers).or_else(of_form).unwrap_or_default();
        let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let has_authorization = head.headers.contains_key(header::AUTHORIZATION);
        Ok(Self { path, client_id, secret, form, has_authorization, at: Instant::now() })
    }
}

/// The fields of a form.
fn form(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decoded(name), decoded(value)))
}

/// A text of a form, or of a client in HTTP Basic.
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| char::from(digit.unwrap_or(b'0')));
                u8::from_str_radix(&digits.iter().collect::<String>(), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The `sub` of a JWT, else its `iss`.
fn subject(jwt: &str) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims["sub"].as_str().or(claims["iss"].as_str()).map(str::to_owned)
}

/// Id and secret of HTTP Basic.
fn client(headers: &HeaderMap) -> Option<(String, String)> {
    let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok()?;
    pair.split_once(':').map(|(id, secret)| (decoded(id), decoded(secret)))
}

/// How an app refuses a token.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// With 401.
    Unauthorized,
    /// With a redirect to this address, where one would sign in.
    SignIn(String),
}

/// A request as the app got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Path and query.
    pub(crate) target: String,
    /// What came after `Bearer`.
    pub(crate) bearer: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// An app that answers 200 and its name, unless it was told to refuse a token. Dropping it ends it.
pub(crate) struct App {
    address: SocketAddr,
    desk: Arc<Desk>,
    _server: JoinSet<()>,
}

/// What the app remembers and was told.
struct Desk {
    name: &'static str,
    seen: Mutex<Vec<Seen>>,
    rule: Mutex<Rule>,
}

enum Rule {
    TakeAll,
    RefuseAll(Refusal),
    Refuse(HashSet<String>, Refusal),
}

impl App {
    /// Starts one on a free port; `name` is the body of its answers.
    pub(crate) async fn start(name: &'static str) -> Result<Self> {
        let desk = Arc::new(Desk { name, seen: Mutex::default(), rule: Mutex::new(Rule::TakeAll) });
        let answering = Arc::clone(&desk);
        let (address, server) = serve(move |request| Arc::clone(&answering).answer(request)).await?;
        Ok(Self { address, desk, _server: server })
    }

    /// The app's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on refuses every token.
    pub(crate) fn refuse_all(&self, how: Refusal) {
        *lock(&self.desk.rule) = Rule::RefuseAll(how);
    }

    /// From now on refuses every token that it has seen, as if they had been revoked.
    pub(crate) fn refuse_seen(&self, how: Refusal) {
        let tokens = lock(&self.desk.seen).iter().filter_map(|seen| seen.bearer.clone()).collect();
        *lock(&self.desk.rule) = Rule::Refuse(tokens, how);
    }

    /// The requests for paths that begin like this, in order.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        lock(&self.desk.seen).iter().filter(|seen| seen.path.starts_with(path)).cloned().collect()
    }

    /// The bearers of the requests for paths that begin like this, in order.
    pub(crate) fn bearers(&self, path: &str) -> Vec<String> {
        self.seen(path).into_iter().map(|seen| seen.bearer.unwrap_or_default()).collect()
    }
}

impl Desk {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let authorization = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        lock(&self.seen).push(Seen {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            target: head.uri.to_string(),
            bearer: bearer.clone(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        let refusal = match &*lock(&self.rule) {
            Rule::TakeAll => None,
            Rule::RefuseAll(how) => Some(how.clone()),
            Rule::Refuse(tokens, how) => bearer.filter(|token| tokens.contains(token)).map(|_| how.clone()),
        };
        Ok(match refusal {
            None => answer(200, &[], self.name),
            Some(Refusal::Unauthorized) => answer(401, &[("www-authenticate", "Bearer")], "the app says no"),
            Some(Refusal::SignIn(to)) => answer(302, &[("location", &to)], "sign in"),
        })
    }
}

/// An answer as a script has it.
pub(super) fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("scripts hold valid answers")
}

/// Serves HTTP/1.1 on a free loopback port for as long as the set of its tasks lives.
pub(super) async fn serve<A, F>(answer: A) -> Result<(SocketAddr, JoinSet<()>)>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = io::Result<Response<Full<Bytes>>>> + Send + 'static,
{
    serve_at(0, answer).await
}

/// The same on a port of one's choice.
pub(super) async fn serve_at<A, F>(port: u16, answer: A) -> Result<(SocketAddr, JoinSet<()>)>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = io::Result<Response<Full<Bytes>>>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let answer = answer.clone();
            connections.spawn(async move {
                // An error is a client that left, or an answer that the script withholds.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(answer)).await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Ok((address, server))
}

/// Locks; a panic elsewhere leaves lists whole.
pub(super) fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
