//! The gateway in the place of FireFly's own proxy: with its environment, on the tables of its front end.
//!
//! Tests that begin with `weakness` and a number show that a known weakness of that proxy is gone. Here stand those that
//! tables, keys and environment decide: 5 (what takes access away comes late), 7 (it dies with its database), 8 (secrets
//! are stored in clear) and 11 (who acts for whom). The others are for the tests of other parts: 1, 3, 4, 6, 10 and 12 of
//! the way of a request, 9 of tokens, 2 and the rest of 5 of the start of sessions.

mod adopt;
mod changes;
mod drop_in;
mod principals;
mod session;

use crate::harness::embedgate::{Embedgate, Ended};
use crate::harness::http::get;
use crate::harness::issuer::{App, Issuer, Mood};
use crate::harness::postgres::Postgres;
use crate::harness::{PATIENCE, until};
use crate::postgres::Gateway;
use anyhow::{Context as _, Result, ensure};
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

const SCHEMA: &str = include_str!("../fixtures/firefly.sql");
/// 64 hexadecimal digits.
const KEY: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// FireFly's front end as far as its proxy sees it: its database, a workspace that issues tokens, an app, and the
/// environment that the proxy is started with.
struct Front {
    postgres: Postgres,
    issuer: Issuer,
    app: App,
    folder: TempDir,
    env: Vec<(String, String)>,
    asked: AtomicUsize,
}

impl Front {
    /// With one organisation `acme`, its tool `tool-1`, and its member Ann, who has a service principal.
    async fn start() -> Result<Self> {
        let front = Self::of(Postgres::start().await?).await?;
        front.postgres.sql(SCHEMA).await?;
        front.populate().await?;
        Ok(front)
    }

    /// The same before a database that may be stopped or empty.
    async fn of(postgres: Postgres) -> Result<Self> {
        let (issuer, app) = (Issuer::start(Mood::Issues(3600)).await?, App::start("tool").await?);
        let mut front =
            Self { postgres, issuer, app, folder: tempfile::tempdir()?, env: Vec::new(), asked: AtomicUsize::new(0) };
        front.set("FRONTEND_URL", "http://localhost:3000");
        front.set("DATABASE_URL", &front.postgres.url("postgres"));
        front.set("ALLOWED_APEX_DOMAIN", "aws.databricksapps.com");
        front.set("DEV_MODE", "True");
        front.set("ENCRYPTION_KEY", KEY);
        front.set("EMBEDGATE__SERVER__LISTEN", "127.0.0.1:0");
        front.set("EMBEDGATE__SERVER__WORKERS", "1");
        front.set("EMBEDGATE__SERVER__DRAIN_TIMEOUT", "1s");
        front.set("EMBEDGATE__ADMIN__LISTEN", "127.0.0.1:0");
        front.set("EMBEDGATE__LOG__FORMAT", "text");
        Ok(front)
    }

    async fn populate(&self) -> Result<()> {
        let issuer = self.issuer.url();
        self.sql(&format!(
            "insert into organization (id, name, \"workspaceUrl\") values ('acme', 'Acme', '{issuer}/')"
        ))
        .await?;
        self.member("acme", "u-ann", "Ann@Example.com").await?;
        self.spn("ann", "aNN@example.COM", &issuer).await?;
        self.tool("tool-1", "acme", &format!("{}/?o=1", self.app.url())).await
    }

    async fn sql(&self, statements: &str) -> Result<()> {
        self.postgres.sql(statements).await
    }

    async fn member(&self, org: &str, user: &str, email: &str) -> Result<()> {
        self.sql(&format!(
            "insert into \"user\" (id, name, email) values ('{user}', '{user}', '{email}') on conflict do nothing;
             insert into member (\"organizationId\", \"userId\") values ('{org}', '{user}')"
        ))
        .await
    }

    /// A principal of a user. Its client id is `client`, its secret `hush-` and that.
    async fn spn(&self, client: &str, email: &str, workspace: &str) -> Result<()> {
        self.sql(&format!(
            "insert into \"userSpns\" (email, \"clientId\", \"clientSecret\", \"workspaceUrl\")
             values ('{email}', '{client}', 'hush-{client}', '{workspace}')"
        ))
        .await
    }

    async fn tool(&self, id: &str, org: &str, url: &str) -> Result<()> {
        self.sql(&format!(
            "insert into \"authoringTool\" (id, \"organizationId\", \"appUrl\") values ('{id}', '{org}', '{url}')"
        ))
        .await
    }

    /// Sets a variable, or with an empty value as good as removes it.
    fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    fn run(&self, arguments: &[&str]) -> Result<Ended> {
        Embedgate::run_in(self.folder.path(), &self.env, arguments)
    }

    /// Runs a command that has to succeed, and gives what it printed.
    fn must(&self, arguments: &[&str]) -> Result<String> {
        let ended = self.run(arguments)?;
        ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
        Ok(ended.stdout)
    }

    async fn serve(&self) -> Result<Gateway> {
        Gateway::of(Embedgate::start_in(self.folder.path(), &self.env, &["serve"])?).await
    }

    async fn ready(&self) -> Result<Gateway> {
        let gateway = self.serve().await?;
        gateway.until_ready().await?;
        Ok(gateway)
    }

    /// A gateway that has said how it comes by changes.
    async fn following(&self, how: &'static str) -> Result<Gateway> {
        let mut gateway = self.ready().await?;
        gateway.process.wait_for_stderr(how, |line| line.contains(how).then_some(())).await?;
        Ok(gateway)
    }

    /// A session token of a user of `acme`.
    fn token(&self, user: &str, email: &str) -> Result<String> {
        self.must(&["token", "mint", "--org", "acme", "--user", user, "--email", email])
    }

    fn ann(&self) -> Result<String> {
        self.token("u-ann", "ann@example.com")
    }

    /// What a request for a tool is answered with, and the client that acted, if the app saw it.
    async fn ask(&self, gateway: &Gateway, tool: &str, token: &str) -> Result<(u16, String)> {
        let path = format!("/{}-{tool}", self.asked.fetch_add(1, Ordering::Relaxed));
        let (status, _) = get(gateway.data, &format!("/app-proxy/{tool}{path}"), Some(token)).await?;
        let bearer = self.app.bearers(&path).pop().unwrap_or_default();
        let client =
            bearer.strip_prefix("tok-").and_then(|rest| rest.rsplit_once('-')).map_or("", |(client, _)| client);
        Ok((status, client.to_owned()))
    }

    /// An error unless requests for `tool-1` are answered so, by this client.
    async fn expect(&self, gateway: &Gateway, token: &str, status: u16, client: &str) -> Result<()> {
        let found = self.ask(gateway, "tool-1", token).await?;
        let log = || gateway.process.output();
        ensure!(found == (status, client.to_owned()), "{found:?} instead of {status} {client:?}:\n{}", log());
        Ok(())
    }

    /// Waits until they are.
    async fn until(&self, gateway: &Gateway, token: &str, status: u16, client: &str) -> Result<()> {
        let mut last = None;
        let fits = until(PATIENCE, async || {
            let found = self.ask(gateway, "tool-1", token).await?;
            let fits = found == (status, client.to_owned());
            last = Some(found);
            Ok(fits.then_some(()))
        });
        let fits = fits.await?;
        fits.with_context(|| format!("{last:?} instead of {status} {client:?}:\n{}", gateway.process.output()))
    }
}

/// Waits until `/readyz` answers 503 and with this reason.
async fn until_unready(gateway: &Gateway, why: &str) -> Result<()> {
    let mut last = String::new();
    let said = until(PATIENCE, async || {
        let (status, body) = get(gateway.admin, "/readyz", None).await?;
        ensure!(status == 503, "{status} {body}");
        last = body;
        Ok(last.contains(why).then_some(()))
    });
    said.await?.with_context(|| format!("readyz does not say {why:?} but {last:?}:\n{}", gateway.process.output()))
}
