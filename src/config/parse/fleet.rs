//! What instances tell one another.

use crate::config::Fleet;
use crate::config::reader::{Item, Section};
use std::time::Duration;

/// Its keys.
pub(in crate::config) const KEYS: &[&str] = &["interval", "drain_interval", "expiry"];

/// `fleet`.
pub(super) fn fleet(section: &Section<'_>) -> Fleet {
    let interval = section.or("interval", Duration::from_secs(2), pause);
    let fleet = Fleet {
        interval,
        drain_interval: section.or("drain_interval", Duration::from_millis(500), pause),
        expiry: section.seconds("expiry", 15),
    };
    // One beat may be lost, and another late, before the others take this instance for dead.
    if fleet.expiry < interval.saturating_mul(3) {
        let message =
            "is less than three times fleet.interval: an instance would count as gone while it runs; raise it";
        match section.get("expiry") {
            Some(item) => item.wrong(message),
            None => section.wrong(message),
        }
    }
    fleet
}

/// Each beat is a transaction of the database.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

fn pause(item: &Item<'_>) -> Option<Duration> {
    let pause = item.duration()?;
    if pause < LEAST_PAUSE {
        item.wrong("is less than 50ms, too often for the database; raise it");
    }
    Some(pause)
}
