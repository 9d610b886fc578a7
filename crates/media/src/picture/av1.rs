//! AV1: the picture size from a sequence header (AV1 §5.5.1), and the maximum luminance from metadata (§5.8).

use super::bits::{Bits, leb128};
use super::plausible_size;

/// OBU types (§6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const METADATA: u8 = 5;
/// Metadata types (§6.7.1).
const CONTENT_LIGHT: u64 = 1;
const MASTERING_DISPLAY: u64 = 2;
/// OBUs that are read of a temporal unit: it has a few, and one per tile group.
const MAX_OBUS: usize = 64;

/// The luminance of HDR pictures in cd/m² (nits), as their author set it; 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Av1Luminance {
    /// The maximum of the mastering display (luminance_max, §6.7.4).
    pub display: Option<u32>,
    /// The maximum of any pixel (max_cll, §6.7.3).
    pub pixel: Option<u32>,
}

/// The luminance in the metadata of a temporal unit, whose OBUs have their sizes (§5.2).
pub fn av1_luminance(mut obus: &[u8]) -> Av1Luminance {
    let mut light = Av1Luminance::default();
    for _ in 0..MAX_OBUS {
        let Some((kind, payload, rest)) = obu(obus) else { break };
        obus = rest;
        let Some((metadata, body)) = leb128(payload).filter(|_| kind == METADATA) else { continue };
        match metadata {
            CONTENT_LIGHT => light.pixel = body.first_chunk().map(|b| u16::from_be_bytes(*b).into()).or(light.pixel),
            // After four chromaticity points; in units of 1/256.
            MASTERING_DISPLAY => {
                let most = body.get(16..).and_then(|b| b.first_chunk());
                light.display = most.map(|b| u32::from_be_bytes(*b) >> 8).or(light.display);
            }
            _ => {}
        }
    }
    light
}

/// Type and payload of the first OBU, and what follows it.
fn obu(obus: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let header = *obus.first()?;
    // An extension header is one more byte.
    let rest = obus.get(if header & 4 != 0 { 2 } else { 1 }..)?;
    // The last OBU may have no size.
    let (size, rest) = if header & 2 != 0 { leb128(rest)? } else { (rest.len() as u64, rest) };
    let (payload, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
    Some((header >> 3 & 0xf, payload, rest))
}

/// Width and height in pixels, if the first OBU is a sequence header.
pub fn av1_size(obus: &[u8]) -> Option<(u32, u32)> {
    let (&header, mut rest) = obus.split_first()?;
    if header >> 3 & 0xf != SEQUENCE_HEADER {
        return None;
    }
    if header & 4 != 0 {
        rest = rest.get(1..)?; // extension
    }
    if header & 2 != 0 {
        rest = leb128(rest)?.1; // the size; reading beyond it does no harm
    }
    let mut bits = Bits::new(rest);
    bits.skip(4)?; // profile, still picture
    let reduced = bits.bit()?;
    if reduced {
        bits.skip(5)?; // level
    } else {
        operating_points(&mut bits)?;
    }
    let (width_bits, height_bits) = (bits.read(4)? + 1, bits.read(4)? + 1);
    plausible_size(bits.read(width_bits)? + 1, bits.read(height_bits)? + 1)
}

/// Reads over timing info and operating points.
fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.bit()? {
        bits.skip(64)?; // units in tick, time scale
        if bits.bit()? {
            bits.unsigned()?; // ticks per picture: uvlc reads as ue(v) does
        }
        if bits.bit()? {
            delay_bits = Some(bits.read(5)? as usize + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let display_delay = bits.bit()?;
    for _ in 0..=bits.read(5)? {
        bits.skip(12)?; // which layers
        if bits.read(5)? > 7 {
            bits.skip(1)?; // tier
        }
        if let Some(delay) = delay_bits
            && bits.bit()?
        {
            bits.skip(2 * delay + 1)?;
        }
        if display_delay && bits.bit()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_size(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[kind << 3 | 2, payload.len() as u8][..], payload].concat()
    }

    #[test]
    fn metadata_holds_the_luminance() {
        let pixel = with_size(METADATA, &[1, 0x02, 0x8A, 0, 100, 0x80]);
        let mut display = vec![2];
        display.extend([7; 16]);
        display.extend([(4000u32 << 8).to_be_bytes(), 1u32.to_be_bytes()].concat());
        let display = with_size(METADATA, &display);
        let (delimiter, header) = (with_size(2, &[]), with_size(SEQUENCE_HEADER, &[1, 2, 3]));
        let other = with_size(METADATA, &[4, 9, 9, 9, 9]);
        let frame = [6 << 3, 1, 2, 3];
        let of = |obus: &[&[u8]]| av1_luminance(&obus.concat());
        let both = Av1Luminance { display: Some(4000), pixel: Some(650) };
        assert_eq!(of(&[&delimiter, &header, &display, &other, &pixel, &frame]), both);
        assert_eq!(of(&[&delimiter, &pixel]), Av1Luminance { display: None, ..both });
        assert_eq!(
            of(&[&delimiter, &header, &frame, &pixel]),
            Av1Luminance::default(),
            "an OBU without a size is the last"
        );
        assert_eq!(of(&[&display[..20]]), Av1Luminance::default(), "cut off");
        assert_eq!(of(&[&with_size(METADATA, &[2, 1, 2, 3]), &with_size(METADATA, &[1, 3])]), Av1Luminance::default());
        // A header with an extension.
        let extended = [&[METADATA << 3 | 6, 0x28][..], &pixel[1..]].concat();
        assert_eq!(of(&[&extended]).pixel, Some(650));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(prop_oneof![Just(0x2Au8), 0u8..4, any::<u8>()], 0..200)) {
            av1_luminance(&noise);
            av1_size(&noise);
        }
    }
}
