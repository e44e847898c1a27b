//! Certificates with their keys: read from files, again when they change, and found by the names in them.

mod names;
mod pair;
pub(super) mod seen;

pub use names::ByName;
pub use pair::{Certificate, Files, Standing, Validity};

use super::tls::TlsError;
use rustls::sign::CertifiedKey;
use seen::{Seen, contents};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Certificates whose files are read again while running. Each stands for itself: where the files of one are bad, the
/// one before stays in use.
pub struct Watched(Mutex<Vec<Entry>>);

struct Entry {
    files: Files,
    seen: Seen<2>,
    certificate: Certificate,
    /// What was last said about its time.
    told: Standing,
}

/// What came of looking at the files.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// Those that are in use now.
    pub changed: Vec<Files>,
    /// Why others are not.
    pub refused: Vec<TlsError>,
}

/// What there is to say about the time of certificates.
#[derive(Debug, Default)]
pub struct Times {
    /// Seconds until the first of them ends, less than 0 afterwards; none without certificates.
    pub left: Option<i64>,
    /// Those of which something else is to be said than before.
    pub news: Vec<(Files, Validity, Standing)>,
}

impl Watched {
    /// Reads all of them.
    ///
    /// # Errors
    /// The first of the files that cannot be read or do not fit.
    pub fn load(files: Vec<Files>) -> Result<Self, TlsError> {
        files.into_iter().map(Entry::load).collect::<Result<_, _>>().map(|entries| Self(Mutex::new(entries)))
    }

    /// Reads what has changed. The same bad files are not complained of again.
    pub fn reload(&self) -> Reloaded {
        let mut reloaded = Reloaded::default();
        for entry in self.entries().iter_mut() {
            match entry.reload() {
                Ok(false) => {}
                Ok(true) => reloaded.changed.push(entry.files.clone()),
                Err(error) => reloaded.refused.push(error),
            }
        }
        reloaded
    }

    /// What is to be said about their time at `now`, in seconds since 1970.
    pub fn times(&self, now: u64) -> Times {
        let mut times = Times::default();
        for entry in self.entries().iter_mut() {
            let validity = entry.certificate.validity;
            let left = validity.left(now);
            times.left = Some(times.left.map_or(left, |soonest| soonest.min(left)));
            let standing = validity.standing(now);
            if standing != entry.told {
                entry.told = standing;
                times.news.push((entry.files.clone(), validity, standing));
            }
        }
        times
    }

    /// The first one.
    pub fn first(&self) -> Option<Arc<CertifiedKey>> {
        self.entries().first().map(|entry| Arc::clone(&entry.certificate.key))
    }

    /// All of them by their names; the first is the default unless `strict`.
    pub fn by_name(&self, strict: bool) -> ByName {
        ByName::new(self.entries().iter().map(|entry| &entry.certificate), strict)
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A poisoned lock only means that another look panicked; each entry is replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn load(files: Files) -> Result<Self, TlsError> {
        let mut seen = Seen::default();
        // At the first look everything is new.
        let first = seen.look(files.paths(), SystemTime::now()).unwrap_or_else(|| contents(files.paths()))?;
        let certificate = Certificate::parse(&files, &first)?;
        Ok(Self { files, seen, certificate, told: Standing::Good })
    }

    fn reload(&mut self) -> Result<bool, TlsError> {
        let Some(contents) = self.seen.look(self.files.paths(), SystemTime::now()) else { return Ok(false) };
        self.certificate = Certificate::parse(&self.files, &contents?)?;
        // The new one is looked at afresh.
        self.told = Standing::Good;
        Ok(true)
    }
}
