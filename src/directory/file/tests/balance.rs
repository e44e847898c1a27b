use super::*;
use crate::model::balance::{Balance, HashOn, Strategy};

const NODE: &str = "state = 'running'\nnodes = ['https://1.example.com']\n";

#[test]
fn upstreams_say_how_their_requests_are_spread() {
    let text = format!(
        "{ACME}[[org.app]]\nid = 'a'\nbalance = 'hash'\nhash_on = 'header:X-Tenant'\naffinity = true\nslow_start = '0s'\n\
         [[org.app.cluster]]\nid = 'blue'\nweight = 0\n{NODE}[[org.app.cluster]]\nid = 'green'\n{NODE}\
         [[org.warehouse]]\nid = 'w'\nbalance = 'round-robin'\n\
         [[org.engine]]\nid = 'e'\nurl = 'https://e.example.com'\nbalance = 'peak-ewma'\nslow_start = '2m'\n"
    );
    let org = read(&text, false).unwrap().orgs.remove(0);
    let app = Balance {
        strategy: Strategy::Hash,
        hash_on: HashOn::Header("X-Tenant".into()),
        affinity: true,
        slow_start: Some(Duration::ZERO),
    };
    assert_eq!(org.apps[0].balance, app);
    assert_eq!(org.apps[0].clusters.iter().map(|cluster| cluster.weight).collect::<Vec<_>>(), [0, 100]);
    assert_eq!(org.warehouses[0].balance, Balance { strategy: Strategy::RoundRobin, ..Balance::default() });
    let minutes = Some(Duration::from_secs(120));
    let engine = Balance { strategy: Strategy::PeakEwma, slow_start: minutes, ..Balance::default() };
    assert_eq!(org.engines[0].upstream.balance, engine);
}

#[test]
fn mistakes_in_how_they_are_spread_are_told_at_once() {
    assert_eq!(
        mistakes(&format!(
            "[[org.app]]\nid = 'a'\nurl = 'https://a.example.com'\nbalance = 'random'\nhash_on = 'session'\naffinity = 1\n\
             slow_start = 'soon'\n[[org.app.cluster]]\nid = 'blue'\nweight = 10001\n{NODE}\
             [[org.warehouse]]\nid = 'w'\nbalance = 'hash'\nhash_on = 'header:Cookie'\n"
        )),
        [
            "9 org[acme].app[a].balance: \"random\" is not known here; known here: least-requests, round-robin, peak-ewma, hash",
            "10 org[acme].app[a].hash_on: is for balance = \"hash\"; remove it, or write that as well",
            "11 org[acme].app[a].affinity: expected true or false, without quotes, found a whole number",
            "12 org[acme].app[a].slow_start: \"soon\" is not a duration; write whole numbers with the units d, h, m, s, ms, longest first, such as \"30s\" or \"1h30m\"",
            "15 org[acme].app[a].cluster[blue].weight: out of range; write a number from 0 to 10000",
            "21 org[acme].warehouse[w].hash_on: write \"session\", or \"header:\" with the name of a header field other than Authorization and Cookie",
        ]
    );
}
