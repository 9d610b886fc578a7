//! H.265: the configuration record (ISO 14496-15 §8.3.3.1) and the size from a sequence parameter set (H.265 §7.3.2.2.1).

use super::{MAX_PARAMETER_SET, NalConfig, believed, take_field};
use crate::Error;
use crate::bits::{Bits, unescape};

const SPS: u8 = 33;

/// Checks an hvcC record.
///
/// # Errors
/// [`Error::Config`].
pub fn parse(record: &[u8]) -> Result<NalConfig, Error> {
    let fail = |why| Error::Config { codec: "H.265", why };
    let Some((head, mut rest)) = record.split_first_chunk::<23>() else { return Err(fail("it is too short")) };
    // Version 0 is from before the standard was done; some encoders still write it.
    if head[0] > 1 {
        return Err(fail("its version is not 1"));
    }
    let length_size = usize::from(head[21] & 3) + 1;
    if length_size == 3 {
        return Err(fail("NAL unit lengths of three bytes do not exist"));
    }
    let mut size = None;
    for _ in 0..head[22] {
        let Some((&[kind, high, low], units)) = rest.split_first_chunk::<3>() else {
            return Err(fail("an array is cut off"));
        };
        rest = units;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let unit = take_field(&mut rest).ok_or(fail("a parameter set is cut off"))?;
            if kind & 0x3f == SPS {
                size = size.or_else(|| sps_size(unit));
            }
        }
    }
    Ok(NalConfig { length_size, size })
}

/// Width and height in pixels of a sequence parameter set with its NAL header, conformance window applied; `None` if it does
/// not parse.
pub fn sps_size(nal: &[u8]) -> Option<(u32, u32)> {
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
    believed(width, height)
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
