//! Front ends: the pages that may show apps in frames and ask for things with their users' cookies, by their origins.
//! What answers say of them is put into words once, not for each request.

use super::sharded::Sharded;
use super::url::BaseUrl;
use std::collections::HashMap;

/// The front ends of an organisation, or of all that have none of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontends {
    /// As browsers write them.
    origins: Box<[Box<str>]>,
    /// None without an origin.
    ancestors: Option<Box<str>>,
}

impl Frontends {
    /// Most front ends of one organisation: every page of its apps names them all in a field.
    pub const MAX: usize = 32;

    /// Front ends at these origins.
    #[must_use]
    pub fn new(origins: &[BaseUrl]) -> Self {
        Self::of(origins.iter().map(|origin| origin.to_string().into()).collect())
    }

    /// The one front end at an origin that has been found among others.
    #[must_use]
    pub fn only(origin: &str) -> Self {
        Self::of([origin.into()].into())
    }

    fn of(origins: Box<[Box<str>]>) -> Self {
        let ancestors = (!origins.is_empty()).then(|| format!("frame-ancestors 'self' {}", origins.join(" ")).into());
        Self { origins, ancestors }
    }

    /// Their origins, as browsers write them.
    #[must_use]
    pub fn origins(&self) -> &[Box<str>] {
        &self.origins
    }

    /// The directive that lets them show apps in frames; none without front ends.
    #[must_use]
    pub fn ancestors(&self) -> Option<&str> {
        self.ancestors.as_deref()
    }

    /// Whether an `Origin` is one of theirs, letter by letter.
    #[must_use]
    pub fn contains(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|known| known.as_bytes() == origin)
    }
}

/// The origins of all organisations with front ends of their own, and of how many of them each is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Census(Sharded<Box<str>, u32>);

impl Census {
    pub(super) fn contains(&self, origin: &str) -> bool {
        self.0.get(origin).is_some()
    }

    /// The same after the front ends of some organisations were replaced by others.
    pub(super) fn with<'a>(
        &self,
        changes: impl Iterator<Item = (Option<&'a Frontends>, Option<&'a Frontends>)>,
    ) -> Self {
        let mut counts: HashMap<&str, u32> = HashMap::new();
        for (old, new) in changes {
            // What comes goes first, so that no count is ever taken below nothing.
            for origin in new.into_iter().flat_map(Frontends::origins) {
                *counts.entry(origin).or_insert_with(|| self.count(origin)) += 1;
            }
            for origin in old.into_iter().flat_map(Frontends::origins) {
                let count = counts.entry(origin).or_insert_with(|| self.count(origin));
                *count = count.saturating_sub(1);
            }
        }
        Self(self.0.with(counts.into_iter().map(|(origin, count)| (origin.into(), (count > 0).then_some(count)))))
    }

    fn count(&self, origin: &str) -> u32 {
        self.0.get(origin).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontends(origins: &[&str]) -> Frontends {
        Frontends::new(&origins.iter().map(|origin| BaseUrl::parse(origin).unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn they_are_written_as_browsers_do() {
        let two = frontends(&["HTTPS://App.Example.com:443/", "http://localhost:3000"]);
        let named = "frame-ancestors 'self' https://app.example.com http://localhost:3000";
        assert_eq!(two.ancestors(), Some(named));
        assert!(two.contains(b"https://app.example.com") && !two.contains(b"https://app.example.com:443"));
        assert_eq!(frontends(&[]), Frontends::default());
        assert_eq!(frontends(&[]).ancestors(), None);
    }

    #[test]
    fn an_origin_is_known_as_long_as_one_organisation_has_it() {
        let (one, both) = (frontends(&["https://a.example"]), frontends(&["https://a.example", "https://b.example"]));
        let all = Census::default().with([(None, Some(&one)), (None, Some(&both))].into_iter());
        assert!(all.contains("https://a.example") && all.contains("https://b.example"));
        let less = all.with([(Some(&both), None)].into_iter());
        assert!(less.contains("https://a.example") && !less.contains("https://b.example"));
        let same = less.with([(Some(&one), Some(&one))].into_iter());
        assert!(same.contains("https://a.example"));
        assert!(!same.with([(Some(&one), Some(&frontends(&[])))].into_iter()).contains("https://a.example"));
    }
}
