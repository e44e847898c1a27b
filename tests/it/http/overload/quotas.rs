//! Quotas of organisations and users: refused with the time after which another try makes sense, and never charged for.

use super::super::Site;
use super::super::websocket::tunnel;
use super::{refusal, send};
use crate::harness::gateway::{Builder, org, org_with};
use crate::harness::issuer::{Issuer, Mood};
use crate::harness::raw::{Upstream, ok};
use anyhow::{Result, ensure};

#[tokio::test]
async fn a_rate_refuses_says_for_how_long_and_lets_in_again() -> Result<()> {
    let upstream = Upstream::start()?;
    let directory = org("acme", &[("editor", upstream.address())]);
    let builder = Builder::new(directory).set("quotas.requests_per_second", "1").set("quotas.burst", "2");
    let (gateway, app) = (builder.start().await?, upstream.answering(|_| ok("the app")));
    let site = Site { token: gateway.session("acme")?, gateway, upstream: Upstream::start()? };
    let refused = site.until_status("ann", 429).await?;
    ensure!(refusal(&refused, 429, "quota")? == 1, "{refused:?}");
    ensure!(refused.field("Content-Type") == Some("application/problem+json"), "{refused:?}");
    ensure!(site.until_status("ann", 200).await?.text() == "the app");
    let line = site.gateway.log_line(|line| line.contains("\"reject\":\"quota\"")).await?;
    ensure!(line.contains("quota `requests_per_second` is used up"), "{line}");
    let counted = site.gateway.metric("embedgate_quota_refusals_total{limit=\"requests_per_second\"}").await?;
    ensure!(counted >= 1.0 && site.gateway.metric("embedgate_rejects_total{reason=\"quota\"}").await? >= counted);
    // What was refused never reached the app.
    let served = site.gateway.metric("embedgate_requests_total{route=\"app\",code=\"200\"}").await?;
    ensure!(app.seen().len() as f64 <= served + 0.5, "{} and {served}", app.seen().len());
    Ok(())
}

#[tokio::test]
async fn an_organisation_may_have_its_own_and_no_other_pays() -> Result<()> {
    let (busy, free) = (Upstream::start()?, Upstream::start()?);
    let own = org("acme", &[("editor", busy.address())]) + "[org.quota]\nconcurrent = 1\n";
    let gateway = Builder::new(own + &org("globex", &[("editor", free.address())])).start().await?;
    let _first = send(&gateway, "acme", "ann", "GET /", "").await?;
    let _held = busy.accept().await?;
    let refused = send(&gateway, "acme", "bob", "GET /", "").await?.answer().await?;
    refusal(&refused, 429, "quota")?;
    let _app = free.answering(|_| ok("globex"));
    ensure!(send(&gateway, "globex", "ann", "GET /", "").await?.answer().await?.text() == "globex");
    Ok(())
}

#[tokio::test]
async fn users_have_their_own() -> Result<()> {
    let site = Site::with(&[("quotas.user_concurrent", "1")]).await?;
    let (mut client, mut app) = site.join().await?;
    let refused = site.send_as("ann", "GET /", "").await?.answer().await?;
    refusal(&refused, 429, "quota")?;
    site.gateway.expect_metric("embedgate_quota_refusals_total{limit=\"user_concurrent\"}", 1.0).await?;
    let mut bob = site.send_as("bob", "GET /bob", "").await?;
    let mut bobs_app = site.upstream.accept().await?;
    ensure!(bobs_app.request().await?.target() == "/bob");
    bobs_app.send(ok("bob's")).await?;
    ensure!(bob.answer().await?.text() == "bob's");
    app.send(ok("ann's")).await?;
    ensure!(client.answer().await?.text() == "ann's");
    // The place was given back.
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await?;
    drop((app, bobs_app));
    let (request, _) = site.exchange(site.get("/again"), ok("")).await?;
    ensure!(request.target() == "/again");
    Ok(())
}

#[tokio::test]
async fn a_websocket_counts_for_its_whole_life() -> Result<()> {
    let site = Site::with(&[("quotas.concurrent", "1")]).await?;
    let (client, app) = tunnel(&site).await?;
    let refused = site.refused(site.get("/")).await?;
    refusal(&refused, 429, "quota")?;
    client.reset()?;
    drop(app);
    site.gateway.expect_metric("embedgate_tunnels_active", 0.0).await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await?;
    let (_, answer) = site.exchange(site.get("/"), ok("room")).await?;
    ensure!(answer.text() == "room");
    Ok(())
}

#[tokio::test]
async fn what_is_refused_costs_no_token() -> Result<()> {
    let (issuer, upstream) = (Issuer::start(Mood::Issues(3600)).await?, Upstream::start()?);
    let principal = |id: &str| {
        format!(
            "kind = \"oauth2\"\ntoken_url = \"{}/oauth/token\"\nclient_id = \"{id}\"\nclient_secret = \"hush\"\n",
            issuer.url()
        )
    };
    let bobs = format!("[[org.principal]]\nid = \"bobs\"\nusers = [\"bob@acme.example\"]\n{}", principal("bobs"));
    let directory = org_with("acme", &[("editor", upstream.address())], &principal("all"));
    let directory = directory.replace("[[org.app]]", &format!("{bobs}[[org.app]]"));
    let directory = directory.replace("\"hush\"", "{ env = \"HUSH\" }");
    let builder = Builder::new(directory).variable("HUSH", "hush").set("quotas.concurrent", "1");
    let gateway = builder.start().await?;
    let _first = send(&gateway, "acme", "ann", "GET /", "").await?;
    let _held = upstream.accept().await?;
    refusal(&send(&gateway, "acme", "bob", "GET /", "").await?.answer().await?, 429, "quota")?;
    ensure!((issuer.calls_of("all"), issuer.calls_of("bobs")) == (1, 0), "{:?}", issuer.calls());
    Ok(())
}

#[tokio::test]
async fn drivers_are_told_in_their_own_words() -> Result<()> {
    let site = Site::with(&[("quotas.concurrent", "1")]).await?;
    let _joined = site.join().await?;
    let body = r#"{"warehouse_id":"wh1","statement":"select 1"}"#;
    let head = format!(
        "POST /api/2.0/sql/statements HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        site.bearer(),
        body.len()
    );
    let refused = site.refused(head).await?;
    ensure!(refused.status() == 429 && refused.field("Retry-After") == Some("1"), "{refused:?}");
    ensure!(refused.text().contains("\"error_code\":\"REQUEST_LIMIT_EXCEEDED\""), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn an_upstream_whose_latency_sets_its_limit_shows_it() -> Result<()> {
    let upstream = Upstream::start()?;
    let directory = org("acme", &[("editor", upstream.address())]) + "adaptive = true\n";
    let gateway = Builder::new(directory).start().await?;
    let _app = upstream.answering(|_| ok("the app"));
    for _ in 0..10 {
        ensure!(send(&gateway, "acme", "ann", "GET /", "").await?.answer().await?.status() == 200);
    }
    gateway.expect_metric("embedgate_adaptive_limit{org=\"acme\",upstream=\"editor\"}", 20.0).await
}
