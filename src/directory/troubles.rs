//! Upstreams that the directory lets no request go to, told in the log once each: when they become so.

use crate::model::ids::OrgId;
use crate::model::snapshot::{Org, Snapshot};

/// So many are told of one by one at a time.
const MAX_TOLD: usize = 20;

/// Tells which upstreams of a new snapshot have no cluster that runs and had one, or were not there, in the old one; of
/// some organisations, or all.
pub(super) fn tell(new: &Snapshot, old: Option<&Snapshot>, of: Option<&[OrgId]>) {
    let found = match of {
        Some(ids) => ids.iter().filter_map(|id| new.org(id.as_str())).map(|org| tell_of(org, old, MAX_TOLD)).sum(),
        None => new.orgs().fold(0, |told, org| told + tell_of(org, old, MAX_TOLD.saturating_sub(told))),
    };
    if found > MAX_TOLD {
        tracing::warn!(count = found - MAX_TOLD, "more upstreams cannot be used; the admin API lists them all");
    }
}

/// Gives how many there are.
fn tell_of(org: &Org, old: Option<&Snapshot>, most: usize) -> usize {
    let before = old.and_then(|old| old.org(org.id.as_str()));
    let mut found = 0;
    // The cause of the others was told with the row that has it.
    for (kind, upstream) in org.by_kind().filter(|(_, upstream)| upstream.fault.is_none()) {
        let Some(reason) = upstream.obstacle() else { continue };
        let mut known = before.into_iter().flat_map(|org| org.by_kind());
        if known
            .any(|(its_kind, it)| its_kind == kind && it.id == upstream.id && it.obstacle().as_ref() == Some(&reason))
        {
            continue;
        }
        if found < most {
            tracing::warn!(org = %org.id, kind, upstream = %upstream.id, %reason, "an upstream cannot be used");
        }
        found += 1;
    }
    found
}
