//! Certificates while the gateway runs: read again when their files change, and watched for their end.

use crate::config;
use crate::metrics::Metrics;
use crate::net::certificates::{Files, Reloaded, Standing, Times, Validity};
use crate::net::tls::{ClientTls, ServerTls, TlsError};
use crate::plane::Plane;

/// The files of a certificate in the configuration.
#[must_use]
pub fn files(certificate: &config::Certificate) -> Files {
    Files { cert: certificate.cert.clone(), key: certificate.key.clone() }
}

/// TLS towards clients, as configured.
pub(super) fn server_tls(tls: &config::Tls, http2: bool) -> Result<ServerTls, TlsError> {
    let all = std::iter::once(&tls.default).chain(&tls.certificates).map(files);
    ServerTls::load(all.collect(), tls.strict_sni, http2)
}

/// TLS towards upstreams, as configured.
pub(super) fn upstream_tls(upstreams: &config::Upstreams) -> Result<ClientTls, TlsError> {
    ClientTls::load(upstreams.ca_file.as_deref(), upstreams.client.as_ref().map(files))
}

/// Takes over what has changed, warns of certificates that end, and says in the metrics how long they last.
pub(super) fn look_after(plane: &Plane) {
    let (now, metrics) = (plane.clock.now(), &plane.metrics);
    if let Some(tls) = &plane.tls {
        report("server.tls", &tls.reload());
        tell(metrics, "clients", tls.certificates().times(now));
    }
    let tls = plane.dialer.tls();
    report("upstreams.client_cert", &tls.reload());
    tell(metrics, "upstreams", tls.certificates().times(now));
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
