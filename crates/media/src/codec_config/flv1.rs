//! Sorenson Spark: the picture size from a picture header (FLV §E.4.3.1, H263VIDEOPACKET; SWF 10 §14).

use crate::picture::bits::Bits;
use crate::picture::plausible_size;

/// Width and height in pixels; `None` if this is no picture header.
pub fn size(frame: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(frame);
    if bits.read(17)? != 1 {
        return None;
    }
    bits.skip(5 + 8)?; // version, temporal reference
    match bits.read(3)? {
        0 => plausible_size(bits.read(8)?, bits.read(8)?),
        1 => plausible_size(bits.read(16)?, bits.read(16)?),
        2 => Some((352, 288)),
        3 => Some((176, 144)),
        4 => Some((128, 96)),
        5 => Some((320, 240)),
        6 => Some((160, 120)),
        _ => None,
    }
}
