//! Errors of the gateway's own, as Databricks' clients read them, and the rule that 503 promises that nothing was sent.

use super::{Site, json};
use crate::harness::gateway::{Builder, org_with};
use crate::harness::raw::End;
use anyhow::{Result, ensure};

#[tokio::test]
async fn refusals_are_in_databricks_form() -> Result<()> {
    let mut site = Site::open().await?;
    let good = site.token.clone();
    for (token, line, status, code) in [
        ("", "GET /api/2.0/sql/warehouses/wh1", 401, "UNAUTHENTICATED"),
        ("~1.test.nonsense", "POST /sql/1.0/warehouses/wh1", 401, "UNAUTHENTICATED"),
        (&good, "GET /api/2.0/clusters/list", 403, "PERMISSION_DENIED"),
        (&good, "POST /sql/1.0/warehouses/theirs", 404, "RESOURCE_DOES_NOT_EXIST"),
        (&good, "GET /api/2.0/sql/statements/%2e", 400, "BAD_REQUEST"),
        (&good, "POST /api/2.0/sql/statements", 400, "BAD_REQUEST"),
    ] {
        site.token = token.to_owned();
        // Not even who asks for a page gets one.
        let answer = site.refused(site.call_with(line, "Accept: text/html\r\n", "")).await?;
        let document = json(&answer)?;
        ensure!(answer.status() == status && document["error_code"] == code, "{line}: {answer:?}");
        ensure!(answer.field("Content-Type") == Some("application/json"), "{answer:?}");
        let message = document["message"].as_str().unwrap_or_default();
        ensure!(!message.is_empty() && answer.field("x-thriftserver-error-message") == Some(message), "{answer:?}");
        ensure!(answer.field("x-databricks-error-or-redirect-message") == Some(message), "{answer:?}");
        ensure!(answer.field("x-databricks-reason-phrase") == Some(code), "{answer:?}");
        let id = answer.field("X-Request-Id").unwrap_or_default();
        ensure!(document["details"][1]["request_id"] == id && id.len() == 32, "{answer:?}");
        ensure!(answer.has("Proxy-Status") && !answer.has("Retry-After"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_and_a_foreign_warehouse_look_the_same() -> Result<()> {
    let site = Site::open().await?;
    let mut faces = Vec::new();
    for line in ["POST /sql/1.0/warehouses/nothing", "POST /sql/1.0/warehouses/theirs"] {
        let answer = site.refused(site.call(line, "")).await?;
        let mut document = json(&answer)?;
        document["details"][1]["request_id"] = "".into();
        faces.push((answer.status(), document));
    }
    ensure!(faces[0] == faces[1], "{faces:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_was_sent_where_503_is_said() -> Result<()> {
    let principal = "kind = \"databricks\"\nclient_id = \"c\"\nclient_secret = \"s\"";
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let gateway = Builder::new(org_with("acme", &[("editor", nowhere)], principal)).start().await?;
    let token = gateway.session("acme")?;
    let mut client = gateway.connect().await?;
    client
        .send(format!(
            "POST /sql/1.0/warehouses/wh1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
        .await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 503 && json(&answer)?["error_code"] == "TEMPORARILY_UNAVAILABLE", "{answer:?}");
    ensure!(answer.field("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_workspace_that_breaks_off_is_a_complete_502() -> Result<()> {
    let site = Site::open().await?;
    let statement = r#"{"statement":"insert","warehouse_id":"wh1"}"#;
    for (line, body) in [("POST /api/2.0/sql/statements", statement), ("POST /sql/1.0/warehouses/wh1", "thrift")] {
        for how in [End::Closed, End::Reset] {
            for said in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
                let mut client = site.gateway.connect().await?;
                client.send(site.call(line, body)).await?;
                let mut workspace = site.workspace.accept().await?;
                workspace.request().await?;
                workspace.send(said).await?;
                workspace.end(how)?;
                let answer = client.answer().await?;
                ensure!(
                    answer.status() == 502 && answer.complete && !answer.has("Retry-After"),
                    "{line} {how:?}: {answer:?}"
                );
                ensure!(json(&answer)?["message"].to_string().contains("not known"), "{answer:?}");
                site.workspace.expect_untouched()?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_workspace_that_says_nothing_is_504() -> Result<()> {
    let site = Site::with(&[("upstreams.first_byte_timeout", "\"100ms\"")]).await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.call("POST /sql/1.0/warehouses/wh1", "thrift")).await?;
    let mut workspace = site.workspace.accept().await?;
    workspace.request().await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 504 && json(&answer)?["error_code"] == "DEADLINE_EXCEEDED", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_result_that_breaks_off_looks_broken() -> Result<()> {
    let site = Site::open().await?;
    for head in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = site.gateway.connect().await?;
        client.send(site.call("POST /sql/1.0/warehouses/wh1", "fetch")).await?;
        let mut workspace = site.workspace.accept().await?;
        workspace.request().await?;
        let part = if head.starts_with('C') { "rows" } else { "4\r\nrows\r\n" };
        workspace.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n{part}")).await?;
        drop(workspace);
        let answer = client.answer().await?;
        ensure!(answer.status() == 200 && answer.text() == "rows" && !answer.complete, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn errors_of_the_workspace_are_its_own() -> Result<()> {
    let site = Site::open().await?;
    let body = r#"{"error_code":"REQUEST_LIMIT_EXCEEDED","message":"slow down"}"#;
    let mut client = site.gateway.connect().await?;
    client.send(site.call("GET /api/2.0/sql/statements/01ef", "")).await?;
    let mut workspace = site.workspace.accept().await?;
    workspace.request().await?;
    let head = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nx-databricks-reason-phrase: busy\r\n";
    workspace.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 429 && answer.text() == body && answer.field("Retry-After") == Some("7"), "{answer:?}");
    ensure!(answer.field("x-databricks-reason-phrase") == Some("busy"), "{answer:?}");
    Ok(())
}
