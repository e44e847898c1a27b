//! The directory in a real Postgres: schema, import, changes that reach a running gateway, and faults it lives through.

mod access;
mod autostart;
mod conformance;
mod faults;
mod fleet;
mod load;
mod migration;
mod pooler;
mod prober;
mod replicas;
mod resync;
mod tls;

use crate::harness::embedgate::{Embedgate, Ended};
use crate::harness::http::{Named, get};
use crate::harness::postgres::Postgres;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use embedgate::directory::postgres::migrate::LATEST;
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio_postgres::error::SqlState;

/// A configuration with its key, for a database.
struct Setup {
    folder: TempDir,
}

impl Setup {
    /// `database` is what stands in `[directory.postgres]`.
    fn new(database: &str) -> Result<Self> {
        let setup = Self { folder: tempfile::tempdir()? };
        let key = setup.run(&["key", "generate"], "")?;
        std::fs::write(setup.folder.path().join("k1"), key.stdout)?;
        setup.configure(database)?;
        Ok(setup)
    }

    fn configure(&self, database: &str) -> Result<()> {
        let text = format!(
            "server = {{ listen = '127.0.0.1:0', workers = 1, drain_timeout = '1s' }}\nadmin.listen = '127.0.0.1:0'\n\
             session.keys = [{{ id = 'k1', file = 'k1' }}]\nlog = {{ format = 'text' }}\n\
             upstreams.allowed_domains = ['127.0.0.1']\nupstreams.allow_private_addresses = true\n\
             directory.source = 'postgres'\n[directory.postgres]\n{database}\n"
        );
        Ok(std::fs::write(self.folder.path().join("embedgate.toml"), text)?)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs a command; most take the configuration.
    fn run(&self, arguments: &[&str], input: &str) -> Result<Ended> {
        let config = self.path("embedgate.toml");
        let takes_none = arguments.first() == Some(&"key");
        let more: &[&str] = if takes_none { &[] } else { &["--config", &config] };
        Embedgate::run(&[arguments, more].concat(), input)
    }

    /// Runs a command that has to succeed, and gives what it printed.
    fn must(&self, arguments: &[&str]) -> Result<String> {
        let ended = self.run(arguments, "")?;
        ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
        Ok(ended.stdout)
    }

    fn import(&self, directory: &str) -> Result<String> {
        let file = self.path("directory.toml");
        std::fs::write(&file, directory)?;
        self.must(&["db", "import", &file])
    }

    /// A session token of a user of `org`.
    fn token(&self, org: &str) -> Result<String> {
        self.must(&["token", "mint", "--org", org, "--user", "u1", "--email", "ann@example.com"])
    }

    async fn serve(&self) -> Result<Gateway> {
        Gateway::of(Embedgate::start(&["serve", "--config", &self.path("embedgate.toml")])?).await
    }

    /// A running gateway that is ready.
    async fn ready(&self) -> Result<Gateway> {
        let gateway = self.serve().await?;
        gateway.until_ready().await?;
        Ok(gateway)
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) process: Embedgate,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// A gateway that has said where it serves. Its log is text.
    pub(crate) async fn of(mut process: Embedgate) -> Result<Self> {
        let address = |line: &str, key: &str| line.split_once(key)?.1.split(' ').next()?.parse::<SocketAddr>().ok();
        let pick = |line: &str| Some((address(line, " listen=")?, address(line, " admin=")?));
        let (data, admin) = process.wait_for_stderr("line that says where it serves", pick).await?;
        Ok(Self { process, data, admin })
    }

    pub(crate) async fn until_ready(&self) -> Result<()> {
        let ready = async || Ok(get(self.admin, "/readyz", None).await.ok().filter(|(status, _)| *status == 200));
        let ready = until(PATIENCE, ready).await?;
        ready.map(drop).with_context(|| format!("not ready:\n{}", self.process.output()))
    }

    /// Asks for an app until the answer is the one expected.
    pub(crate) async fn until_app(&self, app: &str, token: &str, expected: impl Fn(u16, &str) -> bool) -> Result<()> {
        let mut last = None;
        let fits = until(PATIENCE, async || {
            let (status, body) = get(self.data, &format!("/app-proxy/{app}/"), Some(token)).await?;
            let fits = expected(status, &body);
            last = Some((status, body));
            Ok(fits.then_some(()))
        });
        let fits = fits.await?;
        fits.with_context(|| format!("app {app:?} last answered {last:?}:\n{}", self.process.output()))
    }

    /// The value of a metric that counts, by its name with labels.
    async fn metric(&self, name: &str) -> Result<u64> {
        let (_, text) = get(self.admin, "/metrics", None).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in\n{text}"))?.parse()?)
    }

    /// Waits until a metric is what is expected.
    async fn until_metric(&self, name: &str, expected: impl Fn(u64) -> bool) -> Result<()> {
        let mut last = 0;
        let fits = until(PATIENCE, async || {
            last = self.metric(name).await?;
            Ok(expected(last).then_some(()))
        });
        let fits = fits.await?;
        fits.with_context(|| format!("{name} is {last}:\n{}", self.process.output()))
    }

    /// How often everything was read.
    fn full_loads(&self) -> usize {
        self.process.output().matches("directory loaded").count()
    }

    /// One request for an app, whose answer has to come from `name`.
    pub(crate) async fn expect_app(&self, app: &str, token: &str, name: &str) -> Result<()> {
        let (status, body) = get(self.data, &format!("/app-proxy/{app}/"), Some(token)).await?;
        ensure!((status, body.as_str()) == (200, name), "{status} {body}:\n{}", self.process.output());
        Ok(())
    }
}

/// A directory file of one organisation with one app.
fn organisation(id: &str, app: &str) -> String {
    format!(
        "[[org]]\nid = '{id}'\n[[org.workspace]]\nid = 'main'\nurl = '{app}'\n[[org.principal]]\nid = 'spn'\n\
         kind = 'bearer'\ntoken = 'hush'\n[[org.app]]\nid = 'editor'\nurl = '{app}'\n[[org.warehouse]]\nid = 'w'\n"
    )
}

/// A database with the schema, the roles and one organisation `acme`; the gateway's own role may only read.
async fn database(app: &Named) -> Result<(Postgres, Setup)> {
    let postgres = Postgres::start().await?;
    let setup = Setup::new(&format!("url = '{}'", postgres.url("postgres")))?;
    setup.must(&["db", "migrate"])?;
    postgres.sql(include_str!("../../migrations/roles.sql")).await?;
    setup.configure(&format!("url = '{}'", postgres.url("embedgate_admin")))?;
    let said = setup.import(&organisation("acme", &app.url()))?;
    ensure!(
        said.contains("imported 1 organisation, 1 workspace,") && said.contains("1 warehouse, 0 engines, 0 clusters"),
        "{said}"
    );
    setup.configure(&format!("url = '{}'", postgres.url("embedgate_serve")))?;
    Ok((postgres, setup))
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_again_and_from_many_instances_at_once() -> Result<()> {
    let postgres = Postgres::start().await?;
    let setup = Setup::new(&format!("url = '{}'", postgres.url("postgres")))?;
    let before = setup.run(&["db", "status"], "")?;
    ensure!(before.code == Some(1) && before.stderr.contains("run `embedgate db migrate`"), "{before:?}");
    let ended: Vec<_> = std::thread::scope(|scope| {
        let instances: Vec<_> = (0..4).map(|_| scope.spawn(|| setup.run(&["db", "migrate"], ""))).collect();
        instances.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let ended: Vec<Ended> = ended.into_iter().map(|one| one.expect("no panic")).collect::<Result<_>>()?;
    ensure!(ended.iter().all(|one| one.code == Some(0)), "{ended:#?}");
    let at_work = ended.iter().filter(|one| one.stdout.contains("applied 1 ")).count();
    ensure!(at_work == 1, "one instance does it: {ended:#?}");
    setup.must(&["db", "migrate"])?;
    let status = setup.must(&["db", "status", "--json"])?;
    ensure!(status.contains(&format!("\"version\": {LATEST}")), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_sql_reach_a_running_gateway() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;

    postgres.sql(&format!("update embedgate.app set url = '{}' where org = 'acme'", two.url())).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;

    let other = setup.token("other")?;
    gateway.until_app("editor", &other, |status, _| status == 401).await?;
    setup.configure(&format!("url = '{}'", postgres.url("embedgate_admin")))?;
    setup.import(&organisation("other", &one.url()))?;
    gateway.until_app("editor", &other, |status, body| status == 200 && body == "one").await?;

    postgres.sql("delete from embedgate.app where org = 'acme'").await?;
    gateway.until_app("editor", &token, |status, _| status == 404).await?;
    postgres.sql("delete from embedgate.organisation where id = 'acme'").await?;
    gateway.until_app("editor", &token, |status, _| status == 401).await?;
    gateway.expect_app("editor", &other, "one").await?;
    let output = gateway.process.output();
    ensure!(output.matches("directory loaded").count() == 1, "single organisations were read:\n{output}");
    ensure!(!output.contains("hush"), "a secret in the log");
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_whole_or_not_at_all() -> Result<()> {
    let app = Named::start("app").await?;
    let (postgres, setup) = database(&app).await?;
    setup.configure(&format!("url = '{}'", postgres.url("embedgate_admin")))?;
    let good = organisation("good", &app.url());
    let file = setup.path("bad.toml");
    std::fs::write(
        &file,
        format!("{good}[[org]]\nid = 'bad'\n[[org.app]]\nid = 'x'\nurl = 'https://elsewhere.example'\n"),
    )?;
    let ended = setup.run(&["db", "import", &file], "")?;
    ensure!(ended.code == Some(2) && ended.stderr.contains("bad.toml:"), "{ended:?}");
    // The gateway's own role may not write; the failure comes after the first statement.
    setup.configure(&format!("url = '{}'", postgres.url("embedgate_serve")))?;
    std::fs::write(&file, good)?;
    let ended = setup.run(&["db", "import", &file], "")?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("permission denied"), "{ended:?}");
    let count = postgres.client().await?.query_one("select count(*) from embedgate.organisation", &[]).await?;
    ensure!(count.get::<_, i64>(0) == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_tell_wrong_use_from_failure() -> Result<()> {
    let setup = Setup::new("url = 'postgres://nobody:hush@127.0.0.1:1/none'")?;
    let code = |arguments: &[&str], input: &str, code: i32, said: &str| -> Result<()> {
        let ended = setup.run(arguments, input)?;
        let fits = ended.code == Some(code) && ended.stderr.contains(said) && !ended.stderr.contains("hush");
        ensure!(fits, "{arguments:?}: {ended:?}");
        Ok(())
    };
    code(&["db", "status"], "", 1, "cannot connect to Postgres at 127.0.0.1:1")?;
    code(&["db", "import", "none.toml"], "", 2, "none.toml: cannot read the file")?;
    code(&["secret", "seal", "--org", "a b", "--principal", "p"], "hush", 2, "--org: an id is")?;
    code(&["secret", "seal", "--org", "a", "--principal", "p"], "\n", 2, "a secret has 1 to")?;
    code(&["secret", "seal", "--org", "a", "--principal", "p"], "hush\nhush", 2, "line break")?;
    // A key in PEM has lines.
    let pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let sealed = setup.run(&["secret", "seal", "--org", "a", "--principal", "p"], pem)?;
    ensure!(sealed.stdout.starts_with("~s1.k1."), "{sealed:?}");
    setup.configure("url = 'postgres://u:hush@db.example.com/d?sslmode=prefer'")?;
    code(&["serve"], "", 2, "directory.postgres.url: sslmode=prefer may fall back to plain text")?;
    code(&["check"], "", 2, "1 mistake in")?;
    setup.configure(
        "url = 'postgres://u@127.0.0.1/d'\nreplicas = ['postgres://u:hush@r.example.com/d?sslmode=allow']",
    )?;
    code(&["serve"], "", 2, "directory.postgres.replicas[#1]: sslmode=allow may fall back to plain text")?;
    setup.configure("pool_size = 2")?;
    code(&["db", "migrate"], "", 2, "does not say where the database is")
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_states_cannot_be_stored() -> Result<()> {
    let app = Named::start("app").await?;
    let (postgres, _setup) = database(&app).await?;
    let client = postgres.client().await?;
    let principal =
        "insert into embedgate.principal (org, id, workspace, kind, client_id, client_secret, token, users) values";
    let sealed = format!("'~s1.k1.{}'", "A".repeat(60));
    let settled = |kind: &str, settings: &str, columns: &str, values: &str| {
        format!(
            "insert into embedgate.principal (org, id, workspace, kind, settings, users, {columns})
             values ('acme', 'x', 'main', '{kind}', '{settings}', '{{b@c}}', {values})"
        )
    };
    // What these lack or have too much of is all that is wrong with them.
    let good = settled(
        "oauth2",
        r#"{"token_url":"https://a.example/t"}"#,
        "client_id, client_secret",
        &format!("'c', {sealed}"),
    );
    client.batch_execute(&format!("begin; {good}; rollback")).await?;
    for statement in [
        "insert into embedgate.organisation (id, name) values ('a b', 'x')".to_owned(),
        "insert into embedgate.organisation (id, name) values ('acme', 'x')".to_owned(),
        "insert into embedgate.organisation (id, name, segment) values ('x', 'x', 'gold')".to_owned(),
        "update embedgate.organisation set id = 'other'".to_owned(),
        "insert into embedgate.workspace (org, id, url) values ('none', 'w', 'https://a.example')".to_owned(),
        "insert into embedgate.workspace (org, id, url) values ('acme', 'w', 'https://A.example')".to_owned(),
        "insert into embedgate.workspace (org, id, url) values ('acme', 'w', 'https://a.example/x')".to_owned(),
        "insert into embedgate.workspace (org, id, url) values ('acme', 'w', 'https://u:p@a.example')".to_owned(),
        "insert into embedgate.app (org, id, workspace, url) values ('acme', 'x', 'none', 'https://a.example')".to_owned(),
        "update embedgate.app set host = 'own'".to_owned(),
        "update embedgate.app set ping_interval = '5'".to_owned(),
        "update embedgate.app set ping_interval = ''".to_owned(),
        "update embedgate.app set ping_interval = '3650d1ms'".to_owned(),
        "update embedgate.app set idle_timeout = '0s'".to_owned(),
        "update embedgate.app set balance = 'random'".to_owned(),
        "update embedgate.app set hash_on = 'session'".to_owned(),
        "update embedgate.app set balance = 'hash', hash_on = 'header:a b'".to_owned(),
        "update embedgate.app set balance = 'hash', hash_on = 'header:Cookie'".to_owned(),
        "update embedgate.warehouse set slow_start = '5'".to_owned(),
        format!("{principal} ('acme', 'x', 'main', 'oauth', null, null, null, '{{a@b}}')"),
        format!("{principal} ('acme', 'x', 'main', 'bearer', null, null, null, '{{a@b}}')"),
        format!("{principal} ('acme', 'x', 'main', 'bearer', null, null, 'clear', '{{a@b}}')"),
        format!("{principal} ('acme', 'x', 'main', 'databricks', 'c', null, {sealed}, '{{a@b}}')"),
        format!("{principal} ('acme', 'x', 'main', 'none', null, null, {sealed}, '{{a@b}}')"),
        format!("{principal} ('acme', 'x', 'main', 'none', null, null, null, '{{A@b}}')"),
        format!("{principal} ('acme', 'x', 'main', 'none', null, null, null, '{{}}')"),
        format!("{principal} ('acme', 'x', 'main', 'none', null, null, null, '{{a@b}}'), ('acme', 'y', 'main', 'none', null, null, null, '{{a@b}}')"),
        settled("oauth2", r#"{"scope":"a"}"#, "client_id, client_secret", &format!("'c', {sealed}")),
        settled("oauth2", r#"{"token_url":"https://a.example/t"}"#, "client_id", "'c'"),
        settled("oauth2", r#"{"token_url":"https://u:p@a.example/t"}"#, "client_id, client_secret", &format!("'c', {sealed}")),
        settled("oauth2", r#"{"token_url":"https://a.example/t","auth":"none"}"#, "client_id, client_secret", &format!("'c', {sealed}")),
        settled("oauth2", r#"{"token_url":"https://a.example/t","params":{"a":7}}"#, "client_id, client_secret", &format!("'c', {sealed}")),
        settled("databricks", r#"{"accounts_url":"https://a.example"}"#, "client_id, client_secret", &format!("'c', {sealed}")),
        settled("databricks", r#"{"account_id":"../a"}"#, "client_id, client_secret", &format!("'c', {sealed}")),
        settled("databricks", "{}", "client_id, client_secret", &format!("'c:d', {sealed}")),
        settled("entra", r#"{"tenant":"a/b","scope":"s"}"#, "client_id, client_secret", &format!("'c', {sealed}")),
        settled("self-signed-jwt", r#"{"issuer":"i","lifetime":"2d"}"#, "private_key", &sealed),
        settled("self-signed-jwt", r#"{"issuer":"i","colour":"red"}"#, "private_key", &sealed),
        settled("jwt-bearer", r#"{"issuer":"i"}"#, "private_key", &sealed),
        settled("basic", r#"{"user":"a:b"}"#, "password", &sealed),
        settled("basic", r#"{"user":"a"}"#, "password", "'hush'"),
        settled("basic", r#"{"user":"a","password":"hush"}"#, "password", &sealed),
        settled("header", r#"{"name":"a"}"#, "token", &sealed),
        settled("none", "[]", "client_id", "null"),
        settled("none", r#"{"headers":{"a":""}}"#, "client_id", "null"),
        settled("none", r#"{"client_cert":"-----BEGIN CERTIFICATE-----"}"#, "client_id", "null"),
        settled("mtls", "{}", "client_key", &sealed),
        "insert into embedgate.cluster (org, kind, upstream, id, state) values ('acme', 'app', 'editor', 'c', 'running')".to_owned(),
        "insert into embedgate.cluster (org, kind, upstream, id, state) values ('acme', 'app', 'none', 'c', 'running')".to_owned(),
        "insert into embedgate.cluster (org, kind, upstream, id, state) values ('acme', 'app', 'editor', 'c', 'up')".to_owned(),
        "insert into embedgate.cluster (org, kind, upstream, id, state, weight) values ('acme', 'app', 'editor', 'c', 'running', 10001)".to_owned(),
        "insert into embedgate.node (org, kind, upstream, cluster, url) values ('acme', 'app', 'editor', 'c', 'https://a')".to_owned(),
    ] {
        let refused = client.batch_execute(&statement).await.err().with_context(|| format!("stored: {statement}"))?;
        let code = refused.code().context("no code")?;
        let expected = [
            &SqlState::CHECK_VIOLATION,
            &SqlState::UNIQUE_VIOLATION,
            &SqlState::FOREIGN_KEY_VIOLATION,
        ];
        ensure!(expected.contains(&code), "{statement}: {refused:?}");
    }
    Ok(())
}
