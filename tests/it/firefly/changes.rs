//! What is changed in the front end arrives at the gateway, whether triggers tell of it or the tables are asked.

use super::Front;
use crate::harness::postgres::Bouncer;
use crate::postgres::Gateway;
use anyhow::{Result, ensure};

const NOTICES: &str = "triggers tell of changes";
const POLLING: &str = "asked for changes once a second";

/// A front end with triggers, and a gateway that would learn of nothing without them.
async fn with_triggers() -> Result<(Front, Gateway)> {
    let mut front = Front::start().await?;
    front.must(&["db", "adopt-firefly"])?;
    front.set("EMBEDGATE__DIRECTORY__POSTGRES__RESYNC_INTERVAL", "1h");
    let gateway = front.following(NOTICES).await?;
    Ok((front, gateway))
}

async fn without_triggers() -> Result<(Front, Gateway)> {
    let front = Front::start().await?;
    let gateway = front.following(POLLING).await?;
    Ok((front, gateway))
}

/// Everything that takes access away or makes somebody act as another, and back again.
async fn all_arrives(front: &Front, gateway: &Gateway) -> Result<()> {
    let ann = front.ann()?;
    front.expect(gateway, &ann, 200, "ann").await?;
    for (change, status, client) in [
        ("update \"user\" set banned = true", 403, ""),
        ("update \"user\" set banned = null", 200, "ann"),
        ("delete from member", 403, ""),
        ("insert into member (\"organizationId\", \"userId\") values ('acme', 'u-ann')", 200, "ann"),
        ("update \"authoringTool\" set \"deletedAt\" = now()", 404, ""),
        ("update \"authoringTool\" set \"deletedAt\" = null", 200, "ann"),
        ("update \"authoringTool\" set status = 'DELETING'", 404, ""),
        ("update \"authoringTool\" set status = 'RUNNING'", 200, "ann"),
        ("update \"userSpns\" set \"clientId\" = 'ann2', \"clientSecret\" = 'hush2'", 200, "ann2"),
        ("delete from \"userSpns\"", 403, ""),
        (
            "insert into \"byodDatabricksSpns\" (id, \"organizationId\", \"clientId\", \"clientSecret\")
             values ('b', 'acme', 'byod', 'hush')",
            200,
            "byod",
        ),
        (
            "insert into \"guestSpns\" (id, \"clientId\", \"clientSecret\") values ('g', 'guest', 'hush');
             insert into \"guestUser\" (\"generatedEmail\", \"spnId\") values ('ann@example.com', 'g')",
            200,
            "guest",
        ),
        ("update \"guestUser\" set \"isExpired\" = true", 502, ""),
        ("truncate \"guestUser\"", 200, "byod"),
        ("update organization set \"workspaceUrl\" = 'https://evil.example'", 502, ""),
        ("delete from organization", 401, ""),
    ] {
        front.sql(change).await?;
        front.until(gateway, &ann, status, client).await.map_err(|error| error.context(change))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn weakness_05_everything_arrives_by_polling() -> Result<()> {
    let (front, gateway) = without_triggers().await?;
    all_arrives(&front, &gateway).await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn weakness_05_everything_arrives_by_triggers() -> Result<()> {
    let (front, gateway) = with_triggers().await?;
    all_arrives(&front, &gateway).await?;
    let log = gateway.process.output();
    ensure!(log.matches(POLLING).count() == 0, "{log}");
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn weakness_05_revocations_arrive_either_way() -> Result<()> {
    for (front, gateway) in [with_triggers().await?, without_triggers().await?] {
        let ann = front.ann()?;
        front.expect(&gateway, &ann, 200, "ann").await?;
        let said = front.must(&["session", "revoke", "--user", "u-ann"])?;
        ensure!(said.contains("user u-ann"), "{said}");
        front.until(&gateway, &ann, 401, "").await?;
        gateway.process.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_come_and_go_are_noticed() -> Result<()> {
    let (front, mut gateway) = without_triggers().await?;
    front.must(&["db", "adopt-firefly"])?;
    gateway.process.wait_for_stderr(NOTICES, |line| line.contains(NOTICES).then_some(())).await?;
    front.must(&["db", "adopt-firefly", "--remove"])?;
    let twice = crate::harness::until(crate::harness::PATIENCE, async || {
        Ok((gateway.process.output().matches(POLLING).count() == 2).then_some(()))
    });
    ensure!(twice.await?.is_some(), "polling is not taken up again:\n{}", gateway.process.output());
    let ann = front.ann()?;
    front.sql("update \"user\" set banned = true").await?;
    front.until(&gateway, &ann, 403, "").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_the_tables_are_asked() -> Result<()> {
    let mut front = Front::start().await?;
    front.must(&["db", "adopt-firefly"])?;
    let bouncer = Bouncer::start(&front.postgres).await?;
    front.set("DATABASE_URL", &format!("{}?pool_max_conns=10", bouncer.url("postgres")));
    front.set("EMBEDGATE__DIRECTORY__POSTGRES__RESYNC_INTERVAL", "1h");
    let gateway = front.following(POLLING).await?;
    let ann = front.ann()?;
    front.expect(&gateway, &ann, 200, "ann").await?;
    front.sql("update \"user\" set banned = true").await?;
    front.until(&gateway, &ann, 403, "").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_while_the_database_is_away() -> Result<()> {
    let (mut front, mut gateway) = without_triggers().await?;
    let ann = front.ann()?;
    front.expect(&gateway, &ann, 200, "ann").await?;
    front.postgres.stop().await?;
    gateway.process.wait_for_stderr("loss noticed", |line| line.contains("cannot be watched").then_some(())).await?;
    front.expect(&gateway, &ann, 200, "ann").await?;
    front.postgres.go_on().await?;
    front.sql("update \"user\" set banned = true").await?;
    front.until(&gateway, &ann, 403, "").await?;
    gateway.process.stop().await
}
