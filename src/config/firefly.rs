//! The variables of FireFly's own proxy as a configuration, so that the gateway can stand in its place without a file.

use super::Env;
use super::env::put;
use super::mistake::{Damage, Place, Report};
use super::tree::{Node, Table, Value};

/// What messages call it in place of a file.
pub const NAME: &str = "FireFly's environment";
/// The variable with the key that FireFly's two sides share. The session key is derived from it.
pub const ENCRYPTION_KEY: &str = "ENCRYPTION_KEY";
/// The id of the key that sessions are sealed with when no other is named.
pub const KEY_ID: &str = "firefly";
/// The names of this machine at which apps and issuers may be in development mode.
pub const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Databricks' domains of workspaces, which issue the tokens.
const WORKSPACES: [&str; 3] = ["cloud.databricks.com", "azuredatabricks.net", "gcp.databricks.com"];
/// Without these FireFly's proxy does not start either.
const REQUIRED: [(&str, &str); 3] = [
    ("FRONTEND_URL", "the origin of FireFly's front end, such as https://firefly.example.com"),
    ("DATABASE_URL", "the database of FireFly's front end, such as postgres://user:password@host/database"),
    ("ALLOWED_APEX_DOMAIN", "the domain that all apps are below, such as aws.databricksapps.com"),
];

/// Whether the environment is one of FireFly's proxy.
#[must_use]
pub fn is_meant(env: &Env) -> bool {
    REQUIRED.iter().any(|(name, _)| value(env, name).is_some())
}

/// Whether FireFly's proxy is told to be lenient, for work on one machine.
fn is_development(env: &Env) -> bool {
    value(env, "DEV_MODE").is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// The value of a variable; an empty one is as good as none.
fn value<'e>(env: &'e Env, name: &str) -> Option<&'e str> {
    env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// The variables as the tree of a configuration. Every value remembers its variable, for messages.
pub(super) fn tree(env: &Env, report: &mut Report) -> Node {
    for (name, advice) in REQUIRED.iter().filter(|(name, _)| value(env, name).is_none()) {
        report.add(&Place::Nowhere, name, format!("is not set; it has to be {advice}"));
        // What would be said to be missing because of it is not reported as well.
        report.set_damage(Damage { from: Some(usize::MAX), ..Damage::default() });
    }
    let mut root = table();
    for section in ["server", "routing", "embedding", "session", "directory", "upstreams", "firefly"] {
        // Of no variable, so that what a section lacks is not put down to one that it has.
        put(&mut root, &[section.to_owned()], table(), &Place::Nowhere, report);
    }
    let mut draft = Draft { root, report };
    draft.server(env);
    draft.front_end(env);
    draft.upstreams(env);
    draft.keys(env);
    draft.root
}

struct Draft<'r> {
    root: Node,
    report: &'r Report,
}

impl Draft<'_> {
    /// Sets a key to what a variable says.
    fn set(&mut self, key: &str, value: Value, variable: &str) {
        let place = Place::Variable(variable.to_owned());
        let path: Vec<_> = key.split('.').map(str::to_owned).collect();
        put(&mut self.root, &path, Node { value, place: place.clone() }, &place, self.report);
    }

    fn server(&mut self, env: &Env) {
        let port = value(env, "PORT").unwrap_or("8090");
        self.set("server.listen", text(format!("0.0.0.0:{port}")), "PORT");
        // The name is of no matter, because the gateway answers at every one, as FireFly's proxy does.
        let public = if is_development(env) { "http://localhost" } else { "https://localhost" };
        self.set("server.public_url", text(public), "DEV_MODE");
        self.set("routing.public_hosts", list(&["*"], "PORT"), "PORT");
    }

    fn front_end(&mut self, env: &Env) {
        // FireFly's sessions last for an hour whether or not there are requests.
        self.set("session.ttl", text("1h"), "FRONTEND_URL");
        self.set("session.idle_timeout", text("1h"), "FRONTEND_URL");
        let Some(origin) = value(env, "FRONTEND_URL") else { return };
        let origin = origin.trim_end_matches('/');
        self.set("embedding.frontend_origins", list(&[origin], "FRONTEND_URL"), "FRONTEND_URL");
        self.set("session.jwt.issuer", text(origin), "FRONTEND_URL");
        self.set("session.jwt.audience", text(origin), "FRONTEND_URL");
        self.set("session.jwt.jwks_url", text(format!("{origin}/api/auth/jwks")), "FRONTEND_URL");
    }

    fn upstreams(&mut self, env: &Env) {
        self.set("directory.source", text("firefly"), "DATABASE_URL");
        if value(env, "DATABASE_URL").is_some() {
            self.set("directory.postgres.url_env", text("DATABASE_URL"), "DATABASE_URL");
        }
        let is_development = is_development(env);
        self.set("upstreams.allow_private_addresses", Value::Boolean(is_development), "DEV_MODE");
        let Some(apex) = value(env, "ALLOWED_APEX_DOMAIN") else { return };
        self.set("firefly.apex_domain", text(apex), "ALLOWED_APEX_DOMAIN");
        let local: &[&str] = if is_development { &LOCAL } else { &[] };
        let domains = [&[apex], &WORKSPACES[..], local].concat();
        self.set("upstreams.allowed_domains", list(&domains, "ALLOWED_APEX_DOMAIN"), "ALLOWED_APEX_DOMAIN");
    }

    fn keys(&mut self, env: &Env) {
        if let Some(suffix) = value(env, "APP_DOMAIN_SUFFIX") {
            self.set("firefly.domain_suffix", text(suffix), "APP_DOMAIN_SUFFIX");
        }
        if value(env, ENCRYPTION_KEY).is_none() {
            return;
        }
        self.set("firefly.encryption_key.env", text(ENCRYPTION_KEY), ENCRYPTION_KEY);
        let mut key = table();
        let place = Place::Variable(ENCRYPTION_KEY.to_owned());
        for (name, value) in [("id", text(KEY_ID)), ("env", text(ENCRYPTION_KEY)), ("derived", Value::Boolean(true))] {
            put(&mut key, &[name.to_owned()], Node { value, place: place.clone() }, &place, self.report);
        }
        self.set("session.keys", Value::Array(vec![key]), ENCRYPTION_KEY);
    }
}

fn table() -> Node {
    Node { value: Value::Table(Table::new()), place: Place::Nowhere }
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn list(items: &[&str], variable: &str) -> Value {
    let node = |item: &&str| Node { value: text(*item), place: Place::Variable(variable.to_owned()) };
    Value::Array(items.iter().map(node).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DirectorySource, KeySource, Mistakes, UrlSource};
    use crate::model::url::Scheme;

    fn env(pairs: &[(&str, &str)]) -> Env {
        let required = [
            ("FRONTEND_URL", "https://front.example"),
            ("DATABASE_URL", "postgres://u@db.example/d"),
            ("ALLOWED_APEX_DOMAIN", "aws.databricksapps.com"),
        ];
        required.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn mistakes(pairs: &[(&str, &str)]) -> String {
        Mistakes(Config::examine_firefly(&env(pairs)).1).to_string()
    }

    #[test]
    fn the_variables_are_a_configuration() {
        let config = Config::of_firefly(&env(&[])).unwrap();
        assert_eq!(config.server.listen.to_string(), "0.0.0.0:8090");
        assert_eq!(config.server.public_url.scheme(), Scheme::Https);
        assert!(config.routing.any_host && config.session.keys.is_empty() && config.firefly_v1.is_none());
        let jwt = config.session.jwt.unwrap();
        assert_eq!((&*jwt.issuer, &*jwt.audience), ("https://front.example", "https://front.example"));
        assert_eq!(jwt.jwks_url.to_string(), "https://front.example/api/auth/jwks");
        let DirectorySource::Firefly(tables) = config.directory else { panic!("another source") };
        assert_eq!(tables.postgres.url, UrlSource::Env("DATABASE_URL".into()));
        assert_eq!(tables.apps.domains, ["aws.databricksapps.com"]);
        assert!(!config.upstreams.allowed.private);
        assert!(config.upstreams.allowed.domains.contains(&"azuredatabricks.net".to_owned()));
    }

    #[test]
    fn keys_modes_and_overrides() {
        let key = "5a".repeat(32);
        let config = Config::of_firefly(&env(&[
            ("DEV_MODE", "True"),
            ("PORT", "9"),
            ("ENCRYPTION_KEY", &key),
            ("APP_DOMAIN_SUFFIX", "net"),
            ("EMBEDGATE__FIREFLY__V1", "true"),
            ("EMBEDGATE__SERVER__LISTEN", "127.0.0.1:0"),
        ]))
        .unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.server.public_url.scheme(), Scheme::Http);
        assert!(config.upstreams.allowed.private && config.session.keys[0].derived);
        let v1 = config.firefly_v1.unwrap();
        assert_eq!((v1.key, &*v1.domain_suffix), (KeySource::Env("ENCRYPTION_KEY".into()), "net"));
        let DirectorySource::Firefly(tables) = config.directory else { panic!("another source") };
        assert_eq!(tables.apps.domains, ["aws.databricksapps.com", "localhost", "127.0.0.1", "::1"]);
    }

    #[test]
    fn mistakes_name_their_variables() {
        for (name, value, said) in [
            ("PORT", "x", "server.listen: in PORT: \"0.0.0.0:x\" is not an address"),
            ("PORT", "9900", "is taken by server.listen"),
            ("FRONTEND_URL", "", "FRONTEND_URL: is not set"),
            ("FRONTEND_URL", "front.example", "embedding.frontend_origins[#1]: in FRONTEND_URL: "),
            ("FRONTEND_URL", "http://front.example", "session.jwt.jwks_url: in FRONTEND_URL: plain http"),
            ("DATABASE_URL", "", "DATABASE_URL: is not set"),
            (
                "DATABASE_URL",
                "host=x",
                "in DATABASE_URL: the environment variable \"DATABASE_URL\" holds no Postgres URL",
            ),
            ("ALLOWED_APEX_DOMAIN", " ", "ALLOWED_APEX_DOMAIN: is not set"),
            ("ALLOWED_APEX_DOMAIN", "https://x", "firefly.apex_domain: in ALLOWED_APEX_DOMAIN: "),
            ("ALLOWED_APEX_DOMAIN", "127.0.0.1", "in ALLOWED_APEX_DOMAIN: addresses and localhost need"),
            ("EMBEDGATE__FIREFLY__V1", "true", "FireFly's environment: firefly.encryption_key: is missing"),
        ] {
            let found = mistakes(&[(name, value)]);
            assert!(found.contains(said), "{name}={value}: {found}");
        }
        let none = Mistakes(Config::examine_firefly(&Env::new()).1).to_string();
        assert_eq!(none.lines().count(), 3, "{none}");
        assert!(!is_meant(&Env::new()) && is_meant(&env(&[])));
    }
}
