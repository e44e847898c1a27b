use super::*;

const LIMITS: Limits = Limits { bytes: 4096, fields: 20 };

fn parse(text: &str) -> Result<(String, String, Framing, bool), HeadError> {
    let mut end = HeadEnd::default();
    let length = end.find(text.as_bytes(), LIMITS.bytes)?.ok_or(Malformed("unfinished"))?;
    let mut positions = Vec::new();
    let head = Head::parse(&text.as_bytes()[..length], &mut positions, LIMITS)?;
    Ok((head.target.to_owned(), head.authority.to_owned(), head.framing, head.keep_alive))
}

fn get(lines: &str) -> Result<(String, String, Framing, bool), HeadError> {
    parse(&format!("GET /a?b HTTP/1.1\r\nHost: x\r\n{lines}\r\n"))
}

#[test]
fn an_ordinary_request() {
    assert_eq!(get(""), Ok(("/a?b".into(), "x".into(), Framing::Empty, true)));
    assert_eq!(get("Connection: close\r\n").map(|h| h.3), Ok(false));
    assert_eq!(parse("\r\nGET / HTTP/1.0\r\n\r\n"), Ok(("/".into(), String::new(), Framing::Empty, false)));
    assert_eq!(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").map(|h| h.3), Ok(true));
    assert_eq!(parse("GET http://X/y HTTP/1.1\r\nHost: x\r\n\r\n").map(|h| h.0), Ok("/y".into()));
    assert_eq!(parse("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n").map(|h| h.0), Ok("/".into()));
}

#[test]
fn framing_has_one_reading() {
    assert_eq!(get("Content-Length: 5\r\n").map(|h| h.2), Ok(Framing::Length(5)));
    assert_eq!(get("Content-Length: 0\r\n").map(|h| h.2), Ok(Framing::Empty));
    assert_eq!(get("Content-Length: 5\r\nContent-Length: 5\r\n").map(|h| h.2), Ok(Framing::Length(5)));
    assert_eq!(get("transfer-encoding: Chunked\r\n").map(|h| h.2), Ok(Framing::Chunked));
    for bad in [
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length:",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: -1",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        assert!(matches!(get(&format!("{bad}\r\n")), Err(Malformed(_))), "{bad:?}");
    }
    assert!(parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
}

#[test]
fn lines_are_strict() {
    for bad in [
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /#f HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA\t: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\u{e9}: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
        "GET / http/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        "GET / HTTP/01.1\r\nHost: x\r\n\r\n",
        "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\r\nHost: x\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x,y\r\n\r\n",
    ] {
        assert!(matches!(parse(bad), Err(Malformed(_))), "{bad:?} gave {:?}", parse(bad));
    }
}

#[test]
fn values_are_cut_out_of_the_white_space_around_them() {
    let text =
        b"ODD / HTTP/1.1\r\nhOsT:\t x \t\r\nEmpty:\r\nBlank: \t \r\nA:b\tc  d\r\nObs: \x80\xff\r\n'~!: :\r\n\r\n";
    let mut positions = Vec::new();
    let head = Head::parse(text, &mut positions, LIMITS).unwrap();
    let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
    let expected: [(&[u8], &[u8]); 6] =
        [(b"hOsT", b"x"), (b"Empty", b""), (b"Blank", b""), (b"A", b"b\tc  d"), (b"Obs", b"\x80\xff"), (b"'~!", b":")];
    assert_eq!((head.method, head.authority, fields), ("ODD", "x", expected.to_vec()));
}

#[test]
fn a_host_behind_bytes_that_are_no_text_is_found() {
    let text = b"GET /a HTTP/1.1\r\nA: \xff\r\nHost: x\r\n\r\n";
    let mut positions = Vec::new();
    let head = Head::parse(text, &mut positions, LIMITS).unwrap();
    assert_eq!((head.target, head.authority), ("/a", "x"));
}

#[test]
fn methods_and_expectations() {
    assert_eq!(parse("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n").map(|_| ()), Err(HeadError::Method));
    assert_eq!(parse("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n").map(|_| ()), Err(HeadError::Method));
    assert_eq!(get("Expect: tea\r\n").map(|_| ()), Err(HeadError::Expectation));
}

#[test]
fn limits_hold() {
    let fields = "A: b\r\n".repeat(20);
    assert_eq!(get(&fields).map(|_| ()), Err(HeadError::TooManyFields));
    let long = format!("A: {}\r\n", "b".repeat(5000));
    assert_eq!(get(&long).map(|_| ()), Err(HeadError::TooLong));
    let mut end = HeadEnd::default();
    assert_eq!(end.find(&[b'a'; 4096], 4096), Err(HeadError::TooLong));
}

#[test]
fn the_end_is_found_however_the_bytes_arrive() {
    let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody\r\n\r\n";
    let length = text.len() - b"body\r\n\r\n".len();
    let mut end = HeadEnd::default();
    for n in 0..length {
        assert_eq!(end.find(&text[..n], 4096), Ok(None), "{n}");
    }
    assert_eq!(end.find(text, 4096), Ok(Some(length)));
}

#[test]
fn the_end_is_found_wherever_it_is_and_no_bare_line_feed_is_passed() {
    for length in 0..100 {
        let mut text = format!("\r\nGET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(length)).into_bytes();
        let end = text.len();
        text.extend_from_slice(b"POST / HTTP/1.1\n");
        for whole in [&text[..], &text[..end]] {
            assert_eq!(HeadEnd::default().find(whole, 4096), Ok(Some(end)));
        }
        for at in (0..end - 4).filter(|at| text[*at] == b'b') {
            let mut bare = text.clone();
            bare[at] = b'\n';
            assert_eq!(HeadEnd::default().find(&bare, 4096), Err(Malformed("a line does not end with CR LF")), "{at}");
            // What comes at once is found by its empty line alone, and then does not parse.
            let (whole, mut positions) = (&bare[2..], Vec::new());
            assert_eq!(HeadEnd::default().find(whole, 4096), Ok(Some(end - 2)));
            let parsed = Head::parse(&whole[..end - 2], &mut positions, LIMITS);
            assert!(matches!(parsed, Err(Malformed(_))), "{at}");
        }
    }
}

#[test]
fn an_answer_has_no_empty_lines_before_it() {
    let mut end = HeadEnd::of_answer();
    assert_eq!(end.find(b"\r\nHTTP/1.1 200 OK\r\n\r\n", 4096), Ok(Some(2)));
}

#[test]
fn what_may_stand_once_stands_once() {
    assert!(get("Authorization: Basic x\r\nAuthorization: Bearer y\r\n").is_err());
    let options = "a,".repeat(33);
    assert!(get(&format!("Connection: {options}\r\n")).is_err());
}

#[test]
fn upgrades_need_connection_and_no_body() {
    let parse = |lines: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        let mut positions = Vec::new();
        Head::parse(text.as_bytes(), &mut positions, LIMITS).map(|h| h.upgrade.map(str::to_owned))
    };
    assert_eq!(parse("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"), Ok(Some("websocket".into())));
    assert_eq!(parse("Upgrade: websocket\r\n"), Ok(None));
    assert!(parse("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n").is_err());
    assert!(parse("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n").is_err());
}
