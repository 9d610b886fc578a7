//! Inspects RTP payloads without decoding them: whether a key frame begins in a packet, and its size. Pure.
//!
//! Payload formats: H.264 RFC 6184, H.265 RFC 7798, VP8 RFC 7741, VP9 RFC 9628, AV1 "RTP Payload Format for AV1" 1.0.

use crate::nal::{h264, h265};
use crate::picture::{self, bits::leb128};
use model::VideoCodec;

/// What was found in a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// A key frame begins with this packet.
    pub key: bool,
    /// Width and height in pixels, if the payload holds them.
    pub size: Option<(u32, u32)>,
}

/// Inspects the payloads of one RTP stream.
#[derive(Clone, Copy, Debug)]
pub struct Inspector {
    codec: VideoCodec,
    /// The timestamp of the newest key frame: its further packets do not begin another one.
    key_at: Option<u32>,
}

impl Inspector {
    /// An inspector for a stream of this codec.
    pub fn new(codec: VideoCodec) -> Self {
        Self { codec, key_at: None }
    }

    /// Inspects the next payload, with its RTP timestamp.
    pub fn look(&mut self, payload: &[u8], timestamp: u32) -> Inspection {
        let mut seen = match self.codec {
            VideoCodec::H264 => of_h264(payload),
            VideoCodec::H265 => of_h265(payload),
            VideoCodec::Vp8 => vp8(payload).unwrap_or_default(),
            VideoCodec::Vp9 => vp9(payload).unwrap_or_default(),
            VideoCodec::Av1 => av1(payload),
            _ => Inspection::default(),
        };
        if seen.key {
            seen.key = self.key_at != Some(timestamp);
            self.key_at = Some(timestamp);
        }
        seen
    }
}

/// The units of an aggregation packet, each behind its length in 16 bits, after the packet's own header.
pub fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = after;
        Some(unit)
    })
}

fn of_h264(payload: &[u8]) -> Inspection {
    use h264::{FU_A, IDR, SPS, STAP_A, kind};
    let unit = |unit: &[u8]| match unit.first().map(|h| kind(*h)) {
        Some(SPS) => Inspection { key: true, size: picture::h264_size(unit) },
        Some(IDR) => Inspection { key: true, size: None },
        _ => Inspection::default(),
    };
    match payload {
        [header, rest @ ..] if kind(*header) == STAP_A => all(aggregated(rest).map(unit)),
        [header, fu, ..] if kind(*header) == FU_A => {
            Inspection { key: fu & 0x80 != 0 && matches!(kind(*fu), IDR | SPS), size: None }
        }
        _ => unit(payload),
    }
}

fn of_h265(payload: &[u8]) -> Inspection {
    use h265::{AP, FU, IRAP, SPS, VPS, kind};
    let unit = |unit: &[u8]| match unit.first().map(|h| kind(*h)) {
        Some(SPS) => Inspection { key: true, size: picture::h265_size(unit) },
        Some(k) => Inspection { key: k == VPS || IRAP.contains(&k), size: None },
        None => Inspection::default(),
    };
    match payload {
        [header, _, rest @ ..] if kind(*header) == AP => all(aggregated(rest).map(unit)),
        [header, _, fu, ..] if kind(*header) == FU => {
            Inspection { key: fu & 0x80 != 0 && IRAP.contains(&(fu & 0x3f)), size: None }
        }
        _ => unit(payload),
    }
}

fn all(seen: impl Iterator<Item = Inspection>) -> Inspection {
    seen.fold(Inspection::default(), |a, b| Inspection { key: a.key || b.key, size: a.size.or(b.size) })
}

/// RFC 7741 §4.2.
fn vp8(payload: &[u8]) -> Option<Inspection> {
    let (&first, mut rest) = payload.split_first()?;
    // S, and partition 0: the frame begins here.
    if first & 0x17 != 0x10 {
        return None;
    }
    if first & 0x80 != 0 {
        let (&extension, after) = rest.split_first()?;
        rest = after;
        if extension & 0x80 != 0 {
            let (&id, _) = rest.split_first()?;
            rest = rest.get(if id & 0x80 != 0 { 2 } else { 1 }..)?;
        }
        let more = usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
        rest = rest.get(more..)?;
    }
    let key = rest.first()? & 1 == 0;
    Some(Inspection { key, size: if key { picture::vp8_size(rest) } else { None } })
}

/// RFC 9628 §4.2.
fn vp9(payload: &[u8]) -> Option<Inspection> {
    let (&first, mut rest) = payload.split_first()?;
    let bit = |mask: u8| first & mask != 0;
    let (id, predicted, layers, flexible, begins, structure) =
        (bit(0x80), bit(0x40), bit(0x20), bit(0x10), bit(0x08), bit(0x02));
    if id {
        let long = rest.first()? & 0x80 != 0;
        rest = rest.get(if long { 2 } else { 1 }..)?;
    }
    let mut spatial = 0;
    if layers {
        spatial = rest.first()? >> 1 & 7;
        rest = rest.get(if flexible { 1 } else { 2 }..)?;
    }
    if flexible && predicted {
        // Up to three references, each with a bit that says whether another follows.
        for _ in 0..3 {
            let more = rest.first()? & 1 != 0;
            rest = rest.get(1..)?;
            if !more {
                break;
            }
        }
    }
    let mut size = None;
    if structure {
        (size, rest) = vp9_structure(rest)?;
    }
    let key = begins && !predicted && spatial == 0;
    Some(Inspection { key, size: if key { size.or_else(|| picture::vp9_size(rest)) } else { None } })
}

/// Reads the scalability structure. Returns the size of the highest layer, and what follows.
#[allow(clippy::type_complexity)]
fn vp9_structure(payload: &[u8]) -> Option<(Option<(u32, u32)>, &[u8])> {
    let (&head, mut rest) = payload.split_first()?;
    let mut size = None;
    if head & 0x10 != 0 {
        for _ in 0..=head >> 5 {
            let (&[w0, w1, h0, h1], after) = rest.split_first_chunk::<4>()?;
            let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
            size = picture::plausible_size(side(w0, w1), side(h0, h1));
            rest = after;
        }
    }
    if head & 0x08 != 0 {
        let (&groups, after) = rest.split_first()?;
        rest = after;
        for _ in 0..groups {
            let references = rest.first()? >> 2 & 3;
            rest = rest.get(1 + usize::from(references)..)?;
        }
    }
    Some((size, rest))
}

/// §4.3 and §4.4: the N bit says that a coded video sequence begins.
fn av1(payload: &[u8]) -> Inspection {
    const NEW: u8 = 0x08;
    let Some((&head, mut rest)) = payload.split_first() else { return Inspection::default() };
    if head & NEW == 0 {
        return Inspection::default();
    }
    let count = usize::from(head >> 4 & 3);
    let mut size = None;
    // A packet may hold as many empty OBUs as it has bytes.
    let mut index = 0;
    while !rest.is_empty() && size.is_none() {
        index += 1;
        let element = if index == count {
            rest.split_at_checked(rest.len())
        } else {
            leb128(rest).and_then(|(length, after)| after.split_at_checked(usize::try_from(length).ok()?))
        };
        let Some((obu, after)) = element else { break };
        size = picture::av1_size(obu);
        rest = after;
    }
    Inspection { key: true, size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    const SPS: &str = "6742c00ad9047b011000000300100000030320f1226480";

    #[test]
    fn h264_key_frames_begin_with_parameter_sets() {
        let sps = hex(SPS);
        let stap = [&[0x78, 0, sps.len() as u8][..], &sps, &[0, 2, 0x68, 1]].concat();
        let mut inspector = Inspector::new(VideoCodec::H264);
        assert_eq!(inspector.look(&stap, 1), Inspection { key: true, size: Some((64, 48)) });
        assert!(!inspector.look(&[0x7c, 0x85, 1], 1).key, "the same key frame");
        assert!(inspector.look(&[0x7c, 0x85, 1], 2).key, "an IDR without parameter sets");
        assert!(!inspector.look(&[0x7c, 0x05, 1], 3).key && !inspector.look(&[0x41, 1], 3).key);
        assert_eq!(inspector.look(&sps, 4), Inspection { key: true, size: Some((64, 48)) });
    }

    #[test]
    fn h265_vp8_vp9_and_av1() {
        let sps = hex("4201010408000003009e0800000300001e9002840c3e7cb2b349265780b4040000030004000003006420");
        let mut h265 = Inspector::new(VideoCodec::H265);
        assert_eq!(h265.look(&sps, 1), Inspection { key: true, size: Some((160, 90)) });
        assert!(h265.look(&[0x62, 1, 0x93, 0], 2).key && !h265.look(&[0x62, 1, 0x81, 0], 3).key);

        let frame = hex("9044009d012aa2005a00004708858588");
        let mut vp8 = Inspector::new(VideoCodec::Vp8);
        let described = [&[0x90, 0xe0, 0x80, 1, 2, 3][..], &frame].concat();
        assert_eq!(vp8.look(&described, 1), Inspection { key: true, size: Some((162, 90)) });
        assert!(!vp8.look(&[&[0x00][..], &frame].concat(), 2).key, "not the first packet of its frame");

        let frame = hex("82498342000a1005960438241c184200");
        let mut vp9 = Inspector::new(VideoCodec::Vp9);
        assert_eq!(
            vp9.look(&[&[0x8c, 0x81, 2][..], &frame].concat(), 1),
            Inspection { key: true, size: Some((162, 90)) }
        );
        // With a structure of two layers.
        let structure = [&[0x8e, 1, 0x30, 0, 80, 0, 45, 0, 160, 0, 90][..], &frame].concat();
        assert_eq!(vp9.look(&structure, 2).size, Some((160, 90)));
        assert!(!vp9.look(&[&[0xcc, 0x81, 2][..], &frame].concat(), 3).key);

        let mut av1 = Inspector::new(VideoCodec::Av1);
        assert!(av1.look(&[0x18, 0x08, 0], 1).key && !av1.look(&[0x10, 0x30], 2).key);
    }

    proptest! {
        #[test]
        fn noise_gives_a_plausible_size_or_none(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            for codec in [VideoCodec::H264, VideoCodec::H265, VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Av1] {
                if let Some((w, h)) = Inspector::new(codec).look(&payload, 0).size {
                    prop_assert!((1..=16_384).contains(&w) && (1..=16_384).contains(&h));
                }
            }
        }
    }
}
