//! Private keys that sign JWTs: RS256 and ES256 (RFC 7518 3.3 and 3.4). One place reads them, so that what `check` lets
//! pass is what signs.

use crate::secret::Secret;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl Algorithm {
    /// All of them by the names that JWTs have for them.
    pub const NAMES: [(&'static str, Self); 2] = [("RS256", Self::Rs256), ("ES256", Self::Es256)];

    /// The name in JWTs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// Why a text is not a key that can sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// There is no private key in it.
    #[error("holds no private key in PEM form without a passphrase; convert it with `openssl pkcs8 -topk8 -nocrypt`")]
    Pem,
    /// It is another kind of key, or too weak.
    #[error("is not a key that {} signs with; that takes {}", .0.name(), needed(*.0))]
    Kind(Algorithm),
}

fn needed(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256 => "an RSA key of 2048 to 8192 bits",
        Algorithm::Es256 => "a key on the curve P-256",
    }
}

/// The system has no random numbers, or the key cannot sign after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key could not sign")]
pub struct SigningFailed;

/// A private key.
pub struct SigningKey(Pair);

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
}

impl SigningKey {
    /// Reads the first private key of a text in PEM: PKCS #8, or the older form of its kind.
    ///
    /// # Errors
    /// [`SigningKeyError`]; never with anything of the key.
    pub fn from_pem(algorithm: Algorithm, pem: &Secret) -> Result<Self, SigningKeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| SigningKeyError::Pem)?;
        let wrong = SigningKeyError::Kind(algorithm);
        let pair = match (algorithm, &der) {
            (Algorithm::Rs256, PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map(rsa),
            (Algorithm::Rs256, PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map(rsa),
            (Algorithm::Es256, PrivateKeyDer::Pkcs8(_) | PrivateKeyDer::Sec1(_)) => {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der()).map(Pair::Ec)
            }
            _ => return Err(wrong),
        };
        pair.map(Self).map_err(|_| wrong)
    }

    fn algorithm(&self) -> Algorithm {
        match self.0 {
            Pair::Rsa(_) => Algorithm::Rs256,
            Pair::Ec(_) => Algorithm::Es256,
        }
    }

    /// A JWT of these claims (RFC 7519) in the compact form, with the key's id in its head.
    ///
    /// # Errors
    /// [`SigningFailed`].
    pub fn jwt(&self, key_id: Option<&str>, claims: &Value) -> Result<Secret, SigningFailed> {
        let mut head = json!({ "alg": self.algorithm().name(), "typ": "JWT" });
        if let Some(id) = key_id {
            head["kid"] = id.into();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(claims));
        let signature = self.sign(signed.as_bytes())?;
        Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        let random = SystemRandom::new();
        match &self.0 {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| SigningFailed)
            }
            Pair::Ec(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| SigningFailed)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// The public half's fingerprint as Snowflake writes it: `SHA256:` and the hash of its DER in Base64.
    ///
    /// # Errors
    /// [`SigningFailed`].
    pub fn fingerprint(&self) -> Result<String, SigningFailed> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &self.0 {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ec(pair) => pair.public_key().as_der(),
        };
        let der = der.map_err(|_| SigningFailed)?;
        Ok(format!("SHA256:{}", STANDARD.encode(Sha256::digest(der.as_ref()))))
    }

    /// The public half as a JSON Web Key (RFC 7517, RFC 7518 6.2); none for RSA, which is not published here.
    #[must_use]
    pub fn jwk(&self, id: &str) -> Option<Value> {
        let Pair::Ec(pair) = &self.0 else { return None };
        // An uncompressed point: 4, then two coordinates of 32 bytes (SEC 1, 2.3.3).
        let (x, y) = pair.public_key().as_ref().get(1..65)?.split_at(32);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        Some(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "use": "sig", "alg": "ES256" }))
    }
}

fn rsa(pair: RsaKeyPair) -> Pair {
    Pair::Rsa(Box::new(pair))
}

#[cfg(test)]
pub(crate) mod tests;
