//! `embedgate key`.

use super::print;
use anyhow::Result;
use clap::Subcommand;
use std::fmt::Write;

/// Make session keys.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Print a new session key: 64 hexadecimal digits. Keep it in a file that only the gateway can read
    Generate,
}

impl Key {
    pub(super) fn run(&self) -> Result<()> {
        match self {
            Self::Generate => print(generate()?),
        }
    }
}

/// A new key in hexadecimal digits.
pub(super) fn generate() -> Result<String> {
    let mut key = [0u8; 32];
    getrandom::fill(&mut key)?;
    Ok(hex(&key))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
