//! Who acts for whom, and where the tokens come from.

use super::Front;
use crate::harness::issuer::{Issuer, Mood};
use anyhow::{Result, ensure};

#[tokio::test(flavor = "multi_thread")]
async fn weakness_11_principals_are_found_as_the_front_end_finds_them() -> Result<()> {
    let front = Front::start().await?;
    let issuer = front.issuer.url();
    for (user, email) in [
        ("u-two", "Two@example.com"),
        ("u-guest", "Guest@example.com"),
        ("u-old", "old@example.com"),
        ("u-lost", "lost@example.com"),
        ("u-both", "both@example.com"),
        ("u-rest", "rest@example.com"),
    ] {
        front.member("acme", user, email).await?;
    }
    front
        .sql(&format!(
            "insert into \"userSpns\" (id, email, \"clientId\", \"clientSecret\", \"workspaceUrl\", \"createdAt\") values
               ('b', 'TWO@example.com', 'newer', 'hush', '{issuer}', now()),
               ('c', 'two@EXAMPLE.com', 'older', 'hush', '{issuer}', now() - interval '1 day'),
               ('d', 'two@example.com', 'other', 'hush', '{issuer}', now()),
               ('e', 'both@example.com', 'both', 'hush', '{issuer}', now());
             insert into \"guestSpns\" (id, \"clientId\", \"clientSecret\") values ('g', 'guest', 'hush');
             insert into \"guestUser\" (\"generatedEmail\", \"spnId\", \"isExpired\") values
               ('GUEST@example.com', 'g', false), ('guest@example.com', 'g', true), ('old@example.com', 'g', true),
               ('lost@example.com', 'gone', false), ('both@example.com', 'g', true);
             insert into \"byodDatabricksSpns\" (id, \"organizationId\", \"clientId\", \"clientSecret\", \"createdAt\") values
               ('x', 'acme', 'byod-newer', 'hush', now()), ('y', 'acme', 'byod', 'hush', now() - interval '1 day');"
        ))
        .await?;
    let gateway = front.ready().await?;
    for (user, email, status, client) in [
        ("u-ann", "ANN@example.com", 200, "ann"),
        ("u-two", "two@example.com", 200, "older"),
        ("u-guest", "guest@EXAMPLE.com", 200, "guest"),
        // Neither falls to the organisation's.
        ("u-old", "old@example.com", 502, ""),
        ("u-lost", "lost@example.com", 502, ""),
        ("u-both", "both@example.com", 200, "both"),
        ("u-rest", "rest@example.com", 200, "byod"),
        ("u-none", "ann@example.com", 403, ""),
    ] {
        front.expect(&gateway, &front.token(user, email)?, status, client).await?;
    }
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn weakness_11_tokens_come_from_the_workspace_of_the_row() -> Result<()> {
    let front = Front::start().await?;
    let (spns, guests, byod) = (
        Issuer::start(Mood::Issues(3600)).await?,
        Issuer::start(Mood::Issues(3600)).await?,
        Issuer::start(Mood::Issues(3600)).await?,
    );
    for (user, email) in [
        ("u-bob", "bob@example.com"),
        ("u-g1", "g1@example.com"),
        ("u-g2", "g2@example.com"),
        ("u-g3", "g3@example.com"),
        ("u-rest", "rest@example.com"),
    ] {
        front.member("acme", user, email).await?;
    }
    front.spn("bob", "bob@example.com", &format!("{}/some/path", spns.url())).await?;
    front
        .sql(&format!(
            "insert into \"guestWorkspaces\" (id, \"workspaceUrl\") values ('w1', '{0}'), ('w2', '{0}/');
             insert into \"guestSpns\" (id, \"clientId\", \"clientSecret\", \"guestWorkspaceId\") values
               ('s1', 'g1', 'hush', null), ('s2', 'g2', 'hush', 'w2'), ('s3', 'g3', 'hush', null);
             insert into \"guestUser\" (\"generatedEmail\", \"spnId\", \"workspaceId\") values
               ('g1@example.com', 's1', 'w1'), ('g2@example.com', 's2', null), ('g3@example.com', 's3', null);
             insert into \"byodDatabricksSpns\" (id, \"organizationId\", \"clientId\", \"clientSecret\") values
               ('x', 'acme', 'byod', 'hush');
             insert into \"byodDatabricksWorkspaces\" (\"organizationId\", \"workspaceUrl\", \"spnId\", \"createdAt\") values
               ('acme', '{1}', 'x', now() - interval '1 day'), ('acme', '{2}', 'x', now())",
            guests.url(),
            byod.url(),
            front.issuer.url()
        ))
        .await?;
    let gateway = front.ready().await?;
    for (user, client, issuer) in [
        ("ann", "ann", &front.issuer),
        ("bob", "bob", &spns),
        ("g1", "g1", &guests),
        ("g2", "g2", &guests),
        // Without a workspace of its own: the organisation's.
        ("g3", "g3", &front.issuer),
        ("rest", "byod", &byod),
    ] {
        let token = front.token(&format!("u-{user}"), &format!("{user}@example.com"))?;
        front.expect(&gateway, &token, 200, client).await?;
        ensure!(issuer.calls_of(client) == 1, "{client}: {:?}", issuer.calls());
    }
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_used_harms_itself_alone() -> Result<()> {
    let front = Front::start().await?;
    let app = front.app.url();
    for (user, email) in [("u-bad", "bad@example.com"), ("u-rest", "rest@example.com")] {
        front.member("acme", user, email).await?;
    }
    front.spn("bad", "bad@example.com", "https://evil.example").await?;
    front.tool("evil", "acme", "https://evil.example").await?;
    // A workspace's domain is none for apps.
    front.tool("console", "acme", "https://dbc-1.cloud.databricks.com").await?;
    front.tool("a.b", "acme", &app).await?;
    front
        .sql(&format!(
            "insert into organization (id, name) values ('a b', 'odd'), ('bare', 'Bare');
             insert into \"authoringTool\" (id, \"organizationId\", \"appUrl\", status, \"deletedAt\") values
               ('none', 'acme', null, 'RUNNING', null), ('empty', 'acme', '', 'RUNNING', null),
               ('deleted', 'acme', '{app}', 'RUNNING', now()), ('going', 'acme', '{app}', 'DELETING', null),
               ('creating', 'acme', '{app}', 'CREATING', null), ('stopped', 'acme', '{app}', 'STOPPED', null);
             insert into \"byodDatabricksSpns\" (id, \"organizationId\", \"clientId\", \"clientSecret\") values
               ('odd id', 'acme', 'byod', 'hush'), ('z', 'bare', 'bare', 'hush')"
        ))
        .await?;
    front.member("bare", "u-bare", "bare@example.com").await?;
    front.tool("tool-1b", "bare", &app).await?;
    let gateway = front.ready().await?;
    let ann = front.ann()?;
    for (tool, status) in [
        ("tool-1", 200),
        ("creating", 200),
        ("stopped", 200),
        ("evil", 404),
        ("console", 404),
        ("none", 404),
        ("empty", 404),
        ("deleted", 404),
        ("going", 404),
    ] {
        let (found, _) = front.ask(&gateway, tool, &ann).await?;
        ensure!(found == status, "{tool}: {found}:\n{}", gateway.process.output());
    }
    front.expect(&gateway, &front.token("u-bad", "bad@example.com")?, 502, "").await?;
    front.expect(&gateway, &front.token("u-rest", "rest@example.com")?, 200, "byod").await?;
    // There is no workspace for its principal to get a token from.
    let bare = front.must(&["token", "mint", "--org", "bare", "--user", "u-bare", "--email", "bare@example.com"])?;
    let (status, _) = front.ask(&gateway, "tool-1b", &bare).await?;
    ensure!(status == 502, "{status}");
    let log = gateway.process.output();
    for named in ["\"evil\"", "\"console\"", "\"a.b\"", "spn-", "a b", "byod-z", "host evil.example is not in"] {
        let is_named = log.lines().any(|line| line.contains("cannot be used") && line.contains(named));
        ensure!(is_named || log.contains(&named.replace('"', "\\\"")), "{named} is not named:\n{log}");
    }
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_without_a_workspace_has_that_of_its_first_principal() -> Result<()> {
    let front = Front::start().await?;
    front.sql("update organization set \"workspaceUrl\" = null").await?;
    let gateway = front.ready().await?;
    front.expect(&gateway, &front.ann()?, 200, "ann").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn older_schemas_lack_tables_and_columns() -> Result<()> {
    let front = Front::start().await?;
    front
        .sql(
            "drop table \"guestUser\", \"guestSpns\", \"guestWorkspaces\", \"byodDatabricksWorkspaces\",
               \"byodDatabricksSpns\", jwks, proxy_sessions;
             alter table \"user\" drop column banned, drop column \"banReason\", drop column \"banExpires\", drop column role;
             create schema spn_auth; alter table \"userSpns\" set schema spn_auth;
             alter table spn_auth.\"userSpns\" drop column \"workspaceUrl\"",
        )
        .await?;
    let gateway = front.ready().await?;
    let ann = front.ann()?;
    front.expect(&gateway, &ann, 200, "ann").await?;
    // A column and a table that come later are noticed.
    front.sql("alter table \"user\" add column banned boolean; update \"user\" set banned = true").await?;
    front.until(&gateway, &ann, 403, "").await?;
    gateway.process.stop().await
}
