//! TLS settings. One crypto provider, aws-lc-rs: the fastest of rustls's, and the one the JWT check shares.

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsAcceptor;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with certificates or a key cannot be read.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: rustls_pki_types::pem::Error,
    },
    /// A file has no certificate in it.
    #[error("{}: no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// Certificate and key do not fit, or a root is not a certificate.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// The name of HTTP/2 in TLS handshakes (RFC 9113 3.1).
pub const HTTP2: &[u8] = b"h2";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// How the gateway speaks TLS to upstreams and issuers: the public roots (Mozilla's, compiled in) and those of `ca_file`.
///
/// # Errors
/// [`TlsError`] when `ca_file` cannot be read or holds no certificate.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate)?;
        }
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// How the gateway speaks TLS to a database: with the roots of a file, and only those, or else with the public ones.
///
/// # Errors
/// [`TlsError`] when the file cannot be read or holds no certificate.
pub fn database_config(roots: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(path) => {
            for certificate in certificates(path)? {
                trusted.add(certificate)?;
            }
        }
        None => trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(trusted).with_no_client_auth())
}

/// How the gateway speaks TLS to clients, who may choose HTTP/2 where `http2` says so (RFC 9113 3.2).
///
/// # Errors
/// [`TlsError`] when a file cannot be read or certificate and key do not fit.
pub fn server_config(cert: &Path, key: &Path, http2: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|cause| TlsError::File { path: key.to_owned(), cause })?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    let protocols: &[&[u8]] = if http2 { &[HTTP2, b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// TLS towards clients whose files are read again while running.
pub struct ServerTls {
    cert: PathBuf,
    key: PathBuf,
    http2: bool,
    seen: Mutex<[Vec<u8>; 2]>,
    acceptor: ArcSwap<TlsAcceptor>,
}

impl ServerTls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read or they do not fit.
    pub fn load(cert: &Path, key: &Path, http2: bool) -> Result<Self, TlsError> {
        let seen = Mutex::new(contents(cert, key));
        let acceptor = ArcSwap::from_pointee(TlsAcceptor::from(server_config(cert, key, http2)?));
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), http2, seen, acceptor })
    }

    /// What handshakes are made with now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::clone(&self.acceptor.load())
    }

    /// Reads the files again and uses them if they changed; says whether they did. On an error the old ones stay, and the
    /// same bad files are not complained of again.
    ///
    /// # Errors
    /// [`TlsError`] when a changed file cannot be read or they do not fit.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let now = contents(&self.cert, &self.key);
        // A poisoned lock only means that another reload panicked; what it guards is replaced whole.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        self.acceptor.store(Arc::new(server_config(&self.cert, &self.key, self.http2)?.into()));
        Ok(true)
    }
}

/// What is in the files, to tell a change by; an unreadable one counts as empty.
fn contents(cert: &Path, key: &Path) -> [Vec<u8>; 2] {
    [cert, key].map(|path| std::fs::read(path).unwrap_or_default())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |cause| TlsError::File { path: path.to_owned(), cause };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    match found.map_err(failed)? {
        none if none.is_empty() => Err(TlsError::NoCertificate(path.to_owned())),
        some => Ok(some),
    }
}
