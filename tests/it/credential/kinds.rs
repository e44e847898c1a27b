//! Each kind of principal that gets tokens: what it sends to its issuer, and that the token reaches the app.

use crate::harness::installation::{Installation, KEY, LOCAL, Serving, session};
use crate::harness::issuer::{App, Call, Issuer, Mood};
use crate::harness::signer::Key;
use anyhow::{Context as _, Result, ensure};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::Value;

/// All kinds that ask an issuer, by names that are those of organisations, with the lines of a principal. `{issuer}` is
/// where tokens are.
pub(super) const MINTING: [(&str, &str); 7] = [
    ("databricks", "kind = 'databricks'\nclient_id = 'databricks-client'\nclient_secret = { file = 'secret' }"),
    (
        "account",
        "kind = 'databricks'\nclient_id = 'account-client'\nclient_secret = { file = 'secret' }\n\
         account_id = '1234-abcd'\naccounts_url = '{issuer}'",
    ),
    (
        "basic",
        "kind = 'oauth2'\ntoken_url = '{issuer}/oauth/token?v=2'\nclient_id = 'basic-client'\n\
         client_secret = { file = 'secret' }\nscope = 'sql read'",
    ),
    (
        "body",
        "kind = 'oauth2'\ntoken_url = '{issuer}/oauth/token'\nclient_id = 'body-client'\n\
         client_secret = { file = 'secret' }\nauth = 'body'\nparams = { audience = 'https://api.firebolt.io' }",
    ),
    (
        "entra",
        "kind = 'entra'\ntenant = 'acme.example'\nclient_id = 'entra-client'\nclient_secret = { file = 'secret' }\n\
         scope = 'resource/.default'\nauthority = '{issuer}'",
    ),
    (
        "assertion",
        "kind = 'jwt-bearer'\ntoken_url = '{issuer}/token'\nprivate_key = { file = 'rsa.pem' }\nkey_id = 'r1'\n\
         issuer = 'assertion-client'\nscope = 'cloud'",
    ),
    ("exchange", "kind = 'token-exchange'\nsubject = 'exchange-client'\naudience = 'https://accounts.example'"),
];

/// The secret in the file `secret`.
pub(super) const SECRET: &str = "dose:with/odd +signs";

/// An organisation whose app `studio` is used as a principal of these lines.
pub(super) fn org(id: &str, lines: &str, issuer: &str, app: &str) -> String {
    let lines = lines.replace("{issuer}", issuer);
    format!(
        "[[org]]\nid = '{id}'\n[[org.workspace]]\nid = 'main'\nurl = '{issuer}'\n\
         [[org.principal]]\nid = 'spn'\n{lines}\n[[org.app]]\nid = 'studio'\nurl = '{app}'\n"
    )
}

/// The keys of an installation.
pub(super) struct Keys {
    pub(super) rsa: Key,
    pub(super) assertion: Key,
}

/// A folder with what all kinds need.
pub(super) fn installation(directory: &str) -> Result<(Installation, Keys)> {
    // Limits are not what these tests are about, and the machine may be busy.
    let config = LOCAL.replace("mint_timeout = \"3s\"", "mint_timeout = \"60s\"").replace(
        "[credentials]",
        "[credentials]\nassertion_keys = [{ id = 'a1', file = 'a1.pem' }, { id = 'a0', file = 'a0.pem' }]",
    );
    let installation = Installation::new(&config, directory)?;
    let keys = Keys { rsa: Key::generate("r1", "RS256")?, assertion: Key::generate("a1", "ES256")? };
    installation.write("secret", SECRET)?;
    installation.write("rsa.pem", &keys.rsa.pem()?)?;
    installation.write("a1.pem", &keys.assertion.pem()?)?;
    installation.write("a0.pem", &Key::generate("a0", "ES256")?.pem()?)?;
    Ok((installation, keys))
}

/// The claims of a JWT, if a key has signed it.
pub(super) fn claims(jwt: &str, jwk: &Value, audience: &str) -> Result<Value> {
    let jwk: Jwk = serde_json::from_value(jwk.clone())?;
    let mut validation = Validation::new(jsonwebtoken::decode_header(jwt)?.alg);
    validation.set_audience(&[audience]);
    validation.leeway = 0;
    Ok(decode(jwt, &DecodingKey::from_jwk(&jwk)?, &validation)?.claims)
}

async fn get(gateway: &Serving, org: &str) -> Result<()> {
    let answer = gateway.get(&format!("/app-proxy/studio/{org}"), &session(KEY, org, None, 0)?).await?;
    ensure!(answer.status == 200, "{org}: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn each_kind_asks_in_its_way() -> Result<()> {
    let (issuer, app) = (Issuer::start(Mood::Issues(3600)).await?, App::start("welcome").await?);
    let directory: String = MINTING.map(|(id, lines)| org(id, lines, &issuer.url(), &app.url())).concat();
    let (installation, keys) = installation(&directory)?;
    let gateway = installation.serve().await?;
    let calls = async |org: &str| -> Result<Call> {
        get(&gateway, org).await?;
        let (call, token) = issuer.calls().pop().zip(issuer.tokens().pop()).context("no call")?;
        ensure!(app.bearers(&format!("/{org}")) == [token], "the token does not reach the app of {org}");
        ensure!(call.client_id == format!("{org}-client"), "{call:?}");
        Ok(call)
    };
    let form = |call: &Call, fields: &[(&str, &str)]| {
        let expected: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(call.form.clone().into_iter().collect::<Vec<_>>(), expected, "{call:?}");
    };
    let grant = ("grant_type", "client_credentials");

    let call = calls("databricks").await?;
    assert_eq!((&*call.path, &*call.secret), ("/oidc/v1/token", &*SECRET.replace('+', " ")), "sent as it is");
    form(&call, &[grant, ("scope", "all-apis")]);
    let call = calls("account").await?;
    assert_eq!(call.path, "/oidc/accounts/1234-abcd/v1/token");
    form(&call, &[grant, ("scope", "all-apis")]);
    let call = calls("basic").await?;
    assert_eq!((&*call.path, &*call.secret), ("/oauth/token?v=2", SECRET));
    form(&call, &[grant, ("scope", "sql read")]);
    let call = calls("body").await?;
    assert!(!call.has_authorization);
    form(
        &call,
        &[("audience", "https://api.firebolt.io"), ("client_id", "body-client"), ("client_secret", SECRET), grant],
    );
    let call = calls("entra").await?;
    assert!(!call.has_authorization && call.path == "/acme.example/oauth2/v2.0/token", "{call:?}");
    form(&call, &[("client_id", "entra-client"), ("client_secret", SECRET), grant, ("scope", "resource/.default")]);

    let call = calls("assertion").await?;
    assert_eq!(call.form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!((call.form.len(), &*call.form["scope"]), (3, "cloud"));
    let said = claims(&call.form["assertion"], &keys.rsa.jwk(), &format!("{}/token", issuer.url()))?;
    assert_eq!((&said["iss"], &said["scope"]), (&"assertion-client".into(), &"cloud".into()));
    assert!(said.get("sub").is_none() && said["exp"].as_u64() == said["iat"].as_u64().map(|at| at + 300), "{said}");

    let call = calls("exchange").await?;
    assert_eq!((call.form.len(), call.has_authorization, &*call.path), (4, false, "/oidc/v1/token"));
    assert_eq!(call.form["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(call.form["subject_token_type"], "urn:ietf:params:oauth:token-type:jwt");
    let published = gateway.get("/.embedgate/jwks.json", "").await?;
    assert_eq!((published.status, published.header("content-type")), (200, Some("application/json")));
    let jwks: Value = serde_json::from_str(&published.body)?;
    let ids: Vec<_> = jwks["keys"].as_array().context("no keys")?.iter().map(|key| &key["kid"]).collect();
    assert_eq!(ids, ["a1", "a0"]);
    assert!(!published.body.contains("\"d\""), "a private key is published");
    let said = claims(&call.form["subject_token"], &jwks["keys"][0], "https://accounts.example")?;
    assert_eq!((&said["iss"], &said["org"]), (&"http://localhost".into(), &"exchange".into()));
    assert_eq!(said["sub"], "exchange-client");
    assert_eq!(jwks["keys"][0]["x"], keys.assertion.jwk()["x"]);
    let log = gateway.stop().await?;
    assert!(!log.contains("dose:") && !log.contains("PRIVATE KEY") && !log.contains("eyJ"), "a secret is in:\n{log}");
    Ok(())
}

#[tokio::test]
async fn a_jwt_of_ones_own_is_the_token() -> Result<()> {
    let app = App::start("welcome").await?;
    let lines = "kind = 'self-signed-jwt'\nprivate_key = { file = 'rsa.pem' }\nissuer = 'ACME.SVC.{fingerprint}'\n\
                 subject = 'ACME.SVC'\naudience = 'https://them.example'\n\
                 headers = { X-Snowflake-Authorization-Token-Type = 'KEYPAIR_JWT' }";
    let (installation, keys) = installation(&org("acme", lines, "http://127.0.0.1:9", &app.url()))?;
    let public = std::process::Command::new("sh")
        .args([
            "-euc",
            "openssl pkey -in \"$1\" -pubout -outform DER | openssl dgst -sha256 -binary | openssl enc -base64",
            "sh",
        ])
        .arg(installation.path("rsa.pem"))
        .output()?;
    let gateway = installation.serve().await?;
    get(&gateway, "acme").await?;
    get(&gateway, "acme").await?;
    let seen = app.seen("/acme");
    let jwt = seen[0].bearer.as_deref().context("no bearer")?;
    let said = claims(jwt, &keys.rsa.jwk(), "https://them.example")?;
    let fingerprint = String::from_utf8(public.stdout)?;
    assert_eq!(said["iss"], format!("ACME.SVC.SHA256:{}", fingerprint.trim()));
    assert_eq!((&said["sub"], said["exp"].as_u64()), (&"ACME.SVC".into(), said["iat"].as_u64().map(|at| at + 3600)));
    assert_eq!(seen[0].headers["x-snowflake-authorization-token-type"], "KEYPAIR_JWT");
    assert_eq!(seen[1].bearer.as_deref(), Some(jwt), "it is used until it is due to be signed again");
    gateway.stop().await?;
    Ok(())
}
