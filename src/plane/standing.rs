//! What a request, a stream or a tunnel stands on, so that it can be ended when that is taken away while it lasts, and a
//! WebSocket be asked to leave a node that is to go.

use super::decide::{Plan, grant};
use super::route::Target;
use crate::directory::News;
use crate::model::access::{Bar, Subject};
use crate::model::api::Call;
use crate::model::engine::Ask;
use crate::model::ids::{PrincipalId, UpstreamId, WorkspaceId};
use crate::model::reject::Reject;
use crate::model::snapshot::Snapshot;
use crate::model::upstream::Node;
use crate::session::Session;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

/// Who uses what, and as whom.
pub(super) struct Standing {
    session: Rc<Session>,
    /// Where the session's own rights are looked up again.
    on: On,
    principal: PrincipalId,
    node: Arc<Node>,
}

/// How firm what something stands on is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// As it was.
    Firm,
    /// The node takes no new requests: its cluster drains or has stopped, or it is in none any more.
    Leaving,
}

enum On {
    App(UpstreamId),
    Engine {
        id: UpstreamId,
        /// Method and path, which the engine's list may come to leave out.
        call: (Box<str>, Box<str>),
    },
    Api {
        workspace: WorkspaceId,
        warehouse: Option<UpstreamId>,
        /// Method and path, where a rule of the organisation allows the call.
        by_rule: Option<(Box<str>, Box<str>)>,
    },
}

impl Standing {
    /// What a decided request stands on.
    pub(super) fn new(target: &Target<'_>, plan: &Plan, session: &Rc<Session>) -> Self {
        let on = match (target, &plan.upstream) {
            (Target::Engine { ask, .. }, Some(id)) => {
                On::Engine { id: id.clone(), call: (ask.method.into(), ask.path.into()) }
            }
            (Target::Api(_), _) | (_, None) => On::Api {
                workspace: plan.workspace.clone(),
                warehouse: plan.upstream.clone(),
                by_rule: rule_over(target),
            },
            (_, Some(app)) => On::App(app.clone()),
        };
        let (principal, node) = (plan.principal.id.clone(), Arc::clone(&plan.node));
        Self { session: Rc::clone(session), on, principal, node }
    }

    /// Whether news may be about it.
    pub(super) fn is_concerned(&self, news: &News) -> bool {
        match news {
            News::All => true,
            News::Orgs(ids) => ids.iter().any(|id| id.as_str() == self.session.org()),
            News::Bars(bars) => bars.iter().any(|bar| match bar {
                Bar::Revoked(Subject::Org(id)) => **id == *self.session.org(),
                Bar::Revoked(Subject::User(id)) | Bar::Banned(id) => **id == *self.session.user(),
                Bar::Revoked(Subject::Session(id)) => *id == self.session.id,
            }),
        }
    }

    /// How it still stands; else why not, for the client.
    pub(super) fn check(&self, snapshot: &Snapshot) -> Result<Ground, &'static str> {
        let target = match &self.on {
            On::App(id) => Target::AppByPath { app: id.as_str(), prefix: 0 },
            On::Engine { id, call: (method, path) } => {
                Target::Engine { org: None, ask: Ask { engine: id.as_str(), method, path }, prefix: 0 }
            }
            On::Api { workspace, warehouse, by_rule } => {
                let usual = Call::usual(workspace.as_str(), warehouse.as_ref().map(UpstreamId::as_str));
                let (method, path) =
                    by_rule.as_ref().map_or((usual.method, usual.path), |(method, path)| (method, path));
                Target::Api(Call { method, path, is_usual: by_rule.is_none(), ..usual })
            }
        };
        match grant(snapshot, &target, &self.session) {
            Ok(granted) if granted.principal.id == self.principal => {
                Ok(if granted.is_served_by(&self.node) { Ground::Firm } else { Ground::Leaving })
            }
            Ok(_) => Err("another service principal acts for the user now"),
            Err(Reject { cause: Cow::Borrowed(cause), .. }) => Err(cause),
            Err(_) => Err("access was taken away"),
        }
    }
}

/// Method and path of a call that only a rule allows.
fn rule_over(target: &Target<'_>) -> Option<(Box<str>, Box<str>)> {
    match target {
        Target::Api(call) if !call.is_usual => Some((call.method.into(), call.path.into())),
        _ => None,
    }
}
