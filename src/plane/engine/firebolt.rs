//! Firebolt tells its clients which host to go to: the account's engine by a document, the next engine by a field of an
//! answer. Clients take nothing of that but the host, and ask it by https at port 443 (firebolt-sdk); so what stays behind the gateway has to be
//! a host that an engine has of its own. A client is never led away: what is none of the organisation's engines is not told.

use crate::model::engine::{Ask, Dialect, Engine};
use crate::model::reject::{Class, Reject};
use crate::model::snapshot::Org;
use crate::model::url::split_authority;
use crate::plane::account::Account;
use crate::plane::client::Client;
use crate::plane::decide::Plan;
use crate::plane::fetch::fetch;
use crate::plane::forward::Forwarded;
use crate::plane::request::reply;
use crate::plane::respond::{Answer, phrase};
use crate::plane::route::Hosts;
use crate::plane::worker::Worker;
use crate::wire::request::Head;
use crate::wire::response;
use serde_json::{Map, Value};
use std::rc::Rc;

/// The field that names the host of the next requests.
const UPDATE_ENDPOINT: &[u8] = b"firebolt-update-endpoint";

/// The longest document that is read; it holds a URL.
const MAX_DOCUMENT: usize = 64 * 1024;

/// What becomes of the host that an answer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plane) enum Leads {
    /// It leads nowhere, or that is not for the gateway to know.
    AsTold,
    /// To an engine of the organisation.
    To(String),
    /// Away from the gateway, and so nowhere.
    Away,
}

impl Leads {
    /// Whether a field is not passed on as it came.
    pub(in crate::plane) fn replaces(&self, name: &[u8]) -> bool {
        *self != Self::AsTold && name.eq_ignore_ascii_case(UPDATE_ENDPOINT)
    }
}

/// Where an answer of an engine leads.
pub(in crate::plane) fn leads(
    worker: &Worker,
    engine: Option<&Engine>,
    head: &Head<'_>,
    answer: &response::Head<'_>,
    account: &Account,
) -> Leads {
    let Some(engine) = engine.filter(|engine| engine.manner.dialect == Dialect::Firebolt) else { return Leads::AsTold };
    let mut told = answer.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(UPDATE_ENDPOINT));
    let (Some(first), second) = (told.next(), told.next()) else { return Leads::AsTold };
    let text = std::str::from_utf8(first.value).ok().filter(|_| second.is_none());
    let outside = text.and_then(|text| with_org(worker, account, |org| at(worker, org, engine, head).translate(text)));
    outside.map_or_else(
        || {
            warn(account, engine, "Firebolt-Update-Endpoint");
            Leads::Away
        },
        Leads::To,
    )
}

/// Whether a call asks for the host of an account's engine.
pub(super) fn is_discovery(ask: &Ask<'_>) -> bool {
    let rest = ask.path.strip_prefix("/web/v3/account/").and_then(|rest| rest.split_once('/'));
    ask.method == "GET" && rest.is_some_and(|(_, what)| what == "engineUrl")
}

/// Answers such a call: what Firebolt says, with the engine's host from outside.
pub(super) async fn discover(
    worker: &Rc<Worker>,
    client: &mut Client,
    head: &Head<'_>,
    (plan, engine, prefix): (&mut Plan, &Engine, usize),
    account: &mut Account,
) -> Result<Forwarded, Reject> {
    account.upstream.clone_from(&plan.upstream);
    let target = format!("{}{}", engine.manner.base, &head.target[prefix..]);
    let response = fetch(worker, head, plan, (&target, &[]), MAX_DOCUMENT, account).await?;
    let status = response.status().as_u16();
    let body = if status == 200 {
        translated(worker, head, engine, response.body(), account)?
    } else {
        response.body().to_vec()
    };
    let answer = Answer::new(status, phrase(status)).field("Cache-Control", "no-store").body("application/json", body);
    Ok(reply(worker, client, head, &answer, account).await)
}

fn translated(
    worker: &Worker,
    head: &Head<'_>,
    engine: &Engine,
    document: &[u8],
    account: &Account,
) -> Result<Vec<u8>, Reject> {
    let broke = || Reject::new(Class::UpstreamBroke, "the document with the engine's URL is not one");
    let mut document: Map<String, Value> = serde_json::from_slice(document).map_err(|_| broke())?;
    let told = document.get("engineUrl").and_then(Value::as_str).ok_or_else(broke)?;
    let outside = with_org(worker, account, |org| at(worker, org, engine, head).translate(told));
    let outside = outside.ok_or_else(|| {
        warn(account, engine, "engineUrl");
        Reject::new(Class::NotFound, "the account's engine is at a host that no engine of the organisation has")
    })?;
    document.insert("engineUrl".to_owned(), outside.into());
    Ok(Value::Object(document).to_string().into_bytes())
}

fn warn(account: &Account, engine: &Engine, what: &str) {
    let org = account.session.as_ref().map_or("", |session| session.org());
    let why = "it names a host that no engine of the organisation has, or one without a host of its own";
    tracing::warn!(org, engine = %engine.upstream.id, what, why, "an answer was kept from leading a client away");
}

fn with_org<T>(worker: &Worker, account: &Account, ask: impl FnOnce(&Org) -> Option<T>) -> Option<T> {
    let snapshot = worker.plane.directory.snapshot()?;
    ask(snapshot.org(account.session.as_ref()?.org())?)
}

fn at<'a>(worker: &'a Worker, org: &'a Org, engine: &'a Engine, head: &Head<'a>) -> Outside<'a> {
    let port = split_authority(head.authority).and_then(|(_, port)| port);
    Outside { hosts: &worker.plane.settings.hosts, org, engine, port }
}

/// From where engines are to where clients find them.
struct Outside<'a> {
    hosts: &'a Hosts,
    org: &'a Org,
    /// The one that says so, which comes first of several at one host.
    engine: &'a Engine,
    /// The port by which the client found the gateway.
    port: Option<u16>,
}

impl Outside<'_> {
    /// `[scheme://]host[:port][/path][?query]` with the host from outside; none where that leads away.
    fn translate(&self, told: &str) -> Option<String> {
        let bare = told.split_once("://").map_or(told, |(_, rest)| rest);
        let (authority, rest) = bare.split_at(bare.find(['/', '?', '#']).unwrap_or(bare.len()));
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let (host, port) = split_authority(authority).filter(|_| is_plain)?;
        let below = |engine: &Engine| below(path, &engine.manner.base).filter(|_| engine.is_at(host, port));
        let own = below(self.engine).map(|path| (self.engine, path));
        let mut others =
            self.org.engines().map(AsRef::as_ref).filter(|one: &&Engine| one.manner.dialect == Dialect::Firebolt);
        let found = own.or_else(|| others.find_map(|one| Some((one, below(one)?))));
        let (engine, path) = found?;
        let id = engine.upstream.id.as_str();
        let host = self.hosts.host_for(self.org.id.as_str(), id).filter(|_| self.org.app(id).is_none())?;
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{host}{port}{path}{query}"))
    }
}

/// What of a path is below a base; none for what is elsewhere.
fn below<'p>(path: &'p str, base: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(base)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}
