//! A TOML text as a tree in which every value remembers where it was written.
//!
//! The parser's own tree borrows from the text and knows offsets; values put over it from the environment belong to other
//! texts. This tree owns its values and knows lines or variables, so that both kinds can stand in it side by side.

use super::mistake::{Damage, Place, Report};
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// A value. It has no `Debug`, because texts may be secrets.
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number; one too large for the type is the largest of it, which no range admits.
    Integer(i128),
    /// A number with a fraction; not a number where it was written so or cannot be held.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date or time.
    Datetime,
    /// A list.
    Array(Vec<Node>),
    /// A section or an inline table.
    Table(Table),
}

impl Value {
    /// What it is called in a sentence.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Datetime => "a date or time",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// A value and where it was written.
pub struct Node {
    /// The value.
    pub value: Value,
    /// The place of the value; of a section, its header.
    pub place: Place,
}

/// A value in a table, with the place of its key.
pub struct Entry {
    /// The place of the key.
    pub key_place: Place,
    /// The value.
    pub node: Node,
}

/// Keys and values, in the order of the keys.
pub type Table = BTreeMap<String, Entry>;

/// Reads a whole file. Errors of syntax go to the report; the tree then holds what could be read in spite of them.
pub fn parse_file(text: &str, report: &mut Report) -> Node {
    let lines = Lines::of(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut damage = Damage::default();
    for error in errors {
        // Without a place it concerns the end of the text.
        let line = lines.number(error.span().map_or(text.len(), |span| span.start));
        // One error makes the parser stumble several times, and where the structure is lost nearly everywhere; what it
        // says first is what helps.
        if damage.from.is_some_and(|from| line >= from) || !damage.lines.insert(line) {
            continue;
        }
        let message = error.message();
        report.add(&Place::Line(line), "", format!("this is not valid TOML: {message}{}", lines.hint(line)));
        if message != "duplicate key" && !lines.is_pair(line) {
            damage.from = Some(line);
        }
    }
    report.set_damage(damage);
    let place = |offset| Place::Line(lines.number(offset));
    Node { value: Value::Table(table(root.into_inner(), &place)), place: Place::Nowhere }
}

/// Reads a single value, as it stands after a `=`. `None` when the text is not one.
#[must_use]
pub fn parse_value(text: &str, place: &Place) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(node(value, &|_| place.clone()))
}

fn node(value: Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Place) -> Node {
    let at = place(value.span().start);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Integer(integer(&number)),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::Array(items.into_iter().map(|item| node(item, place)).collect()),
        DeValue::Table(entries) => Value::Table(table(entries, place)),
    };
    Node { value, place: at }
}

fn table(entries: DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Table {
    let entry = |(key, value): (Spanned<std::borrow::Cow<'_, str>>, Spanned<DeValue<'_>>)| {
        let key_place = place(key.span().start);
        (key.into_inner().into_owned(), Entry { key_place, node: node(value, place) })
    };
    entries.into_iter().map(entry).collect()
}

fn integer(number: &DeInteger<'_>) -> i128 {
    let limit = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
    i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(limit)
}

/// From offsets in a text to the numbers of its lines.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The number, from 1, of the line that holds the byte at `offset`.
    fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    fn line(&self, number: usize) -> &'t str {
        let start = self.starts[number - 1];
        self.text[start..].lines().next().unwrap_or("").trim()
    }

    /// Whether the line looks like a complete `key = value`, so that an error in it does not reach beyond it. A header
    /// that is broken, and an array or a long string left open, change the meaning of the lines that follow.
    fn is_pair(&self, number: usize) -> bool {
        let line = self.line(number);
        let opens = line.matches(['[', '{']).count() != line.matches([']', '}']).count();
        let starts_with_key = line.starts_with(|c: char| c.is_ascii_alphanumeric() || "_-\"'".contains(c));
        starts_with_key && !opens && !line.contains("\"\"\"") && !line.contains("'''")
    }

    /// What is most often wrong with a line and not said by the parser, which takes bare words for numbers.
    fn hint(&self, number: usize) -> &'static str {
        let bare = |(_, value): (&str, &str)| {
            let word = value.split_whitespace().next().unwrap_or("");
            word.starts_with(|c: char| c.is_alphanumeric() || c == '/')
                && !["true", "false"].contains(&word)
                && word.parse::<f64>().is_err()
        };
        if self.line(number).split_once('=').is_some_and(bare) { "; a text needs quotes around it" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The place and kind of every value, by dotted key, and the lines of the mistakes.
    fn outline(text: &str) -> (Vec<String>, Vec<Option<usize>>) {
        fn walk(node: &Node, key: &str, out: &mut Vec<String>) {
            if let Place::Line(line) = node.place {
                out.push(format!("{line} {key} {}", node.value.kind()));
            }
            match &node.value {
                Value::Table(table) => table.iter().for_each(|(name, e)| walk(&e.node, &format!("{key}.{name}"), out)),
                Value::Array(items) => items.iter().for_each(|item| walk(item, &format!("{key}[]"), out)),
                _ => {}
            }
        }
        let mut report = Report::new(Path::new("f"));
        let root = parse_file(text, &mut report);
        let mut out = Vec::new();
        walk(&root, "", &mut out);
        let lines = report.finish().err().map(|m| m.0.iter().map(|m| m.line).collect()).unwrap_or_default();
        (out, lines)
    }

    #[test]
    fn values_know_their_lines() {
        let (out, mistakes) =
            outline("# top\n[a]\nb = 'x'\nc = [1,\n 2.5]\n\n[[d]]\ne = { f = true }\r\n[[d]]\ng = 1979-05-27\n");
        assert_eq!(mistakes, []);
        assert_eq!(
            out,
            [
                "2 .a a table",
                "3 .a.b a string",
                "4 .a.c an array",
                "4 .a.c[] a whole number",
                "5 .a.c[] a number with a fraction",
                "7 .d an array",
                "7 .d[] a table",
                "8 .d[].e a table",
                "8 .d[].e.f true or false",
                "9 .d[] a table",
                "10 .d[].g a date or time",
            ]
        );
    }

    #[test]
    fn errors_of_syntax_do_not_hide_one_another() {
        let (out, mistakes) = outline("[a]\nb = \nc = 'x\nd = 5\ne = 1h\nd = 6\n[f]\ng = true\n");
        assert_eq!(mistakes, [Some(2), Some(3), Some(5), Some(6)]);
        assert!(out.contains(&"4 .a.d a whole number".to_owned()), "{out:?}");
        assert!(out.contains(&"8 .f.g true or false".to_owned()), "{out:?}");
        // Where an array is left open, everything after it seems wrong; that is not worth a report for each line.
        assert_eq!(outline("a = [\nb = 1\n[c]\nd = 1\ne = 1\n").1, [Some(2), Some(3)]);
        // A section written twice does not hide anything.
        assert_eq!(outline("[a]\n[a]\nb = x\n").1, [Some(2), Some(3)]);
    }

    #[test]
    fn forgotten_quotes_are_pointed_out() {
        let hinted = |line: &str| !Lines::of(line).hint(1).is_empty();
        assert!(["a = info", "a = 1h", "a = 0.0.0.0:80", "a = /etc/x"].into_iter().all(hinted));
        assert!(!["a = 1 1", "a = true x", "a = 'x", "a = [", "a =", "a"].into_iter().any(hinted));
    }

    #[test]
    fn nothing_makes_the_reader_panic() {
        for text in [
            "",
            "\u{feff}a = 1",
            "[",
            "[[a",
            "a",
            "=",
            "a = [",
            "a = {",
            "a = \"\"\"",
            "[a]\n[a]",
            "[[a]]\n[a]",
            "a=1\n[a.b]",
        ] {
            outline(text);
        }
        outline(&"a=[".repeat(5_000));
        outline(&format!("a = {}", "[".repeat(5_000)));
        outline(&format!("[{}a]", "a.".repeat(5_000)));
    }

    #[test]
    fn numbers_keep_their_size_and_sign() {
        let value = |text: &str| match parse_value(text, &Place::Nowhere).map(|node| node.value) {
            Some(Value::Integer(number)) => Some(number),
            _ => None,
        };
        assert_eq!(value("0x1_0"), Some(16));
        assert_eq!(value("-12"), Some(-12));
        assert_eq!(value(&"9".repeat(60)), Some(i128::MAX));
        assert_eq!(value("1h"), None);
    }
}
