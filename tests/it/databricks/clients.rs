//! Databricks' own clients, unchanged, with the gateway's host and a session in the place of a workspace's host and token:
//! over TLS, with the directory in Postgres.

use crate::harness::PATIENCE;
use crate::harness::installation::{Installation, KEY, Serving, session};
use crate::harness::postgres::Postgres;
use crate::harness::process::{Process, Stream};
use crate::harness::tls::Authority;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The gateway, and all it stands on.
struct Site {
    serving: Serving,
    authority: Authority,
    _workspace: Process,
    _postgres: Postgres,
    _installation: Installation,
}

/// `more` is what else stands in it.
fn config(database: &str, authority: &Authority, more: &str) -> String {
    let (cert, key) = (authority.toml("gate.crt"), authority.toml("gate.key"));
    format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        workers = 2
        public_url = "https://localhost"
        drain_timeout = "2s"
        tls = {{ cert = {cert}, key = {key} }}
        [admin]
        listen = "127.0.0.1:0"
        [session]
        keys = [{{ id = "k1", file = "k1" }}]
        [directory]
        source = "postgres"
        postgres = {{ url = "{database}" }}
        [upstreams]
        allowed_domains = ["127.0.0.1"]
        allow_private_addresses = true
        {more}
        "#
    )
}

/// Two organisations; nobody listens where the second has its workspace.
fn directory(workspace: u16) -> String {
    format!(
        r#"
        [[org]]
        id = "acme"
        [[org.workspace]]
        id = "main"
        url = "http://127.0.0.1:{workspace}"
        [[org.principal]]
        id = "spn"
        kind = "databricks"
        client_id = "acme-client"
        client_secret = "dose-secret"
        [[org.warehouse]]
        id = "wh1"
        [[org.api]]
        id = "switch"
        warehouses = ["start", "stop"]
        [[org]]
        id = "globex"
        [[org.workspace]]
        id = "main"
        url = "http://127.0.0.1:1"
        [[org.principal]]
        id = "spn"
        kind = "databricks"
        client_id = "globex-client"
        client_secret = "dose-secret"
        [[org.warehouse]]
        id = "wh1"
        "#
    )
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/databricks").join(name)
}

/// The Python with the clients, without proxies and roots that the machine may have.
fn python() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    for name in std::env::vars_os().map(|(name, _)| name) {
        let upper = name.to_string_lossy().to_uppercase();
        if upper.ends_with("_PROXY") || upper.starts_with("DATABRICKS_") || upper.ends_with("_CA_BUNDLE") {
            command.env_remove(name);
        }
    }
    command
}

impl Site {
    async fn open(more: &str) -> Result<Self> {
        let mut command = python();
        command.arg(fixture("workspace.py"));
        let mut workspace = Process::spawn("the workspace", command)?;
        let port = |line: &str| line.strip_prefix("listening ")?.parse().ok();
        let port = workspace.wait_for_line(Stream::Stdout, "port", PATIENCE, port).await?;
        let authority = Authority::new()?;
        authority.issue("gate", "DNS:localhost,IP:127.0.0.1", 2)?;
        let postgres = Postgres::start().await?;
        let config = config(&postgres.url("postgres"), &authority, more);
        let installation = Installation::new(&config, &directory(port))?;
        for command in [&["db", "migrate"][..], &["db", "import", "directory.toml"]] {
            let ended = installation.run(&[command, &["--config", "embedgate.toml"]].concat()).await?;
            ensure!(ended.code == Some(0), "{command:?}: {ended:?}");
        }
        let serving = installation.serve().await?;
        Ok(Self { serving, authority, _workspace: workspace, _postgres: postgres, _installation: installation })
    }

    /// Runs a client to its end, which has to be a good one.
    async fn run(&self, script: &str, arguments: &[&str]) -> Result<()> {
        let mut command = python();
        let ca = self.authority.path("ca.crt");
        command.arg(fixture(script)).args(arguments).env("REQUESTS_CA_BUNDLE", &ca).env("SSL_CERT_FILE", &ca);
        let mut client = Process::spawn("the client", command)?;
        let status = client.wait(PATIENCE).await?;
        ensure!(status.success(), "{script}:\n{}\nthe gateway:\n{}", client.output(), self.serving.process.output());
        ensure!(client.text(Stream::Stdout).contains("all of it"), "{}", client.output());
        Ok(())
    }
}

#[tokio::test]
async fn the_python_sdk_works_unchanged() -> Result<()> {
    let site = Site::open("").await?;
    let host = format!("https://localhost:{}", site.serving.data.port());
    let (ours, theirs) = (session(KEY, "acme", None, 0)?, session(KEY, "globex", None, 0)?);
    site.run("sdk.py", &[&host, &ours, &theirs]).await
}

#[tokio::test]
async fn the_sql_connector_works_unchanged() -> Result<()> {
    let site = Site::open("").await?;
    let (ours, theirs) = (session(KEY, "acme", None, 0)?, session(KEY, "globex", None, 0)?);
    let (port, ca) = (site.serving.data.port().to_string(), site.authority.path("ca.crt"));
    let ca = ca.to_str().context("a path in UTF-8")?;
    site.run("connector.py", &["localhost", &port, &ours, &theirs, ca]).await
}

#[tokio::test]
async fn statements_of_the_python_sdk_say_whose_they_are_and_end_with_it() -> Result<()> {
    let site = Site::open("[sql]\nattribution = 'tags'\ncancel_abandoned = true").await?;
    let host = format!("https://localhost:{}", site.serving.data.port());
    site.run("attribution.py", &[&host, &session(KEY, "acme", None, 0)?]).await?;
    site.serving.wait_for_metric(r#"embedgate_sql_abandoned_total{outcome="canceled"}"#, 1.0).await
}
