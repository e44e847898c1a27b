//! What instances tell one another of clusters: drains that end when all is over everywhere, and states that are changed
//! for all. Two gateways over one Postgres.

use super::access::{Fleet, socket};
use super::{Gateway, Setup, organisation};
use crate::harness::embedgate::{Embedgate, Ended};
use crate::harness::raw::{End, Message, Upstream, Wire, ok};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// Told often, so that tests are fast, and forgotten late, because they run on slow machines.
const FAST: &str = "[fleet]\ninterval = '200ms'\ndrain_interval = '50ms'\n";

const EDITOR: [&str; 4] = ["--org", "acme", "--upstream", "editor"];

/// The organisation `acme`, whose app has these clusters, each with its state and its node.
fn directory(clusters: &[(&str, &str, &Upstream)]) -> String {
    let cluster = |(id, state, node): &(&str, &str, &Upstream)| {
        format!("[[org.app.cluster]]\nid = '{id}'\nstate = '{state}'\nnodes = ['http://{}']\n", node.address())
    };
    let clusters: String = clusters.iter().map(cluster).collect();
    organisation("acme", "http://127.0.0.1:1").replace("[[org.warehouse]]", &format!("{clusters}[[org.warehouse]]"))
}

impl Fleet {
    /// Runs `embedgate upstream …` for the app.
    fn upstream(&self, command: &str, more: &[&str]) -> Result<Ended> {
        self.setup.run(&[&["upstream", command], &EDITOR[..], more].concat(), "")
    }

    /// Starts it.
    fn begin(&self, command: &str, more: &[&str]) -> Result<Embedgate> {
        let config = self.setup.path("embedgate.toml");
        Embedgate::start(&[&["upstream", command], &EDITOR[..], more, &["--config", &config]].concat())
    }
}

/// What the admin API of an instance answers.
async fn api(gateway: &Gateway, method: &str, path: &str, fields: &str, body: &str) -> Result<(u16, Value)> {
    let mut wire = Wire::connect(gateway.admin).await?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    wire.send(head).await?;
    let answer: Message = wire.answer().await?;
    let body = serde_json::from_slice(&answer.body).with_context(|| format!("{answer:?}"))?;
    Ok((answer.status(), body))
}

/// A change by the admin API.
async fn post(gateway: &Gateway, path: &str, body: &Value) -> Result<(u16, Value)> {
    api(gateway, "POST", path, "Content-Type: application/json\r\n", &body.to_string()).await
}

/// A download from an app through a gateway that has begun and goes on.
async fn download(gateway: &Gateway, upstream: &Upstream, token: &str) -> Result<(Wire, Wire)> {
    let mut client = Wire::connect(gateway.data).await?;
    let head = "GET /app-proxy/editor/file HTTP/1.1\r\nHost: localhost";
    client.send(format!("{head}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
    let mut app = upstream.accept().await?;
    app.request().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await?;
    ensure!(client.head().await?.status() == 200);
    Ok((client, app))
}

/// Asks each instance until the app answers there as expected.
async fn until_all(fleet: &Fleet, token: &str, expected: impl Fn(u16, &str) -> bool + Copy) -> Result<()> {
    for gateway in [&fleet.one, &fleet.two] {
        gateway.until_app("editor", token, expected).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_over_when_all_is_over_on_all_instances() -> Result<()> {
    let (blue, green) = (Upstream::start()?, Upstream::start()?);
    let directory = directory(&[("blue", "running", &blue), ("green", "stopped", &green)]);
    let fleet = Fleet::start(&directory, FAST).await?;
    let token = fleet.setup.token("acme")?;
    let (mut socket_client, mut socket_app) = socket(&fleet.one, &blue, &token).await?;
    let (mut client, mut app) = download(&fleet.two, &blue, &token).await?;
    let green = green.answering(|_| ok("green"));

    let refused = fleet.upstream("drain", &["--cluster", "blue"])?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("the last one that runs"), "{refused:?}");
    let switched = fleet.upstream("switch", &["--to", "green"])?;
    ensure!(switched.code == Some(0), "{switched:?}");
    let late = fleet.upstream("drain", &["--cluster", "blue", "--wait", "--timeout", "1s"])?;
    ensure!(late.code == Some(1) && late.stderr.contains("is not empty after 1s"), "{late:?}");
    ensure!(late.stdout.contains("was already draining"), "{late:?}");

    let mut drain = fleet.begin("drain", &["--cluster", "blue", "--wait"])?;
    drain.wait_for_stdout("2 under way on 2 instances").await?;
    until_all(&fleet, &token, |status, body| (status, body) == (200, "green")).await?;
    app.send("world").await?;
    ensure!(client.exactly(10).await? == b"helloworld");
    drain.wait_for_stdout("1 under way on 2 instances").await?;
    socket_client.send("still there").await?;
    ensure!(socket_app.exactly(11).await? == b"still there");
    socket_client.end(End::Closed)?;
    socket_app.expect_end().await?;
    drain.wait_for_stdout("is empty: 0 under way on 2 instances").await?;
    drain.ended(0).await?;

    let shown = fleet.upstream("show", &["--json"])?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    ensure!(shown["clusters"][0]["drained"] == json!(true), "{shown:#}");
    ensure!(shown["clusters"][0]["instances"].as_array().is_some_and(|all| all.len() == 2), "{shown:#}");
    ensure!(!green.seen().is_empty());
    blue.expect_untouched()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_killed_is_not_waited_for_and_one_that_leaves_says_so() -> Result<()> {
    let (blue, green) = (Upstream::start()?, Upstream::start()?);
    let directory = directory(&[("blue", "running", &blue), ("green", "running", &green)]);
    let fleet = Fleet::start(&directory, &format!("{FAST}expiry = '3s'\n")).await?;
    let token = fleet.setup.token("acme")?;
    ensure!(fleet.upstream("state", &["--cluster", "green", "stopped"])?.code == Some(0));
    let metric = "embedgate_fleet_instances";
    fleet.one.until_metric(metric, |instances| instances == 2).await?;
    let third = fleet.setup.ready().await?;
    fleet.one.until_metric(metric, |instances| instances == 3).await?;
    third.process.stop().await?;
    let rows = fleet.postgres.number("select count(*) from embedgate.instance").await?;
    ensure!(rows == 2, "the one that left took itself off: {rows}");
    fleet.one.until_metric(metric, |instances| instances == 2).await?;

    let has_seen = until(PATIENCE, async || {
        let (_, answer) = api(&fleet.two, "GET", "/upstreams/acme/app/editor", "", "").await?;
        Ok((answer["clusters"][1]["state"] == json!("stopped")).then_some(()))
    });
    has_seen.await?.context("the state does not reach it")?;
    let (_client, _app) = socket(&fleet.two, &blue, &token).await?;
    let mut drain = fleet.begin("drain", &["--cluster", "blue", "--wait", "--force"])?;
    drain.wait_for_stdout("1 under way on 2 instances").await?;
    fleet.two.process.signal("KILL")?;
    drain.wait_for_stdout("is empty: 0 under way on 1 instance").await?;
    drain.ended(0).await?;
    fleet.one.until_metric(metric, |instances| instances == 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_changed_by_the_admin_api_of_any_instance() -> Result<()> {
    let (blue, green) = (Upstream::start()?, Upstream::start()?);
    let directory = directory(&[("blue", "running", &blue), ("green", "stopped", &green)]);
    let fleet = Fleet::start(&directory, FAST).await?;
    let token = fleet.setup.token("acme")?;
    let (_blue, _green) = (blue.answering(|_| ok("blue")), green.answering(|_| ok("green")));
    until_all(&fleet, &token, |_, body| body == "blue").await?;
    let app = "/upstreams/acme/app/editor";
    let state = |cluster: &str| format!("{app}/clusters/{cluster}/state");

    let (status, answer) = post(&fleet.one, &state("blue"), &json!({ "state": "draining" })).await?;
    ensure!(status == 409 && answer["detail"].as_str().is_some_and(|text| text.contains("last")), "{status} {answer}");
    let (status, answer) = post(&fleet.two, &format!("{app}/switch"), &json!({ "to": "green" })).await?;
    ensure!(status == 200 && answer["changed"] == json!(true), "{status} {answer}");
    until_all(&fleet, &token, |_, body| body == "green").await?;
    let drained = until(PATIENCE, async || {
        let (_, answer) = api(&fleet.one, "GET", app, "", "").await?;
        let is_drained = answer["clusters"][0]["drained"] == json!(true);
        Ok((is_drained && answer["clusters"][0]["in_flight"] == json!(0)).then_some(answer))
    });
    let answer = drained.await?.context("it is not drained")?;
    ensure!(answer["fleet"]["instances"].as_array().is_some_and(|all| all.len() == 2), "{answer:#}");
    ensure!(answer["reason"].is_null(), "{answer:#}");

    let (status, _) = post(&fleet.one, &state("green"), &json!({ "state": "stopped", "force": true })).await?;
    ensure!(status == 200);
    until_all(&fleet, &token, |status, _| status == 503).await?;
    let (_, answer) = api(&fleet.two, "GET", "/upstreams?troubled=true", "", "").await?;
    let reason = "no cluster of the upstream is running";
    ensure!(answer["upstreams"][0]["reason"] == json!(reason) && answer["next"].is_null(), "{answer:#}");
    let log = fleet.two.process.output();
    ensure!(log.matches("an upstream cannot be used").count() == 1, "{log}");

    let list = fleet.setup.must(&["upstream", "list", "--org", "acme"])?;
    ensure!(list.contains("acme  app  editor  blue draining, green stopped  (nobody can use it: no cluster"), "{list}");
    ensure!(list.contains("acme  warehouse  w  default running"), "{list}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_said_clearly() -> Result<()> {
    let blue = Upstream::start()?;
    let shadow =
        "[[org.app.cluster]]\nid = 'dark'\nstate = 'running'\nrole = 'shadow'\nnodes = ['http://127.0.0.1:2']\n";
    let directory = directory(&[("blue", "running", &blue)]);
    let directory = directory.replace("[[org.warehouse]]", &format!("{shadow}[[org.warehouse]]"));
    let fleet = Fleet::start(&(directory + "[[org.warehouse]]\nid = 'editor'\n"), FAST).await?;
    let setup = &fleet.setup;
    for (arguments, code, said) in [
        (&["--org", "other", "--upstream", "editor", "--kind", "app", "--cluster", "blue"][..], 2, "organisation"),
        (&["--org", "acme", "--upstream", "nothing", "--cluster", "blue"], 2, "upstream"),
        (&["--org", "acme", "--upstream", "editor", "--kind", "app", "--cluster", "red"], 2, "no cluster red"),
        (
            &["--org", "acme", "--upstream", "editor", "--kind", "warehouse", "--cluster", "default"],
            2,
            "names no clusters",
        ),
        (&["--org", "acme", "--upstream", "editor", "--cluster", "blue"], 2, "--kind (app, warehouse)"),
        (&["--org", "Acme!", "--upstream", "editor", "--cluster", "blue"], 2, "--org"),
        (&["--org", "acme", "--upstream", "editor", "--kind", "app", "--cluster", "blue"], 1, "add --force"),
    ] {
        let ended = setup.run(&[&["upstream", "drain"], arguments].concat(), "")?;
        ensure!(ended.code == Some(code) && ended.stderr.contains(said), "{arguments:?}: {ended:?}");
    }
    let shadow = fleet.upstream("switch", &["--to", "dark", "--kind", "app"])?;
    ensure!(shadow.code == Some(1) && shadow.stderr.contains("is a shadow"), "{shadow:?}");

    let app = "/upstreams/acme/app/editor";
    let state = &format!("{app}/clusters/blue/state");
    let json = "Content-Type: application/json\r\n";
    let large = format!("{{\"state\": \"{}\"}}", "x".repeat(5000));
    for (method, path, fields, body, expected) in [
        ("POST", state.as_str(), json, "{\"state\": \"asleep\"}", 422),
        ("POST", state, json, "{\"state\": \"running\", \"more\": 1}", 422),
        ("POST", state, json, "{\"state\": \"stopped\", \"force\": 1}", 422),
        ("POST", state, json, "nonsense", 400),
        ("POST", state, json, &large, 413),
        ("POST", state, "", "{\"state\": \"running\"}", 415),
        ("POST", state, "Content-Type: application/json\r\nOrigin: http://localhost\r\n", "{}", 403),
        ("POST", "/upstreams/acme/app/editor/clusters/red/state", json, "{\"state\": \"running\"}", 404),
        ("POST", "/upstreams/acme/lake/editor/clusters/blue/state", json, "{\"state\": \"running\"}", 404),
        ("POST", "/upstreams/../app/editor/clusters/blue/state", json, "{\"state\": \"running\"}", 404),
        ("POST", "/upstreams/acme/app/editor/switch", json, "{\"to\": \"dark\"}", 409),
        ("GET", state, "", "", 405),
        ("DELETE", app, "", "", 405),
        ("GET", "/upstreams/acme/app/nothing", "", "", 404),
        ("GET", "/upstreams/other/app/editor", "", "", 404),
        ("GET", "/upstreams?limit=0", "", "", 400),
        ("GET", "/upstreams?color=red", "", "", 400),
        ("GET", "/upstreams?org=other", "", "", 404),
    ] {
        let (status, answer) = api(&fleet.one, method, path, fields, body).await?;
        ensure!(status == expected && answer["detail"].is_string(), "{method} {path} {body}: {status} {answer}");
    }
    let mut places = Vec::new();
    let mut path = "/upstreams?limit=1".to_owned();
    loop {
        let (_, page) = api(&fleet.one, "GET", &path, "", "").await?;
        places.extend(
            page["upstreams"].as_array().context("no list")?.iter().map(|one| (one["kind"].clone(), one["id"].clone())),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/upstreams?limit=1&after={next}");
    }
    let expected = [("app", "editor"), ("warehouse", "editor"), ("warehouse", "w")];
    ensure!(places == expected.map(|(kind, id)| (json!(kind), json!(id))), "{places:?}");
    let unchanged = fleet.postgres.number("select count(*) from embedgate.cluster where state = 'running'").await?;
    ensure!(unchanged == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_word_on_what_is_missing_is_the_databases() -> Result<()> {
    let blue = Upstream::start()?;
    let address = format!("http://{}", blue.address());
    let fleet = Fleet::start(&organisation("acme", &address), "").await?;
    let _blue = blue.answering(|_| ok("new"));
    let (token, stranger) = (fleet.setup.token("acme")?, "nonsense");
    // As if the notice were lost: no trigger tells of it.
    let quietly = "set session_replication_role = replica;";
    let insert = "insert into embedgate.app (org, id, workspace, url)";
    fleet.postgres.sql(&format!("{quietly} {insert} values ('acme', 'fresh', 'main', '{address}')")).await?;
    let misses = |result: &str| format!("embedgate_directory_misses_total{{result=\"{result}\"}}");
    fleet.one.until_app("fresh", stranger, |status, _| status == 401).await?;
    for result in ["found", "absent", "unasked"] {
        ensure!(fleet.one.metric(&misses(result)).await? == 0, "a stranger makes no read");
    }
    fleet.one.expect_app("fresh", &token, "new").await?;
    ensure!(fleet.one.metric(&misses("found")).await? == 1);
    // It was read a moment ago, so that it is not read again.
    let (status, _) = crate::harness::http::get(fleet.one.data, "/app-proxy/nothing/", Some(&token)).await?;
    ensure!(status == 404 && fleet.one.metric(&misses("unasked")).await? == 1);

    // An organisation that nobody has told of, and one that there is not.
    let of_other = fleet.setup.token("other")?;
    let copies = "insert into embedgate.organisation (id, name) values ('other', 'Other');
        insert into embedgate.workspace (org, id, url) values ('other', 'main', 'http://127.0.0.1:1');
        insert into embedgate.principal (org, id, workspace, kind) values ('other', 'spn', 'main', 'none');";
    fleet.postgres.sql(&format!("{quietly} {copies} {insert} values ('other', 'fresh', 'main', '{address}')")).await?;
    fleet.two.expect_app("fresh", &of_other, "new").await?;
    let nobody = fleet.setup.token("nobody")?;
    let (status, _) = crate::harness::http::get(fleet.two.data, "/app-proxy/fresh/", Some(&nobody)).await?;
    ensure!(status == 401 && fleet.two.metric(&misses("absent")).await? == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_used_harm_their_upstream_alone() -> Result<()> {
    let blue = Upstream::start()?;
    let address = format!("http://{}", blue.address());
    let fleet = Fleet::start(&organisation("acme", &address), FAST).await?;
    let _blue = blue.answering(|_| ok("blue"));
    let token = fleet.setup.token("acme")?;
    let app = |id: &str, url: &str| {
        format!("insert into embedgate.app (org, id, workspace, url) values ('acme', '{id}', 'main', '{url}');")
    };
    let cluster = |app: &str, id: &str, state: &str| {
        format!(
            "insert into embedgate.cluster (org, kind, upstream, id, state) values ('acme', 'app', '{app}', '{id}', '{state}');"
        )
    };
    let node = |app: &str, id: &str, url: &str| {
        format!(
            "insert into embedgate.node (org, kind, upstream, cluster, url) values ('acme', 'app', '{app}', '{id}', '{url}');"
        )
    };
    let rows = [
        app("elsewhere", "https://elsewhere.example"),
        app("partly", &address)
            + &cluster("partly", "a", "running")
            + &node("partly", "a", &address)
            + &node("partly", "a", "https://elsewhere.example"),
        app("stopped", &address) + &cluster("stopped", "a", "stopped") + &node("stopped", "a", &address),
    ];
    // A cluster without nodes passes no constraint of the schema; whoever restores a dump may have switched them off.
    let quietly = "set session_replication_role = replica;";
    let empty = app("empty", &address) + &cluster("empty", "a", "running");
    fleet.postgres.sql(&format!("{quietly} {empty}")).await?;
    fleet.postgres.sql(&format!("begin; {} commit", rows.concat())).await?;
    for (id, reason) in [
        ("elsewhere", "elsewhere.example"),
        ("empty", "has no node"),
        ("partly", "elsewhere.example"),
        ("stopped", "no cluster of the upstream is running"),
    ] {
        fleet.one.until_app(id, &token, |status, _| status == 503).await?;
        let (_, answer) = api(&fleet.one, "GET", &format!("/upstreams/acme/app/{id}"), "", "").await?;
        ensure!(answer["reason"].as_str().is_some_and(|text| text.contains(reason)), "{id}: {answer:#}");
        let log = fleet.one.process.output();
        ensure!(log.contains(reason), "{id}: {log}");
    }
    fleet.one.expect_app("editor", &token, "blue").await?;
    let log = fleet.one.process.output();
    ensure!(log.matches("a row of the directory cannot be used").count() == 3, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_requests_are_served_and_nobody_is_forgotten() -> Result<()> {
    let blue = Upstream::start()?;
    let directory = directory(&[("blue", "running", &blue)]);
    let fleet = Fleet::start(&directory, FAST).await?;
    let token = fleet.setup.token("acme")?;
    let (mut client, mut app) = download(&fleet.one, &blue, &token).await?;
    let _blue = blue.answering(|_| ok("blue"));
    fleet.one.until_metric("embedgate_fleet_instances", |instances| instances == 2).await?;
    fleet.postgres.sql("revoke execute on all functions in schema embedgate from embedgate_serve").await?;
    fleet.one.until_metric("embedgate_fleet_beats_total{result=\"failed\"}", |failed| failed > 2).await?;
    fleet.one.expect_app("editor", &token, "blue").await?;
    app.send("world").await?;
    ensure!(client.exactly(10).await? == b"helloworld");
    ensure!(fleet.one.metric("embedgate_fleet_instances").await? == 2);
    let log = fleet.one.process.output();
    ensure!(log.matches("the fleet does not hear of this instance").count() == 1, "{log}");
    fleet.postgres.sql(include_str!("../../../migrations/roles.sql")).await?;
    let heard = until(PATIENCE, async || {
        Ok(fleet.one.process.output().contains("the fleet hears of this instance again").then_some(()))
    });
    heard.await?.context("not heard again")
}

#[test]
fn a_file_is_edited_instead() -> Result<()> {
    let setup = Setup::new("")?;
    let file = setup.path("directory.toml");
    std::fs::write(&file, organisation("acme", "http://127.0.0.1:1"))?;
    let text = std::fs::read_to_string(setup.path("embedgate.toml"))?;
    let (text, _) = text.split_once("directory.source").context("no directory")?;
    std::fs::write(setup.path("embedgate.toml"), format!("{text}directory.path = 'directory.toml'\n"))?;
    let list = setup.must(&["upstream", "list"])?;
    ensure!(list == "acme  app  editor  default running\nacme  warehouse  w  default running", "{list}");
    let shown = setup.must(&[&["upstream", "show"], &EDITOR[..]].concat())?;
    ensure!(shown.contains("node http://127.0.0.1:1"), "{shown}");
    let ended = setup.run(&[&["upstream", "drain"], &EDITOR[..], &["--cluster", "default"]].concat(), "")?;
    ensure!(ended.code == Some(2) && ended.stderr.contains("the directory is a file: edit"), "{ended:?}");
    Ok(())
}
