//! Paths that have one reading, and rules over them.

use super::*;

fn call<'a>(method: &'a str, path: &'a str) -> Call<'a> {
    Call::of(method, path).unwrap().unwrap()
}

#[test]
fn what_everybody_may_call() {
    for (method, path) in [
        ("POST", "/api/2.0/sql/statements"),
        ("POST", "/api/2.0/sql/statements/"),
        ("GET", "/api/2.0/sql/statements/01ef"),
        ("GET", "/api/2.0/sql/statements/01ef/result/chunks/0"),
        ("POST", "/api/2.0/sql/statements/01ef/cancel"),
        ("DELETE", "/api/2.0/sql/statements/01ef"),
        ("POST", "/api/2.0/sql/sessions"),
        ("DELETE", "/api/2.0/sql/sessions/01ef"),
        ("GET", "/api/2.0/sql/warehouses"),
        ("GET", "/api/2.0/sql/warehouses/a1"),
        ("POST", "/sql/1.0/warehouses/a1"),
        ("POST", "/sql/1.0/endpoints/a1"),
        ("GET", "/api/2.0/preview/scim/v2/Me"),
    ] {
        assert!(call(method, path).is_usual, "{method} {path}");
    }
    for (method, path) in [
        ("GET", "/api/2.0/sql/statements"),
        ("HEAD", "/api/2.0/sql/warehouses"),
        ("PUT", "/api/2.0/sql/statements/01ef"),
        ("GET", "/api/2.0/sql/sessions"),
        ("GET", "/api/2.0/sql/sessions/01ef"),
        ("GET", "/api/2.0/sql/statements/01ef/cancel"),
        ("GET", "/api/2.0/sql/statements/01ef/result/chunks/0/more"),
        ("POST", "/api/2.0/sql/warehouses"),
        ("POST", "/api/2.0/sql/warehouses/a1/start"),
        ("POST", "/api/2.0/sql/warehouses/a1/stop"),
        ("POST", "/api/2.0/sql/warehouses/a1/edit"),
        ("DELETE", "/api/2.0/sql/warehouses/a1"),
        ("PUT", "/sql/1.0/warehouses/a1"),
        ("POST", "/sql/1.0/warehouses/a1/more"),
        ("POST", "/sql/protocolv1/o/1/c"),
        ("GET", "/api/2.0/clusters/list"),
        ("GET", "/api/2.1/jobs/list"),
        ("POST", "/api/2.0/token/create"),
        ("GET", "/api/2.0/secrets/list"),
        ("GET", "/api/2.0/preview/scim/v2/Users"),
        ("POST", "/API/2.0/sql/statements"),
    ] {
        assert!(Call::of(method, path) == Ok(None) || !call(method, path).is_usual, "{method} {path}");
    }
}

#[test]
fn a_warehouse_in_the_path_is_told_whatever_is_done_to_it() {
    for (method, path) in [
        ("GET", "/api/2.0/sql/warehouses/a1"),
        ("DELETE", "/api/2.0/sql/warehouses/a1"),
        ("POST", "/api/2.0/sql/endpoints/a1/start"),
        ("GET", "/api/2.0/sql/warehouses/a1/b/c/d/e/f/g/h"),
        ("POST", "/sql/1.0/endpoints/a1"),
        ("PUT", "/sql/1.0/warehouses/a1/x"),
    ] {
        assert_eq!(call(method, path).warehouse, Some("a1"), "{method} {path}");
    }
    assert_eq!(call("GET", "/api/2.0/sql/statements/01ef/result/chunks/0").statement, Some("01ef"));
}

#[test]
fn paths_with_two_readings_are_refused() {
    for path in [
        "/api/",
        "/api//2.0/sql/statements",
        "/api/2.0/sql/statements/01ef/",
        "/api/2.0/sql/statements//",
        "/api/2.0/sql/statements/../../../2.0/secrets/list",
        "/api/2.0/sql/statements/%2e%2e/x",
        "/api/2.0/sql/statements/..%2fx",
        "/api/2.0/sql/statements/.",
        "/api/2.0/sql/statements/...",
        "/api/2.0/sql/statements/a;b",
        "/api/2.0/sql/statements;x=/a",
        "/api/2.0/sql/statements/a\\b",
        "/api/2.0/sql/warehouses/a1%00",
        "/api/2.0/sql/warehouses/é",
        "/sql/1.0/warehouses/",
        "/sql/1.0/warehouses/a1?",
        "/sql/1.0/warehouses/a1#",
    ] {
        assert_eq!(Call::of("GET", path), Err(Ambiguous), "{path}");
    }
    for path in ["/", "/api", "/apis/x", "/API/2.0/sql/statements", "//api/2.0", "/./api/2.0", "/sqlx/"] {
        assert_eq!(Call::of("GET", path), Ok(None), "{path}");
    }
}

fn rule(members: &[&str], users: &[&str], allow: &[&str], warehouses: &[Action]) -> Rule {
    Rule::from(RuleRow {
        id: RuleId::parse("r").unwrap(),
        members: members.iter().map(|one| Box::from(*one)).collect(),
        users: users.iter().map(ToString::to_string).collect(),
        allow: allow.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
        warehouses: warehouses.to_vec(),
    })
}

#[test]
fn rules_add_calls_for_those_whom_they_name() {
    let asked = |rule: &Rule, line: &str, user: &str, email: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        rule.permits(&call(method, path), user, email, |id| id == "a1")
    };
    let all = rule(&[], &[], &["GET /api/2.0/sql/history/queries", "GET /api/2.1/unity-catalog/**"], &[]);
    let history = "GET /api/2.0/sql/history/queries";
    assert_eq!(asked(&all, history, "u", "u@x"), Permission::Granted);
    assert_eq!(asked(&all, "GET /api/2.1/unity-catalog/tables/a.b.c", "u", "u@x"), Permission::Granted);
    for line in [
        "POST /api/2.0/sql/history/queries",
        "GET /api/2.0/sql/history/queries/1",
        "GET /api/2.0/sql/history",
        "GET /api/2.0/sql/History/queries",
        "GET /api/2.1/unity-catalog",
        "GET /api/2.1/unity-catalogue/x",
    ] {
        assert_eq!(asked(&all, line, "u", "u@x"), Permission::Denied, "{line}");
    }
    let some = rule(&["u2", "u1"], &["b@x", "a@x"], &[history], &[]);
    for (user, email, expected) in [
        ("u1", "z@x", Permission::Granted),
        ("u2", "z@x", Permission::Granted),
        ("u3", "a@x", Permission::Granted),
        ("a@x", "u1", Permission::Denied),
        ("u3", "z@x", Permission::Denied),
    ] {
        assert_eq!(asked(&some, history, user, email), expected, "{user} {email}");
    }
}

#[test]
fn warehouses_are_started_by_switch_and_only_ones_own() {
    let rule = rule(&[], &[], &["GET /api/2.0/permissions/warehouses/{warehouse}"], &[Action::Start, Action::Edit]);
    let asked = |line: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        rule.permits(&call(method, path), "u", "u@x", |id| id == "a1")
    };
    assert_eq!(asked("POST /api/2.0/sql/warehouses/a1/start"), Permission::Granted);
    assert_eq!(asked("POST /api/2.0/sql/warehouses/a1/edit"), Permission::Granted);
    assert_eq!(asked("POST /api/2.0/sql/warehouses/a1/stop"), Permission::Denied);
    assert_eq!(asked("POST /api/2.0/sql/warehouses/b2/start"), Permission::Foreign);
    assert_eq!(asked("GET /api/2.0/permissions/warehouses/a1"), Permission::Granted);
    assert_eq!(asked("GET /api/2.0/permissions/warehouses/b2"), Permission::Foreign);
}

#[test]
fn patterns_that_mean_nothing() {
    for (text, expected) in [
        ("", "does not begin with a method"),
        ("/api/2.0/x", "does not begin with a method"),
        ("get /api/2.0/x", "does not begin with a method"),
        ("TRACE /api/2.0/x", "does not begin with a method"),
        ("GET  /api/2.0/x", "does not begin with /api/ or /sql/"),
        ("GET /ajax-api/2.0/x", "does not begin with /api/ or /sql/"),
        ("GET /api/**/x", "has the segment \"**\""),
        ("GET /api/2.0/../x", "has the segment \"..\""),
        ("GET /api/2.0/x/", "has the segment \"\""),
        ("GET /api/2.0/a*", "has the segment \"a*\""),
        ("GET /api/2.0/{workspace}", "has the segment \"{workspace}\""),
        ("GET /api/2.0/x?y=z", "has the segment \"x?y=z\""),
    ] {
        let error = Pattern::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}
