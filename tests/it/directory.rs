//! The directory file while the gateway runs: changes are taken over without a restart, mistakes are not.

use crate::harness::installation::{Installation, KEY, LOCAL, Serving, org, session};
use crate::harness::issuer::App;
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::symlink;

const LOADS: &str = r#"embedgate_directory_loads_total{result="ok"}"#;
const REFUSED: &str = r#"embedgate_directory_loads_total{result="refused"}"#;

/// What an organisation's user gets from the app: status and body.
async fn visit(gateway: &Serving, org: &str) -> Result<(u16, String)> {
    let answer = gateway.get("/app-proxy/studio/", &session(KEY, org, None, 0)?).await?;
    Ok((answer.status, answer.body))
}

/// Waits until an organisation's user gets 200 and this body.
async fn wait_for(gateway: &Serving, org: &str, body: &str) -> Result<()> {
    let mut last = None;
    let seen = until(PATIENCE, async || {
        let (status, text) = visit(gateway, org).await?;
        let found = status == 200 && text == body;
        last = Some((status, text));
        Ok(found.then_some(()))
    });
    seen.await?.with_context(|| format!("{org} never got {body:?}; last: {last:?}"))
}

#[tokio::test]
async fn a_changed_file_is_taken_over_without_a_restart() -> Result<()> {
    let (one, two) = (App::start("one").await?, App::start("two").await?);
    let installation = Installation::new(LOCAL, &org("acme", &one.url()))?;
    let gateway = installation.serve().await?;
    assert_eq!(visit(&gateway, "acme").await?, (200, "one".into()));
    assert_eq!(visit(&gateway, "globex").await?.0, 401);

    // A new organisation, in place.
    let both = org("acme", &one.url()) + &org("globex", &two.url());
    installation.write("directory.toml", &both)?;
    wait_for(&gateway, "globex", "two").await?;
    assert_eq!(visit(&gateway, "acme").await?, (200, "one".into()));

    // An app that moved, by rename.
    let moved = org("acme", &two.url()) + &org("globex", &two.url());
    installation.replace("directory.toml", &moved)?;
    wait_for(&gateway, "acme", "two").await?;

    // An organisation that left: its sessions open nothing any more.
    installation.replace("directory.toml", &org("globex", &two.url()))?;
    let answer = gateway.get_until(401, "/app-proxy/studio/", &session(KEY, "acme", None, 0)?).await?;
    assert_eq!(answer.reason(), "session");
    assert_eq!(visit(&gateway, "globex").await?, (200, "two".into()));
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_mounted_directory_that_is_swapped_behind_links_is_seen() -> Result<()> {
    // Orchestrators mount such files as links into a folder that itself is a link, and swap the latter.
    let (one, two) = (App::start("one").await?, App::start("two").await?);
    let installation = Installation::new(LOCAL, "")?;
    for (version, app) in [("v1", &one), ("v2", &two)] {
        fs::create_dir(installation.path(version))?;
        installation.write(&format!("{version}/directory.toml"), &org("acme", &app.url()))?;
    }
    fs::remove_file(installation.path("directory.toml"))?;
    symlink("v1", installation.path("data"))?;
    symlink("data/directory.toml", installation.path("directory.toml"))?;
    let gateway = installation.serve().await?;
    wait_for(&gateway, "acme", "one").await?;

    symlink("v2", installation.path("data.new"))?;
    fs::rename(installation.path("data.new"), installation.path("data"))?;
    wait_for(&gateway, "acme", "two").await?;
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn sighup_reads_the_directory_and_the_secrets_it_names_again() -> Result<()> {
    let app = App::start("welcome").await?;
    let directory =
        org("acme", &app.url()).replace(r#"kind = "none""#, "kind = \"bearer\"\ntoken = { file = \"bearer\" }");
    let installation = Installation::new(LOCAL, &directory)?;
    installation.write("bearer", "pat-before\n")?;
    let gateway = installation.serve().await?;
    visit(&gateway, "acme").await?;
    // The directory file stays as it is, so nothing but the signal leads to another look.
    installation.write("bearer", "pat-after\n")?;
    let loads = gateway.metric(LOADS).await?;
    gateway.process.signal("HUP")?;
    gateway.wait_for_metric(LOADS, loads + 1.0).await?;
    visit(&gateway, "acme").await?;
    assert_eq!(app.bearers("/"), ["pat-before", "pat-after"]);
    let log = gateway.stop().await?;
    assert!(!log.contains("pat-"), "a principal's token is in the log:\n{log}");
    Ok(())
}

#[tokio::test]
async fn a_file_with_mistakes_is_refused_whole_and_the_one_before_serves() -> Result<()> {
    let app = App::start("welcome").await?;
    let good = org("acme", &app.url());
    let installation = Installation::new(LOCAL, &good)?;
    let mut gateway = installation.serve().await?;

    // Two mistakes, far apart, and an organisation without any.
    let bad = format!(
        "{good}{}[[org]]\nid = \"not an id\"\n[[org]]\nid = \"initech\"\ncolour = 1\n",
        org("globex", &app.url())
    );
    installation.replace("directory.toml", &bad)?;
    let line = gateway.wait_for_log("the directory was refused").await?;
    let line_of = |text: &str| bad.lines().position(|line| line.contains(text)).map_or(0, |at| at + 1);
    for (text, key) in [("not an id", "org[#3].id"), ("colour", "org[initech].colour")] {
        let mistake = format!("directory.toml:{}: {key}:", line_of(text));
        assert!(line.contains(&mistake), "no {mistake:?} in {line}");
    }
    assert!(gateway.metric(REFUSED).await? >= 1.0);
    assert_eq!(visit(&gateway, "acme").await?, (200, "welcome".into()));
    assert_eq!(visit(&gateway, "globex").await?.0, 401, "nothing of a refused file is used");

    // No file at all is no reason to forget either, and a good one ends it.
    fs::remove_file(installation.path("directory.toml"))?;
    gateway.wait_for_metric(REFUSED, 2.0).await?;
    assert_eq!(visit(&gateway, "acme").await?, (200, "welcome".into()));
    installation.replace("directory.toml", &(good + &org("globex", &app.url())))?;
    wait_for(&gateway, "globex", "welcome").await?;
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_became_of_the_directory_shows_in_the_metrics() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = Installation::new(LOCAL, &org("acme", &app.url()))?;
    let gateway = installation.serve().await?;
    assert_eq!(gateway.count("embedgate_directory_organisations").await?, 1);
    assert_eq!(gateway.count(LOADS).await?, 1);
    assert_eq!(gateway.count(REFUSED).await?, 0);

    installation.replace("directory.toml", &(org("acme", &app.url()) + &org("globex", &app.url())))?;
    gateway.wait_for_metric("embedgate_directory_organisations", 2.0).await?;
    assert_eq!(gateway.count(LOADS).await?, 2);

    installation.replace("directory.toml", "[[org]]\n")?;
    gateway.wait_for_metric(REFUSED, 1.0).await?;
    assert_eq!(gateway.count("embedgate_directory_organisations").await?, 2);
    // From now on the directory in use is known to be old, and gets older.
    let before = gateway.metric("embedgate_directory_age_seconds").await?;
    gateway.wait_for_metric("embedgate_directory_age_seconds", before + 6.0).await?;
    gateway.stop().await?;
    Ok(())
}
