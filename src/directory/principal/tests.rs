//! What each kind takes and refuses, in files and in rows of the database.

use super::*;
use crate::config::{Env, Mistakes};
use crate::directory::file;
use crate::model::principal::{JwtKey, PrincipalRow};
use crate::model::url::AllowedHosts;
use crate::secret::Secret;
use crate::signing::Algorithm;
use crate::signing::tests::pem;
use std::path::Path;

const ORG: &str = "[[org]]\nid = 'o'\n[[org.workspace]]\nid = 'w'\nurl = 'https://w.example.com'\n[[org.principal]]\n";

fn policy() -> AllowedHosts {
    AllowedHosts { domains: vec!["example.com".into()], private: false }
}

fn env() -> Env {
    let variables = [("S", "hush".to_owned()), ("LINES", "hu\nsh".to_owned())];
    let keys = [("RSA", Algorithm::Rs256), ("EC", Algorithm::Es256)].map(|(name, of)| (name, pem(of)));
    let keys = keys.map(|(name, pem)| (name, pem.expose().to_owned()));
    variables.into_iter().chain(keys).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn vault() -> Vault {
    Vault::new([("k1".to_owned(), [7; 32])])
}

/// A principal of these lines.
fn read(lines: &str, env: &Env) -> Result<PrincipalRow, Mistakes> {
    let tables = file::parse(&format!("{ORG}id = 'p'\n{lines}"), Path::new("f"), &policy(), env, &vault())?;
    Ok(tables.orgs[0].principals[0].clone())
}

/// Principals of each kind, with all keys and with no more than is needed.
const GOOD: [&str; 17] = [
    "kind = 'databricks'\nclient_id = 'c'\nclient_secret = { env = 'S' }",
    "kind = 'databricks'\nclient_id = 'c'\nclient_secret = { env = 'S' }\naccount_id = 'a-1'\naccounts_url = 'https://accounts.example.com'",
    "kind = 'oauth2'\ntoken_url = 'https://t.example.com/oauth/token?x=y'\nclient_id = 'c:d'\nclient_secret = { env = 'S' }",
    "kind = 'oauth2'\ntoken_url = 'https://t.example.com'\nclient_id = 'c'\nclient_secret = { env = 'S' }\nauth = 'body'\nscope = 'a b'\nparams = { audience = 'https://api', resource = 'r' }",
    "kind = 'entra'\ntenant = 'acme.onmicrosoft.com'\nclient_id = 'c'\nclient_secret = { env = 'S' }\nscope = 's/.default'\nauthority = 'https://login.example.com'",
    "kind = 'jwt-bearer'\ntoken_url = 'https://t.example.com/t'\nprivate_key = { env = 'RSA' }\nissuer = 'i'",
    "kind = 'jwt-bearer'\ntoken_url = 'https://t.example.com/t'\nprivate_key = { env = 'EC' }\nalgorithm = 'ES256'\nkey_id = 'k'\nissuer = 'i'\nsubject = 's'\naudience = 'a'\nscope = 'x y'",
    "kind = 'self-signed-jwt'\nprivate_key = { env = 'RSA' }\nissuer = 'A.B.{fingerprint}'\nsubject = 'A.B'\nlifetime = '59m'",
    "kind = 'self-signed-jwt'\nprivate_key = { env = 'RSA' }\nissuer = 'i'\naudience = 'a'\nheaders = { X-Requested-By = 'g' }",
    "kind = 'token-exchange'\nsubject = 's'",
    "kind = 'token-exchange'\nsubject = 's'\ntoken_url = 'https://t.example.com/t'\nclient_id = 'c'\nissuer = 'i'\naudience = 'a'\nscope = 'x'\nparams = { audience = 'b' }",
    "kind = 'basic'\nuser = 'Jörg Ü'\npassword = { env = 'S' }\nheaders = { X-Requested-By = 'g', X-Trino-User = 'svc' }",
    "kind = 'header'\nname = 'X-Key'\nvalue = { env = 'S' }",
    "kind = 'header'\nname = 'authorization'\nvalue = { env = 'S' }",
    "kind = 'sigv4'\naccess_key_id = 'AKID'\nsecret_access_key = { env = 'S' }\nregion = 'eu-central-1'\nservice = 'glue'",
    "kind = 'sigv4'\naccess_key_id = 'AKID'\nsecret_access_key = { env = 'S' }\nsession_token = { env = 'S' }\nregion = 'eu'\nservice = 's3'\npayload = 'unsigned'",
    "kind = 'none'\nheaders = { X-Requested-By = 'g' }",
];

#[test]
fn a_row_of_the_parts_is_the_principal_again() {
    let env = env();
    for lines in GOOD {
        let row = read(lines, &env).unwrap_or_else(|mistakes| panic!("{lines}: {mistakes}"));
        let parts = Parts::of(&row);
        let mut settings = parts.settings.clone();
        settings.insert("kind".to_owned(), parts.kind.into());
        settings.extend(parts.client_id.map(|id| ("client_id".to_owned(), id.into())));
        let seal = |secret: &Secret| vault().seal("o", "p", secret).unwrap();
        let sealed: Vec<_> = parts.secrets.iter().map(|(name, secret)| (*name, seal(secret))).collect();
        let sealed: Vec<_> = sealed.iter().map(|(name, sealed)| (*name, Some(sealed.as_str()))).collect();
        let (policy, none, vault, files) = (policy(), Env::new(), vault(), SecretFiles::default());
        let context = Context { policy: &policy, env: &none, vault: &vault, files: &files };
        let org = OrgId::parse("o").unwrap();
        let settings = serde_json::Value::Object(settings).to_string();
        let again = of_row((&org, &row.id), &settings, &sealed, context);
        assert_eq!(again, Ok((row.kind.clone(), row.extras.clone())), "{lines}");
    }
}

#[test]
fn defaults_are_those_of_the_standards() {
    let env = env();
    let kind = |lines: &str| read(lines, &env).unwrap().kind;
    let PrincipalKind::OAuth2(oauth2) = kind(GOOD[2]) else { panic!() };
    assert_eq!((oauth2.auth.name(), oauth2.scope, oauth2.params), ("basic", None, vec![]));
    let PrincipalKind::JwtBearer { key: JwtKey { algorithm, .. }, .. } = kind(GOOD[5]) else { panic!() };
    assert_eq!(algorithm, Algorithm::Rs256);
}

#[test]
fn usual_hosts_must_be_allowed_too() {
    let found = |lines: &str| read(lines, &env()).unwrap_err().to_string();
    assert_eq!(
        found("kind = 'entra'\ntenant = 't'\nclient_id = 'c'\nclient_secret = { env = 'S' }\nscope = 's'"),
        "f:6: org[o].principal[p]: without authority, host login.microsoftonline.com is not in upstreams.allowed_domains; add it there, or write another URL"
    );
    assert_eq!(
        found("kind = 'databricks'\nclient_id = 'c'\nclient_secret = { env = 'S' }\naccount_id = 'a'"),
        "f:6: org[o].principal[p]: without accounts_url, host accounts.cloud.databricks.com is not in upstreams.allowed_domains; add it there, or write another URL"
    );
}

/// The first mistake of each of these is the one that is expected, and none shows a secret.
fn expect_mistakes(cases: &[(&str, &str)]) {
    let env = env();
    for (lines, expected) in cases {
        let found = read(lines, &env).expect_err(lines).to_string();
        assert_eq!(found.split('\n').next(), Some(&*format!("f:{expected}")), "{lines}");
        assert!(!found.contains("hush"), "{found}");
    }
}

#[test]
fn mistakes_about_issuers_and_keys_are_named_with_their_lines() {
    expect_mistakes(&[
        (
            "kind = 'oauth2'\ntoken_url = 'https://evil.test/t'\nclient_id = 'c'\nclient_secret = { env = 'S' }",
            "9: org[o].principal[p].token_url: host evil.test is not in upstreams.allowed_domains; add it there, or write another URL",
        ),
        (
            "kind = 'oauth2'\ntoken_url = 'http://t.example.com/t'\nclient_id = 'c'\nclient_secret = { env = 'S' }",
            "9: org[o].principal[p].token_url: http://t.example.com is plain http, which needs upstreams.allow_private_addresses = true and is for local work only",
        ),
        (
            "kind = 'oauth2'\ntoken_url = 'https://u:hush@t.example.com/t'\nclient_id = 'c'\nclient_secret = { env = 'S' }",
            "9: org[o].principal[p].token_url: a URL here must not hold a user name or password, nor any other '@'",
        ),
        (
            "kind = 'oauth2'\ntoken_url = 'https://t.example.com/t'\nclient_id = 'c'\nclient_secret = { env = 'S' }\nparams = { scope = 'x' }",
            "12: org[o].principal[p].params.scope: \"scope\" has a key of its own, or is the gateway's to set",
        ),
        (
            "kind = 'oauth2'\ntoken_url = 'https://t.example.com/t'\nclient_id = 'c'\nclient_secret = { env = 'S' }\nscope = 'a  b'",
            "12: org[o].principal[p].scope: is no scope: words of ASCII without quotes and backslashes, and single spaces between them",
        ),
        (
            "kind = 'oauth2'\ntoken_url = 'https://t.example.com/t'\nclient_id = 'c'\nclient_secret = { env = 'LINES' }",
            "11: org[o].principal[p].client_secret: the secret holds a line break or another control character",
        ),
        (
            "kind = 'databricks'\nclient_id = 'c'\nclient_secret = { env = 'S' }\naccounts_url = 'https://a.example.com'",
            "11: org[o].principal[p].accounts_url: is for account_id, which is missing; add it, or remove this",
        ),
        (
            "kind = 'databricks'\nclient_id = 'c'\nclient_secret = { env = 'S' }\naccount_id = '../x'\naccounts_url = 'https://a.example.com'",
            "11: org[o].principal[p].account_id: an account id has only letters, digits and '-'",
        ),
        (
            "kind = 'entra'\ntenant = 'a/b'\nclient_id = 'c'\nclient_secret = { env = 'S' }\nscope = 's'\nauthority = 'https://l.example.com'",
            "9: org[o].principal[p].tenant: a tenant is an id or a domain: letters, digits, '-' and single '.'",
        ),
        (
            "kind = 'self-signed-jwt'\nprivate_key = { env = 'EC' }\nissuer = 'i'",
            "9: org[o].principal[p].private_key: the secret is not a key that RS256 signs with; that takes an RSA key of 2048 to 8192 bits",
        ),
        (
            "kind = 'self-signed-jwt'\nprivate_key = { env = 'S' }\nissuer = 'i'",
            "9: org[o].principal[p].private_key: the secret holds no private key in PEM form without a passphrase; convert it with `openssl pkcs8 -topk8 -nocrypt`",
        ),
        (
            "kind = 'self-signed-jwt'\nprivate_key = { env = 'RSA' }\nissuer = 'i'\nlifetime = '2d'",
            "11: org[o].principal[p].lifetime: must be from 60s to 24h",
        ),
    ]);
}

#[test]
fn mistakes_about_what_is_sent_are_named_with_their_lines() {
    expect_mistakes(&[
        (
            "kind = 'basic'\nuser = 'a:b'\npassword = { env = 'S' }",
            "9: org[o].principal[p].user: a user name holds no colon",
        ),
        (
            "kind = 'header'\nname = 'Cookie'\nvalue = { env = 'S' }",
            "9: org[o].principal[p].name: the header field \"Cookie\" is the gateway's to set; choose another",
        ),
        (
            "kind = 'header'\nname = 'X-Forwarded-Groups'\nvalue = { env = 'S' }",
            "9: org[o].principal[p].name: the header field \"X-Forwarded-Groups\" is the gateway's to set; choose another",
        ),
        (
            "kind = 'header'\nname = 'x_key'\nvalue = { env = 'S' }",
            "9: org[o].principal[p].name: \"x_key\" is not the name of a header field, or has underscores, which servers confuse",
        ),
        (
            "kind = 'header'\nname = 'X-Key'\nvalue = { env = 'LINES' }",
            "10: org[o].principal[p].value: the secret holds what no header field takes: line breaks, letters beyond ASCII, or spaces around it",
        ),
        (
            "kind = 'header'\nname = 'X-Key'\nvalue = { env = 'S' }\nheaders = { x-key = 'a' }",
            "6: org[o].principal[p]: the header field \"X-Key\" stands in headers, too; remove it there",
        ),
        (
            "kind = 'none'\nheaders = { Host = 'a' }",
            "9: org[o].principal[p].headers.Host: the header field \"Host\" is the gateway's to set; choose another",
        ),
        (
            "kind = 'none'\nheaders = { A-B = 'a', a-b = 'b' }",
            "9: org[o].principal[p].headers: names the header field \"a-b\" twice; keep one",
        ),
        (
            "kind = 'none'\nheaders = { A = \"a\\r\\nHost: b\" }",
            "9: org[o].principal[p].headers.A: holds what no header field takes: line breaks, letters beyond ASCII, or spaces around it",
        ),
        (
            "kind = 'mtls'",
            "6: org[o].principal[p].client_cert: is missing; write client_cert = { file = \"...\" }, the certificate in PEM",
        ),
        (
            "kind = 'none'\nclient_cert = 'x'\nclient_key = { env = 'RSA' }",
            "10: org[o].principal[p].client_key: client_cert holds no certificate in PEM form",
        ),
        (
            "kind = 'sigv4'\naccess_key_id = 'A/B'\nsecret_access_key = { env = 'S' }\nregion = 'r'\nservice = 's'",
            "9: org[o].principal[p].access_key_id: holds something else than letters, digits, '-', '_' and '.', or is longer than 128 bytes",
        ),
        (
            "kind = 'sigv4'\naccess_key_id = 'A'\nsecret_access_key = { env = 'S' }\nregion = 'r'\nservice = 's'\nheaders = { x-amz-date = 'a' }",
            "6: org[o].principal[p]: the header field \"X-Amz-Date\" stands in headers, too; remove it there",
        ),
    ]);
}

#[test]
fn a_row_that_no_file_could_be_says_why() {
    let (policy, env, vault, files) = (policy(), Env::new(), vault(), SecretFiles::default());
    let context = Context { policy: &policy, env: &env, vault: &vault, files: &files };
    let (org, id) = (OrgId::parse("o").unwrap(), PrincipalId::parse("p").unwrap());
    let other = Vault::new([("k9".to_owned(), [9; 32])]).seal("o", "p", &Secret::new("hush".to_owned())).unwrap();
    let of = |settings: &str| of_row((&org, &id), settings, &[("token", Some(&other))], context).unwrap_err();
    assert_eq!(of("[]"), "its settings are not an object");
    assert!(of(r#"{"kind":"bearer"}"#).starts_with("its token.sealed is sealed with the key \"k9\""));
    let odd = of(r#"{"kind":"none","headers":7,"colour":true}"#);
    assert!(odd.contains("its headers expected a table") && odd.contains("its colour unknown key"), "{odd}");
}
