//! `embedgate db adopt-firefly`.

use super::{ConfigArg, Wrong, connect, print, wrong};
use crate::config::{Config, Env, Mistakes, firefly};
use crate::directory::firefly::adopt::{Outcome, adopt, remove};
use anyhow::{Result, bail};
use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Makes the schema \"embedgate\" too, and the key that sessions are sealed with unless there is another. \
                  The database is that of [directory.postgres], else of the variable DATABASE_URL."
)]
pub(in crate::cli) struct AdoptFirefly {
    #[command(flatten)]
    config: ConfigArg,
    /// Take the triggers away again; the schema and the key stay
    #[arg(long)]
    remove: bool,
}

impl AdoptFirefly {
    pub(super) async fn run(&self, env: &Env) -> Result<()> {
        let mut client = connect(&self.config(env)?, env).await?;
        let steps = if self.remove { remove(&mut client).await } else { adopt(&mut client).await };
        let steps = steps.map_err(wrong)?;
        for step in &steps {
            print(step)?;
        }
        let is_refused = steps.iter().any(|step| matches!(step.outcome, Outcome::Refused(_)));
        match (self.remove, is_refused) {
            (false, false) => print("triggers tell of changes from now on"),
            (false, true) => print(
                "FireFly's tables are asked for changes once a second as long as not all triggers are there; the tables' \
                 owner may install them",
            ),
            (true, false) => print("FireFly's tables are asked for changes once a second from now on"),
            (true, true) => bail!("not all triggers could be removed; the tables' owner may remove them"),
        }
    }

    /// Of FireFly's variables the database's alone is needed here.
    fn config(&self, env: &Env) -> Result<Config, Wrong> {
        let found = self.config.found(env);
        let (config, mut mistakes) = found.examine(env)?;
        if found.path() == std::path::Path::new(firefly::NAME) {
            mistakes.retain(|mistake| mistake.key == "DATABASE_URL" || mistake.key.starts_with("directory.postgres"));
        }
        if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes).into()) }
    }
}
