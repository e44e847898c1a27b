//! What may be called of a workspace's API, by whom, and how paths are kept from meaning something else.

use super::Site;
use crate::harness::gateway::org;
use crate::harness::raw::{End, ok};
use anyhow::{Context as _, Result, ensure};

#[tokio::test]
async fn usual_calls_go_to_the_organisations_workspace() -> Result<()> {
    let site = Site::open().await?;
    for line in [
        "POST /sql/1.0/warehouses/wh1?o=123",
        "POST /sql/1.0/endpoints/wh1",
        "GET /api/2.0/sql/warehouses/wh1",
        "GET /api/2.0/sql/statements/01ef",
        "GET /api/2.0/sql/statements/01ef/result/chunks/0?row_offset=3",
        "POST /api/2.0/sql/statements/01ef/cancel",
        "DELETE /api/2.0/sql/statements/01ef",
        "DELETE /api/2.0/sql/sessions/01ef",
        "GET /api/2.0/preview/scim/v2/Me",
    ] {
        let fields = "User-Agent: x/1 y/2\r\nX-Databricks-Org-Id: 123\r\n";
        let (request, answer) = site.passed(site.call_with(line, fields, "")).await.context(line)?;
        ensure!(request.start == format!("{line} HTTP/1.1"), "{line}: {}", request.start);
        ensure!(request.field("Authorization") == Some("Bearer acme-bearer"), "{request:?}");
        ensure!(request.field("User-Agent") == Some("x/1 y/2"), "{request:?}");
        ensure!(request.field("X-Databricks-Org-Id") == Some("123"), "{request:?}");
        ensure!(answer.status() == 200, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn everything_else_is_refused_before_the_workspace_hears_of_it() -> Result<()> {
    let site = Site::open().await?;
    for (line, status) in [
        ("GET /api/2.0/clusters/list", 403),
        ("GET /api/2.1/jobs/list", 403),
        ("POST /api/2.0/token/create", 403),
        ("GET /api/2.0/secrets/list?scope=x", 403),
        ("GET /api/2.0/preview/scim/v2/Users", 403),
        ("GET /api/2.0/sql/statements", 403),
        ("HEAD /api/2.0/sql/warehouses/wh1", 403),
        ("DELETE /api/2.0/sql/warehouses/wh1", 403),
        ("POST /api/2.0/sql/warehouses", 403),
        ("POST /api/2.0/sql/warehouses/wh1/edit", 403),
        ("POST /sql/protocolv1/o/1/cluster", 403),
        ("PUT /sql/1.0/warehouses/wh1", 403),
        ("GET /sql/1.0/warehouses/theirs", 404),
        ("DELETE /api/2.0/sql/warehouses/theirs", 404),
        ("OPTIONS /api/2.0/sql/statements", 403),
        ("POST /sql/1.0/warehouses/theirs", 404),
        ("GET /api/2.0/sql/warehouses/theirs", 404),
        ("GET /API/2.0/sql/warehouses/wh1", 404),
        ("GET //api/2.0/sql/warehouses/wh1", 404),
        ("GET /./api/2.0/sql/warehouses/wh1", 404),
    ] {
        let mut client = site.gateway.connect().await?;
        client.send(site.call(line, "")).await?;
        let answer = if line.starts_with("HEAD") { client.answer_to_head().await? } else { client.answer().await? };
        ensure!(answer.status() == status, "{line}: {answer:?}");
        site.workspace.expect_untouched().context(line)?;
    }
    Ok(())
}

#[tokio::test]
async fn paths_that_can_be_read_in_two_ways_are_400() -> Result<()> {
    let site = Site::open().await?;
    for target in [
        "/api/2.0/sql/statements/../../clusters/list",
        "/api/2.0/sql/statements/%2e%2e/%2e%2e/clusters/list",
        "/api/2.0/sql/statements/%2E%2E",
        "/api/2.0/sql/statements/a%2fb",
        "/api/2.0/sql/statements/a%5cb",
        "/api/2.0/sql/statements//a",
        "/api/2.0/sql/statements/./a",
        "/api/2.0/sql/statements/a/",
        "/api/2.0/sql/statements/a\\..\\b",
        "/api/2.0/sql/statements/..;/x",
        "/api/2.0/sql/statements;v=1/x",
        "/api//2.0/sql/warehouses/wh1",
        "/sql/1.0/warehouses/wh1%2f..",
        "/sql/1.0/warehouses/",
        "/sql/1.0/warehouses/wh1%00",
        "/sql/1.0/warehouses/%77h1",
    ] {
        let answer = site.refused(site.call(&format!("GET {target}"), "")).await.context(target)?;
        ensure!(
            answer.status() == 400 && answer.field("content-type") == Some("application/json"),
            "{target}: {answer:?}"
        );
    }
    let absolute = format!(
        "GET http://localhost/api/2.0/sql/statements/../../x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        site.token
    );
    ensure!(site.refused(absolute).await?.status() == 400);
    Ok(())
}

#[tokio::test]
async fn a_request_is_not_made_another_by_its_fields() -> Result<()> {
    let site = Site::open().await?;
    for field in ["X-HTTP-Method-Override: DELETE", "x-http_method: PUT", "X-Method-Override: PATCH"] {
        let answer =
            site.refused(site.call_with("GET /api/2.0/sql/warehouses/wh1", &format!("{field}\r\n"), "")).await?;
        ensure!(answer.status() == 400, "{field}: {answer:?}");
    }
    let two = site.call_with("GET /api/2.0/sql/warehouses/wh1?o=1", "x-databricks-org-id: 2\r\n", "");
    ensure!(site.refused(two).await?.status() == 400);
    // What would be a tunnel is a plain request.
    let upgrade =
        site.call_with("GET /api/2.0/sql/warehouses/wh1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "");
    let (request, _) = site.passed(upgrade).await?;
    ensure!(!request.has("Upgrade") && !request.has("Connection"), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn rules_let_some_do_more() -> Result<()> {
    let mut site = Site::open().await?;
    let ann = site.token.clone();
    let bob = site.gateway.token("acme", "u-bob", "bob@acme.example", None, 3600)?;
    for (line, for_ann, for_bob) in [
        ("GET /api/2.0/sql/history/queries?max_results=1", 200, 200),
        ("POST /api/2.0/sql/warehouses/wh1/start", 200, 200),
        ("POST /api/2.0/sql/warehouses/theirs/start", 404, 404),
        ("POST /api/2.0/sql/warehouses/wh1/stop", 403, 200),
        ("POST /api/2.0/sql/warehouses/wh1/edit", 403, 200),
        ("POST /api/2.0/sql/warehouses/theirs/stop", 404, 404),
        ("DELETE /api/2.0/sql/warehouses/wh1", 403, 403),
        ("GET /api/2.1/unity-catalog/tables/a.b.c", 403, 200),
        ("GET /api/2.1/unity-catalog/../secrets", 400, 400),
    ] {
        for (token, status) in [(&ann, for_ann), (&bob, for_bob)] {
            site.token.clone_from(token);
            let request = site.call(line, "");
            let answer =
                if status == 200 { site.passed(request).await.context(line)?.1 } else { site.refused(request).await? };
            ensure!(answer.status() == status, "{line}: {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_call_ends_with_the_rule_that_allows_it() -> Result<()> {
    let site = Site::open().await?;
    let (mut by_rule, mut usual) = (site.gateway.connect().await?, site.gateway.connect().await?);
    by_rule.send(site.call("GET /api/2.0/sql/history/queries", "")).await?;
    let mut first = site.workspace.accept().await?;
    first.request().await?;
    usual.send(site.call("GET /api/2.0/sql/statements/01ef", "")).await?;
    let mut second = site.workspace.accept().await?;
    second.request().await?;
    site.gateway.publish(&org("acme", &[("editor", site.workspace.address())]))?;
    let answer = by_rule.answer().await?;
    ensure!(answer.status() == 401 && first.expect_end().await? != End::Reset, "{answer:?}");
    second.send(ok("{}")).await?;
    ensure!(usual.answer().await?.status() == 200);
    Ok(())
}

#[tokio::test]
async fn what_clients_ask_before_they_have_a_token_is_answered() -> Result<()> {
    let site = Site::open().await?;
    let ask = async |path: &str, host: &str| site.refused(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let config = ask("/.well-known/databricks-config", "localhost:8443").await?;
    ensure!(super::json(&config)?["oidc_endpoint"] == "http://localhost:8443/oidc", "{config:?}");
    let issuer = super::json(&ask("/oidc/.well-known/oauth-authorization-server", "localhost").await?)?;
    ensure!(issuer["issuer"] == "http://localhost/oidc" && issuer.get("token_endpoint").is_none(), "{issuer}");
    ensure!(ask("/.well-known/databricks-config", "other.example").await?.status() == 404);
    ensure!(ask("/oidc/v1/token", "localhost").await?.status() == 404);
    Ok(())
}
