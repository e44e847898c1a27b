//! One certificate with its key.

use super::seen::{Contents, contents};
use crate::net::tls::{TlsError, provider};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::der::{DateTime, Decode, Error as DerError};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// How long ahead the end of a certificate is warned of: time enough to find out why nobody renewed it.
const WARN_AHEAD: i64 = 14 * 24 * 3600;

/// Where a certificate and its key are, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Files {
    /// Both of them, the certificate first.
    pub(super) fn paths(&self) -> [&Path; 2] {
        [&self.cert, &self.key]
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.cert.display(), self.key.display())
    }
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
        Self::parse(files, &contents(files.paths())?)
    }

    pub(super) fn parse(files: &Files, [cert, key]: &Contents<2>) -> Result<Self, TlsError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |cause| TlsError::File { path, cause }
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
        let chain = chain.map_err(failed(&files.cert))?;
        let own = chain.first().ok_or_else(|| TlsError::NoCertificate(files.cert.clone()))?;
        let broken = |cause| TlsError::Certificate { path: files.cert.clone(), cause };
        let (names, validity) = describe(own).map_err(broken)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(failed(&files.key))?;
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
}
