use super::*;
use crate::live::node::NodeLive;
use crate::model::url::BaseUrl;
use crate::plane::engine::Leads;
use crate::plane::outside::Outside;
use crate::secret::Secret;
use crate::session::Parts;
use crate::wire::request::Limits;
use crate::wire::response;

const LIMITS: Limits = Limits { bytes: 9999, fields: 50 };

/// What an upstream sees of a request.
fn to_upstream(text: &str, change: impl FnOnce(&mut ToUpstream<'_>)) -> String {
    let mut positions = Vec::new();
    let head = request::Head::parse(text.as_bytes(), &mut positions, LIMITS).unwrap();
    let node = Node::new(BaseUrl::parse("https://app.example:8443").unwrap(), NodeLive::new());
    let parts =
        Parts { id: [0; 16], issued: 0, expires: 9, org: "acme", user: "u1", email: "ann@acme.example", app: None };
    let session = Session::new(parts).unwrap();
    let token = Token::authorization(&Secret::new("Bearer spn".into()), &[("X-Trino-User".into(), "spn".into())]);
    let mut outgoing = ToUpstream {
        head: &head,
        node: &node,
        prefix: 0,
        manner: None,
        host: HostSeen::Own,
        uncompressed: false,
        attributes: false,
        held: None,
        signer: None,
        token: Some(&token),
        drop_authorization: true,
        drop_referer: false,
        origin: Origin::Absent,
        upgrade: None,
        session: Some(&session),
        peer: &Peer::new([192, 0, 2, 1].into()),
        trusted: false,
        scheme: Scheme::Https,
        request_id: &[b'0'; 32],
    };
    change(&mut outgoing);
    let mut out = Vec::new();
    outgoing.write(&mut out);
    String::from_utf8(out).unwrap()
}

fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[test]
fn identity_is_ours_whatever_the_client_claims() {
    let head = to_upstream(
        "GET /a?b HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer ~1.k.x\r\nX-Forwarded-User: root\r\nx_forwarded_email: root\r\n\
         X-Embedgate_Org: other\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 1.2.3.4\r\n\
         X_Request_Id: mine\r\nX-Request-Id: mine\r\nProxy: x\r\nContent_Length: 5\r\nX-Custom: kept\r\n\r\n",
        |_| {},
    );
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\nHost: app.example:8443\r\n"), "{head}");
    for (name, expected) in [
        ("authorization", vec!["Bearer spn"]),
        ("x-forwarded-user", vec!["u1"]),
        ("x-forwarded-email", vec!["ann@acme.example"]),
        ("x-embedgate-org", vec!["acme"]),
        ("x-forwarded-for", vec!["192.0.2.1"]),
        ("x-forwarded-proto", vec!["https"]),
        ("x-request-id", vec!["00000000000000000000000000000000"]),
        ("x-custom", vec!["kept"]),
    ] {
        assert_eq!(values(&head, name), expected, "{name}");
    }
    for gone in [
        "x_forwarded_email",
        "x-embedgate_org",
        "forwarded",
        "x-forwarded-host",
        "x-real-ip",
        "x_request_id",
        "proxy",
        "content_length",
    ] {
        assert!(values(&head, gone).is_empty(), "{gone} in {head}");
    }
    assert!(!head.contains("~1.") && !head.contains("gate\r\n"), "{head}");
}

#[test]
fn a_connection_field_cannot_take_ours_away() {
    let head = to_upstream(
        "GET / HTTP/1.1\r\nHost: gate\r\nConnection: close, X-Forwarded-User, Authorization, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n\r\n",
        |_| {},
    );
    assert_eq!(values(&head, "x-forwarded-user"), ["u1"]);
    assert_eq!(values(&head, "authorization"), ["Bearer spn"]);
    for gone in ["x-hop", "connection", "keep-alive", "te"] {
        assert!(values(&head, gone).is_empty(), "{gone} in {head}");
    }
}

#[test]
fn our_cookie_and_its_traces_stay_here() {
    let head = to_upstream(
        "GET / HTTP/1.1\r\nHost: gate\r\nCookie: a=1; __Host-embedgate=~1.k.x\r\nCookie: embedgate=y\r\nReferer: https://gate/.embedgate/session?token=z\r\n\r\n",
        |_| {},
    );
    assert_eq!(values(&head, "cookie"), ["a=1"]);
    assert!(values(&head, "referer").is_empty(), "{head}");
}

#[test]
fn sealed_tokens_are_known_by_sight() {
    let long = format!("https://gate/app-proxy/{}/aws/x/", "A".repeat(76));
    for address in ["/~1.k1.abc/", "/x?token=~1.k1.abc", &long, &long[12..]] {
        assert!(holds_token(address.as_bytes()), "{address}");
    }
    for address in ["/", "/app-proxy/editor/", "/app-proxy/editor", "https://gate/app-proxy/editor/a/b?c"] {
        assert!(!holds_token(address.as_bytes()), "{address}");
    }
}

#[test]
fn origin_is_the_apps_own_and_the_path_is_cut() {
    let text = "GET /app-proxy/e?x=1 HTTP/1.1\r\nHost: gate\r\nOrigin: https://gate\r\nReferer: https://gate/p\r\n\r\n";
    let head = to_upstream(text, |to| {
        to.origin = Origin::Own;
        to.prefix = "/app-proxy/e".len();
    });
    assert!(head.starts_with("GET /?x=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(values(&head, "origin"), ["https://app.example:8443"]);
    assert_eq!(values(&head, "referer"), ["https://gate/p"]);
}

#[test]
fn trusted_proxies_are_believed() {
    let text = "GET / HTTP/1.1\r\nHost: gate\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n";
    let head = to_upstream(text, |to| to.trusted = true);
    assert_eq!(values(&head, "x-forwarded-for"), ["203.0.113.7, 10.0.0.1, 192.0.2.1"]);
    assert_eq!(values(&head, "x-forwarded-proto"), ["http"]);
}

#[test]
fn framing_stays_as_the_client_chose_it() {
    let head = |text: &str| to_upstream(text, |_| {});
    let chunked = head("POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(values(&chunked, "transfer-encoding"), ["chunked"]);
    let length = head("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n");
    assert_eq!(values(&length, "content-length"), ["7"]);
    assert_eq!(values(&head("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n"), "content-length"), ["0"]);
    assert!(values(&head("GET / HTTP/1.1\r\nHost: g\r\n\r\n"), "content-length").is_empty());
}

#[test]
fn an_anonymous_principal_leaves_the_apps_own_credential_alone() {
    let text = "GET / HTTP/1.1\r\nHost: g\r\nAuthorization: token jupyter\r\n\r\n";
    let head = to_upstream(text, |to| {
        to.token = None;
        to.drop_authorization = false;
    });
    assert_eq!(values(&head, "authorization"), ["token jupyter"]);
}

fn to_client(text: &str, framing: Framing) -> String {
    to_client_framed(text, framing, None)
}

fn to_client_framed(text: &str, framing: Framing, frames: Option<&str>) -> String {
    let mut positions = Vec::new();
    let head = response::Head::parse(text.as_bytes(), &mut positions, LIMITS, false).unwrap();
    let mut out = Vec::new();
    let (outside, connection) = (Outside::default(), Some("close"));
    let (changed, trailers) = (false, false);
    ToClient {
        head: &head,
        ours: true,
        cookie: None,
        frames,
        outside,
        leads: &Leads::AsTold,
        changed,
        framing,
        trailers,
        held: None,
        connection,
    }
    .write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_cookie_of_ours_makes_an_answer_private() {
    for (lines, caching) in [
        ("", &["private"][..]),
        ("Cache-Control: no-cache\r\n", &["no-cache", "private"]),
        ("Cache-Control: private=\"x-a\"\r\n", &["private=\"x-a\"", "private"]),
        ("Cache-Control: no-cache\r\nCache-Control: no-store\r\n", &["no-cache", "no-store"]),
        ("Cache-Control: Private, max-age=0\r\n", &["Private, max-age=0"]),
        // What concerns the hop does not go on, so the client has not been told.
        ("Connection: Cache-Control\r\nCache-Control: private\r\n", &["private"]),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: embedgate=x\r\n{lines}\r\n");
        let mut positions = Vec::new();
        let head = response::Head::parse(text.as_bytes(), &mut positions, LIMITS, false).unwrap();
        let (cookie, framing) = (Some("embedgate=ours; Path=/"), Framing::Length(0));
        let mut out = Vec::new();
        ToClient {
            head: &head,
            ours: true,
            cookie,
            frames: None,
            outside: Outside::default(),
            leads: &Leads::AsTold,
            changed: false,
            framing,
            trailers: false,
            held: None,
            connection: None,
        }
        .write(&mut out);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(values(&out, "set-cookie"), ["a=b", "embedgate=ours; Path=/"], "{lines}");
        assert_eq!(values(&out, "cache-control"), caching, "{lines}");
    }
}

#[test]
fn answers_pass_without_what_concerns_the_hop_or_us() {
    let head = to_client(
        "HTTP/1.1 203 Fine By Me\r\nX-a: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\nSet-Cookie: a=b; Path=/\r\n\
         Set-Cookie: embedgate=stolen\r\nSet-Cookie: =embedgate=stolen\r\nSet-Cookie: wide=1; domain=.apps.example.com; Secure\r\n\
         WWW-Authenticate: Basic\r\nSet-Cookie: __Host-embedgate-e=x; Path=/\r\nContent-Length: 3\r\n\r\n",
        Framing::Length(3),
    );
    let expected = "HTTP/1.1 203 Fine By Me\r\nX-a: 1\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: wide=1; Secure\r\nContent-Length: 3\r\nConnection: close\r\n\r\n";
    assert_eq!(head, expected);
    let not_modified = to_client("HTTP/1.1 304 x\r\nContent-Length: 99\r\n\r\n", Framing::Empty);
    assert_eq!(values(&not_modified, "content-length"), ["99"]);
}

#[test]
fn front_ends_may_frame_and_the_rest_of_a_policy_stays() {
    let ours = "frame-ancestors 'self' https://front.example";
    let framed = |lines: &str| {
        let head = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
        let head = to_client_framed(&head, Framing::Length(0), Some(ours));
        assert!(values(&head, "x-frame-options").is_empty(), "{head}");
        values(&head, "content-security-policy").iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(framed("X-Frame-Options: DENY\r\n"), [ours]);
    assert_eq!(
        framed("Content-Security-Policy: default-src 'self'; Frame-Ancestors 'none'; img-src *\r\n"),
        [format!("default-src 'self'; {ours}; img-src *")]
    );
    assert_eq!(framed("Content-Security-Policy: default-src 'self'\r\n"), ["default-src 'self'", ours]);
    assert_eq!(
        framed("Content-Security-Policy: frame-ancestors 'self', img-src *\r\n"),
        [format!("{ours}, img-src *")]
    );
    let untouched = "HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(values(&to_client(untouched, Framing::Length(0)), "x-frame-options"), ["DENY"]);
}
