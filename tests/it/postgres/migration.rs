//! Migrations that are cut off, and schemas that are not what they say.

use super::Setup;
use crate::harness::embedgate::Embedgate;
use crate::harness::postgres::Postgres;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use embedgate::directory::postgres::migrate::LATEST;

/// The table of versions as `db migrate` makes it.
const TABLE: &str = "create schema embedgate;
    create table embedgate.schema_version
      (version integer primary key, name text not null, applied_at timestamptz not null default now())";
const FIRST: &str = include_str!("../../../migrations/0001_directory.sql");

/// A database with the first version of the schema.
async fn first_version() -> Result<(Postgres, Setup)> {
    let postgres = Postgres::start().await?;
    let setup = Setup::new(&format!("url = '{}'", postgres.url("postgres")))?;
    postgres.sql(TABLE).await?;
    postgres.sql(FIRST).await?;
    postgres.sql("insert into embedgate.schema_version (version, name) values (1, 'directory')").await?;
    Ok((postgres, setup))
}

fn ensure_first(setup: &Setup) -> Result<()> {
    let status = setup.run(&["db", "status", "--json"], "")?;
    ensure!(status.code == Some(1) && status.stdout.contains("\"version\": 1"), "{status:?}");
    ensure!(status.stderr.contains("run `embedgate db migrate`"), "{status:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_half_way_has_changed_nothing_and_is_run_again() -> Result<()> {
    let (postgres, setup) = first_version().await?;
    let holder = postgres.client().await?;
    holder.batch_execute("begin; lock table embedgate.node in access exclusive mode").await?;
    let mut migrating = Embedgate::start(&["db", "migrate", "--config", &setup.path("embedgate.toml")])?;
    // By then it has made functions and triggers, and waits for its turn at that table.
    let waiting = "select coalesce(max(pid), 0)::int8 from pg_stat_activity
        where application_name = 'embedgate' and wait_event_type = 'Lock'";
    let pid = until(PATIENCE, async || Ok(Some(postgres.number(waiting).await?).filter(|pid| *pid != 0)));
    let pid = pid.await?.context("it does not wait")?;
    postgres.sql(&format!("select pg_terminate_backend({pid})")).await?;
    let clear =
        |line: &str| (line.contains("version 2 (notices)") && line.contains("nothing was changed")).then_some(());
    migrating.wait_for_stderr("clear message", clear).await?;
    holder.batch_execute("rollback").await?;
    ensure_first(&setup)?;
    setup.must(&["db", "migrate"])?;
    let status = setup.must(&["db", "status", "--json"])?;
    ensure!(status.contains(&format!("\"version\": {LATEST}")), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_though_no_version_says_so_is_left_alone() -> Result<()> {
    let (postgres, setup) = first_version().await?;
    postgres.sql("create function embedgate.touch_new() returns int language sql return 1").await?;
    let functions = "select count(*) from pg_proc where pronamespace = 'embedgate'::regnamespace";
    let before = postgres.number(functions).await?;
    let ended = setup.run(&["db", "migrate"], "")?;
    let clear = ended.stderr.contains("version 2 (notices)") && ended.stderr.contains("\"touch_new\" already exists");
    ensure!(ended.code == Some(1) && clear && ended.stderr.contains("nothing was changed"), "{ended:?}");
    ensure!(postgres.number(functions).await? == before, "nothing was changed");
    ensure_first(&setup)?;
    // With that out of the way, it goes on.
    postgres.sql("drop function embedgate.touch_new()").await?;
    setup.must(&["db", "migrate"])?;
    Ok(())
}
