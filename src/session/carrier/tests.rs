use super::*;
use crate::session::Parts;
use crate::wire::request::{Head, Limits};

fn ring() -> KeyRing {
    KeyRing::new([("k1".to_owned(), [1; 32])])
}

fn token(user: &str) -> String {
    token_until(user, None)
}

fn token_until(user: &str, idle: Option<UnixSeconds>) -> String {
    let parts = Parts { id: [0; 16], issued: 0, expires: 100, org: "acme", user, email: "a@b.example", app: None };
    let session = Session { idle, ..Session::new(parts).unwrap() };
    ring().seal(Purpose::Session, &session).unwrap().unwrap()
}

fn open<'a>(lines: &str, https: bool, app: Option<&'a str>) -> Result<(Rc<Session>, Via<'a>), NoSession> {
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
    let mut positions = Vec::new();
    let head = Head::parse(text.as_bytes(), &mut positions, Limits { bytes: 9999, fields: 50 }).unwrap();
    find(head.fields, CookieNames::new(https), app, |token| ring().open(Purpose::Session, token, 10).map(Rc::new))
}

fn look<'a>(lines: &str, https: bool, app: Option<&'a str>) -> Result<(String, Via<'a>), NoSession> {
    open(lines, https, app).map(|(session, via)| (session.user().to_owned(), via))
}

fn by_cookie(user: &str) -> (String, Via<'_>) {
    (user.to_owned(), Via::Cookie(None))
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
    assert_eq!(look(&both, false, Some("editor")), Ok(("own".into(), Via::Cookie(Some("editor")))));
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
fn tokens_before_and_after_a_renewal_are_one_session() {
    let (before, after) = (token_until("u1", Some(20)), token_until("u1", Some(30)));
    for cookies in [format!("embedgate={before}; embedgate={after}"), format!("embedgate={after}; embedgate={before}")]
    {
        let (session, _) = open(&format!("Cookie: {cookies}"), false, None).unwrap();
        assert_eq!(session.idle, Some(30), "{cookies}");
    }
    let other = token_until("u2", Some(20));
    let two = look(&format!("Cookie: embedgate={before}; embedgate={other}"), false, None);
    assert_eq!(two, Err(NoSession::Ambiguous));
    // The one before may have ended meanwhile.
    let ended = token_until("u1", Some(9));
    assert_eq!(look(&format!("Cookie: embedgate={after}; embedgate={ended}"), false, None), Ok(by_cookie("u1")));
    let idle = look(&format!("Cookie: embedgate={ended}"), false, None);
    assert_eq!(idle, Err(NoSession::Unopened(OpenError::Idle)));
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
