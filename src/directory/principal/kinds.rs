//! Each kind of principal, key by key.

use super::Reader;
use super::fields::{account_id, client_id, field_name, is_owned, params, plain, scope, secret_field, tenant, word};
use crate::config::reader::Item;
use crate::directory::checks::{forbidden, header_safe, no_controls};
use crate::model::principal::{
    Account, ClientAuth, Entra, JwtClaims, JwtKey, OAuth2, Payload, PrincipalKind, SIGNED_FIELDS, SigV4, TokenExchange,
};
use crate::model::url::{BaseUrl, Endpoint};
use crate::secret::Secret;
use crate::signing::{Algorithm, SigningKey};
use std::fmt::Display;
use std::time::Duration;

/// Where accounts of Databricks on AWS are.
const ACCOUNTS: &str = "https://accounts.cloud.databricks.com";
/// Where Microsoft Entra is, outside of sovereign clouds.
const ENTRA: &str = "https://login.microsoftonline.com";
const CLIENT_ID: &str = "write the OAuth client id of the service principal";

impl Reader<'_, '_> {
    pub(super) fn databricks(&self) -> Option<PrincipalKind> {
        let client_id = self.required("client_id", CLIENT_ID, client_id);
        let client_secret = self.secret("client_secret", no_controls);
        let account = self.account();
        Some(PrincipalKind::Databricks { client_id: client_id?, client_secret: client_secret?, account })
    }

    /// The account at which tokens are asked for, if one is.
    fn account(&self) -> Option<Account> {
        let Some(item) = self.section.get("account_id") else {
            if let Some(item) = self.section.get("accounts_url") {
                item.wrong("is for account_id, which is missing; add it, or remove this");
            }
            return None;
        };
        let (id, url) = (item.parsed(account_id), self.base_url("accounts_url", ACCOUNTS));
        Some(Account { id: id?, url: url? })
    }

    pub(super) fn oauth2(&self) -> Option<PrincipalKind> {
        let token_url = self.token_url();
        let client_id = self.required("client_id", "write the OAuth client id", plain);
        let client_secret = self.secret("client_secret", no_controls);
        let auth = self.section.or("auth", ClientAuth::default(), |item| item.one_of(&ClientAuth::NAMES));
        let scope = self.optional("scope", scope);
        let params = params(self.section);
        let (token_url, client_id, client_secret) = (token_url?, client_id?, client_secret?);
        Some(PrincipalKind::OAuth2(OAuth2 { token_url, client_id, client_secret, auth, scope, params }))
    }

    pub(super) fn entra(&self) -> Option<PrincipalKind> {
        let authority = self.base_url("authority", ENTRA);
        let tenant = self.required("tenant", "write the id or the domain of the tenant", tenant);
        let client_id = self.required("client_id", "write the application's client id", plain);
        let client_secret = self.secret("client_secret", no_controls);
        let scope = self.required("scope", "write the resource with /.default behind it", scope);
        let (authority, tenant, client_id) = (authority?, tenant?, client_id?);
        let (client_secret, scope) = (client_secret?, scope?);
        Some(PrincipalKind::Entra(Entra { authority, tenant, client_id, client_secret, scope }))
    }

    pub(super) fn jwt_bearer(&self) -> Option<PrincipalKind> {
        let token_url = self.token_url();
        let (key, claims) = (self.jwt_key(), self.jwt_claims());
        Some(PrincipalKind::JwtBearer { token_url: token_url?, key: key?, claims: claims? })
    }

    pub(super) fn self_signed_jwt(&self) -> Option<PrincipalKind> {
        let (key, claims) = (self.jwt_key(), self.jwt_claims());
        let lifetime = self.section.or("lifetime", Duration::from_secs(3600), lifetime);
        Some(PrincipalKind::SelfSignedJwt { key: key?, claims: claims?, lifetime })
    }

    fn jwt_key(&self) -> Option<JwtKey> {
        let algorithm = self.section.or("algorithm", Algorithm::Rs256, |item| item.one_of(&Algorithm::NAMES));
        let check = |pem: &str| SigningKey::from_pem(algorithm, &Secret::new(pem.to_owned())).map(drop);
        let private_key = self.secret("private_key", check);
        let key_id = self.optional("key_id", plain);
        Some(JwtKey { private_key: private_key?, algorithm, key_id })
    }

    fn jwt_claims(&self) -> Option<JwtClaims> {
        let issuer = self.required("issuer", "write the iss of the JWT", plain);
        let (subject, audience) = (self.optional("subject", plain), self.optional("audience", plain));
        let scope = self.optional("scope", scope);
        Some(JwtClaims { issuer: issuer?, subject, audience, scope })
    }

    pub(super) fn token_exchange(&self) -> Option<PrincipalKind> {
        let token_url = self.section.get("token_url").and_then(|_| self.token_url());
        let client_id = self.optional("client_id", plain);
        let (issuer, audience) = (self.optional("issuer", plain), self.optional("audience", plain));
        let subject = self.required("subject", "write the sub that the issuer's federation policy expects", plain);
        let scope = self.optional("scope", scope);
        let params = params(self.section);
        let subject = subject?;
        let exchange = TokenExchange { token_url, client_id, issuer, subject, audience, scope, params };
        Some(PrincipalKind::TokenExchange(exchange))
    }

    pub(super) fn basic(&self) -> Option<PrincipalKind> {
        let user = self.required("user", "write the user name", user);
        let password = self.secret("password", no_controls);
        Some(PrincipalKind::Basic { user: user?, password: password? })
    }

    pub(super) fn bearer(&self) -> Option<PrincipalKind> {
        self.secret("token", header_safe).map(|token| PrincipalKind::Bearer { token })
    }

    pub(super) fn header(&self) -> Option<PrincipalKind> {
        let name = self.required("name", "write the name of the header field", |name| {
            // Some apps take a word of their own in front of the token, where Bearer is for others.
            if name.eq_ignore_ascii_case("Authorization") { Ok(name.to_owned()) } else { field_name(name) }
        });
        let value = self.secret("value", secret_field);
        let (name, value) = (name?, value?);
        self.keep_out_of_headers(&name);
        Some(PrincipalKind::Header { name, value })
    }

    pub(super) fn sigv4(&self) -> Option<PrincipalKind> {
        let access_key_id = self.required("access_key_id", "write the access key id", word);
        let secret_access_key = self.secret("secret_access_key", no_controls);
        let session_token = self.section.get("session_token").and_then(|_| self.secret("session_token", header_safe));
        let region = self.required("region", "write the region, such as \"eu-central-1\"", word);
        let service = self.required("service", "write the service as AWS signs for it, such as \"execute-api\"", word);
        let payload = self.section.or("payload", Payload::default(), |item| item.one_of(&Payload::NAMES));
        for name in SIGNED_FIELDS {
            self.keep_out_of_headers(name);
        }
        let (access_key_id, secret_access_key) = (access_key_id?, secret_access_key?);
        let (region, service) = (region?, service?);
        Some(PrincipalKind::SigV4(SigV4 { access_key_id, secret_access_key, session_token, region, service, payload }))
    }

    /// Reports a fixed field of a name that the credential itself sets.
    fn keep_out_of_headers(&self, name: &str) {
        if self.section.get("headers").and_then(|item| item.as_table()).is_some_and(|own| is_owned(own, name)) {
            self.section.wrong(format!("the header field {name:?} stands in headers, too; remove it there"));
        }
    }

    fn required<T, E: Display>(&self, key: &str, advice: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.section.require(key, advice)?.parsed(parse)
    }

    /// What may be left out.
    fn optional<T, E: Display>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.section.get(key)?.parsed(parse)
    }

    fn token_url(&self) -> Option<Endpoint> {
        let item = self.section.require("token_url", "write token_url = \"https://...\", where tokens are issued")?;
        let endpoint = item.parsed(Endpoint::parse)?;
        self.permit(&item, endpoint.base());
        Some(endpoint)
    }

    fn base_url(&self, key: &str, usual: &str) -> Option<BaseUrl> {
        let Some(item) = self.section.get(key) else {
            let url = BaseUrl::parse(usual).ok()?;
            if let Some(error) = self.forbidden(&url) {
                self.section.wrong(format!("without {key}, {error}"));
            }
            return Some(url);
        };
        let url = item.parsed(BaseUrl::parse)?;
        self.permit(&item, &url);
        Some(url)
    }

    /// Reports a host that the policy does not allow.
    fn permit(&self, item: &Item<'_>, url: &BaseUrl) {
        if let Some(error) = self.forbidden(url) {
            item.wrong(error);
        }
    }

    fn forbidden(&self, url: &BaseUrl) -> Option<String> {
        forbidden(self.context.policy, url)
    }
}

/// The longest that issuers take, and the shortest that leaves time to sign the next.
fn lifetime(item: &Item<'_>) -> Option<Duration> {
    let lifetime = item.duration()?;
    if !(Duration::from_secs(60)..=Duration::from_secs(24 * 3600)).contains(&lifetime) {
        item.wrong("must be from 60s to 24h");
        return None;
    }
    Some(Duration::from_secs(lifetime.as_secs()))
}

/// A user name, which a colon would end (RFC 7617 2).
fn user(text: &str) -> Result<String, &'static str> {
    if text.contains(':') {
        Err("a user name holds no colon")
    } else {
        plain(text).map_err(|_| "holds line breaks or other control characters, or is too long")
    }
}
