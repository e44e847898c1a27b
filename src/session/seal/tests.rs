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
fn an_idle_end_is_sealed_too() {
    let ring = ring(&[("k1", 1)]);
    let session = Session { idle: Some(2_800), ..session() };
    let token = ring.seal(Purpose::Session, &session).unwrap().unwrap();
    assert!(token.len() < 300, "{} bytes", token.len());
    let open = |now| ring.open(Purpose::Session, token.as_bytes(), now);
    assert_eq!(open(2_799), Ok(session.clone()));
    assert_eq!(open(2_800), Err(OpenError::Idle));
    assert_eq!(open(4_600), Err(OpenError::Expired));
    assert_eq!(ring.unseal(Purpose::Session, token.as_bytes()), Ok(session));
}

#[test]
fn an_idle_end_never_makes_a_session_longer() {
    let ring = ring(&[("k1", 1)]);
    let session = Session { idle: Some(9_000), ..session() };
    let token = ring.seal(Purpose::Session, &session).unwrap().unwrap();
    assert_eq!(ring.open(Purpose::Session, token.as_bytes(), 4_600), Err(OpenError::Expired));
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
    for format in [0, 2, 3] {
        plain[0] = format;
        assert_eq!(decode(&plain), None, "format {format}");
    }
}

#[test]
fn the_first_format_is_as_it_was() {
    let mut plain = Vec::new();
    encode(&session(), &mut plain);
    let mut expected = vec![1];
    expected.extend([9; 16]);
    expected.extend([0, 0, 0x03, 0xe8, 0, 0, 0x11, 0xf8]);
    expected.push(16);
    expected.extend(b"acme-corporation");
    assert_eq!(plain[..expected.len()], expected);
}

#[test]
fn places_are_sealed_too() {
    let ring = ring(&[("k1", 1)]);
    let places = |count| (0..count).map(|n| Place { upstream: n << 20, node: u32::MAX - n }).collect();
    for (idle, count) in [(None, 1), (Some(2_800), 1), (None, 4), (Some(2_800), 4)] {
        let session = Session { idle, places: places(count), ..session() };
        let token = ring.seal(Purpose::Session, &session).unwrap().unwrap();
        assert!(token.len() < 300, "{} bytes", token.len());
        assert_eq!(ring.open(Purpose::Session, token.as_bytes(), 2_000), Ok(session));
    }
}

#[test]
fn the_third_format_is_read_strictly() {
    let place = |upstream| Place { upstream, node: 7 };
    let session = Session { idle: Some(2_800), places: [1, 2].map(place).into_iter().collect(), ..session() };
    let mut plain = Vec::new();
    encode(&session, &mut plain);
    assert_eq!(decode(&plain), Some(session));
    for cut in 0..plain.len() {
        // Without its second place it is a session with one.
        assert_eq!(decode(&plain[..cut]).is_some(), cut == plain.len() - PLACE, "cut {cut}");
    }
    plain.extend([0; 3 * PLACE]);
    assert_eq!(decode(&plain), None, "more places than a session has");
    for format in [1, 2] {
        plain[0] = format;
        assert_eq!(decode(&plain), None, "format {format}");
    }
}

#[test]
fn the_second_format_is_read_strictly() {
    let session = Session { idle: Some(2_800), ..session() };
    let mut plain = Vec::new();
    encode(&session, &mut plain);
    assert_eq!(decode(&plain), Some(session));
    for cut in 0..plain.len() {
        assert_eq!(decode(&plain[..cut]), None, "cut {cut}");
    }
    plain[0] = 1;
    assert_eq!(decode(&plain), None);
}
