//! The admin listener: what probes and scrapers find there, and that nobody finds it elsewhere.

use crate::harness::ask::{Answer, ask, get, request};
use crate::harness::installation::{Installation, KEY, LOCAL, Serving, session};
use crate::harness::issuer::App;
use anyhow::Result;
use std::collections::BTreeMap;

/// A gateway with the app `studio` of the organisation `acme`, which is also at a host of its own.
async fn gateway(app: &App) -> Result<(Installation, Serving)> {
    let url = app.url();
    let directory = format!(
        r#"
        [[org]]
        id = "acme"
        [[org.workspace]]
        id = "main"
        url = "{url}"
        [[org.principal]]
        id = "nobody"
        kind = "none"
        [[org.app]]
        id = "studio"
        url = "{url}"
        "#
    );
    let config = format!("{LOCAL}\n[routing]\nbase_domain = \"apps.localhost\"\n");
    let installation = Installation::new(&config, &directory)?;
    let gateway = installation.serve().await?;
    Ok((installation, gateway))
}

/// A request to the admin listener.
async fn admin(gateway: &Serving, method: &str, path: &str) -> Result<Answer> {
    ask(gateway.admin, request(method, path, "", "")).await
}

#[tokio::test]
async fn probes_find_it_healthy_and_ready() -> Result<()> {
    let app = App::start("welcome").await?;
    let (_installation, gateway) = gateway(&app).await?;
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = admin(&gateway, "GET", path).await?;
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
        let answer = admin(&gateway, "HEAD", path).await?;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "HEAD {path}");
    }
    let answer = admin(&gateway, "GET", "/metrics").await?;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    assert_eq!(admin(&gateway, "GET", "/").await?.status, 404);
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_leaving_instance_is_alive_but_not_ready() -> Result<()> {
    let app = App::start("welcome").await?;
    let (mut installation, first) = gateway(&app).await?;
    first.stop().await?;
    // Long enough for the probes below; the second signal ends it.
    installation.set("EMBEDGATE__SERVER__DRAIN_DELAY", "10m");
    let mut gateway = installation.serve().await?;
    gateway.process.signal("TERM")?;
    gateway.wait_for_log("draining").await?;
    assert_eq!(admin(&gateway, "GET", "/readyz").await?.status, 503);
    assert_eq!(admin(&gateway, "GET", "/healthz").await?.status, 200);
    assert_eq!(gateway.get("/.embedgate/healthz", "").await?.status, 503);
    // Requests are still served: the load balancer has not noticed yet.
    assert_eq!(gateway.get("/app-proxy/studio/", &session(KEY, "acme", None, 0)?).await?.status, 200);
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn nothing_can_be_changed_there() -> Result<()> {
    let app = App::start("welcome").await?;
    let (_installation, gateway) = gateway(&app).await?;
    for path in ["/healthz", "/readyz", "/metrics", "/elsewhere"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = admin(&gateway, method, path).await?;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn every_metric_is_explained_and_counts() -> Result<()> {
    let app = App::start("welcome").await?;
    let (_installation, gateway) = gateway(&app).await?;
    let good = session(KEY, "acme", None, 0)?;
    for _ in 0..3 {
        gateway.get("/app-proxy/studio/", &good).await?;
    }
    gateway.get("/app-proxy/studio/", "").await?;
    gateway.get("/app-proxy/nothing/", &good).await?;
    for (code, count) in [(200, 3.0), (401, 1.0), (404, 1.0)] {
        let name = format!(r#"embedgate_requests_total{{route="app",code="{code}"}}"#);
        gateway.wait_for_metric(&name, count).await?;
    }
    assert_eq!(gateway.count(r#"embedgate_rejects_total{reason="session"}"#).await?, 1);
    assert_eq!(gateway.count(r#"embedgate_rejects_total{reason="not_found"}"#).await?, 1);
    assert_eq!(gateway.count(r#"embedgate_request_duration_seconds_count{route="app"}"#).await?, 5);
    assert_eq!(gateway.count("embedgate_requests_active").await?, 0);

    let text = gateway.metrics().await?;
    let mut types = BTreeMap::new();
    let mut explained = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => drop(types.insert(name, kind)),
            (Some("#"), Some("HELP"), Some(name), Some(help)) if help.ends_with('.') => explained.push(name),
            (Some("#"), ..) => panic!("neither HELP nor TYPE: {line}"),
            _ => {}
        }
    }
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for sample in samples {
        let name = sample.split(['{', ' ']).next().unwrap_or_default();
        assert!(name.starts_with("embedgate_"), "{sample}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            let family = name.strip_suffix(end)?;
            (types.get(family) == Some(&"histogram")).then_some(family)
        });
        let family = family.unwrap_or(name);
        assert!(types.contains_key(family), "no TYPE for {sample}");
        assert!(explained.contains(&family), "no HELP for {sample}");
    }
    for (name, kind) in [
        ("embedgate_build_info", "gauge"),
        ("embedgate_requests_total", "counter"),
        ("embedgate_requests_active", "gauge"),
        ("embedgate_request_duration_seconds", "histogram"),
        ("embedgate_upstream_duration_seconds", "histogram"),
        ("embedgate_overhead_duration_seconds", "histogram"),
        ("embedgate_rejects_total", "counter"),
        ("embedgate_connections_total", "counter"),
        ("embedgate_connections_active", "gauge"),
        ("embedgate_tunnels_active", "gauge"),
        ("embedgate_received_bytes_total", "counter"),
        ("embedgate_sent_bytes_total", "counter"),
        ("embedgate_upstream_connections_total", "counter"),
        ("embedgate_retries_total", "counter"),
        ("embedgate_retries_over_budget_total", "counter"),
        ("embedgate_node_retries_total", "counter"),
        ("embedgate_node_ejections_total", "counter"),
        ("embedgate_nodes_ejected", "gauge"),
        ("embedgate_nodes_dead", "gauge"),
        ("embedgate_probes_total", "counter"),
        ("embedgate_circuit_open_total", "counter"),
        ("embedgate_token_mints_total", "counter"),
        ("embedgate_directory_age_seconds", "gauge"),
        ("embedgate_directory_organisations", "gauge"),
        ("embedgate_directory_loads_total", "counter"),
        ("embedgate_log_lines_dropped_total", "counter"),
        ("embedgate_panics_total", "counter"),
    ] {
        assert_eq!(types.get(name), Some(&kind), "{name} in:\n{text}");
    }
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_data_listener_shows_nothing_of_it() -> Result<()> {
    let app = App::start("welcome").await?;
    let (_installation, gateway) = gateway(&app).await?;
    let good = session(KEY, "acme", None, 0)?;
    for path in ["/metrics", "/healthz", "/readyz", "/.embedgate/metrics", "/.embedgate/readyz", "/drain"] {
        for session in ["", &good] {
            assert_eq!(gateway.get(path, session).await?.verdict(), (404, "not_found".into()), "{path}");
        }
    }
    // On an app's host these paths are the app's own.
    let mut request = get("/metrics", &good);
    request.headers_mut().insert("host", http::HeaderValue::from_static("studio--acme.apps.localhost"));
    let answer = gateway.ask(request).await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "welcome"));
    gateway.stop().await?;
    Ok(())
}
