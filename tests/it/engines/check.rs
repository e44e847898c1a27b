//! What `embedgate check` says of engines.

use crate::harness::installation::{Installation, LOCAL, org};
use anyhow::{Result, ensure};

#[tokio::test]
async fn an_engine_whose_host_an_app_has_is_told_of() -> Result<()> {
    let engine = "[[org.engine]]\nid = 'studio'\nurl = 'http://127.0.0.1:1/sql'\n";
    let directory = org("acme", "http://127.0.0.1:1") + engine;
    let by_path = Installation::new(LOCAL, &directory)?;
    let ended = by_path.run(&["check", "--config", "embedgate.toml"]).await?;
    ensure!(ended.code == Some(0), "there are no hosts to share: {ended:?}");
    let by_host = Installation::new(&format!("{LOCAL}[routing]\nbase_domain = 'apps.localhost'\n"), &directory)?;
    let ended = by_host.run(&["check", "--config", "embedgate.toml"]).await?;
    let said = "org[acme].engine[studio].id: an app has the same id, and the host studio--acme.apps.localhost";
    ensure!(ended.code == Some(2) && ended.stdout.contains(said), "{ended:?}");
    Ok(())
}
