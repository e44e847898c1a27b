//! How near the process is to what the system gives it: looked at by every request, written by the one task that measures.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// What may run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarce {
    /// Memory of the process.
    Memory,
    /// File descriptors.
    Files,
}

impl Scarce {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Files];

    /// The word for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Files => "files",
        }
    }

    fn shift(self) -> u8 {
        match self {
            Self::Memory => 0,
            Self::Files => 4,
        }
    }
}

/// How near it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is enough.
    Calm,
    /// Organisations with more than their share get nothing new.
    High,
    /// Nobody does.
    Full,
}

/// What the process is short of, and what each organisation may have meanwhile.
#[derive(Debug, Default)]
pub struct Pressure {
    /// The levels of all that may run out, in one number: most requests look at it alone.
    levels: AtomicU8,
    share: AtomicU32,
}

impl Pressure {
    /// What a request of an organisation with so many others under way is refused for.
    #[must_use]
    pub fn refuses(&self, others: u32) -> Option<Scarce> {
        if self.levels.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let is_over = others >= self.share.load(Ordering::Relaxed);
        let refuses = |scarce: &Scarce| match self.level(*scarce) {
            Level::Calm => false,
            Level::High => is_over,
            Level::Full => true,
        };
        Scarce::ALL.into_iter().find(refuses)
    }

    /// Whether there is nothing left of one of them for anything new.
    #[must_use]
    pub fn is_full(&self, scarce: Scarce) -> bool {
        self.levels.load(Ordering::Relaxed) != 0 && self.level(scarce) == Level::Full
    }

    /// How it stands with one of them.
    #[must_use]
    pub fn level(&self, scarce: Scarce) -> Level {
        match self.levels.load(Ordering::Relaxed) >> scarce.shift() & 0xf {
            0 => Level::Calm,
            1 => Level::High,
            _ => Level::Full,
        }
    }

    /// Says how it stands.
    pub fn tell(&self, memory: Level, files: Level) {
        let levels = (memory as u8) << Scarce::Memory.shift() | (files as u8) << Scarce::Files.shift();
        self.levels.store(levels, Ordering::Relaxed);
    }

    /// Says what each organisation may have under way.
    pub fn set_share(&self, share: u32) {
        self.share.store(share, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_before_nobody_gets_anything() {
        let pressure = Pressure::default();
        pressure.set_share(3);
        assert_eq!(pressure.refuses(1000), None);
        pressure.tell(Level::Calm, Level::High);
        assert_eq!((pressure.refuses(2), pressure.refuses(3)), (None, Some(Scarce::Files)));
        pressure.tell(Level::Full, Level::High);
        assert_eq!((pressure.refuses(0), pressure.level(Scarce::Files)), (Some(Scarce::Memory), Level::High));
        pressure.tell(Level::Calm, Level::Calm);
        assert_eq!(pressure.refuses(1000), None);
    }
}
