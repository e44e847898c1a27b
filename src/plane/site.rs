//! Whether the pages around an app's frame are of another site than its host, as browsers tell sites apart for cookies.

use super::guard::Guard;
use crate::model::url::Scheme;

/// Whether cookies of this host have to come along in frames of other sites. Over https they are made for that always.
/// Over http browsers let them be so (`Secure`) at names of this machine alone, and not all browsers do, so there they are
/// only where a front end of this machine needs it.
pub(super) fn is_framed_elsewhere(guard: &Guard, authority: &str) -> bool {
    if guard.scheme == Scheme::Https {
        return true;
    }
    let Some(own) = local_site(authority) else { return false };
    let is_elsewhere = |origin: &str| match origin.split_once("://") {
        // The scheme is part of the site.
        Some((scheme, authority)) => {
            local_site(authority).is_some_and(|site| scheme != "http" || !site.eq_ignore_ascii_case(own))
        }
        None => false,
    };
    guard.frontends.origins().iter().any(|origin| is_elsewhere(origin))
}

/// The label below `localhost` that makes a site of this machine, empty for `localhost` itself; none for other names. No
/// public suffix is below `localhost`, so a site is one label more (publicsuffix.org, the rule `*`).
fn local_site(authority: &str) -> Option<&str> {
    let host = authority.split(':').next().unwrap_or_default();
    let mut labels = host.rsplit('.');
    let is_local = labels.next()?.eq_ignore_ascii_case("localhost");
    is_local.then(|| labels.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::frontends::Frontends;
    use std::sync::Arc;

    #[test]
    fn sites_of_this_machine_are_told_apart() {
        for (frontend, host, expected) in [
            ("http://localhost:3000", "localhost:8080", false),
            ("http://localhost:3000", "LOCALHOST", false),
            ("http://localhost:3000", "editor--acme.apps.localhost:8080", true),
            ("http://front.localhost:3000", "gate.localhost:8080", true),
            ("http://front.localhost:3000", "localhost", true),
            ("http://www.front.localhost", "gate.Front.localhost", false),
            ("http://front.apps.localhost", "editor--acme.apps.localhost", false),
            ("https://localhost:3000", "localhost:8080", true),
            ("http://127.0.0.1:3000", "localhost:8080", false),
            ("http://front.localhost", "127.0.0.1:8080", false),
            ("http://front.localhost", "[::1]:8080", false),
            ("http://front.localhost", "notlocalhost", false),
            ("http://front.localhost", "localhost.example", false),
            ("https://app.example.com", "localhost:8080", false),
        ] {
            let guard = Guard { scheme: Scheme::Http, frontends: Arc::new(Frontends::only(frontend)) };
            assert_eq!(is_framed_elsewhere(&guard, host), expected, "{frontend} around {host}");
        }
        let none = Guard { scheme: Scheme::Http, frontends: Arc::default() };
        assert!(!is_framed_elsewhere(&none, "localhost"));
        assert!(is_framed_elsewhere(&Guard { scheme: Scheme::Https, ..none }, "gate.example"));
    }
}
