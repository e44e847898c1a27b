//! The list of warehouses shows those of the organisation and no others.

use super::{Site, json};
use crate::harness::raw::{Message, chunked, ok};
use anyhow::{Result, ensure};
use serde_json::json;

const LIST: &str = "GET /api/2.0/sql/warehouses";

/// What the gateway makes of a list.
async fn told(site: &Site, line: &str, answer: impl AsRef<[u8]>) -> Result<(Message, Message)> {
    let mut client = site.gateway.connect().await?;
    client.send(site.call_with(line, "User-Agent: x/1\r\n", "")).await?;
    let mut workspace = site.workspace.accept().await?;
    let request = workspace.request().await?;
    workspace.send(answer).await?;
    drop(workspace);
    Ok((request, client.answer().await?))
}

#[tokio::test]
async fn only_ones_own_warehouses_are_listed() -> Result<()> {
    let site = Site::open().await?;
    let list = json!({
        "warehouses": [
            { "id": "theirs", "name": "secret" },
            { "id": "wh1", "name": "ours", "state": "RUNNING", "odbc_params": { "hostname": "h" } },
            { "name": "no id" },
            "wh1",
        ],
        "next_page_token": "p2",
        "unknown": [{ "id": "theirs" }],
    });
    let line = format!("{LIST}?page_size=3&o=7");
    let (request, answer) = told(&site, &line, ok(&list.to_string())).await?;
    ensure!(request.start == format!("{line} HTTP/1.1"), "{request:?}");
    ensure!(request.field("Authorization") == Some("Bearer acme-bearer"), "{request:?}");
    ensure!(request.field("User-Agent") == Some("x/1"), "{request:?}");
    let expected = json!({ "warehouses": [list["warehouses"][1]], "next_page_token": "p2" });
    ensure!(answer.status() == 200 && json(&answer)? == expected, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn empty_lists_and_errors_are_told() -> Result<()> {
    let site = Site::open().await?;
    ensure!(json(&told(&site, LIST, ok("{}")).await?.1)? == json!({}));
    let chunks = chunked(br#"{"warehouses":[]}"#, 5);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    ensure!(json(&told(&site, LIST, [head, chunks].concat()).await?.1)? == json!({ "warehouses": [] }));
    let error = r#"{"error_code":"PERMISSION_DENIED","message":"no"}"#;
    let refused = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{error}", error.len());
    let (_, answer) = told(&site, LIST, refused).await?;
    ensure!(answer.status() == 403 && answer.text() == error, "{answer:?}");
    let busy = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}";
    let (_, answer) = told(&site, LIST, busy).await?;
    ensure!(answer.status() == 429 && answer.field("Retry-After") == Some("3"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_list_is_502() -> Result<()> {
    let site = Site::open().await?;
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n".to_owned();
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{".to_owned();
    let array = String::from_utf8(ok("[]"))?;
    let object = String::from_utf8(ok(r#"{"warehouses":{"id":"theirs"}}"#))?;
    for answer in [huge, cut, array, object, "nonsense\r\n\r\n".to_owned()] {
        let (_, told) = told(&site, LIST, &answer).await?;
        ensure!(told.status() == 502 && told.complete && !told.text().contains("theirs"), "{answer}: {told:?}");
    }
    Ok(())
}
