//! H.264: the picture size from a sequence parameter set (H.264 §7.3.2.1.1), and whether a picture is disposable.

use super::bits::{Bits, unescape};
use super::sei::has_recovery_point;
use super::{MAX_PARAMETER_SET, plausible_size};
use crate::nal::h264::{IDR, PPS, SEI, SLICE, SPS, SPS_EXTENSION, SUBSET_SPS, kind};
use crate::nal::length_prefixed;

/// Width and height in pixels of a sequence parameter set with its NAL header, cropping applied; `None` if it does not parse.
pub fn h264_size(nal: &[u8]) -> Option<(u32, u32)> {
    let rbsp = unescape(nal.get(1..)?, MAX_PARAMETER_SET);
    let mut bits = Bits::new(&rbsp);
    let profile = bits.read(8)?;
    bits.skip(16)?; // constraints, level
    bits.unsigned()?; // id
    let chroma = if has_chroma_format(profile) { chroma_and_scaling(&mut bits)? } else { 1 };
    bits.unsigned()?; // log2_max_frame_num_minus4
    picture_order(&mut bits)?;
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
    let (mut width, mut height) = (width_in_macroblocks.checked_mul(16)?, height_in_units.checked_mul(16 * fields)?);
    if bits.bit()? {
        let (unit_x, unit_y) = match chroma {
            1 => (2, 2 * fields),
            2 => (2, fields),
            _ => (1, fields),
        };
        let mut cropped = |unit: u32| bits.unsigned()?.checked_add(bits.unsigned()?)?.checked_mul(unit);
        let (x, y) = (cropped(unit_x)?, cropped(unit_y)?);
        (width, height) = (width.checked_sub(x)?, height.checked_sub(y)?);
    }
    plausible_size(width, height)
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

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200), length_size in 1usize..5) {
            h264_is_disposable(&noise, length_size);
            h264_is_random_access(&noise, length_size);
        }
    }
}
