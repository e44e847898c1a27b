//! One suite for every kind that asks an issuer: whatever the issuer does, requests end well or with the right refusal.

use super::kinds::{MINTING, installation, org};
use crate::harness::PATIENCE;
use crate::harness::installation::{KEY, Serving, session};
use crate::harness::issuer::{App, Issuer, Mood};
use crate::harness::until;
use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

/// What issuers answer, and what becomes of a request.
const ANSWERS: [(&str, Mood, u16, &str); 16] = [
    ("good", Mood::Issues(3600), 200, ""),
    ("short", Mood::Issues(30), 200, ""),
    ("text", json(r#"{"access_token":"tok","expires_in":"3600"}"#), 200, ""),
    ("silent-on-life", json(r#"{"access_token":"tok"}"#), 200, ""),
    (
        "late-clock",
        Mood::Answers(200, &[("date", "Sun, 06 Nov 1994 08:49:37 GMT")], r#"{"access_token":"tok","expires_in":60}"#),
        200,
        "",
    ),
    ("rude", Mood::HangsUp, 503, "issuer_unreachable"),
    ("page", Mood::Answers(200, &[("content-type", "text/html")], "<html>sign in</html>"), 503, "issuer_unreachable"),
    ("no-token", json(r#"{"expires_in":3600}"#), 503, "issuer_unreachable"),
    ("bound", json(r#"{"access_token":"tok","token_type":"DPoP"}"#), 503, "issuer_unreachable"),
    ("fails", Mood::FAILS, 503, "issuer_unreachable"),
    (
        "busy",
        Mood::Answers(429, &[("retry-after", "Fri, 31 Dec 2999 23:59:59 GMT")], "slow down"),
        503,
        "issuer_unreachable",
    ),
    ("long", Mood::Long, 503, "issuer_unreachable"),
    ("refuses", Mood::REFUSES, 502, "issuer_refused"),
    ("bad", Mood::Answers(400, &[], r#"{"error":"invalid_grant"}"#), 502, "issuer_refused"),
    ("hidden", json(r#"{"error":"invalid_client"}"#), 502, "issuer_refused"),
    ("away", Mood::Answers(307, &[("location", "http://127.0.0.1:1/token")], ""), 502, "issuer_refused"),
];

const fn json(body: &'static str) -> Mood {
    Mood::Answers(200, &[("content-type", "application/json")], body)
}

async fn get(gateway: &Serving, org: &str) -> Result<(u16, String)> {
    let answer = gateway.get(&format!("/app-proxy/studio/{org}"), &session(KEY, org, None, 0)?).await?;
    ensure!(answer.status != 503 || answer.header("retry-after").is_some(), "{org}: {answer:?}");
    ensure!(!answer.body.contains("client"), "what the client need not know: {answer:?}");
    Ok(answer.verdict())
}

#[tokio::test]
async fn every_kind_takes_every_answer_for_what_it_is() -> Result<()> {
    let app = App::start("welcome").await?;
    let (mut issuers, mut directory, mut expected) = (Vec::new(), String::new(), Vec::new());
    for (name, mood, status, reason) in ANSWERS {
        let issuer = Issuer::start(mood).await?;
        for (kind, lines) in MINTING {
            let id = format!("{kind}_{name}");
            directory.push_str(&org(&id, lines, &issuer.url(), &app.url()));
            expected.push((id, (status, reason.to_owned())));
        }
        issuers.push(issuer);
    }
    let (installation, _keys) = installation(&directory)?;
    let serving = installation.serve().await?;
    let gateway = &serving;
    // Three at once each, so that some wait for what another has asked.
    let asked = expected.iter().flat_map(|expected| [expected; 3]).map(|(id, verdict)| async move {
        let found = get(gateway, id).await?;
        ensure!(found == *verdict, "{id}: {found:?} in place of {verdict:?}");
        Ok(())
    });
    try_join_all(asked).await?;
    let log = serving.stop().await?;
    for secret in ["dose:", "PRIVATE KEY", "eyJ", "tok-"] {
        ensure!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_gives_up_on_an_issuer_that_is_silent() -> Result<()> {
    let (issuer, app) = (Issuer::start(Mood::Hangs).await?, App::start("welcome").await?);
    let directory: String = MINTING.map(|(kind, lines)| org(kind, lines, &issuer.url(), &app.url())).concat();
    let (installation, _keys) = installation(&directory)?;
    let config = std::fs::read_to_string(installation.path("embedgate.toml"))?;
    installation.write("embedgate.toml", &config.replace("mint_timeout = \"60s\"", "mint_timeout = \"500ms\""))?;
    let gateway = installation.serve().await?;
    for (verdict, (kind, _)) in try_join_all(MINTING.map(|(kind, _)| get(&gateway, kind))).await?.iter().zip(MINTING) {
        assert_eq!(*verdict, (503, "issuer_unreachable".to_owned()), "{kind}");
    }
    assert!(app.seen("/").is_empty(), "nothing goes on without a token");
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn no_kind_storms_an_issuer_that_refuses_or_whose_tokens_are_short() -> Result<()> {
    let app = App::start("welcome").await?;
    let (refusing, short) = (Issuer::start(Mood::REFUSES).await?, Issuer::start(Mood::Issues(30)).await?);
    let orgs = |issuer: &Issuer, tail: &str| {
        MINTING.map(|(kind, lines)| org(&format!("{kind}{tail}"), lines, &issuer.url(), &app.url())).concat()
    };
    let directory = orgs(&refusing, "-refused") + &orgs(&short, "-short");
    let (installation, _keys) = installation(&directory)?;
    let serving = installation.serve().await?;
    let gateway = &serving;
    for _ in 0..3 {
        let asked = MINTING.iter().flat_map(|kind| [kind; 10]).map(|(kind, _)| async move {
            ensure!(get(gateway, &format!("{kind}-refused")).await?.0 == 502, "{kind}");
            ensure!(get(gateway, &format!("{kind}-short")).await?.0 == 200, "{kind}");
            Ok(())
        });
        try_join_all(asked).await?;
    }
    for (issuer, what) in [(&refusing, "refuses"), (&short, "issues short tokens")] {
        let calls = issuer.calls().len();
        ensure!(calls <= 5 * MINTING.len(), "{calls} calls of an issuer that {what}, for {}", 30 * MINTING.len());
    }
    // Once it does not refuse any more, all come back by themselves.
    refusing.set(Mood::Issues(3600));
    let back = MINTING.map(|(kind, _)| async move {
        let id = format!("{kind}-refused");
        let back = until(PATIENCE, async || Ok((get(gateway, &id).await?.0 == 200).then_some(())));
        back.await?.with_context(|| format!("{kind} does not come back"))
    });
    try_join_all(back).await?;
    serving.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_thousand_first_requests_mint_once() -> Result<()> {
    let (issuer, app) = (Issuer::start(Mood::Hangs).await?, App::start("welcome").await?);
    let directory: String = MINTING.map(|(kind, lines)| org(kind, lines, &issuer.url(), &app.url())).concat();
    let (installation, _keys) = installation(&directory)?;
    let gateway = installation.serve().await?;
    // A thousand of one kind, and a few of each.
    let (many, few) = (1000, 20);
    let all = (0..many).map(|_| "body").chain(MINTING.iter().flat_map(|(kind, _)| (0..few).map(move |_| *kind)));
    let asked = try_join_all(all.map(|org| get(&gateway, org)));
    let release = async {
        // The issuer speaks only when all requests are known to wait.
        let total = many + few * MINTING.len();
        gateway.wait_for_metric("embedgate_requests_active", total as f64).await?;
        issuer.set(Mood::Issues(3600));
        Ok(())
    };
    let (verdicts, ()) = tokio::try_join!(asked, release)?;
    assert!(verdicts.iter().all(|(status, _)| *status == 200), "{verdicts:?}");
    for (kind, _) in MINTING {
        assert_eq!(issuer.calls_of(&format!("{kind}-client")), 1, "{kind}");
    }
    assert_eq!(app.seen("/body").len(), many + few);
    gateway.stop().await?;
    Ok(())
}
