use super::*;

fn session() -> Session {
    let parts = Parts {
        id: [9; 16],
        issued: 1_000,
        expires: 4_600,
        org: "acme-corporation",
        user: "V1StGXR8_Z5jdHi6B-myT",
        email: "firstname.lastname@acme-corporation.example",
        app: Some("V1StGXR8_Z5jdHi6B-myT"),
    };
    Session::new(parts).unwrap()
}

fn ring(keys: &[(&str, u8)]) -> KeyRing {
    KeyRing::new(keys.iter().map(|(id, byte)| ((*id).to_owned(), [*byte; 32])))
}

fn seal(ring: &KeyRing, purpose: Purpose) -> String {
    ring.seal(purpose, &session()).unwrap().unwrap()
}

#[test]
fn what_is_sealed_opens_and_is_short() {
    let ring = ring(&[("k1", 1)]);
    let token = seal(&ring, Purpose::Session);
    assert!(token.starts_with("~1.k1.") && token.len() < 300, "{} bytes", token.len());
    assert_eq!(ring.open(Purpose::Session, token.as_bytes(), 2_000), Ok(session()));
    assert_ne!(token, seal(&ring, Purpose::Session), "nonces differ");
}

#[test]
fn the_first_key_seals_and_all_open() {
    let old = ring(&[("k1", 1)]);
    let both = ring(&[("k2", 2), ("k1", 1)]);
    let token = seal(&old, Purpose::Session);
    assert_eq!(both.open(Purpose::Session, token.as_bytes(), 2_000), Ok(session()));
    assert!(seal(&both, Purpose::Session).starts_with("~1.k2."));
    assert_eq!(old.open(Purpose::Session, seal(&both, Purpose::Session).as_bytes(), 2_000), Err(OpenError::UnknownKey));
    assert_eq!(ring(&[]).seal(Purpose::Session, &session()).unwrap(), None);
}

#[test]
fn every_flipped_character_is_noticed() {
    let ring = ring(&[("k1", 1)]);
    let token = seal(&ring, Purpose::Session);
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(ring.open(Purpose::Session, &bytes, 2_000).is_err(), "at {at}");
    }
    for cut in 0..token.len() {
        assert!(ring.open(Purpose::Session, &token.as_bytes()[..cut], 2_000).is_err(), "cut {cut}");
    }
}

#[test]
fn failures_have_their_classes() {
    let ring = ring(&[("k1", 1)]);
    let open = |token: &str, now| ring.open(Purpose::Session, token.as_bytes(), now);
    let token = seal(&ring, Purpose::Session);
    assert_eq!(open(&token, 4_599).map(|_| ()), Ok(()));
    assert_eq!(open(&token, 4_600), Err(OpenError::Expired));
    assert_eq!(open(&token, 989), Err(OpenError::NotYetValid));
    assert_eq!(open(&seal(&ring, Purpose::Cookieless), 2_000), Err(OpenError::WrongPurpose));
    let foreign = KeyRing::new([("k1".to_owned(), [3; 32])]);
    assert_eq!(open(&seal(&foreign, Purpose::Session), 2_000), Err(OpenError::BadTag));
    for bad in ["", "~1.", "~1.k1", "~1.k1.", "~2.k1.AAAA", "~1.k1.AAAA", &format!("{token}="), &"~1.k1.".repeat(200)] {
        assert_eq!(open(bad, 2_000), Err(OpenError::Malformed), "{bad}");
    }
}

#[test]
fn keys_are_hexadecimal() {
    let hex = "0f".repeat(32);
    assert_eq!(parse_key(&format!("{hex}\n")), Ok([0x0f; 32]));
    for bad in ["", "0f", &"0g".repeat(32), &"0f".repeat(33)] {
        assert_eq!(parse_key(bad), Err(KeyError::Form), "{bad}");
    }
}

#[test]
fn plaintexts_are_read_strictly() {
    let mut plain = Vec::new();
    encode(&session(), &mut plain);
    assert_eq!(decode(&plain), Some(session()));
    plain.push(0);
    assert_eq!(decode(&plain), None);
    plain.pop();
    plain[0] = 2;
    assert_eq!(decode(&plain), None);
}
