//! The decision on a request: a plain function of the snapshot, the session, what is asked for, a time and a seed. It
//! awaits nothing and knows no socket.

use super::balance::{Choice, may_serve, new_place, pick};
use super::route::Target;
use crate::clock::UnixSeconds;
use crate::live::token::Token;
use crate::model::access::NoAccess;
use crate::model::api::{Call, Permission};
use crate::model::engine::{Ask, Engine};
use crate::model::frontends::Frontends;
use crate::model::ids::{UpstreamId, WorkspaceId};
use crate::model::policy::Policy;
use crate::model::reject::{Class, Reject};
use crate::model::snapshot::{Org, Snapshot};
use crate::model::upstream::{Cluster, Node, ServicePrincipal, Upstream, Workspace};
use crate::session::Session;
use crate::session::places::Place;
use crate::wire::request::Head;
use std::sync::Arc;
use std::time::Duration;

/// Where a request goes and as whom.
#[derive(Debug)]
pub struct Plan {
    /// Where it goes.
    pub node: Arc<Node>,
    /// The cluster that the node was chosen from; none for the workspace itself.
    pub cluster: Option<Arc<Cluster>>,
    /// What the session is to remember of that, where it stays on its node.
    pub place: Option<Place>,
    /// As whom.
    pub principal: Arc<ServicePrincipal>,
    /// Its header fields; none for a principal that has none.
    pub token: Option<Arc<Token>>,
    /// The app, warehouse or engine, for the log; none for the workspace itself.
    pub upstream: Option<UpstreamId>,
    /// The workspace it belongs to.
    pub workspace: WorkspaceId,
    /// How the app wants its requests.
    pub policy: Policy,
    /// The organisation's own front ends.
    pub frontends: Option<Arc<Frontends>>,
    /// Whether the gateway starts it when it does not run.
    pub starts: bool,
    /// The engine, if it is one.
    pub engine: Option<Arc<Engine>>,
}

/// What of a decision is not the directory's: when it is made, and what came of those before for the same request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment<'a> {
    /// When it is made.
    pub now: UnixSeconds,
    /// A number that nobody chose.
    pub seed: u64,
    /// Nodes, by their numbers, that the request could not be sent to.
    pub tried: &'a [u64],
    /// When of a thousand nodes of an upstream fewer are available, all are used.
    pub panic_threshold: u32,
    /// Milliseconds by a clock that does not run back: how far slow starts are.
    pub uptime: u64,
    /// How long they take, where an upstream does not say.
    pub slow_start: Duration,
    /// The request, for what of it makes it go to one node and no other.
    pub head: Option<&'a Head<'a>>,
}

/// The outcome of [`decide`].
#[derive(Debug)]
pub enum Decision {
    /// Go.
    Go(Plan),
    /// The upstream has to be up first; then decide again.
    NeedsStart(Arc<Upstream>),
    /// The principal needs a token first; then decide again.
    NeedsToken(Arc<ServicePrincipal>),
}

/// Decides: route, access, cluster and node, then credential. A refused request causes no token to be issued.
///
/// # Errors
/// [`Reject`]: what belongs to another organisation is not found, what this user may not use is forbidden.
pub fn decide(
    snapshot: &Snapshot,
    target: &Target<'_>,
    session: &Session,
    moment: &Moment<'_>,
) -> Result<Decision, Reject> {
    let now = moment.now;
    let Granted { workspace, upstream, engine, principal, frontends } = grant(snapshot, target, session)?;
    if let Some(upstream) = upstream
        && needs_it_up(target)
        && upstream.autostart.as_ref().is_some_and(|autostart| !autostart.cell.is_up(now))
    {
        return Ok(Decision::NeedsStart(Arc::clone(upstream)));
    }
    let token = principal.token.get(now);
    if token.is_none() && !principal.kind.is_anonymous() {
        upstream.map_or(Ok(()), |upstream| may_serve(upstream))?;
        return Ok(Decision::NeedsToken(Arc::clone(principal)));
    }
    let choice = upstream.map(|upstream| pick(upstream, engine.map(Arc::as_ref), session, moment)).transpose()?;
    let (cluster, node) = choice.map_or((None, &workspace.node), |Choice { cluster, node }| (Some(cluster), node));
    Ok(Decision::Go(Plan {
        place: upstream.zip(choice).and_then(|(upstream, choice)| new_place(upstream, &choice, session)),
        cluster: cluster.cloned(),
        node: Arc::clone(node),
        principal: Arc::clone(principal),
        token,
        upstream: upstream.map(|upstream| upstream.id.clone()),
        workspace: workspace.id.clone(),
        policy: upstream.map(|upstream| upstream.policy).unwrap_or_default(),
        engine: engine.cloned(),
        frontends: frontends.cloned(),
        starts: upstream.is_some_and(|upstream| upstream.autostart.is_some()),
    }))
}

/// Whether what is asked for cannot be had unless the upstream runs.
fn needs_it_up(target: &Target<'_>) -> bool {
    if let Target::Api(call) = target { call.needs_warehouse() } else { true }
}

/// What a session may use, and as whom.
pub(super) struct Granted<'a> {
    workspace: &'a Arc<Workspace>,
    upstream: Option<&'a Arc<Upstream>>,
    engine: Option<&'a Arc<Engine>>,
    /// As whom.
    pub(super) principal: &'a Arc<ServicePrincipal>,
    frontends: Option<&'a Arc<Frontends>>,
}

impl Granted<'_> {
    /// Whether requests go to one node and no other.
    pub(super) fn has_one_node(&self) -> bool {
        let nodes = self.upstream.map(|upstream| upstream.serving().flat_map(|cluster| &cluster.nodes).nth(1));
        nodes.is_none_or(|second| second.is_none())
    }

    /// Whether a request may go to an available node that is none of `tried`.
    pub(super) fn has_other(&self, tried: impl Fn(u64) -> bool) -> bool {
        let clusters = self.upstream.into_iter().flat_map(|upstream| upstream.serving());
        let mut nodes = clusters.filter(|cluster| cluster.weight > 0).flat_map(|cluster| &cluster.nodes);
        nodes.any(|node| node.live.is_available() && !tried(node.live.uid()))
    }

    /// Whether requests go to this node.
    pub(super) fn is_served_by(&self, node: &Node) -> bool {
        match self.upstream {
            // What cannot be used now may be what it was.
            Some(upstream) if upstream.fault.is_some() => true,
            Some(upstream) => {
                upstream.serving().flat_map(|cluster| &cluster.nodes).any(|serving| serving.url == node.url)
            }
            None => self.workspace.node.url == node.url,
        }
    }
}

/// Route and access: whether the session may use what is asked for.
///
/// # Errors
/// As [`decide`].
pub(super) fn grant<'a>(snapshot: &'a Snapshot, target: &Target<'_>, session: &Session) -> Result<Granted<'a>, Reject> {
    let org = snapshot.admit(session.holder()).map_err(shut_out)?;
    let Found { workspace, upstream, engine } = find(org, target, session)?;
    let nobody = || Reject::new(Class::Forbidden, "no service principal acts for this user in the workspace");
    let principals = engine.map_or(&workspace.principals, |engine| engine.principals());
    let principal = principals.of(session.email()).ok_or_else(nobody)?;
    Ok(Granted { workspace, upstream, engine, principal, frontends: org.frontends.as_ref() })
}

/// Another session helps where one was ended, and not where the user may not come in.
fn shut_out(why: Option<NoAccess>) -> Reject {
    let (class, cause) = match why {
        None => (Class::Session, "the session's organisation is not in the directory"),
        Some(NoAccess::SessionRevoked) => (Class::Session, "the session was ended"),
        Some(NoAccess::UserRevoked) => (Class::Session, "the sessions of the user were ended"),
        Some(NoAccess::OrgRevoked) => (Class::Session, "the sessions of the organisation were ended"),
        Some(NoAccess::Banned) => (Class::Forbidden, "the user is banned"),
        Some(NoAccess::NotMember) => (Class::Forbidden, "the user is not a member of the organisation"),
    };
    Reject::new(class, cause)
}

struct Found<'a> {
    workspace: &'a Arc<Workspace>,
    upstream: Option<&'a Arc<Upstream>>,
    engine: Option<&'a Arc<Engine>>,
}

impl<'a> Found<'a> {
    fn of(upstream: &'a Arc<Upstream>) -> Self {
        Self { workspace: &upstream.workspace, upstream: Some(upstream), engine: None }
    }
}

fn find<'a>(org: &'a Org, target: &Target<'_>, session: &Session) -> Result<Found<'a>, Reject> {
    let not_found = |cause: &'static str| Reject::new(Class::NotFound, cause);
    let app = match target {
        Target::AppByHost { org: host_org, .. } if **host_org != *session.org() => {
            return Err(not_found("the host is another organisation's"));
        }
        Target::AppByHost { app, .. } => &**app,
        Target::AppByPath { app, .. } => app,
        Target::Api(call) => return find_in_api(org, call, session),
        Target::Engine { org: Some(host_org), .. } if **host_org != *session.org() => {
            return Err(not_found("the host is another organisation's"));
        }
        Target::Engine { ask, .. } => return find_engine(org, ask, session),
        Target::Own(_)
        | Target::Discovery(_)
        | Target::StartSession
        | Target::AppWithoutSlash
        | Target::Linked { .. }
        | Target::FireflyV1 { .. } => {
            return Err(Reject::new(Class::Internal, "not a target of the directory"));
        }
    };
    let upstream = org.app(app).ok_or_else(|| not_found("no such app in the organisation"))?;
    if session.app().is_some_and(|own| own != app) {
        return Err(Reject::new(Class::Forbidden, "the session is for another app"));
    }
    Ok(Found::of(upstream))
}

/// An engine, and what of it may be called.
fn find_engine<'a>(org: &'a Org, ask: &Ask<'_>, session: &Session) -> Result<Found<'a>, Reject> {
    let not_found = || Reject::new(Class::NotFound, "no such engine in the organisation");
    let engine = org.engine(ask.engine).ok_or_else(not_found)?;
    if session.app().is_some() {
        return Err(Reject::new(Class::Forbidden, "the session is for an app, not for an engine"));
    }
    if !engine.permits(ask) {
        return Err(Reject::new(Class::Forbidden, "the engine's list of calls does not have this one"));
    }
    Ok(Found { engine: Some(engine), ..Found::of(&engine.upstream) })
}

/// Whether a session may make a call of an API, whichever workspace and warehouse it is about.
///
/// # Errors
/// As [`decide`].
pub fn admit_call(snapshot: &Snapshot, call: &Call<'_>, session: &Session) -> Result<(), Reject> {
    let org = snapshot.admit(session.holder()).map_err(shut_out)?;
    may_call(org, call, session)
}

/// What is another organisation's is not found, whatever was to be done to it; then comes what this user may do.
fn may_call(org: &Org, call: &Call<'_>, session: &Session) -> Result<(), Reject> {
    let not_found = || Reject::new(Class::NotFound, "no such warehouse in the organisation");
    if call.warehouse.is_some_and(|id| org.warehouse(id).is_none()) {
        return Err(not_found());
    }
    if session.app().is_some() {
        return Err(Reject::new(Class::Forbidden, "the session is for an app, not for an API"));
    }
    match org.permits(call, session.user(), session.email()) {
        Permission::Granted => Ok(()),
        Permission::Foreign => Err(not_found()),
        Permission::Denied => {
            Err(Reject::new(Class::Forbidden, "no rule of the organisation allows the user this call"))
        }
    }
}

/// A warehouse is the organisation's own, and in the workspace that is asked for, if one is.
fn find_in_api<'a>(org: &'a Org, call: &Call<'_>, session: &Session) -> Result<Found<'a>, Reject> {
    may_call(org, call, session)?;
    // With a single one, its name is the workspace's business: clients know it by other names than the directory does.
    let asked = call.workspace.filter(|_| org.workspaces().len() > 1);
    let found = match call.warehouse.and_then(|id| org.warehouse(id)) {
        Some(upstream) if asked.is_none_or(|asked| asked == upstream.workspace.id.as_str()) => {
            Some(Found::of(upstream))
        }
        Some(_) => None,
        None => {
            let workspace = asked.map_or_else(|| org.home(), |asked| org.workspace(asked));
            workspace.map(|workspace| Found { workspace, upstream: None, engine: None })
        }
    };
    found.ok_or_else(|| Reject::new(Class::NotFound, "no such warehouse or workspace in the organisation"))
}

#[cfg(test)]
mod tests;
