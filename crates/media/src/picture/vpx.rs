//! VP8 (RFC 6386 §9.1) and VP9 (VP9 §6.2): the picture size from a key frame.

use super::bits::Bits;
use super::plausible_size;

/// Width and height of a VP8 key frame in pixels; `None` if this is none.
pub fn vp8_size(frame: &[u8]) -> Option<(u32, u32)> {
    let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = frame.first_chunk::<10>()? else { return None };
    if tag & 1 != 0 {
        return None;
    }
    // The two top bits of each are for scaling.
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    plausible_size(side(w0, w1), side(h0, h1))
}

/// Width and height of a VP9 key frame in pixels; `None` if this is none.
pub fn vp9_size(frame: &[u8]) -> Option<(u32, u32)> {
    const SYNC: u32 = 0x49_8342;
    const SRGB: u32 = 7;
    let mut bits = Bits::new(frame);
    if bits.read(2)? != 2 {
        return None;
    }
    let profile = u32::from(bits.bit()?) | u32::from(bits.bit()?) << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (existing, inter) = (bits.bit()?, bits.bit()?);
    if existing || inter {
        return None;
    }
    bits.skip(2)?; // shown, error resilient
    if bits.read(24)? != SYNC {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?; // depth
    }
    let has_subsampling = profile % 2 == 1;
    if bits.read(3)? == SRGB {
        bits.skip(if has_subsampling { 1 } else { return None })?;
    } else {
        bits.skip(if has_subsampling { 4 } else { 1 })?; // range, and two flags with a reserved bit
    }
    plausible_size(bits.read(16)? + 1, bits.read(16)? + 1)
}
