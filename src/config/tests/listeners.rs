//! `[server.tls]` and what clients may use up.

use super::*;

#[test]
fn certificates_come_in_pairs() {
    let text = "[server.tls]\ncert = 'a'\nkey = 'b'\nstrict_sni = true\ncertificates = [{ cert = 'c', key = '/d' }]\n";
    let tls = accepted(text).server.tls.unwrap();
    assert_eq!((tls.default, tls.certificates), (pair("etc/a", "etc/b"), vec![pair("etc/c", "/d")]));
    assert!(tls.strict_sni && tls.ticket_keys.is_empty());
    let keys = text.replace("strict_sni = true", "ticket_keys = [{ file = 'n' }, { env = 'K' }]");
    let shared = parse(&format!("{MINIMAL}{keys}"), &[("K", "k")]).unwrap().server.tls.unwrap().ticket_keys;
    assert_eq!(shared, [KeySource::File("etc/n".into()), KeySource::Env("K".into())]);
    assert_eq!(
        mistakes(&keys.replace("file = 'n'", "file = 'n', env = 'K'"), &[("K", "k")]),
        ["5 server.tls.ticket_keys[#1].env: has both a file and an env; keep one of them"]
    );
    let found = mistakes("[server.tls]\ncert = 'a'\nkey = 'b'\ncertificates = [\n{ cert = 'c' },\n'd']\n", &[]);
    assert_eq!(
        found,
        [
            "6 server.tls.certificates[#1].key: is missing; write key = \"tls.key\", the PEM file with the private key",
            "7 server.tls.certificates[#2]: expected a table, found a string",
        ]
    );
    let many =
        format!("server.tls = {{ cert = 'a', key = 'b', certificates = [{}] }}", "{cert='c',key='d'},".repeat(1001));
    assert_eq!(mistakes(&many, &[]), ["2 server.tls.certificates: has 1001 certificates; 1000 is the most"]);
    assert_eq!(
        mistakes("upstreams.client_key = 'k'", &[]),
        ["2 upstreams.client_cert: is missing; client_key needs it; write client_cert = \"client.crt\""]
    );
}

#[test]
fn the_windows_of_http_2_are_bounded_and_fit_one_another() {
    let limits = |text: &str| {
        shown(parse(&format!("session.keys = [{{ id = 'k', env = 'K' }}]\n[limits]\n{text}"), &[("K", "k")]))
    };
    assert_eq!(
        limits("http2_stream_window = 65534\nhttp2_connection_window = 67108865\nhttp2_max_requests = 0\n"),
        [
            "3 limits.http2_stream_window: out of range; write a number from 65535 to 16777216",
            "4 limits.http2_connection_window: out of range; write a number from 65535 to 67108864",
            "5 limits.http2_max_requests: out of range; write a number from 1 to 1000000000",
        ]
    );
    let less = "http2_connection_window is less than http2_stream_window, 2000000; write no less";
    assert_eq!(limits("http2_stream_window = 2000000"), [format!("2 limits: {less}")]);
    assert_eq!(
        limits("http2_stream_window = 2000000\nhttp2_connection_window = 1999999"),
        [format!("4 limits.http2_connection_window: {less}")]
    );
}
