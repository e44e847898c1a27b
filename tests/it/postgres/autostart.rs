//! Things that are started and stopped for a whole fleet: two gateways over one Postgres.

use super::access::Fleet;
use super::{Gateway, organisation};
use crate::harness::control::Control;
use crate::harness::raw::{Upstream, Wire};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};

const FAST: &str = "[autostart]\npoll_interval = '20ms'\ncheck_interval = '100ms'\n";

async fn ask(gateway: &Gateway, token: &str) -> Result<String> {
    let mut client = Wire::connect(gateway.data).await?;
    let head = "GET /app-proxy/editor/ HTTP/1.1\r\nHost: localhost";
    client.send(format!("{head}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 200, "{answer:?}");
    Ok(answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_starts_and_stops_things_once() -> Result<()> {
    let (control, stub) = (Control::new("STOPPED", Some(5)), Upstream::start()?);
    let directory = organisation("acme", &format!("http://{}", stub.address()));
    let answers = control.clone();
    let _stub = stub.answering(move |request| answers.answer(request));
    let start = "[org.app.start]\nby = 'databricks-app'\nname = 'editor'\nidle_stop = '2s'\n";
    let directory = directory.replace("[[org.warehouse]]", &format!("{start}[[org.warehouse]]"));
    let fleet = Fleet::start(&directory, FAST).await?;
    let token = fleet.setup.token("acme")?;
    let gateways = [&fleet.one, &fleet.two];
    let asked = gateways.into_iter().cycle().take(20).map(|gateway| ask(gateway, &token));
    ensure!(try_join_all(asked).await?.iter().all(|text| text == "the app"));
    ensure!(control.count("apps/editor/start") == 1, "{}", control.acts());

    // While one of them is asked, the other one does not stop it.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        ask(&fleet.one, &token).await?;
    }
    ensure!(control.count("apps/editor/stop") == 0, "{}", control.acts());
    let stopped = async || Ok((control.count("apps/editor/stop") > 0).then_some(()));
    until(PATIENCE, stopped).await?.context("it is not stopped")?;
    // Each of them finds out that it is down, and one of them starts it.
    control.set(|script| script.looks = Some(0));
    for gateway in gateways {
        ensure!(ask(gateway, &token).await? == "the app");
    }
    ensure!(control.count("apps/editor/stop") == 1, "{}", control.acts());
    Ok(())
}
