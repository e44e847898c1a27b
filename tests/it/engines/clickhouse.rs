//! A real engine: `ClickHouse`, asked by HTTP through the gateway as it is without.

use super::engine;
use crate::harness::clickhouse::ClickHouse;
use crate::harness::gateway::{Builder, Gateway, org_with};
use crate::harness::raw::{Message, Wire};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};

/// A gateway before a server that is an engine of the organisation `acme`, for queries alone.
struct Site {
    gateway: Gateway,
    server: ClickHouse,
}

impl Site {
    async fn open() -> Result<Self> {
        let server = ClickHouse::start().await?;
        let at = server.address();
        let acme =
            org_with("acme", &[("editor", at)], "kind = \"none\"") + &engine("events", at, "", "allow = ['POST /']");
        let globex = org_with("globex", &[("editor", at)], "kind = \"none\"");
        let gateway = Builder::new(acme + &globex).start().await?;
        Ok(Self { gateway, server })
    }

    /// Asks as a user of an organisation.
    async fn send(&self, org: &str, line: &str, query: &str) -> Result<Wire> {
        let (token, length) = (self.gateway.session(org)?, query.len());
        let mut wire = self.gateway.connect().await?;
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n");
        wire.send(format!("{head}Content-Length: {length}\r\n\r\n{query}")).await?;
        Ok(wire)
    }

    async fn ask(&self, query: &str) -> Result<Message> {
        self.send("acme", "POST /engine/events/", query).await?.answer().await
    }
}

#[tokio::test]
async fn results_are_the_same_byte_for_byte() -> Result<()> {
    let site = Site::open().await?;
    for query in [
        "select 1",
        "create table t (id UInt64, name String) engine = Memory",
        "insert into t select number, concat('n\u{e4}me ', toString(number)) from numbers(1000)",
        "select * from t order by id format RowBinary",
        "select * from t order by id format JSONEachRow",
        "select name, id from t order by id desc format CSVWithNames",
        "select count(), sum(id) from t",
        // Eight megabytes.
        "select number, toString(number) from numbers(600000)",
    ] {
        let through = site.ask(query).await?;
        ensure!(through.status() == 200 && through.complete, "{query}: {}", through.text());
        if query.starts_with("select") {
            let direct = site.server.ask(query).await?;
            ensure!(through.body == direct.body && !through.body.is_empty(), "{query}");
            ensure!(through.field("Content-Type") == direct.field("Content-Type"), "{query}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn errors_of_sql_are_the_engines() -> Result<()> {
    let site = Site::open().await?;
    let (through, direct) = (site.ask("selec 1").await?, site.server.ask("selec 1").await?);
    ensure!(through.status() == direct.status() && through.status() >= 400, "{through:?}");
    ensure!(through.body == direct.body && through.text().contains("Syntax error"), "{through:?}");
    Ok(())
}

#[tokio::test]
async fn others_and_other_calls_do_not_reach_it() -> Result<()> {
    let site = Site::open().await?;
    for (org, line, status) in [
        ("globex", "POST /engine/events/", 404),
        ("acme", "POST /engine/other/", 404),
        ("acme", "PUT /engine/events/?query=select+1", 403),
        ("acme", "POST /engine/events/replicas_status", 403),
    ] {
        let answer = site.send(org, line, "create table secret (x UInt8) engine = Memory").await?.answer().await?;
        ensure!(answer.status() == status, "{org} {line}: {answer:?}");
    }
    let tables = site.server.ask("select count() from system.tables where name = 'secret'").await?;
    ensure!(tables.text() == "0\n", "{tables:?}");
    Ok(())
}

#[tokio::test]
async fn a_result_without_an_end_streams_and_ends_with_its_client() -> Result<()> {
    let site = Site::open().await?;
    let mut client = site.send("acme", "POST /engine/events/", "select number from system.numbers").await?;
    let head = client.head().await?;
    ensure!(head.status() == 200, "{head:?}");
    client.exactly(16 * 1024 * 1024).await?;
    let running =
        "select count() from system.processes where query like '%system.numbers' and query not like '%processes%'";
    ensure!(site.server.ask(running).await?.text() == "1\n", "it goes on as long as it is read");
    drop(client);
    let ended = until(PATIENCE, async || Ok((site.server.ask(running).await?.text() == "0\n").then_some(())));
    ended.await?.context("the query goes on after its client has gone")
}
