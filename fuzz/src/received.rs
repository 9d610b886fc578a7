//! What WHIP clients send: offers, fragments, and what is looked at inside their packets.

use media::rtp_inspector::Inspector;
use model::VideoCodec;
use rtc::red::{ReceiveHistory, RedEncoder, RtpPosition, split_blocks};
use rtc::{Accept, Fragment, RtpHeader, answer_unreachable};
use std::time::Instant;

/// An offer, down to the engine that answers it. Promise: it is answered or refused, and an answer has the offer's media lines.
pub fn whip_offers(data: &[u8]) {
    let Ok(offer) = std::str::from_utf8(data) else { return };
    let lines = |sdp: &str| sdp.lines().filter(|l| l.starts_with("m=")).count();
    for accept in [Accept::passthrough(), Accept::transcoded()] {
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

/// A packet's header. Promises: it is none of RTCP's, and all that it has, it has in its bytes.
pub fn rtp_headers(data: &[u8]) {
    let Some(header) = RtpHeader::read(data) else { return };
    assert!(header.payload_type < 128 && !(64..96).contains(&header.payload_type));
    let ids = (1..=255).filter(|id| header.has(*id)).count();
    assert!(12 + ids <= data.len());
}

/// Payload type of Opus inside redundant packets.
const OPUS: u8 = 111;
/// The longest packet that we make.
const MAX_PACKET: usize = 1000;

/// RED packets (RFC 2198), each behind a head of three bytes: how far the sequence number goes on, how far the timestamp, how long. Odd
/// lengths are wrapped by us, even ones are taken as they are. Promises: blocks are parts of their packet; what we wrap can be
/// read; each sequence number is taken once, and what is recovered lies in a gap.
pub fn redundant_audio(data: &[u8]) {
    let (mut red, mut history) = (RedEncoder::default(), ReceiveHistory::default());
    let mut at = RtpPosition { sequence: 1 << 16, timestamp: u32::MAX - 5_000 };
    let mut taken = std::collections::HashSet::new();
    let mut rest = data;
    while let Some((&[further, later, length], after)) = rest.split_first_chunk::<3>() {
        let payload;
        (payload, rest) = after.split_at(usize::from(length).min(after.len()));
        at.sequence = at.sequence.saturating_add_signed(i64::from(further as i8));
        at.timestamp = at.timestamp.wrapping_add_signed(i32::from(later as i8) * 960);
        let wrapped = length & 1 == 1;
        let packet =
            if wrapped { red.wrap(at, payload, OPUS, usize::from(length >> 6), MAX_PACKET) } else { payload.to_vec() };
        let Some((redundant, primary)) = split_blocks(&packet, OPUS) else {
            assert!(!wrapped, "ours can be read");
            continue;
        };
        assert!(!wrapped || primary == payload);
        assert!(redundant.iter().map(|(_, block)| block.len()).sum::<usize>() + primary.len() < packet.len());
        if !history.insert(at.sequence, at.timestamp) {
            continue;
        }
        assert!(taken.insert(at.sequence), "a sequence number is taken once");
        for (i, (offset, _)) in redundant.iter().enumerate() {
            let timestamp = at.timestamp.wrapping_sub(*offset);
            let Some(sequence) = history.lost_sequence(at.sequence, redundant.len() - i, timestamp) else { continue };
            assert!(!history.insert(sequence, timestamp) || taken.insert(sequence), "a sequence number is taken once");
        }
    }
}
