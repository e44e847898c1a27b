//! `embedgate healthcheck`: for container engines, whose images have no other program to ask with.

use super::ConfigArg;
use crate::config::Env;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);

/// Ask a running gateway whether it is healthy.
#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    config: ConfigArg,
}

impl Healthcheck {
    pub(super) fn run(&self, env: &Env) -> Result<()> {
        let mut address = self.config.load(env)?.admin.listen;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            });
        }
        let status = ask(address).with_context(|| format!("no answer from {address}"))?;
        if status.starts_with("HTTP/1.1 200") { Ok(()) } else { bail!("{address} says {status}") }
    }
}

fn ask(address: SocketAddr) -> Result<String> {
    let mut tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    write!(tcp, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    tcp.take(4096).read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
