//! The envelope against bytes recorded between livekit-server 1.13.5 and its peers.

use super::*;
use proptest::prelude::*;

/// Bytes from hex digits and quoted text, as recordings are written down.
fn bytes(recording: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, part) in recording.split('"').enumerate() {
        if i % 2 == 1 {
            out.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        out.extend(digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()));
    }
    out
}

const GET_INGRESS_INFO: &str = r#"
    0a24 "type.googleapis.com/internal.Request"
    1248 0a10 "REQ_KaUqUkIhezDA" 1210 "CLI_QgvDPjunwgeX" 18baa7d3949bd9aaf518 20bae394aba6d9aaf518
    420e 120c "Uvg8i8xsZSBS""#;

fn check(recording: &str, envelope: Envelope) {
    let recording = bytes(recording);
    assert_eq!(Envelope::decode(recording.clone().into()), Some(envelope.clone()));
    assert_eq!(envelope.encode(), recording);
}

#[test]
fn recorded_request_round_trips() {
    let sent_at = 1_795_435_184_721_810_362;
    check(
        GET_INGRESS_INFO,
        Envelope::Request(Request {
            request_id: "REQ_KaUqUkIhezDA".into(),
            client_id: "CLI_QgvDPjunwgeX".into(),
            sent_at,
            expiry: sent_at + 3_000_000_000,
            raw_request: bytes(r#"120c "Uvg8i8xsZSBS""#).into(),
            ..Default::default()
        }),
    );
}

#[test]
fn recorded_bids_and_choices_round_trip() {
    let (request_id, server_id) = ("REQ_KaUqUkIhezDA".to_owned(), "SRV_MhfFksER8JcG".to_owned());
    check(
        r#"0a29 "type.googleapis.com/internal.ClaimRequest"
           1229 0a10 "REQ_KaUqUkIhezDA" 1210 "SRV_MhfFksER8JcG" 1d0000803f"#,
        Envelope::ClaimRequest(ClaimRequest {
            request_id: request_id.clone(),
            server_id: server_id.clone(),
            affinity: 1.0,
        }),
    );
    check(
        r#"0a2a "type.googleapis.com/internal.ClaimResponse"
           1224 0a10 "REQ_KaUqUkIhezDA" 1210 "SRV_MhfFksER8JcG""#,
        Envelope::ClaimResponse(ClaimResponse { request_id, server_id }),
    );
}

#[test]
fn recorded_failure_round_trips() {
    check(
        r#"0a25 "type.googleapis.com/internal.Response"
           1251 0a10 "REQ_KaUqUkIhezDA" 1210 "SRV_MhfFksER8JcG" 1896dfa9959bd9aaf518
           2a16 "ingress does not exist" 3209 "not_found""#,
        Envelope::Response(Response {
            request_id: "REQ_KaUqUkIhezDA".into(),
            server_id: "SRV_MhfFksER8JcG".into(),
            sent_at: 1_795_435_184_723_226_518,
            error: "ingress does not exist".into(),
            code: "not_found".into(),
            ..Default::default()
        }),
    );
}

#[test]
fn lock_key_matches_livekit_server() {
    assert_eq!(lock_key(&bytes(GET_INGRESS_INFO)), "8W65PmSMiYVnpQ/3IG1NKLnRQmUtKN9g4vUVIMdeNl8=");
}

#[test]
fn bodies_of_older_peers_are_found() {
    let any = Any { type_url: "type.googleapis.com/x.Y".into(), value: Bytes::from_static(b"old") };
    let old = Request { request: Some(any.clone()), ..Default::default() };
    assert_eq!(old.body(), "old");
    let new = Request { request: Some(any.clone()), raw_request: Bytes::from_static(b"new"), ..Default::default() };
    assert_eq!(new.body(), "new");
    assert_eq!(Response { response: Some(any), ..Default::default() }.body(), "old");
    assert_eq!(Response::default().body(), "");
}

#[test]
fn unknown_types_and_fields_are_ignored() {
    let unknown = Any { type_url: "type.googleapis.com/internal.Stream".into(), value: Bytes::new() };
    assert_eq!(Envelope::decode(unknown.encode_to_vec().into()), None);
    // A third field, as the envelope has on other buses, and an unknown one inside.
    let newer = bytes(r#"0a2a "type.googleapis.com/internal.ClaimResponse" 1206 0a01"R" 7a01"x" 1a02"ch""#);
    assert!(
        matches!(Envelope::decode(newer.into()), Some(Envelope::ClaimResponse(ClaimResponse { request_id, .. })) if request_id == "R")
    );
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(payload in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Envelope::decode(payload.into());
    }

    #[test]
    fn damaged_messages_do_not_panic(
        at in 0usize..112, value in any::<u8>(), cut in 0usize..113, kind in 0usize..4,
    ) {
        let names = [REQUEST, RESPONSE, CLAIM_REQUEST, CLAIM_RESPONSE];
        let mut payload = bytes(&GET_INGRESS_INFO.replace(r#"0a24 "type.googleapis.com/internal.Request""#, ""));
        let mut head = vec![0x0a, names[kind].len() as u8];
        head.extend_from_slice(names[kind].as_bytes());
        head.append(&mut payload);
        let last = head.len() - 1;
        head[at.min(last)] = value;
        head.truncate(cut.max(1));
        let _ = Envelope::decode(head.into());
    }

    #[test]
    fn what_is_written_is_read(
        request_id in ".{0,20}", client_id in ".{0,20}", sent_at in any::<i64>(), expiry in any::<i64>(), multi in any::<bool>(),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let m = Envelope::Request(Request {
            request_id, client_id, sent_at, expiry, multi, raw_request: body.into(), ..Default::default()
        });
        prop_assert_eq!(Envelope::decode(m.encode()), Some(m));
    }
}
