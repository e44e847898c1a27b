//! A principal taken apart into what a row of the database holds: the other way round than it is read.

use crate::config::duration;
use crate::model::principal::{
    ClientCertificate, Entra, JwtClaims, JwtKey, OAuth2, PrincipalKind, PrincipalRow, SigV4, TokenExchange,
};
use crate::secret::Secret;
use serde_json::{Map, Value};

/// The columns that hold secrets, by the names of their keys.
pub(in crate::directory) const SEALED: [&str; 8] =
    ["client_secret", "token", "password", "value", "private_key", "secret_access_key", "session_token", "client_key"];

/// What a row holds.
pub(in crate::directory) struct Parts<'a> {
    /// The name of the kind.
    pub(in crate::directory) kind: &'static str,
    pub(in crate::directory) client_id: Option<&'a str>,
    /// What is no secret and has no column of its own.
    pub(in crate::directory) settings: Map<String, Value>,
    /// Those of [`SEALED`] that there are.
    pub(in crate::directory) secrets: Vec<(&'static str, &'a Secret)>,
}

impl<'a> Parts<'a> {
    /// The parts of a principal.
    pub(in crate::directory) fn of(row: &'a PrincipalRow) -> Self {
        let mut parts = Self { kind: "", client_id: None, settings: Map::new(), secrets: Vec::new() };
        parts.kind = parts.take(&row.kind);
        parts.pairs("headers", &row.extras.headers);
        if let Some(ClientCertificate { chain, key }) = &row.extras.certificate {
            parts.set("client_cert", chain);
            parts.secrets.push(("client_key", key));
        }
        parts
    }

    fn take(&mut self, kind: &'a PrincipalKind) -> &'static str {
        match kind {
            PrincipalKind::Databricks { client_id, client_secret, account } => {
                self.client(client_id, client_secret);
                if let Some(account) = account {
                    self.set("account_id", &account.id);
                    self.set("accounts_url", account.url.to_string());
                }
                "databricks"
            }
            PrincipalKind::OAuth2(oauth2) => self.oauth2(oauth2),
            PrincipalKind::Entra(entra) => self.entra(entra),
            PrincipalKind::JwtBearer { token_url, key, claims } => {
                self.set("token_url", token_url.to_string());
                self.jwt(key, claims);
                "jwt-bearer"
            }
            PrincipalKind::SelfSignedJwt { key, claims, lifetime } => {
                self.jwt(key, claims);
                self.set("lifetime", duration::format(*lifetime));
                "self-signed-jwt"
            }
            PrincipalKind::TokenExchange(exchange) => self.exchange(exchange),
            PrincipalKind::Basic { user, password } => {
                self.set("user", user);
                self.secrets.push(("password", password));
                "basic"
            }
            PrincipalKind::Bearer { token } => {
                self.secrets.push(("token", token));
                "bearer"
            }
            PrincipalKind::Header { name, value } => {
                self.set("name", name);
                self.secrets.push(("value", value));
                "header"
            }
            PrincipalKind::SigV4(sigv4) => self.sigv4(sigv4),
            PrincipalKind::Mtls => "mtls",
            PrincipalKind::None => "none",
            // No file holds one; the database refuses it.
            PrincipalKind::Unusable => "unusable",
        }
    }

    fn oauth2(&mut self, oauth2: &'a OAuth2) -> &'static str {
        self.client(&oauth2.client_id, &oauth2.client_secret);
        self.set("token_url", oauth2.token_url.to_string());
        self.set("auth", oauth2.auth.name());
        self.set_some("scope", oauth2.scope.as_ref());
        self.pairs("params", &oauth2.params);
        "oauth2"
    }

    fn entra(&mut self, entra: &'a Entra) -> &'static str {
        self.client(&entra.client_id, &entra.client_secret);
        self.set("authority", entra.authority.to_string());
        self.set("tenant", &entra.tenant);
        self.set("scope", &entra.scope);
        "entra"
    }

    fn jwt(&mut self, key: &'a JwtKey, claims: &JwtClaims) {
        self.secrets.push(("private_key", &key.private_key));
        self.set("algorithm", key.algorithm.name());
        self.set_some("key_id", key.key_id.as_ref());
        self.set("issuer", &claims.issuer);
        self.set_some("subject", claims.subject.as_ref());
        self.set_some("audience", claims.audience.as_ref());
        self.set_some("scope", claims.scope.as_ref());
    }

    fn exchange(&mut self, exchange: &'a TokenExchange) -> &'static str {
        self.client_id = exchange.client_id.as_deref();
        self.set_some("token_url", exchange.token_url.as_ref().map(ToString::to_string).as_ref());
        self.set_some("issuer", exchange.issuer.as_ref());
        self.set("subject", &exchange.subject);
        self.set_some("audience", exchange.audience.as_ref());
        self.set_some("scope", exchange.scope.as_ref());
        self.pairs("params", &exchange.params);
        "token-exchange"
    }

    fn sigv4(&mut self, sigv4: &'a SigV4) -> &'static str {
        self.set("access_key_id", &sigv4.access_key_id);
        self.secrets.push(("secret_access_key", &sigv4.secret_access_key));
        self.secrets.extend(sigv4.session_token.as_ref().map(|token| ("session_token", token)));
        self.set("region", &sigv4.region);
        self.set("service", &sigv4.service);
        self.set("payload", sigv4.payload.name());
        "sigv4"
    }

    fn client(&mut self, id: &'a str, secret: &'a Secret) {
        self.client_id = Some(id);
        self.secrets.push(("client_secret", secret));
    }

    fn set(&mut self, key: &str, value: impl Into<String>) {
        self.settings.insert(key.to_owned(), Value::String(value.into()));
    }

    fn set_some(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    fn pairs(&mut self, key: &str, pairs: &[(String, String)]) {
        if !pairs.is_empty() {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
            self.settings.insert(key.to_owned(), Value::Object(pairs));
        }
    }
}
