//! Certificates made by openssl, and both ends of TLS connections by a configuration that is not the gateway's.

use super::PATIENCE;
use super::raw::{Message, Wire};
use anyhow::{Context as _, Result, ensure};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Makes `ca.crt` and `ca.key`.
const AUTHORITY: &str = "
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt \
        -subj '/CN=authority of a test' -days 2
";

/// Makes `$1.crt`, signed by the authority for the names `$2` and `$3` days, and `$1.key`. Both are put in place when they
/// are whole.
const LEAF: &str = r#"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout new.key -out new.csr -subj "/CN=$1"
    printf 'subjectAltName=%s\n' "$2" >new.ext
    openssl x509 -req -in new.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile new.ext -days "$3" -out new.crt
    mv new.key "$1.key"
    mv new.crt "$1.crt"
"#;

/// The digest of the authority's key, as browsers are told it.
const DIGEST: &str = "
    openssl x509 -in ca.crt -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64
";

/// A certificate authority in a folder of its own. Dropping it removes the folder.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    /// Makes one.
    pub(crate) fn new() -> Result<Self> {
        let authority = Self { folder: tempfile::tempdir()? };
        authority.run(AUTHORITY, &[])?;
        Ok(authority)
    }

    /// Makes a certificate and its key; `names` as in `DNS:a.example,IP:127.0.0.1`.
    pub(crate) fn issue(&self, name: &str, names: &str, days: i32) -> Result<()> {
        self.run(LEAF, &[name, names, &days.to_string()]).map(drop)
    }

    /// Makes `{name}.chain.crt`: a certificate with the authority's behind it.
    pub(crate) fn chain(&self, name: &str) -> Result<()> {
        self.run(r#"cat "$1.crt" ca.crt >"$1.chain.crt""#, &[name]).map(drop)
    }

    /// The argument with which Chromium takes chains that end with this authority.
    pub(crate) fn browser_argument(&self) -> Result<String> {
        Ok(format!("--ignore-certificate-errors-spki-list={}", self.run(DIGEST, &[])?.trim()))
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-euc", script, "sh"]).args(arguments).current_dir(self.folder.path());
        let made = command.output()?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        Ok(String::from_utf8(made.stdout)?)
    }

    /// Where a file is.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The same as a TOML value.
    pub(crate) fn toml(&self, file: &str) -> String {
        format!("{:?}", self.path(file).display().to_string())
    }

    /// A certificate as it is shown.
    pub(crate) fn certificate(&self, name: &str) -> Result<CertificateDer<'static>> {
        Ok(CertificateDer::from_pem_file(self.path(&format!("{name}.crt")))?)
    }

    fn key(&self, name: &str) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")))?)
    }

    fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate("ca")?)?;
        Ok(Arc::new(roots))
    }

    /// A server with the certificate `name`, the authority's behind it, that offers these protocols (RFC 7301).
    pub(crate) fn server(&self, name: &str, protocols: &[&str]) -> Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.with_no_client_auth();
        let chain = vec![self.certificate(name)?, self.certificate("ca")?];
        let mut config = builder.with_single_cert(chain, self.key(name)?)?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// A client that checks the authority's signature and the time, and takes any name.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots()?, provider()).build()?;
        let verifier = Arc::new(AnyName(verifier));
        Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Lets certificates for other names pass: which one is shown is what is asked.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(end, chain, name, ocsp, now) {
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What a client of the gateway has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The first certificate of the chain.
    pub(crate) certificate: CertificateDer<'static>,
    /// Whether the handshake was a whole one.
    pub(crate) kind: HandshakeKind,
    /// Everything that came until the end.
    pub(crate) answer: String,
}

/// Connects, sends `before` in the clear, makes a handshake that asks for `name`, or for none where it is an address, sends
/// a request that ends the connection, and reads the answer.
pub(crate) async fn ask(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
    name: &str,
    before: &[u8],
    request: &str,
) -> Result<Seen> {
    let run = async {
        let mut tcp = TcpStream::connect(address).await?;
        tcp.write_all(before).await?;
        let name = ServerName::try_from(name.to_owned())?;
        let mut tls = TlsConnector::from(Arc::clone(client)).connect(name, tcp).await?;
        tls.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await?;
        let session = tls.get_ref().1;
        let certificate = session.peer_certificates().and_then(<[_]>::first).context("no certificate")?;
        Ok(Seen {
            certificate: certificate.clone().into_owned(),
            kind: session.handshake_kind().context("no handshake")?,
            answer: String::from_utf8(answer)?,
        })
    };
    timeout(PATIENCE, run).await.context("no answer over TLS in time")?
}

/// Takes TLS off each connection and passes what is in it on to `plain`, until it is dropped.
pub(crate) async fn terminate(listener: TcpListener, acceptor: TlsAcceptor, plain: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // An error is a client that left.
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            let Ok(mut plain) = TcpStream::connect(plain).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// An upstream with TLS that asks for a client's certificate, and answers every request by itself until it is dropped.
pub(crate) struct TlsUpstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Shown>>>,
    task: JoinHandle<()>,
}

/// A request, and what the gateway has proved itself with.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) target: String,
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

impl TlsUpstream {
    /// With the certificate `name` of the authority, which has signed those of clients too. `demands` says whether there
    /// has to be one.
    pub(crate) async fn start(
        authority: &Authority,
        name: &str,
        demands: bool,
        respond: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static,
    ) -> Result<Self> {
        let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots()?, provider());
        let verifier = if demands { verifier } else { verifier.allow_unauthenticated() };
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.with_client_cert_verifier(verifier.build()?);
        let config = builder.with_single_cert(vec![authority.certificate(name)?], authority.key(name)?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, seen) = (listener.local_addr()?, Arc::<Mutex<Vec<Shown>>>::default());
        let (log, respond) = (Arc::clone(&seen), Arc::new(respond));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(answer_all(acceptor.clone(), tcp, Arc::clone(&log), Arc::clone(&respond)));
            }
        });
        Ok(Self { address, seen, task })
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Shown> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TlsUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection until it ends; whatever is wrong ends it.
async fn answer_all(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    seen: Arc<Mutex<Vec<Shown>>>,
    respond: Arc<impl Fn(&Message) -> Vec<u8>>,
) -> Result<()> {
    let tls = acceptor.accept(tcp).await?;
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|one| one.clone().into_owned());
    // A wire reads plain bytes, so they are passed on to one.
    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut wire = Wire::connect(plain.local_addr()?).await?;
    let (mut other, mut tls) = (plain.accept().await?.0, tls);
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tls, &mut other).await });
    loop {
        let request = wire.request().await?;
        let shown = Shown { target: request.target().to_owned(), certificate: certificate.clone() };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
        wire.send(respond(&request)).await?;
    }
}
