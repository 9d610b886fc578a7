//! H.264: what parameter sets say (H.264 §7.3.2.1.1), and what kind of picture an access unit is.

use super::bits::{Bits, unescape};
use super::sei::has_recovery_point;
use super::{MAX_PARAMETER_SET, plausible_size};
use crate::nal::h264::{IDR, PPS, SEI, SLICE, SPS, SPS_EXTENSION, SUBSET_SPS, kind};
use crate::nal::length_prefixed;

/// Width and height in pixels of a sequence parameter set with its NAL header, cropping applied; `None` if it does not parse.
pub fn h264_size(nal: &[u8]) -> Option<(u32, u32)> {
    H264Sps::read(nal).map(|sps| sps.size)
}

/// Frames a second by the timing information of a sequence parameter set with its NAL header (H.264 §E.2.1: a tick is the time of a
/// field, two are a frame); `None` where there is none. Any positive number: encoders write nonsense here too.
pub fn h264_frame_rate(nal: &[u8]) -> Option<f64> {
    H264Sps::read(nal)?.frame_rate
}

/// What a sequence parameter set says (H.264 §7.3.2.1.1, §E.1.1), as far as it matters to who decodes or shows the stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct H264Sps {
    /// `profile_idc`: 66 Baseline, 77 Main, 100 High.
    pub profile: u8,
    /// Its number, by which picture parameter sets name it.
    pub id: u32,
    /// `chroma_format_idc`: 1 is 4:2:0.
    pub chroma_format: u32,
    /// Bits of a luma and of a chroma sample.
    pub depth: (u32, u32),
    /// Bits of `frame_num`: 4 to 16.
    pub frame_num_bits: u32,
    /// `pic_order_cnt_type`: with 2, pictures are shown in the order in which they are coded.
    pub order_type: u32,
    /// Every picture is a whole frame: nothing is interlaced.
    pub frames_only: bool,
    /// Width and height in pixels, cropping applied.
    pub size: (u32, u32),
    /// Width to height of a pixel, if the stream says so.
    pub pixel_aspect: Option<(u32, u32)>,
    /// Frames a second, if the stream says so and they are fixed or not.
    pub frame_rate: Option<f64>,
    /// `max_num_reorder_frames`, if the stream says so.
    pub max_reordered: Option<u32>,
}

impl H264Sps {
    /// Reads a set with its NAL header; `None` if it does not parse. What stands in the usability information behind a place that does not
    /// parse is as if it were not there.
    pub fn read(nal: &[u8]) -> Option<Self> {
        let rbsp = unescape(nal.get(1..)?, MAX_PARAMETER_SET);
        let mut bits = Bits::new(&rbsp);
        let mut sps = Self::up_to_size(&mut bits)?;
        if bits.bit() == Some(true) {
            // Encoders write nonsense here, too.
            let _ = sps.usability(&mut bits);
        }
        plausible_size(sps.size.0, sps.size.1)?;
        Some(sps)
    }

    /// Reads from the profile to the cropping.
    fn up_to_size(bits: &mut Bits<'_>) -> Option<Self> {
        let profile = bits.read(8)?;
        bits.skip(16)?; // constraints, level
        let id = bits.unsigned()?;
        let colours = if has_chroma_format(profile) { Colours::read(bits)? } else { Colours::USUAL };
        let frame_num_bits = bits.unsigned()?.checked_add(4).filter(|bits| *bits <= 16)?;
        let order_type = picture_order(bits)?;
        bits.unsigned()?; // max_num_ref_frames
        bits.skip(1)?; // gaps allowed
        let width_in_macroblocks = bits.unsigned()?.checked_add(1)?;
        let height_in_units = bits.unsigned()?.checked_add(1)?;
        let frames_only = bits.bit()?;
        if !frames_only {
            bits.skip(1)?; // adaptive frame/field
        }
        bits.skip(1)?; // direct_8x8
        let fields = if frames_only { 1 } else { 2 };
        let (width, height) = (width_in_macroblocks.checked_mul(16)?, height_in_units.checked_mul(16 * fields)?);
        let mut size = (width, height);
        if bits.bit()? {
            let (unit_x, unit_y) = match colours.array_type() {
                1 => (2, 2 * fields),
                2 => (2, fields),
                _ => (1, fields),
            };
            let mut cropped = |unit: u32| bits.unsigned()?.checked_add(bits.unsigned()?)?.checked_mul(unit);
            let (x, y) = (cropped(unit_x)?, cropped(unit_y)?);
            size = (width.checked_sub(x)?, height.checked_sub(y)?);
        }
        Some(Self {
            profile: u8::try_from(profile).ok()?,
            id,
            chroma_format: colours.format,
            depth: colours.depth,
            frame_num_bits,
            order_type,
            frames_only,
            size,
            pixel_aspect: None,
            frame_rate: None,
            max_reordered: None,
        })
    }

    /// Reads usability information (H.264 §E.1.1).
    fn usability(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        if bits.bit()? {
            self.pixel_aspect = pixel_aspect(bits)?;
        }
        if bits.bit()? {
            bits.skip(1)?; // overscan
        }
        if bits.bit()? {
            bits.skip(4)?; // video format, range
            if bits.bit()? {
                bits.skip(24)?; // colours
            }
        }
        if bits.bit()? {
            bits.unsigned()?; // chroma location of the top field
            bits.unsigned()?; // and of the bottom field
        }
        if bits.bit()? {
            let (units_in_tick, time_scale) = (bits.read(32)?, bits.read(32)?);
            // A tick is the time of a field, two are a frame (§E.2.1).
            let known = units_in_tick > 0 && time_scale > 0;
            self.frame_rate = known.then(|| f64::from(time_scale) / (2.0 * f64::from(units_in_tick)));
            bits.skip(1)?; // fixed
        }
        let hrd = [hypothetical_decoder(bits)?, hypothetical_decoder(bits)?];
        if hrd.contains(&true) {
            bits.skip(1)?; // low delay
        }
        bits.skip(1)?; // picture structure
        if bits.bit()? {
            bits.skip(1)?; // motion vectors over the edge
            (0..4).try_for_each(|_| bits.unsigned().map(drop))?;
            self.max_reordered = Some(bits.unsigned()?);
        }
        Some(())
    }
}

/// Reads the pixel aspect ratio; `None` inside where it is not specified.
fn pixel_aspect(bits: &mut Bits<'_>) -> Option<Option<(u32, u32)>> {
    const EXTENDED: u32 = 255;
    /// Those of H.264 table E-1.
    const TABLE: [(u32, u32); 16] = [
        (1, 1),
        (12, 11),
        (10, 11),
        (16, 11),
        (40, 33),
        (24, 11),
        (20, 11),
        (32, 11),
        (80, 33),
        (18, 11),
        (15, 11),
        (64, 33),
        (160, 99),
        (4, 3),
        (3, 2),
        (2, 1),
    ];
    Some(match bits.read(8)? {
        EXTENDED => Some((bits.read(16)?, bits.read(16)?)).filter(|(width, height)| *width > 0 && *height > 0),
        index => usize::try_from(index).ok()?.checked_sub(1).and_then(|index| TABLE.get(index)).copied(),
    })
}

/// Reads over the parameters of a hypothetical reference decoder (H.264 §E.1.2), where there are any.
fn hypothetical_decoder(bits: &mut Bits<'_>) -> Option<bool> {
    if !bits.bit()? {
        return Some(false);
    }
    let schedules = bits.unsigned()?;
    bits.skip(8)?; // scales
    if schedules > 31 {
        return None;
    }
    for _ in 0..=schedules {
        bits.unsigned()?;
        bits.unsigned()?;
        bits.skip(1)?;
    }
    bits.skip(20)?; // lengths
    Some(true)
}

/// What a picture parameter set says (H.264 §7.3.2.2), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Pps {
    /// Its number.
    pub id: u32,
    /// The sequence parameter set that it belongs to.
    pub sps: u32,
    /// Slices come in any order, in groups or twice, as only Baseline has it and few decoders take it.
    pub flexible: bool,
}

impl H264Pps {
    /// Reads a set with its NAL header; `None` if it does not parse.
    pub fn read(nal: &[u8]) -> Option<Self> {
        let rbsp = unescape(nal.get(1..)?, MAX_PARAMETER_SET);
        let mut bits = Bits::new(&rbsp);
        let (id, sps) = (bits.unsigned()?, bits.unsigned()?);
        bits.skip(2)?; // entropy coding, picture order
        if bits.unsigned()? > 0 {
            return Some(Self { id, sps, flexible: true });
        }
        bits.unsigned()?; // references of P slices
        bits.unsigned()?; // and of B slices
        bits.skip(3)?; // weighted prediction
        (0..3).try_for_each(|_| bits.signed().map(drop))?; // quantizers
        bits.skip(2)?; // deblocking control, intra prediction
        Some(Self { id, sps, flexible: bits.bit()? })
    }
}

/// The beginning of a slice header (H.264 §7.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Slice {
    /// It may refer to pictures that are shown later: a B slice.
    pub bidirectional: bool,
    /// Counts pictures that others build on, modulo a power of two.
    pub frame_num: u32,
}

impl H264Slice {
    /// Reads a slice with its NAL header, of a stream whose `frame_num` has so many bits; `None` if it does not parse. Separate colour
    /// planes, which nobody has, are not looked for.
    pub fn read(nal: &[u8], frame_num_bits: u32) -> Option<Self> {
        // Three numbers of at most 32 bits, `frame_num`, and the bytes that are put between.
        let rbsp = unescape(nal.get(1..)?, 20);
        let mut bits = Bits::new(&rbsp);
        bits.unsigned()?; // first_mb_in_slice
        let bidirectional = bits.unsigned()? % 5 == 1;
        bits.unsigned()?; // picture parameter set
        Some(Self { bidirectional, frame_num: bits.read(frame_num_bits.min(16))? })
    }
}

/// Whether a picture is disposable: no other picture refers to it, as each of its slices has a `nal_ref_idc` of 0 (H.264 §7.4.1), and
/// it holds no parameter sets. Its units are behind lengths of `length_size` bytes. A picture that can't be read is not disposable.
pub fn h264_is_disposable(picture: &[u8], length_size: usize) -> bool {
    let mut slices = false;
    for unit in length_prefixed(picture, length_size) {
        let Some(unit) = unit else { return false };
        let Some(&header) = unit.first() else { continue };
        match kind(header) {
            // Slices, whole or in partitions.
            SLICE..=IDR if header & 0x60 == 0 => slices = true,
            SLICE..=IDR | SPS | PPS | SPS_EXTENSION | SUBSET_SPS => return false,
            _ => {}
        }
    }
    slices
}

/// Whether decoding can begin with this picture: it is an IDR picture, or a recovery point (H.264 §D.2.8), from which on pictures become
/// right: at once in open GOPs, after a while with intra refresh. Its units are behind lengths of `length_size` bytes.
pub fn h264_is_random_access(picture: &[u8], length_size: usize) -> bool {
    length_prefixed(picture, length_size).flatten().any(|unit| match unit.split_first() {
        Some((&header, body)) => kind(header) == IDR || (kind(header) == SEI && has_recovery_point(body)),
        None => false,
    })
}

/// Profiles whose SPS names the chroma format (H.264 §7.3.2.1.1).
fn has_chroma_format(profile: u32) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// The samples of a picture.
struct Colours {
    format: u32,
    separate_planes: bool,
    depth: (u32, u32),
}

impl Colours {
    /// Of profiles that have no others.
    const USUAL: Self = Self { format: 1, separate_planes: false, depth: (8, 8) };

    /// Reads from the chroma format to the scaling lists.
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let format = bits.unsigned()?;
        let separate_planes = format == 3 && bits.bit()?;
        let mut depth = || bits.unsigned()?.checked_add(8);
        let depth = (depth()?, depth()?);
        bits.skip(1)?; // transform bypass
        if bits.bit()? {
            for list in 0..if format == 3 { 12 } else { 8 } {
                if bits.bit()? {
                    scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Some(Self { format, separate_planes, depth })
    }

    /// ChromaArrayType.
    fn array_type(&self) -> u32 {
        if self.separate_planes { 0 } else { self.format }
    }
}

/// H.264 §7.3.2.1.1.1.
fn scaling_list(bits: &mut Bits<'_>, entries: usize) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..entries {
        if next != 0 {
            next = last.checked_add(bits.signed()?)?.rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// Reads the fields of the picture order count, and gives its type.
fn picture_order(bits: &mut Bits<'_>) -> Option<u32> {
    let order_type = bits.unsigned()?;
    match order_type {
        0 => {
            bits.unsigned()?;
        }
        1 => {
            bits.skip(1)?;
            bits.signed()?;
            bits.signed()?;
            let cycle = bits.unsigned()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                bits.signed()?;
            }
        }
        _ => {}
    }
    Some(order_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_picture_without_references_is_disposable() {
        let picture = |units: &[&[u8]]| -> Vec<u8> {
            units.iter().flat_map(|u| [&(u.len() as u16).to_be_bytes(), *u].concat()).collect()
        };
        assert!(h264_is_disposable(&picture(&[&[0x06, 1], &[0x01, 9], &[0x01, 9]]), 2));
        assert!(!h264_is_disposable(&picture(&[&[0x01, 9], &[0x21, 9]]), 2));
        assert!(!h264_is_disposable(&picture(&[&[0x65, 9]]), 2));
        assert!(!h264_is_disposable(&picture(&[&[0x06, 1]]), 2), "no slice at all");
        for parameters in [0x67, 0x68, 0x6d, 0x6f] {
            assert!(!h264_is_disposable(&picture(&[&[parameters, 1], &[0x01, 9]]), 2), "parameter sets of others");
        }
        assert!(!h264_is_disposable(&[0, 9, 1], 2) && !h264_is_disposable(&[], 4));
    }

    #[test]
    fn decoding_begins_with_idr_pictures_and_recovery_points() {
        let picture =
            |units: &[&[u8]]| -> Vec<u8> { units.iter().flat_map(|u| [&[u.len() as u8], *u].concat()).collect() };
        assert!(h264_is_random_access(&picture(&[&[0x09, 0xf0], &[0x65, 0x88]]), 1));
        assert!(h264_is_random_access(&picture(&[&[0x06, 6, 1, 0xc4, 0x80], &[0x41, 0x9a]]), 1));
        assert!(!h264_is_random_access(&picture(&[&[0x06, 5, 1, 6, 0x80], &[0x41, 0x9a]]), 1));
        assert!(!h264_is_random_access(&picture(&[&[0x67, 1], &[0x68, 1]]), 1), "parameter sets alone are no picture");
    }

    /// As x264 writes it: 30 and 30000/1001 a second; and 25 interlaced with all that may stand before the timing.
    #[test]
    fn the_timing_of_a_parameter_set_tells_the_rate() {
        let whole = [
            0x67, 0xf4, 0x00, 0x0d, 0x91, 0x9b, 0x28, 0x28, 0x33, 0xf1, 0xb8, 0x08, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80,
            0x00, 0x00, 0x1e, 0x07, 0x8a, 0x14, 0xcb,
        ];
        let ntsc = [
            0x67, 0xf4, 0x00, 0x0d, 0x91, 0x9b, 0x28, 0x28, 0x33, 0xf1, 0xb8, 0x08, 0x80, 0x00, 0x01, 0xf4, 0x80, 0x00,
            0x75, 0x30, 0x07, 0x8a, 0x14, 0xcb,
        ];
        let interlaced = [
            0x67, 0x64, 0x00, 0x15, 0xac, 0xd9, 0x41, 0x43, 0x3f, 0x27, 0xfe, 0x00, 0x1e, 0x00, 0x23, 0x6a, 0x02, 0x02,
            0x03, 0x4a, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x64, 0x3e, 0x28, 0x53, 0x2c,
        ];
        assert_eq!(h264_frame_rate(&whole), Some(30.0));
        assert_eq!(h264_frame_rate(&ntsc), Some(30000.0 / 1001.0));
        assert_eq!(h264_frame_rate(&interlaced), Some(25.0));
        assert_eq!(h264_size(&whole), Some((320, 180)));
        let sps = H264Sps::read(&interlaced).unwrap();
        assert!(!sps.frames_only && sps.chroma_format == 1 && sps.depth == (8, 8), "{sps:?}");
        assert_eq!((sps.profile, sps.order_type, sps.pixel_aspect), (100, 0, Some((15, 17))));
        // Cut off before the timing, or within it.
        for length in 0..22 {
            assert_eq!(h264_frame_rate(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200), length_size in 1usize..5) {
            h264_is_disposable(&noise, length_size);
            h264_is_random_access(&noise, length_size);
            let _ = (H264Sps::read(&noise), H264Pps::read(&noise), H264Slice::read(&noise, 16));
        }
    }
}
