//! H.264: picture size and frame rate from a sequence parameter set (H.264 §7.3.2.1.1), and whether a picture is disposable.

use super::bits::{Bits, unescape};
use super::sei::has_recovery_point;
use super::{MAX_PARAMETER_SET, plausible_size};
use crate::nal::h264::{IDR, PPS, SEI, SLICE, SPS, SPS_EXTENSION, SUBSET_SPS, kind};
use crate::nal::length_prefixed;

/// Width and height in pixels of a sequence parameter set with its NAL header, cropping applied; `None` if it does not parse.
pub fn h264_size(nal: &[u8]) -> Option<(u32, u32)> {
    let rbsp = unescape(nal.get(1..)?, MAX_PARAMETER_SET);
    let (width, height) = size(&mut Bits::new(&rbsp))?;
    plausible_size(width, height)
}

/// Frames a second by the timing information of a sequence parameter set with its NAL header (H.264 §E.2.1: a tick is the time of a
/// field, two are a frame); `None` where there is none. Any positive number: encoders write nonsense here too.
pub fn h264_frame_rate(nal: &[u8]) -> Option<f64> {
    let rbsp = unescape(nal.get(1..)?, MAX_PARAMETER_SET);
    let mut bits = Bits::new(&rbsp);
    size(&mut bits)?;
    if !bits.bit()? {
        return None; // no usability information
    }
    let (units_in_tick, time_scale) = timing(&mut bits)?;
    (units_in_tick > 0 && time_scale > 0).then(|| f64::from(time_scale) / (2.0 * f64::from(units_in_tick)))
}

/// Reads from the profile to the cropping, and gives width and height in pixels.
fn size(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    let profile = bits.read(8)?;
    bits.skip(16)?; // constraints, level
    bits.unsigned()?; // id
    let chroma = if has_chroma_format(profile) { chroma_and_scaling(bits)? } else { 1 };
    bits.unsigned()?; // log2_max_frame_num_minus4
    picture_order(bits)?;
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
    if !bits.bit()? {
        return Some((width, height));
    }
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2 * fields),
        2 => (2, fields),
        _ => (1, fields),
    };
    let mut cropped = |unit: u32| bits.unsigned()?.checked_add(bits.unsigned()?)?.checked_mul(unit);
    let (x, y) = (cropped(unit_x)?, cropped(unit_y)?);
    Some((width.checked_sub(x)?, height.checked_sub(y)?))
}

/// Reads usability information (H.264 §E.1.1) from its start to the timing; `num_units_in_tick` and `time_scale`.
fn timing(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    const EXTENDED_SAR: u32 = 255;
    if bits.bit()? && bits.read(8)? == EXTENDED_SAR {
        bits.skip(32)?;
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
    if !bits.bit()? {
        return None;
    }
    Some((bits.read(32)?, bits.read(32)?))
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

/// Reads from the chroma format to the scaling lists. Returns ChromaArrayType.
fn chroma_and_scaling(bits: &mut Bits<'_>) -> Option<u32> {
    let chroma = bits.unsigned()?;
    let separate_planes = chroma == 3 && bits.bit()?;
    bits.unsigned()?; // luma depth
    bits.unsigned()?; // chroma depth
    bits.skip(1)?; // transform bypass
    if bits.bit()? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.bit()? {
                scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(if separate_planes { 0 } else { chroma })
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

/// Reads over the fields of the picture order count.
fn picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.unsigned()? {
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
    Some(())
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
            let _ = (h264_size(&noise), h264_frame_rate(&noise));
        }
    }
}
