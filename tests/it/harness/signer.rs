//! A front end that signs JWTs and publishes its keys, or does not: it answers late, too much, or not at all. It signs by
//! itself, without the library that the gateway checks with.

use super::issuer::{answer, lock, serve};
use anyhow::{Context as _, Result, bail};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The `iss` of its tokens.
pub(crate) const ISSUER: &str = "https://front.example";
/// The `aud` of its tokens.
pub(crate) const AUDIENCE: &str = "https://gate.example";

/// How a signer answers who asks for its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Publishes {
    /// With its keys.
    Keys,
    /// With a status, header fields and a body.
    Answer(u16, &'static [(&'static str, &'static str)], &'static str),
    /// With its keys and ten megabytes more, chunked or with their length told.
    TooMuch {
        /// Whether the length is not told.
        chunked: bool,
    },
    /// Not at all, until that changes; then as it has become.
    Late,
    /// By closing the connection.
    Nothing,
}

/// A front end. Dropping it ends it.
pub(crate) struct Signer {
    address: SocketAddr,
    publishes: watch::Sender<Publishes>,
    desk: Arc<Desk>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Desk {
    keys: Mutex<Vec<Arc<Key>>>,
    fetches: AtomicUsize,
}

impl Signer {
    /// Starts one on a free port. It has one key, an Ed25519 one, and publishes it.
    pub(crate) async fn start() -> Result<Self> {
        let (publishes, told) = watch::channel(Publishes::Keys);
        let desk =
            Arc::new(Desk { keys: Mutex::new(vec![Arc::new(Key::generate("k1", "EdDSA")?)]), ..Desk::default() });
        let asked = Arc::clone(&desk);
        let (address, server) = serve(move |request| Arc::clone(&asked).answer(request, told.clone())).await?;
        Ok(Self { address, publishes, desk, _server: server })
    }

    /// Where its keys are.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/auth/jwks", self.address)
    }

    /// Changes how it answers, also those who wait.
    pub(crate) fn set(&self, publishes: Publishes) {
        self.publishes.send_replace(publishes);
    }

    /// How often its keys were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.desk.fetches.load(Ordering::Relaxed)
    }

    /// Has these keys and no others from now on. It signs with the first.
    pub(crate) fn replace(&self, keys: impl IntoIterator<Item = Key>) {
        *lock(&self.desk.keys) = keys.into_iter().map(Arc::new).collect();
    }

    /// A token with these claims, see [`claims`].
    pub(crate) fn token(&self, claims: &Value) -> Result<String> {
        let key = lock(&self.desk.keys).first().cloned().context("no key to sign with")?;
        key.token(claims)
    }
}

impl Desk {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        mut told: watch::Receiver<Publishes>,
    ) -> io::Result<Response<Full<Bytes>>> {
        if request.uri().path() != "/api/auth/jwks" {
            return Ok(answer(404, &[], "only keys here"));
        }
        self.fetches.fetch_add(1, Ordering::Relaxed);
        // The sender is gone when the test is over, and with it this task.
        let publishes = told.wait_for(|told| *told != Publishes::Late).await.map_err(io::Error::other)?.clone();
        let jwks: Vec<_> = lock(&self.keys).iter().map(|key| key.jwk()).collect();
        match publishes {
            Publishes::Keys => Ok(answer(200, &[], &json!({ "keys": jwks }).to_string())),
            Publishes::Answer(status, fields, body) => Ok(answer(status, fields, body)),
            Publishes::TooMuch { chunked } => {
                let body = json!({ "keys": jwks, "more": "x".repeat(10_000_000) }).to_string();
                Ok(answer(200, if chunked { &[("transfer-encoding", "chunked")] } else { &[] }, &body))
            }
            Publishes::Late | Publishes::Nothing => Err(io::Error::other("hangs up")),
        }
    }
}

/// Claims that start a session for Ann, made at `now` and good for five minutes.
pub(crate) fn claims(now: u64) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "email": "ann@acme.example", "iat": now, "exp": now + 300,
    })
}

/// A key of a front end.
pub(crate) struct Key {
    id: String,
    algorithm: &'static str,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    /// A new key with an id, for an algorithm such as `EdDSA`.
    pub(crate) fn generate(id: &str, algorithm: &'static str) -> Result<Self> {
        let pair = match algorithm {
            "EdDSA" => Pair::Ed25519(Ed25519KeyPair::generate()?),
            "ES256" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?),
            "ES384" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?),
            _ => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?),
        };
        Ok(Self { id: id.to_owned(), algorithm, pair })
    }

    /// The private half in PEM, of a P-256 or an RSA key.
    pub(crate) fn pem(&self) -> Result<String> {
        let text = match &self.pair {
            Pair::Rsa(pair) => BASE64_STANDARD.encode(AsDer::<Pkcs8V1Der<'_>>::as_der(pair)?.as_ref()),
            Pair::Ec(pair) => BASE64_STANDARD.encode(pair.to_pkcs8v1()?.as_ref()),
            Pair::Ed25519(_) => bail!("not for Ed25519"),
        };
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
    }

    /// The public half (RFC 7517).
    pub(crate) fn jwk(&self) -> Value {
        let coded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Ed25519(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": coded(pair.public_key().as_ref()) }),
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": coded(x), "y": coded(y) })
            }
            Pair::Rsa(pair) => {
                let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                json!({ "kty": "RSA", "n": coded(n), "e": coded(e) })
            }
        };
        (jwk["kid"], jwk["alg"]) = (json!(self.id), json!(self.algorithm));
        jwk
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> Result<String> {
        self.token_with(&json!({ "alg": self.algorithm, "kid": self.id }), claims)
    }

    /// A token with these claims and this header, which need not tell the truth.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> Result<String> {
        signed_by(header, claims, |message| self.sign(message))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        let encoding: &dyn RsaEncoding = match self.algorithm {
            "RS384" => &signature::RSA_PKCS1_SHA384,
            "RS512" => &signature::RSA_PKCS1_SHA512,
            "PS256" => &signature::RSA_PSS_SHA256,
            "PS384" => &signature::RSA_PSS_SHA384,
            "PS512" => &signature::RSA_PSS_SHA512,
            _ => &signature::RSA_PKCS1_SHA256,
        };
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ec(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

/// A token in its compact form (RFC 7515 7.1) with whatever signature `sign` gives.
pub(crate) fn signed_by(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<String> {
    let coded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", coded(header), coded(claims));
    let signature = sign(message.as_bytes())?;
    Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}
