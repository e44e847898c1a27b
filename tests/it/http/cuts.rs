//! Whoever ends a request before its time is named: in the log, in a metric, and to the client as far as it can be told.

use super::Site;
use super::websocket::tunnel;
use crate::harness::raw::{End, Wire};
use anyhow::{Context as _, Result, ensure};

/// An upstream that ends before its answer is complete: what it sends and how it ends, the settings, and what the
/// gateway says: the error type, the log's words, the metric's label and the status.
struct Case {
    sends: &'static str,
    ends: Option<End>,
    settings: &'static [(&'static str, &'static str)],
    error: &'static str,
    words: &'static str,
    by: &'static str,
    status: u16,
}

const CASES: &[Case] = &[
    Case {
        sends: "",
        ends: Some(End::Closed),
        settings: &[],
        error: "connection_terminated",
        words: "upstream closed before response",
        by: "upstream_closed",
        status: 502,
    },
    Case {
        sends: "HTTP/1.1 200 OK\r\nContent-Le",
        ends: Some(End::Closed),
        settings: &[],
        error: "http_response_incomplete",
        words: "upstream closed before the end",
        by: "upstream_closed",
        status: 502,
    },
    Case {
        sends: "",
        ends: Some(End::Reset),
        settings: &[],
        error: "connection_terminated",
        words: "upstream reset",
        by: "upstream_reset",
        status: 502,
    },
    Case {
        sends: "nonsense\n",
        ends: None,
        settings: &[],
        error: "http_protocol_error",
        words: "gateway: malformed answer",
        by: "upstream_framing",
        status: 502,
    },
    Case {
        sends: "",
        ends: None,
        settings: &[("upstreams.first_byte_timeout", "300ms")],
        error: "http_response_timeout",
        words: "gateway: idle 300ms",
        by: "upstream_idle",
        status: 504,
    },
];

#[tokio::test]
async fn an_upstream_that_gives_no_answer_is_named() -> Result<()> {
    for case in CASES {
        let site = Site::with(case.settings).await?;
        let (mut client, mut app) = site.join().await?;
        app.send(case.sends).await?;
        let kept: Option<Wire> = match case.ends {
            Some(how) => app.end(how).map(|()| None)?,
            None => Some(app),
        };
        let answer = client.answer().await?;
        let expected = format!("embedgate; error={}; details=\"{}\"", case.error, case.words);
        ensure!(answer.status() == case.status, "{answer:?}");
        ensure!(answer.field("Proxy-Status") == Some(&expected), "{expected}: {answer:?}");
        let told = format!("{answer:?}").contains(&site.upstream.address().to_string());
        ensure!(!told, "it tells the app's address: {answer:?}");
        let line = format!("\"cut_by\":\"{}\"", case.words);
        site.gateway.log_line(|found| found.contains(&line)).await?;
        site.gateway.expect_metric(&format!("embedgate_cuts_total{{by=\"{}\"}}", case.by), 1.0).await?;
        drop(kept);
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_takes_no_body_is_named() -> Result<()> {
    let site = Site::with(&[("limits.body_idle_timeout", "1s")]).await?;
    let mut client = site.gateway.connect().await?;
    let all = 256 << 20;
    client.send(site.head("POST /", &format!("Content-Length: {all}\r\n"))).await?;
    let _app = site.upstream.accept().await?;
    client.send_until_answered(&vec![0; 65536], all).await?;
    let answer = client.answer().await?;
    let expected = "embedgate; error=connection_write_timeout; details=\"gateway: idle 1s\"";
    ensure!(answer.field("Proxy-Status") == Some(expected), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_stops_or_leaves_is_named() -> Result<()> {
    let site = Site::with(&[("limits.body_idle_timeout", "300ms")]).await?;
    let mut client = site.gateway.connect().await?;
    client.send(site.head("POST /", "Content-Length: 10\r\n") + "hello").await?;
    let _app = site.upstream.accept().await?;
    ensure!(client.answer().await?.status() == 408);
    site.gateway.log_line(|line| line.contains("\"cut_by\":\"gateway: client idle 300ms\"")).await?;
    site.gateway.expect_metric("embedgate_cuts_total{by=\"client_idle\"}", 1.0).await?;
    let (client, _app) = site.join().await?;
    drop(client);
    site.gateway.log_line(|line| line.contains("\"cut_by\":\"client\"")).await?;
    site.gateway.expect_metric("embedgate_cuts_total{by=\"client\"}", 1.0).await
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_counted() -> Result<()> {
    for (answer, how, by) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", End::Closed, "upstream_closed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", End::Reset, "upstream_reset"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX", End::Closed, "upstream_framing"),
    ] {
        let site = Site::open().await?;
        let (mut client, mut app) = site.join().await?;
        app.send(answer).await?;
        client.head().await?;
        app.end(how)?;
        client.rest().await?;
        let name = format!("embedgate_cuts_total{{by=\"{by}\"}}");
        site.gateway.expect_metric(&name, 1.0).await.context(answer)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_the_drain_ends_is_named() -> Result<()> {
    let mut site = Site::with(&[("server.drain_timeout", "300ms")]).await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await?;
    client.head().await?;
    let (_waiting, _unanswered) = site.join().await?;
    let (_client, _app) = tunnel(&site).await?;
    site.gateway.leave()?.ended().await?;
    let cut = site.gateway.log().matches("\"cut_by\":\"gateway: drain\"").count();
    ensure!(cut == 3, "{cut} of 3: {}", site.gateway.log());
    Ok(())
}

#[tokio::test]
async fn what_ends_as_it_should_is_not_counted() -> Result<()> {
    let mut site = Site::open().await?;
    let (mut client, mut app) = site.join().await?;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await?;
    ensure!(client.answer().await?.text() == "hello");
    ensure!(site.gateway.admin("/metrics").await?.text().contains("embedgate_cuts_total{by=\"revoked\"} 0"));
    site.gateway.leave()?.ended().await?;
    ensure!(!site.gateway.log().contains("cut_by"), "{}", site.gateway.log());
    Ok(())
}
