//! What this instance knows of the others.

use std::sync::atomic::{AtomicU32, Ordering};

/// The instances that serve the same directory.
#[derive(Debug)]
pub struct Fleet {
    instances: AtomicU32,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { instances: AtomicU32::new(1) }
    }
}

impl Fleet {
    /// How many instances live, this one included; 1 where nobody counts them.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.instances.load(Ordering::Relaxed)
    }

    /// Notes how many live.
    pub fn set_instances(&self, count: u32) {
        self.instances.store(count.max(1), Ordering::Relaxed);
    }
}
