//! H.264: the size from a sequence parameter set (H.264 §7.3.2.1.1).

use super::bits::{Bits, unescape};
use super::{MAX_PARAMETER_SET, believed};

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
    believed(width, height)
}

/// Types of units that hold parameters of what follows (H.264 table 7-1).
const SPS: u8 = 7;
const PPS: u8 = 8;
const SPS_EXTENSION: u8 = 13;
const SUBSET_SPS: u8 = 15;

/// Whether no other picture builds on this one: units behind their length in so many bytes, of which each slice has a
/// `nal_ref_idc` of 0 (H.264 §7.4.1), and none holds parameters of others. What can't be read is needed.
pub fn h264_is_spare(mut picture: &[u8], length_size: usize) -> bool {
    let mut slices = false;
    while !picture.is_empty() {
        let Some((length, rest)) = picture.split_at_checked(length_size) else { return false };
        let length = length.iter().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
        let Some((unit, rest)) = rest.split_at_checked(length) else { return false };
        picture = rest;
        let Some(header) = unit.first() else { continue };
        match header & 0x1f {
            // Slices are whole, or in partitions.
            1..=5 if header & 0x60 == 0 => slices = true,
            1..=5 | SPS | PPS | SPS_EXTENSION | SUBSET_SPS => return false,
            _ => {}
        }
    }
    slices
}

/// Profiles whose SPS says which chroma format it has (H.264 §7.3.2.1.1).
fn has_chroma_format(profile: u32) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// Reads from the chroma format to the scaling lists; gives ChromaArrayType.
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
    fn a_picture_is_spare_if_none_of_its_slices_is_referred_to() {
        let picture = |units: &[&[u8]]| -> Vec<u8> {
            units.iter().flat_map(|u| [&(u.len() as u16).to_be_bytes(), *u].concat()).collect()
        };
        assert!(h264_is_spare(&picture(&[&[0x06, 1], &[0x01, 9], &[0x01, 9]]), 2));
        assert!(!h264_is_spare(&picture(&[&[0x01, 9], &[0x21, 9]]), 2));
        assert!(!h264_is_spare(&picture(&[&[0x65, 9]]), 2));
        assert!(!h264_is_spare(&picture(&[&[0x06, 1]]), 2), "no slice at all");
        for parameters in [0x67, 0x68, 0x6d, 0x6f] {
            assert!(!h264_is_spare(&picture(&[&[parameters, 1], &[0x01, 9]]), 2), "of others, too");
        }
        assert!(!h264_is_spare(&[0, 9, 1], 2) && !h264_is_spare(&[], 4));
    }

    proptest! {
        #[test]
        fn noise_is_no_spare_picture_by_harm(noise in proptest::collection::vec(any::<u8>(), 0..200), length_size in 1usize..5) {
            h264_is_spare(&noise, length_size);
        }
    }
}
