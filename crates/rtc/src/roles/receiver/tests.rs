//! What a receiver makes of time and of fragments; media is tested over sockets, in `endpoint/tests.rs`.

use super::*;
use crate::Accept;

const OFFER: &str = include_str!("../../../../e2e/data/obs-offer.sdp");

fn receiver(now: Instant) -> Receiver {
    receiver_of(OFFER, now)
}

fn receiver_of(offer: &str, now: Instant) -> Receiver {
    let accept = Accept::passed_on();
    let offer = Offer::read(offer, &accept).unwrap();
    let local = (Transport::Udp, "192.0.2.1:7885".parse().unwrap());
    Receiver::new(offer, &accept, false, &[local], now).unwrap().0
}

fn last(receiver: &mut Receiver) -> Option<Received> {
    std::iter::from_fn(|| receiver.event()).last()
}

#[test]
fn a_sender_that_never_comes_is_given_up_in_words() {
    let now = Instant::now();
    let mut receiver = receiver(now);
    assert!(matches!(receiver.event(), Some(Received::Media(Media::Announced(t))) if t.audio && t.video));
    assert!(receiver.deadline() <= now + CONNECT);
    receiver.tick(now + CONNECT - Duration::from_millis(1)).unwrap();
    assert!(!matches!(last(&mut receiver), Some(Received::Lost(_))));
    receiver.tick(now + CONNECT).unwrap();
    let Some(Received::Lost(fault)) = last(&mut receiver) else { panic!("it is given up") };
    assert!(fault.retry && fault.text.contains("UDP or TCP media port"), "{fault}");
    assert!(receiver.event().is_none());
}

#[test]
fn a_goodbye_of_ours_is_told_once() {
    let mut receiver = receiver(Instant::now());
    receiver.close();
    receiver.close();
    let ends = std::iter::from_fn(|| receiver.event()).filter(|r| matches!(r, Received::Finished)).count();
    assert_eq!(ends, 1);
}

#[test]
fn a_restart_changes_both_names_and_needs_new_ones() {
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
fn sound_is_asked_for_again_of_those_who_can_tell_two_requests_apart() {
    let asks = |offer: &str| {
        let lines = receiver_of(offer, Instant::now()).lines;
        [lines.audio, lines.video].map(|line| line.unwrap().nack)
    };
    assert_eq!(asks(OFFER), [true, true]);
    // What FFmpeg offers.
    let bare = OFFER.replace("a=rtcp-fb:96 nack pli", "a=rtcp-rsize");
    assert_ne!(bare, OFFER);
    assert_eq!(asks(&bare), [false, true]);
}
