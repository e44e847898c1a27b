//! Access that is taken away while it is used: sessions that are ended, users who are banned, apps that go.

use super::websocket::{close, close_code, frame_head, tunnel};
use super::{HOST, Site};
use crate::harness::gateway::org;
use anyhow::{Result, ensure};
use embedgate::model::access::{Bar, Subject};

fn user(id: &str) -> Bar {
    Bar::Revoked(Subject::User(id.into()))
}

/// The bars that concern the session of a site, and the status that its requests get then.
fn bars(site: &Site) -> Result<[(Bar, u16, &'static str); 4]> {
    let session = site.gateway.unseal(&site.token)?;
    Ok([
        (Bar::Revoked(Subject::Session(session.id)), 401, "the session was ended"),
        (user("ann"), 401, "the sessions of the user were ended"),
        (Bar::Revoked(Subject::Org("acme".into())), 401, "the sessions of the organisation were ended"),
        (Bar::Banned("ann".into()), 403, "the user is banned"),
    ])
}

#[tokio::test]
async fn whoever_is_shut_out_is_refused_at_once_and_told_on_open_sockets() -> Result<()> {
    for which in 0..4 {
        let site = Site::open().await?;
        let (mut client, mut app) = tunnel(&site).await?;
        let [bar, ..] = [bars(&site)?[which].clone()];
        let (bar, status, reason) = bar;
        site.gateway.put_up(bar)?;
        ensure!(close(&mut client, false).await? == (1008, reason.to_owned()));
        ensure!(close_code(&mut app, true).await? == 1001);
        client.send([frame_head(0x88, 2, true), vec![0x03, 0xf0]].concat()).await?;
        app.send([frame_head(0x88, 2, false), vec![0x03, 0xe9]].concat()).await?;
        client.expect_end().await?;
        app.expect_end().await?;
        ensure!(site.refused(site.get("/")).await?.status() == status);
        let line = site.gateway.log_line(|line| line.contains("cut_by")).await?;
        ensure!(line.contains(&format!("\"cut_by\":\"gateway: {reason}\"")), "{line}");
        site.gateway.expect_metric("embedgate_streams_revoked_total", 1.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn everybody_else_goes_on() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    for bar in [
        user("bob"),
        Bar::Banned("bob".into()),
        Bar::Revoked(Subject::Org("other".into())),
        Bar::Revoked(Subject::Session([9; 16])),
    ] {
        site.gateway.put_up(bar)?;
    }
    let token = site.gateway.token("acme", "carl", "carl@acme.example", None, 3600)?;
    let site = Site { token, ..site };
    let (mut bob, mut bobs_app) = tunnel(&site).await?;
    for (client, app) in [(&mut client, &mut app), (&mut bob, &mut bobs_app)] {
        client.send("still there").await?;
        ensure!(app.exactly(11).await? == b"still there");
    }
    Ok(())
}

#[tokio::test]
async fn the_word_waits_for_the_end_of_a_frame() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let frame = [frame_head(0x82, 70_000, false), vec![b'x'; 70_000]].concat();
    let (before, after) = frame.split_at(30_000);
    app.send(before).await?;
    ensure!(client.exactly(before.len()).await? == before);
    site.gateway.put_up(user("ann"))?;
    ensure!(close_code(&mut app, true).await? == 1001);
    // A frame more than the rest: it begins behind the boundary and is not for the client any more.
    app.send([after, &frame_head(0x81, 1, false), b"!"].concat()).await?;
    ensure!(client.exactly(after.len()).await? == after, "the frame is broken");
    ensure!(close_code(&mut client, false).await? == 1008);
    Ok(())
}

#[tokio::test]
async fn an_event_stream_breaks_off_and_is_not_ended() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await?;
    client.head().await?;
    ensure!(client.exactly(8).await? == b"3\r\nabc\r\n");
    site.gateway.put_up(user("ann"))?;
    let rest = client.rest().await?.bytes;
    ensure!(rest.is_empty(), "the stream looks complete: {rest:?}");
    app.rest().await?;
    site.gateway.expect_metric("embedgate_requests_active", 0.0).await
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_is_refused() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    site.gateway.put_up(user("ann"))?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 401 && answer.text().contains("\"reason\":\"session\""), "{answer:?}");
    app.rest().await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_with_its_session() -> Result<()> {
    let mut site = Site::open().await?;
    site.token = site.gateway.token("acme", "ann", "ann@acme.example", None, 1)?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await?;
    client.head().await?;
    let rest = client.rest().await?.bytes;
    ensure!(!rest.ends_with(b"0\r\n\r\n"), "the stream looks complete: {rest:?}");
    let line = site.gateway.log_line(|line| line.contains("cut_by")).await?;
    ensure!(line.contains("gateway: session ended"), "{line}");
    Ok(())
}

#[tokio::test]
async fn what_the_directory_takes_away_ends_too() -> Result<()> {
    type Directory<'a> = &'a dyn Fn(&Site) -> String;
    let address = |site: &Site| site.upstream.address();
    let with = |text: String, more: &str| text.replacen("[[org.workspace]]", &format!("{more}\n[[org.workspace]]"), 1);
    let without_app = |site: &Site| org("acme", &[("other", address(site))]);
    let without_membership = |site: &Site| with(org("acme", &[("editor", address(site))]), "members = [\"bob\"]");
    let with_another_principal =
        |site: &Site| org("acme", &[("editor", address(site))]).replace("id = \"spn\"", "id = \"spn2\"");
    let without_organisation = |site: &Site| org("other", &[("editor", address(site))]);
    let cases: [(Directory<'_>, u16, &str); 4] = [
        (&without_app, 404, "no such app in the organisation"),
        (&without_membership, 403, "the user is not a member of the organisation"),
        (&with_another_principal, 200, "another service principal acts for the user now"),
        (&without_organisation, 401, "the session's organisation is not in the directory"),
    ];
    for (directory, status, reason) in cases {
        let site = Site::open().await?;
        let (mut client, _app) = tunnel(&site).await?;
        site.gateway.publish(&directory(&site))?;
        ensure!(close(&mut client, false).await? == (1008, reason.to_owned()));
        if status != 200 {
            ensure!(site.refused(site.get("/")).await?.status() == status, "{reason}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_unchanged_directory_ends_nothing() -> Result<()> {
    let site = Site::open().await?;
    let (mut client, mut app) = tunnel(&site).await?;
    let directory = org("acme", &[("editor", site.upstream.address())]);
    site.gateway.publish(&directory.replacen("[[org.workspace]]", "members = [\"ann\"]\n[[org.workspace]]", 1))?;
    site.gateway.publish(&directory)?;
    client.send("still there").await?;
    ensure!(app.exactly(11).await? == b"still there");
    site.gateway.expect_metric("embedgate_streams_revoked_total", 0.0).await
}

#[tokio::test]
async fn signing_out_ends_the_session_and_not_only_its_cookie() -> Result<()> {
    let site = Site::open().await?;
    let (mut socket, _app) = tunnel(&site).await?;
    let mut client = site.gateway.connect().await?;
    let cookie = format!("Cookie: embedgate={}\r\nOrigin: http://{HOST}\r\n", site.token);
    client.send(format!("DELETE /.embedgate/session HTTP/1.1\r\nHost: {HOST}\r\n{cookie}\r\n")).await?;
    let answer = client.answer().await?;
    ensure!(answer.status() == 204, "{answer:?}");
    ensure!(answer.field("Set-Cookie").is_some_and(|cookie| cookie.starts_with("embedgate=; Path=/; Max-Age=0")));
    ensure!(close(&mut socket, false).await? == (1008, "the session was ended".to_owned()));
    ensure!(site.refused(site.get("/")).await?.status() == 401);
    // Another one of the same user is another matter.
    let other = site.gateway.session("acme")?;
    let site = Site { token: other, ..site };
    let (_client, _app) = site.join().await?;
    Ok(())
}

#[tokio::test]
async fn nobody_is_signed_out_by_another_site() -> Result<()> {
    let site = Site::open().await?;
    let cookie = format!("Cookie: embedgate={}\r\nOrigin: https://evil.example\r\n", site.token);
    let mut client = site.gateway.connect().await?;
    client.send(format!("DELETE /.embedgate/session HTTP/1.1\r\nHost: {HOST}\r\n{cookie}\r\n")).await?;
    ensure!(client.answer().await?.status() == 403);
    let (_client, _app) = site.join().await?;
    Ok(())
}
