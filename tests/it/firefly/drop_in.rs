//! The program in the place of FireFly's proxy: the same environment, and nothing else.

use super::{Front, KEY, until_unready};
use crate::harness::apps::free_port;
use crate::harness::embedgate::Embedgate;
use crate::harness::http::get;
use crate::harness::postgres::Postgres;
use crate::harness::raw::Wire;
use crate::harness::{PATIENCE, until};
use crate::postgres::Gateway;
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;

#[tokio::test(flavor = "multi_thread")]
async fn it_listens_where_the_proxy_did_and_answers_at_every_name() -> Result<()> {
    let mut front = Front::start().await?;
    let port = free_port()?;
    front.env.retain(|(name, _)| name != "EMBEDGATE__SERVER__LISTEN");
    front.set("PORT", &port.to_string());
    ensure!(front.must(&["check"])? == "FireFly's environment: fine");
    let gateway = front.ready().await?;
    let address: SocketAddr = format!("127.0.0.1:{port}").parse()?;
    let mut wire = Wire::connect(address).await?;
    let bearer = front.ann()?;
    let head = "GET /app-proxy/tool-1/x HTTP/1.1\r\nHost: any.example:1234\r\nAuthorization: Bearer";
    wire.send(format!("{head} {bearer}\r\n\r\n")).await?;
    ensure!(wire.answer().await?.status() == 200);
    // The health check of containers asks by the same environment.
    front.set("EMBEDGATE__ADMIN__LISTEN", &gateway.admin.to_string());
    front.must(&["healthcheck"])?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_name_the_variable() -> Result<()> {
    let mut front = Front::of(Postgres::stopped()?).await?;
    let remembered = front.env.clone();
    for (name, value, said) in [
        ("FRONTEND_URL", "", "FRONTEND_URL: is not set"),
        ("DATABASE_URL", "", "DATABASE_URL: is not set"),
        ("DATABASE_URL", "host=x", "DATABASE_URL"),
        ("DATABASE_URL", "postgres://u:hush@db.example/d?sslmode=prefer", "DATABASE_URL\": sslmode=prefer"),
        ("ALLOWED_APEX_DOMAIN", "", "ALLOWED_APEX_DOMAIN: is not set"),
        ("ENCRYPTION_KEY", "hush", "ENCRYPTION_KEY: a key is 64 hexadecimal digits"),
        ("EMBEDGATE__SERVER__LISTEN", "nowhere", "EMBEDGATE__SERVER__LISTEN"),
    ] {
        front.set(name, value);
        for command in ["serve", "check"] {
            let ended = front.run(&[command])?;
            let output = format!("{}{}", ended.stdout, ended.stderr);
            ensure!(ended.code == Some(2) && output.contains(said), "{name}={value} {command}: {ended:?}");
            ensure!(!output.contains("hush"), "{output}");
        }
        front.env.clone_from(&remembered);
    }
    // All at once.
    for name in ["FRONTEND_URL", "ALLOWED_APEX_DOMAIN"] {
        front.set(name, "");
    }
    let ended = front.run(&["serve"])?;
    ensure!(ended.stderr.contains("FRONTEND_URL") && ended.stderr.contains("ALLOWED_APEX_DOMAIN"), "{ended:?}");
    // Without any of them it is the file that is missing, and a file that is named is meant.
    front.set("DATABASE_URL", "");
    let ended = front.run(&["serve"])?;
    ensure!(ended.code == Some(2) && ended.stderr.contains("config/embedgate.toml: cannot read"), "{ended:?}");
    front.env = remembered;
    let ended = front.run(&["serve", "--config", "none.toml"])?;
    ensure!(ended.code == Some(2) && ended.stderr.contains("none.toml: cannot read"), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn weakness_07_a_database_that_is_down_at_start_is_waited_for() -> Result<()> {
    // Nor does anybody answer at FRONTEND_URL, where the keys of JWTs are.
    let mut front = Front::of(Postgres::stopped()?).await?;
    front.set("ENCRYPTION_KEY", "");
    let gateway = front.serve().await?;
    until_unready(&gateway, "cannot connect to Postgres").await?;
    // Not 401: the session may well be good.
    front.expect(&gateway, "some-session", 503, "").await?;
    front.postgres.go_on().await?;
    until_unready(&gateway, "FireFly's table public.\"organization\" is not in the database").await?;
    front.sql(super::SCHEMA).await?;
    front.populate().await?;
    gateway.until_ready().await?;
    front.until(&gateway, &front.ann()?, 200, "ann").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn weakness_08_no_secret_is_written_or_logged() -> Result<()> {
    let mut front = Front::start().await?;
    front.set("ENCRYPTION_KEY", "");
    front
        .sql(
            "insert into proxy_sessions values ('x', 'u-ann', 'ann@example.com', 'tool-1', 'acme', 'a', 'w', 'c', 'hush', 't',
               now(), now())",
        )
        .await?;
    front.must(&["db", "adopt-firefly"])?;
    let gateway = front.ready().await?;
    front.expect(&gateway, &front.ann()?, 200, "ann").await?;
    let client = front.postgres.client().await?;
    let untouched = client.query_one("select count(*), max(expires_at) < now() from proxy_sessions", &[]).await?;
    ensure!((untouched.get::<_, i64>(0), untouched.get::<_, bool>(1)) == (1, true), "proxy_sessions was written");
    let tables = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'embedgate' and c.relkind = 'r'";
    let tokens = front.issuer.tokens();
    ensure!(!tokens.is_empty());
    for table in client.query(tables, &[]).await? {
        let table: String = table.get(0);
        let sql = format!("select coalesce(string_agg(t::text, ''), '') from embedgate.\"{table}\" t");
        let text: String = client.query_one(&sql, &[]).await?.get(0);
        let secrets = ["hush", &tokens[0]];
        ensure!(!secrets.iter().any(|secret| text.contains(secret)), "embedgate.{table} holds a secret");
    }
    let log = gateway.process.output();
    ensure!(!log.contains("hush") && !log.contains(&tokens[0]), "a secret in the log");
    ensure!(log.matches("in clear text").count() == 1 && log.contains("secrets=1"), "{log}");
    ensure!(log.contains("embedgate.firefly_key"), "{log}");
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_share_a_key_that_nobody_set() -> Result<()> {
    let mut front = Front::start().await?;
    front.set("ENCRYPTION_KEY", "");
    // Both begin at once, on a database without our schema.
    let (one, other) = tokio::try_join!(front.ready(), front.ready())?;
    let ann = front.ann()?;
    front.expect(&one, &ann, 200, "ann").await?;
    front.expect(&other, &ann, 200, "ann").await?;
    one.process.stop().await?;
    let third = front.ready().await?;
    front.expect(&third, &ann, 200, "ann").await?;
    // With a key in the environment, sessions are of that one.
    front.set("ENCRYPTION_KEY", KEY);
    let keyed = front.ready().await?;
    front.expect(&keyed, &ann, 401, "").await?;
    front.expect(&keyed, &front.ann()?, 200, "ann").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_and_without_rights_it_says_what_to_do() -> Result<()> {
    let mut front = Front::start().await?;
    front.sql("create role reader login; grant select on all tables in schema public to reader").await?;
    front.set("DATABASE_URL", &front.postgres.url("reader"));
    let readable = front.ready().await?;
    front.expect(&readable, &front.ann()?, 200, "ann").await?;
    ensure!(readable.process.output().contains("sessions cannot be ended on other instances"));
    front.set("ENCRYPTION_KEY", "");
    let ended = front.run(&["token", "mint", "--org", "acme", "--user", "u", "--email", "a@b"])?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("there is no session key yet"), "{ended:?}");
    let gateway = front.serve().await?;
    until_unready(&gateway, "set ENCRYPTION_KEY, or run `embedgate db adopt-firefly`").await?;
    // Somebody who may does so.
    let url = front.postgres.url("postgres");
    front.set("DATABASE_URL", &url);
    front.must(&["db", "adopt-firefly"])?;
    front
        .sql("grant usage on schema embedgate to reader; grant select on all tables in schema embedgate to reader")
        .await?;
    gateway.until_ready().await?;
    front.expect(&gateway, &front.ann()?, 200, "ann").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_needs_no_more_than_the_columns_that_are_read() -> Result<()> {
    let mut front = Front::start().await?;
    front
        .sql(
            "create role reader login; grant select (id, email, banned) on \"user\" to reader;
             grant select (\"organizationId\", \"userId\") on member to reader;
             grant select (id, name, \"workspaceUrl\") on organization to reader;
             grant select (id, \"organizationId\", \"appUrl\", status, \"deletedAt\") on \"authoringTool\" to reader;
             grant select on \"guestUser\", \"guestSpns\", \"guestWorkspaces\", \"byodDatabricksSpns\",
               \"byodDatabricksWorkspaces\" to reader",
        )
        .await?;
    front.set("DATABASE_URL", &front.postgres.url("reader"));
    let gateway = front.serve().await?;
    // Were it taken for empty, Ann would act as the organisation does.
    let columns = "\"id\", \"email\", \"clientId\", \"clientSecret\", \"workspaceUrl\", \"createdAt\"";
    let lacking = format!("may not read public.\"userSpns\"; it needs `select ({columns})` on it");
    until_unready(&gateway, &lacking).await?;
    front.sql(&format!("grant select ({columns}) on \"userSpns\" to reader")).await?;
    gateway.until_ready().await?;
    let ann = front.ann()?;
    front.expect(&gateway, &ann, 200, "ann").await?;
    front.sql("delete from member").await?;
    front.until(&gateway, &ann, 403, "").await?;
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_say_the_same() -> Result<()> {
    let front = Front::start().await?;
    let text = format!(
        "server = {{ listen = '127.0.0.1:0', workers = 1 }}\nadmin.listen = '127.0.0.1:0'\nlog.format = 'text'\n\
         upstreams = {{ allowed_domains = ['127.0.0.1'], allow_private_addresses = true }}\n\
         firefly.apex_domain = 'aws.databricksapps.com'\ndirectory.source = 'firefly'\n\
         [directory.postgres]\nurl = '{}'\n",
        front.postgres.url("postgres")
    );
    let file = front.folder.path().join("gate.toml");
    std::fs::write(&file, &text)?;
    let file = file.display().to_string();
    let gateway = Gateway::of(Embedgate::start(&["serve", "--config", &file])?).await?;
    gateway.until_ready().await?;
    let mint = ["token", "mint", "--config", &file, "--org", "acme", "--user", "u-ann", "--email", "ann@example.com"];
    let token = Embedgate::run(&mint, "")?;
    front.expect(&gateway, &token.stdout, 200, "ann").await?;
    std::fs::write(&file, text.replace("firefly.apex_domain = 'aws.databricksapps.com'\n", ""))?;
    let ended = Embedgate::run(&["check", "--config", &file], "")?;
    ensure!(ended.code == Some(2) && ended.stdout.contains("needs apex_domain"), "{ended:?}");
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_v1_are_served_when_they_are_switched_on() -> Result<()> {
    // A token made by FireFly's first front end with this key.
    const V1_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const TOKEN: &str = "oKGio6SlpqeoqaqrgnkMRGiuet4PFeu2Kg6vtRXCdCCjhXFYqTgRvka35yj3VRuxkjfPOn5Mf0Hx";
    let mut front = Front::start().await?;
    front.set("ENCRYPTION_KEY", V1_KEY);
    // A name that never resolves, so that nothing leaves this machine.
    front.set("ALLOWED_APEX_DOMAIN", "aws.databricksapps.invalid");
    front.set("APP_DOMAIN_SUFFIX", "invalid");
    let status = async |gateway: &Gateway, host: &str| -> Result<u16> {
        let link = format!("/app-proxy/{TOKEN}/{host}/x/");
        let answered = until(PATIENCE, async || Ok(get(gateway.data, &link, None).await.ok()));
        Ok(answered.await?.context("no answer")?.0)
    };
    let off = front.ready().await?;
    ensure!(status(&off, "aws/databricksapps").await? == 401, "the link is taken for an app's, which needs a session");
    front.set("EMBEDGATE__FIREFLY__V1", "true");
    let on = front.ready().await?;
    ensure!(status(&on, "aws/databricksapps").await? == 502, "{}", on.process.output());
    // A domain of workspaces is none for apps.
    front.set("APP_DOMAIN_SUFFIX", "com");
    let other = front.ready().await?;
    ensure!(status(&other, "cloud/databricks").await? == 404, "{}", other.process.output());
    on.process.stop().await
}
