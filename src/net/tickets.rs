//! Tickets with which clients resume TLS sessions, sealed with keys that instances share: whichever of them a client comes
//! to next resumes it. Without such keys each process has its own ([`super::tls`]).

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use arc_swap::ArcSwap;
use hkdf::Hkdf;
use rustls::server::ProducesTickets;
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How long clients are told to keep a ticket. It opens as long as its key is there.
const LIFETIME: u32 = 12 * 3600;
/// Length of what a ticket names its key by.
const NAME: usize = 8;
const NONCE: usize = 12;
const TAG: usize = 16;

/// The keys in use: the first one seals, all of them open.
pub struct Tickets(ArcSwap<Vec<Key>>);

struct Key {
    name: [u8; NAME],
    cipher: Aes256Gcm,
}

impl Key {
    /// The key for tickets that belongs to a secret (HKDF-SHA-256, RFC 5869): should that have another use as well, neither
    /// opens what the other seals.
    fn new(secret: &[u8; 32]) -> Self {
        let derive = Hkdf::<Sha256>::new(None, secret);
        let (mut name, mut key) = ([0; NAME], Zeroizing::new([0; 32]));
        for (use_as, part) in [("name", &mut name[..]), ("key", &mut key[..])] {
            let info = [b"embedgate tls ticket 1 ", use_as.as_bytes()];
            derive.expand_multi_info(&info, part).expect("one block of the hash is never too long");
        }
        Self { name, cipher: Aes256Gcm::new(&(*key).into()) }
    }
}

impl Tickets {
    /// Tickets sealed with the first of these secrets.
    #[must_use]
    pub fn new(secrets: &[[u8; 32]]) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(secrets.iter().map(Key::new).collect())))
    }

    /// Takes other secrets from now on.
    pub fn replace(&self, secrets: &[[u8; 32]]) {
        self.0.store(Arc::new(secrets.iter().map(Key::new).collect()));
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    /// The key's name, a random nonce, what is sealed with them, and its tag. The name is authenticated too.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.0.load();
        let key = keys.first()?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        // Encrypted in place, with room for the tag, so that no copy of the clear text is left behind.
        let mut ticket = Vec::with_capacity(NAME + NONCE + plain.len() + TAG);
        for part in [&key.name[..], &nonce, plain] {
            ticket.extend_from_slice(part);
        }
        let text = (&mut ticket[NAME + NONCE..]).into();
        let tag = key.cipher.encrypt_inout_detached(&Nonce::from(nonce), &key.name, text).ok()?;
        ticket.extend_from_slice(&tag);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (text, tag) = rest.split_last_chunk::<TAG>()?;
        let keys = self.0.load();
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut text = text.to_vec();
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        key.cipher.decrypt_inout_detached(&nonce, name, (&mut text[..]).into(), &tag).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, new) = ([1; 32], [2; 32]);
        let tickets = Tickets::new(&[old]);
        let ticket = tickets.encrypt(b"state").unwrap();
        assert_ne!(tickets.encrypt(b"state").unwrap(), ticket, "a nonce is used once");
        assert_eq!(Tickets::new(&[new, old]).decrypt(&ticket).unwrap(), b"state");
        assert_eq!(Tickets::new(&[new]).decrypt(&ticket), None);
        tickets.replace(&[new, old]);
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"state");
        assert!(Tickets::new(&[old]).decrypt(&tickets.encrypt(b"state").unwrap()).is_none(), "the new one seals");
    }

    #[test]
    fn what_is_changed_or_cut_off_does_not_open() {
        let tickets = Tickets::new(&[[1; 32]]);
        let ticket = tickets.encrypt(b"state").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "cut at {at}");
        }
    }
}
