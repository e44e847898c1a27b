//! How a service principal proves itself, as it is written: the keys of each kind, whether they stand in a directory file
//! or in a row of the database.

mod fields;
mod kinds;
mod parts;
pub(super) mod row;
mod secrets;
#[cfg(test)]
mod tests;

pub(super) use parts::{Parts, SEALED};
pub(super) use row::of_row;

use super::stamp::Stamp;
use crate::config::Env;
use crate::config::reader::Section;
use crate::model::ids::{OrgId, PrincipalId};
use crate::model::principal::{ClientCertificate, Extras, PrincipalKind};
use crate::model::url::AllowedHosts;
use crate::net::tls::client_pair;
use crate::vault::Vault;
use std::cell::RefCell;
use std::path::PathBuf;

/// The files in which secrets are, each as it was before it was read.
pub(super) type SecretFiles = RefCell<Vec<(PathBuf, Option<Stamp>)>>;

/// What checks need besides what is written.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The hosts that may stand in URLs.
    pub(super) policy: &'a AllowedHosts,
    /// The variables that hold secrets.
    pub(super) env: &'a Env,
    /// Opens sealed ones.
    pub(super) vault: &'a Vault,
    /// Notes the files that hold some.
    pub(super) files: &'a SecretFiles,
}

/// Reads what proves who one principal is.
pub(super) struct Reader<'a, 't> {
    pub(super) section: &'a Section<'t>,
    /// For whom its secrets are sealed; `None` when that is not known because of another mistake.
    pub(super) whose: Option<(&'a OrgId, &'a PrincipalId)>,
    /// Whether the workspace is on this machine; `None` when that is not known because of another mistake.
    pub(super) loopback: Option<bool>,
    pub(super) context: Context<'a>,
}

/// The keys of a principal, whatever its kind.
pub(super) const KEYS: &[&str] = &[
    "id",
    "kind",
    "workspace",
    "users",
    "control",
    "headers",
    "client_cert",
    "client_key",
    "client_id",
    "client_secret",
    "account_id",
    "accounts_url",
    "token_url",
    "auth",
    "scope",
    "params",
    "tenant",
    "authority",
    "private_key",
    "algorithm",
    "key_id",
    "issuer",
    "subject",
    "audience",
    "lifetime",
    "user",
    "password",
    "token",
    "name",
    "value",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "region",
    "service",
    "payload",
];

/// The kinds by name, each with the keys that not all have.
const KINDS: [(&str, &[&str]); 12] = [
    ("databricks", &["client_id", "client_secret", "account_id", "accounts_url"]),
    ("oauth2", &["token_url", "client_id", "client_secret", "auth", "scope", "params"]),
    ("entra", &["tenant", "client_id", "client_secret", "scope", "authority"]),
    ("jwt-bearer", &["token_url", "private_key", "algorithm", "key_id", "issuer", "subject", "audience", "scope"]),
    ("self-signed-jwt", &["private_key", "algorithm", "key_id", "issuer", "subject", "audience", "scope", "lifetime"]),
    ("token-exchange", &["token_url", "client_id", "issuer", "subject", "audience", "scope", "params"]),
    ("basic", &["user", "password"]),
    ("bearer", &["token"]),
    ("header", &["name", "value"]),
    ("sigv4", &["access_key_id", "secret_access_key", "session_token", "region", "service", "payload"]),
    ("mtls", &[]),
    ("none", &[]),
];

impl Reader<'_, '_> {
    /// Kind and extras; `None` when a mistake leaves nothing to build.
    pub(super) fn read(&self) -> Option<(PrincipalKind, Extras)> {
        let kind = self.kind();
        let is_by_certificate = kind == Some(PrincipalKind::Mtls);
        let extras =
            Extras { headers: fields::headers(self.section), certificate: self.certificate(is_by_certificate) };
        Some((kind?, extras))
    }

    fn kind(&self) -> Option<PrincipalKind> {
        let names = KINDS.map(|(name, _)| name);
        let item = self.section.require("kind", &format!("write one of {}", names.join(", ")))?;
        let (name, own) = item.one_of(&KINDS.map(|(name, own)| (name, (name, own))))?;
        let foreign = KINDS.iter().flat_map(|(_, keys)| *keys).filter(|key| !own.contains(key));
        for item in foreign.filter_map(|key| self.section.get(key)) {
            item.wrong(format!("a principal of kind {name:?} does not have this key; remove it"));
        }
        match name {
            "databricks" => self.databricks(),
            "oauth2" => self.oauth2(),
            "entra" => self.entra(),
            "jwt-bearer" => self.jwt_bearer(),
            "self-signed-jwt" => self.self_signed_jwt(),
            "token-exchange" => self.token_exchange(),
            "basic" => self.basic(),
            "bearer" => self.bearer(),
            "header" => self.header(),
            "sigv4" => self.sigv4(),
            "mtls" => Some(PrincipalKind::Mtls),
            _ => Some(PrincipalKind::None),
        }
    }

    /// The certificate with its key, which go together.
    fn certificate(&self, is_needed: bool) -> Option<ClientCertificate> {
        if !is_needed && self.section.get("client_cert").is_none() && self.section.get("client_key").is_none() {
            return None;
        }
        let chain = self.certificates("client_cert");
        let key = self.secret("client_key", |_| Ok::<_, &str>(()));
        let (chain, key) = (chain?, key?);
        if let Err(error) = client_pair(&chain, key.expose())
            && let Some(item) = self.section.get("client_key")
        {
            item.wrong(error.to_string());
        }
        Some(ClientCertificate { chain, key })
    }
}
