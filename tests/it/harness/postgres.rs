//! A real Postgres, and a real `PgBouncer` before it, each in a temporary folder.

use super::apps::free_port;
use super::process::Process;
use super::{PATIENCE, until};
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// How long the server may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A root, and a certificate of it for `localhost`.
const CERTIFICATES: &str = "
    umask 077
    curve='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    openssl req -x509 $curve -keyout ca.key -out ca.pem -subj /CN=root -days 2
    openssl req $curve -keyout server.key -out server.csr -subj /CN=localhost
    echo subjectAltName=DNS:localhost >names
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt
";

/// A database server. Dropping it kills it and removes its folder.
pub(crate) struct Postgres {
    process: Option<Process>,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// Makes an empty database and starts its server.
    pub(crate) async fn start() -> Result<Self> {
        let postgres = Self::stopped()?;
        postgres.started().await
    }

    /// Makes an empty database whose server does not run.
    pub(crate) fn stopped() -> Result<Self> {
        let folder = folder()?;
        let mut initdb = as_other_user(&server_program("initdb")?);
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"]);
        let made = initdb.arg(folder.path().join("data")).current_dir("/").output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Self { process: None, port: free_port()?, folder })
    }

    async fn started(mut self) -> Result<Self> {
        self.go_on().await?;
        Ok(self)
    }

    /// A standby that streams from this server, and answers.
    pub(crate) async fn replica(&self) -> Result<Self> {
        let folder = folder()?;
        let mut copy = as_other_user(&server_program("pg_basebackup")?);
        copy.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "--checkpoint=fast"]);
        copy.args(["--write-recovery-conf", "--no-sync", "-D"]).arg(folder.path().join("data")).current_dir("/");
        let made = copy.output()?;
        ensure!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        let replica = Self { process: None, port: free_port()?, folder };
        replica.started().await
    }

    /// Starts the server, at the port that it always has, and waits until it answers.
    pub(crate) async fn go_on(&mut self) -> Result<()> {
        let started = until(PATIENCE, async || {
            let mut process = self.spawn()?;
            let answers = until(PATIENCE, async || {
                if process.check_running().is_err() {
                    return Ok(Some(false));
                }
                Ok(self.client().await.is_ok().then_some(true))
            });
            match answers.await? {
                Some(true) => Ok(Some(process)),
                // What was left of a killed server has not gone yet.
                Some(false) if process.output().contains("is still in use") => Ok(None),
                _ => bail!("postgres does not answer:\n{}", process.output()),
            }
        });
        self.process = Some(started.await?.context("postgres does not start")?);
        Ok(())
    }

    fn spawn(&self) -> Result<Process> {
        let mut command = as_other_user(&server_program("postgres")?);
        command.current_dir("/").arg("-D").arg(self.folder.path().join("data"));
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        command.args(["-c", "unix_socket_directories=", "-c", "synchronous_commit=off", "-c", "max_connections=50"]);
        Process::spawn("postgres", command)
    }

    /// Kills the server as a crash does. What was committed is on disk by then, as it is with usual settings.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.sql("checkpoint").await?;
        let mut process = self.process.take().context("it does not run")?;
        process.end_by("KILL", STOP_WITHIN).await?;
        Ok(())
    }

    /// Stops the server, with all connections to it.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        process.end_by("INT", STOP_WITHIN).await?;
        Ok(())
    }

    /// The URL for a role.
    pub(crate) fn url(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/postgres", self.port)
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Switches TLS on, with a certificate for `localhost`, and lets `role` in only with it and a password. Gives the file
    /// with the root to trust.
    pub(crate) async fn demand_tls(&self, role: &str) -> Result<PathBuf> {
        let made =
            as_other_user(Path::new("sh")).args(["-euc", CERTIFICATES]).current_dir(self.folder.path()).output()?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let rules = format!(
            "hostssl all {role} 127.0.0.1/32 scram-sha-256\nhost all {role} 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 trust\n"
        );
        std::fs::write(self.folder.path().join("data/pg_hba.conf"), rules)?;
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        for setting in [
            format!("ssl_cert_file = '{}'", file("server.crt")),
            format!("ssl_key_file = '{}'", file("server.key")),
            "ssl = on".to_owned(),
        ] {
            self.sql(&format!("alter system set {setting}")).await?;
        }
        self.sql("select pg_reload_conf()").await?;
        Ok(self.folder.path().join("ca.pem"))
    }

    /// A connection as superuser.
    pub(crate) async fn client(&self) -> Result<Client> {
        let (client, driver) = tokio_postgres::connect(&self.url("postgres"), NoTls).await?;
        tokio::spawn(driver);
        Ok(client)
    }

    /// A number that a statement gives.
    pub(crate) async fn number(&self, statement: &str) -> Result<i64> {
        let row = self.client().await?.query_one(statement, &[]).await;
        Ok(row.with_context(|| statement.to_owned())?.try_get(0)?)
    }

    /// Runs statements as superuser.
    pub(crate) async fn sql(&self, statements: &str) -> Result<()> {
        self.client().await?.batch_execute(statements).await.with_context(|| statements.to_owned())
    }
}

/// `PgBouncer` in transaction mode. Dropping it ends it.
pub(crate) struct Bouncer {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Bouncer {
    /// Starts a pooler before `postgres` that holds few connections, so that they change hands.
    pub(crate) async fn start(postgres: &Postgres) -> Result<Self> {
        let (folder, port) = (folder()?, free_port()?);
        let (users, settings) = (folder.path().join("users"), folder.path().join("pgbouncer.ini"));
        std::fs::write(&users, "\"postgres\" \"\"\n\"embedgate_serve\" \"\"\n")?;
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 2\n",
            postgres.port,
            users.display(),
        );
        std::fs::write(&settings, text)?;
        let mut command = as_other_user(&find("pgbouncer", &[Path::new("/usr/sbin")])?);
        command.arg(settings).current_dir("/");
        let process = Process::spawn("pgbouncer", command)?;
        let mut bouncer = Self { process, port, _folder: folder };
        let answers = until(PATIENCE, async || {
            bouncer.process.check_running()?;
            let Ok((client, driver)) = tokio_postgres::connect(&bouncer.url("postgres"), NoTls).await else {
                return Ok(None);
            };
            tokio::spawn(driver);
            Ok(client.batch_execute("select 1").await.ok())
        });
        let answers = answers.await?.is_some();
        ensure!(answers, "pgbouncer does not answer:\n{}", bouncer.process.output());
        Ok(bouncer)
    }

    /// The URL for a role.
    pub(crate) fn url(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/postgres", self.port)
    }
}

/// A folder that the user of [`as_other_user`] may write.
fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    if is_root()? {
        let given = Command::new("chown").arg("postgres").arg(folder.path()).status()?;
        ensure!(given.success(), "cannot give {} to the user postgres", folder.path().display());
    }
    Ok(folder)
}

/// A program, run as the user `postgres` when the tests run as root: servers refuse to run as root.
fn as_other_user(program: &Path) -> Command {
    if !is_root().unwrap_or(false) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    // Takes its own place, so that signals meet the server itself.
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"].map(OsStr::new)).arg(program);
    command
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "0")
}

/// A program of the server: in the path, or where Debian puts it, the newest first.
fn server_program(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    find(name, &folders)
}

fn find(name: &str, more: &[impl AsRef<Path>]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(more.iter().map(|folder| folder.as_ref().to_owned()));
    match folders.map(|folder| folder.join(name)).find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => bail!("there is no {name}: run tests/setup"),
    }
}
