//! `embedgate session`.

use super::{ConfigArg, Wrong, db, print, token};
use crate::clock::Clock;
use crate::config::{Config, DirectorySource, Env};
use crate::directory::postgres::write::revoke;
use crate::model::access::{Subject, session_id, session_text};
use crate::model::ids::OrgId;
use crate::session::MAX_LIFE;
use crate::session::seal::{PREFIX, Purpose};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::fs;
use std::io::Write;
use std::path::Path;

/// End sessions before their time.
#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// End the sessions that have begun until now of an organisation or a user, or one session, on all instances
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[command(after_help = "Open WebSockets and streams end too, within a second. New sessions may begin at once.")]
#[group(id = "whose", required = true, multiple = false, args = ["org", "user", "session"])]
pub(super) struct Revoke {
    #[command(flatten)]
    config: ConfigArg,
    /// All sessions of this organisation
    #[arg(long)]
    org: Option<String>,
    /// All sessions of this user, in every organisation
    #[arg(long)]
    user: Option<String>,
    /// One session: its token, or its id as `embedgate token inspect` prints it
    #[arg(long)]
    session: Option<String>,
}

impl SessionCommand {
    pub(super) fn run(&self, env: &Env) -> Result<()> {
        match self {
            Self::Revoke(revoke) => revoke.run(env),
        }
    }
}

impl Revoke {
    fn run(&self, env: &Env) -> Result<()> {
        let config = self.config.load(env)?;
        let subject = self.subject(&config, env)?;
        match &config.directory {
            DirectorySource::Postgres(_) | DirectorySource::Firefly(_) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let client = db::connect(&config, env).await?;
                    revoke(&client, &subject, MAX_LIFE).await.map_err(db::wrong)
                })?;
            }
            DirectorySource::File { path } => append(path, &subject)?,
        }
        print(format_args!("ended until now: {subject}"))
    }

    fn subject(&self, config: &Config, env: &Env) -> Result<Subject> {
        if let Some(org) = &self.org {
            OrgId::parse(org).map_err(|error| Wrong(format!("--org: {error}")))?;
            return Ok(Subject::Org(org.as_str().into()));
        }
        if let Some(user) = &self.user {
            if user.is_empty() || user.len() > 255 || !user.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Wrong("--user: 1 to 255 characters without spaces".to_owned()).into());
            }
            return Ok(Subject::User(user.as_str().into()));
        }
        let text = self.session.as_deref().unwrap_or_default().trim();
        if text.starts_with(PREFIX) {
            let ring = token::keys(config, env)?.ring();
            let unseal = |purpose| ring.unseal(purpose, text.as_bytes());
            let opened = unseal(Purpose::Session).or_else(|error| unseal(Purpose::Cookieless).map_err(|_| error));
            let session = opened.map_err(|error| Wrong(format!("--session: the token does not open: {error}")))?;
            return Ok(Subject::Session(session.id));
        }
        let wrong = || Wrong("--session: write a token, or the 32 hexadecimal digits of a session's id".to_owned());
        Ok(Subject::Session(session_id(text).ok_or_else(wrong)?))
    }
}

/// Adds the revocation to a directory file, which a running gateway reads again. The file is replaced by one rename, so
/// that nobody ever reads half of it.
fn append(path: &Path, subject: &Subject) -> Result<()> {
    let (key, id) = match subject {
        Subject::Org(id) => ("org", id.to_string()),
        Subject::User(id) => ("user", id.to_string()),
        Subject::Session(id) => ("session", session_text(id)),
    };
    // Where a link leads: the file is replaced, and not the link.
    let path = &fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
    let shown = path.display();
    let mut text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    // A TOML string in the form of JSON's, which a basic string takes (TOML 1.0, String).
    let id = serde_json::to_string(&id)?;
    let entry = format!("\n[[revocation]]\n{key} = {id}\nbefore = {}\n", Clock::default().now());
    text.push_str(&entry);
    let folder = path.parent().unwrap_or(path);
    let advice = || format!("cannot replace {shown}; add this to it yourself:{entry}");
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(advice)?;
    file.write_all(text.as_bytes()).with_context(advice)?;
    file.as_file().set_permissions(fs::metadata(path)?.permissions()).with_context(advice)?;
    file.as_file().sync_all().with_context(advice)?;
    file.persist(path).with_context(advice)?;
    Ok(())
}
