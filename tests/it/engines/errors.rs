//! Errors of the gateway's own before engines, and the rule that 503 promises that nothing was sent.

use super::{Site, engine};
use crate::harness::gateway::{Builder, org_with};
use crate::harness::raw::End;
use anyhow::{Result, ensure};

#[tokio::test]
async fn nothing_was_sent_where_503_is_said() -> Result<()> {
    let principal = "kind = \"databricks\"\nclient_id = \"c\"\nclient_secret = \"s\"";
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let directory = org_with("acme", &[("editor", nowhere)], principal) + &engine("sql", nowhere, "", "");
    let stopped = "[[org.engine.cluster]]\nid = 'c'\nstate = 'stopped'\nnodes = ['http://127.0.0.1:1']";
    for directory in [
        directory.clone(),
        directory.replace("databricks", "none").replace("client_id = \"c\"", "").replace("client_secret = \"s\"", "")
            + stopped,
    ] {
        let gateway = Builder::new(directory).start().await?;
        let token = gateway.session("acme")?;
        let mut client = gateway.connect().await?;
        let head = "POST /engine/sql/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n";
        client.send(format!("{head}Authorization: Bearer {token}\r\n\r\nselect 1")).await?;
        let answer = client.answer().await?;
        ensure!(answer.status() == 503, "{answer:?}");
        ensure!(answer.field("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");
        ensure!(answer.field("Content-Type") == Some("application/problem+json"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_engine_that_breaks_off_is_a_complete_502() -> Result<()> {
    let site = Site::open().await?;
    for how in [End::Closed, End::Reset] {
        let mut client = site.gateway.connect().await?;
        client.send(site.call("POST /engine/sql/", "", "insert")).await?;
        let mut served = site.engine.accept().await?;
        served.request().await?;
        served.end(how)?;
        let answer = client.answer().await?;
        ensure!(answer.status() == 502 && answer.complete && !answer.has("Retry-After"), "{how:?}: {answer:?}");
        ensure!(answer.field("Content-Type") == Some("application/problem+json"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_engine_may_be_silent_for_as_long_as_it_says() -> Result<()> {
    let slow = [("upstreams.first_byte_timeout", "\"10m\"")];
    let site = Site::with("", "idle_timeout = '100ms'", &slow).await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.call("POST /engine/sql/", "", "insert")).await?;
    let mut served = site.engine.accept().await?;
    served.request().await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 504 && answer.complete && !answer.has("Retry-After"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn errors_of_the_engine_are_its_own() -> Result<()> {
    let site = Site::open().await?;
    let said =
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nsyntax error";
    let (_, answer) = site.exchange(site.call("POST /engine/sql/", "", "selec"), said).await?;
    ensure!(answer.status() == 500 && answer.text() == "syntax error", "{answer:?}");
    Ok(())
}
