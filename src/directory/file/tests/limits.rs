//! Quotas of organisations, and limits of upstreams.

use super::*;
use crate::model::quota::Quota;

#[test]
fn organisations_and_upstreams_say_what_may_be_under_way() {
    let text = format!(
        "{ACME}[org.quota]\nrequests_per_second = 5\nburst = 0\nuser_concurrent = 3\n\
         [[org.app]]\nid = 'a'\nurl = 'https://a.example.com'\nmax_concurrent = 7\n\
         [[org.warehouse]]\nid = 'w'\nadaptive = true\n"
    );
    let tables = read(&text, false).unwrap();
    let org = &tables.orgs[0];
    assert_eq!(org.quota, Quota::of([Some(5), Some(0), None, None, None, Some(3)]));
    assert_eq!(org.apps[0].load, Load { max_concurrent: Some(7), adaptive: None });
    assert_eq!(org.warehouses[0].load, Load { max_concurrent: None, adaptive: Some(true) });
}

#[test]
fn mistakes_in_limits_are_all_told() {
    let text = "[org.quota]\nrequests_per_second = -1\nconcurent = 3\nuser_burst = 3\n\
        [[org.app]]\nid = 'a'\nurl = 'https://a.example.com'\nmax_concurrent = 2000000\nadaptive = 'yes'\n";
    assert_eq!(
        mistakes(text),
        [
            "7 org[acme].quota.requests_per_second: out of range; write a number from 0 to 1000000",
            "8 org[acme].quota.concurent: unknown key; did you mean \"concurrent\"?",
            "9 org[acme].quota.user_burst: is the burst of a rate; write user_requests_per_second as well",
            "13 org[acme].app[a].max_concurrent: out of range; write a number from 0 to 1000000",
            "14 org[acme].app[a].adaptive: expected true or false, without quotes, found a string",
        ]
    );
}
