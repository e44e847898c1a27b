//! A service manager that keeps the listening sockets, and hears how the service is.

use super::{Crowd, installation, request};
use crate::harness::PATIENCE;
use crate::harness::installation::{Installation, Serving};
use crate::harness::issuer::App;
use crate::harness::process::{Process, Stream};
use crate::harness::raw::Wire;
use anyhow::{Context as _, Result, ensure};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// Starts the program as systemd does: with sockets from descriptor 3 on, and a name for each. They come as standard input
/// and output, which every process has.
const ACTIVATE: &str = r#"exec 3<&0 4<&1 </dev/null >&2
    export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin
    exec "$0" serve --config embedgate.toml"#;

/// What the service manager listens on.
struct Sockets {
    web: TcpListener,
    admin: TcpListener,
}

impl Sockets {
    fn open() -> Result<Self> {
        Ok(Self { web: TcpListener::bind("127.0.0.1:0")?, admin: TcpListener::bind("127.0.0.1:0")? })
    }

    /// Starts the program with them.
    fn activate(&self, installation: &Installation) -> Result<Process> {
        let mut command = Command::new("sh");
        command.args(["-c", ACTIVATE, env!("CARGO_BIN_EXE_embedgate")]);
        let (web, admin): (OwnedFd, OwnedFd) = (self.web.try_clone()?.into(), self.admin.try_clone()?.into());
        Process::spawn_with("embedgate", installation.in_folder(command), web.into(), admin.into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_while_the_service_manager_restarts_it() -> Result<()> {
    let app = App::start("welcome").await?;
    // More workers than sockets, and another address than theirs.
    let installation = installation(&app.url(), &[("server.workers", "3"), ("server.listen", "127.0.0.1:1")])?;
    let sockets = Sockets::open()?;
    let mut gateway = Serving::of(sockets.activate(&installation)?).await?;
    ensure!(gateway.data == sockets.web.local_addr()? && gateway.admin == sockets.admin.local_addr()?);
    ensure!(gateway.wait_for_log("server.listen is not used").await?.contains("WARN"));
    let crowd = Crowd::at(gateway.data)?;
    for _ in 0..3 {
        gateway.wait_for_metric(r#"embedgate_requests_total{route="app",code="200"}"#, 50.0).await?;
        gateway.stop().await?;
        gateway = Serving::of(sockets.activate(&installation)?).await?;
    }
    let visits = crowd.back().await?;
    ensure!(visits.refused == 0 && visits.served > 150, "{visits:?}");

    // Who comes while nobody runs waits for the next one.
    gateway.stop().await?;
    let mut client = Wire::connect(sockets.web.local_addr()?).await?;
    client.send(request("")?).await?;
    let gateway = Serving::of(sockets.activate(&installation)?).await?;
    ensure!(client.answer().await?.text() == "welcome");
    gateway.stop().await.map(drop)
}

#[tokio::test]
async fn sockets_come_from_one_side_only() -> Result<()> {
    let installation = installation("http://127.0.0.1:1", &[("server.handover", "handover.sock")])?;
    let mut process = Sockets::open()?.activate(&installation)?;
    ensure!(process.wait(PATIENCE).await?.code() == Some(2), "{}", process.output());
    let said = process.text(Stream::Stderr);
    ensure!(
        said.contains("LISTEN_FDS") && said.contains("server.handover") && said.contains("use one of the two"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn the_service_manager_hears_how_it_is() -> Result<()> {
    let mut installation = installation("http://127.0.0.1:1", &[])?;
    let path = installation.path("notify");
    let manager = UnixDatagram::bind(&path)?;
    let told = async || {
        let mut bytes = [0; 64];
        let length = timeout(PATIENCE, manager.recv(&mut bytes)).await.context("it says nothing")??;
        anyhow::Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    };
    installation.set("NOTIFY_SOCKET", path.to_str().context("a strange path")?);
    let gateway = installation.serve().await?;
    ensure!(told().await? == "READY=1");
    gateway.stop().await?;
    ensure!(told().await? == "STOPPING=1");
    Ok(())
}
