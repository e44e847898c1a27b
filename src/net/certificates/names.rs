//! Which certificate is shown to a client that asks for a name (SNI, RFC 6066 3).

use super::Certificate;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Certificates by the names in them.
#[derive(Debug, Default)]
pub struct ByName {
    default: Option<Arc<CertifiedKey>>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what stands behind `*.`.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// All of these. Where several have a name, the first one counts; the first of all is the default unless `strict`.
    pub(super) fn new<'c>(certificates: impl Iterator<Item = &'c Certificate>, strict: bool) -> Self {
        let mut all = Self::default();
        for certificate in certificates {
            if !strict {
                all.default.get_or_insert_with(|| Arc::clone(&certificate.key));
            }
            for name in &certificate.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut all.wildcards, parent),
                    None => (&mut all.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_insert_with(|| Arc::clone(&certificate.key));
            }
        }
        all
    }

    /// The certificate for a client that asks for this name, or for none: one with exactly this name, else with a
    /// wildcard in the place of its first label and no other (RFC 9525 6.3), else the default.
    #[must_use]
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = |name: &str| {
            let name = name.to_ascii_lowercase();
            let by_wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcards.get(parent));
            self.exact.get(&name).or_else(by_wildcard)
        };
        name.and_then(named).or(self.default.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::certificates::Validity;
    use crate::net::tls::provider;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use x509_cert::der::DateTime;

    /// A certificate for these names, told from others by its chain.
    fn certificate(tag: &str, names: &[&str]) -> Certificate {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.as_ref().to_vec().into());
        let key = provider().key_provider.load_private_key(key).unwrap();
        let chain = vec![CertificateDer::from(tag.as_bytes().to_vec())];
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let validity = Validity { from: DateTime::INFINITY, until: DateTime::INFINITY };
        Certificate { key: Arc::new(CertifiedKey::new(chain, key)), names, validity }
    }

    fn shown(all: &ByName, name: Option<&str>) -> String {
        let found = all.find(name).map(|key| key.cert[0].to_vec());
        found.map_or_else(String::new, |tag| String::from_utf8(tag).unwrap())
    }

    #[test]
    fn the_closest_name_counts() {
        let all = [
            certificate("default", &["gate.example"]),
            certificate("wild", &["*.apps.example", "apps.example"]),
            certificate("exact", &["special.apps.example", "gate.example"]),
            certificate("later", &["*.apps.example", "*.example"]),
            certificate("nameless", &[]),
        ];
        let table = ByName::new(all.iter(), false);
        for (name, expected) in [
            ("gate.example", "default"),
            ("editor--acme.apps.example", "wild"),
            ("EDITOR.Apps.Example", "wild"),
            ("apps.example", "wild"),
            ("special.apps.example", "exact"),
            ("a.b.apps.example", "default"),
            ("other.example", "later"),
            ("example", "default"),
            ("*.apps.example", "wild"),
            ("", "default"),
        ] {
            assert_eq!(shown(&table, Some(name)), expected, "{name}");
        }
        assert_eq!(shown(&table, None), "default");
    }

    #[test]
    fn strict_has_no_default() {
        let all = [certificate("default", &["gate.example"])];
        let table = ByName::new(all.iter(), true);
        assert_eq!(shown(&table, Some("gate.example")), "default");
        assert_eq!((shown(&table, Some("x.example")), shown(&table, None)), (String::new(), String::new()));
    }
}
