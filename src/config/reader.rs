//! The walk over a tree: takes typed values out of it and reports everything that does not fit.
//!
//! A reader never stops at a mistake. It reports it and goes on with a default or a stand-in; whoever started the walk
//! throws the result away when the report holds anything.

#[cfg(test)]
mod tests;

use super::duration;
use super::mistake::{Place, Report};
use super::tree::{Entry, Node, Table, Value};
use crate::model::ids::is_valid_id;
use std::fmt::{Display, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A value that is there, with its dotted key.
#[derive(Clone)]
pub struct Item<'t> {
    node: &'t Node,
    key: String,
    report: &'t Report,
}

impl<'t> Item<'t> {
    /// Where the value was written.
    #[must_use]
    pub fn place(&self) -> &'t Place {
        &self.node.place
    }

    /// Reports that the value is wrong.
    pub fn wrong(&self, message: impl Into<String>) {
        self.report.add(self.place(), &self.key, message);
    }

    /// Reports that the value points to something that is not there. Left out when the file is broken, for it may be there.
    pub fn wrong_missing(&self, message: impl Into<String>) {
        self.report.add_missing(self.place(), &self.key, message);
    }

    fn wrong_kind(&self, expected: &str) {
        self.wrong(format!("expected {expected}, found {}", self.node.value.kind()));
    }

    /// The value when it is a string, without reporting anything else.
    #[must_use]
    pub fn as_text(&self) -> Option<&'t str> {
        if let Value::Text(text) = &self.node.value { Some(text) } else { None }
    }

    /// The value when it is a table, without reporting anything else.
    #[must_use]
    pub fn as_table(&self) -> Option<&'t Table> {
        if let Value::Table(table) = &self.node.value { Some(table) } else { None }
    }

    /// A string, possibly empty.
    #[must_use]
    pub fn any_text(&self) -> Option<&'t str> {
        if self.as_text().is_none() {
            self.wrong_kind("a string in quotes");
        }
        self.as_text()
    }

    /// A string that is not empty.
    #[must_use]
    pub fn text(&self) -> Option<&'t str> {
        let text = self.any_text()?;
        if text.is_empty() {
            self.wrong("must not be empty");
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// A string that `parse` understands; its error is reported.
    pub fn parsed<T, E: Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        parse(self.text()?).map_err(|error| self.wrong(error.to_string())).ok()
    }

    /// One of a few words.
    #[must_use]
    pub fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(format!("{text:?} is not known here; {}", advice(text, &words)));
        }
        found
    }

    /// A whole number in a range.
    #[must_use]
    pub fn integer<T: TryFrom<i128>>(&self, range: RangeInclusive<i128>) -> Option<T> {
        let Value::Integer(number) = self.node.value else {
            self.wrong_kind("a whole number");
            return None;
        };
        let fitting = Some(number).filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        if fitting.is_none() {
            self.wrong(format!("out of range; write a number from {} to {}", range.start(), range.end()));
        }
        fitting
    }

    /// A share from 0 to 1, in thousandths.
    #[must_use]
    #[allow(clippy::cast_sign_loss, reason = "the range is checked")]
    pub fn thousandths(&self) -> Option<u32> {
        let share = match self.node.value {
            Value::Integer(0) => 0.0,
            Value::Integer(1) => 1.0,
            Value::Float(share) => share,
            _ => f64::NAN,
        };
        if !(0.0..=1.0).contains(&share) {
            self.wrong("must be a share from 0 to 1, such as 0.2");
            return None;
        }
        Some((share * 1000.0).round() as u32)
    }

    /// `true` or `false`.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        if let Value::Boolean(flag) = self.node.value {
            return Some(flag);
        }
        self.wrong_kind("true or false, without quotes");
        None
    }

    /// A length of time that may be nothing.
    #[must_use]
    pub fn duration_or_zero(&self) -> Option<Duration> {
        let Some(text) = self.as_text() else {
            self.wrong_kind("a duration in quotes such as \"30s\" or \"1h30m\"");
            return None;
        };
        duration::parse(text).map_err(|error| self.wrong(error.to_string())).ok()
    }

    /// A length of time longer than nothing.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        let duration = self.duration_or_zero()?;
        if duration.is_zero() {
            self.wrong("must be longer than 0; write a duration such as \"500ms\" or \"30s\"");
        }
        Some(duration).filter(|duration| !duration.is_zero())
    }

    /// A path; a relative one is counted from the folder of the file.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.text().map(|text| self.report.folder().join(text))
    }

    /// Whether the value is an array without elements.
    #[must_use]
    pub fn is_empty_array(&self) -> bool {
        matches!(&self.node.value, Value::Array(nodes) if nodes.is_empty())
    }

    /// The values of an array.
    #[must_use]
    pub fn items(&self) -> Vec<Self> {
        let Value::Array(nodes) = &self.node.value else {
            self.wrong_kind("an array in [ ]");
            return Vec::new();
        };
        let item = |(index, node)| {
            let key = format!("{}[{}]", self.key, label(index, node));
            Self { node, key, report: self.report }
        };
        nodes.iter().enumerate().map(item).collect()
    }

    /// A table whose keys are among `known`; others are reported.
    #[must_use]
    pub fn section(&self, known: &'static [&'static str]) -> Option<Section<'t>> {
        let Some(table) = self.as_table() else {
            self.wrong_kind("a table");
            return None;
        };
        let section = Section { table: Some(table), place: self.place(), key: self.key.clone(), report: self.report };
        section.report_unknown(table, known);
        Some(section)
    }

    /// The keys and values of a table in which any key may stand.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'t str, Self)> {
        let Some(table) = self.as_table() else {
            self.wrong_kind("a table");
            return Vec::new();
        };
        let item = |(key, entry): (&'t String, &'t Entry)| {
            let item = Self { node: &entry.node, key: dotted(&self.key, key), report: self.report };
            (key.as_str(), item)
        };
        table.iter().map(item).collect()
    }

    /// The tables of an array of tables.
    #[must_use]
    pub fn sections(&self, known: &'static [&'static str]) -> Vec<Section<'t>> {
        if self.as_table().is_some() {
            self.wrong(format!("expected an array of tables, found a single one; write [[{}]]", unlabelled(&self.key)));
            return Vec::new();
        }
        self.items().iter().filter_map(|item| item.section(known)).collect()
    }
}

/// How an element of an array is called in a dotted key: by its id where it has one, else by its number from 1.
fn label(index: usize, node: &Node) -> String {
    let id = match &node.value {
        Value::Table(table) => table.get("id").map(|entry| &entry.node.value),
        _ => None,
    };
    match id {
        Some(Value::Text(id)) if is_valid_id(id) => id.clone(),
        _ => format!("#{}", index + 1),
    }
}

/// A dotted key as it stands in a header: without the labels of elements.
fn unlabelled(key: &str) -> String {
    key.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

/// A table, or the absence of an optional one, which reads like an empty table.
pub struct Section<'t> {
    table: Option<&'t Table>,
    place: &'t Place,
    key: String,
    report: &'t Report,
}

impl<'t> Section<'t> {
    /// The root of a file; its keys stand alone.
    #[must_use]
    pub fn root(node: &'t Node, report: &'t Report, known: &'static [&'static str]) -> Self {
        let root = Item { node, key: String::new(), report };
        let empty = Section { table: None, place: &node.place, key: String::new(), report };
        root.section(known).unwrap_or(empty)
    }

    /// The folder of the file.
    #[must_use]
    pub fn folder(&self) -> &'t Path {
        self.report.folder()
    }

    /// Reports something about the section as a whole.
    pub fn wrong(&self, message: impl Into<String>) {
        self.report.add(self.place, &self.key, message);
    }

    /// Reports that the section lacks something. Left out when the file is broken, for it may be there.
    pub fn lacks(&self, message: impl Into<String>) {
        self.report.add_missing(self.place, &self.key, message);
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Item<'t>> {
        let entry = self.table?.get(key)?;
        Some(Item { node: &entry.node, key: self.dotted(key), report: self.report })
    }

    /// The value of a key that must be there; `advice` says what to write.
    #[must_use]
    pub fn require(&self, key: &str, advice: &str) -> Option<Item<'t>> {
        let item = self.get(key);
        if item.is_none() {
            self.report.add_missing(self.place, &self.dotted(key), format!("is missing; {advice}"));
        }
        item
    }

    /// The value of a key as `read` understands it, or a default when it is absent or wrong.
    pub fn or<T>(&self, key: &str, default: T, read: impl FnOnce(&Item<'t>) -> Option<T>) -> T {
        self.get(key).and_then(|item| read(&item)).unwrap_or(default)
    }

    /// A length of time longer than nothing, or a default in seconds.
    #[must_use]
    pub fn seconds(&self, key: &str, default: u64) -> Duration {
        self.or(key, Duration::from_secs(default), Item::duration)
    }

    /// The values of an array, each as `read` understands it; nothing when it is absent.
    pub fn list<T>(&self, key: &str, read: impl FnMut(&Item<'t>) -> Option<T>) -> Vec<T> {
        self.get(key).map(|item| item.items().iter().filter_map(read).collect()).unwrap_or_default()
    }

    /// A section within this one, when it is there.
    #[must_use]
    pub fn optional(&self, key: &str, known: &'static [&'static str]) -> Option<Section<'t>> {
        self.get(key)?.section(known)
    }

    /// A section within this one; an absent one reads as empty.
    #[must_use]
    pub fn section(&self, key: &str, known: &'static [&'static str]) -> Section<'t> {
        let absent = || Section { table: None, place: self.place, key: self.dotted(key), report: self.report };
        self.optional(key, known).unwrap_or_else(absent)
    }

    /// The tables of an array of tables; none when it is absent.
    #[must_use]
    pub fn sections(&self, key: &str, known: &'static [&'static str]) -> Vec<Section<'t>> {
        self.get(key).map(|item| item.sections(known)).unwrap_or_default()
    }

    fn dotted(&self, key: &str) -> String {
        dotted(&self.key, key)
    }

    fn report_unknown(&self, table: &Table, known: &[&str]) {
        for (key, entry) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let message = format!("unknown key; {}", advice(key, known));
            self.report.add(&entry.key_place, &self.dotted(key), message);
        }
    }
}

/// Joins a key to the dotted key of its table. Keys that need quotes in TOML get them, so that no odd character of a
/// file reaches a terminal.
#[must_use]
pub fn dotted(table: &str, key: &str) -> String {
    let mut text = String::from(table);
    if !table.is_empty() {
        text.push('.');
    }
    if is_valid_id(key) {
        text.push_str(key);
    } else {
        // Writing to a string does not fail.
        let _ = write!(text, "{key:?}");
    }
    text
}

/// Points to the known word that was probably meant, or names all of them.
fn advice(written: &str, known: &[&str]) -> String {
    let close = known.iter().map(|word| (distance(written, word), *word)).min();
    match close {
        Some((steps, word)) if steps <= 1 + word.len() / 5 => format!("did you mean {word:?}?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// How many letters must be changed, added, removed or swapped with their neighbour to turn one word into the other
/// (optimal string alignment), upper and lower case being the same. Words far too long to be meant are not looked at.
fn distance(from: &str, to: &str) -> usize {
    let letters = |word: &str| word.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (from, to) = (letters(from), letters(to));
    if from.len() > 2 * to.len() + 2 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let change = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}
