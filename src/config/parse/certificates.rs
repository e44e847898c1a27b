//! The files of certificates and keys.

use super::keys;
use super::{Certificate, required_path};
use crate::config::reader::{Item, Section};
use crate::config::{MAX_CERTIFICATES, Tls};

/// `server.tls`.
pub(super) fn tls(section: &Section<'_>) -> Tls {
    Tls {
        default: pair(section),
        certificates: section.get("certificates").map(|item| more(&item)).unwrap_or_default(),
        strict_sni: section.or("strict_sni", false, Item::boolean),
    }
}

fn more(item: &Item<'_>) -> Vec<Certificate> {
    let sections = item.sections(keys::CERTIFICATE);
    if sections.len() > MAX_CERTIFICATES {
        item.wrong(format!("has {} certificates; {MAX_CERTIFICATES} is the most", sections.len()));
        return Vec::new();
    }
    sections.iter().map(pair).collect()
}

fn pair(section: &Section<'_>) -> Certificate {
    Certificate {
        cert: required_path(section, "cert", "write cert = \"tls.crt\", the PEM file with the certificate"),
        key: required_path(section, "key", "write key = \"tls.key\", the PEM file with the private key"),
    }
}

/// What upstreams are shown: certificate and key, or neither.
pub(super) fn client(section: &Section<'_>) -> Option<Certificate> {
    if section.get("client_cert").is_none() && section.get("client_key").is_none() {
        return None;
    }
    Some(Certificate {
        cert: required_path(section, "client_cert", "client_key needs it; write client_cert = \"client.crt\""),
        key: required_path(section, "client_key", "client_cert needs it; write client_key = \"client.key\""),
    })
}
