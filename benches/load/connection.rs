//! A connection to the proxy, with TLS or without.

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How connections are opened.
#[derive(Clone)]
pub(crate) struct Opener {
    target: SocketAddr,
    name: ServerName<'static>,
    tls: Option<TlsConnector>,
}

impl Opener {
    pub(crate) fn new(target: SocketAddr, host: &str, root: Option<&Path>, protocol: &[u8]) -> anyhow::Result<Self> {
        let name = ServerName::try_from(host.to_owned())?;
        let tls = root.map(|root| connector(root, protocol)).transpose()?;
        Ok(Self { target, name, tls })
    }

    pub(crate) async fn open(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Connection::Plain(stream)) };
        let stream = tls.connect(self.name.clone(), stream).await?;
        Ok(Connection::Tls(Box::new(stream)))
    }
}

fn connector(root: &Path, protocol: &[u8]) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::from_pem_file(root).with_context(|| format!("cannot read {}", root.display()))?;
    roots.add(read)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Connection {
    /// Reads something; an end is an error.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Plain(stream) => stream.read(buffer).await?,
            Self::Tls(stream) => stream.read(buffer).await?,
        };
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }
}
