//! A token issuer and an app that do as they are told: they answer late, wrongly or not at all, and remember who asked.

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashSet;
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
    /// With a status, header fields and a body.
    Answers(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Not at all, until its mood changes; then as the new mood has it.
    Hangs,
    /// By closing the connection.
    HangsUp,
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
    pub(crate) client_id: String,
    pub(crate) secret: String,
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
        if request.uri().path() != "/oidc/v1/token" {
            return Ok(answer(404, &[], "only tokens here"));
        }
        let (client_id, secret) = client(request.headers()).unwrap_or_default();
        lock(&self.calls).push(Call { client_id: client_id.clone(), secret, at: Instant::now() });
        // The sender is gone when the test is over, and with it this task.
        let mood = moods.wait_for(|mood| *mood != Mood::Hangs).await.map_err(io::Error::other)?.clone();
        match mood {
            Mood::Issues(life) => {
                let token = self.issue(&client_id);
                let body = serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": life });
                Ok(answer(200, &[("content-type", "application/json")], &body.to_string()))
            }
            Mood::Answers(status, fields, body) => Ok(answer(status, fields, body)),
            Mood::Hangs | Mood::HangsUp => Err(io::Error::other("hangs up")),
        }
    }

    fn issue(&self, client_id: &str) -> String {
        let mut tokens = lock(&self.tokens);
        let token = format!("tok-{client_id}-{}", tokens.len() + 1);
        tokens.push(token.clone());
        token
    }
}

/// Id and secret of HTTP Basic.
fn client(headers: &HeaderMap) -> Option<(String, String)> {
    let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok()?;
    pair.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
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
    pub(crate) path: String,
    /// What came after `Bearer`.
    pub(crate) bearer: Option<String>,
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
            path: head.uri.path().to_owned(),
            bearer: bearer.clone(),
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
