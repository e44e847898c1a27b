//! What was not heard of is found by comparing versions, and no more than that is read again.

use super::faults::unheard;
use super::{database, organisation};
use crate::harness::http::Named;
use anyhow::{Result, ensure};

/// The number of rows that cannot be used.
const UNUSABLE: &str = "embedgate_directory_unusable_rows";

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_read_again() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    setup.configure(&format!("url = '{}'", postgres.url("embedgate_admin")))?;
    for org in ["lower", "gone", "same"] {
        setup.import(&organisation(org, &one.url()))?;
    }
    setup.configure(&format!("url = '{}'\nresync_interval = '1s'", postgres.url("embedgate_serve")))?;
    let gateway = setup.ready().await?;
    let [acme, lower, gone, same] = ["acme", "lower", "gone", "same"].map(|org| setup.token(org));
    let (acme, lower, gone, same) = (acme?, lower?, gone?, same?);
    gateway.expect_app("editor", &gone, "one").await?;
    let change = |org: &str, version: &str| {
        let app = format!("update embedgate.app set url = '{}' where org = '{org}'", two.url());
        unheard(&format!("{app}; update embedgate.organisation set version = {version} where id = '{org}'"))
    };
    postgres.sql(&change("acme", "nextval('embedgate.version')")).await?;
    postgres.sql(&change("lower", "1")).await?;
    postgres.sql(&unheard("delete from embedgate.organisation where id = 'gone'")).await?;
    postgres
        .sql(&unheard("insert into embedgate.organisation (id, name, version) values ('new', 'New', 1000)"))
        .await?;
    gateway.until_app("editor", &acme, |status, body| status == 200 && body == "two").await?;
    gateway.until_app("editor", &lower, |status, body| status == 200 && body == "two").await?;
    gateway.until_app("editor", &gone, |status, _| status == 401).await?;
    gateway.until_app("editor", &setup.token("new")?, |status, _| status == 404).await?;
    gateway.expect_app("editor", &same, "one").await?;
    ensure!(gateway.full_loads() == 1, "organisations were read one by one:\n{}", gateway.process.output());
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_table_is_noticed_though_it_raises_no_version() -> Result<()> {
    let app = Named::start("app").await?;
    let (postgres, setup) = database(&app).await?;
    setup.configure(&format!("url = '{}'\nresync_interval = '1s'", postgres.url("embedgate_serve")))?;
    let gateway = setup.ready().await?;
    let token = setup.token("acme")?;
    gateway.expect_app("editor", &token, "app").await?;
    postgres.sql(&unheard("truncate embedgate.app cascade")).await?;
    gateway.until_app("editor", &token, |status, _| status == 404).await?;
    ensure!(gateway.full_loads() > 1, "everything was read:\n{}", gateway.process.output());
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_used_stay_known() -> Result<()> {
    let (one, two) = (Named::start("one").await?, Named::start("two").await?);
    let (postgres, setup) = database(&one).await?;
    setup.configure(&format!("url = '{}'", postgres.url("embedgate_admin")))?;
    setup.import(&organisation("partly", &one.url()))?;
    setup.import(&organisation("wholly", &one.url()))?;
    let evil = "https://evil.example";
    let rows = "insert into embedgate.app (org, id, workspace, url) values ('partly', 'evil', 'main'";
    postgres.sql(&format!("{rows}, '{evil}')")).await?;
    postgres.sql(&format!("update embedgate.workspace set url = '{evil}' where org = 'wholly'")).await?;
    setup.configure(&format!("url = '{}'\nresync_interval = '1s'", postgres.url("embedgate_serve")))?;
    let mut gateway = setup.ready().await?;
    let [acme, partly, wholly] = ["acme", "partly", "wholly"].map(|org| setup.token(org));
    let (acme, partly, wholly) = (acme?, partly?, wholly?);
    gateway.until_metric(UNUSABLE, |count| count == 2).await?;
    gateway.until_app("editor", &wholly, |status, _| status == 401).await?;

    // A comparison that finds something, and does not look at those two.
    let raised = "update embedgate.organisation set version = nextval('embedgate.version')";
    let app = format!("update embedgate.app set url = '{}' where org = 'acme'", two.url());
    postgres.sql(&unheard(&format!("{app}; {raised} where id = 'acme'"))).await?;
    gateway.until_app("editor", &acme, |status, body| status == 200 && body == "two").await?;
    ensure!(gateway.metric(UNUSABLE).await? == 2, "both stay known");
    ensure!(gateway.full_loads() == 1, "nothing else was read:\n{}", gateway.process.output());

    // One that finds them mended.
    let mended = format!("update embedgate.workspace set url = '{}' where org = 'wholly'", one.url());
    postgres.sql(&unheard(&format!("{mended}; {raised} where id = 'wholly'"))).await?;
    gateway.until_app("editor", &wholly, |status, body| status == 200 && body == "one").await?;
    gateway.until_metric(UNUSABLE, |count| count == 1).await?;
    // And one that finds them spoilt: what was usable goes.
    let spoilt = format!("update embedgate.workspace set url = '{evil}' where org = 'partly'");
    postgres.sql(&unheard(&format!("{spoilt}; {raised} where id = 'partly'"))).await?;
    gateway.until_app("editor", &partly, |status, _| status == 401).await?;
    let loads = gateway.full_loads();
    gateway.process.signal("HUP")?;
    let loaded = |line: &str| line.contains("directory loaded organisations=2").then_some(());
    gateway.process.wait_for_stderr("full read", loaded).await?;
    ensure!(loads == 1, "{loads} full reads before that");
    gateway.process.stop().await
}
