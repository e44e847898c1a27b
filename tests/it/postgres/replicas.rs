//! Rows from streaming replicas, and a replica that becomes the primary.

use super::faults::Frozen;
use super::load::Load;
use super::{Setup, database};
use crate::harness::http::Named;
use crate::harness::postgres::Postgres;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};

const ROLE: &str = "embedgate_serve";
const READS: &str = "embedgate_directory_replica_reads_total{replica=\"1\"}";
const FALLBACKS: &str = "embedgate_directory_replica_fallbacks_total";

/// A primary and its replica, and a gateway's configuration for both, with `more` in it.
async fn pair(app: &Named, more: &str) -> Result<(Postgres, Postgres, Setup)> {
    let (primary, setup) = database(app).await?;
    let replica = primary.replica().await?;
    let (url, replicas) = (primary.url(ROLE), replica.url(ROLE));
    setup.configure(&format!("url = '{url}'\nreplicas = ['{replicas}']\nresync_interval = '1h'\n{more}"))?;
    Ok((primary, replica, setup))
}

fn to(app: &Named) -> String {
    format!("update embedgate.app set url = '{}'", app.url())
}

/// How many connections that read rows a server has.
async fn readers(postgres: &Postgres) -> Result<i64> {
    postgres.number("select count(*) from pg_stat_activity where application_name = 'embedgate'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_from_a_replica_and_notices_from_the_primary() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (primary, replica, setup) = pair(&one, "").await?;
    // Of several hosts, the one that is the primary is listened to.
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", replica.port(), primary.port());
    let (url, listen) = (primary.url(ROLE), format!("postgres://{ROLE}@{hosts}/postgres"));
    let replicas = format!("replicas = ['{}']\nmax_replica_lag = '60s'", replica.url(ROLE));
    setup.configure(&format!("url = '{url}'\nlisten_url = '{listen}'\n{replicas}"))?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    for (app, name) in [(&two, "two"), (&one, "one"), (&two, "two")] {
        primary.sql(&to(app)).await?;
        gateway.until_app("editor", &token, |status, body| status == 200 && body == name).await?;
    }
    gateway.until_metric(READS, |reads| reads >= 4).await?;
    ensure!(gateway.metric(FALLBACKS).await? == 0, "{}", gateway.process.output());
    ensure!(readers(&primary).await? == 0 && readers(&replica).await? > 0, "the replica was read from");
    gateway.process.stop().await
}

/// Stops the replay, or lets it go on, and waits until that is so.
async fn replay(replica: &Postgres, call: &str, state: &str) -> Result<()> {
    let client = replica.client().await?;
    client.batch_execute(&format!("select {call}()")).await?;
    let reached = until(PATIENCE, async || {
        let row = client.query_one("select pg_get_wal_replay_pause_state()", &[]).await?;
        Ok((row.get::<_, &str>(0) == state).then_some(()))
    });
    reached.await?.with_context(|| format!("replay is not {state}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_is_passed_over_until_it_has_caught_up() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (primary, replica, setup) = pair(&one, "max_replica_lag = '200ms'").await?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    replay(&replica, "pg_wal_replay_pause", "paused").await?;
    primary.sql(&to(&two)).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    gateway.until_metric(FALLBACKS, |count| count >= 1).await?;
    let lag = gateway.metric("embedgate_directory_replica_lag_bytes{replica=\"1\"}").await?;
    ensure!(lag > 0, "it lags");
    replay(&replica, "pg_wal_replay_resume", "not paused").await?;
    let before = gateway.metric(READS).await?;
    let read_again = until(PATIENCE, async || {
        primary.sql(&to(&one)).await?;
        Ok((gateway.metric(READS).await? > before).then_some(()))
    });
    read_again.await?.context("the replica is not read from again")?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "one").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_replica_never_stops_the_directory() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (primary, setup) = database(&one).await?;
    // One that is dead, and one that is a primary of its own with other rows.
    let (other, _) = database(&two).await?;
    let dead = format!("postgres://{ROLE}:hush@127.0.0.1:1/postgres");
    let (url, replicas) = (primary.url(ROLE), format!("replicas = ['{dead}', '{}']", other.url(ROLE)));
    setup.configure(&format!("url = '{url}'\n{replicas}"))?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    primary.sql(&to(&two)).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    gateway.until_metric(FALLBACKS, |count| count >= 2).await?;
    ensure!(gateway.metric(READS).await? == 0, "nobody answers there");
    let output = gateway.process.output();
    ensure!(output.contains("is no replica of the primary") && !output.contains("hush"), "{output}");
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_is_given_up() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (primary, replica, setup) = pair(&one, "connect_timeout = '1s'\nacquire_timeout = '1s'").await?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "one").await?;
    let reader = "select pid from pg_stat_activity where application_name = 'embedgate'";
    let hanging = Frozen::new(replica.client().await?.query_one(reader, &[]).await?.get(0))?;
    primary.sql(&to(&two)).await?;
    gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    drop(hanging);
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_is_followed_while_requests_go_on() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (mut primary, replica, setup) = pair(&one, "max_replica_lag = '60s'").await?;
    let mut gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    let load = Load::start(&gateway, "editor", &token);
    load.go_on().await?;
    primary.kill().await?;
    gateway.process.wait_for_stderr("loss noticed", |line| line.contains("not heard of").then_some(())).await?;
    load.go_on().await?;
    // Who starts now has nothing better than what the replica has.
    let late = setup.ready().await?;
    late.expect_app("editor", &token, "one").await?;

    replica.sql("select pg_promote()").await?;
    replica.sql(&to(&two)).await?;
    for gateway in [&gateway, &late] {
        gateway.until_app("editor", &token, |status, body| status == 200 && body == "two").await?;
    }
    // The old primary comes back as if nothing had happened, and is not listened to any more.
    primary.go_on().await?;
    primary.sql("update embedgate.organisation set name = 'Lost'").await?;
    let listener =
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'embedgate listener'";
    ensure!(replica.number(listener).await? == 2, "both listen to the new primary");
    let replaced = |line: &str| line.contains("was replaced by another primary").then_some(());
    gateway.process.wait_for_stderr("word of the old primary", replaced).await?;
    replica.sql(&to(&one)).await?;
    for gateway in [&gateway, &late] {
        gateway.until_app("editor", &token, |status, body| status == 200 && body == "one").await?;
    }
    ensure!(replica.number(&listener.replace("pg_terminate_backend", "")).await? == 2, "they still do");
    load.end().await?;
    late.process.stop().await?;
    gateway.process.stop().await
}
