//! H.265: the picture size from a sequence parameter set (H.265 §7.3.2.2.1).

use super::bits::{Bits, unescape};
use super::{MAX_PARAMETER_SET, plausible_size};

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
