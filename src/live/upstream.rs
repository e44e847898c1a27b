//! The live side of an upstream: the limits that its clusters share. Outlives the snapshot.

use super::adaptive::Adaptive;
use super::gate::Gate;
use super::place::Places;
use std::sync::{Arc, OnceLock};

/// What limits an upstream's requests. Most have no limit, and then it takes next to no room.
#[derive(Debug, Default)]
pub struct UpstreamLive {
    /// Requests on all of its nodes; counted only where its circuit limits them.
    pub requests: Places,
    /// Requests that are tried again, on another node than the first.
    pub retries: Places,
    gate: OnceLock<Arc<Gate>>,
    adaptive: OnceLock<Arc<Adaptive>>,
}

impl UpstreamLive {
    /// The gate before it, made when it is first needed.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        self.gate.get_or_init(Arc::default)
    }

    /// Lets everybody in who waits before it, as there is no limit any more.
    pub fn lift(&self) {
        if let Some(gate) = self.gate.get() {
            gate.set_limit(u32::MAX);
        }
    }

    /// What finds out its limit, made when it is first needed.
    #[must_use]
    pub fn adaptive(&self) -> &Arc<Adaptive> {
        self.adaptive.get_or_init(Arc::default)
    }
}
