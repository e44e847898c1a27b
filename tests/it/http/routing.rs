//! Where requests go: hosts, paths, the gateway's own endpoints and FireFly's old links.

use super::{HOST, Site};
use crate::harness::gateway::{Builder, org};
use crate::harness::raw::{Upstream, ok};
use anyhow::{Context as _, Result, ensure};

/// A request with the session for any host.
fn at(site: &Site, line: &str, host: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {host}\r\n{}\r\n", site.bearer())
}

#[tokio::test]
async fn an_app_answers_at_its_host_and_below_its_path() -> Result<()> {
    let site = Site::open().await?;
    for (host, target, seen) in [
        (HOST, "/a/b?c=d", "/a/b?c=d"),
        ("EDITOR--Acme.Apps.LocalHost", "/", "/"),
        ("editor--acme.apps.localhost:8080", "/", "/"),
        (HOST, "/app-proxy/editor/", "/app-proxy/editor/"),
        ("localhost", "/app-proxy/editor/", "/"),
        ("localhost:8080", "/app-proxy/editor/a/b?c=d", "/a/b?c=d"),
        ("127.0.0.1", "/app-proxy/editor//a/../b", "//a/../b"),
        ("localhost", "/app-proxy/editor/?x=/app-proxy/editor/", "/?x=/app-proxy/editor/"),
    ] {
        let (request, _) = site.exchange(at(&site, &format!("GET {target}"), host), ok("")).await.context(host)?;
        ensure!(request.target() == seen, "{host}{target}: {}", request.start);
    }
    Ok(())
}

#[tokio::test]
async fn a_path_without_its_slash_is_redirected() -> Result<()> {
    let site = Site::open().await?;
    for (target, location) in [
        ("/app-proxy/editor", "/app-proxy/editor/"),
        ("/app-proxy/editor?a=b", "/app-proxy/editor/?a=b"),
        // The same for what is not there: the redirect tells nothing.
        ("/app-proxy/nothing", "/app-proxy/nothing/"),
    ] {
        let answer = site.refused(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await?;
        ensure!(answer.status() == 308 && answer.field("Location") == Some(location), "{target}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn unknown_hosts_and_paths_are_404() -> Result<()> {
    let site = Site::open().await?;
    for (host, target) in [
        ("other.example", "/"),
        ("apps.localhost.evil.example", "/"),
        ("evilapps.localhost", "/x"),
        ("editor.apps.localhost", "/"),
        ("editor--acme--acme.apps.localhost", "/"),
        ("a.editor--acme.apps.localhost", "/"),
        ("localhost", "/"),
        ("localhost", "/nothing"),
        ("localhost", "/app-proxy//"),
        ("localhost", "/app-proxy/nothing/"),
        ("localhost", "/API/2.0/clusters/list"),
        ("localhost", "/api"),
        ("localhost", "//api/2.0/sql/statements/1"),
        ("localhost", "/./api/2.0/sql/statements/1"),
        ("localhost", "/.embedgate/nothing"),
        ("localhost", "/.embedgate/"),
        (HOST, "/.embedgate/anything"),
    ] {
        let answer = site.refused(at(&site, &format!("GET {target}"), host)).await?;
        ensure!(answer.status() == 404, "{host}{target}: {}", answer.start);
    }
    Ok(())
}

#[tokio::test]
async fn health_is_told_on_every_host_and_without_a_session() -> Result<()> {
    let site = Site::open().await?;
    for host in ["localhost", HOST, "other.example", "10.1.2.3:80"] {
        let answer = site.refused(format!("GET /.embedgate/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")).await?;
        ensure!(answer.status() == 200, "{host}: {answer:?}");
    }
    let answer = site.gateway.admin("/readyz").await?;
    ensure!(answer.status() == 200, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn the_data_listener_tells_no_metrics() -> Result<()> {
    let site = Site::open().await?;
    for path in ["/metrics", "/readyz", "/.embedgate/metrics", "/healthz"] {
        let answer = site.refused(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await?;
        ensure!(matches!(answer.status(), 401 | 404), "{path}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn only_configured_hosts_are_answered() -> Result<()> {
    let upstream = Upstream::start()?;
    let builder = Builder::new(org("acme", &[("editor", upstream.address())]));
    let gateway = builder.set("routing.base_domain", "apps.example").set("server.public_url", "http://gate.example");
    let gateway = gateway.start().await?;
    let token = gateway.session("acme")?;
    let site = Site { gateway, upstream, token };
    for host in [HOST, "localhost", "127.0.0.1"] {
        let answer = site.refused(at(&site, "GET /app-proxy/editor/", host)).await?;
        ensure!(answer.status() == 404, "{host}: {answer:?}");
    }
    for (host, target) in [("editor--acme.apps.example", "/"), ("gate.example", "/app-proxy/editor/")] {
        site.exchange(at(&site, &format!("GET {target}"), host), ok("")).await.context(host)?;
    }
    Ok(())
}

/// A token of FireFly's first proxy, made by its own code with the key 000102...1f; it holds a bearer.
const V1_TOKEN: &str = "oKGio6SlpqeoqaqrgnkMRGiuet4PFeu2Kg6vtRXCdCCjhXFYqTgRvka35yj3VRuxkjfPOn5Mf0Hx";
const V1_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A gateway that serves v1 links to hosts below `allowed`, which do not exist.
fn v1(allowed: &str) -> Builder {
    Builder::new("")
        .variable("ENCRYPTION_KEY", V1_KEY)
        .set("firefly.v1", "true")
        .set("firefly.encryption_key", "{ env = 'ENCRYPTION_KEY' }")
        .set("firefly.domain_suffix", "localhost")
        .set("upstreams.allowed_domains", allowed)
}

#[tokio::test]
async fn v1_links_go_to_allowed_hosts_only() -> Result<()> {
    let gateway = v1("['apps.databricks.localhost']").start().await?;
    let outside = "embedgate_upstream_connections_total{result=\"failed\"}";
    for (name, path, status) in [
        ("another domain", format!("{V1_TOKEN}/databricks/evil/editor/"), 404),
        ("a name that ends alike", format!("{V1_TOKEN}/xapps/databricks/editor/"), 404),
        ("a host in the app's place", format!("{V1_TOKEN}/apps/databricks/evil.example%2f/"), 404),
        ("a user in the app's place", format!("{V1_TOKEN}/apps/databricks/u@editor/"), 404),
        ("a part missing", format!("{V1_TOKEN}/apps/databricks"), 404),
        ("another key's token", format!("{}/apps/databricks/editor/", V1_TOKEN.replace('o', "p")), 401),
    ] {
        let mut client = gateway.connect().await?;
        client.send(format!("GET /app-proxy/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await?;
        let answer = client.answer().await?;
        ensure!(answer.status() == status, "{name}: {answer:?}");
        ensure!(gateway.metric(outside).await? < 0.5, "{name}: it was dialled");
    }
    // What is allowed is dialled, on port 443 of a name below localhost, where no app is.
    let mut client = gateway.connect().await?;
    let path = format!("/app-proxy/{V1_TOKEN}/apps/databricks/editor/");
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await?;
    ensure!(client.answer().await?.status() == 502);
    ensure!(gateway.metric(outside).await? > 0.5);
    Ok(())
}

#[tokio::test]
async fn a_v1_token_is_never_logged() -> Result<()> {
    let on = v1("['apps.databricks.localhost']").start().await?;
    let off = Site::open().await?;
    for (name, gateway) in [("on", &on), ("off", &off.gateway)] {
        for rest in ["/apps/databricks/editor/", "/apps/databricks/evil/", "/apps/databricks", "/", "", "?a=b"] {
            for host in ["localhost", "other.example", HOST] {
                let mut client = gateway.connect().await?;
                client.send(format!("GET /app-proxy/{V1_TOKEN}{rest} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await?;
                let answer = client.answer().await?;
                let id = answer.field("X-Request-Id").map(str::to_owned);
                let is_logged = |line: &str| id.as_ref().is_none_or(|id| line.contains(id));
                let line = gateway.log_line(is_logged).await?;
                ensure!(!line.contains(V1_TOKEN), "{name}, {host}, {rest:?}: {line}");
            }
        }
        ensure!(!gateway.log().contains(V1_TOKEN), "{name}: {}", gateway.log());
    }
    Ok(())
}

#[tokio::test]
async fn v1_links_are_off_unless_switched_on() -> Result<()> {
    let site = Site::open().await?;
    let line = format!("GET /app-proxy/{V1_TOKEN}/apps/databricks/editor/");
    let answer = site.refused(at(&site, &line, "localhost")).await?;
    ensure!(answer.status() == 404, "{answer:?}");
    let answer = site.refused(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await?;
    ensure!(answer.status() == 401, "{answer:?}");
    Ok(())
}
