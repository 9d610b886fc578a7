//! AV1: the size from a sequence header (AV1 §5.5.1), and how bright pictures become from metadata (§5.8).

use super::believed;
use super::bits::Bits;

const SEQUENCE_HEADER: u8 = 1;
const METADATA: u8 = 5;
/// Kinds of metadata (§6.7.1).
const CONTENT_LIGHT: u64 = 1;
const MASTERING_DISPLAY: u64 = 2;
/// OBUs that are looked at: a temporal unit has a few, and one for each tile group.
const OBUS: usize = 64;

/// How bright pictures of high dynamic range become, in nits, by whoever made them; 0 stands for what nobody measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Av1Light {
    /// The brightest that the display they were mastered on shows (luminance_max, §6.7.4).
    pub display: Option<u32>,
    /// Their brightest pixel (max_cll, §6.7.3).
    pub pixel: Option<u32>,
}

/// What a temporal unit (OBUs that say their sizes, §5.2) tells of it.
pub fn av1_light(mut obus: &[u8]) -> Av1Light {
    let mut light = Av1Light::default();
    for _ in 0..OBUS {
        let Some((kind, payload, rest)) = obu(obus) else { break };
        obus = rest;
        let Some((metadata, body)) = leb128(payload).filter(|_| kind == METADATA) else { continue };
        match metadata {
            CONTENT_LIGHT => light.pixel = body.first_chunk().map(|b| u16::from_be_bytes(*b).into()).or(light.pixel),
            // Behind four points of chromaticity; in 256ths.
            MASTERING_DISPLAY => {
                let most = body.get(16..).and_then(|b| b.first_chunk());
                light.display = most.map(|b| u32::from_be_bytes(*b) >> 8).or(light.display);
            }
            _ => {}
        }
    }
    light
}

/// The first OBU's kind and payload, and what follows it.
fn obu(obus: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let header = *obus.first()?;
    // An extension is a byte more.
    let rest = obus.get(if header & 4 != 0 { 2 } else { 1 }..)?;
    // The last may go without a size.
    let (size, rest) = if header & 2 != 0 { leb128(rest)? } else { (rest.len() as u64, rest) };
    let (payload, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
    Some((header >> 3 & 0xf, payload, rest))
}

/// A number of up to eight bytes, the lowest seven bits first (§4.10.5), and what follows it.
fn leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let last = bytes.iter().take(8).position(|b| b & 0x80 == 0)?;
    let value = bytes[..=last].iter().rev().fold(0, |value, b| value << 7 | u64::from(b & 0x7f));
    Some((value, &bytes[last + 1..]))
}

/// Width and height of the first OBU if that is a sequence header.
pub fn av1_size(obus: &[u8]) -> Option<(u32, u32)> {
    let (&header, mut rest) = obus.split_first()?;
    if header >> 3 & 0xf != SEQUENCE_HEADER {
        return None;
    }
    if header & 4 != 0 {
        rest = rest.get(1..)?; // extension
    }
    if header & 2 != 0 {
        rest = leb128(rest)?.1; // the size: to read on to the end is harmless
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
    believed(bits.read(width_bits)? + 1, bits.read(height_bits)? + 1)
}

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
    fn metadata_tells_how_bright_pictures_become() {
        let pixel = with_size(METADATA, &[1, 0x02, 0x8A, 0, 100, 0x80]);
        let mut display = vec![2];
        display.extend([7; 16]);
        display.extend([(4000u32 << 8).to_be_bytes(), 1u32.to_be_bytes()].concat());
        let display = with_size(METADATA, &display);
        let (delimiter, header) = (with_size(2, &[]), with_size(SEQUENCE_HEADER, &[1, 2, 3]));
        let other = with_size(METADATA, &[4, 9, 9, 9, 9]);
        let frame = [6 << 3, 1, 2, 3];
        let of = |obus: &[&[u8]]| av1_light(&obus.concat());
        let both = Av1Light { display: Some(4000), pixel: Some(650) };
        assert_eq!(of(&[&delimiter, &header, &display, &other, &pixel, &frame]), both);
        assert_eq!(of(&[&delimiter, &pixel]), Av1Light { display: None, ..both });
        assert_eq!(of(&[&delimiter, &header, &frame, &pixel]), Av1Light::default(), "what has no size is the last");
        assert_eq!(of(&[&display[..20]]), Av1Light::default(), "cut off");
        assert_eq!(of(&[&with_size(METADATA, &[2, 1, 2, 3]), &with_size(METADATA, &[1, 3])]), Av1Light::default());
        // A header with an extension.
        let extended = [&[METADATA << 3 | 6, 0x28][..], &pixel[1..]].concat();
        assert_eq!(of(&[&extended]).pixel, Some(650));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(prop_oneof![Just(0x2Au8), 0u8..4, any::<u8>()], 0..200)) {
            av1_light(&noise);
            av1_size(&noise);
        }
    }
}
