//! Time, restarts and strangers; media is tested over sockets, in `endpoint/tests.rs`.

use super::*;

const OFFER: &str = include_str!("../../../../../e2e/data/obs-offer.sdp");

fn receiver(now: Instant) -> Driver<Receiver> {
    receiver_of(OFFER, now)
}

fn receiver_of(offer: &str, now: Instant) -> Driver<Receiver> {
    let accept = Accept::passthrough();
    let offer = Offer::read(offer, &accept).unwrap();
    let local = (Transport::Udp, "192.0.2.1:7885".parse().unwrap());
    Driver::receiver(offer, &accept, false, &[local], now).unwrap().0
}

fn last(receiver: &mut Driver<Receiver>) -> Option<Received> {
    std::iter::from_fn(|| receiver.poll_event()).last()
}

#[test]
fn client_that_never_comes_is_given_up() {
    let now = Instant::now();
    let mut receiver = receiver(now);
    assert!(matches!(receiver.poll_event(), Some(Received::Media(Media::Announced(t))) if t.audio && t.video));
    assert!(receiver.deadline() <= now + CONNECT_TIMEOUT);
    receiver.tick(now + CONNECT_TIMEOUT - Duration::from_millis(1)).unwrap();
    assert!(!matches!(last(&mut receiver), Some(Received::Lost(_))));
    receiver.tick(now + CONNECT_TIMEOUT).unwrap();
    let Some(Received::Lost(fault)) = last(&mut receiver) else { panic!("it is given up") };
    assert!(fault.retry && fault.text.contains("UDP or TCP media port"), "{fault}");
    assert!(receiver.poll_event().is_none());
}

#[test]
fn finish_is_told_once() {
    let mut receiver = receiver(Instant::now());
    receiver.finish();
    receiver.finish();
    let ends = std::iter::from_fn(|| receiver.poll_event()).filter(|r| matches!(r, Received::Finished)).count();
    assert_eq!(ends, 1);
}

#[test]
fn restart_needs_new_credentials() {
    let now = Instant::now();
    let mut receiver = receiver(now);
    let before = receiver.credentials();
    let pwd = "3bT0uXyZp9LmNcVfRw8sHa".to_owned();
    assert!(matches!(receiver.restart("kQ7d".into(), pwd.clone(), Vec::new(), now), Err(Refusal::Unreadable(_))));
    assert_eq!(receiver.credentials(), before);
    receiver.restart("another".into(), pwd, Vec::new(), now).unwrap();
    assert_ne!(receiver.credentials(), before);
}

#[test]
fn strangers_datagrams_are_not_taken() {
    let now = Instant::now();
    let mut receiver = receiver(now);
    let (from, to) = ("198.51.100.1:1".parse().unwrap(), "192.0.2.1:7885".parse().unwrap());
    for data in [&[0x80, 96, 0, 1][..], &[22, 254, 253, 0], &[0, 1, 0, 0], &[]] {
        assert!(!receiver.receive(Transport::Udp, from, to, data, now));
    }
}

#[test]
fn audio_nack_needs_key_frame_requests() {
    let asks = |offer: &str| {
        let driver = receiver_of(offer, Instant::now());
        let tracks = &driver.role().tracks;
        [&tracks.audio, &tracks.video].map(|track| track.as_ref().unwrap().nack)
    };
    assert_eq!(asks(OFFER), [true, true]);
    // What FFmpeg offers.
    let bare = OFFER.replace("a=rtcp-fb:96 nack pli", "a=rtcp-rsize");
    assert_ne!(bare, OFFER);
    assert_eq!(asks(&bare), [false, true]);
}
