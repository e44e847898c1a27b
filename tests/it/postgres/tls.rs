//! TLS and passwords between the gateway and its database.

use super::database;
use crate::harness::http::{Named, get};
use crate::harness::postgres::Postgres;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};

const ROLE: &str = "embedgate_serve";

/// Waits until the server asks for TLS: a reload of its settings takes a moment.
async fn until_tls(postgres: &Postgres) -> Result<()> {
    let client = postgres.client().await?;
    let on = async || {
        let row = client.query_one("select current_setting('ssl') = 'on'", &[]).await?;
        Ok(row.get::<_, bool>(0).then_some(()))
    };
    until(PATIENCE, on).await?.context("TLS stays off")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_verified_and_the_password_comes_from_a_file() -> Result<()> {
    let app = Named::start("app").await?;
    let (postgres, setup) = database(&app).await?;
    let root = postgres.demand_tls(ROLE).await?;
    until_tls(&postgres).await?;
    postgres.sql(&format!("alter role {ROLE} password 'hush-right'")).await?;
    let url = |password: &str, host: &str| {
        let query = format!("sslmode=verify-full&sslrootcert={}", root.display());
        format!("postgres://{ROLE}:{password}@{host}:{}/postgres?{query}\n", postgres.port())
    };
    setup.configure("url_file = 'url'")?;
    let file = setup.path("url");
    let says = async |gateway: &super::Gateway, what: &str| -> Result<()> {
        let last = until(PATIENCE, async || {
            let (_, body) = get(gateway.admin, "/readyz", None).await?;
            Ok(body.contains(what).then_some(()))
        });
        last.await?.with_context(|| format!("no {what:?} on readyz:\n{}", gateway.process.output()))
    };

    std::fs::write(&file, url("hush-wrong", "localhost"))?;
    let gateway = setup.serve().await?;
    says(&gateway, "password authentication failed").await?;
    // Another name than the certificate's.
    std::fs::write(&file, url("hush-right", "127.0.0.1"))?;
    says(&gateway, "certificate").await?;
    // Roots that do not know the certificate.
    std::fs::write(&file, url("hush-right", "localhost").replace("sslrootcert=", "application_name="))?;
    says(&gateway, "UnknownIssuer").await?;
    std::fs::write(&file, url("hush-right", "localhost"))?;
    gateway.until_ready().await?;
    gateway.expect_app("editor", &setup.token("acme")?, "app").await?;

    let plain = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) where usename = $1 and not ssl";
    let plain = postgres.client().await?.query_one(plain, &[&ROLE]).await?;
    ensure!(plain.get::<_, i64>(0) == 0, "a connection without TLS");
    ensure!(!gateway.process.output().contains("hush"), "a password in the log");
    gateway.process.stop().await
}
