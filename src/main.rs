//! The `embedgate` program.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    embedgate::cli::run(embedgate::cli::Cli::parse())
}
