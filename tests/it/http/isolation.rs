//! Many organisations at once on shared connections: nobody ever gets anything of another's.

use crate::harness::gateway::{Builder, Gateway, org};
use crate::harness::raw::{Answering, Upstream, Wire, chunked};
use anyhow::{Context as _, Result, ensure};
use std::sync::Arc;

const ORGS: usize = 16;
const CLIENTS: usize = 8;
const REQUESTS: usize = 400;

/// Numbers that look random and are the same in every run (`SplitMix64`, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

fn name(number: usize) -> String {
    format!("org{number}")
}

/// The app of one organisation: it tells what it was asked, now and then breaks a rule, and ends every connection after
/// a while.
fn app(number: usize, upstream: Upstream) -> Answering {
    let own = name(number);
    upstream.answering(move |request| {
        let body = format!("{own} {} {}", request.target(), request.text());
        match request.target().len() % 5 {
            0 => [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunked(body.as_bytes(), 7)[..]].concat(),
            // More than was asked for, in the name of this organisation.
            1 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}HTTP/1.1 200 OK\r\n\r\n{own}", body.len())
                .into(),
            2 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into(),
            _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into(),
        }
    })
}

/// One request of a random organisation on a connection that all organisations share.
async fn ask(wire: &mut Wire, tokens: &[String], dice: &mut Dice, client: usize, number: usize) -> Result<()> {
    let org = dice.below(ORGS);
    let mark = format!("/{client}-{number}-{}", "x".repeat(dice.below(20)));
    let target = format!("{mark}?{}", name(org));
    let (host, path) = if dice.below(2) == 0 {
        (format!("editor--{}.apps.localhost", name(org)), target.clone())
    } else {
        ("localhost".to_owned(), format!("/app-proxy/editor{target}"))
    };
    let (fields, body) = match dice.below(3) {
        0 => (String::new(), String::new()),
        1 => (format!("Content-Length: {}\r\n", mark.len()), mark.clone()),
        _ => {
            let body = String::from_utf8(chunked(mark.as_bytes(), 3))?;
            ("Transfer-Encoding: chunked\r\n".to_owned(), body)
        }
    };
    let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n{fields}\r\n", tokens[org]);
    wire.send(head + &body).await?;
    let answer = wire.answer().await?;
    let sent = if body.is_empty() { "" } else { &mark };
    ensure!(answer.status() == 200, "{}: {}", answer.start, answer.text());
    ensure!(answer.text() == format!("{} {target} {sent}", name(org)), "somebody else's answer: {}", answer.text());
    Ok(())
}

async fn client(gateway: Arc<Gateway>, tokens: Arc<Vec<String>>, client: usize) -> Result<()> {
    let mut dice = Dice(client as u64);
    let mut wire = gateway.connect().await?;
    for number in 0..REQUESTS {
        ask(&mut wire, &tokens, &mut dice, client, number)
            .await
            .with_context(|| format!("client {client}, {number}"))?;
        if dice.below(50) == 0 {
            wire = gateway.connect().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_organisation_ever_sees_anything_of_another() -> Result<()> {
    let upstreams = (0..ORGS).map(|_| Upstream::start()).collect::<Result<Vec<_>>>()?;
    let tables = upstreams.iter().enumerate();
    let directory: String = tables.map(|(n, upstream)| org(&name(n), &[("editor", upstream.address())])).collect();
    let gateway = Arc::new(Builder::new(directory).set("server.workers", "2").start().await?);
    let tokens = (0..ORGS).map(|n| gateway.session(&name(n))).collect::<Result<Vec<_>>>()?;
    let apps: Vec<_> = upstreams.into_iter().enumerate().map(|(n, upstream)| app(n, upstream)).collect();

    let tokens = Arc::new(tokens);
    let start = |number| tokio::spawn(client(Arc::clone(&gateway), Arc::clone(&tokens), number));
    for running in (0..CLIENTS).map(start).collect::<Vec<_>>() {
        running.await??;
    }

    let mut total = 0;
    for (number, app) in apps.iter().enumerate() {
        let own = name(number);
        for request in app.seen() {
            ensure!(request.target().ends_with(&format!("?{own}")), "{own} sees {request:?}");
            ensure!(request.field("Authorization") == Some(&format!("Bearer {own}-bearer")), "{own} sees {request:?}");
            ensure!(request.field("X-Embedgate-Org") == Some(&own), "{own} sees {request:?}");
            ensure!(request.field("X-Forwarded-Email") == Some(&format!("ann@{own}.example")), "{request:?}");
            total += 1;
        }
    }
    ensure!(total == CLIENTS * REQUESTS, "{total} requests arrived");
    Ok(())
}
