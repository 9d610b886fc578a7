//! H.264: the configuration record (ISO 14496-15 §5.3.3.1).

use super::{NalConfig, take_field};
use crate::ConfigError;
use crate::picture;

const SPS: u8 = 7;

/// Checks an avcC record.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(record: &[u8]) -> Result<NalConfig, ConfigError> {
    let fail = |why| ConfigError { codec: "H.264", why };
    let Some((head, mut rest)) = record.split_first_chunk::<6>() else { return Err(fail("it is too short")) };
    if head[0] != 1 {
        return Err(fail("its version is not 1"));
    }
    let length_size = usize::from(head[4] & 3) + 1;
    if length_size == 3 {
        return Err(fail("NAL unit lengths of three bytes do not exist"));
    }
    let mut size = None;
    for _ in 0..head[5] & 0x1f {
        let sps = take_field(&mut rest).ok_or(fail("a parameter set is cut off"))?;
        match sps.first() {
            Some(header) if header & 0x1f == SPS => size = size.or_else(|| picture::h264_size(sps)),
            _ => return Err(fail("a sequence parameter set is none")),
        }
    }
    let (&count, mut rest) = rest.split_first().ok_or(fail("picture parameter sets are missing"))?;
    for _ in 0..count {
        take_field(&mut rest).ok_or(fail("a parameter set is cut off"))?;
    }
    Ok(NalConfig { length_size, size })
}
