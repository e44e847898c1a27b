//! Quotas, queues and limits on what is under way.

use super::*;
use crate::model::quota::Quota;

#[test]
fn limits_are_read() {
    let text = "[upstreams]\nmax_concurrent = 9\nadaptive = true\nadaptive_min = 2\nadaptive_max = 3\n\
        [limits]\nmax_requests = 7\nmemory = 1000000\n[quotas]\nuser_concurrent = 5\nusers = 100\n[queue]\nlength = 0\nper_org = 3\n";
    let config = accepted(text);
    let upstreams = &config.upstreams;
    assert_eq!((upstreams.max_concurrent, upstreams.adaptive), (9, true));
    assert_eq!((upstreams.adaptive_min, upstreams.adaptive_max), (2, 3));
    assert_eq!((config.limits.max_requests, config.limits.memory), (7, 1_000_000));
    assert_eq!(config.quotas.usual, Quota { user_concurrent: Some(5), ..Quota::of([Some(0); 6]) });
    assert_eq!((config.queue.length, config.queue.per_org), (0, 3));
    assert_eq!((config.quotas.users, config.queue.total), (100, 10_000));
}

#[test]
fn limits_that_contradict_each_other_are_told() {
    assert_eq!(
        mistakes("[upstreams]\nadaptive_min = 9\nadaptive_max = 3\n[quotas]\nburst = 3\nusers = 1\n", &[]),
        [
            "4 upstreams.adaptive_max: is less than upstreams.adaptive_min, 9; write no less",
            "6 quotas.burst: is the burst of a rate; write requests_per_second as well",
            "7 quotas.users: out of range; write a number from 64 to 16777216",
        ]
    );
}
