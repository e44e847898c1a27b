//! Apps and warehouses that do not run: started once, waited for within limits, and stopped when nobody uses them.

use super::HOST;
use super::websocket::{AGREE, ASK};
use crate::harness::control::Control;
use crate::harness::gateway::{Builder, Gateway, org, org_with};
use crate::harness::raw::{Answering, Message, Upstream, Wire};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

/// A gateway before one app that a stub starts, which is also the app and the workspace.
struct Site {
    gateway: Gateway,
    token: String,
    control: Control,
    _stub: Answering,
}

const START: &str = "[org.app.start]\nby = 'databricks-app'\nname = 'editor'\n";

impl Site {
    async fn open(control: Control, start: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let stub = Upstream::start()?;
        let directory =
            org("acme", &[("editor", stub.address())]) + &start.replace("STUB", &format!("http://{}", stub.address()));
        Self::of(control, stub, directory, settings).await
    }

    async fn of(control: Control, stub: Upstream, directory: String, settings: &[(&str, &str)]) -> Result<Self> {
        let answers = control.clone();
        let stub = stub.answering(move |request| answers.answer(request));
        let builder = Builder::new(directory)
            .set("autostart.poll_interval", "\"20ms\"")
            .set("autostart.check_interval", "\"50ms\"");
        let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let gateway = builder.start().await?;
        let token = gateway.session("acme")?;
        Ok(Self { gateway, token, control, _stub: stub })
    }

    async fn send(&self, line: &str, fields: &str) -> Result<Wire> {
        let mut client = self.gateway.connect().await?;
        let bearer = format!("Authorization: Bearer {}\r\n", self.token);
        client.send(format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n{bearer}{fields}\r\n")).await?;
        Ok(client)
    }

    async fn get(&self, fields: &str) -> Result<Message> {
        self.send("GET /", fields).await?.answer().await
    }
}

const PAGE: &str = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

#[tokio::test]
async fn all_who_wait_start_it_once() -> Result<()> {
    let site = Site::open(Control::new("STOPPED", Some(3)), START, &[]).await?;
    let answers = try_join_all((0..20).map(|_| site.get(""))).await?;
    for answer in &answers {
        ensure!(answer.status() == 200 && answer.text() == "the app", "{answer:?}");
        let held = answer.field("X-Embedgate-Cold-Start").context("it is not told")?;
        ensure!(held.parse::<f64>()? > 0.0, "{held}");
    }
    ensure!(site.control.count("POST /api/2.0/apps/editor/start") == 1, "{}", site.control.acts());
    ensure!(site.control.count("as Bearer acme-bearer") > 0);
    let warm = site.get("").await?;
    ensure!(warm.status() == 200 && !warm.has("X-Embedgate-Cold-Start"), "{warm:?}");
    site.gateway.expect_metric("embedgate_starts_total{result=\"ok\"}", 1.0).await?;
    site.gateway.expect_metric("embedgate_held_requests", 0.0).await?;
    let line = site.gateway.log_line(|line| line.contains("\"held_ms\"")).await?;
    ensure!(line.contains("\"upstream\":\"editor\""), "{line}");
    Ok(())
}

#[tokio::test]
async fn what_runs_is_not_started() -> Result<()> {
    let site = Site::open(Control::new("ACTIVE", None), START, &[]).await?;
    for fields in ["", PAGE] {
        let answer = site.get(fields).await?;
        ensure!(answer.text() == "the app" && !answer.has("X-Embedgate-Cold-Start"), "{answer:?}");
    }
    ensure!(site.control.count("POST") == 0);
    Ok(())
}

#[tokio::test]
async fn people_see_how_far_it_is_and_go_on_by_themselves() -> Result<()> {
    let site = Site::open(Control::new("STOPPED", None), START, &[]).await?;
    let page = site.get(PAGE).await?;
    ensure!(page.status() == 503 && page.text().contains("being started"), "{page:?}");
    ensure!(page.field("Retry-After").is_some() && page.field("Cache-Control") == Some("no-store"), "{page:?}");
    let policy = page.field("Content-Security-Policy").context("no policy")?;
    ensure!(policy.contains("connect-src 'self'") && policy.contains("script-src 'sha256-"), "{policy}");
    let asks = "X-Embedgate-Starting: 1\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n";
    let starting = async || {
        let answer = site.get(asks).await?;
        ensure!(answer.status() == 503, "{answer:?}");
        Ok(answer.text().contains("compute is starting").then_some(answer))
    };
    let told = until(PATIENCE, starting).await?.context("it does not start")?;
    let told: serde_json::Value = serde_json::from_str(&told.text())?;
    ensure!(told["state"] == "starting" && told["seconds"].is_u64(), "{told}");
    site.control.set(|script| script.looks = Some(0));
    let up = async || Ok((site.get(asks).await?.status() == 204).then_some(()));
    until(PATIENCE, up).await?.context("it does not come up")?;
    ensure!(site.get(PAGE).await?.text() == "the app");
    Ok(())
}

#[tokio::test]
async fn nobody_waits_longer_than_may_be() -> Result<()> {
    let limits = [("autostart.hold_api", "\"200ms\""), ("autostart.hold_sql", "\"200ms\"")];
    let site = Site::open(Control::new("STOPPED", None), START, &limits).await?;
    let answer = site.get("").await?;
    ensure!(answer.status() == 503 && answer.field("Retry-After") == Some("5"), "{answer:?}");
    ensure!(answer.text().contains("\"reason\":\"starting\""), "{answer:?}");
    site.gateway.expect_metric("embedgate_rejects_total{reason=\"starting\"}", 1.0).await
}

#[tokio::test]
async fn a_queue_that_is_full_takes_no_more() -> Result<()> {
    for key in ["autostart.queue", "autostart.queue_per_org", "autostart.queue_total"] {
        let control = Control::new("STOPPED", None);
        let site = Site::open(control.clone(), START, &[(key, "2")]).await?;
        let mut waiting = [site.send("GET /", "").await?, site.send("GET /", "").await?];
        site.gateway.expect_metric("embedgate_held_requests", 2.0).await?;
        let refused = site.get("").await?;
        ensure!(refused.status() == 503 && refused.text().contains("\"reason\":\"queue_full\""), "{refused:?}");
        control.set(|script| script.looks = Some(0));
        for client in &mut waiting {
            ensure!(client.answer().await?.text() == "the app");
        }
        // Places are given back, also those of clients that go away.
        ensure!(site.get("").await?.text() == "the app");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_goes_away_waits_no_longer() -> Result<()> {
    let site = Site::open(Control::new("STOPPED", None), START, &[]).await?;
    let client = site.send("GET /", "").await?;
    site.gateway.expect_metric("embedgate_held_requests", 1.0).await?;
    client.reset()?;
    site.gateway.expect_metric("embedgate_held_requests", 0.0).await?;
    let line = site.gateway.log_line(|line| line.contains("\"cut_by\":\"client\"")).await?;
    ensure!(line.contains("\"status\":499"), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_websocket_waits_for_its_upgrade() -> Result<()> {
    let (control, app) = (Control::new("STOPPED", Some(2)), Upstream::start()?);
    let workspace = Upstream::start()?;
    let directory = org("acme", &[("editor", app.address())]).replacen(
        &app.address().to_string(),
        &workspace.address().to_string(),
        1,
    ) + START;
    let site = Site::of(control, workspace, directory, &[]).await?;
    let mut client = site.send("GET /ws", ASK).await?;
    let mut app = app.accept().await?;
    app.request().await?;
    app.send(AGREE).await?;
    let agreed = client.head().await?;
    ensure!(agreed.status() == 101 && agreed.has("X-Embedgate-Cold-Start"), "{agreed:?}");
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_not_asked_for_again() -> Result<()> {
    let control = Control::new("STOPPED", None);
    control.set(|script| script.refusal = Some(403));
    let site = Site::open(control, START, &[]).await?;
    for fields in ["", PAGE, ""] {
        let answer = site.get(fields).await?;
        ensure!(answer.status() == 503 && answer.text().contains("ould not be started"), "{answer:?}");
    }
    ensure!(site.control.count("POST") == 1, "{}", site.control.acts());
    let line = site.gateway.log_line(|line| line.contains("start_failed")).await?;
    ensure!(line.contains("answered 403"), "{line}");
    site.gateway.expect_metric("embedgate_starts_total{result=\"failed\"}", 1.0).await
}

#[tokio::test]
async fn what_nobody_can_say_is_taken_for_running() -> Result<()> {
    let control = Control::new("STOPPED", None);
    control.set(|script| script.away = true);
    let site = Site::open(control, START, &[]).await?;
    ensure!(site.get("").await?.text() == "the app");
    ensure!(site.control.count("POST") == 0);
    Ok(())
}

#[tokio::test]
async fn what_nobody_uses_is_stopped_and_started_again() -> Result<()> {
    let start = START.to_owned() + "idle_stop = '1s'\n";
    let site = Site::open(Control::new("ACTIVE", Some(0)), &start, &[]).await?;
    let mut client = site.send("GET /", "").await?;
    ensure!(client.answer().await?.text() == "the app");
    let stopped = async || Ok((site.control.count("/stop") > 0).then_some(()));
    until(PATIENCE, stopped).await?.context("it is not stopped")?;
    let answer = site.get("").await?;
    ensure!(answer.text() == "the app" && answer.has("X-Embedgate-Cold-Start"), "{answer:?}");
    ensure!(site.control.count("/start") == 1);
    ensure!(site.gateway.metric("embedgate_idle_stops_total").await? > 0.5);
    Ok(())
}

#[tokio::test]
async fn others_can_be_asked_to_start_it() -> Result<()> {
    for (start, what) in [
        (
            "[org.app.start]\nby = 'webhook'\nurl = 'STUB/hook?a=b'\n",
            "POST /hook?a=b HTTP/1.1 {\"action\":\"start\",\"kind\":\"app\",\"org\":\"acme\",\"upstream\":\"editor\"}",
        ),
        (
            "[org.app.start]\nby = 'firebolt'\nname = 'small_1'\nurl = 'STUB/engine?account_id=7'\n",
            "POST /engine?account_id=7&output_format=JSON_Compact HTTP/1.1 START ENGINE \"small_1\"",
        ),
    ] {
        let site = Site::open(Control::new("STOPPED", Some(1)), start, &[]).await?;
        let answer = site.get("").await?;
        ensure!(answer.text() == "the app" && answer.has("X-Embedgate-Cold-Start"), "{answer:?}");
        ensure!(site.control.count(what) == 1, "{}", site.control.acts());
    }
    Ok(())
}

#[tokio::test]
async fn a_warehouse_is_started_for_sql() -> Result<()> {
    let stub = Upstream::start()?;
    let directory = org("acme", &[("editor", stub.address())]);
    let start = "[[org.warehouse]]\nid = \"wh1\"\n[org.warehouse.start]\nby = 'databricks-warehouse'\n";
    let directory = directory.replace("[[org.warehouse]]\nid = \"wh1\"\n", start);
    let site = Site::of(Control::new("STOPPED", Some(2)), stub, directory, &[]).await?;
    let mut client = site.gateway.connect().await?;
    let bearer = format!("Authorization: Bearer {}\r\n", site.token);
    client
        .send(format!("POST /sql/1.0/warehouses/wh1 HTTP/1.1\r\nHost: localhost\r\n{bearer}Content-Length: 1\r\n\r\nx"))
        .await?;
    let answer = client.answer().await?;
    ensure!(answer.text() == "the app" && answer.has("X-Embedgate-Cold-Start"), "{answer:?}");
    ensure!(site.control.count("POST /api/2.0/sql/warehouses/wh1/start") == 1);
    Ok(())
}

#[tokio::test]
async fn a_control_principal_starts_things_and_acts_for_nobody() -> Result<()> {
    let stub = Upstream::start()?;
    let control =
        "[[org.principal]]\nid = \"control\"\nkind = \"bearer\"\ntoken = \"control-bearer\"\ncontrol = true\n";
    let directory = org_with(
        "acme",
        &[("editor", stub.address())],
        &format!("kind = \"bearer\"\ntoken = \"acme-bearer\"\n{control}"),
    );
    let directory = directory + START + "principal = 'control'\n";
    let site = Site::of(Control::new("STOPPED", Some(1)), stub, directory, &[]).await?;
    ensure!(site.get("").await?.text() == "the app");
    let control = site.control.script();
    ensure!(control.seen.iter().all(|seen| seen.ends_with("as Bearer control-bearer")), "{:?}", control.seen);
    Ok(())
}
