//! Cutting encoded frames into RTP payloads. Pure: bytes in, payloads out; sequence numbers and timestamps are the stream's.

mod h264;
mod red;
mod redundant;
mod sets;
mod vp8;

use std::time::Duration;

pub use h264::H264;
pub(crate) use h264::nal_units;
pub(crate) use red::Repeating;
pub use red::{Place, Red};
pub use redundant::Heard;
pub use redundant::{Repeated, blocks};
pub(crate) use sets::Sets;
pub use vp8::Vp8;

/// Bytes of RTP payload in one packet at the most. 1200 is what fits every path on the internet (and what the Go ingress
/// keeps to); from it go 12 for the RTP header, 24 for the extensions we send (abs-send-time, transport-cc, mid, rid,
/// audio level, rounded up to words, and their header), 16 for the SRTP tag, 2 for the sequence number that a
/// retransmission repeats (RFC 4588 §4), and 2 to spare.
pub const MAX_PAYLOAD: usize = 1200 - 12 - 24 - 16 - 2 - 2;

/// Bytes of an Opus packet at the most: one packet is one payload (RFC 7587 §4.2), and IP fragments get lost. 1275 is the
/// longest single frame (RFC 6716 §3.2.1).
pub const MAX_OPUS: usize = 1275 + 4;

/// In so much time livekit-server wants to see [`FLOOR_PACKETS`] packets of a middle or upper layer (its stream tracker's default,
/// read in 1.13.5). A layer with fewer is called stopped, and viewers are kept off it for the ten seconds that follow.
pub(crate) const FLOOR_WINDOW: Duration = Duration::from_millis(500);
pub(crate) const FLOOR_PACKETS: usize = 5;

/// Into how many packets at least a picture goes that came `interval` after the one before, so that sources with few pictures a
/// second keep their layers: as if one picture fewer than usual were in the window, as they jitter.
pub fn at_least(interval: Duration) -> usize {
    let windows = FLOOR_WINDOW.as_secs_f64() / interval.as_secs_f64().max(0.001);
    // The cast holds: at most 500.
    let pictures = (windows - 0.5).floor().max(1.0) as usize;
    FLOOR_PACKETS.div_ceil(pictures)
}

/// Cuts the frames of one encoded stream. Holds what the stream's packets have in common.
#[derive(Debug)]
pub enum Payloader {
    /// H.264 from Annex B access units.
    H264(H264),
    /// VP8 from whole frames.
    Vp8(Vp8),
    /// Opus, one packet each.
    Opus,
}

impl Payloader {
    /// Hands each payload of `frame` to `send`, in order, with whether it is the frame's last. A picture is cut into `at_least`
    /// so many, if it has as many bytes. A frame that holds nothing sendable yields no payload.
    pub fn payloads(&mut self, frame: &[u8], at_least: usize, send: impl FnMut(&[u8], bool)) {
        match self {
            Self::H264(p) => p.payloads(frame, MAX_PAYLOAD, at_least, send),
            Self::Vp8(p) => p.payloads(frame, MAX_PAYLOAD, at_least, send),
            Self::Opus => opus(frame, send),
        }
    }
}

/// RFC 7587 §4.2: the packet is the payload. The marker says "talk spurt begins" (RFC 3551 §4.1), which an encoded packet
/// does not tell, so it is never set.
fn opus(packet: &[u8], mut send: impl FnMut(&[u8], bool)) {
    if !packet.is_empty() && packet.len() <= MAX_OPUS {
        send(packet, false);
    }
}

/// Cuts `len` bytes into as few pieces of at most `max` as do, but `at_least` so many, of nearly equal size: a short last packet
/// costs as much as a full one.
fn pieces(len: usize, max: usize, at_least: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = len.div_ceil(max.max(1)).max(at_least.min(len)).max(1);
    let (size, longer) = (len / count, len % count);
    (0..count).map(move |i| {
        let start = i * size + i.min(longer);
        start..start + size + usize::from(i < longer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_join_to_the_whole_and_are_nearly_equal(len in 0usize..100_000, max in 1usize..2000, least in 0usize..9) {
            let all: Vec<_> = pieces(len, max, least).collect();
            prop_assert!(all.len() >= least.min(len));
            prop_assert_eq!(all[0].start, 0);
            prop_assert_eq!(all[all.len() - 1].end, len);
            prop_assert!(all.windows(2).all(|p| p[0].end == p[1].start));
            let sizes: Vec<_> = all.iter().map(|r| r.len()).collect();
            prop_assert!(sizes.iter().all(|&s| s <= max));
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn few_pictures_are_many_packets() {
        let packets = |fps: f64| at_least(Duration::from_secs_f64(fps.recip()));
        assert_eq!([60.0, 30.0, 25.0, 15.0].map(packets), [1; 4]);
        assert_eq!([10.0, 5.0, 4.0, 1.0, 0.01].map(packets), [2, 3, 5, 5, 5]);
        assert_eq!(at_least(Duration::ZERO), 1);
    }

    #[test]
    fn opus_is_one_payload_or_none() {
        let mut got = Vec::new();
        opus(&[1, 2, 3], |p, last| got.push((p.to_vec(), last)));
        opus(&[], |p, last| got.push((p.to_vec(), last)));
        opus(&[0; MAX_OPUS + 1], |p, last| got.push((p.to_vec(), last)));
        assert_eq!(got, [(vec![1, 2, 3], false)]);
    }
}
