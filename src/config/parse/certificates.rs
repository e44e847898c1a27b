//! The files of certificates and keys.

use super::keys;
use super::{Certificate, key_source, required_path};
use crate::config::reader::{Item, Section};
use crate::config::{Env, KeySource, MAX_CERTIFICATES, MAX_TICKET_KEYS, Tls};

/// `server.tls`.
pub(super) fn tls(section: &Section<'_>, env: &Env) -> Tls {
    Tls {
        default: pair(section),
        certificates: section.get("certificates").map(|item| more(&item)).unwrap_or_default(),
        strict_sni: section.or("strict_sni", false, Item::boolean),
        ticket_keys: section.get("ticket_keys").map(|item| ticket_keys(&item, env)).unwrap_or_default(),
    }
}

fn ticket_keys(item: &Item<'_>, env: &Env) -> Vec<KeySource> {
    let sections = item.sections(keys::KEY_SOURCE);
    if sections.len() > MAX_TICKET_KEYS {
        item.wrong(format!("has {} keys; {MAX_TICKET_KEYS} is the most", sections.len()));
    }
    sections.iter().filter_map(|section| key_source(section, env)).collect()
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
