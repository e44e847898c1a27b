//! Keys made for the occasion, and whether others can check what they sign.

use super::*;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rsa::KeySize;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

/// A new key in PEM.
pub(crate) fn pem(algorithm: Algorithm) -> Secret {
    let der = match algorithm {
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            der.as_ref().to_vec()
        }
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            pair.to_pkcs8v1().unwrap().as_ref().to_vec()
        }
    };
    Secret::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der)))
}

fn claims_of(jwt: &Secret, algorithm: jsonwebtoken::Algorithm, key: &DecodingKey) -> Value {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&["them"]);
    decode::<Value>(jwt.expose(), key, &validation).unwrap().claims
}

#[test]
fn others_can_check_what_is_signed() {
    let claims = json!({ "iss": "us", "aud": "them", "exp": 4_000_000_000_u64 });
    let key = SigningKey::from_pem(Algorithm::Es256, &pem(Algorithm::Es256)).unwrap();
    let jwt = key.jwt(Some("a1"), &claims).unwrap();
    let jwk = key.jwk("a1").unwrap();
    let public = DecodingKey::from_ec_components(jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap()).unwrap();
    assert_eq!(claims_of(&jwt, jsonwebtoken::Algorithm::ES256, &public), claims);
    let head = decode_header(jwt.expose()).unwrap();
    assert_eq!((head.kid.as_deref(), head.typ.as_deref()), (Some("a1"), Some("JWT")));

    let key = SigningKey::from_pem(Algorithm::Rs256, &pem(Algorithm::Rs256)).unwrap();
    let jwt = key.jwt(None, &claims).unwrap();
    let Pair::Rsa(pair) = &key.0 else { panic!("no RSA key") };
    let public = DecodingKey::from_rsa_der(pair.public_key().as_ref());
    assert_eq!(claims_of(&jwt, jsonwebtoken::Algorithm::RS256, &public), claims);
    assert!(key.jwk("a1").is_none() && key.fingerprint().unwrap().starts_with("SHA256:"));
}

#[test]
fn what_cannot_sign_is_refused() {
    let of = |algorithm, pem: &Secret| SigningKey::from_pem(algorithm, pem).map(drop);
    let (rsa, ec) = (pem(Algorithm::Rs256), pem(Algorithm::Es256));
    assert_eq!(of(Algorithm::Es256, &rsa), Err(SigningKeyError::Kind(Algorithm::Es256)));
    assert_eq!(of(Algorithm::Rs256, &ec), Err(SigningKeyError::Kind(Algorithm::Rs256)));
    for nonsense in ["", "hush", "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----"] {
        assert!(of(Algorithm::Rs256, &Secret::new(nonsense.to_owned())).is_err(), "{nonsense}");
    }
    let broken = rsa.expose().replace("PRIVATE", "ENCRYPTED PRIVATE");
    assert_eq!(of(Algorithm::Rs256, &Secret::new(broken)), Err(SigningKeyError::Pem));
}
