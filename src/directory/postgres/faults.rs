//! What is wrong with rows, told once each.

use super::rows::Fault;
use std::collections::BTreeMap;

/// What was wrong at the last reads, by organisation.
#[derive(Debug, Default)]
pub struct Faults(BTreeMap<String, Vec<Fault>>);

impl Faults {
    /// The organisations of which something is wrong.
    #[must_use]
    pub fn orgs(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// How many rows are wrong.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in what a read of `orgs` found to be wrong, with them or with others, and logs what is new of it.
    pub fn take(&mut self, orgs: Vec<String>, found: Vec<Fault>) {
        let mut by_org: BTreeMap<String, Vec<Fault>> = orgs.into_iter().map(|org| (org, Vec::new())).collect();
        for fault in found {
            by_org.entry(fault.org.clone()).or_default().push(fault);
        }
        for (org, faults) in by_org {
            self.take_one(&org, faults);
        }
    }

    fn take_one(&mut self, org: &str, faults: Vec<Fault>) {
        let known = self.0.remove(org).unwrap_or_default();
        for fault in faults.iter().filter(|fault| !known.contains(fault)) {
            tracing::error!(org, row = %fault.row, cause = %fault.cause, "a row of the directory cannot be used");
        }
        if !known.is_empty() && faults.is_empty() {
            tracing::info!(org, "the rows of the directory can be used again");
        }
        if !faults.is_empty() {
            self.0.insert(org.to_owned(), faults);
        }
    }
}
