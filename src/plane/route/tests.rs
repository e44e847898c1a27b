use super::*;
use crate::wire::request::Limits;

fn hosts() -> Hosts {
    Hosts {
        base_domain: Some("apps.example.com".into()),
        public: vec!["gate.example.com".into()],
        loopback: false,
        any: false,
        firefly_v1: true,
        cookieless: true,
    }
}

fn locate_in(hosts: &Hosts, host: &str, path: &str) -> Result<String, Class> {
    ask(hosts, "GET", host, path)
}

fn ask(hosts: &Hosts, method: &str, host: &str, path: &str) -> Result<String, Class> {
    let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut positions = Vec::new();
    let head = Head::parse(text.as_bytes(), &mut positions, Limits { bytes: 9999, fields: 9 }).unwrap();
    locate(hosts, &head).map(|target| format!("{target:?}")).map_err(|reject| reject.class)
}

fn at(host: &str, path: &str) -> Result<String, Class> {
    locate_in(&hosts(), host, path)
}

#[test]
fn apps_by_host() {
    let app = Ok(r#"AppByHost { org: "acme", app: "editor" }"#.to_owned());
    assert_eq!(at("editor--acme.apps.example.com", "/x?y"), app);
    assert_eq!(at("Editor--ACME.apps.example.com:8443", "/"), app);
    for nothing in [
        "apps.example.com",
        "editor.apps.example.com",
        "a--b--c.apps.example.com",
        "x.editor--acme.apps.example.com",
        "editor--acme.evil.com",
    ] {
        assert_eq!(at(nothing, "/"), Err(Class::NotFound), "{nothing}");
    }
    assert!(at("editor--acme.apps.example.com", "/app-proxy/other/").unwrap().starts_with("AppByHost"));
}

#[test]
fn apps_by_path_on_the_public_host_only() {
    assert_eq!(
        at("gate.example.com", "/app-proxy/editor/a?b"),
        Ok(r#"AppByPath { app: "editor", prefix: 17 }"#.into())
    );
    assert_eq!(at("gate.example.com", "/app-proxy/editor"), Ok("AppWithoutSlash".into()));
    assert_eq!(at("10.0.0.1", "/app-proxy/editor/"), Err(Class::NotFound));
    assert_eq!(at("gate.example.com", "/"), Err(Class::NotFound));
    let local = Hosts { loopback: true, public: vec!["localhost".into()], ..Hosts::default() };
    assert!(locate_in(&local, "127.0.0.1:8080", "/app-proxy/editor/").is_ok());
    let any = Hosts { any: true, ..hosts() };
    assert!(locate_in(&any, "10.0.0.1", "/app-proxy/editor/").unwrap().starts_with("AppByPath"));
    assert!(locate_in(&any, "editor--acme.apps.example.com", "/").unwrap().starts_with("AppByHost"));
    assert_eq!(locate_in(&any, "editor.apps.example.com", "/app-proxy/editor/"), Err(Class::NotFound));
}

#[test]
fn fireflys_urls_are_told_by_the_length_of_their_token() {
    let token = "A".repeat(76);
    let path = format!("/app-proxy/{token}/aws/databricksapps/editor-1/static/x");
    let target = at("gate.example.com", &path).unwrap();
    assert!(target.contains(r#"host: "editor-1.aws.databricksapps""#), "{target}");
    assert!(target.contains(&format!("prefix: {}", path.len() - "/static/x".len())), "{target}");
    assert_eq!(at("gate.example.com", &format!("/app-proxy/{token}/aws/x")), Err(Class::NotFound));
    let off = Hosts { firefly_v1: false, ..hosts() };
    assert!(locate_in(&off, "gate.example.com", &path).unwrap().starts_with("AppByPath"));
}

#[test]
fn calls_of_an_api_have_one_reading() {
    let statement = at("gate.example.com", "/api/2.0/sql/statements/01ef/result/chunks/0?row_offset=3").unwrap();
    assert!(statement.starts_with("Api(") && statement.contains(r#"statement: Some("01ef")"#), "{statement}");
    let thrift = ask(&hosts(), "POST", "gate.example.com", "/sql/1.0/warehouses/a1").unwrap();
    assert!(thrift.contains(r#"warehouse: Some("a1")"#), "{thrift}");
    for path in ["/api/2.0/sql/statements/../../../2.0/secrets/list", "/sql/1.0/warehouses/a%2f", "/api//2.0/x"] {
        assert_eq!(at("gate.example.com", path), Err(Class::Malformed), "{path}");
    }
    for path in ["/API/2.0/sql/statements", "//api/2.0/sql/statements", "/sq/1.0/warehouses/a"] {
        assert_eq!(at("gate.example.com", path), Err(Class::NotFound), "{path}");
    }
    assert!(at("editor--acme.apps.example.com", "/api/2.0/secrets/list").unwrap().starts_with("AppByHost"));
    assert!(at("gate.example.com", "/.well-known/databricks-config").unwrap().starts_with("Discovery"));
}

#[test]
fn a_call_asks_for_one_workspace() {
    let asked = |query: &str, fields: &str| {
        let text = format!("GET /api/2.0/sql/warehouses{query} HTTP/1.1\r\nHost: gate.example.com\r\n{fields}\r\n");
        let mut positions = Vec::new();
        let head = Head::parse(text.as_bytes(), &mut positions, Limits { bytes: 9999, fields: 9 }).unwrap();
        match locate(&hosts(), &head).map_err(|reject| reject.class)? {
            Target::Api(call) => Ok(call.workspace.map(str::to_owned)),
            other => panic!("{other:?}"),
        }
    };
    let one = Ok(Some("w1".to_owned()));
    assert_eq!(asked("", ""), Ok(None));
    assert_eq!(asked("?a=b&o=w1", ""), one);
    assert_eq!(asked("", "X-Databricks-Org-Id: w1\r\n"), one);
    assert_eq!(asked("?o=w1", "x-databricks-workspace-id: w1\r\nx-databricks-org-id: w1\r\n"), one);
    assert_eq!(asked("?o=w1&o=w2", ""), Err(Class::Malformed));
    assert_eq!(asked("?o=w1", "x-databricks-org-id: w2\r\n"), Err(Class::Malformed));
}

#[test]
fn own_endpoints_are_on_every_host() {
    for host in ["gate.example.com", "editor--acme.apps.example.com", "10.0.0.1"] {
        assert_eq!(at(host, "/.embedgate/healthz"), Ok(r#"Own("healthz")"#.into()));
    }
}

#[test]
fn an_address_may_hold_a_session() {
    let linked = Ok(r#"Linked { token: "~1.k.x", link: 20 }"#.to_owned());
    for (host, path) in [
        ("gate.example.com", "/.embedgate/t/~1.k.x/app-proxy/editor/a?b"),
        ("editor--acme.apps.example.com", "/.embedgate/t/~1.k.x/"),
    ] {
        assert_eq!(at(host, path), linked, "{path}");
        let off = Hosts { cookieless: false, ..hosts() };
        assert!(locate_in(&off, host, path).unwrap().starts_with("Own("));
    }
    assert!(at("gate.example.com", "/.embedgate/t/~1.k.x").unwrap().starts_with("Own("));
    for (path, expected) in [
        ("/app-proxy/editor/a?b", Ok("AppByPath")),
        ("/app-proxy/editor", Ok("AppWithoutSlash")),
        ("/start-session", Err(Class::NotFound)),
        ("/sql/1.0/warehouses/a1", Err(Class::NotFound)),
        ("/.embedgate/session", Err(Class::NotFound)),
        ("/.embedgate/t/~1.k.x/app-proxy/editor/", Err(Class::NotFound)),
        ("/nothing", Err(Class::NotFound)),
    ] {
        let text = format!("GET /.embedgate/t/~1.k.x{path} HTTP/1.1\r\nHost: gate.example.com\r\n\r\n");
        let mut positions = Vec::new();
        let head = Head::parse(text.as_bytes(), &mut positions, Limits { bytes: 9999, fields: 9 }).unwrap();
        let found = behind(&hosts(), &head, 20).map(|target| format!("{target:?}")).map_err(|reject| reject.class);
        match expected {
            Ok(name) => assert!(found.unwrap().starts_with(name), "{path}"),
            Err(class) => assert_eq!(found, Err(class), "{path}"),
        }
    }
}

#[test]
fn tokens_in_paths_are_not_written_down() {
    let long = "A".repeat(MAX_APP_ID + 1);
    for (path, shown) in [
        ("/app-proxy/editor/a/b".to_owned(), "/app-proxy/editor/a/b"),
        (format!("/app-proxy/{long}/databricksapps/aws/app/x"), "/app-proxy/.../databricksapps/aws/app/x"),
        (format!("/app-proxy/{long}"), "/app-proxy/..."),
        (format!("/static/{long}.js"), &format!("/static/{long}.js")),
        ("/~1.k1.abc".to_owned(), "/..."),
        ("/a/token=~1.k1.abc/b".to_owned(), "/a/.../b"),
        ("/.embedgate/t/~1.k1.abc/app-proxy/editor/x".to_owned(), "/.embedgate/t/.../app-proxy/editor/x"),
        // Written in another way, which does not open but could be made to.
        ("/.embedgate/t/%7E1.k1.abc/x".to_owned(), "/.embedgate/t/.../x"),
        ("/.embedgate/t/%7E1.k1.abc".to_owned(), "/.embedgate/t/..."),
    ] {
        assert_eq!(loggable(&path), shown);
    }
}
