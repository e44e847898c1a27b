//! One suite for all sources of the directory.

use crate::harness::PATIENCE;
use crate::harness::postgres::Postgres;
use crate::harness::signer::Key;
use crate::harness::tls::Authority;
use anyhow::{Context as _, Result, ensure};
use embedgate::clock::UnixSeconds;
use embedgate::config::{self, Env, UrlSource};
use embedgate::directory::file;
use embedgate::directory::postgres::import::import;
use embedgate::directory::postgres::{PostgresSource, migrate};
use embedgate::directory::sync::{Change, FileSource, Source};
use embedgate::model::access::{Bar, Subject};
use embedgate::model::ids::OrgId;
use embedgate::model::tables::{OrgRow, Tables};
use embedgate::model::url::AllowedHosts;
use embedgate::secret::Secret;
use embedgate::vault::Vault;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::timeout;

/// An organisation with one of everything, and one with nothing.
const FULL: &str = "
banned = ['u-9', 'u-8']
[[revocation]]
session = '000102030405060708090a0b0c0d0e0f'
[[revocation]]
user = 'u:7'
before = 1700000000
[[revocation]]
org = 'acme'
before = 1700000001
[[org]]
id = 'acme'
name = 'Acme'
segment = 'preview'
members = ['u-2', 'u-1']
frontend_origins = ['https://front.example.net', 'HTTP://Localhost:3000/']
[org.quota]
requests_per_second = 1000000
burst = 0
user_concurrent = 3
[[org.workspace]]
id = 'second'
url = 'https://b.example.com'
[[org.workspace]]
id = 'first'
url = 'https://a.example.com'
[[org.principal]]
id = 'everybody'
kind = 'databricks'
workspace = 'first'
client_id = 'client'
client_secret = { env = 'SECRET' }
[[org.principal]]
id = 'own'
kind = 'bearer'
workspace = 'first'
token = { env = 'SECRET' }
users = ['Ann@Example.com', 'bob@example.com']
[[org.principal]]
id = 'starter'
kind = 'none'
workspace = 'second'
control = true
[[org.principal]]
id = 'nobody'
kind = 'none'
workspace = 'second'
[[org.principal]]
id = 'account'
kind = 'databricks'
workspace = 'first'
client_id = 'client'
client_secret = { env = 'SECRET' }
account_id = '1-a'
accounts_url = 'https://accounts.example.com'
users = ['1@example.com']
[[org.principal]]
id = 'oauth'
kind = 'oauth2'
workspace = 'first'
token_url = 'https://id.example.com/oauth/token?x=y'
client_id = 'urn:client'
client_secret = { env = 'SECRET' }
auth = 'body'
scope = 'a b'
params = { audience = 'https://api.example.com', 'odd \"name\"' = 'c=d&e' }
headers = { X-Requested-By = 'gate' }
users = ['2@example.com']
[[org.principal]]
id = 'entra'
kind = 'entra'
workspace = 'first'
tenant = 'acme.example'
client_id = 'client'
client_secret = { env = 'SECRET' }
scope = 'x/.default'
authority = 'https://login.example.com'
users = ['3@example.com']
[[org.principal]]
id = 'assertion'
kind = 'jwt-bearer'
workspace = 'first'
token_url = 'https://id.example.com/token'
private_key = { env = 'KEY' }
algorithm = 'ES256'
issuer = 'i'
users = ['4@example.com']
[[org.principal]]
id = 'signed'
kind = 'self-signed-jwt'
workspace = 'first'
private_key = { env = 'KEY' }
algorithm = 'ES256'
key_id = 'k'
issuer = 'i.{fingerprint}'
subject = 's'
audience = 'a'
scope = 'b'
lifetime = '30m5s'
users = ['5@example.com']
[[org.principal]]
id = 'exchange'
kind = 'token-exchange'
workspace = 'first'
subject = 's'
users = ['6@example.com']
[[org.principal]]
id = 'basic'
kind = 'basic'
workspace = 'first'
user = 'Jörg'
password = { env = 'SECRET' }
users = ['7@example.com']
[[org.principal]]
id = 'header'
kind = 'header'
workspace = 'first'
name = 'X-Key'
value = { env = 'SECRET' }
users = ['8@example.com']
[[org.principal]]
id = 'sigv4'
kind = 'sigv4'
workspace = 'first'
access_key_id = 'AKID'
secret_access_key = { env = 'SECRET' }
session_token = { env = 'SECRET' }
region = 'eu-central-1'
service = 'glue'
payload = 'unsigned'
users = ['9@example.com']
[[org.principal]]
id = 'certificate'
kind = 'mtls'
workspace = 'first'
client_cert = { env = 'CERT' }
client_key = { env = 'CERT_KEY' }
users = ['10@example.com']
[[org.app]]
id = 'editor'
workspace = 'first'
url = 'https://editor.example.com:8443'
status = 'failed'
host = 'keep'
strip_prefix = false
protocol = 'http2'
base_tag = true
ping_interval = '1h30m5s7ms'
idle_timeout = '3650d'
balance = 'hash'
hash_on = 'header:X-Tenant'
affinity = true
slow_start = '0s'
max_concurrent = 0
adaptive = false
[org.app.start]
by = 'firebolt'
name = 'small_1'
url = 'https://engine.example.com/query?account_id=7'
principal = 'starter'
idle_stop = '30m'
[org.app.health]
kind = 'http'
path = '/health?a=b'
expect = '200-299,401'
interval = '5s'
timeout = '500ms'
healthy = 1
unhealthy = 5
[[org.app.cluster]]
id = 'green'
state = 'running'
weight = 0
nodes = ['https://2.example.com', 'https://1.example.com']
[[org.app.cluster]]
id = 'blue'
state = 'draining'
role = 'shadow'
nodes = ['https://3.example.com']
[[org.app]]
id = 'usual'
workspace = 'first'
url = 'https://usual.example.com'
[[org.app]]
id = 'quiet'
workspace = 'first'
url = 'https://quiet.example.com'
ping_interval = '0s'
[[org.warehouse]]
id = 'wh'
workspace = 'second'
balance = 'round-robin'
slow_start = '1m30s'
start = { by = 'databricks-warehouse' }
max_concurrent = 7
health = { kind = 'tcp' }
[[org.warehouse.cluster]]
id = 'only'
state = 'stopped'
weight = 10000
nodes = ['https://4.example.com']
[[org.engine]]
id = 'trino'
workspace = 'second'
principal = 'own'
url = 'https://trino.example.com:8443/base/path/'
dialect = 'trino'
user = 'gate'
allow = ['POST /v1/statement', 'GET /v1/statement/**']
protocol = 'http1'
idle_timeout = '2h'
balance = 'peak-ewma'
affinity = true
adaptive = true
start = { by = 'webhook', url = 'https://hook.example.com/a?b=c' }
health = { kind = 'http', path = '/' }
[[org.engine]]
id = 'usual'
workspace = 'first'
url = 'https://usual.example.com'
host = 'keep'
[[org.engine.cluster]]
id = 'only'
state = 'running'
nodes = ['https://5.example.com', 'https://6.example.com']
[[org.engine]]
id = 'firebolt'
workspace = 'first'
url = 'https://firebolt.example.com'
dialect = 'firebolt'
[[org.api]]
id = 'all'
allow = ['GET /api/2.0/sql/history/queries', 'POST /api/2.0/sql/queries/*/runs/**']
warehouses = ['stop', 'start']
[[org.api]]
id = 'some'
members = ['u-1', 'u:2']
users = ['Ann@Example.com', 'bob@example.com']
allow = ['GET /api/2.0/permissions/warehouses/{warehouse}']
[[org.api]]
id = 'switch'
warehouses = ['edit']
[[org]]
id = 'empty'
frontend_origins = []
";

/// The variables that the rows name; the keys are the same in every call.
fn env() -> &'static Env {
    static ENV: LazyLock<Env> = LazyLock::new(|| {
        let key = Key::generate("k", "ES256").and_then(|key| key.pem()).expect("a key");
        let authority = Authority::new().expect("an authority");
        authority.issue("client", "DNS:client.example", 2).expect("a certificate");
        let read = |name: &str| std::fs::read_to_string(authority.path(name)).expect("a file");
        let all = [
            ("SECRET", "hush".to_owned()),
            ("KEY", key),
            ("CERT", read("client.crt")),
            ("CERT_KEY", read("client.key")),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    });
    &ENV
}

fn policy() -> AllowedHosts {
    AllowedHosts { domains: vec!["example.com".into()], private: false }
}

fn vault() -> Arc<Vault> {
    Arc::new(Vault::new([("k1".to_owned(), [7; 32])]))
}

fn rows(text: &str) -> Result<Tables> {
    Ok(file::parse(text, Path::new("test"), &policy(), env(), &vault())?)
}

/// Without what sources may differ in: versions, and the order of what has none.
fn normal(mut orgs: Vec<OrgRow>) -> Vec<OrgRow> {
    orgs.sort_by(|a, b| a.id.cmp(&b.id));
    for org in &mut orgs {
        org.version = 0;
        org.principals.sort_by(|a, b| a.id.cmp(&b.id));
        org.apps.sort_by(|a, b| a.id.cmp(&b.id));
        org.engines.sort_by(|a, b| a.upstream.id.cmp(&b.upstream.id));
        org.members.iter_mut().for_each(|members| members.sort());
    }
    orgs
}

/// What every source does; `write` puts a directory file's content where the source reads.
async fn conforms<S: Source>(mut source: S, write: impl AsyncFn(&str) -> Result<()>) -> Result<()> {
    let failed = |error: S::Error| anyhow::anyhow!("{error}");
    let acme = OrgId::parse("acme")?;
    let asked = [(acme.clone(), 0)];
    write(FULL).await?;
    if S::REMOTE {
        ensure!(timeout(PATIENCE, source.changed()).await? == Change::Versions, "the first change may be of anything");
    }
    let first = source.load().await.map_err(failed)?;
    let (read, written) = (normal(first.orgs), normal(rows(FULL)?.orgs));
    ensure!(read == written, "what was written is what is read: {read:#?} {written:#?}");
    let bars = |mut bars: Vec<(Bar, UnixSeconds)>| {
        // The moment counts where sessions that began later go on.
        bars.iter_mut()
            .filter(|(bar, _)| !matches!(bar, Bar::Revoked(Subject::Org(_) | Subject::User(_))))
            .for_each(|(_, since)| *since = 0);
        bars.sort();
        bars
    };
    let all = bars(rows(FULL)?.bars);
    ensure!(all.len() == 5 && bars(first.bars) == all, "what was written is what is read");
    let which = [all[0].0.clone(), Bar::Banned("nobody".into())];
    let some = source.load_bars(&which).await.map_err(failed)?;
    ensure!(bars(some) == all[..1], "those that are up are given");
    ensure!(source.is_current(), "nothing has changed since");

    let changed = FULL.replace("name = 'Acme'", "name = 'Acme Limited'").replace("https://editor", "https://viewer");
    write(&changed).await?;
    until_gone_by(&mut source, &acme).await?;
    let row = source.load_orgs(&asked).await.map_err(failed)?.pop().context("acme is there")?;
    ensure!(
        normal(vec![row]) == normal(rows(&changed)?.orgs.into_iter().take(1).collect()),
        "one organisation is read"
    );

    write("[[org]]\nid = 'empty'\n").await?;
    until_gone_by(&mut source, &acme).await?;
    ensure!(source.load_orgs(&asked).await.map_err(failed)?.is_empty(), "it is gone");
    let left = source.load().await.map_err(failed)?;
    ensure!(left.orgs.len() == 1 && left.orgs[0].id.as_str() == "empty", "{left:?}");
    Ok(())
}

/// Waits for a change that concerns the organisation, and for all that follow at once.
async fn until_gone_by<S: Source>(source: &mut S, org: &OrgId) -> Result<()> {
    let concerns =
        |change: &Change| matches!(change, Change::All) || matches!(change, Change::Org { id, .. } if id == org);
    timeout(PATIENCE, async { while !concerns(&source.changed().await) {} }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_conforms() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("directory.toml");
    let source = FileSource::new(path.clone(), policy(), env().clone(), vault());
    conforms(source, async |text| Ok(std::fs::write(&path, text)?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_conforms() -> Result<()> {
    let postgres = Postgres::start().await?;
    migrate::migrate(&mut postgres.client().await?).await?;
    let settings = config::Postgres {
        url: UrlSource::Text(Secret::new(postgres.url("postgres"))),
        listen_url: None,
        replicas: Vec::new(),
        max_replica_lag: PATIENCE,
        pool_size: 2,
        connect_timeout: PATIENCE,
        acquire_timeout: PATIENCE,
        statement_timeout: PATIENCE,
        resync_interval: Duration::from_secs(3600),
        miss_timeout: Duration::from_secs(5),
        miss_interval: Duration::from_secs(5),
    };
    let source = PostgresSource::new(settings, policy(), env().clone(), vault())?;
    conforms(source, async |text| {
        let tables = rows(text)?;
        let kept: Vec<_> = tables.orgs.iter().map(|org| org.id.to_string()).collect();
        let mut client = postgres.client().await?;
        client.execute("delete from embedgate.organisation where id <> all ($1::text[])", &[&kept]).await?;
        import(&mut client, &tables, &vault()).await?;
        Ok(())
    })
    .await
}
