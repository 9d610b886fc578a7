//! The parameter sets of H.264 and H.265 in passthrough: what a client sends once, at its start, is put before each key frame that
//! comes without. The SFU recognises key frames by these sets, and a viewer who joins there has seen no earlier ones.

use crate::payload::MAX_PAYLOAD;
use media::nal::{h264, h265};
use media::rtp_inspector::aggregated;
use model::VideoCodec;
use std::sync::Arc;

/// Bytes of all sets that are kept at most, so that they fit into one packet. Real ones have a hundred or two.
const MAX_SETS: usize = MAX_PAYLOAD - 64;
/// How many of them: a stream has one of each kind, few have some more.
const MAX_COUNT: usize = 16;

/// How a codec's payloads and NAL units are classified.
#[derive(Debug)]
struct Kinds {
    /// The NAL unit type, from a unit's first byte.
    of: fn(u8) -> u8,
    /// Bytes of a unit's header.
    header: usize,
    /// Types of parameter sets, in the order in which they refer to each other.
    sets: &'static [u8],
    /// Types of key frame slices.
    key: std::ops::RangeInclusive<u8>,
    fragment: u8,
    aggregate: u8,
    /// The header of an aggregation packet.
    aggregate_header: &'static [u8],
}

/// RFC 6184 §5.2; the importance (NRI) in the aggregate's header is the highest.
const H264: Kinds = Kinds {
    of: h264::kind,
    header: 1,
    sets: &[h264::SPS, h264::PPS],
    key: h264::IDR..=h264::IDR,
    fragment: h264::FU_A,
    aggregate: h264::STAP_A,
    aggregate_header: &[0x78],
};

/// RFC 7798 §4.4; key frames are BLA, IDR and CRA (ITU-T H.265 table 7-1), the aggregate's layer is 0 and its temporal id 1.
const H265: Kinds = Kinds {
    of: h265::kind,
    header: 2,
    sets: &[h265::VPS, h265::SPS, h265::PPS],
    key: h265::IRAP,
    fragment: h265::FU,
    aggregate: h265::AP,
    aggregate_header: &[h265::AP << 1, 1],
};

/// The newest parameter sets of one stream.
#[derive(Debug, Default)]
pub(super) struct ParameterSets {
    /// Each with its NAL unit type and the RTP timestamp it came with.
    known: Vec<(u8, u32, Arc<[u8]>)>,
    /// The timestamps of the newest sets, and of the newest key frame.
    sets_at: Option<u32>,
    key_at: Option<u32>,
}

impl ParameterSets {
    /// Looks at a payload; gives what to send before it, in one packet, if a key frame begins in it without its sets.
    pub(super) fn before(&mut self, codec: VideoCodec, payload: &[u8], timestamp: u32) -> Option<Arc<[u8]>> {
        let kinds = match codec {
            VideoCodec::H264 => H264,
            VideoCodec::H265 => H265,
            _ => return None,
        };
        let kind = (kinds.of)(*payload.first()?);
        let key = if kind == kinds.aggregate {
            let units = aggregated(payload.get(kinds.header..)?);
            // Each of them is looked at, whatever the first one is.
            units.filter(|unit| self.unit(&kinds, unit, timestamp)).count() > 0
        } else if kind == kinds.fragment {
            // The fragment's own header: the first one, and of which kind the unit is. It is 5 bits for H.264, 6 for H.265.
            let fragment = *payload.get(kinds.header)?;
            fragment & 0x80 != 0 && kinds.key.contains(&(fragment & if kinds.header == 1 { 0x1f } else { 0x3f }))
        } else {
            self.unit(&kinds, payload, timestamp)
        };
        let begins = key && self.key_at.replace(timestamp) != Some(timestamp);
        (begins && self.sets_at != Some(timestamp)).then(|| self.together(&kinds)).flatten()
    }

    /// Keeps a set, or says whether it is a slice of a key frame.
    fn unit(&mut self, kinds: &Kinds, unit: &[u8], timestamp: u32) -> bool {
        let Some(kind) = unit.first().map(|first| (kinds.of)(*first)) else { return false };
        if kinds.sets.contains(&kind) {
            self.sets_at = Some(timestamp);
            self.known.retain(|(k, at, _)| *k != kind || *at == timestamp);
            if self.known.len() < MAX_COUNT && unit.len() <= MAX_SETS {
                self.known.push((kind, timestamp, unit.into()));
            }
        }
        kinds.key.contains(&kind)
    }

    /// All of them in an aggregation packet; `None` while a kind is not known, or if they are too long for one.
    fn together(&self, kinds: &Kinds) -> Option<Arc<[u8]>> {
        let mut packet = kinds.aggregate_header.to_vec();
        for kind in kinds.sets {
            let mut of = self.known.iter().filter(|(k, ..)| k == kind).peekable();
            of.peek()?;
            for (_, _, set) in of {
                packet.extend_from_slice(&u16::try_from(set.len()).ok()?.to_be_bytes());
                packet.extend_from_slice(set);
            }
        }
        (packet.len() <= MAX_PAYLOAD).then(|| packet.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VPS: &[u8] = &[0x40, 1, 7];
    const SPS: &[u8] = &[0x42, 1, 8, 8];
    const PPS: &[u8] = &[0x44, 1, 9];
    /// The first fragment of a CRA, and a RASL picture that leads it.
    const CRA: &[u8] = &[0x62, 1, 0x80 | 21, 1];
    const RASL: &[u8] = &[9 << 1, 1, 1];

    fn h265(sets: &mut ParameterSets, payload: &[u8], timestamp: u32) -> Option<Vec<u8>> {
        sets.before(VideoCodec::H265, payload, timestamp).map(|p| p.to_vec())
    }

    #[test]
    fn h265_sets_go_before_each_key_frame() {
        let mut sets = ParameterSets::default();
        assert_eq!(h265(&mut sets, CRA, 0), None, "nothing is known");
        for set in [VPS, SPS, PPS] {
            assert_eq!(h265(&mut sets, set, 1), None);
        }
        assert_eq!(h265(&mut sets, CRA, 1), None, "it came with them");
        assert_eq!(h265(&mut sets, RASL, 2), None);
        let together = [&[0x60, 1, 0, 3][..], VPS, &[0, 4], SPS, &[0, 3], PPS].concat();
        assert_eq!(h265(&mut sets, CRA, 3), Some(together.clone()));
        assert_eq!(h265(&mut sets, CRA, 3), None, "another slice of it");
        // Sets and picture in one packet: the newer ones count from then on.
        let newer = [&together[..together.len() - 1], &[5, 0, 3, 16 << 1, 1, 1]].concat();
        assert_eq!(h265(&mut sets, &newer, 4), None);
        assert_eq!(h265(&mut sets, CRA, 5), Some([&together[..together.len() - 1], &[5]].concat()));
    }

    #[test]
    fn h264_sets_go_before_each_key_frame() {
        let mut sets = ParameterSets::default();
        let stap = [0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3];
        assert_eq!(sets.before(VideoCodec::H264, &stap, 1), None);
        assert_eq!(sets.before(VideoCodec::H264, &[0x65, 1], 1), None);
        assert_eq!(sets.before(VideoCodec::H264, &[0x61, 1], 2), None);
        assert_eq!(sets.before(VideoCodec::H264, &[0x7c, 0x85, 1], 3).as_deref(), Some(&stap[..]));
        assert_eq!(sets.before(VideoCodec::H264, &[0x7c, 0x45, 1], 3), None);
        assert_eq!(sets.before(VideoCodec::Vp8, &[0x65, 1], 4), None);
    }

    proptest! {
        #[test]
        fn any_payloads_stay_within_bounds(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1300), 0..40)) {
            for codec in [VideoCodec::H264, VideoCodec::H265] {
                let mut sets = ParameterSets::default();
                for (timestamp, payload) in payloads.iter().enumerate() {
                    let before = sets.before(codec, payload, timestamp as u32);
                    prop_assert!(before.is_none_or(|p| p.len() <= MAX_PAYLOAD) && sets.known.len() <= MAX_COUNT);
                }
            }
        }
    }
}
