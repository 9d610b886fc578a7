//! What WHIP clients send: offers, fragments, and what is looked at inside their packets.

use model::VideoCodec;
use rtc::inspect::Inspector;
use rtc::{Accept, Fragment, answer_unreachable};
use std::time::Instant;

/// An offer, down to the engine that answers it. Promise: it is answered or refused, and an answer has the offer's media lines.
pub fn whip_offers(data: &[u8]) {
    let Ok(offer) = std::str::from_utf8(data) else { return };
    let lines = |sdp: &str| sdp.lines().filter(|l| l.starts_with("m=")).count();
    for accept in [Accept::passed_on(), Accept::transcoded()] {
        if let Ok(answer) = answer_unreachable(offer, &accept, Instant::now()) {
            assert_eq!(lines(&answer), lines(offer));
        }
    }
}

/// A fragment of either form.
pub fn sdp_fragments(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(fragment) = Fragment::read(text) {
        assert!(fragment.candidates.iter().all(|c| c.starts_with("candidate:")));
    }
}

/// A payload as each codec's, after a byte of timestamp.
pub fn rtp_payloads(data: &[u8]) {
    let Some((&time, payload)) = data.split_first() else { return };
    for codec in [VideoCodec::H264, VideoCodec::H265, VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Av1] {
        let seen = Inspector::new(codec).look(payload, time.into());
        if let Some((width, height)) = seen.size {
            assert!((1..=16_384).contains(&width) && (1..=16_384).contains(&height));
        }
    }
}
