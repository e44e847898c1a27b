//! Apps of several clusters and nodes: who gets how much, and who stays where.

use super::HOST;
use super::renewal::Cookie;
use super::sessions::open_link;
use super::websocket::{AGREE, ASK};
use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::raw::{Answering, Message, Upstream, ok};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// A node that answers with its name, and agrees to every upgrade.
struct Node {
    name: &'static str,
    address: SocketAddr,
    _running: Answering,
}

impl Node {
    fn start(name: &'static str) -> Result<Self> {
        let upstream = Upstream::start()?;
        let address = upstream.address();
        let respond = move |request: &Message| {
            if request.has("Upgrade") {
                AGREE.replace("\r\n\r\n", &format!("\r\nX-Node: {name}\r\n\r\n")).into()
            } else {
                named(name)
            }
        };
        Ok(Self { name, address, _running: upstream.answering(respond) })
    }
}

/// An answer that says whose it is.
fn named(name: &str) -> Vec<u8> {
    String::from_utf8_lossy(&ok(name)).replacen("\r\n", &format!("\r\nX-Node: {name}\r\n"), 1).into_bytes()
}

/// A cluster for the directory: its id, state and weight, and its nodes.
type Row<'a> = (&'a str, &'a str, u32, &'a [&'a Node]);

/// The directory with these clusters of the app, which has these keys.
fn directory(keys: &str, clusters: &[Row<'_>]) -> String {
    let mut text = org("acme", &[("editor", SocketAddr::from(([127, 0, 0, 1], 1)))]) + keys + "\n";
    for (id, state, weight, nodes) in clusters {
        let nodes: Vec<_> = nodes.iter().map(|node| format!("http://{}", node.address)).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[[org.app.cluster]]\nid = \"{id}\"\nstate = \"{state}\"\nweight = {weight}\nnodes = {nodes:?}\n"
        );
    }
    text
}

/// Asks with these fields, on a connection of its own.
async fn ask(gateway: &Gateway, target: &str, fields: &str) -> Result<Message> {
    let mut client = gateway.connect().await?;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).await?;
    if fields.contains("Upgrade") { client.head().await } else { client.answer().await }
}

fn node(answer: &Message) -> Result<String> {
    Ok(answer.field("X-Node").with_context(|| format!("{answer:?}"))?.to_owned())
}

/// How many of some requests of one bearer each node answers.
async fn counts(gateway: &Gateway, requests: u32) -> Result<BTreeMap<String, u32>> {
    let (mut client, token) = (gateway.connect().await?, gateway.session("acme")?);
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n")).await?;
        *counts.entry(node(&client.answer().await?)?).or_default() += 1;
    }
    Ok(counts)
}

/// The cookie of a new session.
async fn cookie(gateway: &Gateway) -> Result<Cookie> {
    let link = open_link(gateway, HOST, &format!("token={}", gateway.session("acme")?)).await?;
    Cookie::of(&link)?.context("no cookie")
}

fn sent(cookie: &Cookie) -> String {
    format!("Cookie: {}\r\n", cookie.sent())
}

/// The fields of a WebSocket that the app's page opens.
fn socket(cookie: &Cookie) -> String {
    format!("{}Origin: http://{HOST}\r\n{ASK}", sent(cookie))
}

#[tokio::test]
async fn clusters_get_their_weight_and_nodes_their_turn() -> Result<()> {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Node::start);
    let (a, b, c, d) = (a?, b?, c?, d?);
    let rows: &[Row<'_>] = &[("blue", "running", 300, &[&a, &b]), ("green", "running", 100, &[&c, &d])];
    let gateway = Builder::new(directory("balance = \"round-robin\"", rows)).start().await?;
    let found = counts(&gateway, 400).await?;
    let (blue, green) = ([found["a"], found["b"]], [found["c"], found["d"]]);
    // 300 are expected, give or take 9.
    ensure!((240..360).contains(&blue.iter().sum::<u32>()), "{found:?}");
    ensure!([blue, green].iter().all(|[one, two]| one.abs_diff(*two) <= 1), "{found:?}");
    // Another weight counts for the next request.
    gateway.publish(&directory("", &[("blue", "running", 0, &[&a, &b]), ("green", "running", 1, &[&c, &d])]))?;
    let found = counts(&gateway, 100).await?;
    ensure!(found.keys().collect::<Vec<_>>() == ["c", "d"], "{found:?}");
    Ok(())
}

#[tokio::test]
async fn no_weight_at_all_is_said_and_harms_nobody_else() -> Result<()> {
    let (a, b) = (Node::start("a")?, Node::start("b")?);
    let rows: &[Row<'_>] = &[("blue", "running", 0, &[&a]), ("green", "draining", 100, &[&a])];
    let other = format!("[[org.app]]\nid = \"viz\"\nurl = \"http://{}\"\n", b.address);
    let gateway = Builder::new(directory("", rows) + &other).start().await?;
    let bearer = format!("Authorization: Bearer {}\r\n", gateway.session("acme")?);
    ensure!(ask(&gateway, "/", &bearer).await?.status() == 503);
    gateway.log_line(|line| line.contains("every running cluster of the upstream has the weight 0")).await?;
    let mut client = gateway.connect().await?;
    client.send(format!("GET / HTTP/1.1\r\nHost: viz--acme.apps.localhost\r\n{bearer}\r\n")).await?;
    ensure!(node(&client.answer().await?)? == "b");
    Ok(())
}

#[tokio::test]
async fn what_joins_others_starts_slowly() -> Result<()> {
    let (a, b) = (Node::start("a")?, Node::start("b")?);
    let keys = "balance = \"round-robin\"";
    let gateway = Builder::new(directory(keys, &[("blue", "running", 1, &[&a])])).start().await?;
    counts(&gateway, 1).await?;
    gateway.publish(&directory(keys, &[("blue", "running", 1, &[&a, &b])]))?;
    let found = counts(&gateway, 200).await?;
    ensure!(found["a"] > 150, "{found:?}");
    gateway.clock.turn(60);
    let found = counts(&gateway, 200).await?;
    ensure!(found == BTreeMap::from([("a".to_owned(), 100), ("b".to_owned(), 100)]), "{found:?}");
    Ok(())
}

#[tokio::test]
async fn a_session_stays_on_its_node_with_its_websockets_until_that_is_gone() -> Result<()> {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Node::start);
    let all = [a?, b?, c?, d?];
    let with = |nodes: &[&Node], state| {
        let (blue, green): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node.name < "c");
        let green: Vec<_> = green.into_iter().collect();
        directory("affinity = true", &[("blue", state, 100, &blue), ("green", "running", 100, &green)])
    };
    let everybody: Vec<_> = all.iter().collect();
    let gateway = Builder::new(with(&everybody, "running")).start().await?;
    let new = cookie(&gateway).await?;
    // Two requests may be under way before the browser has been told.
    let (page, other) = (ask(&gateway, "/", &sent(&new)).await?, ask(&gateway, "/", &sent(&new)).await?);
    let home = node(&page)?;
    ensure!(node(&other)? == home);
    let settled = Cookie::of(&page)?.context("the session does not learn where it is")?;
    ensure!(settled.token.len() < 300, "{} bytes", settled.token.len());
    for _ in 0..10 {
        for (target, fields) in [("/", sent(&settled)), ("/ws", socket(&settled))] {
            let answer = ask(&gateway, target, &fields).await?;
            ensure!(node(&answer)? == home && Cookie::of(&answer)?.is_none(), "{answer:?}");
        }
    }
    // Without it, and whatever state the rest is in, another is found and kept to.
    let others: Vec<_> = all.iter().filter(|node| node.name != home).collect();
    gateway.publish(&with(&others, "running"))?;
    let answer = ask(&gateway, "/", &sent(&settled)).await?;
    let (next, moved) = (node(&answer)?, Cookie::of(&answer)?.context("the session does not learn where it went")?);
    ensure!(next != home);
    gateway.publish(&with(&everybody, "running"))?;
    for _ in 0..10 {
        let answer = ask(&gateway, "/", &sent(&moved)).await?;
        ensure!(node(&answer)? == next && Cookie::of(&answer)?.is_none(), "{answer:?}");
    }
    gateway.publish(&with(&everybody, "draining"))?;
    for _ in 0..10 {
        ensure!(node(&ask(&gateway, "/", &sent(&moved)).await?)?.as_str() >= "c", "a request on a draining cluster");
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_can_be_what_tells_a_session_where_it_is() -> Result<()> {
    let (a, b) = (Node::start("a")?, Node::start("b")?);
    let gateway = Builder::new(directory("affinity = true", &[("blue", "running", 100, &[&a, &b])])).start().await?;
    let new = cookie(&gateway).await?;
    let agreed = ask(&gateway, "/ws", &socket(&new)).await?;
    ensure!(agreed.status() == 101, "{agreed:?}");
    let settled = Cookie::of(&agreed)?.context("no cookie")?;
    ensure!(node(&ask(&gateway, "/", &sent(&settled)).await?)? == node(&agreed)?);
    Ok(())
}

#[tokio::test]
async fn programs_stay_by_their_session_and_requests_by_a_field() -> Result<()> {
    let (a, b) = (Node::start("a")?, Node::start("b")?);
    let rows: &[Row<'_>] = &[("blue", "running", 100, &[&a, &b])];
    for keys in ["affinity = true", "balance = \"hash\""] {
        let gateway = Builder::new(directory(keys, rows)).start().await?;
        let mut used = BTreeMap::new();
        for _ in 0..20 {
            let one = counts(&gateway, 3).await?;
            ensure!(one.len() == 1, "{keys}: one session, {one:?}");
            used.extend(one);
        }
        ensure!(used.len() == 2, "{keys}: twenty sessions are all on one node");
    }
    let gateway = Builder::new(directory("balance = \"hash\"\nhash_on = \"header:X-Tenant\"", rows)).start().await?;
    let mut used = BTreeMap::new();
    for number in 0..60 {
        let tenant = number % 20;
        let fields = format!("Authorization: Bearer {}\r\nX-Tenant: t{tenant}\r\n", gateway.session("acme")?);
        let node = node(&ask(&gateway, "/", &fields).await?)?;
        ensure!(*used.entry(tenant).or_insert_with(|| node.clone()) == node, "tenant {tenant} is on two nodes");
    }
    ensure!(used.values().any(|node| node == "a") && used.values().any(|node| node == "b"), "{used:?}");
    Ok(())
}

#[tokio::test]
async fn a_transaction_of_firebolt_stays_on_one_node_whoever_asks() -> Result<()> {
    let (a, b) = (Node::start("a")?, Node::start("b")?);
    let engine = format!(
        "[[org.engine]]\nid = \"fb\"\nurl = \"http://127.0.0.1:1\"\ndialect = \"firebolt\"\n\
         [[org.engine.cluster]]\nid = \"c\"\nstate = \"running\"\nnodes = [\"http://{}\", \"http://{}\"]\n",
        a.address, b.address
    );
    let gateway = Builder::new(org("acme", &[]) + &engine).start().await?;
    let mut used = BTreeMap::new();
    for number in 0..60 {
        let (transaction, token) = (number % 20, gateway.session("acme")?);
        let mut client = gateway.connect().await?;
        let line = format!("GET /engine/fb/?database=d&transaction_id={transaction} HTTP/1.1\r\nHost: localhost\r\n");
        client.send(format!("{line}Authorization: Bearer {token}\r\n\r\n")).await?;
        let node = node(&client.answer().await?)?;
        ensure!(*used.entry(transaction).or_insert_with(|| node.clone()) == node, "{transaction} is on two nodes");
    }
    ensure!(used.values().any(|node| node == "a") && used.values().any(|node| node == "b"), "{used:?}");
    Ok(())
}

#[tokio::test]
async fn an_organisation_cannot_take_its_place_to_anothers_node() -> Result<()> {
    let (a, b) = (Node::start("a")?, Node::start("b")?);
    let acme = directory("affinity = true", &[("blue", "running", 100, &[&a])]);
    // The same ids, so that the numbers in the session are the same as well.
    let other = directory("affinity = true", &[("blue", "running", 100, &[&b])]).replace("\"acme\"", "\"other\"");
    let gateway = Builder::new(acme + &other).start().await?;
    let first = cookie(&gateway).await?;
    let there = ask(&gateway, "/", &sent(&first)).await?;
    let place = gateway.unseal(&Cookie::of(&there)?.context("no cookie")?.token)?.places;
    let mut session = gateway.unseal(&gateway.session("other")?)?;
    session.places = place;
    let fields = format!("Authorization: Bearer {}\r\n", gateway.seal(&session)?);
    let mut client = gateway.connect().await?;
    client.send(format!("GET / HTTP/1.1\r\nHost: editor--other.apps.localhost\r\n{fields}\r\n")).await?;
    ensure!(node(&client.answer().await?)? == "b");
    Ok(())
}
