//! Files that are read again when they change, and not before.

use crate::net::tls::TlsError;
use rustls_pki_types::pem;
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// A file changed so lately may change again without its times telling: file systems count them in coarse ticks.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// What files hold. It is wiped when it is not needed any more, for a key may be among it.
pub(in crate::net) type Contents<const N: usize> = [Zeroizing<Vec<u8>>; N];

/// Reads files that belong together.
pub(in crate::net) fn contents<const N: usize>(paths: [&Path; N]) -> Result<Contents<N>, TlsError> {
    let mut all = [const { Vec::new() }; N].map(Zeroizing::new);
    for (contents, path) in all.iter_mut().zip(paths) {
        let failed = |cause| TlsError::File { path: path.to_owned(), cause: pem::Error::Io(cause) };
        **contents = std::fs::read(path).map_err(failed)?;
    }
    Ok(all)
}

/// What was last seen in files that belong together, to tell a change by.
pub(in crate::net) struct Seen<const N: usize> {
    stamps: Option<[Stamp; N]>,
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

impl<const N: usize> Default for Seen<N> {
    fn default() -> Self {
        Self { stamps: None, digest: None }
    }
}

impl<const N: usize> Seen<N> {
    /// What the files hold, if it is not what they held at the last look.
    pub(in crate::net) fn look(&mut self, paths: [&Path; N], now: SystemTime) -> Option<Result<Contents<N>, TlsError>> {
        // Before reading, so that a change in between is noticed the next time.
        let stamps: Option<Vec<_>> = paths.iter().map(|path| Stamp::of(path, now)).collect();
        let stamps = stamps.and_then(|stamps| stamps.try_into().ok());
        if stamps.is_some() && stamps == self.stamps {
            return None;
        }
        self.stamps = stamps;
        let contents = contents(paths);
        let digest = digest(&contents);
        (self.digest.replace(digest) != Some(digest)).then_some(contents)
    }
}

/// A number for what was read; for all that cannot be read the same one.
fn digest<const N: usize>(contents: &Result<Contents<N>, TlsError>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for contents in contents.iter().flatten() {
        digest.update(contents.len().to_be_bytes());
        digest.update(&**contents);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_are_handed_out_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("c"), folder.path().join("k"));
        let mut seen = Seen::default();
        let mut look = || seen.look([&cert, &key], SystemTime::now());
        // That there are none is said once.
        assert!(matches!(look(), Some(Err(TlsError::File { .. }))));
        assert!(look().is_none());
        std::fs::write(&cert, "one").unwrap();
        assert!(look().is_none());
        std::fs::write(&key, "two").unwrap();
        assert!(matches!(look(), Some(Ok([cert, _])) if **cert == *b"one"));
        assert!(look().is_none());
        // Of the same length and at once.
        std::fs::write(&key, "six").unwrap();
        assert!(matches!(look(), Some(Ok([_, key])) if **key == *b"six"));
        assert!(look().is_none());
    }

    #[test]
    fn files_that_stood_still_are_handed_out_when_another_takes_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (cert, key) = (path("now/c"), path("k"));
        for version in ["v1", "v2"] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("c"), version).unwrap();
        }
        std::fs::write(&key, "two").unwrap();
        // As Kubernetes does it: a link to a folder is replaced.
        let link = |version: &str| {
            symlink(version, path("new")).unwrap();
            std::fs::rename(path("new"), path("now")).unwrap();
        };
        let mut seen = Seen::default();
        let mut look = || seen.look([&cert, &key], SystemTime::now() + 2 * SETTLES_WITHIN);
        for version in ["v1", "v2", "v1"] {
            link(version);
            assert!(matches!(look(), Some(Ok([cert, _])) if **cert == *version.as_bytes()));
            assert!(look().is_none());
        }
        // Another file with the same in it is no change.
        std::fs::write(path("other"), "two").unwrap();
        std::fs::rename(path("other"), &key).unwrap();
        assert!(look().is_none());
    }
}
