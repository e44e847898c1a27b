use super::*;
use crate::session::Parts;
use crate::wire::request::{Head, Limits};

fn ring() -> KeyRing {
    KeyRing::new([("k1".to_owned(), [1; 32])])
}

fn token(user: &str) -> String {
    let parts = Parts { id: [0; 16], issued: 0, expires: 100, org: "acme", user, email: "a@b.example", app: None };
    ring().seal(Purpose::Session, &Session::new(parts).unwrap()).unwrap().unwrap()
}

fn look(lines: &str, https: bool, app: Option<&str>) -> Result<(String, Via), NoSession> {
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
    let mut positions = Vec::new();
    let head = Head::parse(text.as_bytes(), &mut positions, Limits { bytes: 9999, fields: 50 }).unwrap();
    find(head.fields, CookieNames::new(https), app, &ring(), 10).map(|(s, via)| (s.user().to_owned(), via))
}

fn by_cookie(user: &str) -> (String, Via) {
    (user.to_owned(), Via::Cookie)
}

#[test]
fn cookies_and_bearers_carry_sessions() {
    let t = token("u1");
    assert_eq!(look(&format!("Cookie: a=b; embedgate={t}; c=d"), false, None), Ok(by_cookie("u1")));
    assert_eq!(look(&format!("Cookie: __Host-embedgate=\"{t}\""), true, None), Ok(by_cookie("u1")));
    assert_eq!(look(&format!("Authorization: bearer {t}"), true, None), Ok(("u1".into(), Via::Bearer)));
    assert_eq!(look("Authorization: Bearer dapi123", false, None), Err(NoSession::Missing));
    assert_eq!(look("Cookie: other=1", false, None), Err(NoSession::Missing));
    assert_eq!(look("Cookie: embedgate=x", false, None), Err(NoSession::Unopened(OpenError::Malformed)));
}

#[test]
fn a_sibling_host_cannot_plant_a_session_on_https() {
    assert_eq!(look(&format!("Cookie: embedgate={}", token("u1")), true, None), Err(NoSession::Missing));
}

#[test]
fn an_apps_own_cookie_goes_before_the_one_for_all() {
    let (all, own) = (token("all"), token("own"));
    let both = format!("Cookie: embedgate={all}; embedgate-editor={own}");
    assert_eq!(look(&both, false, Some("editor")), Ok(by_cookie("own")));
    assert_eq!(look(&both, false, Some("viz")), Ok(by_cookie("all")));
    assert!(look("Cookie: embedgate-editor=bad", false, Some("editor")).is_err());
    let stale = format!("Cookie: embedgate={all}; embedgate-editor=old");
    assert_eq!(look(&stale, false, Some("editor")), Ok(by_cookie("all")));
}

#[test]
fn several_cookies_must_agree() {
    let (one, two) = (token("u1"), token("u2"));
    assert_eq!(look(&format!("Cookie: embedgate=old; embedgate={one}"), false, None), Ok(by_cookie("u1")));
    assert_eq!(look(&format!("Cookie: embedgate={one}\r\nCookie: embedgate={one}"), false, None), Ok(by_cookie("u1")));
    let two = look(&format!("Cookie: embedgate={one}; embedgate={two}"), false, None);
    assert_eq!(two, Err(NoSession::Ambiguous));
    let many = "embedgate=x; ".repeat(9);
    assert_eq!(look(&format!("Cookie: {many}"), false, None), Err(NoSession::TooMany));
}

#[test]
fn our_cookies_are_stripped_and_others_kept_byte_for_byte() {
    for (field, expected) in [
        ("a=b; c=\"d e\";f", "a=b; c=\"d e\";f"),
        ("embedgate=x", ""),
        ("a=b; embedgate=x; c=d", "a=b; c=d"),
        ("embedgate=x; a=b;  c=d", "a=b;  c=d"),
        ("a=b; __Host-embedgate-editor=x", "a=b"),
        ("EMBEDGATE=x; embedgated=keep", "embedgated=keep"),
        ("stolen=~1.k1.abc; a=b", "a=b"),
    ] {
        let mut out = Vec::new();
        strip_cookies(field.as_bytes(), &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected, "{field}");
    }
}
