//! What goes wrong with a database, and what the gateway does meanwhile.

use super::load::Load;
use super::{Gateway, Setup, database, organisation};
use crate::harness::http::{Named, get};
use crate::harness::postgres::{Bouncer, Postgres};
use crate::harness::process::signal;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use embedgate::directory::postgres::connect::{self, Limits};
use embedgate::directory::postgres::url;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

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
    ensure!(gateway.full_loads() == 1, "versions were compared:\n{}", gateway.process.output());
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_versions_are_not_believed() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (mut postgres, setup) = database(&one).await?;
    setup.configure(&format!("url = '{}'\nresync_interval = '1h'", postgres.url("embedgate_serve")))?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    // Another row of the same version, as when a crash lost the last writes and the version was given out again.
    postgres.sql(&unheard(&format!("update embedgate.app set url = '{}'", two.url()))).await?;
    postgres.stop().await?;
    postgres.go_on().await?;
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
pub(super) struct Frozen(String);

impl Frozen {
    pub(super) fn new(pid: i32) -> Result<Self> {
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
    gateway.until_app("evil", &third, |status, _| status == 503).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_used_takes_its_app_alone_out_of_service() -> Result<()> {
    let app = Named::start("app").await?;
    let (postgres, setup) = database(&app).await?;
    let url = app.url();
    postgres
        .sql(&format!(
            "begin;
             insert into embedgate.app (org, id, workspace, url) values ('acme', 'viz', 'main', '{url}');
             insert into embedgate.cluster (org, kind, upstream, id, state) values ('acme', 'app', 'editor', 'blue', 'running');
             insert into embedgate.node (org, kind, upstream, cluster, url) values ('acme', 'app', 'editor', 'blue', '{url}');
             commit"
        ))
        .await?;
    let mut gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "app").await?;
    let evil = "insert into embedgate.node (org, kind, upstream, cluster, url)
                values ('acme', 'app', 'editor', 'blue', 'https://evil.example')";
    for (spoil, reason, mend) in [
        (evil.to_owned(), "evil.example", "delete from embedgate.node where url like '%evil%'"),
        (
            "update embedgate.cluster set weight = 0".to_owned(),
            "has the weight 0",
            "update embedgate.cluster set weight = 1",
        ),
        (
            "update embedgate.cluster set state = 'stopped'".to_owned(),
            "is running",
            "update embedgate.cluster set state = 'running'",
        ),
        // What the schema refuses, and who gets round it can have.
        (
            "begin; set local session_replication_role = replica; delete from embedgate.node; commit;
             update embedgate.app set status = 'active'"
                .to_owned(),
            "has no node",
            &format!(
                "insert into embedgate.node (org, kind, upstream, cluster, url) values ('acme', 'app', 'editor', 'blue', '{url}')"
            ),
        ),
    ] {
        postgres.sql(&spoil).await?;
        gateway.until_app("editor", &token, |status, _| status == 503).await.with_context(|| spoil)?;
        gateway.expect_app("viz", &token, "app").await?;
        let is_told =
            |line: &str| (line.contains("editor") && line.contains("503") && line.contains(reason)).then_some(());
        gateway.process.wait_for_stderr(reason, is_told).await?;
        postgres.sql(mend).await?;
        gateway.until_app("editor", &token, |status, body| status == 200 && body == "app").await?;
    }
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_database_fails_no_request() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (mut postgres, setup) = database(&one).await?;
    let mut gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    let load = Load::start(&gateway, "editor", &token);
    load.go_on().await?;
    postgres.kill().await?;
    gateway.process.wait_for_stderr("loss noticed", |line| line.contains("not heard of").then_some(())).await?;
    load.go_on().await?;
    postgres.go_on().await?;
    postgres.sql(&format!("update embedgate.app set url = '{}'", two.url())).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    load.end().await?;
    gateway.process.stop().await
}

/// Waits until `/readyz` is 200 and says `what`, or says nothing more than that it is ready.
async fn until_said(gateway: &Gateway, what: Option<&str>) -> Result<()> {
    let mut last = String::new();
    let said = until(PATIENCE, async || {
        let (status, body) = get(gateway.admin, "/readyz", None).await?;
        ensure!(status == 200, "{status} {body}");
        let fits = what.map_or(body.trim() == "ready", |what| body.contains(what));
        last = body;
        Ok(fits.then_some(()))
    });
    let said = said.await?;
    said.with_context(|| format!("no {what:?} on readyz, but {last:?}:\n{}", gateway.process.output()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_hangs_is_given_up_and_told_of() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    let url = postgres.url("embedgate_serve");
    setup.configure(&format!("url = '{url}'\npool_size = 1\nstatement_timeout = '300ms'"))?;
    let mut gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    let load = Load::start(&gateway, "editor", &token);
    let holder = postgres.client().await?;
    holder.batch_execute("begin; lock table embedgate.principal in access exclusive mode").await?;
    postgres.sql(&format!("update embedgate.app set url = '{}'", two.url())).await?;
    until_said(&gateway, Some("statement timeout")).await?;
    // The log says it too; it is written and read by threads of their own, so later.
    let told = |line: &str| line.contains("statement timeout").then_some(());
    gateway.process.wait_for_stderr("statement timeout in the log", told).await?;
    gateway.until_metric("embedgate_directory_loads_total{result=\"refused\"}", |count| count > 0).await?;
    load.go_on().await?;
    gateway.expect_app("editor", &token, "one").await?;
    holder.batch_execute("rollback").await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    until_said(&gateway, None).await?;
    load.end().await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_without_a_free_connection_is_passed_over() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    let bouncer = Bouncer::start(&postgres).await?;
    let role = "embedgate_serve";
    let urls = format!("url = '{}'\nlisten_url = '{}'", bouncer.url(role), postgres.url(role));
    setup.configure(&format!("{urls}\npool_size = 1\nacquire_timeout = '300ms'\nconnect_timeout = '1s'"))?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    // All that the pooler has.
    let mut holders = Vec::new();
    for _ in 0..2 {
        let holder = connected(&bouncer.url(role)).await?;
        holder.batch_execute("begin").await?;
        holders.push(holder);
    }
    postgres.sql(&format!("update embedgate.app set url = '{}'", two.url())).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    // And nothing beside it either.
    let limited = format!("alter role {role} connection limit 1");
    postgres.sql(&limited).await?;
    let readers = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'embedgate'";
    postgres.number(&format!("{readers} and xact_start is null")).await?;
    postgres.sql(&format!("update embedgate.app set url = '{}'", one.url())).await?;
    until_said(&gateway, Some("Postgres at 127.0.0.1:")).await?;
    gateway.expect_app("editor", &token, "two").await?;
    drop(holders);
    postgres.sql(&limited.replace('1', "-1")).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "one").await?;
    until_said(&gateway, None).await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_exhausted_says_so_in_time() -> Result<()> {
    let postgres = Postgres::start().await?;
    let target = url::parse(&postgres.url("postgres"))?;
    let limits = Limits { size: 1, connect: PATIENCE, acquire: Duration::from_millis(50) };
    let (pool, at) = connect::pool_at(&target, limits)?;
    let held = connect::acquire(&pool, &at).await?;
    let refused = connect::acquire(&pool, &at).await.err().context("two connections out of one")?.to_string();
    ensure!(refused.contains("no connection in time") && refused.contains(&at), "{refused}");
    drop(held);
    drop(connect::acquire(&pool, &at).await?);
    Ok(())
}

async fn connected(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(driver);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_more_connections_is_waited_for() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    let mut gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    let load = Load::start(&gateway, "editor", &token);
    let superuser = postgres.client().await?;
    let mut others = Vec::new();
    let ours = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'embedgate_serve'";
    // What the gateway loses is taken by others, until it has nothing.
    let all_taken = until(PATIENCE, async || {
        while let Ok(other) = connected(&postgres.url("embedgate_admin")).await {
            others.push(other);
        }
        let left: i64 = superuser.query_one(ours, &[]).await?.get(0);
        Ok((left == 0).then_some(()))
    });
    all_taken.await?.context("the gateway keeps its connections")?;
    gateway.process.wait_for_stderr("refusal", |line| line.contains("SQLSTATE 53300").then_some(())).await?;
    load.go_on().await?;
    until_said(&gateway, Some("SQLSTATE 53300")).await?;
    drop(others);
    let changed = until(PATIENCE, async || {
        // The places of those that have just gone are not free at once.
        Ok(postgres.sql(&format!("update embedgate.app set url = '{}'", two.url())).await.ok())
    });
    changed.await?.context("no change")?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    load.end().await?;
    gateway.process.stop().await
}
