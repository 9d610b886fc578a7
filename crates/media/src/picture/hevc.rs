//! H.265: the picture size from a sequence parameter set (H.265 §7.3.2.2.1), and whether decoding can begin with a picture.

use super::bits::{Bits, unescape};
use super::sei::has_recovery_point;
use super::{MAX_PARAMETER_SET, plausible_size};
use crate::nal::h265::{IRAP, PREFIX_SEI, kind};
use crate::nal::length_prefixed;

/// Width and height in pixels of a sequence parameter set with its NAL header, conformance window applied; `None` if it does
/// not parse.
pub fn h265_size(nal: &[u8]) -> Option<(u32, u32)> {
    let rbsp = unescape(nal.get(2..)?, MAX_PARAMETER_SET);
    let mut bits = Bits::new(&rbsp);
    bits.skip(4)?; // video parameter set id
    let sub_layers = bits.read(3)?; // minus 1
    bits.skip(1)?; // nesting
    profile_tier_level(&mut bits, sub_layers)?;
    bits.unsigned()?; // id
    let chroma = bits.unsigned()?;
    let separate_planes = chroma == 3 && bits.bit()?;
    let (mut width, mut height) = (bits.unsigned()?, bits.unsigned()?);
    if bits.bit()? {
        let (unit_x, unit_y) = match chroma {
            1 => (2, 2),
            2 if !separate_planes => (2, 1),
            _ => (1, 1),
        };
        let mut cropped = |unit: u32| bits.unsigned()?.checked_add(bits.unsigned()?)?.checked_mul(unit);
        let (x, y) = (cropped(unit_x)?, cropped(unit_y)?);
        (width, height) = (width.checked_sub(x)?, height.checked_sub(y)?);
    }
    plausible_size(width, height)
}

/// Whether decoding can begin with this picture: it is a random access point (IRAP), or a recovery point (H.265 §D.3.8). Its units are
/// behind lengths of `length_size` bytes.
pub fn h265_is_random_access(picture: &[u8], length_size: usize) -> bool {
    length_prefixed(picture, length_size).flatten().any(|unit| match unit {
        [header, _, body @ ..] => {
            IRAP.contains(&kind(*header)) || (kind(*header) == PREFIX_SEI && has_recovery_point(body))
        }
        _ => false,
    })
}

/// H.265 §7.3.3: 88 bits of profile and 8 of level, the same again for those sub-layers that have their own.
fn profile_tier_level(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    const PROFILE: usize = 88;
    const LEVEL: usize = 8;
    bits.skip(PROFILE + LEVEL)?;
    let mut own = 0;
    for _ in 0..sub_layers {
        own += if bits.bit()? { PROFILE } else { 0 };
        own += if bits.bit()? { LEVEL } else { 0 };
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers as usize))?;
    }
    bits.skip(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_begins_with_irap_pictures_and_recovery_points() {
        let picture =
            |units: &[&[u8]]| -> Vec<u8> { units.iter().flat_map(|u| [&[u.len() as u8], *u].concat()).collect() };
        for kind in [16u8, 19, 21] {
            assert!(h265_is_random_access(&picture(&[&[0x40, 1, 12], &[kind << 1, 1, 0xaf]]), 1));
        }
        assert!(h265_is_random_access(&picture(&[&[39 << 1, 1, 6, 1, 0xc4, 0x80], &[1 << 1, 1, 0xd0]]), 1));
        assert!(!h265_is_random_access(&picture(&[&[39 << 1, 1, 5, 1, 6, 0x80], &[1 << 1, 1, 0xd0]]), 1));
    }
}
