//! Which calls reach an engine, where, and as whom.

use super::{HOST, Site, engine};
use crate::harness::gateway::org;
use crate::harness::raw::{Upstream, ok};
use anyhow::{Result, ensure};

#[tokio::test]
async fn an_engine_answers_below_its_path_and_at_its_host() -> Result<()> {
    for (base, root) in [("", "/"), ("/gateway/default", "/gateway/default")] {
        let site = Site::with(base, "", &[]).await?;
        for (host, target, seen) in [
            ("localhost", "/engine/sql", root.to_owned()),
            ("localhost", "/engine/sql/", format!("{base}/")),
            ("localhost", "/engine/sql?database=x", format!("{root}?database=x")),
            ("localhost:8080", "/engine/sql/v1/statement?a=%2F..", format!("{base}/v1/statement?a=%2F..")),
            (HOST, "/", format!("{base}/")),
            ("SQL--Acme.Apps.LocalHost:8080", "/v1/statement/", format!("{base}/v1/statement/")),
        ] {
            let request = site.call_at(host, &format!("POST {target}"), "User-Agent: odbc/1\r\n", "select 1");
            let (request, answer) = site.passed(request).await?;
            ensure!(request.target() == seen, "{host}{target}: {}", request.start);
            ensure!(answer.status() == 200 && request.text() == "select 1", "{request:?}");
            ensure!(request.field("User-Agent") == Some("odbc/1"), "{request:?}");
            ensure!(request.field("Authorization") == Some("Bearer acme-bearer"), "{request:?}");
            ensure!(request.field("X-Forwarded-User") == Some("ann"), "{request:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_the_organisations_does_not_exist() -> Result<()> {
    let site = Site::open().await?;
    let mut faces = Vec::new();
    for (host, target) in [
        ("localhost", "/engine/theirs/"),
        ("localhost", "/engine/nothing/"),
        ("localhost", "/engine/editor/"),
        ("localhost", "/engine/"),
        ("theirs--globex.apps.localhost", "/"),
        ("nothing--acme.apps.localhost", "/"),
    ] {
        let answer = site.refused(site.call_at(host, &format!("GET {target}"), "", "")).await?;
        let mut document: serde_json::Value = serde_json::from_slice(&answer.body)?;
        document["request_id"] = "".into();
        faces.push((answer.status(), document));
    }
    ensure!(faces[0].0 == 404 && faces.iter().all(|face| *face == faces[0]), "{faces:?}");
    Ok(())
}

#[tokio::test]
async fn a_host_does_not_tell_others_that_it_is_an_engines() -> Result<()> {
    let site = Site::open().await?;
    let foreign = format!("Authorization: Bearer {}\r\n", site.token);
    let preflight = "Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n";
    for session in ["", &foreign] {
        for (line, fields) in [
            ("GET /", ""),
            ("GET //", ""),
            ("GET /a/../b", ""),
            ("GET /", "X-HTTP-Method: PUT\r\n"),
            ("OPTIONS /", preflight),
            ("GET /", "Accept: text/html\r\n"),
        ] {
            let mut faces = Vec::new();
            for host in
                ["theirs--globex.apps.localhost", "nothing--globex.apps.localhost", "nothing--nobody.apps.localhost"]
            {
                let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{session}{fields}\r\n");
                let answer = site.refused(request).await?;
                faces.push((answer.status(), answer.field("Content-Type").map(str::to_owned)));
            }
            ensure!(faces.iter().all(|face| *face == faces[0]), "{line} {fields}: {faces:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_comes_in_without_a_session_for_everything() -> Result<()> {
    let mut site = Site::open().await?;
    let for_app = site.gateway.token("acme", "ann", "ann@acme.example", Some("editor"), 3600)?;
    let for_engine = site.gateway.token("acme", "ann", "ann@acme.example", Some("sql"), 3600)?;
    for (token, status) in [(String::new(), 401), ("~1.test.x".to_owned(), 401), (for_app, 403), (for_engine, 403)] {
        site.token = token;
        for (host, line) in [("localhost", "GET /engine/sql/"), (HOST, "GET /")] {
            let answer = site.refused(site.call_at(host, line, "", "")).await?;
            ensure!(answer.status() == status, "{line}: {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_path_has_one_reading() -> Result<()> {
    let site = Site::with("/base", "", &[]).await?;
    for path in ["//", "/..", "/../other", "/a/../b", "/./a", "//a", "/a//b", "/%2e%2e/a", "/a%2fb", "/a;b", "/a\\b"] {
        for (host, prefix) in [("localhost", "/engine/sql"), (HOST, "")] {
            let answer = site.refused(site.call_at(host, &format!("GET {prefix}{path}"), "", "")).await?;
            ensure!(answer.status() == 400, "{host} {path}: {answer:?}");
        }
    }
    for field in ["X-HTTP-Method-Override: DELETE", "x_http_method: PUT"] {
        let answer = site.refused(site.call("GET /engine/sql/", &format!("{field}\r\n"), "")).await?;
        ensure!(answer.status() == 400, "{field}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn only_what_is_listed_may_be_called() -> Result<()> {
    let site = Site::with("/base", "allow = ['POST /', 'GET /v1/statement/*', 'DELETE /v1/**']", &[]).await?;
    for line in
        ["POST /engine/sql", "POST /engine/sql/?a=b", "GET /engine/sql/v1/statement/1", "DELETE /engine/sql/v1/a/b"]
    {
        let (request, answer) = site.passed(site.call(line, "", "")).await?;
        ensure!(answer.status() == 200 && request.target().starts_with("/base"), "{line}: {answer:?}");
    }
    for line in [
        "GET /engine/sql/",
        "POST /engine/sql/v1",
        "GET /engine/sql/v1/statement",
        "GET /engine/sql/v1/statement/",
        "GET /engine/sql/v1/statement/1/2",
        "PUT /engine/sql/v1/statement/1",
        "DELETE /engine/sql/v2/a",
        "POST /engine/sql/base",
    ] {
        let answer = site.refused(site.call(line, "Accept: text/plain\r\n", "")).await?;
        ensure!(answer.status() == 403, "{line}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tunnel_is_never_opened() -> Result<()> {
    let site = Site::open().await?;
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let (request, _) = site.passed(site.call("GET /engine/sql/", fields, "")).await?;
    ensure!(!request.has("Upgrade") && !request.has("Connection"), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn an_engine_may_have_a_principal_of_its_own() -> Result<()> {
    let upstream = Upstream::start()?;
    let at = upstream.address();
    let more = "[[org.workspace]]\nid = 'lake'\nurl = 'http://127.0.0.1:1'\n\
        [[org.principal]]\nid = 'lake'\nkind = 'bearer'\ntoken = 'lake-bearer'\nworkspace = 'lake'\n\
        [[org.principal]]\nid = 'bob'\nkind = 'bearer'\ntoken = 'bob-bearer'\nworkspace = 'lake'\nusers = ['bob@acme.example']\n";
    let keys = |principal: &str| format!("workspace = 'main'\nprincipal = '{principal}'");
    let main = org("acme", &[("editor", at)]).replace("\nurl = \"http", "\nworkspace = \"main\"\nurl = \"http");
    let main = main.replacen("\nworkspace = \"main\"", "", 1).replace("\"wh1\"", "\"wh1\"\nworkspace = \"main\"");
    let main = main.replace("\"spn\"", "\"spn\"\nworkspace = \"main\"");
    let directory = main + more + &engine("sql", at, "", &keys("lake")) + &engine("bobs", at, "", &keys("bob"));
    let gateway = crate::harness::gateway::Builder::new(directory).start().await?;
    let site = Site { token: gateway.session("acme")?, gateway, engine: upstream };
    let (request, _) = site.passed(site.call("GET /engine/sql/", "", "")).await?;
    ensure!(request.field("Authorization") == Some("Bearer lake-bearer"), "{request:?}");
    let answer = site.refused(site.call("GET /engine/bobs/", "", "")).await?;
    ensure!(answer.status() == 403, "reserved for somebody else: {answer:?}");
    let token = site.gateway.token("acme", "bob", "bob@acme.example", None, 3600)?;
    let site = Site { token, ..site };
    let (request, _) = site.passed(site.call("GET /engine/bobs/", "", "")).await?;
    ensure!(request.field("Authorization") == Some("Bearer bob-bearer"), "{request:?}");
    Ok(())
}

#[tokio::test]
async fn an_app_has_its_host_before_an_engine_does() -> Result<()> {
    let (app, upstream) = (Upstream::start()?, Upstream::start()?);
    let directory = org("acme", &[("sql", app.address())]) + &engine("sql", upstream.address(), "", "");
    let gateway = crate::harness::gateway::Builder::new(directory).start().await?;
    let site = Site { token: gateway.session("acme")?, gateway, engine: app };
    site.passed(site.call_at(HOST, "GET /", "", "")).await?;
    let site = Site { engine: upstream, ..site };
    site.passed(site.call("GET /engine/sql/", "", "")).await?;
    Ok(())
}

#[tokio::test]
async fn addresses_in_answers_lead_back_to_the_engine() -> Result<()> {
    let site = Site::with("/base", "", &[]).await?;
    let at = site.engine.address();
    let fields = format!("Location: http://{at}/base/next?a\r\nSet-Cookie: stick=1; Path=/base\r\n");
    let answer = format!("HTTP/1.1 307 Temporary Redirect\r\n{fields}Content-Length: 0\r\n\r\n");
    let (_, answer) = site.exchange(site.call("POST /engine/sql/x", "", ""), answer).await?;
    ensure!(answer.field("Location") == Some("/engine/sql/next?a"), "{answer:?}");
    ensure!(answer.field("Set-Cookie") == Some("stick=1; Path=/engine/sql/"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn access_that_is_taken_away_ends_what_is_open() -> Result<()> {
    let site = Site::with("", "allow = ['GET /**']", &[]).await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.call("GET /engine/sql/rows", "", "")).await?;
    let mut served = site.engine.accept().await?;
    served.request().await?;
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nrows").await?;
    let head = client.head().await?;
    let at = site.engine.address();
    site.gateway.publish(&(org("acme", &[("editor", at)]) + &engine("sql", at, "", "allow = ['POST /']")))?;
    let answer = client.body(head, false).await?;
    ensure!(answer.status() == 200 && !answer.complete, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn calls_are_counted_and_logged_as_an_engines() -> Result<()> {
    let site = Site::open().await?;
    site.passed(site.call_at(HOST, "POST /", "", "select 1")).await?;
    site.passed(site.call("POST /engine/sql/", "", "select 1")).await?;
    site.refused(site.call("POST /engine/sql//", "", "")).await?;
    site.gateway.expect_metric("embedgate_requests_total{route=\"engine\",code=\"200\"}", 2.0).await?;
    site.gateway.expect_metric("embedgate_requests_total{route=\"engine\",code=\"400\"}", 1.0).await?;
    let line = site.gateway.log_line(|line| line.contains("/engine/sql/\"")).await?;
    ensure!(line.contains("\"route\":\"engine\"") && line.contains("\"upstream\":\"sql\""), "{line}");
    Ok(())
}

#[tokio::test]
async fn users_of_trino_are_not_for_clients_to_choose() -> Result<()> {
    for (keys, told) in [("dialect = 'trino'", None), ("dialect = 'trino'\nuser = 'gate'", Some("gate"))] {
        let site = Site::with("", keys, &[]).await?;
        let fields = "X-Trino-User: root\r\nx_trino_user: root\r\nX-Trino-Original-User: root\r\nX-Presto-User: root\r\n\
            X-Trino-Catalog: tpch\r\n";
        let (request, _) = site.passed(site.call_at(HOST, "POST /v1/statement", fields, "select 1")).await?;
        ensure!(request.field("X-Trino-User") == told && !format!("{request:?}").contains("root"), "{request:?}");
        ensure!(request.field("X-Trino-Catalog") == Some("tpch"), "{request:?}");
        // What answers lead to is made of these.
        ensure!(request.field("Host") == Some(HOST) && request.field("X-Forwarded-Host") == Some(HOST), "{request:?}");
        ensure!(request.field("X-Forwarded-Proto") == Some("http"), "{request:?}");
    }
    let site = Site::open().await?;
    let (request, _) = site.exchange(site.call("POST /engine/sql/", "X-Trino-User: root\r\n", ""), ok("")).await?;
    ensure!(request.field("X-Trino-User") == Some("root"), "elsewhere it means nothing: {request:?}");
    Ok(())
}
