//! `[quotas]`: what organisations and users may have under way; the directory has the same keys for one organisation.

use crate::config::Quotas;
use crate::config::reader::Section;
use crate::model::quota::{MAX_LIMIT, Quota};

/// Its keys: those of a quota, and how many users are told apart.
pub(super) const KEYS: &[&str] = &[
    "requests_per_second",
    "burst",
    "concurrent",
    "user_requests_per_second",
    "user_burst",
    "user_concurrent",
    "users",
];

pub(super) fn quotas(section: &Section<'_>) -> Quotas {
    // What is not said is no limit.
    let usual = Quota::read(section).or(&Quota::of([Some(0); 6]));
    Quotas { usual, users: section.or("users", 65_536, |item| item.integer(64..=16_777_216)) }
}

impl Quota {
    /// Reads the limits of a section.
    #[must_use]
    pub fn read(section: &Section<'_>) -> Self {
        let mut values = [None; 6];
        for (key, value) in Self::KEYS.iter().zip(&mut values) {
            *value = section.get(key).and_then(|item| item.integer(0..=i128::from(MAX_LIMIT)));
        }
        let quota = Self::of(values);
        let bursts = [
            ("burst", quota.burst, "requests_per_second"),
            ("user_burst", quota.user_burst, "user_requests_per_second"),
        ];
        for (key, burst, rate) in bursts {
            if burst.is_some_and(|burst| burst > 0) && section.get(rate).is_none() {
                section
                    .get(key)
                    .into_iter()
                    .for_each(|item| item.wrong_missing(format!("is the burst of a rate; write {rate} as well")));
            }
        }
        quota
    }
}
