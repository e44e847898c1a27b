//! JWTs of a front end: which are taken, and what happens when its keys change or cannot be had.

use crate::harness::signer::{AUDIENCE, ISSUER, Key, Publishes, Signer, claims, signed_by};
use crate::harness::{PATIENCE, until};
use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use embedgate::clock::Clock;
use embedgate::config::{JWT_ALGORITHMS, Jwt};
use embedgate::metrics::Metrics;
use embedgate::model::url::Endpoint;
use embedgate::net::dial::Dialer;
use embedgate::net::tls;
use embedgate::session::jwt::{Claims, JwtError, Verifier};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// A time that no test reaches.
const NEVER: Duration = Duration::from_secs(3600);
/// A time that tests wait for many times over.
const SOON: Duration = Duration::from_millis(20);

/// A verifier that fetches its keys from a signer.
struct Gate {
    verifier: Arc<Verifier>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The settings for a signer: all algorithms, keys fetched once, and once more for an unknown id.
fn settings(signer: &Signer) -> Result<Jwt> {
    Ok(Jwt {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        jwks_url: Endpoint::parse(&signer.url())?,
        algorithms: JWT_ALGORITHMS.map(str::to_owned).to_vec(),
        refresh_interval: NEVER,
        unknown_kid_interval: NEVER,
        single_use: false,
        max_lifetime: NEVER,
        org_claim: None,
    })
}

impl Gate {
    fn open(settings: &Jwt) -> Result<Self> {
        let dialer = Dialer::new(tls::client_config(None)?, true, PATIENCE);
        let (clock, metrics) = (Clock::default(), Arc::<Metrics>::default());
        let verifier = Arc::new(Verifier::new(settings, dialer, clock.clone(), Arc::clone(&metrics)));
        verifier.spawn(&Handle::current());
        Ok(Self { verifier, clock, metrics })
    }

    async fn verify(&self, token: &str) -> Result<Claims, JwtError> {
        self.verifier.verify(token).await
    }

    fn claims(&self) -> Value {
        claims(self.clock.now())
    }

    fn metric(&self, name: &str) -> Result<f64> {
        let text = self.metrics.render();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.context("no such metric")?.parse()?)
    }

    /// Waits until more fetches have failed than had before.
    async fn another_failure(&self) -> Result<()> {
        let failures = || self.metric("embedgate_jwks_failures_total");
        let before = failures()?;
        let failed = until(PATIENCE, async || Ok((failures()? > before).then_some(()))).await?;
        failed.context("no fetch has failed")
    }

    /// Waits until a token meets this verdict.
    async fn expect(&self, token: &str, verdict: Option<JwtError>) -> Result<()> {
        let mut last = None;
        let reached = until(PATIENCE, async || {
            last = self.verify(token).await.err();
            Ok((last == verdict).then_some(()))
        });
        let reached = reached.await?;
        reached.with_context(|| format!("the verdict is {last:?} and not {verdict:?}"))
    }
}

#[tokio::test]
async fn every_configured_algorithm_is_taken_with_a_key_that_fits() -> Result<()> {
    let signer = Signer::start().await?;
    let keys = JWT_ALGORITHMS.map(|algorithm| Key::generate(algorithm, algorithm));
    let keys = keys.into_iter().collect::<Result<Vec<_>>>()?;
    let now = Clock::default().now();
    let tokens = keys.iter().map(|key| key.token(&claims(now))).collect::<Result<Vec<_>>>()?;
    signer.replace(keys);
    let gate = Gate::open(&settings(&signer)?)?;
    for (algorithm, token) in JWT_ALGORITHMS.iter().zip(&tokens) {
        let read = gate.verify(token).await.with_context(|| (*algorithm).to_owned())?;
        assert_eq!((read.subject.as_str(), read.email.as_str(), read.id), ("user-1", "ann@acme.example", None));
        assert_eq!((read.issued, read.expires), (Some(now), now + 300));
    }
    // The same tokens where only one of the algorithms is configured.
    let one = Gate::open(&Jwt { algorithms: vec!["ES256".to_owned()], ..settings(&signer)? })?;
    for (algorithm, token) in JWT_ALGORITHMS.iter().zip(&tokens) {
        let verdict = (*algorithm != "ES256").then_some(JwtError::Algorithm);
        assert_eq!(one.verify(token).await.err(), verdict, "{algorithm}");
    }
    assert_eq!(signer.fetches(), 2);
    Ok(())
}

#[tokio::test]
async fn a_token_cannot_choose_how_it_is_checked() -> Result<()> {
    let signer = Signer::start().await?;
    let [ed, ec, rsa] = [("ed", "EdDSA"), ("ec", "ES256"), ("rsa", "RS256")].map(|(id, alg)| Key::generate(id, alg));
    let (ed, ec, rsa) = (ed?, ec?, rsa?);
    let (thief, thiefs_rsa) = (Key::generate("ed", "EdDSA")?, Key::generate("rsa", "PS256")?);
    let claims = claims(Clock::default().now());
    let by_public_key = |jwk: &Value, part: &str| {
        let public = BASE64_URL_SAFE_NO_PAD.decode(jwk[part].as_str().context("no such part")?)?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &public);
        let header = json!({ "alg": "HS256", "kid": jwk["kid"] });
        signed_by(&header, &claims, |message| Ok(hmac::sign(&secret, message).as_ref().to_vec()))
    };
    let unsigned = |alg: &str| signed_by(&json!({ "alg": alg, "kid": "ed" }), &claims, |_| Ok(Vec::new()));
    let good = ed.token(&claims)?;
    let other_claims = ed.token(&json!({ "sub": "admin" }))?;
    let mixed = [good.rsplit_once('.').context("no token")?.0, other_claims.rsplit_once('.').context("no token")?.1];
    let tokens = [
        ("a secret made of the key", by_public_key(&ed.jwk(), "x")?, JwtError::Algorithm),
        ("a secret made of the modulus", by_public_key(&rsa.jwk(), "n")?, JwtError::Algorithm),
        ("none", unsigned("none")?, JwtError::Algorithm),
        ("nOnE", unsigned("nOnE")?, JwtError::Algorithm),
        ("no signature", unsigned("EdDSA")?, JwtError::Signature),
        ("RSA with an EC key", rsa.token_with(&json!({ "alg": "RS256", "kid": "ec" }), &claims)?, JwtError::Algorithm),
        (
            "EdDSA with an RSA key",
            ed.token_with(&json!({ "alg": "EdDSA", "kid": "rsa" }), &claims)?,
            JwtError::Algorithm,
        ),
        ("PSS with a key for PKCS 1", thiefs_rsa.token(&claims)?, JwtError::Algorithm),
        ("another signature", mixed.join("."), JwtError::Signature),
        ("another's key", thief.token(&claims)?, JwtError::Signature),
        (
            "a key that came along",
            thief.token_with(&json!({ "alg": "EdDSA", "kid": "ed", "jwk": thief.jwk() }), &claims)?,
            JwtError::Signature,
        ),
        (
            "an extension",
            ed.token_with(&json!({ "alg": "EdDSA", "kid": "ed", "crit": ["exp"] }), &claims)?,
            JwtError::Critical,
        ),
        ("no key id", ed.token_with(&json!({ "alg": "EdDSA" }), &claims)?, JwtError::NoKeyId),
        ("too long", format!("{good}{}", "A".repeat(8192)), JwtError::TooLong),
        ("cut short", good[..good.len() - 4].to_owned(), JwtError::Signature),
    ];
    signer.replace([ed, ec, rsa]);
    let gate = Gate::open(&settings(&signer)?)?;
    for (what, token, verdict) in tokens {
        assert_eq!(gate.verify(&token).await.err(), Some(verdict), "{what}");
    }
    gate.verify(&good).await?;
    assert_eq!(signer.fetches(), 1);
    Ok(())
}

#[tokio::test]
async fn a_token_without_a_key_id_means_the_only_key() -> Result<()> {
    let signer = Signer::start().await?;
    let key = Key::generate("k", "ES256")?;
    let token = key.token_with(&json!({ "alg": "ES256" }), &claims(Clock::default().now()))?;
    signer.replace([key]);
    Gate::open(&settings(&signer)?)?.verify(&token).await?;
    Ok(())
}

#[tokio::test]
async fn claims_and_times_are_checked_by_the_gateways_clock() -> Result<()> {
    let signer = Signer::start().await?;
    let gate = Gate::open(&settings(&signer)?)?;
    let with = |name: &str, value: Value| {
        let mut claims = gate.claims();
        claims[name] = value;
        signer.token(&claims)
    };
    let now = gate.clock.now();
    assert_eq!(gate.verify(&with("iss", json!("https://evil.example"))?).await, Err(JwtError::Issuer));
    assert_eq!(gate.verify(&with("aud", json!(["https://evil.example"]))?).await, Err(JwtError::Audience));
    assert_eq!(gate.verify(&with("email", json!(""))?).await, Err(JwtError::NoEmail));
    gate.verify(&with("aud", json!(["https://evil.example", AUDIENCE]))?).await?;
    let later = with("nbf", json!(now + 100))?;
    assert_eq!(gate.verify(&later).await, Err(JwtError::NotYetValid));
    gate.clock.turn(91);
    gate.verify(&later).await?;
    gate.clock.turn(300 + 1 - 91);
    let token = signer.token(&claims(now))?;
    gate.verify(&token).await?;
    gate.clock.turn(9);
    assert_eq!(gate.verify(&token).await, Err(JwtError::Expired));
    let single_use = Gate::open(&Jwt { single_use: true, ..settings(&signer)? })?;
    assert_eq!(single_use.verify(&signer.token(&single_use.claims())?).await, Err(JwtError::NoId));
    Ok(())
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_however_many_wait() -> Result<()> {
    let signer = Signer::start().await?;
    let gate = Arc::new(Gate::open(&settings(&signer)?)?);
    gate.verify(&signer.token(&gate.claims())?).await?;
    let unknown = Key::generate("made-up", "EdDSA")?.token(&gate.claims())?;
    // All of them wait for the one answer.
    signer.set(Publishes::Late);
    let ask = |_| {
        let (gate, token) = (Arc::clone(&gate), unknown.clone());
        tokio::spawn(async move { gate.verify(&token).await })
    };
    let waiting: Vec<_> = (0..50).map(ask).collect();
    until(PATIENCE, async || Ok((signer.fetches() == 2).then_some(()))).await?.context("nobody asked for keys")?;
    // Known keys do not wait meanwhile.
    gate.verify(&signer.token(&gate.claims())?).await?;
    signer.set(Publishes::Keys);
    for verdict in waiting {
        assert_eq!(verdict.await?, Err(JwtError::UnknownKey));
    }
    // Not again before the interval is over.
    assert_eq!(gate.verify(&unknown).await, Err(JwtError::UnknownKey));
    assert_eq!(signer.fetches(), 2);
    Ok(())
}

#[tokio::test]
async fn a_new_key_is_taken_with_its_first_token() -> Result<()> {
    let signer = Signer::start().await?;
    let gate = Gate::open(&Jwt { unknown_kid_interval: SOON, ..settings(&signer)? })?;
    let before = signer.token(&gate.claims())?;
    gate.verify(&before).await?;
    for id in ["k2", "k3"] {
        signer.replace([Key::generate(id, "ES256")?]);
        let token = signer.token(&gate.claims())?;
        gate.expect(&token, None).await?;
    }
    // And those that are published no more are forgotten.
    assert_eq!(gate.verify(&before).await, Err(JwtError::UnknownKey));
    Ok(())
}

#[tokio::test]
async fn keys_are_fetched_again_ahead_of_time() -> Result<()> {
    let signer = Signer::start().await?;
    let gate = Gate::open(&Jwt { refresh_interval: SOON, ..settings(&signer)? })?;
    let before = signer.token(&gate.claims())?;
    gate.verify(&before).await?;
    signer.replace([Key::generate("k2", "EdDSA")?]);
    // Without a token that asks for it.
    let asked = signer.fetches();
    until(PATIENCE, async || Ok((signer.fetches() > asked + 1).then_some(())))
        .await?
        .context("keys were not fetched")?;
    gate.verify(&signer.token(&gate.claims())?).await?;
    gate.expect(&before, Some(JwtError::UnknownKey)).await
}

#[tokio::test]
async fn old_keys_serve_while_new_ones_cannot_be_had() -> Result<()> {
    let bad = [
        Publishes::Nothing,
        Publishes::TooMuch { chunked: false },
        Publishes::TooMuch { chunked: true },
        Publishes::Answer(500, &[], "oops"),
        Publishes::Answer(302, &[("location", "/api/auth/jwks")], ""),
        Publishes::Answer(200, &[], r#"{"keys":[]}"#),
        Publishes::Answer(200, &[], "<html>"),
    ];
    for how in bad {
        let signer = Signer::start().await?;
        let gate = Gate::open(&Jwt { refresh_interval: SOON, ..settings(&signer)? })?;
        gate.verify(&signer.token(&gate.claims())?).await?;
        signer.set(how.clone());
        gate.another_failure().await?;
        gate.verify(&signer.token(&gate.claims())?).await.with_context(|| format!("{how:?}"))?;
        ensure!(gate.metric("embedgate_jwks_age_seconds")? > 0.0, "the keys have no age");
        // When it is back, so are fresh keys.
        signer.replace([Key::generate("k2", "EdDSA")?]);
        signer.set(Publishes::Keys);
        gate.expect(&signer.token(&gate.claims())?, None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_any_keys_the_answer_says_so_until_there_are_some() -> Result<()> {
    for (how, why) in [
        (Publishes::Nothing, "http://127.0.0.1:"),
        (Publishes::TooMuch { chunked: false }, "more than 262144 bytes"),
        (Publishes::TooMuch { chunked: true }, "more than 262144 bytes"),
        (Publishes::Answer(200, &[], r#"{"keys":[]}"#), "no key"),
        (Publishes::Answer(404, &[], ""), "404"),
    ] {
        let signer = Signer::start().await?;
        signer.set(how.clone());
        let gate = Gate::open(&settings(&signer)?)?;
        let token = signer.token(&gate.claims())?;
        let Err(JwtError::KeysUnavailable { cause }) = gate.verify(&token).await else {
            anyhow::bail!("{how:?}: there should be no keys");
        };
        ensure!(cause.contains(why), "{how:?}: {cause}");
        signer.set(Publishes::Keys);
        gate.expect(&token, None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_endpoint_is_not_waited_for_longer_than_a_fetch_may_take() -> Result<()> {
    let signer = Signer::start().await?;
    signer.set(Publishes::Late);
    let gate = Gate::open(&settings(&signer)?)?;
    let token = signer.token(&gate.claims())?;
    let verdict = timeout(PATIENCE, gate.verify(&token)).await?;
    ensure!(matches!(verdict, Err(JwtError::KeysUnavailable { .. })), "{verdict:?}");
    signer.set(Publishes::Keys);
    gate.expect(&token, None).await
}
