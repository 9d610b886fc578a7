//! AV1: the size from a sequence header (AV1 §5.5.1).

use super::believed;
use super::bits::Bits;

const SEQUENCE_HEADER: u8 = 1;

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
        // The size is leb128: its last byte is the first without the top bit. To read on to the end is harmless.
        let last = rest.iter().take(8).position(|b| b & 0x80 == 0)?;
        rest = &rest[last + 1..];
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
