//! AV1: the configuration record, av1C (AV1 in ISOBMFF §2.3.3).

use crate::ConfigError;
use crate::picture;

/// Checks an av1C record. Returns width and height in pixels, if it holds a sequence header that could be read.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(record: &[u8]) -> Result<Option<(u32, u32)>, ConfigError> {
    let fail = |why| ConfigError { codec: "AV1", why };
    let Some((head, obus)) = record.split_first_chunk::<4>() else { return Err(fail("it is too short")) };
    if head[0] != 0x81 {
        return Err(fail("its version is not 1"));
    }
    Ok(picture::av1_size(obus))
}
