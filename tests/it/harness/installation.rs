//! What an operator has: a folder with a configuration, a directory and keys, and the program run on it.

use super::PATIENCE;
use super::ask::{self, Answer};
use super::process::{Process, Stream};
use super::until;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use embedgate::session::seal::{KeyRing, Purpose, parse_key};
use embedgate::session::{Parts, Session};
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The session key of an installation, in the file `k1`.
pub(crate) const KEY: &str = "c0ffee11223344556677889900aabbccddeeff0f1e2d3c4b5a69788796a5b4c3";

/// A configuration for apps and issuers on this machine, listening wherever there is room.
pub(crate) const LOCAL: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 2
public_url = "http://localhost"
drain_timeout = "2s"
[admin]
listen = "127.0.0.1:0"
[session]
keys = [{ id = "k1", file = "k1" }]
[upstreams]
allowed_domains = ["127.0.0.1"]
allow_private_addresses = true
[credentials]
mint_timeout = "3s"
[log]
level = "trace"
"#;

/// An organisation with one app, `studio`, that gets no credential.
pub(crate) fn org(id: &str, app: &str) -> String {
    format!(
        r#"
        [[org]]
        id = "{id}"
        [[org.workspace]]
        id = "main"
        url = "{app}"
        [[org.principal]]
        id = "nobody"
        kind = "none"
        [[org.app]]
        id = "studio"
        url = "{app}"
        "#
    )
}

/// How long a program that was asked to end may take.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A folder with what the program needs. Dropping it removes it.
pub(crate) struct Installation {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Installation {
    /// A folder with `embedgate.toml`, `directory.toml` and the key file `k1`.
    pub(crate) fn new(config: &str, directory: &str) -> Result<Self> {
        let installation = Self { folder: tempfile::tempdir()?, variables: Vec::new() };
        installation.write("embedgate.toml", config)?;
        installation.write("directory.toml", directory)?;
        installation.write("k1", KEY)?;
        Ok(installation)
    }

    /// Sets an environment variable for the commands to come.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Where a file of the folder is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in place.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    /// Replaces a file by a new one with one rename, so that nobody ever reads half of it.
    pub(crate) fn replace(&self, name: &str, text: &str) -> Result<()> {
        let new = self.path(".new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, self.path(name))?)
    }

    /// A command in the folder, with nothing of the test run's own configuration in its environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedgate"));
        command.args(arguments);
        self.in_folder(command)
    }

    /// The same for any program.
    pub(crate) fn in_folder(&self, mut command: Command) -> Command {
        command.current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("EMBEDGATE_") {
                command.env_remove(name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        let mut process = Process::spawn("embedgate", self.command(arguments))?;
        let status = process.wait(PATIENCE).await?;
        let (stdout, stderr) = (process.text(Stream::Stdout), process.text(Stream::Stderr));
        Ok(Ended { code: status.code(), stdout, stderr })
    }

    /// Starts `embedgate serve` and waits until it serves. The log must be JSON and hold the level `info`.
    pub(crate) async fn serve(&self) -> Result<Serving> {
        Serving::of(Process::spawn("embedgate", self.command(&["serve", "--config", "embedgate.toml"]))?).await
    }
}

/// A running gateway. Dropping it kills it.
pub(crate) struct Serving {
    pub(crate) process: Process,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Serving {
    /// Waits until the program serves.
    pub(crate) async fn of(mut process: Process) -> Result<Self> {
        let addresses = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let address = |key: &str| line[key].as_str()?.parse::<SocketAddr>().ok();
            (line["message"] == "serving").then_some((address("listen")?, address("admin")?))
        };
        let (data, admin) =
            process.wait_for_line(Stream::Stderr, "line that says it serves", PATIENCE, addresses).await?;
        Ok(Self { process, data, admin })
    }

    /// Sends a request to the data listener.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        ask::ask(self.data, request).await
    }

    /// Asks for a path of the public host with a session.
    pub(crate) async fn get(&self, path: &str, session: &str) -> Result<Answer> {
        self.ask(ask::get(path, session)).await
    }

    /// Asks until the answer has this status, and returns it.
    pub(crate) async fn get_until(&self, status: u16, path: &str, session: &str) -> Result<Answer> {
        let mut last = None;
        let found = until(PATIENCE, async || {
            let answer = self.get(path, session).await?;
            if answer.status == status {
                return Ok(Some(answer));
            }
            last = Some(answer);
            Ok(None)
        });
        found.await?.with_context(|| format!("{path} never had the status {status}; last: {last:?}"))
    }

    /// All metrics as the admin listener shows them.
    pub(crate) async fn metrics(&self) -> Result<String> {
        Ok(ask::ask(self.admin, ask::get("/metrics", "")).await?.body)
    }

    /// One metric, by its name with its labels.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        self.find_metric(name).await?.with_context(|| format!("there is no metric {name}"))
    }

    /// One metric that counts whole things.
    pub(crate) async fn count(&self, name: &str) -> Result<u64> {
        Ok(self.metric(name).await?.to_string().parse()?)
    }

    /// Waits until a metric is there and has at least this value.
    pub(crate) async fn wait_for_metric(&self, name: &str, at_least: f64) -> Result<()> {
        let mut last = None;
        let reached = until(PATIENCE, async || {
            last = self.find_metric(name).await?;
            Ok(last.is_some_and(|value| value >= at_least).then_some(()))
        });
        let reached = reached.await?;
        reached.with_context(|| format!("{name} is {last:?} and never reached {at_least}"))
    }

    async fn find_metric(&self, name: &str) -> Result<Option<f64>> {
        let text = self.metrics().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map(str::parse).transpose()?)
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) async fn wait_for_log(&mut self, text: &str) -> Result<String> {
        let pick = |line: &str| line.contains(text).then(|| line.to_owned());
        self.process.wait_for_line(Stream::Stderr, &format!("log line with {text:?}"), PATIENCE, pick).await
    }

    /// Ends the program with SIGTERM, which must lead to exit code 0, and returns everything it has written.
    pub(crate) async fn stop(mut self) -> Result<String> {
        self.process.signal("TERM")?;
        let status = self.process.wait(STOP_WITHIN).await?;
        ensure!(status.code() == Some(0), "embedgate ended with {status} after SIGTERM:\n{}", self.process.output());
        Ok(self.process.output())
    }
}

/// A session of a user of `org`, for one app or for all, that was issued so many seconds ago and lives for an hour.
pub(crate) fn session(key: &str, org: &str, app: Option<&str>, age: u64) -> Result<String> {
    seal(key, &begun(org, app, age)?)
}

/// A session that is in the address of an app.
pub(crate) fn linked_session(key: &str, org: &str, app: &str) -> Result<String> {
    seal_for(Purpose::Cookieless, key, &begun(org, Some(app), 0)?)
}

/// A session for all apps that was issued two minutes ago and was to be renewed within so many seconds.
pub(crate) fn idle_session(key: &str, org: &str, idle: u64) -> Result<String> {
    let mut session = begun(org, None, 120)?;
    session.idle = Some(session.issued + idle);
    seal(key, &session)
}

fn begun(org: &str, app: Option<&str>, age: u64) -> Result<Session> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let issued = now.saturating_sub(age);
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    let (user, email) = ("u-ann", "ann@example.com");
    Ok(Session::new(Parts { id, issued, expires: issued + 3600, org, user, email, app })?)
}

fn seal(key: &str, session: &Session) -> Result<String> {
    seal_for(Purpose::Session, key, session)
}

fn seal_for(purpose: Purpose, key: &str, session: &Session) -> Result<String> {
    let ring = KeyRing::new([("k1".to_owned(), parse_key(key)?)]);
    ring.seal(purpose, session)?.context("a ring without a key")
}
