//! The commands as an operator and a shell see them: what goes to standard output, what to standard error, and with
//! which exit code each ends.

use crate::harness::PATIENCE;
use crate::harness::ask::{ask, get};
use crate::harness::embedgate::Embedgate;
use crate::harness::installation::{
    Ended, Installation, KEY, LOCAL, Serving, idle_session, linked_session, org, session,
};
use crate::harness::issuer::App;
use crate::harness::process::{Process, Stream};
use crate::harness::tls::Authority;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Another key than [`KEY`].
const OTHER_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee";

/// An installation whose directory names an app that is not there.
fn installation() -> Result<Installation> {
    Installation::new(LOCAL, &org("acme", "http://127.0.0.1:1"))
}

/// Runs a command with `--config embedgate.toml` behind it.
async fn run(installation: &Installation, arguments: &[&str]) -> Result<Ended> {
    installation.run(&[arguments, &["--config", "embedgate.toml"]].concat()).await
}

/// Checks that a command failed with this exit code, said what is wrong on standard error and nothing else anywhere.
fn check_failed(ended: &Ended, code: i32, said: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
    for text in said {
        assert!(ended.stderr.contains(text), "no {text:?} in {ended:?}");
    }
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

/// Waits until a session is worth this status.
async fn wait_for_status(gateway: &Serving, session: &str, status: u16) -> Result<()> {
    gateway.get_until(status, "/app-proxy/studio/", session).await?;
    Ok(())
}

#[tokio::test]
async fn every_command_explains_itself() -> Result<()> {
    let installation = installation()?;
    for command in [
        &[][..],
        &["demo"],
        &["dev"],
        &["serve"],
        &["check"],
        &["key"],
        &["key", "generate"],
        &["token"],
        &["token", "mint"],
        &["token", "inspect"],
        &["healthcheck"],
    ] {
        let ended = installation.run(&[command, &["--help"]].concat()).await?;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{command:?}");
        let usage = ["embedgate", &command.join(" ")].join(" ");
        assert!(ended.stdout.contains(&format!("Usage: {}", usage.trim_end())), "{command:?}: {}", ended.stdout);
    }
    let ended = installation.run(&["--help"]).await?;
    for command in ["demo", "dev", "serve", "check", "key", "token"] {
        assert!(ended.stdout.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {}", ended.stdout);
    }
    let ended = installation.run(&["--version"]).await?;
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("embedgate {}\n", env!("CARGO_PKG_VERSION"))));
    Ok(())
}

#[tokio::test]
async fn wrong_use_is_exit_code_2() -> Result<()> {
    let installation = installation()?;
    for arguments in [
        &[][..],
        &["nonsense"],
        &["serve", "--nonsense"],
        &["serve", "extra"],
        &["key"],
        &["token", "mint", "--org", "acme"],
        &["token", "mint", "--org", "acme", "--user", "u", "--email", "a@b.example", "--ttl", "soon"],
        &["token", "inspect"],
        &["demo", "--listen", "nowhere"],
        &["dev"],
        &["dev", "--upstream", "127.0.0.1:8501"],
        &["dev", "--upstream", "http://user:password@127.0.0.1:8501"],
    ] {
        let ended = installation.run(arguments).await?;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty() && !ended.stderr.contains("panicked"), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.contains("password@"), "a password is repeated: {ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn generated_keys_are_64_hexadecimal_digits_and_never_the_same() -> Result<()> {
    let installation = installation()?;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let ended = installation.run(&["key", "generate"]).await?;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let key = ended.stdout.strip_suffix('\n').context("no line")?.to_owned();
        assert!(key.len() == 64 && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{key}");
        keys.push(key);
    }
    assert_ne!(keys[0], keys[1]);
    // And it is what `serve` takes.
    installation.write("k1", &keys[0])?;
    assert_eq!(run(&installation, &["check"]).await?.code, Some(0));
    Ok(())
}

#[tokio::test]
async fn check_has_nothing_to_say_against_a_good_configuration() -> Result<()> {
    let installation = installation()?;
    let ended = run(&installation, &["check"]).await?;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains("fine"), "{}", ended.stdout);
    let ended = run(&installation, &["check", "--json"]).await?;
    assert_eq!(ended.code, Some(0));
    let report: Value = serde_json::from_str(&ended.stdout)?;
    assert_eq!(report, serde_json::json!({ "ok": true, "mistakes": [] }));
    Ok(())
}

#[tokio::test]
async fn check_reads_every_certificate() -> Result<()> {
    let authority = Authority::new()?;
    authority.issue("one", "DNS:one.example", 2)?;
    authority.issue("two", "DNS:two.example", 2)?;
    authority.issue("torn", "DNS:torn.example", 2)?;
    std::fs::write(authority.path("torn.crt"), "no certificate")?;
    let file = |name: &str| authority.toml(name);
    let pair = |cert: &str, key: &str| format!("{{ cert = {}, key = {} }}", file(cert), file(key));
    let config = |more: &[String], client: &str| {
        let upstreams = format!("client_cert = {}\nclient_key = {}\n", file(client), file("one.key"));
        let tls = format!("[server.tls]\ncert = {}\nkey = {}\n", file("one.crt"), file("one.key"));
        let local = LOCAL.replace("[upstreams]\n", &format!("[upstreams]\n{upstreams}"));
        format!("{local}{tls}certificates = [{}]\n", more.join(", "))
    };
    let installation = installation()?;
    installation.write("embedgate.toml", &config(&[pair("two.crt", "two.key")], "one.crt"))?;
    let ended = run(&installation, &["check"]).await?;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);

    let bad = [pair("two.crt", "one.key"), pair("two.crt", "two.key"), pair("torn.crt", "torn.key")];
    installation.write("embedgate.toml", &config(&bad, "none.crt"))?;
    let ended = run(&installation, &["check"]).await?;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(2), 3), "{ended:?}");
    for (key, files, why) in [
        ("upstreams.client_cert", "none.crt", "No such file"),
        ("server.tls.certificates[#1]", "two.crt with", "KeyMismatch"),
        ("server.tls.certificates[#3]", "torn.crt", "no certificate in PEM form"),
    ] {
        let line = ended.stdout.lines().find(|line| line.contains(&format!(" {key}: "))).context(key)?;
        assert!(line.contains(files) && line.contains(why), "{line}");
    }
    // What does not check does not start either.
    let ended = run(&installation, &["serve"]).await?;
    check_failed(&ended, 2, &["none.crt"]);
    Ok(())
}

#[tokio::test]
async fn check_lists_the_mistakes_of_all_files_at_once_with_their_lines() -> Result<()> {
    let installation = installation()?;
    let config = LOCAL.replace("workers = 2", "workers = \"many\"") + "[limits]\nheader_bites = 1\n";
    let directory = org("acme", "http://127.0.0.1:1") + "[[org]]\nid = \"not an id\"\n";
    installation.write("embedgate.toml", &config)?;
    installation.write("directory.toml", &directory)?;
    installation.write("k1", "no key")?;
    let line = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).map_or(0, |at| at + 1);
    let expected = [
        (format!("embedgate.toml:{}: server.workers:", line(&config, "many")), "server.workers"),
        (format!("embedgate.toml:{}: limits.header_bites:", line(&config, "bites")), "limits.header_bites"),
        ("embedgate.toml: session.keys:".to_owned(), "session.keys"),
        (format!("directory.toml:{}: org[#2].id:", line(&directory, "not an id")), "org[#2].id"),
    ];
    let ended = run(&installation, &["check"]).await?;
    assert_eq!(ended.code, Some(2));
    for (mistake, _) in &expected {
        assert!(ended.stdout.contains(mistake), "no {mistake:?} in:\n{}", ended.stdout);
    }
    assert_eq!(ended.stdout.lines().count(), expected.len(), "one line each:\n{}", ended.stdout);
    assert!(ended.stderr.contains("4 mistakes"), "{}", ended.stderr);

    let ended = run(&installation, &["check", "--json"]).await?;
    assert_eq!(ended.code, Some(2));
    let report: Value = serde_json::from_str(&ended.stdout)?;
    assert_eq!(report["ok"], false);
    let mistakes = report["mistakes"].as_array().context("no list")?;
    assert_eq!(mistakes.len(), expected.len());
    for (text, key) in &expected {
        let mistake = mistakes.iter().find(|mistake| mistake["key"] == *key).with_context(|| format!("no {key}"))?;
        let file = mistake["file"].as_str().context("no file")?;
        assert!(text.starts_with(file), "{mistake}");
        assert!(mistake["line"].as_u64().is_none_or(|line| text.starts_with(&format!("{file}:{line}:"))), "{mistake}");
        assert!(mistake["message"].as_str().is_some_and(|message| !message.is_empty()), "{mistake}");
    }
    Ok(())
}

#[tokio::test]
async fn a_mistake_in_what_the_directory_depends_on_brings_no_others() -> Result<()> {
    // With the domains unknown, every URL of the directory would look forbidden.
    let installation = installation()?;
    installation.write("embedgate.toml", &LOCAL.replace(r#"["127.0.0.1"]"#, r#"["https://127.0.0.1"]"#))?;
    let ended = run(&installation, &["check"]).await?;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(2), 1), "{}", ended.stdout);
    assert!(ended.stdout.contains("upstreams.allowed_domains"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test]
async fn a_minted_token_stands_alone_on_standard_output_and_opens_the_app() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = Installation::new(LOCAL, &org("acme", &app.url()))?;
    let gateway = installation.serve().await?;
    let mint = ["token", "mint", "--org", "acme", "--user", "u-ann", "--email", "Ann@Example.com"];
    let ended = run(&installation, &[&mint[..], &["--ttl", "15m"]].concat()).await?;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let token = ended.stdout.strip_suffix('\n').context("no line")?;
    assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?}");
    let answer = gateway.get("/app-proxy/studio/", token).await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "welcome"));

    let ended = run(&installation, &["token", "inspect", token]).await?;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ended.stdout)?;
    for (key, value) in [
        ("valid", Value::from(true)),
        ("org", "acme".into()),
        ("user", "u-ann".into()),
        ("email", "ann@example.com".into()),
        ("app", Value::Null),
    ] {
        assert_eq!(report[key], value, "{report}");
    }
    let (issued, expires) = (report["issued"].as_u64(), report["expires"].as_u64());
    assert_eq!(expires.zip(issued).map(|(end, begin)| end - begin), Some(15 * 60), "{report}");

    // A token for one app opens no other; and what is no id is no organisation.
    let ended = run(&installation, &[&mint[..], &["--app", "other"]].concat()).await?;
    assert_eq!(gateway.get("/app-proxy/studio/", ended.stdout.trim()).await?.status, 403);
    let wrong = ["token", "mint", "--org", "a b", "--user", "u", "--email", "a@b.example"];
    check_failed(&run(&installation, &wrong).await?, 2, &["must be ids"]);
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_token_that_would_be_refused_is_exit_code_1() -> Result<()> {
    let installation = installation()?;
    let expired = session(KEY, "acme", None, 7200)?;
    let ended = run(&installation, &["token", "inspect", &expired]).await?;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("expired"), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout)?;
    assert_eq!((&report["valid"], &report["org"]), (&Value::from(false), &Value::from("acme")));

    assert_eq!(report["idle"], Value::Null);

    let idle = idle_session(KEY, "acme", 60)?;
    let ended = run(&installation, &["token", "inspect", &idle]).await?;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("idle for too long"), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout)?;
    let (idle, issued) = (report["idle"].as_u64(), report["issued"].as_u64());
    assert_eq!(idle.zip(issued).map(|(end, begin)| end - begin), Some(60), "{report}");

    let forged = session(OTHER_KEY, "acme", None, 0)?;
    check_failed(&run(&installation, &["token", "inspect", &forged]).await?, 1, &["does not open", "bad tag"]);
    check_failed(&run(&installation, &["token", "inspect", "nonsense"]).await?, 1, &["malformed token"]);
    Ok(())
}

#[tokio::test]
async fn serve_says_what_is_wrong_with_its_files() -> Result<()> {
    let installation = installation()?;
    check_failed(&installation.run(&["serve", "--config", "none.toml"]).await?, 2, &["none.toml", "No such file"]);
    // Without --config it looks where the manual says.
    check_failed(&installation.run(&["serve"]).await?, 2, &["config/embedgate.toml"]);

    installation.write("embedgate.toml", &LOCAL.replace("workers = 2", "workers = -1\nwokers = 2"))?;
    check_failed(&run(&installation, &["serve"]).await?, 2, &["embedgate.toml:4: server.workers", ":5: server.wokers"]);
    installation.write("embedgate.toml", "[server\n")?;
    check_failed(&run(&installation, &["serve"]).await?, 2, &["embedgate.toml:1:"]);
    installation.write("embedgate.toml", LOCAL)?;

    for (key, said) in [("", "64"), ("00", "64"), (&*"zz".repeat(32), "64")] {
        installation.write("k1", key)?;
        let ended = run(&installation, &["serve"]).await?;
        check_failed(&ended, 2, &["session key \"k1\"", said]);
        assert!(key.len() < 64 || !ended.stderr.contains(key), "the key is repeated: {ended:?}");
    }
    std::fs::remove_file(installation.path("k1"))?;
    check_failed(&run(&installation, &["serve"]).await?, 2, &["session key \"k1\"", "k1: No such file"]);
    installation.write("k1", KEY)?;

    installation.write("directory.toml", "[[org]]\nid = \"a b\"\n[[org]]\nid = \"c d\"\n")?;
    check_failed(&run(&installation, &["serve"]).await?, 2, &["directory.toml:2:", "directory.toml:4:"]);
    std::fs::remove_file(installation.path("directory.toml"))?;
    check_failed(&run(&installation, &["serve"]).await?, 2, &["directory.toml", "No such file"]);
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_key() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for (variable, key) in
        [("EMBEDGATE__SERVER__LISTEN", "server.listen"), ("EMBEDGATE__ADMIN__LISTEN", "admin.listen")]
    {
        let mut installation = installation()?;
        installation.set(variable, &address);
        let ended = run(&installation, &["serve"]).await?;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(&format!("cannot listen on {address} ({key})")), "{ended:?}");
    }
    let ended = installation()?.run(&["demo", "--listen", &address]).await?;
    check_failed(&ended, 1, &["cannot listen on", &address, "--listen"]);
    Ok(())
}

#[tokio::test]
async fn two_demos_do_not_share_a_port() -> Result<()> {
    let mut first = Embedgate::start(&["demo", "--listen", "127.0.0.1:0"])?;
    let link = first.link().await?;
    let port = link.split("localhost:").nth(1).and_then(|rest| rest.split('/').next()).context("no port")?;
    // Each has keys of its own: requests that met the other one would be refused by chance.
    let address = format!("127.0.0.1:{port}");
    for command in [&["demo"][..], &["dev", "--upstream", "http://127.0.0.1:1"]] {
        let ended = installation()?.run(&[command, &["--listen", &address]].concat()).await?;
        check_failed(&ended, 1, &["cannot listen on", &address]);
    }
    first.stop().await
}

#[tokio::test]
async fn keys_rotate_without_a_restart() -> Result<()> {
    let app = App::start("welcome").await?;
    let config = LOCAL.replace(
        r#"keys = [{ id = "k1", file = "k1" }]"#,
        r#"keys = [{ id = "k2", file = "new" }, { id = "k1", file = "old" }]"#,
    );
    let installation = Installation::new(&config, &org("acme", &app.url()))?;
    installation.write("old", KEY)?;
    installation.write("new", OTHER_KEY)?;
    let mut gateway = installation.serve().await?;
    let old = session(KEY, "acme", None, 0)?;
    let mint = ["token", "mint", "--org", "acme", "--user", "u", "--email", "a@b.example"];
    let new = run(&installation, &mint).await?.stdout.trim().to_owned();
    assert!(new.starts_with("~1.k2."), "the first key seals: {new}");
    for token in [&old, &new] {
        wait_for_status(&gateway, token, 200).await?;
    }

    // A file that holds no key changes nothing.
    installation.replace("old", "oops")?;
    gateway.process.signal("HUP")?;
    gateway.wait_for_log("session keys cannot be read").await?;
    for token in [&old, &new] {
        wait_for_status(&gateway, token, 200).await?;
    }

    // Another key in the old one's place: what that had sealed opens no more, and nobody else is troubled.
    installation.replace("old", "99".repeat(32).as_str())?;
    wait_for_status(&gateway, &old, 401).await?;
    wait_for_status(&gateway, &new, 200).await?;
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_session_in_an_address_is_revoked_by_its_token() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation =
        Installation::new(&format!("{LOCAL}[embedding]\ncookieless = true\n"), &org("acme", &app.url()))?;
    let gateway = installation.serve().await?;
    let token = linked_session(KEY, "acme", "studio")?;
    let path = format!("/.embedgate/t/{token}/app-proxy/studio/");
    ensure!(gateway.get(&path, "").await?.status == 200);
    let ended = run(&installation, &["session", "revoke", "--session", &token]).await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    gateway.get_until(401, &path, "").await?;
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn sessions_are_revoked_by_a_line_in_the_directory_file() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = Installation::new(LOCAL, &format!("# kept\n{}", org("acme", &app.url())))?;
    let gateway = installation.serve().await?;
    let old = |age| session(KEY, "acme", None, age);
    let (one, two, three) = (old(0)?, old(10)?, old(20)?);
    for (arguments, gone, left) in [
        (["--session", &one], vec![&one], vec![&two, &three]),
        (["--user", "u-ann"], vec![&one, &two, &three], vec![]),
        (["--org", "acme"], vec![&one, &two, &three], vec![]),
    ] {
        let ended = run(&installation, &[&["session", "revoke"][..], &arguments].concat()).await?;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for token in gone {
            wait_for_status(&gateway, token, 401).await?;
        }
        for token in left {
            assert_eq!(gateway.get("/app-proxy/studio/", token).await?.status, 200);
        }
    }
    let text = std::fs::read_to_string(installation.path("directory.toml"))?;
    assert!(text.starts_with("# kept\n") && text.matches("[[revocation]]").count() == 3, "{text}");
    gateway.stop().await?;

    for (arguments, said) in [
        (vec![], "<--org <ORG>|--user <USER>|--session <SESSION>>"),
        (vec!["--org", "acme", "--user", "u"], "cannot be used with"),
        (vec!["--org", "a b"], "--org: an id is"),
        (vec!["--user", "a b"], "--user: 1 to 255"),
        (vec!["--session", "12"], "--session: write a token, or the 32 hexadecimal digits"),
        (vec!["--session", "~1.k1.x"], "--session: the token does not open"),
    ] {
        let ended = run(&installation, &[vec!["session", "revoke"], arguments].concat()).await?;
        check_failed(&ended, 2, &[said]);
    }
    Ok(())
}

#[tokio::test]
async fn variables_override_the_file() -> Result<()> {
    let app = App::start("welcome").await?;
    let mut installation = Installation::new(LOCAL, "")?;
    installation.write("elsewhere.toml", &org("acme", &app.url()))?;
    installation.set("EMBEDGATE__DIRECTORY__PATH", "elsewhere.toml");
    installation.set("EMBEDGATE__SESSION__KEYS", r#"[{ id = "k1", env = "KEY_FROM_ENV" }]"#);
    installation.set("KEY_FROM_ENV", OTHER_KEY);
    installation.set("EMBEDGATE__LOG__ACCESS", "false");
    installation.set("EMBEDGATE_CONFIG", "embedgate.toml");
    let gateway = installation.serve().await?;
    assert_eq!(gateway.get("/app-proxy/studio/", &session(OTHER_KEY, "acme", None, 0)?).await?.status, 200);
    assert_eq!(gateway.get("/app-proxy/studio/", &session(KEY, "acme", None, 0)?).await?.status, 401);
    let log = gateway.stop().await?;
    assert!(!log.contains("/app-proxy/studio/"), "log.access was overridden:\n{log}");
    // The file may be named by a variable as well.
    assert_eq!(installation.run(&["check"]).await?.code, Some(0));

    installation.set("EMBEDGATE__SERVER__WORKERS", "many");
    installation.set("EMBEDGATE__SEVER__WORKERS", "1");
    let ended = installation.run(&["serve"]).await?;
    check_failed(&ended, 2, &["EMBEDGATE__SERVER__WORKERS", "EMBEDGATE__SEVER__WORKERS"]);
    Ok(())
}

#[tokio::test]
async fn healthcheck_tells_by_its_exit_code() -> Result<()> {
    let app = App::start("welcome").await?;
    // The check finds the gateway by the configuration, so the port has to be known to both.
    let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut installation = Installation::new(LOCAL, &org("acme", &app.url()))?;
    installation.set("EMBEDGATE__ADMIN__LISTEN", &admin.to_string());
    check_failed(&run(&installation, &["healthcheck"]).await?, 1, &["no answer from", &admin.to_string()]);
    let gateway = installation.serve().await?;
    let ended = run(&installation, &["healthcheck"]).await?;
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
    // One that listens everywhere is asked on loopback.
    installation.set("EMBEDGATE__ADMIN__LISTEN", &format!("0.0.0.0:{}", admin.port()));
    assert_eq!(run(&installation, &["healthcheck"]).await?.code, Some(0));
    gateway.stop().await?;
    check_failed(&run(&installation, &["healthcheck"]).await?, 1, &["no answer from"]);
    check_failed(&installation.run(&["healthcheck", "--config", "none.toml"]).await?, 2, &["none.toml"]);
    Ok(())
}

#[tokio::test]
async fn the_configuration_that_comes_along_passes_the_check() -> Result<()> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/embedgate.toml");
    let config = config.to_str().context("a path that is no text")?;
    let mut installation = installation()?;
    installation.set("EMBEDGATE_SESSION_KEY", KEY);
    installation.set("ACME_SECRET", "dose-example");
    // Its list of domains is empty on purpose; what its directory needs is written there.
    let domains = r#"["cloud.databricks.com", "aws.databricksapps.com"]"#;
    installation.set("EMBEDGATE__UPSTREAMS__ALLOWED_DOMAINS", domains);
    let ended = installation.run(&["check", "--config", config]).await?;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    assert!(ended.stdout.contains("fine, 1 organisation\n"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test]
async fn the_demo_prints_links_and_commands_that_work_and_stops_when_told() -> Result<()> {
    let mut demo = Embedgate::start(&["demo", "--listen", "127.0.0.1:0"])?;
    let link = demo.link().await?;
    let sql = demo.wait_for_stdout("  sql  ").await?;
    let admin = demo.wait_for_stdout("  admin  ").await?;
    demo.wait_for_stdout("Ctrl-C ends it").await?;

    // The link: every name below localhost is this machine.
    let (host, path) = link.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("no link")?;
    let port = host.rsplit(':').next().context("no port")?;
    let data: SocketAddr = format!("127.0.0.1:{port}").parse()?;
    let mut request = get(&format!("/{path}"), "");
    request.headers_mut().insert("host", host.parse()?);
    let answer = ask(data, request).await?;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next()).context("no cookie")?;
    let mut request = get("/api/me", "");
    request.headers_mut().insert("host", host.parse()?);
    request.headers_mut().insert("cookie", cookie.parse()?);
    let answer = ask(data, request).await?;
    assert_eq!(answer.status, 200);
    let me: Value = serde_json::from_str(&answer.body)?;
    assert_eq!((&me["email"], &me["session_cookie_seen"]), (&"ada@acme.example".into(), &false.into()), "{me}");

    let command = sql.split_once("curl").map(|(_, rest)| format!("curl{rest}")).context("no curl line")?;
    let ran = Command::new("sh").args(["-c", &command]).output()?;
    let answer: Value = serde_json::from_slice(&ran.stdout).with_context(|| format!("{ran:?}"))?;
    assert_eq!(answer["status"]["state"], "SUCCEEDED", "{answer}");

    let address = admin.split("http://").nth(1).and_then(|rest| rest.split('/').next()).context("no address")?;
    assert!(ask(address.parse()?, get("/metrics", "")).await?.body.contains("embedgate_build_info"));
    demo.stop().await
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() -> Result<()> {
    let mut installation = installation()?;
    // Without the second one this test would wait longer than its patience.
    installation.set("EMBEDGATE__SERVER__DRAIN_DELAY", "1h");
    let mut gateway = installation.serve().await?;
    gateway.process.signal("TERM")?;
    gateway.wait_for_log("draining").await?;
    gateway.process.check_running()?;
    gateway.process.signal("TERM")?;
    let status = gateway.process.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_stop_requests() -> Result<()> {
    let app = App::start("welcome").await?;
    let installation = Installation::new(LOCAL, &org("acme", &app.url()))?;
    let session = session(KEY, "acme", None, 0)?;
    let mut command = installation.command(&["serve", "--config", "embedgate.toml"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn()?);
    let mut log = BufReader::new(child.0.stderr.take().context("no stderr")?);
    let (data, admin) = loop {
        let mut line = String::new();
        ensure!(log.read_line(&mut line)? > 0, "it ended without a word");
        let line: Value = serde_json::from_str(&line)?;
        if line["message"] == "serving" {
            let address = |key: &str| anyhow::Ok(line[key].as_str().context("no address")?.parse::<SocketAddr>()?);
            break (address("listen")?, address("admin")?);
        }
    };
    // From here on nobody reads. Long lines fill the pipe and the queue before it.
    let path = format!("/app-proxy/studio/{}", "x".repeat(20_000));
    let dropped = async || {
        let metrics = ask(admin, get("/metrics", "")).await?.body;
        let value = metrics.lines().find_map(|line| line.strip_prefix("embedgate_log_lines_dropped_total "));
        anyhow::Ok(value.context("no metric")?.parse::<f64>()?)
    };
    let mut requests = 0;
    while dropped().await? == 0.0 {
        for _ in 0..200 {
            assert_eq!(ask(data, get(&path, &session)).await?.status, 200);
        }
        requests += 200;
        ensure!(requests <= 20_000, "nothing was ever dropped");
    }
    // Then the reader goes away altogether.
    drop(log);
    drop(child.0.stdout.take());
    for _ in 0..50 {
        assert_eq!(ask(data, get(&path, &session)).await?.status, 200);
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child.0), rustix::process::Signal::TERM)?;
    let ended = crate::harness::until(PATIENCE, async || Ok(child.0.try_wait()?)).await?;
    assert_eq!(ended.context("it does not end")?.code(), Some(0));
    Ok(())
}

/// A child that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_result_that_nobody_reads_is_no_crash() -> Result<()> {
    let installation = installation()?;
    for arguments in [&["key", "generate"][..], &["check", "--config", "embedgate.toml"]] {
        let mut command = installation.command(arguments);
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let mut child = Killed(command.spawn()?);
        let mut said = String::new();
        child.0.stderr.take().context("no stderr")?.read_to_string(&mut said)?;
        let status = child.0.wait()?;
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert!(matches!(status.code(), Some(0 | 1)), "{arguments:?}: {status}");
    }
    Ok(())
}

#[tokio::test]
async fn dev_prints_what_works_and_stops_when_told() -> Result<()> {
    let app = App::start("welcome").await?;
    let mut dev = Embedgate::dev(&app.url())?;
    dev.link().await?;
    let curl = dev.wait_for_stdout("  curl  ").await?;
    let command = curl.split_once("curl  ").map(|(_, rest)| rest.trim().to_owned()).context("no curl line")?;
    // On a thread: the app it asks for lives on this one.
    let ran = tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &command]).output()).await??;
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "welcome", "{ran:?}");
    dev.stop().await
}

#[tokio::test]
async fn one_sigterm_ends_an_idle_gateway_with_0_and_a_last_word() -> Result<()> {
    let gateway = installation()?.serve().await?;
    let log = gateway.stop().await?;
    assert!(log.contains(r#""message":"stopped""#), "{log}");
    let mut process = Process::spawn("embedgate", installation()?.command(&["demo", "--listen", "127.0.0.1:0"]))?;
    let links = |line: &str| line.contains("Ctrl-C").then_some(());
    process.wait_for_line(Stream::Stdout, "last line", PATIENCE, links).await?;
    process.signal("INT")?;
    assert_eq!(process.wait(Duration::from_secs(20)).await?.code(), Some(0));
    Ok(())
}
