//! Access that is given and taken through the database, on a fleet: two gateways over one Postgres.

use super::{Gateway, Setup, organisation};
use crate::harness::http::Named;
use crate::harness::postgres::Postgres;
use crate::harness::raw::{Message, Upstream, Wire};
use crate::harness::signer::{AUDIENCE, ISSUER, Signer, claims};
use anyhow::{Context as _, Result, ensure};
use embedgate::clock::Clock;
use serde_json::json;

/// A fleet whose instances may do what [`roles.sql`](../../../migrations/roles.sql) lets them, and no more.
pub(super) struct Fleet {
    pub(super) postgres: Postgres,
    pub(super) setup: Setup,
    pub(super) one: Gateway,
    pub(super) two: Gateway,
}

impl Fleet {
    /// Before `directory`, with `more` in the configuration.
    pub(super) async fn start(directory: &str, more: &str) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let setup = Setup::new(&format!("url = '{}'", postgres.url("postgres")))?;
        setup.must(&["db", "migrate"])?;
        postgres.sql(include_str!("../../../migrations/roles.sql")).await?;
        setup.configure(&format!("url = '{}'", postgres.url("embedgate_admin")))?;
        setup.import(directory)?;
        setup.configure(&format!("url = '{}'\nresync_interval = '1h'\n{more}", postgres.url("embedgate_serve")))?;
        let (one, two) = (setup.ready().await?, setup.ready().await?);
        Ok(Self { postgres, setup, one, two })
    }
}

/// A WebSocket through a gateway to an app that agrees to it.
pub(super) async fn socket(gateway: &Gateway, upstream: &Upstream, token: &str) -> Result<(Wire, Wire)> {
    let mut client = Wire::connect(gateway.data).await?;
    client
        .send(format!(
            "GET /app-proxy/editor/ws HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await?;
    let mut app = upstream.accept().await?;
    app.request().await?;
    app.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await?;
    ensure!(client.head().await?.status() == 101);
    Ok((client, app))
}

/// Reads a close frame of the gateway's: its code and its reason.
async fn close(wire: &mut Wire) -> Result<(u16, String)> {
    let head = wire.exactly(2).await?;
    ensure!(head[0] == 0x88, "not a close frame: {head:?}");
    let payload = wire.exactly(usize::from(head[1])).await?;
    Ok((u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].to_vec())?))
}

async fn send(gateway: &Gateway, request: String) -> Result<Message> {
    let mut wire = Wire::connect(gateway.data).await?;
    wire.send(request).await?;
    wire.answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_on_one_instance_ends_the_session_on_all() -> Result<()> {
    let upstream = Upstream::start()?;
    let fleet = Fleet::start(&organisation("acme", &format!("http://{}", upstream.address())), "").await?;
    let (token, other) = (fleet.setup.token("acme")?, fleet.setup.token("acme")?);
    let (mut client, _app) = socket(&fleet.two, &upstream, &token).await?;
    let (mut kept, mut kept_app) = socket(&fleet.two, &upstream, &other).await?;
    let delete =
        format!("DELETE /.embedgate/session HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    ensure!(send(&fleet.one, delete.clone()).await?.status() == 204);
    ensure!(close(&mut client).await? == (1008, "the session was ended".to_owned()));
    for gateway in [&fleet.one, &fleet.two] {
        gateway.until_app("editor", &token, |status, _| status == 401).await?;
    }
    kept.send("still there").await?;
    ensure!(kept_app.exactly(11).await? == b"still there");

    // An instance that comes later knows as well.
    let late = fleet.setup.ready().await?;
    late.until_app("editor", &token, |status, _| status == 401).await?;
    let client = fleet.postgres.client().await?;
    let rows = client.query("select kind, forget_after - now() < '2 hours' from embedgate.revocation", &[]).await?;
    ensure!(rows.len() == 1 && rows[0].get::<_, &str>(0) == "session" && rows[0].get::<_, bool>(1));
    ensure!(send(&fleet.two, delete).await?.status() == 204, "twice is once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_ends_sessions_of_one_a_user_and_an_organisation() -> Result<()> {
    let upstream = Upstream::start()?;
    let address = format!("http://{}", upstream.address());
    let directory = format!("{}{}", organisation("acme", &address), organisation("other", &address));
    let fleet = Fleet::start(&directory, "").await?;
    let setup = &fleet.setup;
    let session = |token: &str| {
        let text = setup.must(&["token", "inspect", token])?;
        let report: serde_json::Value = serde_json::from_str(&text)?;
        anyhow::Ok(report["session"].as_str().context("no id")?.to_owned())
    };
    for which in ["id", "token", "user", "org"] {
        let token = setup.token("acme")?;
        let (mut one, _a) = socket(&fleet.one, &upstream, &token).await?;
        let (mut two, _b) = socket(&fleet.two, &upstream, &token).await?;
        setup.configure(&format!("url = '{}'", fleet.postgres.url("embedgate_serve")))?;
        let (arguments, reason) = match which {
            "id" => (["--session".to_owned(), session(&token)?], "the session was ended"),
            "token" => (["--session".to_owned(), token.clone()], "the session was ended"),
            "user" => (["--user".to_owned(), "u1".to_owned()], "the sessions of the user were ended"),
            _ => (["--org".to_owned(), "acme".to_owned()], "the sessions of the organisation were ended"),
        };
        let said = setup.must(&["session", "revoke", &arguments[0], &arguments[1]])?;
        ensure!(said.starts_with("ended until now: "), "{said}");
        for client in [&mut one, &mut two] {
            ensure!(close(client).await? == (1008, reason.to_owned()), "{which}");
        }
        fleet.two.until_app("editor", &token, |status, _| status == 401).await?;
        if which != "org" {
            // What follows is a user's affair, who signs in anew: later than what was ended.
            fleet.postgres.sql("delete from embedgate.revocation").await?;
            let token = setup.token("acme")?;
            // On both: each of them hears for itself that nothing is in the way any more.
            for gateway in [&fleet.one, &fleet.two] {
                let (_client, _app) = socket_soon(gateway, &upstream, &token).await?;
            }
        }
    }
    let token = setup.token("other")?;
    let (_client, _app) = socket(&fleet.one, &upstream, &token).await?;
    Ok(())
}

/// A WebSocket as soon as the gateway lets the session in.
async fn socket_soon(gateway: &Gateway, upstream: &Upstream, token: &str) -> Result<(Wire, Wire)> {
    let open = crate::harness::until(crate::harness::PATIENCE, async || {
        let mut client = Wire::connect(gateway.data).await?;
        client.send(format!("GET /.embedgate/session?token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await?;
        ensure!(client.answer().await?.status() == 303);
        let refused = async {
            let mut probe = Wire::connect(gateway.data).await?;
            probe
                .send(format!(
                    "GET /app-proxy/nothing/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
                ))
                .await?;
            anyhow::Ok(probe.answer().await?.status())
        };
        Ok((refused.await? == 404).then_some(()))
    });
    open.await?.context("the session is not let in")?;
    socket(gateway, upstream, token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bans_and_memberships_count_at_once() -> Result<()> {
    let app = Named::start("app").await?;
    let directory =
        organisation("acme", &app.url()).replacen("[[org.workspace]]", "members = ['u1', 'u2']\n[[org.workspace]]", 1);
    let fleet = Fleet::start(&directory, "").await?;
    let token = fleet.setup.token("acme")?;
    fleet.one.expect_app("editor", &token, "app").await?;
    for (take, give, status) in [
        (
            "update embedgate.end_user set banned = true where id = 'u1'",
            "update embedgate.end_user set banned = false",
            403,
        ),
        (
            "delete from embedgate.membership where end_user = 'u1'",
            "insert into embedgate.membership values ('acme', 'u1')",
            403,
        ),
        (
            "insert into embedgate.revocation (kind, id, forget_after) values ('user', 'u1', now() + interval '1 hour')",
            "delete from embedgate.revocation",
            401,
        ),
        (
            "insert into embedgate.revocation (kind, id, forget_after) values ('organisation', 'acme', now() + interval '1 hour')",
            "truncate embedgate.revocation",
            401,
        ),
        (
            "delete from embedgate.end_user where id = 'u1'",
            "insert into embedgate.end_user (id) values ('u1'); insert into embedgate.membership values ('acme', 'u1')",
            403,
        ),
        (
            "update embedgate.organisation set members_only = true; truncate embedgate.membership",
            "update embedgate.organisation set members_only = false",
            403,
        ),
    ] {
        fleet.postgres.sql(take).await?;
        for gateway in [&fleet.one, &fleet.two] {
            gateway.until_app("editor", &token, |got, _| got == status).await.context(take)?;
        }
        fleet.postgres.sql(give).await?;
        for gateway in [&fleet.one, &fleet.two] {
            gateway.until_app("editor", &token, |got, body| got == 200 && body == "app").await.context(give)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_told_and_still_counts_here() -> Result<()> {
    let app = Named::start("app").await?;
    let mut fleet =
        Fleet::start(&organisation("acme", &app.url()), "connect_timeout = '1s'\nacquire_timeout = '1s'").await?;
    let token = fleet.setup.token("acme")?;
    fleet.one.expect_app("editor", &token, "app").await?;
    fleet.postgres.stop().await?;
    let delete =
        format!("DELETE /.embedgate/session HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    let answer = send(&fleet.one, delete.clone()).await?;
    ensure!(
        answer.status() == 503 && answer.has("Retry-After") && answer.text().contains("not_recorded"),
        "{answer:?}"
    );
    fleet.one.until_app("editor", &token, |status, _| status == 401).await?;
    fleet.two.expect_app("editor", &token, "app").await?;
    fleet.postgres.go_on().await?;
    let again = crate::harness::until(crate::harness::PATIENCE, async || {
        Ok((send(&fleet.one, delete.clone()).await?.status() == 204).then_some(()))
    });
    again.await?.context("it is never written")?;
    fleet.two.until_app("editor", &token, |status, _| status == 401).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_that_may_be_used_once_is_used_once_on_the_whole_fleet() -> Result<()> {
    let (app, signer) = (Named::start("app").await?, Signer::start().await?);
    let jwt = format!(
        "[session.jwt]\nissuer = '{ISSUER}'\naudience = '{AUDIENCE}'\njwks_url = '{}'\nsingle_use = true\n\
         [embedding]\nfrontend_origins = ['https://front.example']\n",
        signer.url()
    );
    let fleet = Fleet::start(&organisation("acme", &app.url()), &jwt).await?;
    let mut claims = claims(Clock::default().now());
    claims["jti"] = json!("id-1");
    let body = json!({ "jwt": signer.token(&claims)?, "app": "editor", "org": "acme" }).to_string();
    let start = |gateway| {
        let head = "POST /.embedgate/session HTTP/1.1\r\nHost: localhost\r\nOrigin: https://front.example\r\n";
        let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        send(gateway, format!("{head}{fields}{body}"))
    };
    let first = start(&fleet.one).await?;
    ensure!(first.status() == 200, "{first:?}");
    let second = start(&fleet.two).await?;
    ensure!(second.status() == 401 && second.text().contains("jwt_used"), "{second:?}");
    Ok(())
}
