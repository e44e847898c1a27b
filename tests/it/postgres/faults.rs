//! What goes wrong with a database, and what the gateway does meanwhile.

use super::{Setup, database, organisation};
use crate::harness::http::{Named, get};
use crate::harness::postgres::Postgres;
use crate::harness::process::signal;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notice_is_made_good_by_the_reconnect() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    setup.configure(&format!("url = '{}'\nresync_interval = '1h'", postgres.url("embedgate_serve")))?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    postgres.sql(&silently(&two)).await?;
    gateway.expect_app("editor", &token, "one").await?;
    let listener =
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'embedgate listener'";
    ensure!(postgres.client().await?.query(listener, &[]).await?.len() == 1, "one connection listens");
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    gateway.process.stop().await
}

/// A change of all apps whose notice is lost on the way.
fn silently(app: &Named) -> String {
    unheard(&format!(
        "update embedgate.app set url = '{}'; update embedgate.organisation set version = nextval('embedgate.version')",
        app.url()
    ))
}

/// Runs statements without triggers, and so without notices and new versions.
pub(super) fn unheard(statements: &str) -> String {
    format!("begin; set local session_replication_role = replica; {statements}; commit")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notice_is_made_good_by_the_next_comparison() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    setup.configure(&format!("url = '{}'\nresync_interval = '1s'", postgres.url("embedgate_serve")))?;
    let gateway = setup.ready().await?;
    postgres.sql(&silently(&two)).await?;
    gateway.until_app("editor", &setup.token("acme")?, |status, body| status == 200 && body == "two").await?;
    gateway.process.stop().await
}

/// A server process that does nothing more, and keeps its connection open.
struct Frozen(String);

impl Frozen {
    fn new(pid: i32) -> Result<Self> {
        let pid = pid.to_string();
        signal("STOP", &pid)?;
        Ok(Self(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It would outlive its server otherwise.
        let _ = signal("CONT", &self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_given_up_and_made_anew() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    setup.configure(&format!("url = '{}'\nresync_interval = '1h'", postgres.url("embedgate_serve")))?;
    let mut gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    let listener = "select pid from pg_stat_activity where application_name = 'embedgate listener'";
    let _frozen = Frozen::new(postgres.client().await?.query_one(listener, &[]).await?.get(0))?;
    postgres.sql(&format!("update embedgate.app set url = '{}'", two.url())).await?;
    gateway.expect_app("editor", &token, "one").await?;
    let lost = |line: &str| line.contains("no sign of life").then_some(());
    gateway.process.wait_for_stderr("lost sign of life", lost).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_while_the_database_is_away() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (mut postgres, setup) = database(&one).await?;
    let mut gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    postgres.stop().await?;
    gateway.process.wait_for_stderr("loss noticed", |line| line.contains("not heard of").then_some(())).await?;
    for _ in 0..20 {
        gateway.expect_app("editor", &token, "one").await?;
    }
    let (ready, _) = get(gateway.admin, "/readyz", None).await?;
    ensure!(ready == 200, "readiness stays");
    postgres.go_on().await?;
    postgres.sql(&format!("update embedgate.app set url = '{}'", two.url())).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    postgres.sql(&format!("update embedgate.app set url = '{}'", one.url())).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "one").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_at_start_is_waited_for() -> Result<()> {
    let app = Named::start("app").await?;
    let mut postgres = Postgres::stopped()?;
    let setup = Setup::new(&format!("url = '{}'", postgres.url("postgres")))?;
    let token = setup.token("acme")?;
    let gateway = setup.serve().await?;
    let why = until(PATIENCE, async || {
        let (status, body) = get(gateway.admin, "/readyz", None).await?;
        ensure!(status == 503, "{status} {body}");
        Ok(body.contains("cannot connect to Postgres").then_some(()))
    });
    why.await?.context("readyz does not say why")?;
    gateway.until_app("editor", &token, |status, _| status == 503).await?;
    // Up, and still without a schema.
    postgres.go_on().await?;
    let why = until(PATIENCE, async || {
        let (_, body) = get(gateway.admin, "/readyz", None).await?;
        Ok(body.contains("run `embedgate db migrate`").then_some(()))
    });
    why.await?.context("readyz does not say what is lacking")?;
    setup.must(&["db", "migrate"])?;
    setup.import(&organisation("acme", &app.url()))?;
    gateway.until_ready().await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "app").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_row_harms_its_own_organisation_alone() -> Result<()> {
    let app = Named::start("app").await?;
    let (postgres, setup) = database(&app).await?;
    setup.configure(&format!("url = '{}'", postgres.url("embedgate_admin")))?;
    setup.import(&organisation("other", &app.url()))?;
    setup.import(&organisation("third", &app.url()))?;
    // Sealed for another organisation; and a host that is not allowed.
    postgres
        .sql(
            "update embedgate.principal p set token = q.token from embedgate.principal q where p.org = 'acme' and q.org = 'other';
             insert into embedgate.app (org, id, workspace, url) values ('third', 'evil', 'main', 'https://evil.example')",
        )
        .await?;
    let mut gateway = setup.ready().await?;
    let [acme, other, third] = [setup.token("acme")?, setup.token("other")?, setup.token("third")?];
    gateway.expect_app("editor", &other, "app").await?;
    gateway.expect_app("editor", &third, "app").await?;
    gateway.until_app("evil", &third, |status, _| status == 404).await?;
    gateway.until_app("editor", &acme, |status, _| status == 502).await?;
    let named = |org: &'static str, row: &'static str| {
        move |line: &str| (line.contains("cannot be used") && line.contains(org) && line.contains(row)).then_some(())
    };
    gateway.process.wait_for_stderr("principal named", named("acme", "principal")).await?;
    gateway.process.wait_for_stderr("app named", named("third", "evil")).await?;
    let (_, metrics) = get(gateway.admin, "/metrics", None).await?;
    ensure!(metrics.contains("embedgate_directory_unusable_rows 2"), "{metrics}");
    // A good secret mends it.
    let sealed = setup.run(&["secret", "seal", "--org", "acme", "--principal", "spn"], "hush\n")?;
    postgres.sql(&format!("update embedgate.principal set token = '{}' where org = 'acme'", sealed.stdout)).await?;
    gateway.until_app("editor", &acme, |status, body| status == 200 && body == "app").await?;
    ensure!(!gateway.process.output().contains("hush"), "a secret in the log");
    gateway.process.stop().await
}
