//! The Kubernetes example holds a configuration that the gateway takes.

use anyhow::{Context as _, Result, anyhow, ensure};
use embedgate::config::{Config, DirectorySource, Env};
use embedgate::directory::file;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Where the example has its secrets mounted.
const SECRETS: &str = "/secrets";

fn example() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes.yaml");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The text that the example's configuration map has under `name`.
fn entry(example: &str, name: &str) -> Result<String> {
    const INDENT: &str = "    ";
    let head = format!("  {name}: |\n");
    let (_, rest) = example.split_once(&head).with_context(|| format!("no entry {name}"))?;
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with(INDENT));
    Ok(lines.map(|line| line.strip_prefix(INDENT).unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

/// The number behind the first `name:`.
fn number(example: &str, name: &str) -> Result<u64> {
    let (_, rest) = example.split_once(&format!(" {name}: ")).with_context(|| format!("no {name}"))?;
    Ok(rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse()?)
}

fn config(example: &str) -> Result<Config> {
    let text = entry(example, "embedgate.toml")?;
    let config = Config::parse(&text, Path::new("/config/embedgate.toml"), &Env::new());
    config.map_err(|mistakes| anyhow!("{mistakes}"))
}

#[test]
fn the_examples_directory_fits_its_configuration() -> Result<()> {
    let example = example()?;
    let config = config(&example)?;
    let DirectorySource::File { path } = &config.directory else { panic!("the map holds a file") };
    ensure!(path == Path::new("/config/directory.toml"), "the directory is at {}", path.display());
    let secrets = tempfile::tempdir()?;
    fs::write(secrets.path().join("acme-client-secret"), "dose-secret")?;
    let text = entry(&example, "directory.toml")?;
    let text = text.replace(SECRETS, secrets.path().to_str().context("a folder with a strange name")?);
    let tables = file::parse(&text, path, &config.upstreams.allowed, &Env::new(), &embedgate::vault::Vault::default());
    let tables = tables.map_err(|mistakes| anyhow!("{mistakes}"))?;
    ensure!(tables.orgs.len() == 1 && tables.orgs[0].apps.len() == 1, "not the organisation with an app: {tables:?}");
    Ok(())
}

#[test]
fn the_examples_deployment_fits_its_configuration() -> Result<()> {
    let example = example()?;
    let server = config(&example)?.server;
    let grace = Duration::from_secs(number(&example, "terminationGracePeriodSeconds")?);
    ensure!(
        server.drain_delay + server.drain_timeout < grace,
        "the pod is killed after {grace:?}, before it has drained"
    );
    let admin = config(&example)?.admin.listen;
    for port in [server.listen.port(), admin.port()] {
        ensure!(example.contains(&format!("containerPort: {port} ")), "no container port {port}");
    }
    ensure!(!admin.ip().is_loopback(), "probes do not reach {admin}");
    Ok(())
}
