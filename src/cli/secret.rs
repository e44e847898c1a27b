//! `embedgate secret`.

use super::{ConfigArg, Wrong, print, token};
use crate::config::Env;
use crate::model::ids::{OrgId, PrincipalId};
use crate::secret::Secret;
use crate::vault::{MAX_SECRET, SealError};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::io::Read;
use zeroize::Zeroizing;

/// Seal secrets for the directory.
#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Read a client secret, token, password or private key from standard input and print it sealed, for one principal of the directory
    Seal(Seal),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: printf %s \"$SECRET\" | embedgate secret seal --org acme --principal acme-spn")]
pub(super) struct Seal {
    #[command(flatten)]
    config: ConfigArg,
    /// The organisation's id in the directory
    #[arg(long)]
    org: String,
    /// The principal's id in the directory
    #[arg(long)]
    principal: String,
}

impl SecretCommand {
    pub(super) fn run(&self, env: &Env) -> Result<()> {
        match self {
            Self::Seal(seal) => seal.run(env),
        }
    }
}

impl Seal {
    fn run(&self, env: &Env) -> Result<()> {
        OrgId::parse(&self.org).map_err(|error| Wrong(format!("--org: {error}")))?;
        PrincipalId::parse(&self.principal).map_err(|error| Wrong(format!("--principal: {error}")))?;
        let config = self.config.load(env)?;
        let keys = token::keys(&config, env)?;
        let sealed = keys.vault().seal(&self.org, &self.principal, &standard_input()?);
        let sealed = sealed.map_err(|error| match error {
            SealError::Random(_) => anyhow::Error::new(error),
            SealError::NoKey | SealError::Length => Wrong(error.to_string()).into(),
        });
        print(sealed?)
    }
}

/// The secret, without the line break that `echo` puts behind it.
fn standard_input() -> Result<Secret> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 3));
    let mut input = std::io::stdin().lock().take(MAX_SECRET as u64 + 3);
    input.read_to_end(&mut bytes).context("cannot read standard input")?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Wrong("the secret is not text".to_owned()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    // Keys in PEM have lines; a token or a password with some is a mistake.
    let is_pem = text.starts_with("-----BEGIN ");
    if !is_pem && text.chars().any(char::is_control) {
        return Err(Wrong("the secret holds a line break or another control character".to_owned()).into());
    }
    Ok(Secret::new(text.to_owned()))
}
