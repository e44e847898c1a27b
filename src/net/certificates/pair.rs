//! One certificate with its key.

use crate::net::tls::{TlsError, provider};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_cert::der::{DateTime, Decode, Error as DerError};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use zeroize::Zeroizing;

/// How long ahead the end of a certificate is warned of: time enough to find out why nobody renewed it.
const WARN_AHEAD: i64 = 14 * 24 * 3600;
/// A file changed so lately may change again without its times telling: file systems count them in coarse ticks.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// Where a certificate and its key are, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.cert.display(), self.key.display())
    }
}

/// What both files hold. The key is wiped when it is not needed any more.
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    pub(super) fn read(files: &Files) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            let failed = |cause| TlsError::File { path: path.to_owned(), cause: pem::Error::Io(cause) };
            std::fs::read(path).map_err(failed)
        };
        Ok(Self { cert: read(&files.cert)?, key: Zeroizing::new(read(&files.key)?) })
    }
}

/// What was last seen in the files, to tell a change by.
#[derive(Default)]
pub(super) struct Seen {
    stamps: Option<[Stamp; 2]>,
    digest: Option<[u8; 32]>,
}

/// What of a file is different when it has been changed or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([i64; 7]);

impl Stamp {
    /// None where it cannot be had, or would not tell of a change that comes right now.
    fn of(path: &Path, now: SystemTime) -> Option<Self> {
        let is = std::fs::metadata(path).ok()?;
        let changed = UNIX_EPOCH + Duration::from_secs(is.ctime().try_into().ok()?);
        let is_settled = now.duration_since(changed).is_ok_and(|since| since > SETTLES_WITHIN);
        let (dev, ino, size) = (is.dev().cast_signed(), is.ino().cast_signed(), is.size().cast_signed());
        let stamp = Self([dev, ino, size, is.mtime(), is.mtime_nsec(), is.ctime(), is.ctime_nsec()]);
        is_settled.then_some(stamp)
    }
}

impl Seen {
    /// What the files hold, if it is not what they held at the last look.
    pub(super) fn look(&mut self, files: &Files, now: SystemTime) -> Option<Result<Contents, TlsError>> {
        // Before reading, so that a change in between is noticed the next time.
        let stamps = Stamp::of(&files.cert, now).zip(Stamp::of(&files.key, now)).map(|(cert, key)| [cert, key]);
        if stamps.is_some() && stamps == self.stamps {
            return None;
        }
        self.stamps = stamps;
        let contents = Contents::read(files);
        let digest = digest(&contents);
        (self.digest.replace(digest) != Some(digest)).then_some(contents)
    }
}

/// A number for what was read; for all that cannot be read the same one.
fn digest(contents: &Result<Contents, TlsError>) -> [u8; 32] {
    let mut digest = Sha256::new();
    if let Ok(contents) = contents {
        digest.update(contents.cert.len().to_be_bytes());
        digest.update(&contents.cert);
        digest.update(&*contents.key);
    }
    digest.finalize().into()
}

/// A certificate that can be shown, as its key fits.
pub struct Certificate {
    /// The chain and the key.
    pub key: Arc<CertifiedKey>,
    /// The names it is for, in lower case, `*.` first where it is a wildcard.
    pub names: Vec<String>,
    /// From when to when it is good.
    pub validity: Validity,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] when one cannot be read or they do not fit.
    pub fn read(files: &Files) -> Result<Self, TlsError> {
        Self::parse(files, &Contents::read(files)?)
    }

    pub(super) fn parse(files: &Files, contents: &Contents) -> Result<Self, TlsError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |cause| TlsError::File { path, cause }
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents.cert).collect();
        let chain = chain.map_err(failed(&files.cert))?;
        let own = chain.first().ok_or_else(|| TlsError::NoCertificate(files.cert.clone()))?;
        let broken = |cause| TlsError::Certificate { path: files.cert.clone(), cause };
        let (names, validity) = describe(own).map_err(broken)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(failed(&files.key))?;
        let unfit = |cause| TlsError::Pair { files: files.clone(), cause };
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(unfit)?;
        Ok(Self { key: Arc::new(key), names, validity })
    }
}

/// The names (RFC 5280 4.2.1.6) and the time (4.1.2.5) of a certificate. The common name counts for nothing (RFC 9525 2).
fn describe(der: &CertificateDer<'_>) -> Result<(Vec<String>, Validity), DerError> {
    let certificate = x509_cert::Certificate::from_der(der)?.tbs_certificate;
    let names = certificate.get::<SubjectAltName>()?.map(|(_, names)| names.0).unwrap_or_default();
    let dns = |name: GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    };
    let times = certificate.validity;
    let validity = Validity { from: times.not_before.to_date_time(), until: times.not_after.to_date_time() };
    Ok((names.into_iter().filter_map(dns).collect(), validity))
}

/// From when to when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: DateTime,
    /// The last one.
    pub until: DateTime,
}

/// What a certificate's time means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is good, and for some time.
    Good,
    /// It is good and ends within two weeks.
    EndsSoon,
    /// It was good.
    Ended,
    /// It will be good.
    NotYet,
}

impl Validity {
    /// Seconds from `now`, itself in seconds since 1970, to the end; less than 0 after it.
    #[must_use]
    pub fn left(&self, now: u64) -> i64 {
        self.until.unix_duration().as_secs().cast_signed().saturating_sub(now.cast_signed())
    }

    /// What it means at `now`.
    #[must_use]
    pub fn standing(&self, now: u64) -> Standing {
        match self.left(now) {
            _ if now < self.from.unix_duration().as_secs() => Standing::NotYet,
            ..0 => Standing::Ended,
            0..WARN_AHEAD => Standing::EndsSoon,
            _ => Standing::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_certificate_is_warned_of_ahead() {
        let at = |text: &str| text.parse::<DateTime>().unwrap();
        let validity = Validity { from: at("2030-01-01T00:00:00Z"), until: at("2030-02-01T00:00:00Z") };
        let (from, until) = (validity.from.unix_duration().as_secs(), validity.until.unix_duration().as_secs());
        for (now, expected) in [
            (from - 1, Standing::NotYet),
            (from, Standing::Good),
            (until - 14 * 86_400, Standing::Good),
            (until - 14 * 86_400 + 1, Standing::EndsSoon),
            (until, Standing::EndsSoon),
            (until + 1, Standing::Ended),
        ] {
            assert_eq!(validity.standing(now), expected, "{now}");
        }
        assert_eq!((validity.left(until - 5), validity.left(until + 5)), (5, -5));
    }

    #[test]
    fn files_are_handed_out_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { cert: folder.path().join("c"), key: folder.path().join("k") };
        let mut seen = Seen::default();
        let mut look = || seen.look(&files, SystemTime::now());
        // That there are none is said once.
        assert!(matches!(look(), Some(Err(TlsError::File { .. }))));
        assert!(look().is_none());
        std::fs::write(&files.cert, "one").unwrap();
        assert!(look().is_none());
        std::fs::write(&files.key, "two").unwrap();
        assert!(matches!(look(), Some(Ok(Contents { cert, .. })) if cert == b"one"));
        assert!(look().is_none());
        // Of the same length and at once.
        std::fs::write(&files.key, "six").unwrap();
        assert!(matches!(look(), Some(Ok(Contents { key, .. })) if **key == *b"six"));
        assert!(look().is_none());
    }

    #[test]
    fn files_that_stood_still_are_handed_out_when_another_takes_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = Files { cert: path("now/c"), key: path("k") };
        for version in ["v1", "v2"] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("c"), version).unwrap();
        }
        std::fs::write(&files.key, "two").unwrap();
        // As Kubernetes does it: a link to a folder is replaced.
        let link = |version: &str| {
            symlink(version, path("new")).unwrap();
            std::fs::rename(path("new"), path("now")).unwrap();
        };
        let mut seen = Seen::default();
        let mut look = || seen.look(&files, SystemTime::now() + 2 * SETTLES_WITHIN);
        for version in ["v1", "v2", "v1"] {
            link(version);
            assert!(matches!(look(), Some(Ok(Contents { cert, .. })) if cert == version.as_bytes()));
            assert!(look().is_none());
        }
        // Another file with the same in it is no change.
        std::fs::write(path("other"), "two").unwrap();
        std::fs::rename(path("other"), &files.key).unwrap();
        assert!(look().is_none());
    }
}
