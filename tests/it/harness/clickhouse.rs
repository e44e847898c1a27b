//! A real `ClickHouse`, which speaks SQL by HTTP, in a temporary folder.

use super::apps::free_port;
use super::process::Process;
use super::raw::{Message, Wire};
use super::{PATIENCE, until};
use anyhow::{Context as _, Result, bail};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A server without a password for this machine. Dropping it kills it and removes its folder.
pub(crate) struct ClickHouse {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

const USERS: &str = "<yandex><profiles><default/></profiles><quotas><default/></quotas><users><default><password></password>\
    <networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users></yandex>";

fn config(port: u16, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "<yandex><logger><console>1</console><level>warning</level></logger><http_port>{port}</http_port>\
         <listen_host>127.0.0.1</listen_host><path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>\
         <users_config>users.xml</users_config><default_profile>default</default_profile>\
         <default_database>default</default_database><mark_cache_size>5368709</mark_cache_size></yandex>"
    )
}

impl ClickHouse {
    /// Starts a server and waits until it answers.
    pub(crate) async fn start() -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        for name in ["data", "tmp"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        std::fs::write(folder.path().join("users.xml"), USERS)?;
        std::fs::write(folder.path().join("config.xml"), config(port, folder.path()))?;
        let mut command = Command::new(program()?);
        command.arg("--config-file=config.xml").current_dir(folder.path());
        let process = Process::spawn("clickhouse-server", command)?;
        let mut server = Self { process, address: (Ipv4Addr::LOCALHOST, port).into(), _folder: folder };
        server.answers().await?;
        Ok(server)
    }

    async fn answers(&mut self) -> Result<()> {
        let answers = until(PATIENCE, async || {
            self.process.check_running()?;
            Ok(Wire::connect(self.address).await.is_ok().then_some(()))
        });
        match answers.await? {
            Some(()) => Ok(()),
            None => bail!("clickhouse-server does not answer:\n{}", self.process.output()),
        }
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The answer to a query, asked without the gateway.
    pub(crate) async fn ask(&self, query: &str) -> Result<Message> {
        let mut wire = Wire::connect(self.address).await?;
        let length = query.len();
        wire.send(format!("POST / HTTP/1.1\r\nHost: direct\r\nContent-Length: {length}\r\n\r\n{query}")).await?;
        wire.answer().await
    }
}

/// The server's program, which Debian keeps from the path of ordinary users.
fn program() -> Result<std::path::PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&paths).chain([Path::new("/usr/sbin").to_owned()]);
    let found = folders.map(|folder| folder.join("clickhouse-server")).find(|path| path.is_file());
    found.context("there is no clickhouse-server: run tests/setup, or install Debian's package of that name")
}
