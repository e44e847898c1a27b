//! `/upstreams`: what there is, what is under way on it, and changes of a cluster's state.

use super::Admin;
use super::problem::Problem;
use crate::directory::postgres::Writer;
use crate::directory::postgres::fleet::{ClusterName, Outcome, Roll, Scope};
use crate::directory::report::UpstreamReport;
use crate::model::ids::{ClusterId, OrgId, UpstreamId};
use crate::model::snapshot::Org;
use crate::model::tables::ClusterState;
use crate::model::upstream::Upstream;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

type Answer = Response<Full<Bytes>>;

/// Longest body of a request; the API asks for two words.
const MAX_BODY: usize = 4096;
/// How long a client may take for it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Upstreams of one answer, unless another number is asked for.
const PAGE: usize = 100;
/// Most upstreams of one answer.
const MAX_PAGE: usize = 1000;

/// Answers a request for a path below `/upstreams`.
pub(super) async fn answer(admin: &Admin, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let names: Vec<&str> = path.split('/').skip(2).collect();
    let method = request.method().clone();
    let is_read = matches!(method, Method::GET | Method::HEAD);
    if let Err(problem) = admin.door.admit(request.headers()) {
        return problem.into_response();
    }
    let done = match names[..] {
        [] if is_read => list(admin, request.uri().query()),
        [org, kind, id] if is_read => show(admin, [org, kind, id]).await,
        [org, kind, id, "clusters", cluster, "state"] if method == Method::POST => {
            set_state(admin, [org, kind, id, cluster], request).await
        }
        [org, kind, id, "switch"] if method == Method::POST => switch(admin, [org, kind, id], request).await,
        [] | [_, _, _] => return wrong_method("GET, HEAD"),
        [_, _, _, "clusters", _, "state"] | [_, _, _, "switch"] => return wrong_method("POST"),
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "there is no such path; docs/operations.md lists them")),
    };
    match done {
        Ok(value) => json_answer(&value),
        Err(problem) => problem.into_response(),
    }
}

fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed}")).into_response();
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn json_answer(value: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{value:#}\n"))));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Which upstreams are asked for.
struct Query<'a> {
    org: Option<&'a str>,
    /// The last one of the page before: organisation, kind and id.
    after: Option<[&'a str; 3]>,
    limit: usize,
    /// Only those that no request can go to.
    troubled: bool,
}

impl<'a> Query<'a> {
    fn parse(text: Option<&'a str>) -> Result<Self, Problem> {
        let mut query = Self { org: None, after: None, limit: PAGE, troubled: false };
        let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("org", id) => query.org = Some(id),
                ("after", place) => {
                    let parts: Vec<_> = place.split('/').collect();
                    let parts = parts.try_into();
                    query.after = Some(parts.map_err(|_| wrong("after: write what `next` said".to_owned()))?);
                }
                ("limit", number) => {
                    let limit = number.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                    query.limit = limit.ok_or_else(|| wrong(format!("limit: 1 to {MAX_PAGE}")))?;
                }
                ("troubled", "true") => query.troubled = true,
                ("troubled", "false") => query.troubled = false,
                (other, _) => {
                    return Err(wrong(format!("{other:?} is not known; there are org, after, limit and troubled")));
                }
            }
        }
        Ok(query)
    }
}

fn list(admin: &Admin, query: Option<&str>) -> Result<Value, Problem> {
    let query = Query::parse(query)?;
    let snapshot = admin.plane.directory.held().ok_or_else(not_loaded)?;
    let mut orgs: Vec<&Arc<Org>> = match query.org {
        Some(id) => vec![snapshot.org(id).ok_or_else(|| Problem::not_found("organisation"))?],
        None => snapshot.orgs().collect(),
    };
    if let Some([org, ..]) = query.after {
        orgs.retain(|one| one.id.as_str() >= org);
    }
    orgs.sort_unstable_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    let mut found = Vec::new();
    for org in orgs {
        let mut upstreams: Vec<_> = org.by_kind().collect();
        upstreams.sort_unstable_by_key(|(kind, upstream)| (*kind, upstream.id.to_string()));
        for (kind, upstream) in upstreams {
            let place = [org.id.as_str(), kind, upstream.id.as_str()];
            let is_asked = query.after.is_none_or(|after| place > after);
            if is_asked && (!query.troubled || upstream.obstacle().is_some()) {
                found.push((place, UpstreamReport::new(org, kind, upstream, None)));
            }
        }
        if found.len() > query.limit {
            break;
        }
    }
    let next = (found.len() > query.limit).then(|| found[query.limit - 1].0.join("/"));
    found.truncate(query.limit);
    let upstreams: Vec<_> = found.iter().map(|(_, report)| report.json(true)).collect();
    Ok(json!({ "upstreams": upstreams, "next": next }))
}

async fn show(admin: &Admin, [org, kind, id]: [&str; 3]) -> Result<Value, Problem> {
    let snapshot = admin.plane.directory.held().ok_or_else(not_loaded)?;
    let found = snapshot.org(org).ok_or_else(|| Problem::not_found("organisation"))?;
    let (kind, upstream) = find(found, kind, id).ok_or_else(|| Problem::not_found("upstream"))?;
    let scope = Scope { org: Some(org), upstream: Some((kind, id)) };
    let (roll, trouble) = match &admin.teller {
        Some(teller) => match teller.roll(scope).await {
            Ok(roll) => (Some(roll), None),
            Err(error) => (None, Some(error.to_string())),
        },
        None => (None, None),
    };
    let mut value = UpstreamReport::new(found, kind, upstream, roll.as_ref()).json(true);
    value["fleet"] = fleet(admin, roll.as_ref(), trouble.as_deref());
    Ok(value)
}

/// Who said what is under way, and how long ago.
fn fleet(admin: &Admin, roll: Option<&Roll>, trouble: Option<&str>) -> Value {
    let fleet = &admin.plane.fleet;
    let mut value = json!({ "this": fleet.id(), "instances": null, "trouble": trouble });
    if let Some(roll) = roll {
        let instances = roll.instances.iter().map(|one| {
            json!({
                "id": one.id,
                "address": one.address,
                "version": one.program,
                "leaving": one.is_leaving,
                "silent_seconds": one.silent_seconds,
            })
        });
        value["instances"] = instances.collect();
    }
    value
}

/// An upstream of an organisation, by its kind and id.
pub(super) fn find<'a>(org: &'a Org, kind: &str, id: &str) -> Option<(&'static str, &'a Arc<Upstream>)> {
    org.by_kind().find(|(its_kind, upstream)| *its_kind == kind && upstream.id.as_str() == id)
}

fn not_loaded() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the directory has not been loaded yet")
}

async fn set_state(
    admin: &Admin,
    [org, kind, id, cluster]: [&str; 4],
    request: Request<Incoming>,
) -> Result<Value, Problem> {
    let body = body(request, &["state", "force"]).await?;
    let name = cluster_name(org, kind, id, cluster)?;
    let words = ClusterState::ALL.map(ClusterState::word).join(", ");
    let state = body.get("state").and_then(Value::as_str).and_then(ClusterState::of_word);
    let state = state.ok_or_else(|| unprocessable(format!("state: one of {words}")))?;
    let force = match body.get("force") {
        None => false,
        Some(force) => force.as_bool().ok_or_else(|| unprocessable("force: true or false"))?,
    };
    let outcome = teller(admin)?.set_state(&name, state.word(), force).await;
    told(&outcome.map_err(unreachable)?, &name, state.word())
}

async fn switch(admin: &Admin, [org, kind, id]: [&str; 3], request: Request<Incoming>) -> Result<Value, Problem> {
    let body = body(request, &["to"]).await?;
    let to = body.get("to").and_then(Value::as_str);
    let name = cluster_name(org, kind, id, to.ok_or_else(|| unprocessable("to: the id of a cluster"))?)?;
    let outcome = teller(admin)?.switch(&name).await;
    told(&outcome.map_err(unreachable)?, &name, "switch")
}

/// Says what came of a change, and logs it.
fn told(outcome: &Outcome, name: &ClusterName, change: &str) -> Result<Value, Problem> {
    match outcome {
        Outcome::Done { version, changed } => {
            let ClusterName { org, kind, upstream, cluster } = name;
            tracing::info!(%org, %kind, %upstream, %cluster, change, changed, "a cluster's state was set by the admin API");
            Ok(json!({ "changed": changed, "version": version }))
        }
        Outcome::Last => {
            let detail = "it is the last cluster that runs; start another one, switch to it, or send \"force\": true";
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Outcome::Shadow => {
            Err(Problem::new(StatusCode::CONFLICT, "it is a shadow, which serves nobody; switch to another cluster"))
        }
        Outcome::Unknown(what) => Err(Problem::not_found(what)),
    }
}

fn unreachable(error: impl std::fmt::Display) -> Problem {
    let detail = format!("the database did not take the change, or not in time; ask again: {error}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

fn unprocessable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

fn teller(admin: &Admin) -> Result<&Writer, Problem> {
    let detail = "the directory is not in embedgate's tables of a database: change the state where it is kept";
    admin.teller.as_deref().ok_or_else(|| Problem::new(StatusCode::CONFLICT, detail))
}

/// What is no id is no cluster's, and the database need not be asked.
fn cluster_name(org: &str, kind: &str, id: &str, cluster: &str) -> Result<ClusterName, Problem> {
    let is_kind = matches!(kind, "app" | "warehouse" | "engine");
    if OrgId::parse(org).is_err() {
        return Err(Problem::not_found("organisation"));
    }
    if !is_kind || UpstreamId::parse(id).is_err() {
        return Err(Problem::not_found("upstream"));
    }
    ClusterId::parse(cluster).map_err(|_| Problem::not_found("cluster"))?;
    Ok(ClusterName::new(org, kind, id, cluster))
}

/// The body of a change: a JSON object with no other keys than these.
async fn body(request: Request<Incoming>, keys: &[&str]) -> Result<Map<String, Value>, Problem> {
    let media = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A form of another site cannot send this type without being asked first.
    if !media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json"));
    }
    let read = timeout(BODY_TIMEOUT, Limited::new(request.into_body(), MAX_BODY).collect()).await;
    let read = read.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
    let read = read.map_err(|error| match error.downcast_ref::<http_body_util::LengthLimitError>() {
        Some(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {MAX_BODY} bytes")),
        None => Problem::new(StatusCode::BAD_REQUEST, "the body broke off"),
    })?;
    let Ok(Value::Object(body)) = serde_json::from_slice(&read.to_bytes()) else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the body is no JSON object"));
    };
    match body.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(unprocessable(format!("{key:?} is not known; there are {}", keys.join(" and ")))),
        None => Ok(body),
    }
}
