//! Whom upstreams and issuers are trusted for: the public roots (Mozilla's, compiled in) and those of a file, which is read
//! again while running.

use super::certificates::seen::{Seen, contents};
use super::tls::TlsError;
use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The roots in use.
pub struct Roots {
    file: Option<(PathBuf, Mutex<Seen<1>>)>,
    current: ArcSwap<RootCertStore>,
}

impl Roots {
    /// The public ones, and those of a file.
    ///
    /// # Errors
    /// [`TlsError`] when the file cannot be read or holds no certificate.
    pub fn load(file: Option<&Path>) -> Result<Self, TlsError> {
        let Some(path) = file else { return Ok(Self { file: None, current: ArcSwap::from_pointee(public()) }) };
        let mut seen = Seen::default();
        // At the first look everything is new.
        let [pem] = seen.look([path], SystemTime::now()).unwrap_or_else(|| contents([path]))?;
        let current = ArcSwap::from_pointee(with(path, &pem)?);
        Ok(Self { file: Some((path.to_owned(), Mutex::new(seen))), current })
    }

    /// The roots now.
    #[must_use]
    pub fn current(&self) -> Arc<RootCertStore> {
        self.current.load_full()
    }

    /// Reads the file again if it changed; says whether there are other roots now. The same bad file is not complained of
    /// again.
    ///
    /// # Errors
    /// [`TlsError`]; the roots before stay.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some((path, seen)) = &self.file else { return Ok(false) };
        // A poisoned lock only means that another look panicked, after which everything is new.
        let changed = seen.lock().unwrap_or_else(PoisonError::into_inner).look([path], SystemTime::now());
        let Some(changed) = changed else { return Ok(false) };
        let [pem] = changed?;
        self.current.store(Arc::new(with(path, &pem)?));
        Ok(true)
    }
}

fn public() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The public roots and those of a text, which stands in the file at `path`.
fn with(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let failed = |cause| TlsError::File { path: path.to_owned(), cause };
    let mut roots = public();
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let refused = |cause| TlsError::Root { path: path.to_owned(), cause };
        roots.add(certificate.map_err(failed)?).map_err(refused)?;
    }
    if roots.len() == before { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_root_is_refused_once_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        assert!(matches!(Roots::load(Some(&path)), Err(TlsError::File { .. })));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(Roots::load(Some(&path)), Err(TlsError::NoCertificate(_))));
        let roots = Roots { file: Some((path.clone(), Mutex::default())), current: ArcSwap::from_pointee(public()) };
        let before = roots.current();
        for bad in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nYmFk\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(roots.reload().is_err(), "{bad}");
            assert!(matches!(roots.reload(), Ok(false)), "{bad}");
            assert!(Arc::ptr_eq(&roots.current(), &before));
        }
        assert!(matches!(Roots::load(None).unwrap().reload(), Ok(false)));
    }
}
