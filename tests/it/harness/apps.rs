//! The data apps behind the gateway: real marimo, Streamlit and JupyterLab, from the virtual environment of `tests/setup`.

use super::process::Process;
use super::{PATIENCE, until};
use anyhow::{Context as _, Result, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A running app. Dropping it ends it with all its worker processes.
pub(crate) struct App {
    process: Process,
    port: u16,
    /// Home and working directory of the app, so that it neither reads nor writes anything of the machine's user.
    _home: TempDir,
}

impl App {
    /// marimo serving the notebook `tests/fixtures/marimo_app.py` as an app.
    pub(crate) async fn marimo_run() -> Result<Self> {
        Self::start("marimo", "/health", |marimo, port| {
            let notebook = tests_dir().join("fixtures/marimo_app.py");
            marimo.arg("run").arg(notebook).args(["--headless", "--no-token", "--host", "127.0.0.1", "--port", port]);
        })
        .await
    }

    /// marimo's editor with an empty notebook.
    pub(crate) async fn marimo_edit() -> Result<Self> {
        Self::start("marimo", "/health", |marimo, port| {
            marimo.args(["edit", "notebook.py", "--headless", "--no-token", "--skip-update-check"]);
            marimo.args(["--host", "127.0.0.1", "--port", port]);
        })
        .await
    }

    /// Streamlit serving `tests/fixtures/streamlit_app.py`.
    pub(crate) async fn streamlit() -> Result<Self> {
        Self::start("streamlit", "/_stcore/health", |streamlit, port| {
            streamlit.arg("run").arg(tests_dir().join("fixtures/streamlit_app.py"));
            streamlit.args(["--server.headless", "true", "--browser.gatherUsageStats", "false"]);
            streamlit.args(["--server.address", "127.0.0.1", "--server.port", port]);
        })
        .await
    }

    /// Streamlit that is told that it is at a path, `/app-proxy/editor`.
    pub(crate) async fn streamlit_below() -> Result<Self> {
        Self::start("streamlit", "/app-proxy/editor/_stcore/health", |streamlit, port| {
            streamlit.arg("run").arg(tests_dir().join("fixtures/streamlit_app.py"));
            streamlit.args(["--server.headless", "true", "--browser.gatherUsageStats", "false"]);
            streamlit.args(["--server.address", "127.0.0.1", "--server.port", port]);
            streamlit.args(["--server.baseUrlPath", "app-proxy/editor"]);
        })
        .await
    }

    /// JupyterLab in an empty folder, without a token of its own.
    pub(crate) async fn jupyterlab() -> Result<Self> {
        Self::start("jupyterlab", "/api/status", |lab, port| {
            lab.args(["--no-browser", "--allow-root", "--IdentityProvider.token=", "--ServerApp.port_retries=0"]);
            lab.args(["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]);
            lab.args(["--ServerApp.ip=127.0.0.1", "--ServerApp.port", port]);
        })
        .await
    }

    /// Where the app itself listens, without the gateway.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The same as an address.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Starts a Python module of the virtual environment with the arguments that `arguments` adds for a port, and waits
    /// until `health` answers 200.
    async fn start(module: &'static str, health: &str, arguments: impl FnOnce(&mut Command, &str)) -> Result<Self> {
        let python = tests_dir().join(".venv/bin/python");
        ensure!(python.exists(), "{} is missing: run tests/setup", python.display());
        let port = free_port()?;
        let home = tempfile::tempdir()?;
        let mut command = Command::new(python);
        // `-m`, not the scripts beside it: those hold the path of the folder where the environment was made.
        command.args(["-m", module]).current_dir(home.path());
        arguments(&mut command, &port.to_string());
        command.env("HOME", home.path()).env("TMPDIR", home.path());
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
        for kind in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
            command.env_remove(kind);
        }
        let process = Process::spawn(module, command)?;
        Self { process, port, _home: home }.healthy(health).await
    }

    /// Waits until the app answers its health URL with 200.
    async fn healthy(mut self, path: &str) -> Result<Self> {
        let healthy = until(PATIENCE, async || {
            self.process.check_running()?;
            let status = tokio::time::timeout(Duration::from_secs(5), status_of(self.port, path)).await;
            Ok(matches!(status, Ok(Ok(200))).then_some(()))
        });
        match healthy.await? {
            Some(()) => Ok(self),
            None => bail!("{}{path} is not healthy after {PATIENCE:?}:\n{}", self.url(), self.process.output()),
        }
    }
}

/// The folder of the tests.
fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A port for a program that cannot listen on port 0 and tell which it got.
///
/// It lies below the range from which the kernel takes the ports of outgoing connections and of port 0, so that none of
/// those takes it between this check and the app's own `bind`. The counter keeps the tests of one process apart, the
/// process id those of several.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 1_000)? * 10;
    (0..1_000)
        .map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed))
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .context("no free port")
}

/// The status of a plain GET.
async fn status_of(port: u16, path: &str) -> Result<u16> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    connection.read_to_end(&mut response).await?;
    let head = String::from_utf8_lossy(&response);
    Ok(head.split(' ').nth(1).context("no status line")?.parse()?)
}
