//! What readers give back and report.

use super::*;
use crate::config::tree::parse_file;

/// Reads a text and gives back the mistakes as `line key: message`.
fn mistakes(text: &str, read: impl FnOnce(&Section<'_>)) -> Vec<String> {
    let mut report = Report::new(Path::new("conf/f.toml"));
    let root = parse_file(text, &mut report);
    read(&Section::root(&root, &report, &["name", "size", "flag", "time", "list", "table"]));
    let found = report.finish().err().map(|mistakes| mistakes.0).unwrap_or_default();
    found.into_iter().map(|m| format!("{} {}: {}", m.line.unwrap_or(0), m.key, m.message)).collect()
}

#[test]
fn wrong_kinds_are_named() {
    let text = "name = 5\nsize = '5'\nflag = 'true'\ntime = 30\nlist = 'a'\ntable = []\n";
    let found = mistakes(text, |section| {
        section.or("name", None, |item| item.text().map(Some));
        section.or("size", 7_u64, |item| item.integer(0..=9));
        section.or("flag", false, Item::boolean);
        assert_eq!(section.seconds("time", 1), Duration::from_secs(1));
        assert_eq!(section.list("list", Item::text), Vec::<&str>::new());
        assert!(section.optional("table", &[]).is_none());
    });
    assert_eq!(
        found,
        [
            "1 name: expected a string in quotes, found a whole number",
            "2 size: expected a whole number, found a string",
            "3 flag: expected true or false, without quotes, found a string",
            "4 time: expected a duration in quotes such as \"30s\" or \"1h30m\", found a whole number",
            "5 list: expected an array in [ ], found a string",
            "6 table: expected a table, found an array",
        ]
    );
}

#[test]
fn values_and_defaults() {
    let text = "name = 'x'\nsize = 8\nlist = ['a', '']\n";
    let found = mistakes(text, |section| {
        assert_eq!(section.or("size", 1_usize, |item| item.integer(1..=8)), 8);
        assert_eq!(section.seconds("time", 3), Duration::from_secs(3));
        assert_eq!(section.list("list", Item::text), ["a"]);
        assert_eq!(section.get("name").and_then(|item| item.path()), Some(PathBuf::from("conf/x")));
        assert!(section.section("table", &["in"]).require("in", "write in = 1").is_none());
    });
    assert_eq!(found, ["3 list[#2]: must not be empty", "0 table.in: is missing; write in = 1"]);
}

#[test]
fn numbers_and_times_out_of_range() {
    let found = mistakes("size = 99999999999999999999\ntime = '0s'\nname = 'b'", |section| {
        section.or("size", 0_usize, |item| item.integer(1..=8));
        assert_eq!(section.seconds("time", 3), Duration::from_secs(3));
        section.or("name", 0, |item| item.one_of(&[("text", 1), ("json", 2)]));
    });
    assert_eq!(
        found,
        [
            "1 size: out of range; write a number from 1 to 8",
            "2 time: must be longer than 0; write a duration such as \"500ms\" or \"30s\"",
            "3 name: \"b\" is not known here; known here: text, json",
        ]
    );
}

#[test]
fn unknown_keys_get_a_hint() {
    let found = mistakes("naem = 1\nSIZE = 2\n\"a\\u001bb\" = 3\n[[lsit]]\n", |_| {});
    assert_eq!(
        found,
        [
            "1 naem: unknown key; did you mean \"name\"?",
            "2 SIZE: unknown key; did you mean \"size\"?",
            "3 \"a\\u{1b}b\": unknown key; known here: name, size, flag, time, list, table",
            "4 lsit: unknown key; did you mean \"list\"?",
        ]
    );
}

#[test]
fn elements_are_called_by_their_id() {
    let found = mistakes("[[list]]\nid = 'a'\nx = 1\n[[list]]\nx = 1\n", |section| {
        assert_eq!(section.sections("list", &["id"]).len(), 2);
    });
    assert_eq!(found, ["3 list[a].x: unknown key; known here: id", "5 list[#2].x: unknown key; known here: id"]);
    let found = mistakes("[table]\n[table.list]\nid = 'a'", |section| {
        assert!(section.section("table", &["list"]).sections("list", &["id"]).is_empty());
    });
    assert_eq!(found, ["2 table.list: expected an array of tables, found a single one; write [[table.list]]"]);
}

#[test]
fn distances() {
    for (from, to, steps) in
        [("", "", 0), ("listen", "listen", 0), ("lisetn", "listen", 1), ("listn", "listen", 1), ("ab", "xy", 2)]
    {
        assert_eq!(distance(from, to), steps, "{from} {to}");
    }
}
