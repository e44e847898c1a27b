//! Certificates and roots while the gateway runs: read again when their files change, and watched for their end.

use crate::config;
use crate::metrics::Metrics;
use crate::net::certificates::{Files, Reloaded, Standing, Times, Validity};
use crate::net::roots::Roots;
use crate::net::tickets::Tickets;
use crate::net::tls::{ClientTls, ServerTls, TlsError};
use crate::plane::Plane;
use std::sync::Arc;

/// The files of a certificate in the configuration.
#[must_use]
pub fn files(certificate: &config::Certificate) -> Files {
    Files { cert: certificate.cert.clone(), key: certificate.key.clone() }
}

/// TLS towards clients, as configured.
pub(super) fn server_tls(tls: &config::Tls, http2: bool, shared: Option<Arc<Tickets>>) -> Result<ServerTls, TlsError> {
    let all = std::iter::once(&tls.default).chain(&tls.certificates).map(files);
    ServerTls::load(all.collect(), tls.strict_sni, http2, shared)
}

/// TLS towards everybody else, as configured.
pub(super) struct Outbound {
    roots: Arc<Roots>,
    /// Towards upstreams, which may ask for a certificate.
    pub(super) upstreams: Arc<ClientTls>,
    /// Towards issuers of tokens and keys. They are no upstreams: they get a secret of their own, and the certificate for
    /// upstreams never.
    pub(super) issuers: Arc<ClientTls>,
}

impl Outbound {
    pub(super) fn load(upstreams: &config::Upstreams) -> Result<Self, TlsError> {
        let roots = Arc::new(Roots::load(upstreams.ca_file.as_deref())?);
        let own = upstreams.client.as_ref().map(files);
        Ok(Self {
            upstreams: Arc::new(ClientTls::load(Arc::clone(&roots), own)?),
            issuers: Arc::new(ClientTls::load(Arc::clone(&roots), None)?),
            roots,
        })
    }

    /// Takes over roots and certificate where they have changed.
    fn reload(&self) {
        let roots_changed = self.roots.reload().unwrap_or_else(|error| {
            tracing::error!(key = CA_FILE, %error, "the roots are refused; the ones before stay in use");
            false
        });
        if roots_changed {
            tracing::info!(key = CA_FILE, "roots changed");
        }
        report("upstreams.client_cert", &self.upstreams.reload(roots_changed));
        report(CA_FILE, &self.issuers.reload(roots_changed));
    }
}

/// The key of the roots in the configuration.
const CA_FILE: &str = "upstreams.ca_file";

/// Takes over what has changed, warns of certificates that end, and says in the metrics how long they last.
pub(super) fn look_after(plane: &Plane, outbound: &Outbound) {
    let (now, metrics) = (plane.clock.now(), &plane.metrics);
    if let Some(tls) = &plane.tls {
        report("server.tls", &tls.reload());
        tell(metrics, "clients", tls.certificates().times(now));
    }
    outbound.reload();
    tell(metrics, "upstreams", outbound.upstreams.certificates().times(now));
}

fn report(key: &str, reloaded: &Reloaded) {
    for files in &reloaded.changed {
        tracing::info!(key, %files, "certificate changed");
    }
    for error in &reloaded.refused {
        tracing::error!(key, %error, "a certificate is refused; the one before stays in use");
    }
}

fn tell(metrics: &Metrics, shown_to: &'static str, times: Times) {
    if let Some(left) = times.left {
        metrics.certificate_expiry(shown_to).set(left as f64);
    }
    for (files, validity, standing) in times.news {
        warn(&files, validity, standing);
    }
}

fn warn(files: &Files, validity: Validity, standing: Standing) {
    let Validity { from, until } = validity;
    match standing {
        Standing::Good => {}
        Standing::EndsSoon => tracing::warn!(%files, %until, "a certificate ends soon"),
        Standing::Ended => tracing::warn!(%files, %until, "a certificate has ended; clients refuse it"),
        Standing::NotYet => tracing::warn!(%files, %from, "a certificate is not good yet; clients refuse it"),
    }
}
