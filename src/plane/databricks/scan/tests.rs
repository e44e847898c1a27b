//! Bodies that name a warehouse, and the many that only seem to.

use super::*;

/// What a body says, whole and byte by byte.
fn scan(body: &[u8]) -> Result<String, ScanError> {
    let in_pieces_of = |size: usize| {
        let mut scanner = Scanner::new();
        body.chunks(size).try_for_each(|piece| scanner.push(piece))?;
        scanner.finish().map(|(warehouse, _)| warehouse)
    };
    let whole = in_pieces_of(body.len().max(1));
    for size in [1, 2, 3, 7] {
        assert_eq!(in_pieces_of(size), whole, "{:?} in pieces of {size}", String::from_utf8_lossy(body));
    }
    whole
}

#[test]
fn bodies_that_name_their_warehouse() {
    for body in [
        r#"{"warehouse_id":"a1"}"#,
        r#" { "warehouse_id" : "a1" , "statement" : "select 1" } "#,
        r#"{"statement":"select 1","warehouse_id":"a1"}"#,
        r#"{"statement":"select '{\"warehouse_id\":\"b2\"}' /* \\\" \u00e9 */","warehouse_id":"a1"}"#,
        r#"{"warehouse_id":"a1","parameters":[{"warehouse_id":"b2","name":"warehouse_id"},{"warehouse_id":["b2"]}]}"#,
        r#"{"query":{"warehouse_id":"b2","warehouse\u005fid":"b2"},"warehouse_id":"a1"}"#,
        r#"{"a":[],"b":{},"c":-0.5e+7,"d":0,"e":true,"f":false,"g":null,"h":1E9,"warehouse_id":"a1"}"#,
        "{\"statement\":\"Ünïcödé 漢字 🦀\u{7f}\",\"warehouse_id\":\"a1\"}\r\n\t",
    ] {
        assert_eq!(scan(body.as_bytes()), Ok("a1".to_owned()), "{body}");
    }
    let deep = format!(r#"{{"a":{}{},"warehouse_id":"a1"}}"#, "[".repeat(63), "]".repeat(63));
    assert_eq!(scan(deep.as_bytes()), Ok("a1".to_owned()));
}

#[test]
fn bodies_that_could_be_read_differently() {
    for (body, expected) in [
        (r#"{"warehouse_id":"a1","warehouse_id":"b2"}"#, ScanError::Twice),
        (r#"{"warehouse_id":"a1","warehouse_id":"a1"}"#, ScanError::Twice),
        (r#"{"warehouse_id":"a1","warehouse\u005fid":"b2"}"#, ScanError::Disguised),
        (r#"{"warehouse\u005fid":"a1"}"#, ScanError::Disguised),
        (r#"{"\u0077arehouse_id":"b2","warehouse_id":"a1"}"#, ScanError::Disguised),
        (r#"{"warehouseId":"b2","warehouse_id":"a1"}"#, ScanError::Disguised),
        (r#"{"Warehouse_ID":"b2","warehouse_id":"a1"}"#, ScanError::Disguised),
        (r#"{"warehouſe_id":"b2","warehouse_id":"a1"}"#, ScanError::Disguised),
        (r#"{"warehouse-id ":"b2","warehouse_id":"a1"}"#, ScanError::Disguised),
        (r#"{"warehouse_id":7}"#, ScanError::NotAnId),
        (r#"{"warehouse_id":null}"#, ScanError::NotAnId),
        (r#"{"warehouse_id":["a1"]}"#, ScanError::NotAnId),
        (r#"{"warehouse_id":{"id":"a1"}}"#, ScanError::NotAnId),
        (r#"{"warehouse_id":""}"#, ScanError::NotAnId),
        (r#"{"warehouse_id":"a1/../b2"}"#, ScanError::NotAnId),
        (r#"{"warehouse_id":"a\u0031"}"#, ScanError::NotAnId),
        (r#"{"warehouse_id":"a1\u0000"}"#, ScanError::NotAnId),
        (r#"{"statement":"select 1"}"#, ScanError::Missing),
        (r#"{"parameters":[{"warehouse_id":"a1"}]}"#, ScanError::Missing),
        ("{}", ScanError::Missing),
    ] {
        assert_eq!(scan(body.as_bytes()), Err(expected), "{body}");
    }
    let long = format!(r#"{{"warehouse_id":"{}"}}"#, "a".repeat(64));
    assert_eq!(scan(long.as_bytes()), Err(ScanError::NotAnId));
    let deep = format!(r#"{{"a":{}{},"warehouse_id":"a1"}}"#, "[".repeat(64), "]".repeat(64));
    assert_eq!(scan(deep.as_bytes()), Err(ScanError::TooDeep));
}

#[test]
fn what_is_no_json_object() {
    let id = r#""warehouse_id":"a1""#;
    for body in [
        String::new(),
        " ".into(),
        "7".into(),
        r#""warehouse_id""#.into(),
        format!("[{{{id}}}]"),
        format!("{{{id}"),
        format!("{{{id}}}}}"),
        format!("{{{id}}}{{{id}}}"),
        format!("{{{id}}} x"),
        format!("{{{id},}}"),
        format!("{{,{id}}}"),
        format!("{{{id} \"a\":1}}"),
        format!("{{\"a\":[1,],{id}}}"),
        format!("{{\"a\":[1}},{id}}}"),
        format!("{{\"a\":{{1]],{id}}}"),
        format!("{{\"a\"1,{id}}}"),
        format!("{{\"a\":,{id}}}"),
        format!("{{a:1,{id}}}"),
        format!("{{'a':1,{id}}}"),
        format!("{{\"a\":01,{id}}}"),
        format!("{{\"a\":+1,{id}}}"),
        format!("{{\"a\":1.,{id}}}"),
        format!("{{\"a\":.1,{id}}}"),
        format!("{{\"a\":1e,{id}}}"),
        format!("{{\"a\":-,{id}}}"),
        format!("{{\"a\":NaN,{id}}}"),
        format!("{{\"a\":True,{id}}}"),
        format!("{{\"a\":nul,{id}}}"),
        format!("{{\"a\":\"\n\",{id}}}"),
        format!("{{\"a\":\"\\x41\",{id}}}"),
        format!("{{\"a\":\"\\u00g0\",{id}}}"),
        format!("{{\"a\":\"b\"c,{id}}}"),
        format!("{{/* */{id}}}"),
        format!("{{//\n{id}}}"),
        format!("\u{feff}{{{id}}}"),
        format!("{{{id},\"a\":\"unfinished}}"),
    ] {
        assert_eq!(scan(body.as_bytes()), Err(ScanError::NotJson), "{body}");
    }
    let utf16: Vec<u8> = format!("{{{id}}}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(scan(&utf16), Err(ScanError::NotJson));
}

#[test]
fn texts_are_utf8() {
    let with = |bytes: &[u8]| [b"{\"a\":\"", bytes, b"\",\"warehouse_id\":\"a1\"}"].concat();
    for good in ["\u{80}", "\u{7ff}", "\u{800}", "\u{d7ff}", "\u{e000}", "\u{ffff}", "\u{10000}", "\u{10ffff}"] {
        assert!(scan(&with(good.as_bytes())).is_ok(), "{good:?}");
    }
    for bad in [
        &b"\x80"[..],
        b"\xc0\xa2",
        b"\xc1\xbf",
        b"\xc3",
        b"\xc3\x28",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
        b"\xe2\x82",
    ] {
        assert_eq!(scan(&with(bad)), Err(ScanError::NotJson), "{bad:x?}");
    }
}
