//! An H.264 stream that may be sent to viewers as it comes: what stands against that, and its access units as RTP wants them.
//!
//! What viewers of a room can show is less than what H.264 has. The SFU takes whatever holds a sequence parameter set for a key frame;
//! receivers show pictures in the order in which they come, and drop or garble what is reordered; some take one pair of parameter sets
//! only (read in livekit-server, libwebrtc and its platform decoders; Chromium and LiveKit's Python client were tried).

use crate::nal::h264::{IDR, PPS, SLICE, SPS, kind};
use crate::nal::length_prefixed;
use crate::picture::{H264Pps, H264Slice, H264Sps};
use bytes::Bytes;

/// Bytes of a parameter set at most; real ones have some dozens.
const MAX_PARAMETER_SET: usize = 1024;
/// Profiles that viewers' decoders take: Baseline, Main, High.
const PROFILES: [u8; 3] = [66, 77, 100];

/// Why a stream can't be sent as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// Its parameter sets are missing, do not parse, are several, or change between key frames.
    ParameterSets,
    /// No viewer's decoder is known to take its profile.
    Profile,
    /// Pictures are interlaced.
    Interlaced,
    /// Not 4:2:0.
    Chroma,
    /// Not 8 bit.
    Depth,
    /// Slices in groups, in any order or twice; data partitions.
    Slices,
    /// B-frames.
    BFrames,
    /// A key frame from which decoding can't begin: no IDR picture.
    NoIdr,
    /// Pixels that are not square: viewers would show the picture squeezed.
    Aspect,
    /// Pictures that it builds on are missing before it.
    Missing,
}

impl Unfit {
    /// Its name in metrics and log fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ParameterSets => "parameter_sets",
            Self::Profile => "profile",
            Self::Interlaced => "interlaced",
            Self::Chroma => "chroma",
            Self::Depth => "depth",
            Self::Slices => "slices",
            Self::BFrames => "b_frames",
            Self::NoIdr => "no_idr",
            Self::Aspect => "aspect",
            Self::Missing => "missing",
        }
    }
}

/// What an access unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Unit {
    /// Decoding can begin here.
    pub idr: bool,
    /// Why it can't be sent as it comes, if so.
    pub unfit: Option<Unfit>,
    /// Bytes that would be sent.
    pub bytes: usize,
}

/// A stream, by what was seen of it.
#[derive(Clone, Debug, Default)]
pub struct H264Stream {
    length_size: usize,
    /// The sets in force, with their NAL headers; empty: none.
    sps: Bytes,
    pps: Bytes,
    facts: Option<H264Sps>,
    /// What is wrong with the sets.
    unfit: Option<Unfit>,
    /// `frame_num` of the newest picture that others build on.
    reference: Option<u32>,
}

impl H264Stream {
    /// Of a stream with this configuration record (avcC, ISO 14496-15 §5.3.3.1); empty where parameter sets come in band alone.
    pub fn new(record: &Bytes) -> Self {
        let length_size = crate::codec_config::avc::length_size(record);
        let mut stream = Self { length_size, ..Self::default() };
        let sets = crate::codec_config::avc::parameter_sets(record);
        stream.take_sets(sets.iter().map(|set| record.slice_ref(set)));
        if stream.sps.is_empty() || stream.pps.is_empty() {
            stream.unfit = Some(Unfit::ParameterSets);
        }
        stream
    }

    /// Whether it has the same parameter sets as the other, packed in the same way.
    pub fn same_as(&self, other: &Self) -> bool {
        (self.length_size, &self.sps, &self.pps) == (other.length_size, &other.sps, &other.pps)
    }

    /// What the sequence parameter set in force says.
    pub fn facts(&self) -> Option<&H264Sps> {
        self.facts.as_ref()
    }

    /// Whether nothing of the stream is reordered, as its parameter set says; `None` if that says nothing.
    pub fn never_reorders(&self) -> Option<bool> {
        let facts = self.facts?;
        if facts.order_type == 2 || facts.profile == 66 {
            return Some(true);
        }
        facts.max_reordered.map(|pictures| pictures == 0)
    }

    /// Looks at an access unit, and takes over the parameter sets that it brings.
    pub fn look(&mut self, unit: &Bytes) -> H264Unit {
        let mut found = H264Unit { idr: false, unfit: None, bytes: 0 };
        let mut sets = Vec::new();
        let (mut slices, mut b_frames, mut partitions) = (false, false, false);
        let mut first = None;
        for nal in length_prefixed(unit, self.length_size).flatten().filter(|nal| !nal.is_empty()) {
            match kind(nal[0]) {
                header @ (IDR | SLICE) => {
                    (slices, found.bytes) = (true, found.bytes + nal.len());
                    found.idr |= header == IDR;
                    let slice = H264Slice::read(nal, self.facts.map_or(0, |facts| facts.frame_num_bits));
                    b_frames |= slice.is_none_or(|slice| slice.bidirectional);
                    first = first.or(slice.map(|slice| (slice, nal[0] & 0x60 != 0)));
                }
                2..IDR => partitions = true,
                SPS | PPS => sets.push(unit.slice_ref(nal)),
                _ => {}
            }
        }
        let changed = !sets.is_empty() && self.take_sets(sets.into_iter());
        let missing = first.is_some_and(|(slice, reference)| self.follows_a_gap(slice, reference, found.idr));
        found.unfit = match self.unfit {
            _ if partitions => Some(Unfit::Slices),
            _ if b_frames => Some(Unfit::BFrames),
            None if changed && !found.idr => Some(Unfit::ParameterSets),
            None if missing => Some(Unfit::Missing),
            // Nothing to show: a unit of sets or of other information alone.
            None if !slices => None,
            unfit => unfit,
        };
        found
    }

    /// Whether pictures are missing before one that begins with this slice (H.264 §7.4.3, `frame_num`).
    fn follows_a_gap(&mut self, slice: H264Slice, reference: bool, idr: bool) -> bool {
        let before = self.reference;
        if reference || idr {
            self.reference = Some(slice.frame_num);
        }
        let bits = self.facts.map_or(0, |facts| facts.frame_num_bits);
        let next = |before: u32| before.wrapping_add(1) & ((1u32 << bits) - 1);
        !idr && before.is_some_and(|before| slice.frame_num != before && slice.frame_num != next(before))
    }

    /// An access unit as Annex B with what viewers need: slices, and before those of a key frame its parameter sets. `None` if there is
    /// no slice in it.
    pub fn rewritten(&self, unit: &Bytes) -> Option<Bytes> {
        let slices = || {
            let nals = length_prefixed(unit, self.length_size).flatten().filter(|nal| !nal.is_empty());
            nals.filter(|nal| matches!(kind(nal[0]), SLICE | IDR))
        };
        let idr = slices().any(|nal| kind(nal[0]) == IDR);
        let mut out = Vec::with_capacity(unit.len() + 64);
        if idr {
            [&self.sps, &self.pps].into_iter().for_each(|set| push_annex_b(&mut out, set));
        }
        let before = out.len();
        slices().for_each(|nal| push_annex_b(&mut out, nal));
        (out.len() > before).then(|| Bytes::from(out))
    }

    /// Takes over parameter sets. Whether that changes anything.
    fn take_sets(&mut self, sets: impl Iterator<Item = Bytes>) -> bool {
        let (mut sps, mut pps, mut several) = (None::<Bytes>, None::<Bytes>, false);
        for set in sets.filter(|set| set.len() <= MAX_PARAMETER_SET) {
            let newest = if kind(set[0]) == SPS { &mut sps } else { &mut pps };
            several |= newest.as_ref().is_some_and(|before| *before != set);
            *newest = Some(set);
        }
        several |= pps.as_ref().is_some_and(|pps| self.is_another_pps(pps));
        let changed = several
            || sps.as_ref().is_some_and(|sps| *sps != self.sps)
            || pps.as_ref().is_some_and(|pps| *pps != self.pps);
        if changed {
            // Copies, as each would keep its whole access unit in memory.
            sps.iter().for_each(|sps| self.sps = Bytes::copy_from_slice(sps));
            pps.iter().for_each(|pps| self.pps = Bytes::copy_from_slice(pps));
            self.facts = H264Sps::read(&self.sps);
            self.unfit = if several { Some(Unfit::ParameterSets) } else { self.judge_sets() };
        }
        changed
    }

    /// Whether a picture parameter set stands beside the known one, and does not replace it.
    fn is_another_pps(&self, pps: &[u8]) -> bool {
        let ids = [H264Pps::read(pps), H264Pps::read(&self.pps)].map(|set| set.map(|set| set.id));
        matches!(ids, [Some(new), Some(known)] if new != known)
    }

    fn judge_sets(&self) -> Option<Unfit> {
        let (Some(sps), Some(pps)) = (self.facts, H264Pps::read(&self.pps)) else { return Some(Unfit::ParameterSets) };
        let square = sps.pixel_aspect.is_none_or(|(width, height)| width == height);
        let rules = [
            (pps.sps == sps.id, Unfit::ParameterSets),
            (sps.chroma_format == 1, Unfit::Chroma),
            (sps.depth == (8, 8), Unfit::Depth),
            (PROFILES.contains(&sps.profile), Unfit::Profile),
            (sps.frames_only, Unfit::Interlaced),
            (!pps.flexible, Unfit::Slices),
            (square, Unfit::Aspect),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, unfit)| unfit)
    }
}

fn push_annex_b(out: &mut Vec<u8>, nal: &[u8]) {
    out.extend_from_slice(&[0, 0, 0, 1]);
    out.extend_from_slice(nal);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nal::{annex_b, begins_with_start_code, push_length_prefixed};
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// Sets that x264 writes for 320x180.
    const BASELINE: (&str, &str) = ("6742c00dda05067e7c0440000003004000000f23c50aa8", "68ce0fc8");
    const MAIN: (&str, &str) = ("674d400dd901419f9f0110000003001000000303c0f142a480", "68ebc3cb20");
    const HIGH_WITH_B: (&str, &str) = ("6764000dacd941419f9f0110000003001000000303c0f1429960", "68ebe3cb22c0");
    const HIGH_422: (&str, &str) = ("677a000dbcd941419f8dc044000003000400000300f03c50a658", "68ebe3cb22c0");
    const HIGH_10: (&str, &str) = ("676e000da6cd941419f9f0110000030001000003003c0f142996", "68ebe3cb22c0");
    /// 25 interlaced, and no square pixels.
    const INTERLACED: &str = "67640015acd941433f27fe001e00236a0202034a000003000200000300643e28532c";

    const IDR_SLICE: &[u8] = &[0x65, 0x88, 0x84, 1];
    /// `first_mb_in_slice` 0, and slice type 5 (P) and 6 (B).
    const P_SLICE: &[u8] = &[0x41, 0b1001_1010, 1];
    const B_SLICE: &[u8] = &[0x01, 0b1001_1110, 1];

    fn record(sets: (&str, &str)) -> Bytes {
        let sets = [hex(sets.0), hex(sets.1)];
        Bytes::from(crate::codec_config::avc::record(&sets).unwrap())
    }

    fn unit(nals: &[&[u8]]) -> Bytes {
        let mut out = Vec::new();
        nals.iter().for_each(|nal| push_length_prefixed(&mut out, nal));
        Bytes::from(out)
    }

    fn unfit(sets: (&str, &str)) -> Option<Unfit> {
        H264Stream::new(&record(sets)).look(&unit(&[IDR_SLICE])).unfit
    }

    #[test]
    fn parameter_sets_are_judged() {
        assert_eq!((unfit(BASELINE), unfit(MAIN), unfit(HIGH_WITH_B)), (None, None, None));
        assert_eq!((unfit(HIGH_422), unfit(HIGH_10)), (Some(Unfit::Chroma), Some(Unfit::Depth)));
        let high_intra = HIGH_WITH_B.0.replacen("6764", "672c", 1);
        assert_eq!(unfit((&high_intra, HIGH_WITH_B.1)), Some(Unfit::Profile));
        assert_eq!(unfit(("6764000a", HIGH_WITH_B.1)), Some(Unfit::ParameterSets));
        // A group of slices: num_slice_groups_minus1 is 1.
        assert_eq!(unfit((BASELINE.0, "68c5")), Some(Unfit::Slices));
        assert_eq!(unfit((BASELINE.0, "6820")), Some(Unfit::ParameterSets), "a set of another stream, and cut off");
        let mut none = H264Stream::new(&Bytes::new());
        assert_eq!(none.look(&unit(&[IDR_SLICE])).unfit, Some(Unfit::ParameterSets));
        assert_eq!(unfit((INTERLACED, HIGH_WITH_B.1)), Some(Unfit::Interlaced));
    }

    #[test]
    fn what_parameter_sets_say_of_reordering() {
        let says = |sets| H264Stream::new(&record(sets)).never_reorders();
        assert_eq!((says(BASELINE), says(MAIN), says(HIGH_WITH_B)), (Some(true), Some(true), Some(false)));
    }

    #[test]
    fn pictures_are_judged() {
        let mut stream = H264Stream::new(&record(MAIN));
        assert_eq!(stream.look(&unit(&[P_SLICE, P_SLICE])), H264Unit { idr: false, unfit: None, bytes: 6 });
        assert_eq!(stream.look(&unit(&[B_SLICE])).unfit, Some(Unfit::BFrames));
        assert_eq!(stream.look(&unit(&[&[0x42, 1, 2]])).unfit, Some(Unfit::Slices));
        assert_eq!(stream.look(&unit(&[&[0x06, 5, 1, 6, 0x80]])).unfit, None, "nothing to show");
        assert_eq!(stream.look(&unit(&[&[0x41]])).unfit, Some(Unfit::BFrames), "a slice that can't be read may be one");
        // The same sets again change nothing, others only at a key frame.
        let (sps, pps) = (hex(MAIN.0), hex(MAIN.1));
        assert_eq!(stream.look(&unit(&[&sps, &pps, P_SLICE])).unfit, None);
        let (sps, pps) = (hex(BASELINE.0), hex(BASELINE.1));
        assert_eq!(stream.look(&unit(&[&sps, &pps, P_SLICE])).unfit, Some(Unfit::ParameterSets));
        assert_eq!(stream.look(&unit(&[P_SLICE])).unfit, None);
        let (sps, pps) = (hex(MAIN.0), hex(MAIN.1));
        assert_eq!(stream.look(&unit(&[&sps, &pps, IDR_SLICE])), H264Unit { idr: true, unfit: None, bytes: 4 });
        let second = hex("6842e3cb22c0");
        assert_eq!(stream.look(&unit(&[&second, IDR_SLICE])).unfit, Some(Unfit::ParameterSets), "of another number");
        assert_eq!(stream.look(&unit(&[&sps, &pps, &second, IDR_SLICE])).unfit, Some(Unfit::ParameterSets));
    }

    #[test]
    fn missing_pictures_are_noticed() {
        /// A P slice with this `frame_num` of four bits.
        fn numbered(number: u8, reference: bool) -> Vec<u8> {
            vec![if reference { 0x41 } else { 0x01 }, 0b1001_1010 | number >> 3, number << 5 | 1]
        }
        let mut stream = H264Stream::new(&record(MAIN));
        let mut look = |number, reference| stream.look(&unit(&[&numbered(number, reference)])).unfit;
        assert_eq!(look(9, true), None, "what came before is not known");
        assert_eq!((look(10, true), look(11, false), look(11, false), look(11, true)), (None, None, None, None));
        assert_eq!(look(13, true), Some(Unfit::Missing));
        assert_eq!((look(14, true), look(15, true), look(0, true)), (None, None, None));
        assert_eq!(stream.look(&unit(&[IDR_SLICE])).unfit, None);
        assert_eq!(stream.look(&unit(&[&numbered(2, true)])).unfit, Some(Unfit::Missing));
    }

    #[test]
    fn access_units_are_cut_to_what_viewers_need() {
        let stream = H264Stream::new(&record(MAIN));
        let (sps, pps) = (hex(MAIN.0), hex(MAIN.1));
        let of = |nals: &[&[u8]]| {
            stream.rewritten(&unit(nals)).map(|unit| annex_b(&unit).map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        let (delimiter, sei, filler): (&[u8], &[u8], &[u8]) = (&[9, 0xf0], &[6, 5, 1, 6, 0x80], &[12, 0xff, 0x80]);
        let key = [&sps[..], &pps, IDR_SLICE, IDR_SLICE].map(<[u8]>::to_vec).to_vec();
        assert_eq!(of(&[delimiter, sei, IDR_SLICE, IDR_SLICE, filler]), Some(key.clone()));
        assert_eq!(of(&[delimiter, &sps, &pps, IDR_SLICE, IDR_SLICE]), Some(key));
        assert_eq!(
            of(&[&sps, &pps, sei, P_SLICE]),
            Some(vec![P_SLICE.to_vec()]),
            "the SFU would take it for a key frame"
        );
        assert_eq!(of(&[sei]), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics(record in proptest::collection::vec(any::<u8>(), 0..60), noise in proptest::collection::vec(0u8..16, 0..200)) {
            let mut stream = H264Stream::new(&Bytes::from(record));
            let noise = Bytes::from(noise);
            let found = stream.look(&noise);
            let sent = stream.rewritten(&noise);
            prop_assert!(found.bytes <= noise.len());
            prop_assert!(sent.is_none_or(|sent| begins_with_start_code(&sent)));
        }
    }
}
