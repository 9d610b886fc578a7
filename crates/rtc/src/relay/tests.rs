//! An address at a TURN server, on virtual time.

use super::*;
use pair::Pair;
use proptest::prelude::*;

const SFU: ([u8; 4], u16) = ([198, 51, 100, 9], 7_882);

/// All that waits goes both ways.
fn settle(pair: &mut Pair) {
    for _ in 0..100 {
        while let Some(message) = pair.from_client() {
            if let Some(answer) = pair.to_server(&message) {
                pair.to_client(&answer);
            }
        }
        // Requests of a client leave 50 ms apart.
        if !pair.pass(Duration::from_millis(100)) {
            return;
        }
    }
    panic!("the client never rests");
}

#[test]
fn an_address_is_asked_for_and_media_goes_both_ways() {
    for carrier in [Carrier::Datagrams, Carrier::Stream] {
        let mut pair = Pair::new(carrier);
        settle(&mut pair);
        assert_eq!(pair.events, [RelayEvent::Open(Pair::ADDRESS.into())], "{carrier:?}");
        let sfu = SocketAddr::from(SFU);
        assert_eq!(pair.from_peer(sfu, b"early"), None, "nobody is let in before");
        pair.send(sfu, b"check", false);
        settle(&mut pair);
        assert_eq!(pair.sent_on, [(sfu, b"check".to_vec())], "{carrier:?}: it waited for the permission");
        let answer = pair.from_peer(sfu, b"answer").unwrap();
        pair.to_client(&answer);
        assert_eq!(pair.got, [(sfu, b"answer".to_vec())]);
        // Media has a channel, of any length.
        pair.send(sfu, b"media 1", true);
        settle(&mut pair);
        assert!(pair.has_channel(sfu), "{carrier:?}");
        for length in 0..9 {
            pair.send(sfu, &[7; 9][..length], true);
            let report = pair.from_peer(sfu, &[8; 9][..length]).unwrap();
            pair.to_client(&report);
        }
        settle(&mut pair);
        assert_eq!((pair.sent_on.len(), pair.got.len()), (11, 10), "{carrier:?}");
        assert!((0..9).all(|n| pair.sent_on[n + 2].1.len() == n && pair.got[n + 1].1.len() == n));
    }
}

#[test]
fn an_address_lasts_and_is_given_back() {
    let mut pair = Pair::new(Carrier::Datagrams);
    settle(&mut pair);
    assert!(!format!("{:?}", pair.relay()).contains("password"));
    let sfu = SocketAddr::from(SFU);
    pair.send(sfu, b"media", true);
    for _ in 0..720 {
        settle(&mut pair);
        for _ in 0..100 {
            pair.pass(Duration::from_millis(100));
        }
    }
    pair.send(sfu, b"two hours later", true);
    settle(&mut pair);
    assert_eq!(pair.sent_on.last().unwrap().1, b"two hours later");
    assert_eq!(pair.events.len(), 1, "{:?}", pair.events);
    pair.release();
    settle(&mut pair);
    assert_eq!(pair.from_peer(sfu, b"anybody there?"), None);
}

#[test]
fn a_silent_server_is_given_up() {
    let mut pair = Pair::new(Carrier::Datagrams);
    let mut asked = 0;
    let mut waited = Duration::ZERO;
    while pair.events.is_empty() {
        asked += std::iter::from_fn(|| pair.from_client()).count();
        pair.pass(Duration::from_millis(50));
        waited += Duration::from_millis(50);
        assert!(waited < Duration::from_secs(15));
    }
    assert_eq!(pair.events, [RelayEvent::Closed(None)]);
    assert!(asked >= 3, "{asked}");
}

#[test]
fn who_speaks_no_turn_is_left() {
    let mut pair = Pair::new(Carrier::Stream);
    pair.to_client(b"SSH-2.0-OpenSSH_9.2\r\n");
    assert_eq!(pair.events, [RelayEvent::Closed(None)]);
    assert_eq!(pair.relay().deadline(), None);
    // These could be the beginning of a long message, and are waited for as for silence.
    let mut pair = Pair::new(Carrier::Stream);
    pair.to_client(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    (0..300).for_each(|_| _ = pair.pass(Duration::from_millis(50)));
    assert_eq!(pair.events, [RelayEvent::Closed(None)]);
}

proptest! {
    #[test]
    fn any_bytes_break_nothing(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..50),
        stream in any::<bool>(),
    ) {
        let mut pair = Pair::new(if stream { Carrier::Stream } else { Carrier::Datagrams });
        settle(&mut pair);
        for chunk in chunks {
            pair.to_client(&chunk);
            pair.send(SFU.into(), b"check", false);
        }
        prop_assert!(pair.got.is_empty(), "nobody was let in");
    }
}
