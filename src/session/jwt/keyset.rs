//! A set of public keys (RFC 7517 5), and what each may check.

use super::{JwtError, MAX_KEY_ID, algorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use std::ops::RangeInclusive;

/// Keys used of one set; more than any front end has while it changes keys.
const MAX_KEYS: usize = 64;
/// Sizes of RSA keys in bits: shorter ones are too weak (RFC 7518 3.3), and longer ones cost too much time.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;
/// Longest RSA exponent in bytes. The usual one, 65537, has three.
const MAX_RSA_EXPONENT: usize = 8;
const RSA_ALGORITHMS: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// Keys that can check signatures; at least one.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// Those among the configured ones that it may be used with; at least one.
    algorithms: Vec<Algorithm>,
    public: DecodingKey,
}

/// Why an answer is no set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKeySet {
    #[error("is not a JWK set: a JSON object with a list of keys")]
    Malformed,
    #[error("holds no key for the signatures in session.jwt.algorithms")]
    Empty,
}

impl KeySet {
    /// Reads a set. What cannot be used is passed over (RFC 7517 5): other kinds of keys, other uses, weak keys.
    pub(super) fn parse(json: &[u8], accepted: &[Algorithm]) -> Result<Self, BadKeySet> {
        let set: Value = serde_json::from_slice(json).map_err(|_| BadKeySet::Malformed)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(BadKeySet::Malformed)?;
        let keys: Vec<_> = keys.iter().filter_map(|jwk| Key::read(&Jwk(jwk), accepted)).take(MAX_KEYS).collect();
        if keys.is_empty() { Err(BadKeySet::Empty) } else { Ok(Self { keys }) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key that a token means, for its algorithm. Without an id it means the only one there is.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, JwtError> {
        if id.is_none() && self.keys.len() > 1 {
            return Err(JwtError::NoKeyId);
        }
        // Several keys of one id are of different kinds (RFC 7517 4.5).
        let mut meant = self.keys.iter().filter(|key| id.is_none() || key.id.as_deref() == id).peekable();
        if meant.peek().is_none() {
            return Err(JwtError::UnknownKey);
        }
        meant.find(|key| key.algorithms.contains(&algorithm)).map(|key| &key.public).ok_or(JwtError::Algorithm)
    }
}

impl Key {
    fn read(jwk: &Jwk<'_>, accepted: &[Algorithm]) -> Option<Self> {
        if !jwk.is_for_signatures() {
            return None;
        }
        let (public, mut algorithms) = match (jwk.text("kty")?, jwk.text("crv")) {
            ("OKP", Some("Ed25519")) => (DecodingKey::from_ed_der(&jwk.bytes("x", 32)?), vec![Algorithm::EdDSA]),
            ("EC", Some("P-256")) => (jwk.point(32)?, vec![Algorithm::ES256]),
            ("EC", Some("P-384")) => (jwk.point(48)?, vec![Algorithm::ES384]),
            ("RSA", _) => (jwk.rsa()?, RSA_ALGORITHMS.to_vec()),
            _ => return None,
        };
        algorithms.retain(|algorithm| accepted.contains(algorithm));
        if let Some(named) = jwk.get("alg") {
            let named = algorithm(named.as_str()?)?;
            algorithms.retain(|algorithm| *algorithm == named);
        }
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str().filter(|id| id.len() <= MAX_KEY_ID)?.to_owned()),
        };
        if algorithms.is_empty() { None } else { Some(Self { id, algorithms, public }) }
    }
}

/// One key as it was written (RFC 7517 4).
struct Jwk<'a>(&'a Value);

impl<'a> Jwk<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name)?.as_str()
    }

    fn is_for_signatures(&self) -> bool {
        let checks = |operations: &Value| operations.as_array().is_some_and(|list| list.iter().any(|o| o == "verify"));
        self.get("use").is_none_or(|purpose| purpose == "sig") && self.get("key_ops").is_none_or(checks)
    }

    /// A value of exactly so many bytes.
    fn bytes(&self, name: &str, length: usize) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.text(name)?).ok().filter(|bytes| bytes.len() == length)
    }

    /// A number without leading zeros.
    fn number(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(self.text(name)?).ok()?;
        let first = bytes.iter().position(|byte| *byte != 0)?;
        Some(bytes[first..].to_vec())
    }

    /// A point on a curve (RFC 7518 6.2.1), in the form of SEC 1 2.3.3 without compression.
    fn point(&self, length: usize) -> Option<DecodingKey> {
        let point = [vec![4], self.bytes("x", length)?, self.bytes("y", length)?].concat();
        Some(DecodingKey::from_ec_der(&point))
    }

    /// An RSA key of a bearable size (RFC 7518 6.3.1).
    fn rsa(&self) -> Option<DecodingKey> {
        let (modulus, exponent) = (self.number("n")?, self.number("e")?);
        let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
        let bearable = RSA_BITS.contains(&bits) && exponent.len() <= MAX_RSA_EXPONENT;
        bearable.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::JWT_ALGORITHMS;
    use serde_json::json;

    fn all() -> Vec<Algorithm> {
        JWT_ALGORITHMS.iter().filter_map(|name| algorithm(name)).collect()
    }

    fn set(keys: &[Value]) -> Result<KeySet, BadKeySet> {
        KeySet::parse(&serde_json::to_vec(&json!({ "keys": keys })).unwrap(), &all())
    }

    /// Encoded bytes, the first of them with its highest bit set.
    fn coded(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xff; bytes])
    }

    fn ed(id: &str) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": coded(32) })
    }

    fn ec(curve: &str, bytes: usize) -> Value {
        json!({ "kty": "EC", "crv": curve, "kid": "ec", "x": coded(bytes), "y": coded(bytes) })
    }

    fn rsa(bits: usize) -> Value {
        json!({ "kty": "RSA", "kid": "rsa", "n": coded(bits / 8), "e": "AQAB" })
    }

    fn and(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    #[test]
    fn a_key_checks_what_its_kind_and_its_alg_say() {
        for (jwk, expected) in [
            (ed("k"), vec![Algorithm::EdDSA]),
            (and(ed("k"), "alg", json!("EdDSA")), vec![Algorithm::EdDSA]),
            (and(ed("k"), "alg", Value::Null), vec![Algorithm::EdDSA]),
            (and(ed("k"), "use", json!("sig")), vec![Algorithm::EdDSA]),
            (and(ed("k"), "key_ops", json!(["sign", "verify"])), vec![Algorithm::EdDSA]),
            (ec("P-256", 32), vec![Algorithm::ES256]),
            (ec("P-384", 48), vec![Algorithm::ES384]),
            (rsa(2048), RSA_ALGORITHMS.to_vec()),
            (and(rsa(4096), "alg", json!("PS384")), vec![Algorithm::PS384]),
        ] {
            assert_eq!(set(std::slice::from_ref(&jwk)).unwrap().keys[0].algorithms, expected, "{jwk}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_passed_over() {
        for useless in [
            json!(1),
            json!({}),
            json!({ "kty": "oct", "kid": "k", "k": coded(32) }),
            json!({ "kty": "OKP", "crv": "X25519", "x": coded(32) }),
            json!({ "kty": "OKP", "crv": "Ed448", "x": coded(57) }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": coded(31) }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "?" }),
            ec("P-256", 33),
            ec("P-521", 66),
            ec("secp256k1", 32),
            rsa(2040),
            rsa(8200),
            and(rsa(2048), "n", json!(URL_SAFE_NO_PAD.encode([vec![0], vec![0xff; 255]].concat()))),
            and(rsa(2048), "n", json!("")),
            and(rsa(2048), "e", json!(coded(9))),
            and(ed("k"), "use", json!("enc")),
            and(ed("k"), "key_ops", json!(["sign"])),
            and(ed("k"), "alg", json!("HS256")),
            and(ed("k"), "alg", json!("ES256")),
            and(ec("P-256", 32), "alg", json!("RS256")),
            and(ed("k"), "alg", json!(1)),
            and(ed("k"), "kid", json!(1)),
            and(ed("k"), "kid", json!("k".repeat(MAX_KEY_ID + 1))),
        ] {
            assert_eq!(set(std::slice::from_ref(&useless)).err(), Some(BadKeySet::Empty), "{useless}");
            assert_eq!(set(&[useless.clone(), ed("good")]).unwrap().len(), 1, "{useless}");
        }
        let eddsa_only = KeySet::parse(json!({ "keys": [rsa(2048)] }).to_string().as_bytes(), &[Algorithm::EdDSA]);
        assert_eq!(eddsa_only.err(), Some(BadKeySet::Empty));
    }

    #[test]
    fn other_answers_are_no_set() {
        for nonsense in ["", "<html>", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":1}"#, &"[".repeat(10_000)] {
            assert_eq!(KeySet::parse(nonsense.as_bytes(), &all()).err(), Some(BadKeySet::Malformed), "{nonsense}");
        }
        assert_eq!(set(&[]).err(), Some(BadKeySet::Empty));
        let many: Vec<_> = (0..1000).map(|n| ed(&n.to_string())).collect();
        assert_eq!(set(&many).unwrap().len(), MAX_KEYS);
    }

    #[test]
    fn a_key_is_found_by_its_id_or_by_being_the_only_one() {
        let one = set(&[ed("a")]).unwrap();
        assert!(one.find(Some("a"), Algorithm::EdDSA).is_ok() && one.find(None, Algorithm::EdDSA).is_ok());
        assert_eq!(one.find(Some("b"), Algorithm::EdDSA).err(), Some(JwtError::UnknownKey));
        assert_eq!(one.find(Some("a"), Algorithm::RS256).err(), Some(JwtError::Algorithm));
        assert_eq!(one.find(None, Algorithm::RS256).err(), Some(JwtError::Algorithm));
        let two = set(&[ed("a"), and(rsa(2048), "kid", json!("a"))]).unwrap();
        assert!(two.find(Some("a"), Algorithm::EdDSA).is_ok() && two.find(Some("a"), Algorithm::RS512).is_ok());
        assert_eq!(two.find(Some("a"), Algorithm::ES256).err(), Some(JwtError::Algorithm));
        assert_eq!(two.find(None, Algorithm::EdDSA).err(), Some(JwtError::NoKeyId));
        let nameless = set(&[and(ed("a"), "kid", Value::Null)]).unwrap();
        assert!(nameless.find(None, Algorithm::EdDSA).is_ok());
        assert_eq!(nameless.find(Some("a"), Algorithm::EdDSA).err(), Some(JwtError::UnknownKey));
    }
}
