//! What a request asks for, told by host and path alone.

use crate::metrics::RouteKind;
use crate::model::api::{Ambiguous, Call, is_api};
use crate::model::engine::Ask;
use crate::model::reject::{Class, Reject};
use crate::model::url::{is_loopback_name, split_authority};
use crate::session::seal::PREFIX;
use crate::wire::request::Head;
use std::borrow::Cow;

/// The names this gateway answers to.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the configuration")]
pub struct Hosts {
    /// Apps and engines are at `{id}--{org}.{base_domain}`; lower case.
    pub base_domain: Option<String>,
    /// Names of the host for path mode and SQL; lower case.
    pub public: Vec<String>,
    /// Whether the public host is a loopback name, and so every loopback name is the public host.
    pub loopback: bool,
    /// Whether every name that is not an app's is the public host.
    pub any: bool,
    /// Whether FireFly's first form of URL is served.
    pub firefly_v1: bool,
    /// Whether sessions in addresses are taken.
    pub cookieless: bool,
}

impl Hosts {
    fn is_public(&self, host: &str) -> bool {
        self.any || self.public.iter().any(|name| name == host) || (self.loopback && is_loopback_name(host))
    }

    /// The host of an app or engine; none where there is none, or none that leads back to it.
    pub(super) fn host_for(&self, org: &str, id: &str) -> Option<String> {
        let label = format!("{id}--{org}");
        let is_it = match by_host(&label.to_ascii_lowercase()).ok()? {
            Target::AppByHost { org: found, app } => found == org && app == id,
            _ => false,
        };
        // A label is no longer than that (RFC 1035 2.3.4).
        let fits = is_it && label.len() <= 63;
        self.base_domain.as_deref().filter(|_| fits).map(|base| format!("{label}.{base}"))
    }
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/.embedgate/...`: the rest of the path.
    Own(&'a str),
    /// `/start-session`: `FireFly`'s way to start a session.
    StartSession,
    /// An app by host name.
    AppByHost {
        /// The organisation in the host name.
        org: Cow<'a, str>,
        /// The app in the host name.
        app: Cow<'a, str>,
    },
    /// An app by path, of the session's organisation.
    AppByPath {
        /// The app in the path.
        app: &'a str,
        /// How much of the target the app does not see.
        prefix: usize,
    },
    /// An engine of the session's organisation.
    Engine {
        /// The organisation in the host name, where the engine was asked for by one.
        org: Option<&'a str>,
        /// What is asked of it.
        ask: Ask<'a>,
        /// How much of the target the engine does not see.
        prefix: usize,
    },
    /// An app by path without the slash that makes relative links work: to be redirected.
    AppWithoutSlash,
    /// `/.embedgate/t/{token}/...`: an app by an address that holds the session, for browsers without cookies.
    Linked {
        /// The sealed session.
        token: &'a str,
        /// How much of the target comes before the app's usual address.
        link: usize,
    },
    /// The API of one of the organisation's workspaces, SQL above all.
    Api(Call<'a>),
    /// What clients of a workspace ask before they have a credential: the rest of a path that ends in these words.
    Discovery(&'static str),
    /// FireFly's first form: `/app-proxy/{token}/{provider}/{domain}/{app}`.
    FireflyV1 {
        /// The sealed bearer.
        token: &'a str,
        /// `{app}.{provider}.{domain}`.
        host: String,
        /// How much of the target the app does not see.
        prefix: usize,
    },
}

impl Target<'_> {
    /// The label for metrics.
    #[must_use]
    pub fn kind(&self) -> RouteKind {
        match self {
            Self::Own(_) | Self::StartSession => RouteKind::Own,
            Self::AppByHost { .. } | Self::AppByPath { .. } | Self::AppWithoutSlash | Self::Linked { .. } => {
                RouteKind::App
            }
            Self::Api(_) | Self::Discovery(_) => RouteKind::Sql,
            Self::Engine { .. } => RouteKind::Engine,
            Self::FireflyV1 { .. } => RouteKind::FireflyV1,
        }
    }
}

const OWN: &str = "/.embedgate/";
/// What addresses that hold a session begin with.
pub(super) const LINK: &str = "/.embedgate/t/";
const APPS: &str = "/app-proxy/";
const ENGINES: &str = "/engine/";
/// App ids are shorter than this, sealed bearers are not.
const MAX_APP_ID: usize = crate::model::ids::MAX_ID_LEN;

/// Says what a request asks for.
///
/// # Errors
/// Not found for a host or path that is nothing here; malformed for a path of an API or an engine that could be read in two
/// ways.
pub fn locate<'a>(hosts: &Hosts, head: &Head<'a>) -> Result<Target<'a>, Reject> {
    let path = head.path();
    if let Some((token, _)) = path.strip_prefix(LINK).filter(|_| hosts.cookieless).and_then(|rest| rest.split_once('/'))
    {
        return Ok(Target::Linked { token, link: LINK.len() + token.len() });
    }
    if let Some(own) = path.strip_prefix(OWN) {
        return Ok(Target::Own(own));
    }
    let host = host_of(head);
    if let Some(label) = hosts.base_domain.as_deref().and_then(|base| below(&host, base)) {
        return by_host(label);
    }
    if !hosts.is_public(&host) {
        return Err(Reject::new(Class::NotFound, "the host is not one of this gateway's"));
    }
    if path == "/start-session" {
        return Ok(Target::StartSession);
    }
    if let Some(rest) = path.strip_prefix(APPS) {
        return by_path(hosts, rest);
    }
    if let Some(rest) = path.strip_prefix(ENGINES) {
        let engine = first_segment(rest);
        return engine_at(None, engine, head, ENGINES.len() + engine.len());
    }
    api(head)
}

/// What is asked of an engine behind the first `prefix` bytes of a request's path.
///
/// # Errors
/// Malformed for a path that the engine could read in another way.
pub(super) fn engine_at<'a>(
    org: Option<&'a str>,
    engine: &'a str,
    head: &Head<'a>,
    prefix: usize,
) -> Result<Target<'a>, Reject> {
    let ask = Ask::of(engine, head.method, &head.path()[prefix..]);
    let ask = ask.map_err(|error| Reject::new(Class::Malformed, error.to_string()))?;
    Ok(Target::Engine { org, ask, prefix })
}

/// The organisation that the host of a request names, whatever is asked for there.
pub(super) fn org_of_host(hosts: &Hosts, head: &Head<'_>) -> Option<String> {
    let host = host_of(head);
    match by_host(below(&host, hosts.base_domain.as_deref()?)?) {
        Ok(Target::AppByHost { org, .. }) => Some(org.into_owned()),
        _ => None,
    }
}

/// What is asked for behind the first `link` bytes of a target, which hold a session.
///
/// # Errors
/// As [`locate`]; not found for what is no app.
pub(super) fn behind<'a>(hosts: &Hosts, head: &Head<'a>, link: usize) -> Result<Target<'a>, Reject> {
    match locate(hosts, &Head { target: &head.target[link..], ..*head })? {
        app @ (Target::AppByHost { .. } | Target::AppByPath { .. } | Target::AppWithoutSlash) => Ok(app),
        _ => Err(Reject::new(Class::NotFound, "a session in an address is for apps alone")),
    }
}

/// What of a path may be written down: tokens in it are left out, those of v1 links as well as sessions that somebody put
/// where they do not belong, and whether or not the path is anything here.
pub(super) fn loggable(path: &str) -> Cow<'_, str> {
    let after = |start: &str| path.strip_prefix(start).map(first_segment);
    // What is too long for an app's id is taken for a v1 token.
    let linked = after(LINK).or_else(|| after(APPS).filter(|segment| segment.len() > MAX_APP_ID));
    // What tokens begin with, which paths seldom have.
    let may_hold_token = || memchr::memchr(PREFIX.as_bytes()[0], path.as_bytes()).is_some();
    if linked.is_none() && !(may_hold_token() && path.contains(PREFIX)) {
        return Cow::Borrowed(path);
    }
    let shown = |segment| if Some(segment) == linked || segment.contains(PREFIX) { "..." } else { segment };
    Cow::Owned(path.split('/').map(shown).collect::<Vec<_>>().join("/"))
}

/// What of a path comes before its first slash.
fn first_segment(path: &str) -> &str {
    &path[..memchr::memchr(b'/', path.as_bytes()).unwrap_or(path.len())]
}

/// The host that is asked, in lower case.
fn host_of<'a>(head: &Head<'a>) -> Cow<'a, str> {
    lower(split_authority(head.authority).map_or("", |(host, _)| host))
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The part of `host` before `.{base}`.
fn below<'h>(host: &'h str, base: &str) -> Option<&'h str> {
    host.strip_suffix(base)?.strip_suffix('.')
}

fn by_host<'a>(label: &str) -> Result<Target<'a>, Reject> {
    match label.split_once("--") {
        // Of several ways to split only the first counts: a name must not mean two organisations.
        Some((app, org)) if !label.contains('.') && !org.contains("--") => {
            Ok(Target::AppByHost { org: Cow::Owned(org.to_owned()), app: Cow::Owned(app.to_owned()) })
        }
        _ => Err(Reject::new(Class::NotFound, "the host is not {app}--{org} of the base domain")),
    }
}

fn by_path<'a>(hosts: &Hosts, rest: &'a str) -> Result<Target<'a>, Reject> {
    let app = first_segment(rest);
    if app.len() == rest.len() {
        return Ok(Target::AppWithoutSlash);
    }
    if hosts.firefly_v1 && app.len() > MAX_APP_ID {
        return firefly_v1(rest);
    }
    Ok(Target::AppByPath { app, prefix: APPS.len() + app.len() })
}

fn firefly_v1(rest: &str) -> Result<Target<'_>, Reject> {
    let mut segments = rest.splitn(5, '/');
    match [segments.next(), segments.next(), segments.next(), segments.next()] {
        [Some(token), Some(provider), Some(domain), Some(app)]
            if ![token, provider, domain, app].iter().any(|segment| segment.is_empty()) =>
        {
            let prefix = APPS.len() + token.len() + provider.len() + domain.len() + app.len() + 3;
            Ok(Target::FireflyV1 { token, host: format!("{app}.{provider}.{domain}"), prefix })
        }
        _ => Err(Reject::new(Class::NotFound, "not /app-proxy/{token}/{provider}/{domain}/{app}")),
    }
}

/// The label for metrics of a request whose target cannot be told.
#[must_use]
pub fn kind_of_refused(path: &str) -> RouteKind {
    match path {
        _ if is_api(path) => RouteKind::Sql,
        _ if path.starts_with(ENGINES) => RouteKind::Engine,
        _ => RouteKind::Unknown,
    }
}

/// Where clients of Databricks look for what a workspace is and who issues its tokens.
pub(super) const DISCOVERIES: [&str; 2] =
    ["/.well-known/databricks-config", "/oidc/.well-known/oauth-authorization-server"];

/// A workspace's API, or what is asked before it. Paths decide what may be called, so one that the workspace could read
/// differently is refused.
fn api<'a>(head: &Head<'a>) -> Result<Target<'a>, Reject> {
    let path = head.path();
    if let Some(known) = DISCOVERIES.iter().find(|known| **known == path) {
        return Ok(Target::Discovery(known));
    }
    let call = Call::of(head.method, path);
    let call = call.map_err(|error: Ambiguous| Reject::new(Class::Malformed, error.to_string()))?;
    let call = call.ok_or_else(|| Reject::new(Class::NotFound, "the path is nothing here"))?;
    Ok(Target::Api(Call { workspace: asked_workspace(head)?, ..call }))
}

/// The fields by which clients of Databricks name a workspace.
const WORKSPACE_FIELDS: [&[u8]; 2] = [b"x-databricks-org-id", b"x-databricks-workspace-id"];

/// The workspace that a call asks for, by `?o=` or by a field. To name two is to be read in two ways.
fn asked_workspace<'a>(head: &Head<'a>) -> Result<Option<&'a str>, Reject> {
    let wrong = || Reject::new(Class::Malformed, "the request names more than one workspace, or none by that name");
    let is_named = |name: &[u8]| WORKSPACE_FIELDS.iter().any(|known| known.eq_ignore_ascii_case(name));
    let fields = head.fields.iter().filter(|field| is_named(field.name)).map(|field| std::str::from_utf8(field.value));
    let queried = head.query().split('&').filter_map(|pair| pair.strip_prefix("o=")).map(Ok);
    let mut asked = None;
    for name in queried.chain(fields) {
        let name = name.map_err(|_| wrong())?;
        if *asked.get_or_insert(name) != name {
            return Err(wrong());
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests;
