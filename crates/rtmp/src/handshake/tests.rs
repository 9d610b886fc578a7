//! Handshakes of both kinds, cut anywhere, and what is none.

use super::*;
use proptest::prelude::*;

/// A signed C0 and C1, as Flash Player 9 and librtmp write them.
fn signed(scheme: usize) -> Vec<u8> {
    let mut c1: Vec<u8> = (0..SIZE).map(|i| (i * 7 + 3) as u8).collect();
    c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
    let at = digest_offset(&c1, scheme);
    let digest = hmac(CLIENT_KEY, &[&c1[..at], &c1[at + DIGEST..]]);
    c1[at..at + DIGEST].copy_from_slice(&digest);
    [vec![3], c1].concat()
}

fn run(bytes: &[u8], cut: usize) -> Result<(bool, Vec<u8>), Error> {
    let mut handshake = Handshake::new();
    let (mut out, mut done) = (Vec::new(), false);
    for piece in bytes.chunks(cut) {
        let mut input = piece;
        done = handshake.receive(&mut input, &mut out)?;
        assert!(input.is_empty() || done);
    }
    Ok((done, out))
}

#[test]
fn a_plain_handshake_gets_its_echo() {
    let c1: Vec<u8> = (0..SIZE).map(|i| if (4..8).contains(&i) { 0 } else { i as u8 }).collect();
    let bytes = [vec![3], c1.clone(), vec![0; SIZE]].concat();
    for cut in [1, 1000, 1537, 9999] {
        let (done, out) = run(&bytes, cut).unwrap();
        assert!(done);
        assert_eq!(out.len(), 1 + 2 * SIZE);
        assert_eq!((out[0], &out[5..9]), (3, &[0; 4][..]));
        assert_eq!(out[1 + SIZE..], c1);
    }
}

#[test]
fn a_signed_handshake_gets_a_signed_answer() {
    for scheme in [0, 1] {
        let c0c1 = signed(scheme);
        let (done, out) = run(&c0c1, 700).unwrap();
        assert!(!done);
        let (s1, s2) = (&out[1..1 + SIZE], &out[1 + SIZE..]);
        let at = digest_offset(s1, scheme);
        assert_eq!(s1[at..at + DIGEST], hmac(SERVER_KEY, &[&s1[..at], &s1[at + DIGEST..]]));
        let at = digest_offset(&c0c1[1..], scheme);
        let key = hmac(&[SERVER_KEY, &KEY_TAIL].concat(), &[&c0c1[1..][at..at + DIGEST]]);
        assert_eq!(s2[SIZE - DIGEST..], hmac(&key, &[&s2[..SIZE - DIGEST]]));
    }
}

#[test]
fn a_version_without_a_signature_gets_the_echo() {
    // FFmpeg and others write a version there and sign nothing.
    let mut bytes = vec![5; 1 + SIZE];
    bytes[0] = 3;
    assert_eq!(run(&bytes, 99).unwrap().1[1 + SIZE..], bytes[1..]);
}

#[test]
fn hmac_is_that_of_the_rfc() {
    // RFC 4231 §4.3, test case 2.
    let wanted = [
        0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7, 0x5a, 0x00,
        0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43,
    ];
    assert_eq!(hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]), wanted);
}

#[test]
fn versions_are_answered_with_three() {
    for version in [0, 2, 6, 8, 31] {
        let mut bytes = vec![0; 1 + SIZE];
        bytes[0] = version;
        assert_eq!(run(&bytes, 9999).unwrap().1[0], 3);
    }
    for stranger in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 2, 0], &[0xff]] {
        assert!(matches!(run(stranger, 99), Err(Error::NotRtmp(_))));
    }
}

proptest! {
    #[test]
    fn noise_is_taken_or_refused(noise in proptest::collection::vec(any::<u8>(), 0..5000), cut in 1usize..2000) {
        let _ = Handshake::new().receive(&mut &noise[..], &mut Vec::new());
        let mut handshake = Handshake::new();
        let mut out = Vec::new();
        for mut piece in noise.chunks(cut) {
            if handshake.receive(&mut piece, &mut out) != Ok(false) {
                break;
            }
        }
        prop_assert!(out.len() <= 1 + 2 * SIZE);
    }
}
