//! Handshakes of two of these, over a wire that a test owns.

use super::pair::Pair;
use super::*;

fn assert_up(pair: &Pair) {
    assert!(pair.keys[0].is_some() && pair.keys[0] == pair.keys[1], "both have the same keys");
    assert_eq!(pair.seen, [["connected", "certificate"]; 2]);
}

#[test]
fn handshake_agrees_on_keys_and_closes() {
    let mut pair = Pair::new(1150);
    pair.carry(|_, _| false);
    assert_up(&pair);
    pair.ends[1].close().unwrap();
    pair.carry(|_, _| false);
    assert_eq!(pair.seen[0].last().unwrap(), "closed");
    assert!(pair.ends.iter().all(|e| e.is_closed()));
}

#[test]
fn fragmented_handshake_messages_are_joined() {
    let mut pair = Pair::new(256);
    let mut longest = 0;
    pair.carry(|_, p| {
        longest = longest.max(p.len());
        false
    });
    assert_up(&pair);
    assert!(longest <= 256, "{longest}");
}

#[test]
fn lost_flights_are_retransmitted() {
    // Whichever datagram is the one that gets lost.
    for victim in 0..12 {
        let (mut pair, mut count) = (Pair::new(600), 0);
        for _ in 0..5 {
            pair.carry(|_, _| {
                count += 1;
                count == victim + 1
            });
            pair.pass(INITIAL_RETRANSMIT * 4);
        }
        assert_up(&pair);
    }
}

#[test]
fn repeated_client_hello_is_answered_at_once() {
    let mut pair = Pair::new(1150);
    let hello = pair.poll(0);
    pair.ends[1].handle_packet(&hello[0]).unwrap();
    let answer = pair.poll(1);
    assert!(!answer.is_empty());
    assert!(begins_hello(&hello[0]) && !begins_hello(&answer[0]));
    pair.ends[1].handle_packet(&hello[0]).unwrap();
    assert_eq!(pair.poll(1), answer, "the whole flight, no time has passed");
}

#[test]
fn junk_does_not_end_an_open_session() {
    let mut pair = Pair::new(1150);
    let junk: [&[u8]; 6] = [
        &[22],
        &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 255, 255],
        &[20, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 1],
        &[21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40],
        &[23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 3, 1, 2, 3],
        &[63; 1400],
    ];
    pair.carry(|_, _| false);
    for data in junk {
        assert_eq!(pair.ends[1].handle_packet(data), Ok(()), "{data:?}");
        pair.poll(1);
    }
    pair.ends[0].close().unwrap();
    pair.carry(|_, _| false);
    assert_eq!(pair.seen[1].last().unwrap(), "closed", "it still reads what is genuine");
    // During a handshake it may cost the handshake, no more.
    for data in junk {
        let mut pair = Pair::new(1150);
        let hello = pair.poll(0);
        pair.ends[1].handle_packet(&hello[0]).unwrap();
        let _ = pair.ends[1].handle_packet(data);
        pair.poll(1);
    }
}

proptest::proptest! {
    /// Any records, in a handshake and after it: no panic, and once it is up no end.
    #[test]
    fn any_records_are_handled(
        kind in 20u8..26, epoch in 0u8..3, number: u8, body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), up: bool,
    ) {
        let mut pair = Pair::new(1150);
        if up {
            pair.carry(|_, _| false);
        }
        let mut packet = vec![kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, number, 0, body.len() as u8];
        packet.extend(body);
        let outcome = pair.ends[1].handle_packet(&packet);
        proptest::prop_assert!(!up || outcome.is_ok());
        pair.poll(1);
    }
}

#[test]
fn retransmission_gives_up() {
    let mut pair = Pair::new(1150);
    let mut sent = 0;
    for _ in 0..40 {
        sent += pair.poll(0).len();
        pair.pass(Duration::from_secs(1));
    }
    assert_eq!(sent, 1 + MAX_RETRANSMITS as usize);
}

/// A certificate for so many names, each of which makes it 40 bytes longer.
fn certificate_for(names: usize) -> DtlsCert {
    use openssl::{asn1::Asn1Time, hash::MessageDigest, x509::X509Builder, x509::extension::SubjectAlternativeName};
    let mut cert = OpenSsl.generate_certificate().unwrap();
    let key = PKey::private_key_from_der(&cert.private_key).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(9).unwrap()).unwrap();
    let mut alternatives = SubjectAlternativeName::new();
    for i in 0..names {
        alternatives.dns(&format!("{i:030}.example"));
    }
    let extension = alternatives.build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(extension).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    cert.certificate = builder.build().to_der().unwrap();
    cert
}

#[test]
fn certificates_beyond_the_limit_are_refused() {
    let long = certificate_for(38);
    assert!((1700..=MAX_CERTIFICATE).contains(&long.certificate.len()), "{}", long.certificate.len());
    let mut pair = Pair::with(300, long);
    pair.carry(|_, _| false);
    assert_up(&pair);

    let mut pair = Pair::with(1150, certificate_for(60));
    let mut refused = false;
    for side in [0, 1, 0, 1, 0, 1] {
        for packet in pair.poll(side) {
            refused |= pair.ends[1 - side].handle_packet(&packet).is_err();
        }
    }
    assert!(refused && pair.ends[1].is_closed() && pair.keys[1].is_none());
}
