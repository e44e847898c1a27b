//! What can be started when somebody wants it: how, and as whom.

use super::ids::PrincipalId;
use super::upstream::ServicePrincipal;
use super::url::Endpoint;
use crate::live::autostart::StartCell;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// How an upstream is started, as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRow {
    /// Whom to ask.
    pub by: StartBy,
    /// As whom; without one, as the principal that the workspace has for everybody.
    pub principal: Option<PrincipalId>,
    /// How long nobody may have used it before it is stopped; none for never.
    pub idle_stop: Option<Duration>,
}

/// Who starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartBy {
    /// The workspace, an app of this name.
    DatabricksApp(String),
    /// The workspace, the warehouse of the upstream's own id.
    DatabricksWarehouse,
    /// Firebolt, an engine.
    Firebolt {
        /// The account's system engine: where SQL about engines is taken.
        system_engine: Endpoint,
        /// The name of the engine.
        engine: String,
    },
    /// A service of the operator's.
    Webhook(Endpoint),
}

/// An upstream that can be started, as the snapshot holds it.
#[derive(Debug)]
pub struct AutoStart {
    /// Whom to ask.
    pub by: StartBy,
    /// As whom.
    pub principal: Arc<ServicePrincipal>,
    /// How long nobody may have used it before it is stopped; none for never.
    pub idle_stop: Option<Duration>,
    /// What kind of upstream it is: `app` or `warehouse`.
    pub kind: &'static str,
    /// Whether it is up; outlives the snapshot as long as all of the above stays the same.
    pub cell: Arc<StartCell>,
    /// Requests that wait for anything of the organisation to start.
    pub waiting: Arc<AtomicU32>,
}
