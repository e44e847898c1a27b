//! Tokens of FireFly's first proxy: a sealed bearer in the URL, without organisation, user or expiry.

use crate::secret::Secret;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const NONCE: usize = 12;
const TAG: usize = 16;
/// The longest token that is looked at, in bytes: a sealed bearer of some 6,000 characters.
const MAX_TOKEN: usize = 8192;

/// SHA-256 of the example key that FireFly's README prints.
const PUBLISHED_KEY_SHA256: &str = "149555dcec997f94f65cbe24fe66c04724502dcd7b9d3d95a70c5f9dd5bbec99";

/// Whether a key is the one printed in FireFly's README.
#[must_use]
pub fn is_published(key: &[u8; 32]) -> bool {
    let digest = Sha256::digest(key);
    PUBLISHED_KEY_SHA256
        .as_bytes()
        .chunks_exact(2)
        .zip(digest)
        .all(|(digits, byte)| std::str::from_utf8(digits).is_ok_and(|d| u8::from_str_radix(d, 16) == Ok(byte)))
}

/// A token that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a v1 token of this key")]
pub struct OpenError;

/// Opens v1 tokens.
pub struct Opener(Aes256Gcm);

impl Opener {
    /// An opener with FireFly's `ENCRYPTION_KEY`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(&(*key).into()))
    }

    /// The value for the `Authorization` field that a token holds.
    ///
    /// # Errors
    /// [`OpenError`] when it does not open or holds something that is no bearer.
    pub fn open(&self, token: &str) -> Result<Secret, OpenError> {
        if token.len() > MAX_TOKEN {
            return Err(OpenError);
        }
        let mut sealed = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| OpenError)?;
        if sealed.len() < NONCE + TAG {
            return Err(OpenError);
        }
        let (nonce, rest) = sealed.split_at_mut(NONCE);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG);
        let nonce = Nonce::try_from(&*nonce).map_err(|_| OpenError)?;
        let tag = Tag::try_from(&*tag).map_err(|_| OpenError)?;
        self.0.decrypt_inout_detached(&nonce, b"", (&mut *text).into(), &tag).map_err(|_| OpenError)?;
        authorization(std::str::from_utf8(text).map_err(|_| OpenError)?)
    }
}

/// FireFly trims the text and puts `Bearer ` before it where it is missing.
fn authorization(text: &str) -> Result<Secret, OpenError> {
    let text = text.trim();
    let has_scheme = text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    let bearer = if has_scheme { text[7..].trim_start() } else { text };
    if bearer.is_empty() || !bearer.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(OpenError);
    }
    Ok(Secret::new(format!("Bearer {bearer}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opener() -> Opener {
        Opener::new(&std::array::from_fn(|i| i as u8))
    }

    fn open(token: &str) -> Option<String> {
        opener().open(token).ok().map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn vectors_made_by_the_node_side_open() {
        let token = "oKGio6SlpqeoqaqrgnkMRGiuet4PFeu2Kg6vtRXCdCCjhXFYqTgRvka35yj3VRuxkjfPOn5Mf0Hx";
        assert_eq!(open(token).as_deref(), Some("Bearer dapi-example-token-0123456789"));
        let token = "AAAAAAAAAAAAAAABV7PejiGGEHt3ZDlbq8VTuHzVTwEe-2XKGko690MDQ3BZpAufJClrUgDizMBqnH_e4pDSeg";
        assert_eq!(open(token).as_deref(), Some("Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"));
        assert_eq!(open(&format!("{token}==")).as_deref(), Some("Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"));
    }

    #[test]
    fn what_is_no_bearer_is_refused() {
        // An empty plaintext and one with letters beyond ASCII: both open, neither can be a header value.
        assert_eq!(open("________________2HnhJSBSoY6hT1495q3nNQ"), None);
        assert_eq!(open("ABEiM0RVZneImaq7rkVG2K3l53BFo3zC-qc1mMpp3Ln9M0zpB4Bz"), None);
    }

    #[test]
    fn changed_or_short_tokens_are_refused() {
        let token = "oKGio6SlpqeoqaqrgnkMRGiuet4PFeu2Kg6vtRXCdCCjhXFYqTgRvka35yj3VRuxkjfPOn5Mf0Hx";
        for at in 0..token.len() {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(open(std::str::from_utf8(&bytes).unwrap()), None, "at {at}");
        }
        assert_eq!(open("AAAA"), None);
        assert_eq!(open("+/+/"), None);
        assert!(Opener::new(&[1; 32]).open(token).is_err());
    }

    #[test]
    fn an_ordinary_key_is_not_taken_for_the_published_one() {
        assert!(!is_published(&[0; 32]));
    }
}
