//! Sealing and opening tokens with AES-256-GCM.
//!
//! A token is `~1.<key id>.<base64url(nonce | ciphertext | tag)>`. Version, key id and purpose are associated data, so
//! that a token made for one purpose never opens for another. The plaintext is a format byte, the session id, the times of
//! issue and expiry, in the second format that of the idle end, and the texts with their lengths. The third format has an
//! idle end too, zero for none, and behind the texts the places of the session.

use super::places::{MOST, Place, Places};
use super::{Parts, Session};
use crate::clock::UnixSeconds;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use smallvec::SmallVec;
use std::str;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A session in a cookie, a bearer or a link that starts one.
    Session,
    /// A short-lived session in a URL, for browsers without cookies.
    Cookieless,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Session, Self::Cookieless];

    fn label(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Cookieless => "cookieless",
        }
    }
}

/// Why a token does not open. The client learns only that it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not of the form of a token, or longer than one can be.
    #[error("malformed token")]
    Malformed,
    /// Sealed with a key that is not in the ring.
    #[error("unknown key")]
    UnknownKey,
    /// Not sealed with the key it names, or changed since.
    #[error("bad tag")]
    BadTag,
    /// Sealed for something else.
    #[error("wrong purpose")]
    WrongPurpose,
    /// Past its end.
    #[error("expired")]
    Expired,
    /// Past its idle end: no request has renewed it in time.
    #[error("idle for too long")]
    Idle,
    /// Issued in the future, beyond what clocks differ by.
    #[error("not yet valid")]
    NotYetValid,
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 64 hexadecimal digits.
    #[error("a key is 64 hexadecimal digits (32 bytes); make one with `embedgate key generate`")]
    Form,
    /// A key that has been printed in public.
    #[error("this is the example key of a public README, known to everybody; make one with `embedgate key generate`")]
    Published,
}

/// A 256-bit key in hexadecimal digits, as files and variables hold it.
///
/// # Errors
/// [`KeyError`] for anything but 64 digits, and for a key that is known to have been published.
pub fn parse_key(text: &str) -> Result<[u8; 32], KeyError> {
    let text = text.trim().as_bytes();
    if text.len() != 64 {
        return Err(KeyError::Form);
    }
    let mut key = [0u8; 32];
    for (byte, digits) in key.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |d: u8| (d as char).to_digit(16).ok_or(KeyError::Form);
        *byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
    }
    if super::firefly::is_published(&key) { Err(KeyError::Published) } else { Ok(key) }
}

/// The first characters of every token.
pub const PREFIX: &str = "~1.";
/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 512;
const MAX_KEY_ID: usize = 16;
const NONCE: usize = 12;
const TAG: usize = 16;
/// A session without an idle end.
const FORMAT: u8 = 1;
/// A session with one.
const FORMAT_IDLE: u8 = 2;
/// A session with places.
const FORMAT_PLACES: u8 = 3;
/// A place: two numbers.
const PLACE: usize = 8;
const FIXED: usize = 1 + 16 + 4 + 4;

struct Key {
    id: String,
    cipher: Aes256Gcm,
}

/// The keys of an instance: the first seals, all open.
pub struct KeyRing {
    keys: Vec<Key>,
    /// Tried for unknown key ids, so that they cost what a wrong key costs.
    decoy: Aes256Gcm,
}

impl KeyRing {
    /// A ring of these keys; ids are unique and of at most 16 characters, which the configuration has checked.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (String, [u8; 32])>) -> Self {
        let keys = keys.into_iter().map(|(id, key)| Key { id, cipher: Aes256Gcm::new(&key.into()) }).collect();
        Self { keys, decoy: Aes256Gcm::new(&[0x5a; 32].into()) }
    }

    /// Whether there is no key, so that nothing opens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Seals a session; `None` when the ring is empty.
    ///
    /// # Errors
    /// An error of the operating system's source of random numbers.
    pub fn seal(&self, purpose: Purpose, session: &Session) -> Result<Option<String>, getrandom::Error> {
        let Some(key) = self.keys.first() else { return Ok(None) };
        let mut nonce = [0u8; NONCE];
        getrandom::fill(&mut nonce)?;
        let mut sealed = nonce.to_vec();
        encode(session, &mut sealed);
        let aad = associated_data(&key.id, purpose);
        let tag = key
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), &aad, (&mut sealed[NONCE..]).into())
            .unwrap_or_else(|_| unreachable!("AES-GCM refuses only texts of gigabytes"));
        sealed.extend_from_slice(&tag);
        Ok(Some(format!("{PREFIX}{}.{}", key.id, URL_SAFE_NO_PAD.encode(&sealed))))
    }

    /// Opens a token. Every failure after the length check takes the same work.
    ///
    /// # Errors
    /// [`OpenError`], for the log only.
    pub fn open(&self, purpose: Purpose, token: &[u8], now: UnixSeconds) -> Result<Session, OpenError> {
        let session = self.unseal(purpose, token)?;
        session.check(now)?;
        Ok(session)
    }

    /// Opens a token whatever the time: to look at, not to let anybody in.
    ///
    /// # Errors
    /// [`OpenError`] but for expiry.
    pub fn unseal(&self, purpose: Purpose, token: &[u8]) -> Result<Session, OpenError> {
        if token.len() > MAX_TOKEN {
            return Err(OpenError::Malformed);
        }
        let rest = token.strip_prefix(PREFIX.as_bytes()).ok_or(OpenError::Malformed)?;
        let dot = memchr::memchr(b'.', rest).ok_or(OpenError::Malformed)?;
        let (id, body) = (&rest[..dot], &rest[dot + 1..]);
        let id = str::from_utf8(id).map_err(|_| OpenError::Malformed)?;
        let mut sealed = [0u8; MAX_TOKEN];
        let length = URL_SAFE_NO_PAD.decode_slice(body, &mut sealed).map_err(|_| OpenError::Malformed)?;
        if id.len() > MAX_KEY_ID || length < NONCE + FIXED + TAG {
            return Err(OpenError::Malformed);
        }
        let key = self.keys.iter().find(|key| key.id == id);
        let cipher = key.map_or(&self.decoy, |key| &key.cipher);
        let plain = decrypt(cipher, id, purpose, &mut sealed[..length]).map_err(|error| match key {
            Some(_) => error,
            None => OpenError::UnknownKey,
        })?;
        decode(plain).ok_or(OpenError::Malformed)
    }
}

/// Version, key id and purpose.
fn associated_data(key_id: &str, purpose: Purpose) -> SmallVec<[u8; 64]> {
    let parts = ["embedgate.token.1|", key_id, "|", purpose.label()];
    let mut data = SmallVec::new();
    for part in parts {
        data.extend_from_slice(part.as_bytes());
    }
    data
}

fn decrypt<'a>(cipher: &Aes256Gcm, id: &str, purpose: Purpose, sealed: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
    let (nonce, rest) = sealed.split_at_mut(NONCE);
    let (text, tag) = rest.split_at_mut(rest.len() - TAG);
    let nonce = Nonce::try_from(&*nonce).map_err(|_| OpenError::Malformed)?;
    let tag = Tag::try_from(&*tag).map_err(|_| OpenError::Malformed)?;
    let mut opens = |purpose: Purpose| {
        // The cipher checks the tag before it touches the text, so another attempt finds it as it was.
        let aad = associated_data(id, purpose);
        cipher.decrypt_inout_detached(&nonce, &aad, (&mut *text).into(), &tag).is_ok()
    };
    if opens(purpose) {
        return Ok(text);
    }
    // Tried for all, found or not: which purpose it was shows in the log but not in the time taken.
    let other = Purpose::ALL.into_iter().filter(|other| *other != purpose).fold(false, |any, other| opens(other) | any);
    Err(if other { OpenError::WrongPurpose } else { OpenError::BadTag })
}

fn encode(session: &Session, out: &mut Vec<u8>) {
    let has_places = !session.places.is_empty();
    out.push(match session.idle {
        _ if has_places => FORMAT_PLACES,
        Some(_) => FORMAT_IDLE,
        None => FORMAT,
    });
    out.extend_from_slice(&session.id);
    let idle = session.idle.or(has_places.then_some(0));
    for time in [session.issued, session.expires].into_iter().chain(idle) {
        out.extend_from_slice(&u32::try_from(time).unwrap_or(u32::MAX).to_be_bytes());
    }
    for text in [session.org(), session.user(), session.email(), session.app().unwrap_or("")] {
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
    for number in session.places.as_slice().iter().flat_map(|place| [place.upstream, place.node]) {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Strict: an unknown format, a text that is no session and bytes left over are all refused.
fn decode(plain: &[u8]) -> Option<Session> {
    let (fixed, mut rest) = plain.split_at_checked(FIXED)?;
    let time = |bytes: &[u8]| Some(UnixSeconds::from(u32::from_be_bytes(bytes.try_into().ok()?)));
    let idle = match fixed[0] {
        FORMAT => None,
        FORMAT_IDLE | FORMAT_PLACES => {
            let (idle, after) = rest.split_at_checked(4)?;
            rest = after;
            Some(time(idle)?).filter(|idle| fixed[0] == FORMAT_IDLE || *idle > 0)
        }
        _ => return None,
    };
    let mut text = || {
        let (length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        str::from_utf8(text).ok()
    };
    let (org, user, email, app) = (text()?, text()?, text()?, text()?);
    let places = if fixed[0] == FORMAT_PLACES { places(rest)? } else { Places::default() };
    if !rest.is_empty() && places.is_empty() {
        return None;
    }
    let app = if app.is_empty() { None } else { Some(app) };
    let id = fixed[1..17].try_into().ok()?;
    let (issued, expires) = (time(&fixed[17..21])?, time(&fixed[21..25])?);
    let session = Session::new(Parts { id, issued, expires, org, user, email, app }).ok()?;
    Some(Session { idle, places, ..session })
}

/// One place at least, and no more than a session has.
fn places(bytes: &[u8]) -> Option<Places> {
    let (places, left) = bytes.as_chunks::<PLACE>();
    if places.is_empty() || places.len() > MOST || !left.is_empty() {
        return None;
    }
    let place = |[a, b, c, d, e, f, g, h]: [u8; PLACE]| Place {
        upstream: u32::from_be_bytes([a, b, c, d]),
        node: u32::from_be_bytes([e, f, g, h]),
    };
    Some(places.iter().copied().map(place).collect())
}

#[cfg(test)]
mod tests;
