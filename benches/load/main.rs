//! An upstream and a load generator, for measuring proxies: `cargo bench --bench load -- upstream` and `.. -- load`.
//! `compare.py` beside this file puts proxies between the two.
//!
//! Both run on one thread and, when proxies are measured, on one core together: so a request costs them little, and nothing
//! is allocated for one.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its result is a line on standard output, or an error")]

mod arrivals;
mod connection;
mod drive;
mod histogram;
mod http1;
mod http2;
mod options;
mod processes;
mod seal;
mod tally;
mod upstream;
mod websocket;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "load", about = "An upstream and a load generator, for measuring proxies.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Cargo adds this to every bench's arguments.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Answers on a port: /small, /large, /echo and the WebSocket /ws, to who shows the bearer
    Upstream(options::Upstream),
    /// Sends requests or messages and prints one line of JSON about them
    Load(Box<options::Load>),
    /// Seals a text with AES-256-GCM, for proxies that are to open one
    Seal(options::Seal),
}

fn main() -> ExitCode {
    // Every bench is given the filters that are meant for others' names; this one has nothing to do then.
    let is_called = std::env::args()
        .nth(1)
        .is_some_and(|first| ["upstream", "load", "seal", "help", "--help", "-h"].contains(&first.as_str()));
    if !is_called {
        println!("load: only on request, see benches/load/compare.py");
        return ExitCode::SUCCESS;
    }
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    match command {
        Command::Upstream(options) => local.block_on(&runtime, upstream::serve(options)),
        Command::Load(options) => local.block_on(&runtime, drive::drive(options)),
        Command::Seal(options) => seal::seal(&options),
    }
}
