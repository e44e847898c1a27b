//! What is wrong in a file, collected so that the operator sees everything at once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file, on this line; the first line is 1.
    Line(usize),
    /// In this environment variable, which overrides the file.
    Variable(String),
    /// Nowhere: it is what a file means without writing it, such as its root.
    Nowhere,
}

/// One thing that is wrong, and what to write instead. It never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file that was read.
    pub file: PathBuf,
    /// The line, from 1; absent when what is wrong stands on no line: a missing section, or a value that came from an
    /// environment variable, which the message then names.
    pub line: Option<usize>,
    /// The dotted key, such as `session.keys[k1].file`; empty when it concerns the whole file.
    pub key: String,
    /// A sentence for the operator.
    pub message: String,
}

/// `file:line: key: message`, without the parts that are absent.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Everything that is wrong in a file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

/// One mistake per line.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl Mistakes {
    /// A file that could not be read at all.
    #[must_use]
    pub fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let message = format!("cannot read the file: {error}");
        Self(vec![Mistake { file: file.to_owned(), line: None, key: String::new(), message }])
    }
}

/// Which part of a file could not be understood because of its syntax.
#[derive(Debug, Clone, Default)]
pub struct Damage {
    /// Lines whose values are not to be trusted.
    pub lines: BTreeSet<usize>,
    /// The first line from which on it is unclear what belongs to what.
    pub from: Option<usize>,
}

/// Collects mistakes while a file is read.
///
/// A file with errors of syntax is still read as far as it can be, so that its other mistakes are seen too. What would
/// then be reported only because of these errors, such as a key missing that stands on a broken line, is left out.
#[derive(Debug)]
pub struct Report {
    file: PathBuf,
    damage: Damage,
    found: RefCell<Vec<Mistake>>,
}

impl Report {
    /// An empty report on `file`.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), damage: Damage::default(), found: RefCell::new(Vec::new()) }
    }

    /// The folder of the file, from which relative paths in it are counted.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Notes which part of the file is broken; errors of syntax themselves are added before.
    pub fn set_damage(&mut self, damage: Damage) {
        self.damage = damage;
    }

    /// Adds a mistake.
    pub fn add(&self, place: &Place, key: &str, message: impl Into<String>) {
        let message = message.into();
        let (line, message) = match place {
            Place::Line(line) if self.is_damaged(*line) => return,
            Place::Line(line) => (Some(*line), message),
            Place::Variable(name) => (None, format!("in {name}: {message}")),
            Place::Nowhere => (None, message),
        };
        self.found.borrow_mut().push(Mistake { file: self.file.clone(), line, key: key.to_owned(), message });
    }

    /// Adds a mistake that consists in something not being there. In a broken file it may well be there, unseen.
    pub fn add_missing(&self, place: &Place, key: &str, message: impl Into<String>) {
        if self.damage.lines.is_empty() && self.damage.from.is_none() {
            self.add(place, key, message);
        }
    }

    fn is_damaged(&self, line: usize) -> bool {
        self.damage.lines.contains(&line) || self.damage.from.is_some_and(|from| line >= from)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All mistakes that were added, in the order of their lines; those without a line come last.
    pub fn finish(self) -> Result<(), Mistakes> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        found.dedup();
        if found.is_empty() { Ok(()) } else { Err(Mistakes(found)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_come_out_in_the_order_of_lines() {
        let report = Report::new(Path::new("a/b.toml"));
        report.add_missing(&Place::Nowhere, "session.keys", "is missing");
        report.add(&Place::Line(7), "log.level", "no");
        report.add(&Place::Variable("EMBEDGATE__X".into()), "x", "no");
        report.add(&Place::Line(2), "", "bad");
        assert_eq!(report.folder(), Path::new("a"));
        let shown = report.finish().unwrap_err().to_string();
        assert_eq!(
            shown,
            "a/b.toml:2: bad\na/b.toml:7: log.level: no\na/b.toml: session.keys: is missing\na/b.toml: x: in EMBEDGATE__X: no"
        );
    }

    #[test]
    fn what_follows_from_broken_syntax_is_left_out() {
        let mut report = Report::new(Path::new("b.toml"));
        report.set_damage(Damage { lines: BTreeSet::from([3]), from: Some(9) });
        for line in [2, 3, 8, 9, 10] {
            report.add(&Place::Line(line), "k", "no");
        }
        report.add_missing(&Place::Line(1), "k", "is missing");
        let lines: Vec<_> = report.finish().unwrap_err().0.into_iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [Some(2), Some(8)]);
    }
}
