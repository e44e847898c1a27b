//! `embedgate db adopt-firefly`: what it does to tables that are somebody else's.

use super::Front;
use anyhow::{Result, ensure};

async fn triggers(front: &Front) -> Result<i64> {
    let sql = "select count(*) from pg_trigger where tgname like 'embedgate%'
        and tgrelid::regclass::text not like 'embedgate.%'";
    Ok(front.postgres.client().await?.query_one(sql, &[]).await?.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_does_and_takes_it_away_again() -> Result<()> {
    let mut front = Front::start().await?;
    front.sql("drop table \"guestUser\"").await?;
    // The database's variable is enough.
    for name in ["FRONTEND_URL", "ALLOWED_APEX_DOMAIN", "ENCRYPTION_KEY"] {
        front.set(name, "");
    }
    let line = |said: &str, what: &str, outcome: &str| -> Result<()> {
        let fits = said.lines().any(|line| line.starts_with(what) && line.ends_with(outcome));
        ensure!(fits, "no {what} with {outcome}:\n{said}");
        Ok(())
    };
    let first = front.must(&["db", "adopt-firefly"])?;
    line(&first, "schema embedgate", "made")?;
    line(&first, "session key", "made")?;
    line(&first, "public.\"user\"", "triggers installed")?;
    line(&first, "public.\"guestUser\"", "table absent")?;
    ensure!(triggers(&front).await? == 9 * 4);
    let again = front.must(&["db", "adopt-firefly"])?;
    line(&again, "schema embedgate", "already there")?;
    line(&again, "session key", "already there")?;
    line(&again, "public.\"member\"", "triggers already there")?;
    ensure!(triggers(&front).await? == 9 * 4);
    // One that was switched off is mended.
    front.sql("alter table member disable trigger embedgate_updated").await?;
    line(&front.must(&["db", "adopt-firefly"])?, "public.\"member\"", "triggers installed")?;
    // And one that is switched off is taken away with the others.
    front.sql("alter table organization disable trigger user").await?;
    let removed = front.must(&["db", "adopt-firefly", "--remove"])?;
    line(&removed, "public.\"organization\"", "triggers removed")?;
    line(&removed, "function", "removed")?;
    ensure!(triggers(&front).await? == 0);
    line(&front.must(&["db", "adopt-firefly", "--remove"])?, "public.\"organization\"", "no triggers there")?;
    front.sql("update \"user\" set name = 'x'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_make_triggers_the_tables_are_asked() -> Result<()> {
    let mut front = Front::start().await?;
    front
        .sql(
            "create role proxy login; grant create on database postgres to proxy;
             grant select on all tables in schema public to proxy; alter table member owner to proxy",
        )
        .await?;
    front.set("DATABASE_URL", &front.postgres.url("proxy"));
    let ended = front.run(&["db", "adopt-firefly"])?;
    ensure!(ended.code == Some(0) && ended.stdout.contains("asked for changes once a second"), "{ended:?}");
    let refused = ended.stdout.lines().filter(|line| line.contains("refused") && line.contains("42501")).count();
    ensure!(refused == 9 && ended.stdout.contains("triggers installed"), "{ended:?}");
    let gateway = front.following("asked for changes once a second").await?;
    front.expect(&gateway, &front.ann()?, 200, "ann").await?;
    gateway.process.stop().await?;
    // Nor may it make a schema: then there is nothing to stand on.
    front.sql("create role reader login; grant select on all tables in schema public to reader").await?;
    front.sql("drop schema embedgate cascade; revoke create on database postgres from proxy").await?;
    front.set("DATABASE_URL", &front.postgres.url("reader"));
    let ended = front.run(&["db", "adopt-firefly"])?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("permission denied"), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_the_front_end_never_fail_for_it() -> Result<()> {
    let front = Front::start().await?;
    front.must(&["db", "adopt-firefly"])?;
    // The front end's own role knows nothing of our schema.
    front
        .sql("create role node login; grant all on all tables in schema public to node; revoke all on schema embedgate from public")
        .await?;
    let write = "set role node;
        insert into \"user\" (id, name, email) values ('u-x', 'x', 'x@example.com');
        update \"user\" set email = 'y@example.com' where id = 'u-x';
        insert into \"userSpns\" (email, \"clientId\", \"clientSecret\", \"workspaceUrl\") values ('y@example.com', 'y', 'y', 'y');
        delete from \"userSpns\" where email = 'y@example.com'; delete from \"user\" where id = 'u-x'; reset role";
    front.sql(write).await?;
    // A table that the triggers look into is gone.
    front.sql("alter table member rename to people").await?;
    front.sql(write).await?;
    front.sql("alter table people rename to member").await?;
    let many =
        "insert into \"user\" (id, name, email) select n, n, n || '@example.com' from generate_series(1, 2000) n";
    front.sql(many).await?;
    front.sql("delete from \"user\" where id <> 'u-ann'; truncate \"guestUser\"").await?;
    front.sql("drop schema embedgate cascade").await?;
    front.sql(write).await
}
