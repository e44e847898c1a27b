//! Tokens of sessions. An input is taken for a token, and for the text of one that is sealed as it has to be; nobody finds
//! such a seal by trying.
#![no_main]

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use embedgate::session::Session;
use embedgate::session::seal::{KeyRing, MAX_TOKEN, OpenError, Purpose};
use embedgate::wire::fields::Name;
use embedgate::wire::request::{Head, Limits};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const ID: &str = "k1";
const KEY: [u8; 32] = [7; 32];
const NONCE: [u8; 12] = [3; 12];

static RING: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::new([(ID.to_owned(), KEY)]));
static OTHER_RING: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::new([(ID.to_owned(), [8; 32])]));

fuzz_target!(|input: &[u8]| {
    try_open(input);
    try_open(seal(input).as_bytes());
});

/// The token of a text, as `session::seal` describes it.
fn seal(text: &[u8]) -> String {
    let aad = format!("embedgate.token.1|{ID}|session");
    let mut sealed = text.to_vec();
    let tag = Aes256Gcm::new(&KEY.into())
        .encrypt_inout_detached(&Nonce::from(NONCE), aad.as_bytes(), (&mut sealed[..]).into())
        .expect("a text of a few bytes");
    format!("~1.{ID}.{}", URL_SAFE_NO_PAD.encode([&NONCE[..], &sealed, &tag].concat()))
}

/// Opens what may be a token. The session in it, if one is, must come out of another token just so.
fn try_open(token: &[u8]) {
    let Ok(session) = RING.unseal(Purpose::Session, token) else { return };
    assert!(token.len() <= MAX_TOKEN);
    for purpose in [Purpose::Session, Purpose::Cookieless] {
        let again = RING.seal(purpose, &session).expect("random numbers").expect("a key");
        assert!(again.len() <= MAX_TOKEN, "{again}");
        assert_opens_for(purpose, &again, &session);
    }
    assert_opens_in_time(token, &session);
    assert_is_told(&session);
}

/// Asserts that a token holds the session, for this purpose, by this key, and as it is.
fn assert_opens_for(purpose: Purpose, token: &str, session: &Session) {
    assert_eq!(RING.unseal(purpose, token.as_bytes()).as_ref(), Ok(session));
    let other = if purpose == Purpose::Session { Purpose::Cookieless } else { Purpose::Session };
    assert_eq!(RING.unseal(other, token.as_bytes()), Err(OpenError::WrongPurpose));
    assert_eq!(OTHER_RING.unseal(purpose, token.as_bytes()), Err(OpenError::BadTag));
    let mut changed = token.as_bytes().to_vec();
    // One in the middle, whose bits all count.
    let middle = token.len() / 2;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    assert_eq!(RING.unseal(purpose, &changed), Err(OpenError::BadTag));
}

/// Asserts that the token opens from its issue to its end, and no longer.
fn assert_opens_in_time(token: &[u8], session: &Session) {
    let (end, opens) = (session.end(), |now| RING.open(Purpose::Session, token, now).is_ok());
    assert_eq!(opens(session.issued), session.issued < end);
    assert!(!opens(end) && !opens(session.expires));
    if session.issued < end {
        assert!(opens(end - 1));
    }
}

/// Asserts that what upstreams are told are the three fields that it has to be, whatever stands in the session.
fn assert_is_told(session: &Session) {
    let head = [b"GET / HTTP/1.0\r\n", session.lines(), b"\r\n"].concat();
    let mut positions = Vec::new();
    let head = Head::parse(&head, &mut positions, Limits { bytes: 2048, fields: 3 }).expect("lines of a head");
    let told: Vec<_> = head.fields.iter().map(|field| (field.kind, field.value)).collect();
    let expected = [session.user(), session.email(), session.org()];
    assert_eq!(told, expected.map(|value| (Name::Identity, value.as_bytes())));
}
