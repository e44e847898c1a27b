use super::{ACME, mistakes, read};
use crate::model::autostart::{StartBy, StartRow};
use std::time::Duration;

#[test]
fn starts_say_who_starts_and_as_whom() {
    let app = |start: &str| format!("[[org.app]]\nid = 'a'\nurl = 'https://a.example.com'\nstart = {{ {start} }}\n");
    let good = "by = 'databricks-app', name = 'my-app', idle_stop = '30m'";
    let tables = read(&format!("{ACME}{}", app(good)), false).unwrap();
    let (by, idle_stop) = (StartBy::DatabricksApp("my-app".into()), Some(Duration::from_secs(1800)));
    assert_eq!(tables.orgs[0].apps[0].start, Some(StartRow { by, principal: None, idle_stop }));
    for (start, expected) in [
        ("name = 'x'", ".start.by: is missing; write databricks-app, databricks-warehouse, firebolt or webhook"),
        (
            "by = 'databricks-app', name = 'My/App'",
            ".start.name: an app's name has lower-case letters, digits and hyphens only",
        ),
        (
            "by = 'firebolt', name = 'a b', url = 'https://e.example.com/q?a=b'",
            ".start.name: an engine's name has letters, digits and underscores only",
        ),
        (
            "by = 'webhook', name = 'x', url = 'https://h.example.com/'",
            ".start.name: what starts this does not have this key; remove it",
        ),
        (
            "by = 'databricks-app', name = 'x', principal = 'nobody'",
            ".start.principal: the organisation has no principal \"nobody\"; add it, or write one of its own",
        ),
    ] {
        let found = mistakes(&app(start));
        assert!(found.len() == 1 && found[0].ends_with(expected), "{found:?}");
    }
    let foreign = mistakes(&app("by = 'webhook', url = 'https://h.elsewhere.org/'"));
    assert!(foreign.len() == 1 && foreign[0].contains("start.url"), "{foreign:?}");
    let control = "[[org.principal]]\nid = 'c'\nkind = 'none'\ncontrol = true\nusers = ['a@b.c']\n";
    let found = mistakes(control);
    assert!(found.iter().any(|one| one.contains("a control principal acts for nobody")), "{found:?}");
}
