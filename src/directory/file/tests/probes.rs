//! `[org.app.health]`: how nodes are probed.

use super::{ACME, mistakes, read};
use crate::model::probe::{Probe, ProbeKind};
use std::time::Duration;

/// What an app is probed by, whose section is on the lines from 9 on.
fn probe(keys: &str) -> Option<Probe> {
    let app = format!("[[org.app]]\nid = 'x'\nurl = 'https://a.example.com'\n[org.app.health]\n{keys}");
    read(&format!("{ACME}{app}"), false).unwrap().orgs.remove(0).apps.remove(0).probe
}

#[test]
fn a_probe_has_its_usual_times() {
    let usual = probe("kind = 'http'\npath = '/healthz'").unwrap();
    assert_eq!((usual.interval, usual.timeout), (Duration::from_secs(10), Duration::from_secs(2)));
    assert_eq!((usual.healthy, usual.unhealthy), (2, 3));
    assert!(matches!(usual.kind, ProbeKind::Http { path, expect } if &*path == "/healthz" && expect.contains(301)));
    let own = probe("kind = 'tcp'\ninterval = '100ms'\ntimeout = '1m'\nhealthy = 1\nunhealthy = 100").unwrap();
    assert_eq!((own.kind, own.interval, own.unhealthy), (ProbeKind::Tcp, Duration::from_millis(100), 100));
}

#[test]
fn all_that_is_wrong_with_a_probe_is_said() {
    let wrong = |keys: &str| {
        mistakes(&format!("[[org.app]]\nid = 'x'\nurl = 'https://a.example.com'\n[org.app.health]\n{keys}"))
    };
    let place = "org[acme].app[x].health";
    assert_eq!(wrong("interval = '1s'\n"), [format!("9 {place}.kind: is missing; write http or tcp")]);
    assert_eq!(
        wrong("kind = 'tcp'\npath = '/'\nexpect = '200'\n"),
        [
            format!("11 {place}.path: is for kind = \"http\"; remove it"),
            format!("12 {place}.expect: is for kind = \"http\"; remove it")
        ]
    );
    assert_eq!(
        wrong("kind = 'http'\nexpect = 'ok'\ninterval = '99ms'\ntimeout = '0s'\nhealthy = 0\nunhealthy = 101\n").len(),
        6
    );
    assert_eq!(wrong("kind = 'http'\npath = 'healthz'\nas = 'spn'\n").len(), 2);
}
