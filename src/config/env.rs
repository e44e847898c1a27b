//! Environment variables: the values they put over the file, and the secrets they hold.

use super::mistake::{Place, Report};
use super::reader::dotted;
use super::tree::{Entry, Node, Table, Value, parse_value};
use std::collections::BTreeMap;

/// Environment variables by name. It is handed in, so that a test never touches those of its process.
pub type Env = BTreeMap<String, String>;

/// What the names of overrides begin with. `EMBEDGATE_CONFIG`, with one underscore, is none of them.
pub const PREFIX: &str = "EMBEDGATE__";

/// The variables of this process. Those that are not UTF-8 are left out: no name or value of ours can be such.
#[must_use]
pub fn process() -> Env {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Puts every `EMBEDGATE__SECTION__KEY` over the tree of a file: two underscores go one level down, names become lower
/// case. A value is what it would be in the file; what is no TOML value is a string without its quotes.
///
/// Shorter names come first, so that a variable for a key wins over one for its whole section.
pub fn apply(root: &mut Node, env: &Env, report: &Report) {
    for (name, text) in env.range(PREFIX.to_owned()..) {
        let Some(path) = name.strip_prefix(PREFIX) else { break };
        let path: Vec<_> = path.split("__").map(str::to_ascii_lowercase).collect();
        let place = Place::Variable(name.clone());
        if path.iter().any(String::is_empty) {
            report.add(&place, "", "names no key; write it as EMBEDGATE__SECTION__KEY");
            continue;
        }
        let value = parse_value(text.trim(), &place)
            .unwrap_or_else(|| Node { value: Value::Text(text.clone()), place: place.clone() });
        put(root, &path, value, &place, report);
    }
}

/// Walks down to the table that holds the last part of the path, making what is missing, and sets the value there.
pub(super) fn put(root: &mut Node, path: &[String], value: Node, place: &Place, report: &Report) {
    let mut at = root;
    let mut key = String::new();
    for (depth, part) in path.iter().enumerate() {
        let Value::Table(table) = &mut at.value else {
            report.add(place, &key, "is not a section; set it as a whole with a TOML value, such as [\"a\", \"b\"]");
            return;
        };
        key = dotted(&key, part);
        if depth + 1 == path.len() {
            table.insert(part.clone(), Entry { key_place: place.clone(), node: value });
            return;
        }
        let new = || Entry {
            key_place: place.clone(),
            node: Node { value: Value::Table(Table::new()), place: place.clone() },
        };
        at = &mut table.entry(part.clone()).or_insert_with(new).node;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::parse_file;
    use std::path::Path;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The tree as text after the overrides, and the mistakes.
    fn applied(text: &str, pairs: &[(&str, &str)]) -> (String, String) {
        fn show(node: &Node) -> String {
            match &node.value {
                Value::Text(text) => format!("{text:?}"),
                Value::Integer(number) => number.to_string(),
                Value::Boolean(flag) => flag.to_string(),
                Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
                Value::Table(table) => {
                    let pairs: Vec<_> = table.iter().map(|(key, e)| format!("{key}={}", show(&e.node))).collect();
                    format!("{{{}}}", pairs.join(" "))
                }
                other => other.kind().to_owned(),
            }
        }
        let mut report = Report::new(Path::new("f"));
        let mut root = parse_file(text, &mut report);
        apply(&mut root, &env(pairs), &report);
        (show(&root), report.finish().err().map(|mistakes| mistakes.to_string()).unwrap_or_default())
    }

    #[test]
    fn values_replace_and_insert() {
        let (tree, mistakes) = applied(
            "[server]\nworkers = 1\n",
            &[
                ("EMBEDGATE__SERVER__WORKERS", " 4 "),
                ("EMBEDGATE__SERVER__LISTEN", "0.0.0.0:80"),
                ("EMBEDGATE__SERVER__TLS__CERT", "a.crt"),
                ("EMBEDGATE__LOG__ACCESS", "false"),
                ("EMBEDGATE__LOG__LEVEL", "\"debug\""),
                ("EMBEDGATE__SESSION__TTL", "1h"),
                ("EMBEDGATE__SESSION__KEYS", "[{ id = 'k1', env = 'X' }]"),
                ("EMBEDGATE__ROUTING", "{ base_domain = 'a.b', public_hosts = [] }"),
                ("EMBEDGATE__ROUTING__BASE_DOMAIN", "c.d"),
                ("EMBEDGATE_CONFIG", "x.toml"),
                ("EMBEDGATE_SESSION_KEY", "00"),
                ("HOME", "/"),
            ],
        );
        assert_eq!(
            tree,
            "{log={access=false level=\"debug\"} routing={base_domain=\"c.d\" public_hosts=[]} \
             server={listen=\"0.0.0.0:80\" tls={cert=\"a.crt\"} workers=4} \
             session={keys=[{env=\"X\" id=\"k1\"}] ttl=\"1h\"}}"
        );
        assert_eq!(mistakes, "");
    }

    #[test]
    fn odd_names_are_mistakes() {
        let (tree, mistakes) = applied(
            "[server]\nlisten = 'a'\n",
            &[("EMBEDGATE__", "1"), ("EMBEDGATE__A____B", "1"), ("EMBEDGATE__SERVER__LISTEN__PORT", "1")],
        );
        assert_eq!(tree, "{server={listen=\"a\"}}");
        assert_eq!(
            mistakes,
            "f: in EMBEDGATE__: names no key; write it as EMBEDGATE__SECTION__KEY\n\
             f: in EMBEDGATE__A____B: names no key; write it as EMBEDGATE__SECTION__KEY\n\
             f: server.listen: in EMBEDGATE__SERVER__LISTEN__PORT: is not a section; set it as a whole with a TOML value, such as [\"a\", \"b\"]"
        );
    }
}
