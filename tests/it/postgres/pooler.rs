//! `PgBouncer` in transaction mode, as it often stands before a database.

use super::database;
use crate::harness::http::{Named, get};
use crate::harness::postgres::Bouncer;
use anyhow::{Result, ensure};

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_through_a_pooler_and_notices_beside_it() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    let bouncer = Bouncer::start(&postgres).await?;
    let role = "embedgate_serve";
    let fleet = "[upstreams.health]\nprober = 'fleet'";
    setup.configure(&format!("url = '{}'\nlisten_url = '{}'\n{fleet}", bouncer.url(role), postgres.url(role)))?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    for (app, name) in [(&two, "two"), (&one, "one"), (&two, "two")].into_iter().cycle().take(30) {
        postgres.sql(&format!("update embedgate.app set url = '{}'", app.url())).await?;
        gateway.until_app("editor", &token, |status, body| status == 200 && body == name).await?;
    }
    let output = gateway.process.output();
    ensure!(!output.contains("refused"), "every load went through:\n{output}");
    gateway.until_metric("embedgate_prober", |probes| probes == 1).await?;
    let output = gateway.process.output();
    ensure!(output.contains("probes nodes for the fleet") && !output.contains("does not agree"), "{output}");
    // The commands go through it too.
    setup.configure(&format!("url = '{}'", bouncer.url("postgres")))?;
    setup.must(&["db", "migrate"])?;
    setup.must(&["db", "status"])?;
    setup.import(&super::organisation("other", &one.url()))?;
    gateway.until_app("editor", &setup.token("other")?, |status, body| status == 200 && body == "one").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_tell_one_another_through_a_pooler() -> Result<()> {
    let app = Named::start("app").await?;
    let (postgres, setup) = database(&app).await?;
    let bouncer = Bouncer::start(&postgres).await?;
    let role = "embedgate_serve";
    let fast = "[fleet]\ninterval = '200ms'\ndrain_interval = '50ms'\n";
    setup.configure(&format!("url = '{}'\nlisten_url = '{}'\n{fast}", bouncer.url(role), postgres.url(role)))?;
    let (one, two) = (setup.ready().await?, setup.ready().await?);
    for gateway in [&one, &two] {
        gateway.until_metric("embedgate_fleet_instances", |instances| instances == 2).await?;
    }
    // It goes on, and is read by others.
    let beats = "select count(*) from embedgate.instance where expires_at > now()";
    ensure!(postgres.number(beats).await? == 2);
    two.process.stop().await?;
    one.until_metric("embedgate_fleet_instances", |instances| instances == 1).await?;
    let output = one.process.output();
    ensure!(!output.contains("prepared statement"), "a pooler gives out other connections:\n{output}");
    one.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_through_a_pooler_is_refused() -> Result<()> {
    let app = Named::start("app").await?;
    let (postgres, setup) = database(&app).await?;
    let bouncer = Bouncer::start(&postgres).await?;
    setup.configure(&format!("url = '{}'", bouncer.url("embedgate_serve")))?;
    let mut gateway = setup.serve().await?;
    let clear = |line: &str| (line.contains("directory.postgres.url: a pooler stands there")).then_some(());
    gateway.process.wait_for_stderr("clear message", clear).await?;
    let (status, body) = get(gateway.admin, "/readyz", None).await?;
    ensure!(status == 503, "{status} {body}");
    gateway.process.stop().await
}
