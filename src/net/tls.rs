//! TLS settings, versions 1.2 and 1.3. One crypto provider, aws-lc-rs: the fastest of rustls's, and the one the JWT check
//! shares.

use super::certificates::{ByName, Files, Reloaded, Watched};
use super::roots::Roots;
use super::tickets::Tickets;
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, TlsConnector};

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
    /// What a file calls a certificate is none.
    #[error("{}: not a certificate that can be read: {cause}", .path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: x509_cert::der::Error,
    },
    /// Certificate and key do not fit.
    #[error("{files}: {cause}")]
    Pair {
        /// Which files.
        files: Files,
        /// Why.
        cause: rustls::Error,
    },
    /// A root is not a certificate that can be used.
    #[error("{}: not a root that can be used: {cause}", .path.display())]
    Root {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: rustls::Error,
    },
    /// TLS itself.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// The names of HTTP/2 (RFC 9113 3.1) and HTTP/1.1 (RFC 7301 6) in TLS handshakes.
pub const HTTP2: &[u8] = b"h2";
pub(super) const HTTP1: &[u8] = b"http/1.1";

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// How the gateway speaks TLS to whom it proves nothing to, with the roots of `ca_file` besides the public ones.
///
/// # Errors
/// [`TlsError`] when `ca_file` cannot be read or holds no certificate.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientTls>, TlsError> {
    ClientTls::load(Arc::new(Roots::load(ca_file)?), None).map(Arc::new)
}

/// Why a certificate and its key cannot be shown to upstreams.
#[derive(Debug, thiserror::Error)]
pub enum ClientPairError {
    /// There is no certificate.
    #[error("client_cert holds no certificate in PEM form")]
    NoCertificate,
    /// There is no key.
    #[error("holds no private key in PEM form without a passphrase")]
    NoKey,
    /// They do not fit.
    #[error("does not fit client_cert: {0}")]
    Unfit(rustls::Error),
}

/// A certificate with its key, both in PEM, for a client to show.
///
/// # Errors
/// [`ClientPairError`]; never with anything of the key.
pub fn client_pair(chain: &str, key: &str) -> Result<Arc<CertifiedKey>, ClientPairError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(ClientPairError::NoCertificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| ClientPairError::NoKey)?;
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(ClientPairError::Unfit)
}

fn connector(roots: Arc<RootCertStore>, own: Option<Arc<CertifiedKey>>) -> Result<TlsConnector, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config).into())
}

/// TLS towards upstreams and issuers. The files with which the gateway proves itself, and those with its roots, are read
/// again while running.
pub struct ClientTls {
    roots: Arc<Roots>,
    own: Watched,
    connector: ArcSwap<TlsConnector>,
}

impl ClientTls {
    /// Trusts by these roots, and shows those that ask the certificate in `own`.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read, or certificate and key do not fit.
    pub fn load(roots: Arc<Roots>, own: Option<Files>) -> Result<Self, TlsError> {
        let own = Watched::load(own.into_iter().collect())?;
        let connector = connector(roots.current(), own.first())?;
        Ok(Self { roots, own, connector: ArcSwap::from_pointee(connector) })
    }

    /// What handshakes are made with now.
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::clone(&self.connector.load())
    }

    /// What is trusted now.
    #[must_use]
    pub fn roots(&self) -> Arc<RootCertStore> {
        self.roots.current()
    }

    /// What handshakes are made with in which another certificate is shown than the gateway's own. Certificate and key are
    /// in PEM. No session of anybody else's is resumed.
    ///
    /// # Errors
    /// [`ClientPairError`] when they do not fit.
    pub fn showing(&self, chain: &str, key: &str) -> Result<TlsConnector, ClientPairError> {
        let pair = client_pair(chain, key)?;
        connector(self.roots.current(), Some(pair)).map_err(ClientPairError::Unfit)
    }

    /// Reads the files again if they changed. On an error the certificate before stays. `roots_changed` says that the roots
    /// are other ones since the last time.
    pub fn reload(&self, roots_changed: bool) -> Reloaded {
        let mut reloaded = self.own.reload();
        if roots_changed || !reloaded.changed.is_empty() {
            // All is new, so that no session is resumed for which the certificate before was shown, or which was trusted by
            // a root that is gone.
            match connector(self.roots.current(), self.own.first()) {
                Ok(connector) => self.connector.store(Arc::new(connector)),
                Err(error) => reloaded.refused.push(error.into()),
            }
        }
        reloaded
    }

    /// What upstreams are shown.
    pub fn certificates(&self) -> &Watched {
        &self.own
    }
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

/// How the gateway speaks TLS to clients, who may choose HTTP/2 where `http2` says so (RFC 9113 3.2). Sessions are resumed
/// by tickets alone (RFC 5077, RFC 8446 2.2); nothing is kept for a session. Without keys that instances share, theirs are
/// random, known to this process only and replaced every six hours.
fn server_config(
    names: Arc<dyn ResolvesServerCert>,
    http2: bool,
    shared: Option<Arc<Tickets>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(names);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = match shared {
        Some(tickets) => tickets,
        None => aws_lc_rs::Ticketer::new()?,
    };
    // Best first. A client of HTTP/1.0 may offer nothing else, as curl's does.
    let protocols = [HTTP2, HTTP1, b"http/1.0"];
    config.alpn_protocols = protocols[usize::from(!http2)..].iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// TLS towards clients: certificates by the names in them, whose files are read again while running.
pub struct ServerTls {
    watched: Watched,
    names: Arc<Names>,
    strict: bool,
    acceptor: TlsAcceptor,
}

/// The certificates in use.
#[derive(Debug)]
struct Names(ArcSwap<ByName>);

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name()).map(Arc::clone)
    }
}

/// A fatal alert `unrecognized_name` (RFC 6066 3, RFC 8446 6) in a record of its own: rustls has no way to send it.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

impl ServerTls {
    /// Reads the certificates, the first of which is the default. With `strict` there is none: clients that ask for no
    /// name in a certificate are refused. `shared` are tickets that other instances open too.
    ///
    /// # Errors
    /// [`TlsError`] for the first that cannot be read or does not fit its key.
    pub fn load(files: Vec<Files>, strict: bool, http2: bool, shared: Option<Arc<Tickets>>) -> Result<Self, TlsError> {
        let watched = Watched::load(files)?;
        let names = Arc::new(Names(ArcSwap::from_pointee(watched.by_name(strict))));
        let acceptor = TlsAcceptor::from(server_config(Arc::clone(&names) as Arc<_>, http2, shared)?);
        Ok(Self { watched, names, strict, acceptor })
    }

    /// Makes the handshake with a client.
    ///
    /// # Errors
    /// When there is no certificate for it, or it breaks off.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        if self.strict {
            // Boxed, for few need it and all would have to keep room for it.
            return Box::pin(self.accept_known(tcp)).await;
        }
        self.acceptor.accept(tcp).await
    }

    async fn accept_known(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
        let is_known = self.names.0.load().find(start.client_hello().server_name()).is_some();
        if is_known {
            return start.into_stream(Arc::clone(self.acceptor.config())).await;
        }
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        Err(io::Error::new(io::ErrorKind::NotFound, "no certificate has the name that the client asks for"))
    }

    /// Reads the files again and uses those that changed. Where they are bad, the certificate before stays in use.
    pub fn reload(&self) -> Reloaded {
        let reloaded = self.watched.reload();
        if !reloaded.changed.is_empty() {
            self.names.0.store(Arc::new(self.watched.by_name(self.strict)));
        }
        reloaded
    }

    /// What clients are shown.
    pub fn certificates(&self) -> &Watched {
        &self.watched
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |cause| TlsError::File { path: path.to_owned(), cause };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    match found.map_err(failed)? {
        none if none.is_empty() => Err(TlsError::NoCertificate(path.to_owned())),
        some => Ok(some),
    }
}
