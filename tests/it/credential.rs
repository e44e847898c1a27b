//! Tokens of service principals: who waits for them, who shares them, and what happens when they cannot be had or are
//! not taken.

mod conformance;
mod fixed;
mod kinds;
mod rotation;
mod signed;

use crate::harness::ask::{Answer, request};
use crate::harness::installation::{Installation, KEY, LOCAL, Serving, session};
use crate::harness::issuer::{App, Issuer, Mood, Refusal};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Request;
use http_body_util::Full;
use std::net::TcpListener;
use std::time::Duration;

/// A token's life that is long for a test.
const HOUR: Mood = Mood::Issues(3600);
/// Tokens of 16 seconds are used for about 8, and refreshed after about 4.
const SHORT: Mood = Mood::Issues(16);

/// An organisation with the app `studio`, whose principal is known to `issuer` as `{org}-client`. Every organisation
/// calls its principal the same.
fn org(org: &str, issuer: &str, app: &str, secret: &str) -> String {
    format!(
        r#"
        [[org]]
        id = "{org}"
        [[org.workspace]]
        id = "main"
        url = "{issuer}"
        [[org.principal]]
        id = "spn"
        kind = "databricks"
        client_id = "{org}-client"
        client_secret = "{secret}"
        [[org.app]]
        id = "studio"
        url = "{app}"
        [[org.app]]
        id = "other"
        url = "{app}"
        "#
    )
}

fn secret_of(org: &str) -> String {
    format!("dose-{org}-secret")
}

/// A gateway with one issuer and one app for all organisations.
struct World {
    issuer: Issuer,
    app: App,
    installation: Installation,
    gateway: Serving,
}

impl World {
    async fn new(orgs: &[&str], mood: Mood) -> Result<Self> {
        let (issuer, app) = (Issuer::start(mood).await?, App::start("welcome").await?);
        let directory: String = orgs.iter().map(|id| org(id, &issuer.url(), &app.url(), &secret_of(id))).collect();
        let installation = Installation::new(LOCAL, &directory)?;
        let gateway = installation.serve().await?;
        Ok(Self { issuer, app, installation, gateway })
    }

    /// Sends a request; no answer's head may hold a token or a secret.
    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let answer = self.gateway.ask(request).await?;
        let head = format!("{:?}", answer.headers);
        ensure!(!head.contains("tok-") && !head.contains("dose-"), "a secret in {head}");
        Ok(answer)
    }

    /// Asks the app of an organisation for a path.
    async fn get(&self, org: &str, path: &str) -> Result<Answer> {
        let path = format!("/app-proxy/studio{path}");
        self.ask(request("GET", &path, &session(KEY, org, None, 0)?, "")).await
    }

    /// Posts to the app of an organisation.
    async fn post(&self, org: &str, path: &str, body: &str) -> Result<Answer> {
        let path = format!("/app-proxy/studio{path}");
        self.ask(request("POST", &path, &session(KEY, org, None, 0)?, body)).await
    }

    /// Sends so many GETs at once.
    async fn get_many(&self, org: &str, path: &str, count: usize) -> Result<Vec<Answer>> {
        try_join_all((0..count).map(|_| self.get(org, path))).await
    }

    /// Waits until the issuer has had so many calls.
    async fn wait_for_calls(&self, count: usize) -> Result<()> {
        let enough = until(PATIENCE, async || Ok((self.issuer.calls().len() >= count).then_some(())));
        enough.await?.with_context(|| format!("never {count} calls: {:?}", self.issuer.calls()))
    }

    /// Asks until the app has got a token that is not one of `old`, and returns it.
    async fn wait_for_new_token(&self, org: &str, path: &str, old: &[String]) -> Result<String> {
        let fresh = until(PATIENCE, async || {
            self.get(org, path).await?;
            Ok(self.app.bearers(path).pop().filter(|token| !old.contains(token)))
        });
        fresh.await?.context("never a new token")
    }

    /// Stops the gateway. Whatever it did, it did not panic and wrote no token and no secret, at the level `trace`.
    async fn end(self) -> Result<()> {
        ensure!(self.gateway.count("embedgate_panics_total").await? == 0, "something panicked");
        let log = self.gateway.stop().await?;
        for token in self.issuer.tokens() {
            ensure!(!log.contains(&token), "the token {token} is in the log:\n{log}");
        }
        ensure!(!log.contains("dose-"), "a client secret is in the log:\n{log}");
        ensure!(!log.contains("panicked"), "a panic is in the log:\n{log}");
        Ok(())
    }
}

/// A URL where nothing listens.
fn closed() -> Result<String> {
    Ok(format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?))
}

#[tokio::test]
async fn two_hundred_requests_wait_for_one_mint() -> Result<()> {
    let world = World::new(&["acme"], Mood::Hangs).await?;
    let release = async {
        // The issuer speaks only when all requests are known to wait.
        world.gateway.wait_for_metric("embedgate_requests_active", 200.0).await?;
        world.issuer.set(HOUR);
        Ok(())
    };
    let (answers, ()) = tokio::try_join!(world.get_many("acme", "/herd", 200), release)?;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(world.issuer.calls().len(), 1);
    assert_eq!(world.app.bearers("/herd"), vec![world.issuer.tokens()[0].clone(); 200]);
    world.end().await
}

#[tokio::test]
async fn organisations_never_share_a_token() -> Result<()> {
    let orgs = ["acme", "globex", "initech"];
    let world = World::new(&orgs, HOUR).await?;
    let asked = (0..30).flat_map(|_| orgs).map(|org| {
        let world = &world;
        async move { world.get(org, &format!("/{org}")).await }
    });
    let answers = try_join_all(asked).await?;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    for org in orgs {
        let bearers = world.app.bearers(&format!("/{org}"));
        assert_eq!(bearers.len(), 30);
        assert!(bearers.iter().all(|token| token.starts_with(&format!("tok-{org}-client-"))), "{org}: {bearers:?}");
        assert_eq!(world.issuer.calls_of(&format!("{org}-client")), 1);
    }
    world.end().await
}

#[tokio::test]
async fn only_the_first_request_ever_waits_for_the_issuer() -> Result<()> {
    let world = World::new(&["acme"], SHORT).await?;
    world.get("acme", "/").await?;
    for round in 1..=2 {
        let old = world.issuer.tokens();
        assert_eq!(old.len(), round);
        // The refresh is on its way and gets no answer: requests go on with the token there is.
        world.issuer.set(Mood::Hangs);
        world.wait_for_calls(round + 1).await?;
        let path = format!("/meanwhile-{round}");
        for _ in 0..20 {
            assert_eq!(world.get("acme", &path).await?.verdict(), (200, String::new()));
        }
        assert_eq!(world.issuer.tokens(), old, "the refresh was to be under way all the time");
        assert_eq!(world.app.bearers(&path), vec![old[round - 1].clone(); 20]);
        world.issuer.set(SHORT);
        world.wait_for_new_token("acme", "/after", &old).await?;
    }
    assert_eq!(world.issuer.calls().len(), 3, "one call for each token");
    world.end().await
}

#[tokio::test]
async fn tokens_of_four_seconds_never_fail_a_request() -> Result<()> {
    let world = World::new(&["acme"], Mood::Issues(4)).await?;
    let mut requests = 0;
    while world.issuer.tokens().len() < 6 {
        assert_eq!(world.get("acme", "/steady").await?.verdict(), (200, String::new()));
        requests += 1;
    }
    let bearers = world.app.bearers("/steady");
    assert_eq!(bearers.len(), requests, "none was sent twice");
    let mut tokens = bearers.clone();
    tokens.dedup();
    assert!(tokens.len() >= 5 && tokens.is_sorted(), "each token follows the one before: {tokens:?}");
    world.end().await
}

#[tokio::test]
async fn a_token_serves_to_its_end_while_its_refresh_fails() -> Result<()> {
    let world = World::new(&["acme"], SHORT).await?;
    world.get("acme", "/").await?;
    world.issuer.set(Mood::FAILS);
    // The refresh has failed once and is tried again.
    world.wait_for_calls(3).await?;
    assert_eq!(world.get("acme", "/still").await?.verdict(), (200, String::new()));
    assert_eq!(world.app.bearers("/still"), world.issuer.tokens());

    let ended = until(PATIENCE, async || {
        let answer = world.get("acme", "/late").await?;
        Ok((answer.status != 200).then_some(answer))
    });
    let answer = ended.await?.context("a token that never ends")?;
    assert_eq!(answer.verdict(), (503, "issuer_unreachable".into()));
    assert!(answer.header("retry-after").is_some());

    world.issuer.set(HOUR);
    let back = until(PATIENCE, async || Ok((world.get("acme", "/back").await?.status == 200).then_some(())));
    back.await?.context("no recovery")?;
    world.end().await
}

#[tokio::test]
async fn a_refusing_issuer_is_a_502_and_is_not_stormed() -> Result<()> {
    let world = World::new(&["acme", "globex"], Mood::REFUSES).await?;
    let (mut requests, mut answers) = (0, Vec::new());
    for _ in 0..5 {
        answers.extend(world.get_many("acme", "/", 40).await?);
        requests += 40;
    }
    assert!(answers.iter().all(|answer| answer.verdict() == (502, "issuer_refused".into())), "{answers:?}");
    assert!(answers.iter().all(|answer| !answer.body.contains("acme-client")), "what the client need not know");
    let calls = world.issuer.calls_of("acme-client");
    assert!(calls * 20 <= requests, "{calls} calls for {requests} requests");
    assert!(world.app.seen("/").is_empty(), "nothing goes on without a token");
    let refused = world.gateway.metric(r#"embedgate_token_mints_total{result="refused"}"#).await?;
    assert!(refused >= 1.0);

    // Another organisation has no part in it, and this one comes back by itself.
    world.issuer.set(HOUR);
    assert_eq!(world.get("globex", "/globex").await?.status, 200);
    let back = until(PATIENCE, async || Ok((world.get("acme", "/acme").await?.status == 200).then_some(())));
    back.await?.context("no recovery")?;
    world.end().await
}

#[tokio::test]
async fn an_issuer_that_says_when_to_come_back_is_left_alone_until_then() -> Result<()> {
    let world = World::new(&["acme"], Mood::Answers(429, &[("retry-after", "4")], "slow down")).await?;
    while world.issuer.calls().len() < 2 {
        let answer = world.get("acme", "/").await?;
        assert_eq!(answer.verdict(), (503, "issuer_unreachable".into()));
        assert!(answer.header("retry-after").is_some());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let calls = world.issuer.calls();
    // 4 seconds from the answer on are more than 4 seconds from one call to the next.
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(4), "{calls:?}");
    world.issuer.set(HOUR);
    let back = until(PATIENCE, async || Ok((world.get("acme", "/").await?.status == 200).then_some(())));
    back.await?.context("no recovery")?;
    world.end().await
}

#[tokio::test]
async fn an_issuer_that_gives_no_answer_is_a_503_for_its_organisation_only() -> Result<()> {
    let app = App::start("welcome").await?;
    let good = Issuer::start(HOUR).await?;
    let silent = Issuer::start(Mood::Hangs).await?;
    let rude = Issuer::start(Mood::HangsUp).await?;
    let page = Issuer::start(Mood::Answers(200, &[("content-type", "text/html")], "<html>sign in</html>")).await?;
    let away = Issuer::start(Mood::Answers(302, &[("location", "http://127.0.0.1:1/")], "")).await?;
    let issuers = [
        ("good", good.url()),
        ("silent", silent.url()),
        ("rude", rude.url()),
        ("page", page.url()),
        ("closed", closed()?),
        ("away", away.url()),
    ];
    let directory: String = issuers.iter().map(|(id, url)| org(id, url, &app.url(), &secret_of(id))).collect();
    let gateway = Installation::new(LOCAL, &directory)?.serve().await?;
    let ask = async |id: &'static str| {
        let session = session(KEY, id, None, 0)?;
        anyhow::Ok((id, gateway.get(&format!("/app-proxy/studio/{id}"), &session).await?))
    };
    for (id, answer) in try_join_all(["silent", "rude", "page", "closed"].map(ask)).await? {
        assert_eq!(answer.verdict(), (503, "issuer_unreachable".into()), "{id}");
        assert!(answer.header("retry-after").is_some(), "{id}");
    }
    // A redirect is an answer, and not a token. It is not followed.
    assert_eq!(ask("away").await?.1.verdict(), (502, "issuer_refused".into()));
    assert_eq!(ask("good").await?.1.status, 200);
    assert_eq!(app.seen("/").len(), 1, "nothing goes on without a token");
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_token_that_the_app_no_longer_takes_is_replaced_once() -> Result<()> {
    let world = World::new(&["acme"], HOUR).await?;
    world.get("acme", "/before").await?;
    world.app.refuse_seen(Refusal::Unauthorized);
    let answer = world.get("acme", "/after").await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "welcome"));
    assert_eq!(world.app.bearers("/after"), world.issuer.tokens(), "the old token, then the new one");
    assert_eq!(world.issuer.calls().len(), 2);
    // The new one is kept.
    world.get("acme", "/later").await?;
    assert_eq!(world.app.bearers("/later"), world.issuer.tokens()[1..]);
    world.end().await
}

#[tokio::test]
async fn requests_that_meet_the_revoked_token_together_share_one_mint() -> Result<()> {
    let world = World::new(&["acme"], HOUR).await?;
    world.get("acme", "/before").await?;
    world.app.refuse_seen(Refusal::Unauthorized);
    world.issuer.set(Mood::Hangs);
    let release = async {
        // All of them have been told 401 before there is another token.
        let told = until(PATIENCE, async || Ok((world.app.seen("/herd").len() >= 30).then_some(())));
        told.await?.context("not all requests arrived")?;
        world.issuer.set(HOUR);
        Ok(())
    };
    let (answers, ()) = tokio::try_join!(world.get_many("acme", "/herd", 30), release)?;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200; 30]);
    assert_eq!(world.issuer.calls().len(), 2);
    assert_eq!(world.app.seen("/herd").len(), 60, "each was sent twice");
    world.end().await
}

#[tokio::test]
async fn an_app_that_always_says_401_is_heard_without_a_loop() -> Result<()> {
    let world = World::new(&["acme"], HOUR).await?;
    world.app.refuse_all(Refusal::Unauthorized);
    let answer = world.get("acme", "/first").await?;
    assert_eq!((answer.status, answer.body.as_str()), (401, "the app says no"));
    assert_eq!(
        answer.header("www-authenticate"),
        None,
        "the challenge is for the gateway, and opens dialogs in browsers"
    );
    assert_eq!(world.app.seen("/first").len(), 2, "with the token, and once more with a new one");
    assert_eq!(world.issuer.calls().len(), 2);
    for _ in 0..50 {
        assert_eq!(world.get("acme", "/again").await?.status, 401);
    }
    let calls = world.issuer.calls().len();
    assert!(calls <= 4, "{calls} calls for 51 requests");
    world.end().await
}

#[tokio::test]
async fn a_401_is_answered_at_once_while_the_issuer_wants_peace() -> Result<()> {
    let world = World::new(&["acme"], SHORT).await?;
    world.get("acme", "/before").await?;
    world.issuer.set(Mood::Answers(429, &[("retry-after", "600")], "slow down"));
    // The refresh ahead has been told to come back in ten minutes.
    world.wait_for_calls(2).await?;
    world.gateway.wait_for_metric(r#"embedgate_token_mints_total{result="unreachable"}"#, 1.0).await?;
    world.app.refuse_all(Refusal::Unauthorized);
    // `get` fails when there is no answer in a minute.
    let answer = world.get("acme", "/after").await?;
    assert!(matches!(answer.status, 401 | 503), "{answer:?}");
    assert_eq!(world.issuer.calls().len(), 2, "the issuer was left alone");
    world.end().await
}

#[tokio::test]
async fn a_post_is_not_sent_twice_but_the_next_request_has_a_new_token() -> Result<()> {
    let world = World::new(&["acme"], HOUR).await?;
    world.get("acme", "/before").await?;
    let old = world.issuer.tokens();
    world.app.refuse_seen(Refusal::Unauthorized);
    let answer = world.post("acme", "/order", "one pump").await?;
    assert_eq!((answer.status, answer.body.as_str()), (401, "the app says no"));
    world.wait_for_calls(2).await?;
    world.wait_for_new_token("acme", "/next", &old).await?;
    assert_eq!(world.post("acme", "/second", "one more").await?.status, 200);
    let bodies = |path: &str| world.app.seen(path).into_iter().map(|seen| seen.body).collect::<Vec<_>>();
    assert_eq!((bodies("/order"), bodies("/second")), (vec!["one pump".into()], vec!["one more".into()]));
    assert_eq!(world.issuer.calls().len(), 2);
    world.end().await
}

#[tokio::test]
async fn a_redirect_to_the_sign_in_is_a_refusal_and_never_reaches_the_client() -> Result<()> {
    let world = World::new(&["acme"], HOUR).await?;
    world.get("acme", "/before").await?;
    let sign_in = || Refusal::SignIn(format!("{}/oidc/oauth2/v2.0/authorize?x=1", world.issuer.url()));
    world.app.refuse_seen(sign_in());
    assert_eq!(world.get("acme", "/renewed").await?.status, 200);
    assert_eq!(world.app.bearers("/renewed"), world.issuer.tokens());

    world.app.refuse_all(sign_in());
    for answer in [world.get("acme", "/never").await?, world.post("acme", "/never", "body").await?] {
        assert_eq!(answer.verdict(), (502, "credential_refused".into()));
        assert_eq!(answer.header("location"), None);
    }
    world.end().await
}

#[tokio::test]
async fn a_redirect_to_elsewhere_is_the_apps_own_affair() -> Result<()> {
    let world = World::new(&["acme"], HOUR).await?;
    // A host of which the workspace's URL is merely the beginning is another host.
    let lookalike = format!("{}0/home", world.issuer.url());
    for (elsewhere, from_outside) in [
        ("/login", "/app-proxy/studio/login"),
        ("https://example.com/", "https://example.com/"),
        (&lookalike, &lookalike),
    ] {
        world.app.refuse_all(Refusal::SignIn(elsewhere.to_owned()));
        let answer = world.get("acme", "/moved").await?;
        assert_eq!((answer.status, answer.header("location")), (302, Some(from_outside)));
    }
    assert_eq!(world.issuer.calls().len(), 1);
    world.end().await
}

#[tokio::test]
async fn a_changed_secret_leads_to_a_new_token_and_an_unchanged_one_keeps_it() -> Result<()> {
    let world = World::new(&["acme", "globex"], HOUR).await?;
    world.get("acme", "/acme").await?;
    world.get("globex", "/globex").await?;
    let old = world.issuer.tokens();
    let (issuer, app) = (world.issuer.url(), world.app.url());
    let acme = org("acme", &issuer, &app, "dose-rotated");
    let globex = org("globex", &issuer, &app, &secret_of("globex"));
    world.installation.replace("directory.toml", &format!("{acme}{globex}"))?;

    let new = world.wait_for_new_token("acme", "/acme", &old).await?;
    assert!(new.starts_with("tok-acme-client-"));
    let secrets = world.issuer.calls().into_iter().filter(|call| call.client_id == "acme-client").map(|c| c.secret);
    assert_eq!(secrets.collect::<Vec<_>>(), ["dose-acme-secret", "dose-rotated"]);
    world.get("globex", "/globex").await?;
    assert_eq!(world.app.bearers("/globex"), vec![old[1].clone(); 2]);
    assert_eq!(world.issuer.calls_of("globex-client"), 1);
    world.end().await
}

#[tokio::test]
async fn a_refused_secret_is_forgotten_with_its_correction() -> Result<()> {
    let world = World::new(&["acme"], Mood::Answers(429, &[("retry-after", "600")], "slow down")).await?;
    assert_eq!(world.get("acme", "/").await?.status, 503);
    world.issuer.set(HOUR);
    // The ten minutes were the old secret's.
    let acme = org("acme", &world.issuer.url(), &world.app.url(), "dose-rotated");
    world.installation.replace("directory.toml", &acme)?;
    let back = until(PATIENCE, async || Ok((world.get("acme", "/").await?.status == 200).then_some(())));
    back.await?.context("no recovery")?;
    world.end().await
}

#[tokio::test]
async fn a_refused_request_costs_no_token() -> Result<()> {
    let world = World::new(&["acme"], HOUR).await?;
    let (all, for_other) = (session(KEY, "acme", None, 0)?, session(KEY, "acme", Some("other"), 0)?);
    let (expired, stranger) = (session(KEY, "acme", None, 7200)?, session(KEY, "umbrella", None, 0)?);
    for (path, session, status) in [
        ("/app-proxy/nothing/", &all, 404),
        ("/app-proxy/studio/", &for_other, 403),
        ("/sql/1.0/warehouses/none", &all, 404),
        ("/app-proxy/studio/", &expired, 401),
        ("/app-proxy/studio/", &stranger, 401),
        ("/elsewhere", &all, 404),
        ("/app-proxy/studio/", &String::new(), 401),
    ] {
        assert_eq!(world.ask(request("GET", path, session, "")).await?.status, status, "{path}");
    }
    assert_eq!(world.issuer.calls().len(), 0);
    assert!(world.app.seen("/").is_empty());
    world.end().await
}
