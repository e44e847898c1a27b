//! What operators learn of statements: in the metrics and on the line of the request, read while the answer passes untouched.

use super::Site;
use crate::harness::raw::{Message, chunked, ok};
use anyhow::{Result, ensure};

const EXECUTE: &str = "POST /api/2.0/sql/statements";
const ORDER: &str = r#"{"warehouse_id":"wh1","statement":"select 1"}"#;

impl Site {
    /// What the client sees of an answer to a request.
    async fn answered(&self, request: String, answer: Vec<u8>) -> Result<(Message, Message)> {
        let mut client = self.gateway.connect().await?;
        client.send(request).await?;
        let mut workspace = self.workspace.accept().await?;
        let request = workspace.request().await?;
        workspace.send(answer).await?;
        Ok((request, client.answer().await?))
    }
}

fn state(call: &str, state: &str) -> String {
    format!(r#"embedgate_sql_statements_total{{call="{call}",state="{state}"}}"#)
}

#[tokio::test]
async fn what_became_of_a_statement_is_counted_and_logged() -> Result<()> {
    let site = Site::open().await?;
    let pending = r#"{"statement_id":"01ef-1","status":{"state":"PENDING"}}"#;
    let (_, answer) = site.answered(site.call(EXECUTE, ORDER), ok(pending)).await?;
    ensure!(answer.text() == pending, "untouched: {answer:?}");
    site.gateway.expect_metric(&state("execute", "pending"), 1.0).await?;
    let line = site.gateway.log_line(|line| line.contains("01ef-1")).await?;
    for field in [r#""warehouse":"wh1""#, r#""statement_state":"pending""#, r#""queue_ms":"#, r#""first_byte_ms":"#] {
        ensure!(line.contains(field), "{field}: {line}");
    }
    let rows = "x".repeat(200_000);
    let done = format!(
        r#"{{"statement_id":"01ef-1","status":{{"state":"SUCCEEDED"}},"manifest":{{"total_row_count":12}},"result":["{rows}"]}}"#
    );
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = [&head[..], &chunked(done.as_bytes(), 7000)].concat();
    let (_, answer) = site.answered(site.call("GET /api/2.0/sql/statements/01ef-1", ""), chunks).await?;
    ensure!(answer.text() == done && answer.complete, "untouched");
    site.gateway.expect_metric(&state("poll", "succeeded"), 1.0).await?;
    let line = site.gateway.log_line(|line| line.contains("succeeded")).await?;
    ensure!(line.contains(r#""statement_id":"01ef-1""#) && line.contains(r#""statement_rows":12"#), "{line}");
    let bytes = (pending.len() + done.len()) as f64;
    site.gateway.expect_metric(r#"embedgate_sql_result_bytes_total{api="statements"}"#, bytes).await?;
    site.gateway.expect_metric(r#"embedgate_sql_first_byte_seconds_count{api="statements"}"#, 2.0).await?;
    site.gateway.expect_metric(r#"embedgate_sql_queue_seconds_count{api="statements"}"#, 2.0).await
}

#[tokio::test]
async fn what_an_answer_does_not_tell_is_not_made_up() -> Result<()> {
    let site = Site::open().await?;
    let packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08".to_vec();
    let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    for (answer, told) in [(packed, "unknown"), (ok("what?"), "unknown"), (refused, "refused")] {
        site.answered(site.call(EXECUTE, ORDER), answer).await?;
        site.gateway.log_line(|line| line.contains(&format!(r#""statement_state":"{told}""#))).await?;
    }
    // It was sent, and nothing came back.
    let mut client = site.gateway.connect().await?;
    client.send(site.call(EXECUTE, ORDER)).await?;
    let mut workspace = site.workspace.accept().await?;
    workspace.request().await?;
    drop(workspace);
    ensure!(client.answer().await?.status() == 502);
    site.gateway.expect_metric(&state("execute", "unknown"), 3.0).await?;
    // Nothing was sent, so there is nothing to tell.
    site.refused(site.call(EXECUTE, r#"{"warehouse_id":"theirs"}"#)).await?;
    site.gateway.expect_metric(&state("execute", "refused"), 1.0).await?;
    site.gateway.expect_metric(&state("execute", "unknown"), 3.0).await
}

#[tokio::test]
async fn thrift_is_measured_and_not_read() -> Result<()> {
    let site = Site::open().await?;
    site.answered(site.call("POST /sql/1.0/warehouses/wh1", "thrift"), ok("bytes")).await?;
    site.gateway.expect_metric(r#"embedgate_sql_result_bytes_total{api="thrift"}"#, 5.0).await?;
    site.gateway.expect_metric(r#"embedgate_sql_first_byte_seconds_count{api="thrift"}"#, 1.0).await?;
    let line = site.gateway.log_line(|line| line.contains(r#""warehouse":"wh1""#)).await?;
    ensure!(!line.contains("statement_"), "{line}");
    Ok(())
}

#[tokio::test]
async fn answers_come_plain_where_that_is_wanted() -> Result<()> {
    for (plain, told) in [("false", "gzip"), ("true", "identity")] {
        let site = Site::with(&[("sql.plain_answers", plain)]).await?;
        for (line, body) in [(EXECUTE, ORDER), ("GET /api/2.0/sql/statements/01ef", "")] {
            let (request, _) = site.passed(site.call_with(line, "Accept-Encoding: gzip\r\n", body)).await?;
            ensure!(request.all("Accept-Encoding") == [told], "{request:?}");
        }
        let chunk = "GET /api/2.0/sql/statements/01ef/result/chunks/1";
        let (request, _) = site.passed(site.call_with(chunk, "Accept-Encoding: gzip\r\n", "")).await?;
        ensure!(request.all("Accept-Encoding") == ["gzip"], "{request:?}");
    }
    Ok(())
}
