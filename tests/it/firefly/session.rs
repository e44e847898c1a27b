//! Sessions as FireFly's front end starts them: with a JWT of its own, signed with `EdDSA`.

use super::Front;
use crate::harness::raw::{Message, Wire};
use crate::harness::signer::{Signer, claims};
use crate::postgres::Gateway;
use anyhow::{Context as _, Result, ensure};
use embedgate::clock::Clock;
use serde_json::json;

/// FireFly's front end with the keys of its JWTs.
struct Site {
    front: Front,
    signer: Signer,
    origin: String,
}

impl Site {
    async fn start() -> Result<Self> {
        let (mut front, signer) = (Front::start().await?, Signer::start().await?);
        let origin = signer.url().trim_end_matches("/api/auth/jwks").to_owned();
        front.set("FRONTEND_URL", &origin);
        Ok(Self { front, signer, origin })
    }

    fn jwt(&self, user: &str, email: &str) -> Result<String> {
        let mut claims = claims(Clock::default().now());
        (claims["iss"], claims["aud"]) = (json!(self.origin), json!(self.origin));
        (claims["sub"], claims["email"]) = (json!(user), json!(email));
        self.signer.token(&claims)
    }

    /// What the front end's page does before it shows a tool.
    async fn start_session(&self, gateway: &Gateway, jwt: &str, tool: &str, org: &str, jar: &str) -> Result<Message> {
        let body = json!({ "jwt": jwt, "toolId": tool, "orgId": org }).to_string();
        let cookies = if jar.is_empty() { String::new() } else { format!("Cookie: {jar}\r\n") };
        let mut wire = Wire::connect(gateway.data).await?;
        wire.send(format!(
            "POST /start-session HTTP/1.1\r\nHost: localhost:8090\r\nOrigin: {}\r\n{cookies}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.origin,
            body.len()
        ))
        .await?;
        wire.answer().await
    }

    /// What the frame does: the status, and who acted for the user.
    async fn open(&self, gateway: &Gateway, tool: &str, jar: &str, mark: &str) -> Result<(u16, String)> {
        let mut wire = Wire::connect(gateway.data).await?;
        let path = format!("/app-proxy/{tool}/{mark}");
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost:8090\r\nCookie: {jar}\r\n\r\n")).await?;
        let status = wire.answer().await?.status();
        let bearer = self.front.app.bearers(&format!("/{mark}")).pop().unwrap_or_default();
        Ok((status, bearer.split('-').nth(1).unwrap_or_default().to_owned()))
    }
}

fn cookie(answer: &Message) -> Result<String> {
    let set = answer.field("Set-Cookie").with_context(|| format!("no cookie: {answer:?}"))?;
    Ok(set.split(';').next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_end_starts_sessions_as_it_did_before() -> Result<()> {
    let site = Site::start().await?;
    let gateway = site.front.ready().await?;
    let jwt = site.jwt("u-ann", "ann@example.com")?;
    let started = site.start_session(&gateway, &jwt, "tool-1", "acme", "").await?;
    ensure!(started.status() == 200 && started.text() == "{\"ok\":true}", "{started:?}");
    ensure!(started.field("Access-Control-Allow-Origin") == Some(&site.origin), "{started:?}");
    let jar = cookie(&started)?;
    ensure!(site.open(&gateway, "tool-1", &jar, "a").await? == (200, "ann".to_owned()));

    site.front.sql("insert into organization (id, name) values ('other', 'Other')").await?;
    site.front.tool("theirs", "other", "http://127.0.0.1:1").await?;
    site.front.tool("broken", "acme", "http://127.0.0.1:1").await?;
    site.front.sql("update \"authoringTool\" set status = 'ERROR' where id = 'broken'").await?;
    site.front.member("acme", "u-bob", "bob@example.com").await?;
    let bob = site.jwt("u-bob", "bob@example.com")?;
    let expired = {
        let mut claims = claims(Clock::default().now() - 3600);
        (claims["iss"], claims["aud"]) = (json!(site.origin), json!(site.origin));
        site.signer.token(&claims)?
    };
    let others_key = Signer::start().await?.token(&claims(Clock::default().now()))?;
    for (jwt, tool, org, status, text) in [
        (&expired, "tool-1", "acme", 401, "unauthorized: invalid JWT"),
        (&others_key, "tool-1", "acme", 401, "unauthorized: invalid JWT"),
        (&jwt, "theirs", "other", 403, "forbidden: user is not a member of organization \"other\""),
        (&jwt, "theirs", "acme", 403, "forbidden: tool \"theirs\" not found in org \"acme\""),
        (&jwt, "broken", "acme", 403, "forbidden: tool \"broken\" is not available"),
        (&bob, "tool-1", "acme", 403, "forbidden: no SPN credentials found for user \"bob@example.com\""),
    ] {
        let refused = crate::harness::until(crate::harness::PATIENCE, async || {
            let answer = site.start_session(&gateway, jwt, tool, org, &jar).await?;
            let fits = answer.status() == status && answer.text() == format!("{text}\n");
            Ok(fits.then_some(()))
        });
        refused.await?.with_context(|| format!("{tool} of {org} is not refused with {text}"))?;
    }
    let client = site.front.postgres.client().await?;
    let rows = client.query("select count(*) from proxy_sessions", &[]).await?;
    ensure!(rows[0].get::<_, i64>(0) == 0, "sessions are kept in the database");
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn weakness_02_a_second_tool_does_not_end_the_first() -> Result<()> {
    let site = Site::start().await?;
    site.front.tool("tool-2", "acme", &site.front.app.url()).await?;
    let gateway = site.front.ready().await?;
    let jwt = site.jwt("u-ann", "ann@example.com")?;
    let mut jar = format!("proxy_sid={}", "0".repeat(64));
    for tool in ["tool-1", "tool-2"] {
        let started = site.start_session(&gateway, &jwt, tool, "acme", &jar).await?;
        jar = format!("{jar}; {}", cookie(&started)?);
    }
    for (tool, mark) in [("tool-1", "a"), ("tool-2", "b"), ("tool-1", "c")] {
        ensure!(site.open(&gateway, tool, &jar, mark).await? == (200, "ann".to_owned()), "{tool}");
    }
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn weakness_05_a_session_is_never_another_users_and_ends_with_its_ground() -> Result<()> {
    let site = Site::start().await?;
    site.front.member("acme", "u-bob", "bob@example.com").await?;
    site.front.spn("bob", "bob@example.com", &site.front.issuer.url()).await?;
    let gateway = site.front.ready().await?;
    let (ann, bob) = (site.jwt("u-ann", "ann@example.com")?, site.jwt("u-bob", "bob@example.com")?);
    let first = cookie(&site.start_session(&gateway, &ann, "tool-1", "acme", "").await?)?;
    // Bob signs in at the same browser: FireFly's proxy left him with Ann's session.
    let second = cookie(&site.start_session(&gateway, &bob, "tool-1", "acme", &first).await?)?;
    ensure!(site.open(&gateway, "tool-1", &second, "a").await? == (200, "bob".to_owned()));
    // A good cookie does not stand for a JWT.
    let without = site.start_session(&gateway, "x", "tool-1", "acme", &second).await?;
    ensure!(without.status() == 401, "{without:?}");
    site.front.sql("update \"user\" set banned = true where id = 'u-bob'").await?;
    let banned = crate::harness::until(crate::harness::PATIENCE, async || {
        let start = site.start_session(&gateway, &bob, "tool-1", "acme", &second).await?;
        let open = site.open(&gateway, "tool-1", &second, "b").await?.0;
        Ok((start.status() == 403 && start.text() == "forbidden: user is banned\n" && open == 403).then_some(()))
    });
    banned.await?.context("a banned user goes on")?;
    ensure!(site.open(&gateway, "tool-1", &first, "c").await? == (200, "ann".to_owned()));
    gateway.process.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_gets_no_token_shows_at_the_start() -> Result<()> {
    let site = Site::start().await?;
    let gateway = site.front.ready().await?;
    site.front.issuer.set(crate::harness::issuer::Mood::REFUSES);
    let jwt = site.jwt("u-ann", "ann@example.com")?;
    let refused = site.start_session(&gateway, &jwt, "tool-1", "acme", "").await?;
    ensure!(refused.status() == 500 && refused.text() == "failed to obtain Databricks token\n", "{refused:?}");
    gateway.process.stop().await
}
