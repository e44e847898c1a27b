//! Sealing of secrets that are kept in a directory: client secrets and tokens of service principals.
//!
//! A sealed secret is `~s1.<key id>.<base64url(nonce | ciphertext | tag)>`, AES-256-GCM under a session key. Purpose, key
//! id, organisation and principal are associated data: a sealed text that is copied to another row does not open there,
//! and never opens as a session.

use crate::secret::Secret;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use zeroize::Zeroizing;

/// The first characters of every sealed secret.
pub const PREFIX: &str = "~s1.";
/// The longest secret that is sealed, in bytes; the database takes none longer.
pub const MAX_SECRET: usize = 8192;
const NONCE: usize = 12;
const TAG: usize = 16;

/// Why a sealed secret does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not of the form of a sealed secret.
    #[error("is not a sealed secret; make one with `embedgate secret seal`")]
    Malformed,
    /// Sealed with a key that is not in `session.keys`.
    #[error("is sealed with the key {0:?}, which is not in session.keys")]
    UnknownKey(String),
    /// Sealed for another principal, with another key of this name, or changed since.
    #[error("does not open: it was sealed for another organisation or principal, or with another key of this name")]
    BadTag,
}

/// Why a secret cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no key.
    #[error("session.keys names no key to seal with")]
    NoKey,
    /// Empty or beyond [`MAX_SECRET`].
    #[error("a secret has 1 to {MAX_SECRET} bytes")]
    Length,
    /// The system has no random numbers.
    #[error("{0}")]
    Random(#[from] getrandom::Error),
}

struct Key {
    id: String,
    cipher: Aes256Gcm,
}

/// The keys that secrets are sealed with: the first seals, all open. They are replaced when the key files change.
pub struct Vault {
    keys: ArcSwap<Vec<Key>>,
}

impl Default for Vault {
    /// A vault without keys, in which nothing opens.
    fn default() -> Self {
        Self::new([])
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// A vault of these keys.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (String, [u8; 32])>) -> Self {
        Self { keys: ArcSwap::from_pointee(ciphers(keys)) }
    }

    /// Uses these keys from now on.
    pub fn replace(&self, keys: impl IntoIterator<Item = (String, [u8; 32])>) {
        self.keys.store(ciphers(keys).into());
    }

    /// Seals the secret of one principal.
    ///
    /// # Errors
    /// [`SealError`]; never with the secret in it.
    pub fn seal(&self, org: &str, principal: &str, secret: &Secret) -> Result<String, SealError> {
        let text = secret.expose().as_bytes();
        if text.is_empty() || text.len() > MAX_SECRET {
            return Err(SealError::Length);
        }
        let keys = self.keys.load();
        let key = keys.first().ok_or(SealError::NoKey)?;
        let mut nonce = [0u8; NONCE];
        getrandom::fill(&mut nonce)?;
        // Encrypted in place, so that no copy of the clear text is left behind; room for the tag, so that it never moves.
        let mut sealed = Vec::with_capacity(NONCE + text.len() + TAG);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(text);
        let aad = associated_data(&key.id, org, principal);
        let tag = key
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), aad.as_bytes(), (&mut sealed[NONCE..]).into())
            .map_err(|_| SealError::Length)?;
        sealed.extend_from_slice(&tag);
        Ok(format!("{PREFIX}{}.{}", key.id, URL_SAFE_NO_PAD.encode(&sealed)))
    }

    /// Opens the secret of one principal.
    ///
    /// # Errors
    /// [`OpenError`] says why not; never with anything of the secret.
    pub fn open(&self, org: &str, principal: &str, sealed: &str) -> Result<Secret, OpenError> {
        let (id, body) = parts(sealed).ok_or(OpenError::Malformed)?;
        let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| OpenError::Malformed)?);
        if bytes.len() <= NONCE + TAG {
            return Err(OpenError::Malformed);
        }
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.id == id).ok_or_else(|| OpenError::UnknownKey(id.to_owned()))?;
        let (nonce, rest) = bytes.split_at_mut(NONCE);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG);
        let nonce = Nonce::try_from(&*nonce).map_err(|_| OpenError::Malformed)?;
        let tag = Tag::try_from(&*tag).map_err(|_| OpenError::Malformed)?;
        let aad = associated_data(id, org, principal);
        let opened = key.cipher.decrypt_inout_detached(&nonce, aad.as_bytes(), (&mut *text).into(), &tag);
        opened.map_err(|_| OpenError::BadTag)?;
        let text = std::str::from_utf8(text).map_err(|_| OpenError::Malformed)?;
        Ok(Secret::new(text.to_owned()))
    }
}

/// Key id and body of a sealed secret.
fn parts(sealed: &str) -> Option<(&str, &str)> {
    let (id, body) = sealed.strip_prefix(PREFIX)?.split_once('.')?;
    crate::model::ids::is_valid_id(id).then_some((id, body))
}

fn ciphers(keys: impl IntoIterator<Item = (String, [u8; 32])>) -> Vec<Key> {
    keys.into_iter().map(|(id, key)| Key { id, cipher: Aes256Gcm::new(&key.into()) }).collect()
}

/// Ids hold no `|`, so this is unambiguous; and nothing of another purpose begins like it.
fn associated_data(key: &str, org: &str, principal: &str) -> String {
    format!("embedgate.secret.1|{key}|{org}|{principal}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(keys: &[(&str, u8)]) -> Vault {
        Vault::new(keys.iter().map(|(id, byte)| ((*id).to_owned(), [*byte; 32])))
    }

    #[test]
    fn a_secret_opens_for_its_principal_alone() {
        let vault = vault(&[("k1", 1)]);
        let sealed = vault.seal("acme", "spn", &Secret::new("hush".into())).unwrap();
        assert!(sealed.starts_with("~s1.k1.") && !sealed.contains("hush"));
        assert_eq!(vault.open("acme", "spn", &sealed).unwrap().expose(), "hush");
        assert_eq!(vault.open("other", "spn", &sealed), Err(OpenError::BadTag));
        assert_eq!(vault.open("acme", "other", &sealed), Err(OpenError::BadTag));
        let other = vault.seal("acme", "spn", &Secret::new("hush".into())).unwrap();
        assert_ne!(sealed, other, "each has a nonce of its own");
    }

    #[test]
    fn keys_rotate() {
        let turning = vault(&[("k1", 1)]);
        let sealed = turning.seal("o", "p", &Secret::new("x".into())).unwrap();
        turning.replace([("k2".to_owned(), [2; 32]), ("k1".to_owned(), [1; 32])]);
        assert!(turning.open("o", "p", &sealed).is_ok());
        assert!(turning.seal("o", "p", &Secret::new("x".into())).unwrap().starts_with("~s1.k2."));
        turning.replace([("k2".to_owned(), [2; 32])]);
        assert_eq!(turning.open("o", "p", &sealed), Err(OpenError::UnknownKey("k1".into())));
        assert_eq!(vault(&[("k1", 9)]).open("o", "p", &sealed), Err(OpenError::BadTag));
    }

    #[test]
    fn what_is_no_sealed_secret_is_refused() {
        let vault = vault(&[("k1", 1)]);
        let sealed = vault.seal("o", "p", &Secret::new("x".into())).unwrap();
        for bad in ["", "x", "~s1.", "~s1.k1", "~s1.k1.", "~s1.k1.AAAA", "~s1.k 1.AAAA", "~1.k1.AAAA"] {
            assert_eq!(vault.open("o", "p", bad), Err(OpenError::Malformed), "{bad:?}");
        }
        assert!(vault.open("o", "p", &sealed[..sealed.len() - 2]).is_err());
        assert!(matches!(vault.seal("o", "p", &Secret::new(String::new())), Err(SealError::Length)));
        assert!(matches!(Vault::default().seal("o", "p", &Secret::new("x".into())), Err(SealError::NoKey)));
    }
}
